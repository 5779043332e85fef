"""A newcomer follows the README in a copy of the project: every command in it runs as written."""

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
from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = 3000  # the README's


def blocks() -> list[str]:
    """The README's bash blocks that a test can run: `make test` is what runs it."""
    found = re.findall(r"^```bash\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    return [block for block in found if not block.startswith("make")]


def shell(command: str, home: Path, seconds: int) -> subprocess.CompletedProcess[str]:
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
    return shell("make demo ONCE=1", home, 1200)


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
    told = demo.stdout
    assert told.count("digests hold 签名与摘要验证通过") == 4, "the models that ship were verified"
    assert "approve 通过" in told
    assert re.search(r"CNY [\d,]+ of it for good conduct 其中品行提额", told)
    assert "declared income not known" in told, "one household has no tax record"
    assert re.search(r"the first decision 首个决策: \d+ s", told)
    assert "Swapped while serving 在线切换" in told, "the gate let the retrained version pass, and it answers"
    assert "positive 阳性" in told
    assert "are unlike anything the model learned from" in told, "a slide is abstained with its reason"
    assert "SIMULATED" in told
    assert "trained on real data" in told
    assert "indicative limit" in told, "the Taiwan table has no income, so a person decides"
    assert "block" in told, "one of the companies is a shell"
    assert "evidence 证据图块" in told, "slides are read too"
    assert "this answer is genuine 答复属实" in told, "its receipt is verified"
    assert re.search(r"run [0-9a-f]{32}", told), "and its trace shown"
    assert told.count("/console#token=") == len(ROLES), "a link for each role signs in"


@pytest.mark.parametrize("block", blocks(), ids=lambda block: re.sub(r"\W+", " ", block)[:60])
def test_a_command_of_the_readme_runs_as_written(block, home, service):
    done = shell(block, home, 600)
    assert done.returncode == 0, done.stdout + done.stderr
    if "curl" in block and "--fail-with-body" not in block:  # the one that shows a refusal
        refusal = json.loads(done.stdout)
        assert refusal["status"] == 422
        assert [fault["field"] for fault in refusal["errors"]] == ["declared_income", "insured_month"]
    if "seed_loans" in block and "curl" in block:
        assert json.loads(done.stdout.splitlines()[-1])["simulated"] is True
