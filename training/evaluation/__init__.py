"""Evaluation, fairness, profit, baselines and the promotion gate."""
