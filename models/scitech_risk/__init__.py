"""A technology company's risk: grade, innovation, shell gate, early warnings, and the limit a policy makes of them."""
