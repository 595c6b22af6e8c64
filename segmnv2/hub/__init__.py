"""Weights by name: published weights and repositories of the Hugging Face Hub, in a cache."""
