"""What is said of a company beside its PD: innovation score, shell gate, early warnings."""
