"""Data sets, transforms and networks of an experiment."""
