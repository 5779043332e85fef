"""Measure how good the models are: experiments on real and simulated data, compared with published results."""
