"""Slides: their states, their rows in the store, their files, the workers that read them."""
