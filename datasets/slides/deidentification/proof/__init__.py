"""The proof of a de-identified copy: words of the original, the search for them, independent readers."""
