"""What no product owns: HTTP, database, security, audit log, billing."""
