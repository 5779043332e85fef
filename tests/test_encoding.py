"""Text is read and written as UTF-8 whatever the locale: nothing is left to its encoding."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGES = ("benchmarks", "datasets", "models", "serving", "training")
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # as a locale that is not UTF-8 would be
TEXT_METHODS = {"read_text": 0, "write_text": 1}  # -> arguments before `encoding`


def text_calls(tree: ast.AST):
    """(line, call) of each that opens a file as text without saying in which encoding."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or any(word.arg in ("encoding", None) for word in call.keywords):
            continue
        if isinstance(call.func, ast.Attribute) and call.func.attr in TEXT_METHODS:
            if len(call.args) <= TEXT_METHODS[call.func.attr]:
                yield call.lineno, call.func.attr
        elif isinstance(call.func, ast.Name) and call.func.id == "open":
            mode = (
                call.args[1] if len(call.args) > 1 else next((w.value for w in call.keywords if w.arg == "mode"), None)
            )
            if mode is None or (isinstance(mode, ast.Constant) and "b" not in mode.value):
                yield call.lineno, "open"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_opened_in_the_encoding_of_the_locale(package):
    files = [path for path in (ROOT / package).rglob("*.py") if "node_modules" not in path.parts]
    calls = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in files
        for line, name in text_calls(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not calls


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "serving", "--help"],
        ["-m", "training", "--help"],
        [
            "-c",
            "from serving import settings; settings.load_settings(); "
            "from serving.privacy.consent.rules import load_rules; load_rules()",
        ],
        ["-m", "models.credit_limit", "--help"],
        ["-I", "serving/cli/preflight.py", "--target", "demo", "--port", "not a port"],
    ],
    ids=["serving", "training", "settings", "policies", "preflight"],
)
def test_a_command_works_where_the_locale_is_ascii(command):
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ | ASCII_LOCALE, capture_output=True, check=False
    )
    output = (done.stdout + done.stderr).decode("utf-8")
    assert "Traceback" not in output
    assert "UnicodeEncodeError" not in output
    assert done.returncode == (1 if "preflight" in str(command) else 0), output


def test_chinese_is_printed_where_the_locale_is_ascii(tmp_path: Path):
    answer = {
        "decision": "approve", "limit": 86_000, "indicative_limit": None, "currency": "CNY", "pd": 0.02, "grade": "A",
        "simulated": True, "referral": [], "reasons": [], "ledger": {"uplift": 7_800.0},
        "model": {"name": "credit_limit", "version": "1"},
    }  # fmt: skip
    code = (
        "from rich.console import Console; from datasets.files.text_encoding import use_utf8; "
        "from serving.cli.demo_outcomes import show_outcome; "
        f"use_utf8(); Console().print(show_outcome({ascii('农户')}, {answer!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | ASCII_LOCALE, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "其中品行提额 CNY 7,800" in done.stdout.decode("utf-8")
