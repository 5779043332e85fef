"""Decode TIFF, PNG and JPEG, and make RGB of 8 bits from pixels of any kind."""
