"""Engines that run a network: PyTorch, ONNX Runtime or OpenVINO, in one of several precisions, behind one interface."""
