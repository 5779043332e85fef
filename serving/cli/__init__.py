"""Commands of python -m serving."""
