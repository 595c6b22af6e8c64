"""Measures of segmentation quality, all of them functions of one global confusion matrix."""
