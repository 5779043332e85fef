"""Each line of the threat model names a test that exists, in both languages."""

from __future__ import annotations

import ast
import re

from tests.paths import ROOT

ENGLISH, CHINESE = (ROOT / "docs" / name for name in ("threat-model.md", "threat-model.zh.md"))
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def harms(page):
    """The rows of a page's tables, without the headings, and the lines of its lists."""
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(("| harm |", "| 损害 |"))]
    return rows, [line for line in lines if line.startswith("- ")]


def test_every_harm_names_a_test_that_exists():
    rows, _ = harms(ENGLISH)
    assert len(rows) > 15
    for line in rows:
        [(file, name)] = TEST_NAME.findall(line)
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_the_chinese_page_has_the_same_lines():
    (english, english_gaps), (chinese, chinese_gaps) = harms(ENGLISH), harms(CHINESE)
    assert [TEST_NAME.findall(line) for line in chinese] == [TEST_NAME.findall(line) for line in english]
    assert len(chinese_gaps) == len(english_gaps)
    assert all(re.search("[\u4e00-\u9fff]", line) for line in [*chinese, *chinese_gaps])
