"""Preparation of published data sets: download, checks, unpacking and conversion."""
