"""A technology company's risk: grade, innovation, shell gate, early warnings and limit."""
