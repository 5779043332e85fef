"""The documentation. Its pages are Markdown; generate/ writes those that follow from the code."""
