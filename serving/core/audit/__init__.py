"""The append-only audit log: entries, checkpoints, receipts and their verification."""
