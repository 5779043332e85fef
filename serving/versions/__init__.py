"""Versions of the models: what stands on the disk, which serves, and who made it so."""
