"""Tasks: segmentation, classification and detection, each with its data, model, loss and optimizer."""
