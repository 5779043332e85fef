"""Pages generated from the code: docs/reference and docs/benchmarks.md. `python -m docs.generate` writes them."""
