"""Limit policies: configuration, arithmetic, guard rails and their proofs."""
