"""A Bento is self-contained: it is built here and served from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import httpx
import psutil
import pytest

from serving.core.security.token_issuer import issue_token
from tests.serving.conftest import QUIET, ROOT, free_port, wait_for


@pytest.mark.slow
def test_a_bento_serves_from_an_empty_folder(made, applicant, tmp_path):
    tree, empty = tmp_path / "tree", tmp_path / "empty"
    empty.mkdir()
    for room in ("datasets", "models", "serving", "configs", "tests/serving"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    made.publish(tree / "var/bundles", "1")
    (tree / "var/keys").mkdir()
    shutil.copy(made.public, tree / "var/keys/signing.pub.pem")
    (tree / "var/store.db").write_text("a record that must not travel")
    environ = {**os.environ, **QUIET, "BENTOML_HOME": str(tmp_path / "home"), "YUHENG_HOME": str(empty)}
    build = [sys.executable, "-m", "bentoml", "build", "-f", "serving/bentofile.yaml", "."]
    subprocess.run(build, cwd=tree, env=environ, check=True, capture_output=True)
    shutil.rmtree(tree)

    [bento] = (tmp_path / "home/bentos/yuheng_gateway").glob("*/src")
    files = {str(path.relative_to(bento)) for path in bento.rglob("*") if path.is_file()}
    assert "var/bundles/credit_limit/1/model.sig" in files
    assert "serving/console/dist/index.html" in files, "make console builds it"
    assert not [
        path
        for path in files
        if path.startswith(("tests", "serving/console/web")) or path.endswith((".db", ".pyc", "signing.pem"))
    ]

    port = free_port()
    serve = [sys.executable, "-m", "bentoml", "serve", "yuheng_gateway:latest", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(serve, cwd=empty, env=environ, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz/ready", running, tmp_path / "log")
        token = issue_token(empty / "var/keys/tokens.pem", "yuheng", tenant="demo", roles=["bank"], subject="demo")
        headers = {"Authorization": f"Bearer {token}"}
        options = {"json": {"indicators": applicant}, "headers": headers}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/credit-limits", **options)
        assert answer.json()["model"]["version"] == "1"
        assert httpx.get(f"http://127.0.0.1:{port}/console").status_code == 200
        assert (empty / "var/store.db").exists()
    finally:
        server = psutil.Process(running.pid)
        for process in (*server.children(recursive=True), server):
            process.kill()
        running.wait()
