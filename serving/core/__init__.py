"""Services that no product owns: HTTP, database, security, audit log, billing."""
