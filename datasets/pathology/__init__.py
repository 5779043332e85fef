"""Pathology: single cells, cytology fields, breast regions, and colon tiles that must be refused."""
