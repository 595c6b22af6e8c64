"""Speed of a GPU: training steps, reading of data and inference, beside other libraries in one command."""
