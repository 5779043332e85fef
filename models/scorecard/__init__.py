"""Scores, grades, reasons and ledger columns shared by the products."""
