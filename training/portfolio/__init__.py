"""Answer every company of a register at a month's end, compare with an earlier month, stress it, and report it."""
