"""Invoices of companies: a table of any bank's, and the indicators computed from it."""
