"""The offline audit of a store against its log and the signed checkpoints."""
