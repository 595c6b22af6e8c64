"""The data doctor: reads a data set before training does, and says of each fault what it is and what mends it."""
