"""Weights by name: published ones, and those on the Hugging Face Hub, kept in a cache."""
