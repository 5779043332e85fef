"""`python -m docs.generate`: write docs/reference and docs/benchmarks.md from the code and from benchmarks/results.

With --check nothing is written: it lists the pages that differ and exits with 1 if there are any.
"""

from __future__ import annotations

import sys

from docs.generate.markdown import ROOT
from docs.generate.pages import build_pages


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them; the exit status."""
    outdated = []
    for path, text in build_pages().items():
        file = ROOT / path
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        outdated.append(path)
        if "--check" not in arguments:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    for path in outdated:
        print(f"{path}: {'differs from the code; run make docs-reference' if '--check' in arguments else 'written'}")
    return 1 if outdated and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
