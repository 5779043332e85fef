"""Turn the texts of a table into values: numbers and dates as people write them, marks and codes of missing values."""
