"""Slides: checked before they are decoded, decoded where they can do no harm, read alike whatever their format."""
