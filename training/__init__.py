"""Train models: fit, evaluate, export to ONNX, sign and record them."""
