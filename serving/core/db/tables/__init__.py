"""The tables of the store, one module per area, each with the type of its rows."""
