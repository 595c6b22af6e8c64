"""Adapters of this library's parts for other libraries."""
