"""Prices, quotas and statements."""
