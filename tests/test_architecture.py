"""The structure of the code: which package may import which, how large files and folders are, and that tests mirror
modules.

Every import counts: one inside a function and one for type checkers alone too.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGES = {  # each may import itself and these
    "datasets": set(),
    "models": {"datasets"},
    "training": {"datasets", "models"},
    "serving": {"datasets", "models"},
}

# From the bottom up: each may import those of its own line and of the lines above it in this list. Two entries of one
# line may not import each other.
LAYERS = {
    "datasets": (
        ("errors", "confinement"),
        ("files", "derived_columns", "simulation"),
        ("tables",),
        ("schema",),
        ("validation",),
        ("splits", "leakage"),
        ("credit_limit", "scitech_risk", "slides", "pathology"),
        ("catalog",),
        ("export",),
        ("__main__",),
    ),
    "models": (
        ("policy.arithmetic", "policy.config", "metrics"),
        ("evaluation_summary", "feature_encoder", "policy.guardrails"),
        ("card",),
        ("drift", "scorecard"),
        ("trees",),
        ("policy",),
        ("bundle",),
        ("bundle_archive",),
        ("credit_limit", "scitech_risk", "pathology"),
    ),
    "training": (
        ("progress", "config"),
        ("evaluation",),
        ("reporting", "tracking"),
        ("pipeline",),
        ("tabular", "pathology"),
        ("credit_limit", "scitech_risk"),
        ("portfolio", "release"),
        ("__main__",),
    ),
    "serving": (
        ("settings", "core.alarms", "core.identifiers", "core.process"),
        ("core.db",),
        ("core.http",),
        ("core.security", "core.billing"),
        ("core.audit",),
        ("registry", "privacy", "console"),
        ("decisions",),
        ("pathology",),
        ("governance",),
        ("openapi", "cli"),
        ("system_routes",),
        ("app",),
        ("service",),
        ("__main__",),
    ),
}
MAX_FILES, MIN_FILES = 11, 3  # Python files of a folder, __init__.py included
MAX_FILE_LINES, MAX_CLASS_LINES = 400, 200
MANY_FILES = {  # folder -> why it may hold more or fewer
    "serving/cli": "a file for each group of commands, and four of the demo",
    "serving/core/db/migrations": "Alembic's layout: env.py and a folder of versions",
    "serving/core/db/migrations/versions": "one file for each revision",
}
SAME_CLASS_NAMES = {"Config", "Policy"}  # one for each product


def modules(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if "node_modules" not in path.parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(path: Path) -> frozenset[str]:
    """Modules of this project that a file imports, wherever in it."""
    imported = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                imported.add(name if is_module(name) else node.module)
    return frozenset(name for name in imported if name.split(".")[0] in PACKAGES)


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


def layer_of(name: str, layers: dict[str, int]) -> str | None:
    """The entry of the table that a module belongs to, the longest that fits; None for a package's own __init__."""
    parts = name.split(".")[1:]
    return next((entry for end in range(len(parts), 0, -1) if (entry := ".".join(parts[:end])) in layers), None)


