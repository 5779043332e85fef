"""Each line of the threat model names a test that exists."""

from __future__ import annotations

import ast
import re

from tests.paths import ROOT

PAGE = ROOT / "docs" / "threat-model.md"


def test_every_harm_names_a_test_that_exists():
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    harms = [line for line in lines if not line.startswith("| harm |")]
    assert len(harms) > 15
    for line in harms:
        [(file, name)] = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
