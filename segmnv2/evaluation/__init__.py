"""Evaluation: mIOU of segmenters, accuracy of classifiers, average precision of detectors."""
