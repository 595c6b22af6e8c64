"""Exports for phones: LiteRT, ExecuTorch and Core ML, and the int8 that the first two share."""
