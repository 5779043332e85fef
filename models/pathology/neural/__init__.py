"""The networks in PyTorch and their export to ONNX. Training only: serving never imports this package."""
