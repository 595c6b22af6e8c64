"""The data doctor: reads a data set before training does, and reports each fault with its remedy."""
