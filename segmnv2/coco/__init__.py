"""Annotations in COCO's format: checked, indexed, and as boxes for detectors."""
