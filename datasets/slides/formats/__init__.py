"""What each format says of itself, read without decoding a pixel."""
