"""Requests, responses, problems, validation and OpenAPI fragments."""
