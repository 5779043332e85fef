"""A newcomer follows README and documentation in a copy of the project: every command in them runs as written.

The blocks of a page run in order in one shell, as one would paste them: what one sets, the next may use. Both languages
of a page hold the same blocks (tests/documentation), so they run once.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from serving.core.http.principal import ROLES
from tests.documentation.pages import bash_blocks, pages_to_run
from tests.paths import ROOT

PORT = 3000  # the documents'
SEPARATOR = "\x1e"  # printed between the outputs of two blocks


def run_shell(command: str, home: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    path = f"{home / '.venv' / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=home,
        env=os.environ | {"PATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The files that git tracks, beside this environment; nothing trained, nothing recorded."""
    home = tmp_path_factory.mktemp("yuheng")
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).exists():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    (home / ".venv").symlink_to(ROOT / ".venv")
    return home


@pytest.fixture(scope="module")
def demo(home):
    return run_shell("make demo ONCE=1", home, 1200)


@pytest.fixture(scope="module")
def service(home, demo):
    assert demo.returncode == 0, demo.stdout + demo.stderr
    command = [str(home / ".venv/bin/python"), "-m", "serving", "serve"]
    with open(home / "service.log", "w") as log:
        process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz/ready", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (home / "service.log").read_text()
                time.sleep(0.25)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def test_the_demo_serves_what_ships_answers_each_example_and_swaps_a_retrained_model_in(demo):
    assert demo.returncode == 0, demo.stdout + demo.stderr
    output = demo.stdout
    assert output.count("digests hold 签名与摘要验证通过") == 4, "the models that ship were verified"
    assert "approve 通过" in output
    assert re.search(r"CNY [\d,]+ of it for good conduct 其中品行提额", output)
    assert "declared income not known" in output, "one household has no tax record"
    assert re.search(r"the first decision 首个决策: \d+ s", output)
    assert "Swapped while serving 在线切换" in output, "the gate let the retrained version pass, and it answers"
    assert "positive 阳性" in output
    assert "are unlike anything the model learned from" in output, "a slide is abstained with its reason"
    assert "SIMULATED" in output
    assert "trained on real data" in output
    assert "indicative limit" in output, "the Taiwan table has no income, so a person decides"
    assert "block" in output, "one of the companies is a shell"
    assert "evidence 证据图块" in output, "slides are read too"
    assert "this answer is genuine 答复属实" in output, "its receipt is verified"
    assert re.search(r"run [0-9a-f]{32}", output), "and its trace shown"
    assert output.count("/console#token=") == len(ROLES), "a link for each role signs in"


@pytest.mark.parametrize("page", pages_to_run(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run_as_written(page, home, service):
    blocks = bash_blocks(page)
    script = f"printf '{SEPARATOR}'\n".join(blocks)
    done = run_shell(script, home, 1200)
    outputs = done.stdout.split(SEPARATOR)
    assert done.returncode == 0, f"after:\n{blocks[len(outputs) - 1]}\n{outputs[-1]}\n{done.stderr}"
    assert len(outputs) == len(blocks)
    for block, output in zip(blocks, outputs, strict=True):
        check_output(block, output)


def check_output(block: str, output: str) -> None:
    """What some blocks must show beside ending without an error."""
    if 'insured_month"' in block:  # the one that shows a refusal
        refusal = json.loads(output)
        assert refusal["status"] == 422
        assert [fault["field"] for fault in refusal["errors"]] == ["declared_income", "insured_month"]
    if "python -I verify.py" in block or "receipt verify" in block:
        assert "this answer is genuine 答复属实" in output
    if "serving audit verify" in block:
        assert "nothing was altered 未发现篡改" in output
    if "send-slide" in block:
        assert "failed" not in output
    if '"model": "seed_loans"' in block:
        assert json.loads(output.splitlines()[-1])["simulated"] is True
