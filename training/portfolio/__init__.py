"""A register at a month's end as a credit committee reads it: every company answered, what changed, what shocks do."""
