"""Speed on your own machine: inference, training and reading of data, alone and beside other libraries."""
