"""Made-up tables with a documented causal story, and painted slides; whatever they touch says "simulated"."""
