"""zhang2020slides: direct estimation of fetal head circumference by regression CNNs."""
