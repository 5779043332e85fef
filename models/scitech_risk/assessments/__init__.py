"""Assessments of a company besides its PD: innovation score, shell gate, early warnings."""
