"""Who asks, on whose consent, and the proof of what was answered."""
