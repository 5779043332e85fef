"""An error that a command does not expect ends in a sentence and a report file, never in a traceback."""

import os
import stat
import subprocess
import sys

import pytest

from datasets.files import error_report
from tests.paths import ROOT


def test_an_unexpected_error_is_a_sentence_in_two_languages_and_a_private_file(tmp_path, capsys):
    def command():
        raise ZeroDivisionError("division\nby zero")

    assert error_report.run_reported(command, folder=tmp_path / "errors") == error_report.EXIT_STATUS
    message = capsys.readouterr().err
    [report] = (tmp_path / "errors").iterdir()
    assert "ZeroDivisionError: division by zero (test_error_report.py, line" in message
    assert str(report) in message
    assert "未知错误" in message
    assert "Traceback" not in message
    assert "Traceback" in report.read_text(encoding="utf-8")
    assert stat.S_IMODE(os.stat(report).st_mode) == 0o600


def test_an_expected_error_and_a_deliberate_exit_pass_through(tmp_path):
    def leave():
        sys.exit(3)

    def refuse():
        raise KeyError("expected")

    with pytest.raises(SystemExit):
        error_report.run_reported(leave, folder=tmp_path)
    with pytest.raises(KeyError):
        error_report.run_reported(refuse, (KeyError,), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_folder_to_write_the_sentence_remains(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert error_report.run_reported(lambda: 1 / 0, folder=tmp_path / "file" / "errors") == error_report.EXIT_STATUS
    assert "Send this message" in capsys.readouterr().err


def test_a_table_without_rows_ends_a_command_in_a_sentence(tmp_path):
    (tmp_path / "loans.csv").write_text("a,b\n", encoding="utf-8")
    command = [sys.executable, "-m", "training", "init-config", str(tmp_path / "loans.csv"), "--target", "b"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 2
    assert "0 row(s)" in result.stderr
    assert "Traceback" not in result.stderr
