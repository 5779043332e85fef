"""Train a model that reads slides or single cells."""
