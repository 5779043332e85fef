"""The products that decide on a row of indicators, one module each."""
