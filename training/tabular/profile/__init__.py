"""Describe a user's table on one page: what each column holds, what it is used for and why, and what seems a leak."""
