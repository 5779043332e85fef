"""tus-js-client and Uppy as they come, in Node and in a page of another origin, against the real gateway.

`npm ci` of the console installs both; a connection that is lost on the way is cut or falls silent.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from models import bundle
from serving.app import App
from tests.browser.clinic import Server
from tests.browser.lossy_proxy import LossyProxy
from tests.browser.test_gateway import LifespanApp, token
from tests.paths import ROOT
from tests.serving.conftest import settings_for
from tests.serving.pathology.conftest import FORM, sha256

MODULES = ROOT / "serving/console/web"
CLIENTS = ROOT / "tests/browser/tus_clients"
BYTES = os.urandom(3_000_000)
PAGES = {
    "index.html": '<input type="file" id="files" multiple>',
    "folder.html": '<input type="file" id="files" webkitdirectory>',
}


@pytest.fixture(scope="module")
def page_address(tmp_path_factory) -> Iterator[str]:
    """A web server of its own origin with a page that holds both clients."""
    if not (MODULES / "node_modules/@uppy/tus").exists():
        pytest.skip("the packages of the console are not installed: npm ci in serving/console/web")
    folder = tmp_path_factory.mktemp("page")
    (folder / "node_modules").symlink_to(MODULES / "node_modules")
    shutil.copy(CLIENTS / "page.js", folder)
    command = [str(MODULES / "node_modules/.bin/rolldown"), "page.js", "--file", "bundle.js", "--format", "iife"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    for name, body in PAGES.items():
        (folder / name).write_text(f'<!doctype html>{body}<script src="bundle.js"></script>')
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def service(tmp_path_factory, page_address) -> Iterator[tuple[App, str]]:
    folder = tmp_path_factory.mktemp("gateway")
    keys = bundle.create_signing_keys(folder / "keys")
    environ = {"YUHENG_ACCESS_REQUIRED": "true", "YUHENG_ACCESS_ALLOWED_ORIGINS": page_address}
    gateway = App(settings_for(folder / "bundles", SimpleNamespace(public=keys[1]), folder, **environ))
    server = Server(LifespanApp(gateway))
    server.server.config.lifespan = "on"
    with server as address:
        yield gateway, address


@pytest.fixture
def slide_of(service):
    """The slide as the service has it, by its id or by the address of its upload."""
    gateway, address = service
    headers = {"Authorization": f"Bearer {token(gateway, 'clinic')}"}

    def read(slide: str) -> dict[str, Any]:
        if "/v1/uploads/" in slide:
            url = address + "/v1/uploads/" + slide.rpartition("/")[2]
            slide = httpx.head(url, headers=headers | {"Tus-Resumable": "1.0.0"}).headers["slide-id"]
        return httpx.get(f"{address}/v1/slides/{slide}", headers=headers).json()

    return read


@pytest.fixture
def file(tmp_path, request) -> Path:
    path = tmp_path / "涂片 1.svs"
    path.write_bytes(BYTES + request.node.name.encode())
    return path


def metadata_of(path: Path) -> dict[str, str]:
    return FORM | {"filename": path.name, "sha256": sha256(path.read_bytes()).upper(), "anything": "else"}


def node() -> str:
    path = shutil.which("node", path=f"{ROOT / '.venv/bin'}:{os.environ['PATH']}")
    if path is None:
        pytest.skip("node is not installed")
    return path


def send_from_node(service: Any, endpoint: str, file: Path, pause_after: int = 0, **options: Any) -> str:
    """The id of the slide."""
    job = {"modules": str(MODULES), "file": str(file), "endpoint": endpoint, "token": token(service[0], "clinic")}
    job |= {"metadata": metadata_of(file), "options": options, "pauseAfter": pause_after}
    command = [node(), str(CLIENTS / "node_client.cjs"), json.dumps(job)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return str(json.loads(result.stdout)["slide"])


@pytest.mark.parametrize("options", [
    {}, {"chunkSize": 700_000}, {"overridePatchMethod": True}, {"uploadDataDuringCreation": True},
    {"uploadDataDuringCreation": True, "chunkSize": 700_000}, {"uploadLengthDeferred": True, "chunkSize": 700_000},
    {"addRequestId": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("slash", ["", "/"])
def test_tus_js_client_sends_a_slide_from_node_with_any_of_its_options(
    service, page_address, file, slide_of, options, slash
):
    slide = slide_of(send_from_node(service, f"{service[1]}/v1/uploads{slash}", file, **options))
    assert (slide["state"], slide["sha256"]) == ("verifying", sha256(file.read_bytes()))
    assert (slide["name"], slide["request"]) == ("涂片_1.svs", FORM)


def test_parallel_parts_are_refused_with_the_option_to_change(service, page_address, file):
    job = {"modules": str(MODULES), "file": str(file), "endpoint": f"{service[1]}/v1/uploads"}
    job |= {"token": token(service[0], "clinic"), "metadata": {}, "options": {"parallelUploads": 2}}
    command = [node(), str(CLIENTS / "node_client.cjs"), json.dumps(job)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "parallelUploads 1" in result.stderr


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
def test_tus_js_client_continues_from_node_after_its_connection_was_lost(service, page_address, file, slide_of, silent):
    proxy = LossyProxy(service[1], 1_000_000, silent)
    pause_after = 1_500 if silent else 0  # ms; it does not notice the silence itself: its user begins again
    slide = slide_of(send_from_node(service, f"{proxy.address}/v1/uploads", file, pause_after, chunkSize=2_500_000))
    proxy.close()
    assert proxy.losses == 1
    assert (slide["state"], slide["sha256"]) == ("verifying", sha256(file.read_bytes()))


@pytest.fixture
def page(browser, page_address) -> Iterator[Any]:
    context = browser.new_context(base_url=page_address)
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


SEND_WITH_TUS = "([endpoint, token, meta, options, pause]) => sendWithTus(endpoint, token, meta, options, pause)"
SEND_WITH_UPPY = "([endpoint, token, meta, options]) => sendWithUppy(endpoint, token, meta, options)"


@pytest.mark.parametrize("options", [
    {}, {"overridePatchMethod": True}, {"uploadDataDuringCreation": True, "chunkSize": 700_000},
], ids=str)  # fmt: skip
def test_tus_js_client_sends_a_slide_from_a_page_of_another_origin(page, service, file, slide_of, options):
    page.goto("/index.html")
    page.set_input_files("#files", str(file))
    arguments = [f"{service[1]}/v1/uploads/", token(service[0], "clinic"), metadata_of(file), options, 0]
    slide = slide_of(page.evaluate(SEND_WITH_TUS, arguments)["slide"])
    assert (slide["state"], slide["sha256"]) == ("verifying", sha256(file.read_bytes()))


@pytest.mark.parametrize(("client", "silent"), [("tus", False), ("tus", True), ("uppy", False)])
def test_a_page_continues_after_its_connection_was_lost(page, service, file, slide_of, client, silent):
    proxy = LossyProxy(service[1], 1_000_000, silent)
    page.goto("/index.html")
    page.set_input_files("#files", str(file))
    arguments = [
        f"{proxy.address}/v1/uploads",
        token(service[0], "clinic"),
        metadata_of(file),
        {"chunkSize": 2_500_000},
    ]
    if client == "tus":
        slide = slide_of(page.evaluate(SEND_WITH_TUS, [*arguments, 1_500 if silent else 0])["slide"])
    else:
        slide = slide_of(page.evaluate(SEND_WITH_UPPY, arguments)[0])
    proxy.close()
    assert proxy.losses == 1
    assert (slide["state"], slide["sha256"]) == ("verifying", sha256(file.read_bytes()))


def test_uppy_sends_a_slide_with_what_it_adds_of_its_own(page, service, file, slide_of):
    page.goto("/index.html")
    page.set_input_files("#files", str(file))
    meta = FORM | {"sha256": sha256(file.read_bytes()), "mpp": None, "age": 46, "hpv_result": ""}
    [url] = page.evaluate(SEND_WITH_UPPY, [f"{service[1]}/v1/uploads/", token(service[0], "clinic"), meta, {}])
    slide = slide_of(url)
    assert (slide["state"], slide["name"], slide["request"]) == ("verifying", "涂片_1.svs", FORM | {"age": 46})


def test_uppy_sends_a_folder_as_one_slide(page, service, slide_of, tmp_path):
    slide = simulate_slide(seed=7, label="NILM", columns=8, rows=6)
    folder = writers.write_dicom(tmp_path / "series", slide).parent
    count = len(list(folder.iterdir()))
    assert count > 1
    page.goto("/folder.html")
    page.set_input_files("#files", str(folder))
    meta = FORM | {"group": "C26-00117 A", "files": count}
    urls = page.evaluate(SEND_WITH_UPPY, [f"{service[1]}/v1/uploads", token(service[0], "clinic"), meta, {}])
    assert len(urls) == count
    [slide_id] = {slide_of(url)["slide_id"] for url in urls}
    row = slide_of(slide_id)
    assert (row["state"], row["bytes"]) == ("uploading", sum(path.stat().st_size for path in folder.iterdir()))


def test_a_page_of_an_origin_that_was_not_named_can_send_nothing(browser, service, page_address, file):
    other = page_address.replace("127.0.0.1", "localhost")
    context = browser.new_context(base_url=other)
    page = context.new_page()
    page.goto("/index.html")
    page.set_input_files("#files", str(file))
    arguments = [f"{service[1]}/v1/uploads", token(service[0], "clinic"), metadata_of(file), {"retryDelays": []}, 0]
    with pytest.raises(Exception, match="failed to create upload"):
        page.evaluate(SEND_WITH_TUS, arguments)
    context.close()
