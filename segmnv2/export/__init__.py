"""Exports: a model as a file for another runtime, with pre- and post-processing inside, and its verification."""
