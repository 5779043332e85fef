"""Technology companies' tables: one module per source, each with its contract and its reader."""
