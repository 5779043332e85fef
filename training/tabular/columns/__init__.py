"""Infer what each column of a user's table is and may be used for: its kind, its role, features made from its dates."""
