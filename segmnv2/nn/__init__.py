"""Layers the networks are made of: convolution with norm and activation, building blocks, the resize rule."""
