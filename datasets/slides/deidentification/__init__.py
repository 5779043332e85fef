"""Copies of slides without label, macro image or any text about people, and the proof of it for each copy."""
