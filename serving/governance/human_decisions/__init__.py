"""What people decide instead of a model: overrides within their authority, and referrals to colleagues."""
