"""Layers of the models: convolutions with norm and activation, building blocks, and resizing."""
