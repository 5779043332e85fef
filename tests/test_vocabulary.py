"""The code's vocabulary: names that say nothing to an engineer from another company are refused."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.paths import ROOT

# A participle or a filler as a name hides what a value is. What to write instead depends on the value.
BANNED = {
    "told": "payload, params, parsed, description",
    "said": "prediction, output, decision",
    "asked": "request, query",
    "held": "model, holdout, opened",
    "kept": "stored",
    "shown": "visible, displayed",
    "chosen": "statement, selected",
    "found": "actual, result, row, match",
    "needed": "expected",
    "wanted": "requested",
    "most": "limit, max_...",
    "least": "minimum, min_...",
    "one": "item, or what it is an item of",
    "many": "items, count",
    "part": "chunk, field, segment",
    "place": "key, location, index",
    "beside": "extra, baseline",
    "whole": "complete, full",
    "work": "transaction, task, run",
    "do": "action, callback",
    "at": "index, timestamp, position",
}
# Names that are data elsewhere (a field of a file, of an answer, of a table), with the reason.
ALLOWED = {
    ("models/evaluation_summary.py", "needed"): "a field of card.json",
    ("models/evaluation_summary.py", "found"): "a field of card.json",
    ("training/evaluation/promotion_gate.py", "needed"): "becomes a field of card.json",
    ("training/evaluation/promotion_gate.py", "found"): "becomes a field of card.json",
    ("models/scitech_risk/policy.py", "beside"): "a key of the policy's TOML",
    ("models/credit_limit/policy.py", "at"): "a key of the policy's TOML",
    ("models/scitech_risk/stress.py", "most"): "a key of configs/stress.toml",
    ("serving/core/audit/log.py", "at"): "a field of a log entry",
    **{
        (f"serving/core/db/tables/{area}.py", "at"): "a column"
        for area in ("audit", "base", "billing", "governance", "slides", "subjects")
    },
    ("serving/core/db/tables/governance.py", "said"): "a column",
    ("serving/core/db/tables/slides.py", "place"): "a column",
    ("serving/governance/monitoring/outcomes.py", "at"): "a field of a request",
    ("models/pathology/decision.py", "needed"): "a field of an answer, reading.adequacy",
    **{
        (f"models/{file}.py", "one"): "the number one of a formula, beside its zero"
        for file in (
            "policy/limit_formula",
            "scitech_risk/assessments/innovation_score",
            "scitech_risk/assessments/shell_gate",
        )
    },
}


def bound_names(tree: ast.Module) -> list[tuple[str, int]]:
    """(name, line) of whatever a file binds: classes, functions, parameters, variables, attributes, aliases."""
    names: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append((node.name, node.lineno))
        elif isinstance(node, ast.arg):
            names.append((node.arg, node.lineno))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append((node.id, node.lineno))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append((node.attr, node.lineno))
        elif isinstance(node, ast.alias) and node.asname:
            names.append((node.asname, node.lineno))
    return names


def faults(path: Path, relative: str) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        f"{relative}:{line}: {name!r} (write {BANNED[key]})"
        for name, line in bound_names(tree)
        if (key := name.strip("_").lower()) in BANNED and (relative, name) not in ALLOWED
    ]


@pytest.mark.parametrize("folder", ["serving", "training", "models", "datasets", "benchmarks", "docs", "tests"])
def test_no_name_of_the_code_is_a_participle_or_a_filler(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "node_modules" not in path.parts:
            wrong += faults(path, str(path.relative_to(ROOT)))
    assert wrong == []


def test_a_banned_name_is_found_wherever_it_is_bound(tmp_path):
    file = tmp_path / "planted.py"
    file.write_text(
        "class Held: ...\n"
        "def told(asked, *, most=1):\n"
        "    self.kept = [one for one in asked]\n"
        "from a import b as whole\n"
    )
    assert len(faults(file, "planted.py")) == 7


def test_every_exemption_is_still_in_use():
    for relative, name in ALLOWED:
        path = ROOT / relative
        assert path.is_file(), relative
        assert name in {bound for bound, _ in bound_names(ast.parse(path.read_text(encoding="utf-8")))}, (
            relative,
            name,
        )