def faults_of(package: str, edges: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> list[str]:
    """Imports that run against the layers of a package."""
    ranks = {entry: rank for rank, line in enumerate(LAYERS[package]) for entry in line}
    faults = []
    for source, target in edges:
        a, b = layer_of(source, ranks), layer_of(target, ranks)
        if a is None or b is None:
            faults.append(f"{source} or {target} stands in no layer")
        elif a != b and ranks[b] >= ranks[a]:
            faults.append(f"{source} imports {target}: {a} may not import {b}")
    return faults


def edges_within(package: str) -> list[tuple[str, str]]:
    return [
        (dotted(path), name)
        for path in modules(package)
        if path.name != "__init__.py"
        for name in sorted(imports(path))
        if name.startswith(f"{package}.")
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_the_packages_below_it(package):
    targets = {name.split(".")[0] for path in modules(package) for name in imports(path)}
    assert targets <= PACKAGES[package] | {package}


@pytest.mark.parametrize("package", LAYERS)
def test_imports_run_one_way_through_the_layers(package):
    assert faults_of(package, edges_within(package)) == []


def test_an_import_against_the_layers_is_found():
    assert faults_of("serving", [("serving.core.db.writer", "serving.decisions.records")])
    assert faults_of("serving", [("serving.registry.routes", "serving.privacy.consent.rules")])
    assert not faults_of("serving", [("serving.decisions.records", "serving.core.db.writer")])


def cycles(edges: list[tuple[str, str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan 1972)."""
    graph: dict[str, set[str]] = defaultdict(set)
    for source, target in edges:
        if source != target:
            graph[source].add(target)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for neighbour in graph[node]:
            if neighbour not in index:
                visit(neighbour)
                low[node] = min(low[node], low[neighbour])
            elif neighbour in stack:
                low[node] = min(low[node], index[neighbour])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == node:
                    break
            if len(component) > 1:
                components.append(sorted(component))

    for node in list(graph):
        if node not in index:
            visit(node)
    return components


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package):
    assert cycles(edges_within(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folders_import_each_other_in_a_circle(package):
    """At each level: the children of a folder, seen as one node each."""
    edges = edges_within(package)
    for folder in {path.parent for path in modules(package)}:
        prefix = dotted(folder / "__init__.py") + "."
        inside = [
            (source[len(prefix) :].split(".")[0], target[len(prefix) :].split(".")[0])
            for source, target in edges
            if source.startswith(prefix) and target.startswith(prefix)
        ]
        assert cycles(inside) == [], folder


def test_a_circle_is_found():
    assert cycles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [["a", "b", "c"]]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_holds_a_handful_of_files(package):
    sizes = Counter(path.parent for path in modules(package))
    holds_packages = {path.parent.parent for path in modules(package) if path.name == "__init__.py"}
    wrong = {
        str(folder.relative_to(ROOT)): size
        for folder, size in sizes.items()
        if not (MIN_FILES <= size <= MAX_FILES or (size == 1 and folder in holds_packages))
        and str(folder.relative_to(ROOT)) not in MANY_FILES
    }
    assert wrong == {}


def too_long(path: Path) -> list[str]:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    faults = [f"{path.name}: {lines} lines"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef) and node.end_lineno:
            size = node.end_lineno - node.lineno + 1
            faults += [f"{path.name}: class {node.name} has {size} lines"] if size > MAX_CLASS_LINES else []
    return faults


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks"])
def test_files_and_classes_are_of_a_readable_length(package):
    assert [fault for path in modules(package) for fault in too_long(path)] == []


def test_a_long_class_and_a_long_file_are_found(tmp_path):
    file = tmp_path / "long.py"
    file.write_text("class Long:\n" + "    x = 1\n" * MAX_FILE_LINES)
    assert len(too_long(file)) == 2


@pytest.mark.parametrize("package", PACKAGES)
def test_a_class_name_stands_for_one_thing_in_a_package(package):
    places = defaultdict(list)
    for path in modules(package):
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and node.name not in SAME_CLASS_NAMES:
                places[node.name].append(dotted(path))
    assert {name: modules_of_name for name, modules_of_name in places.items() if len(modules_of_name) > 1} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_exceptions_end_in_error(package):
    """By what they derive from, through the classes of the package itself."""
    bases = {
        node.name: {base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases}
        for path in modules(package)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }

    def raises(name: str) -> bool:
        if name in ("Exception", "BaseException") or (name.endswith("Error") and name not in bases):
            return True
        return any(raises(base) for base in bases.get(name, ()) if base != name)

    wrong = sorted(name for name in bases if raises(name) and not name.endswith("Error"))
    assert wrong == []


def test_no_dependency_ships_a_package_with_a_name_of_ours():
    """The project runs in place, so its folders would hide an installed package of the same name."""
    assert set(PACKAGES) & set(packages_distributions()) == set()


def private_imports(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}: {node.module}.{alias.name}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES
        for alias in node.names
        if alias.name.startswith("_")
    ]


def test_tests_import_nothing_private():
    assert [fault for path in modules("tests") for fault in private_imports(path)] == []


def test_a_private_import_is_found(tmp_path):
    file = tmp_path / "test_x.py"
    file.write_text("from serving.core.db.writer import _Pending\n")
    assert private_imports(file)


# A test that is no module's own: what it is about.
NOT_OF_ONE_MODULE = {
    "tests/browser": "the console in a browser",
    "tests/end_to_end": "from a training run to an answer; documents run as tests",
    "tests/faults": "processes killed, disks full",
    "tests/benchmarks": "benchmarks",
}


def unmirrored(tests: list[Path]) -> list[str]:
    """Test files below tests/<package>/ whose folder is no folder of the package."""
    faults = []
    for path in tests:
        relative = path.relative_to(ROOT / "tests")
        if relative.parts[0] not in PACKAGES or not path.name.startswith("test_"):
            continue
        if not (ROOT / relative.parent).is_dir() and not (ROOT / relative.parent).with_suffix(".py").is_file():
            faults.append(str(relative))
    return faults


def test_tests_lie_in_the_folder_of_what_they_test():
    assert unmirrored(modules("tests")) == []
    assert unmirrored([ROOT / "tests/serving/nowhere/test_x.py"])
