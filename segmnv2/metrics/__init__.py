"""Confusion matrix, IoU, accuracy, and COCO's average precision."""
