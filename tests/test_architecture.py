"""The rooms of the house: who may use whom, and whose names they are."""

import ast
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.paths import ROOT

MAY_USE = {
    "datasets": set(),
    "models": {"datasets"},
    "training": {"datasets", "models"},
    "serving": {"datasets", "models"},
}


def imported_by(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("room", MAY_USE)
def test_a_room_uses_only_the_rooms_below_it(room):
    used = set().union(*(imported_by(file) for file in (ROOT / room).rglob("*.py")))
    assert used & set(MAY_USE) <= MAY_USE[room] | {room}


def test_no_dependency_ships_a_package_with_a_name_of_ours():
    """We run in place, so our folders would hide an installed package of the same name."""
    assert set(MAY_USE) & set(packages_distributions()) == set()
