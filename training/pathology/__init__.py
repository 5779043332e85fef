"""Pathology: how a network over tiles comes to be, and what is made of it."""
