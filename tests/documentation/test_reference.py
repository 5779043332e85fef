"""The generated pages say what the code says."""

import inspect
import json
import subprocess
import sys

import pytest

from docs.generate import commands, configuration
from docs.generate.pages import build_pages
from tests.documentation.pages import DOCS, text
from tests.paths import ROOT

REFERENCE = DOCS / "reference"


@pytest.fixture(scope="module")
def pages():
    return build_pages()


def test_no_page_lags_behind_the_code():
    """In a process of its own, as make docs-reference writes them."""
    check = subprocess.run([sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


def test_every_command_is_described():
    page = text(REFERENCE / "commands.md")
    names = [path for path, _ in commands.typer_commands()]
    assert len(names) > 25
    assert not [name for name in names if f"### {name}\n" not in page]
    assert not [name for name in commands.make_targets() if f"`make {name}`" not in page]


def test_every_configuration_key_is_described():
    page = text(REFERENCE / "configuration.md")
    keys = [key.rpartition(".")[2] for key in configuration.setting_keys()]
    keys += [name for _, _, model in configuration.config_models() for name in model.model_fields]
    assert not [key for key in keys if f"| `{key}` |" not in page]


def test_every_route_and_every_kind_of_problem_is_described():
    from serving.core.http.problems import PROBLEM_TYPES
    from serving.core.security.permissions import PERMISSIONS

    routes, problems = text(REFERENCE / "http-api.md"), text(REFERENCE / "problems.md")
    assert not [route for route in PERMISSIONS if f"| `{route}` |" not in routes]
    assert not [kind for kind in PROBLEM_TYPES if f'<span id="{kind}"></span>`{kind}`' not in problems]


def test_every_table_and_every_kind_of_log_entry_is_described():
    from serving.core.audit.auditor.entry_shapes import ENTRY_SHAPES
    from serving.core.db.schema import METADATA

    tables, log = text(REFERENCE / "tables.md"), text(REFERENCE / "audit-log-format.md")
    for table in METADATA.tables.values():
        section = tables.split(f"## {table.name}\n")[1].split("\n## ")[0]
        assert not [column.name for column in table.columns if f"| `{column.name}` |" not in section]
    assert not [kind for kind in ENTRY_SHAPES if f"| `{kind}` |" not in log]


def test_a_result_of_a_benchmark_tells_date_commit_and_machine(tmp_path):
    from benchmarks.results import source_digest, write_result

    result = json.loads(write_result("serving", ["ratio 0.4; asked 0.5\n", "\n"], 12.34, 0, tmp_path).read_text())
    assert result["figures"] == ["ratio 0.4; asked 0.5"]
    assert result["source_sha256"] == source_digest("serving")
    assert {"date", "commit", "machine", "seconds", "exit_status", "description"} <= set(result)
    assert result["machine"]["cpus"] >= 1


def test_a_benchmark_that_changed_is_marked(tmp_path, monkeypatch):
    from benchmarks import results
    from docs.generate import benchmarks

    result = json.loads(results.write_result("serving", ["ratio 0.4"], 1, 0, tmp_path).read_text())
    assert "changed since" not in benchmarks.build_section(result)
    assert "changed since" in benchmarks.build_section(result | {"source_sha256": "0"})
    assert "ended with status 1" in benchmarks.build_section(result | {"exit_status": 1})


def test_every_benchmark_has_a_source_and_a_description():
    from benchmarks import __main__, results

    for name in (*__main__.QUICK, *__main__.LONG):
        assert results.source_files(name), name
    assert inspect.getdoc(__main__)
