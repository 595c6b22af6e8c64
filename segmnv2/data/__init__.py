"""Data sets, the files they are read from, augmentation, and the order in which samples reach the network."""
