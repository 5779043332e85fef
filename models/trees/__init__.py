"""Gradient-boosted trees with exact Shapley values, compiled to ONNX."""
