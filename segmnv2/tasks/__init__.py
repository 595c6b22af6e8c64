"""What is learned: segmentation, classification and detection, each with its data, network, loss and optimizer."""
