"""Annotations in COCO's format: checks, an index, and boxes for detectors."""
