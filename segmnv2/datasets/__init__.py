"""Data sets by name: how each is laid out, opened, listed and evaluated."""
