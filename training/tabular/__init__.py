"""Training of tabular models: fit, tune, export."""
