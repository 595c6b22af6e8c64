"""Whole networks: a backbone and a head joined, built by name, counted, saved, loaded and converted."""
