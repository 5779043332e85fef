"""Limit policies: configuration, arithmetic, the shared formula, guard rails and their proofs."""
