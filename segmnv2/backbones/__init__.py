"""Feature extractors whose output stride is a property: images in, a tuple of feature maps out."""
