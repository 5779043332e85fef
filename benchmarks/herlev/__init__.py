"""Herlev's cells: every fold held out in turn, by networks, measures and frozen features, apart and together."""
