"""Data sets by name: their layouts, readers, file lists and evaluation settings."""
