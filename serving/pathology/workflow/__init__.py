"""The durable workflow that reads a slide."""
