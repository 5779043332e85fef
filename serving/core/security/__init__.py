"""Authentication, permissions, tokens, keys and rate limits."""
