"""The products that answer with a decision, one module each."""
