"""Track runs and models in MLflow, and emit OpenLineage events."""
