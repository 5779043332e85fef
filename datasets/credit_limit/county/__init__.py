"""The simulated county: its schema, reader, causal model and simulator."""
