"""Exports for phones: LiteRT, ExecuTorch and Core ML, and the int8 model that the first two share."""
