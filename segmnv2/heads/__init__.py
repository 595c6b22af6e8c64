"""Segmentation heads, which map the feature maps of a backbone to class logits."""
