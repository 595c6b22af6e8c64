"""Inference: canvas, scales and mirroring, predictor, overlays, and result files of images and videos."""
