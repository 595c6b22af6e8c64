"""Speed of reading data and of training, measured on the user's own machine and experiment."""
