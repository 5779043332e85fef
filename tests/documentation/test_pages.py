"""The documents hold together: lengths, links, languages and the glossary."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.documentation.pages import (
    DOCS,
    PAGES,
    anchors,
    bash_blocks,
    headings,
    links,
    text,
    translated_pages,
    translation,
)
from tests.paths import ROOT


def page_id(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_readme_is_at_most_120_lines(name):
    assert len(text(ROOT / name).splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_and_image_leads_somewhere(page):
    missing = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            missing.append(link)
    assert not missing


@pytest.mark.parametrize("page", translated_pages(), ids=page_id)
def test_both_languages_of_a_page_have_the_same_headings_and_commands(page):
    chinese = translation(page)
    assert chinese.exists()
    assert headings(page) == headings(chinese)
    assert bash_blocks(page) == bash_blocks(chinese)
    assert re.search("[\u4e00-\u9fff]", text(chinese))


@pytest.mark.parametrize("name", ["concepts.md", "concepts.zh.md"])
def test_every_public_class_of_the_core_is_in_the_glossary(name):
    terms = set(re.findall(r"`(\w+)`", text(DOCS / name)))
    classes = {
        node.name
        for file in (ROOT / "serving" / "core").rglob("*.py")
        if file.parent.name != "tables"  # rows of tables stand in the reference of tables
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    assert sorted(classes - terms) == []


def test_a_name_in_the_glossary_is_a_name_of_the_code():
    code = "".join(
        file.read_text(encoding="utf-8")
        for package in ("datasets", "models", "training", "serving")
        for file in (ROOT / package).rglob("*.py")
    )
    names = set(re.findall(r"[A-Za-z_]\w*", code)) | {file.stem for file in ROOT.glob("*/**/*.py")}
    terms = set(re.findall(r"`([A-Za-z_]\w*)`", text(DOCS / "concepts.md")))
    assert sorted(terms - names) == []


def test_the_licence_of_every_direct_dependency_is_named():
    extras = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    names = {
        re.match(r"[\w.-]+", requirement).group() for requirements in extras.values() for requirement in requirements
    }
    notices = set(re.findall(r"[\w.-]+", text(ROOT / "THIRD_PARTY_NOTICES.md")))
    assert sorted(names - notices) == []


def test_every_page_of_the_documentation_is_in_the_navigation():
    navigation = text(ROOT / "mkdocs.yml")
    pages = {str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents and ".zh" not in page.name}
    assert {page for page in pages if f": {page}\n" not in navigation} == set()


def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the documentation's packages are not installed: make .venv/.dev")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    home = (tmp_path / "site" / "zh" / "index.html").read_text(encoding="utf-8")
    assert "玉衡" in home
    assert (tmp_path / "site" / "search" / "search_index.json").exists()
    outside = re.findall(r'<(?:script|link)[^>]+(?:src|href)="(https?://[^"]+)"', home)
    assert not [address for address in outside if not address.startswith("http://127.0.0.1")], (
        "a page loads nothing from elsewhere"
    )
