"""Conversion of foreign checkpoints into model files."""
