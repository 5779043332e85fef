"""Monitoring, lineage and erasure."""
