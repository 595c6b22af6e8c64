"""Speeds on the user's own machine: inference, training and reading of data, alone and beside other libraries."""
