"""Evaluate a trained model: metrics, fairness, profit, baselines and the promotion gate."""
