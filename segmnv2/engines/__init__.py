"""Engines that run a model: PyTorch, ONNX Runtime or OpenVINO, in one of several precisions, with one interface."""
