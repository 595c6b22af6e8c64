"""Samples of data sets, image and mask files, augmentation, and the order of samples."""
