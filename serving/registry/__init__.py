"""Models on disk: loading, versions, promotion."""
