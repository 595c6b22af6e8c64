"""Running networks over data sets: training and evaluation. Lightning is imported here and nowhere below."""
