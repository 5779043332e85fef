"""The register of companies: schema, reader, and the simulator of a tech zone."""
