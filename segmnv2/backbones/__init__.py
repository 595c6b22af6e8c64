"""Backbones, which map images to feature maps at a selectable output stride."""
