"""The documents that are tested: their files, headings, links and bash blocks."""

from __future__ import annotations

import re
from pathlib import Path

from tests.paths import ROOT

DOCS = ROOT / "docs"
ROOT_PAGES = [ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md",
                                       "THIRD_PARTY_NOTICES.md", "CHANGELOG.md")]  # fmt: skip
PAGES = [*ROOT_PAGES, *sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "generate")]
# In the order of a day: a later page may rest on what an earlier one left in the service.
RUN_ORDER = (
    "README",
    "quickstart",
    "bank",
    "scitech",
    "pathology",
    "auditor",
    "data-scientist",
    "model-risk",
    "operator",
)


def translation(page: Path) -> Path:
    """The Chinese of an English page."""
    return page.with_name("README.zh-CN.md" if page.name == "README.md" else f"{page.stem}.zh.md")


def translated_pages() -> list[Path]:
    """English pages that have, or must have, a Chinese one."""
    guides = sorted(path for path in (DOCS / "guides").glob("*.md") if not path.stem.endswith(".zh"))
    return [ROOT / "README.md", *(DOCS / f"{name}.md" for name in ("index", "quickstart", "concepts")), *guides]


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def headings(page: Path) -> list[str]:
    """The level of every heading, outside code."""
    return re.findall(r"^(#+) ", without_code(page), flags=re.MULTILINE)


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Targets of links and images, outside code."""
    return re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", without_code(page))


def anchors(page: Path) -> set[str]:
    """What a link may name behind #: as GitHub and MkDocs make it of headings, and explicit ids."""
    titles = re.findall(r"^#+ (.+)$", without_code(page), flags=re.MULTILINE)
    slugs = {
        re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title.replace("`", "").lower())).strip("-") for title in titles
    }
    return slugs | set(re.findall(r'id="([^"]+)"', text(page)))


def bash_blocks(page: Path) -> list[str]:
    """The bash blocks that a test can run; a target of make is run by its own tests."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text(page), flags=re.MULTILINE | re.DOTALL)
    return [block for block in blocks if not block.startswith("make")]


def pages_to_run() -> list[Path]:
    """English pages with bash blocks, in the order in which they run."""
    pages = [page for page in PAGES if bash_blocks(page) and ".zh" not in page.name]
    return sorted(pages, key=lambda page: RUN_ORDER.index(page.stem) if page.stem in RUN_ORDER else len(RUN_ORDER))
