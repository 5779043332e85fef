"""Stored companies: history, network, stress, register import."""
