"""Experiments in YAML files: schemas, reading, and error messages."""
