"""Fixtures: a gateway, a pathologist's token, slides in any state, and a fast stand-in for the PDF."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from serving.core.identifiers import new_id
from serving.pathology.slides import store as slide_store
from serving.settings import Settings
from tests.serving.conftest import Inside, Service, bearer_of, environment, settings_for
from tests.serving.pathology import fake_readings

FORM: dict[str, Any] = {
    "accession": "C26-00117",
    "specimen": "cervical_cytology",
    "stain": "papanicolaou",
    "preparation": "liquid_based",
}
READING: dict[str, Any] = {
    "triage": "positive",
    "priority": 70,
    "probability": 0.91,
    "model": {"name": "pathology", "version": "3", "bundle": "ab" * 32},
    "simulated": True,
}
STATE_PATH = (
    *("verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating"),
    *("ready", "in_review", "signed", "amended"),
)
TUS_HEADERS = {"Tus-Resumable": "1.0.0"}
PART_HEADERS = TUS_HEADERS | {"Content-Type": "application/offset+octet-stream"}


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and kind of a problem response."""
    return response.status_code, response.json()["type"].rpartition("/")[2]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def metadata(**fields: Any) -> str:
    """The Upload-Metadata header of these fields."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return ",".join(f"{name} {b64encode(text.encode()).decode()}" for name, text in texts.items())


def put_slide(gateway: Any, target_state: str, **columns: Any) -> str:
    """Create a slide and take it to `target_state` as the worker does; returns its id."""
    engine, slide = gateway.service.store.engine, new_id()
    columns = FORM | {"request": FORM, "name": "a.svs", "sha256": sha256(slide.encode()), "bytes": 5} | columns
    reading = columns.pop("reading", READING) | {"slide_id": slide, "accession": columns["accession"]}
    slide_store.create(engine, slide, **columns)
    for state in STATE_PATH if target_state != "uploading" else ():
        slide_store.transition(engine, slide, state, **({"reading": reading} if state == "ready" else {}))
        if state == target_state:
            break
    return slide


def put_read_slide(gateway: Any) -> str:
    """Create a slide that has been read, in the store and on the disk; returns its id."""
    engine, slide = gateway.service.store.engine, fake_readings.SLIDE_ID
    folder = gateway.settings.paths.slides / slide
    (folder / "slide").mkdir(parents=True)
    (folder / "slide" / fake_readings.CMU.name).write_bytes(fake_readings.CMU.read_bytes())
    probability, attention = fake_readings.heatmap()
    np.savez(folder / "heat.npz", probability=probability, attention=attention)
    columns = FORM | {
        "request": FORM,
        "name": fake_readings.CMU.name,
        "sha256": fake_readings.READING["slide"]["sha256"],
    }
    slide_store.create(engine, slide, bytes=1, **columns)
    for state in STATE_PATH[: STATE_PATH.index("ready") + 1]:
        slide_store.transition(engine, slide, state, **({"reading": fake_readings.READING} if state == "ready" else {}))
    return slide


def fake_pdf(body: dict[str, Any]) -> bytes:
    """Stands in for the rendered report, so that tests can compare it with the body."""
    return b"%PDF-1.7\n" + json.dumps(body, sort_keys=True).encode()


@pytest.fixture
def slide_settings(made, tmp_path) -> Settings:
    """Settings without any model, so that no slide is read."""
    return settings_for(
        tmp_path / "bundles", made, tmp_path, YUHENG_SLIDES_POLL_SECONDS="0.05", YUHENG_SLIDES_SWEEP_SECONDS="3600"
    )


@pytest.fixture
def clinic(slide_settings) -> Iterator[Inside]:
    """A gateway in this process for this test."""
    with Inside(slide_settings) as running:
        running.gateway.pathology.signing_routes.render = running.gateway.pathology.report_routes.render = fake_pdf
        yield running


@pytest.fixture
def bearer(slide_settings) -> dict[str, str]:
    return bearer_of(slide_settings, "pathologist", name="Chen Lan 陈岚", licence="110330100001234")


@pytest.fixture(scope="session")
def slide_service(made, tmp_path_factory) -> Iterator[Service]:
    """A service in a process of its own, shared by the tests."""
    folder = tmp_path_factory.mktemp("slides")
    running = Service(
        environment(folder / "bundles", made, folder) | {"YUHENG_SLIDES_POLL_SECONDS": "0.05"}, folder / "log"
    )
    running.start(ready=False)
    yield running
    running.kill()
