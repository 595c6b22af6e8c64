"""Whole models: built by name from a backbone and a head, counted, saved and loaded."""
