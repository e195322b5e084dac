"""chi2025hc: head circumference prediction with a frozen ResNet50."""
