"""Tables and figures of the MobileNetV2 paper: values computed here beside the printed ones."""
