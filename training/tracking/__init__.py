"""Lineage in MLflow and OpenLineage."""
