"""zhang2021biometrics: fetal head circumference by regression CNNs against segmentation."""
