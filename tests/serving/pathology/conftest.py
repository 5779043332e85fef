"""Pathologists with tokens, slides in any state, and a PDF that is quick to make."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from serving.core.identifiers import new_id
from serving.pathology.slides import store as slide_store
from serving.settings import Settings
from tests.serving.conftest import Inside, Service, bearer_of, environment, settings_for

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
WAY = (
    *("verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating"),
    *("ready", "in_review", "signed", "amended"),
)
TUS = {"Tus-Resumable": "1.0.0"}
PART = TUS | {"Content-Type": "application/offset+octet-stream"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def metadata(**told: Any) -> str:
    """Upload-Metadata."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
    return ",".join(f"{name} {b64encode(text.encode()).decode()}" for name, text in texts.items())


def put(gateway: Any, upto: str, **columns: Any) -> str:
    """A slide in the store, moved on as the worker moves it."""
    engine, slide = gateway.service.store.engine, new_id()
    columns = FORM | {"request": FORM, "name": "a.svs", "sha256": sha256(slide.encode()), "bytes": 5} | columns
    reading = columns.pop("reading", READING) | {"slide_id": slide, "accession": columns["accession"]}
    slide_store.create(engine, slide, **columns)
    for state in WAY if upto != "uploading" else ():
        slide_store.transition(engine, slide, state, **({"reading": reading} if state == "ready" else {}))
        if state == upto:
            break
    return slide


def pdf(body: dict[str, Any]) -> bytes:
    """Stands for the rendered report: what is signed is what is kept."""
    return b"%PDF-1.7\n" + json.dumps(body, sort_keys=True).encode()


@pytest.fixture
def slide_settings(made, tmp_path) -> Settings:
    """Without any model: no slide is read here."""
    return settings_for(
        tmp_path / "bundles", made, tmp_path, YUHENG_SLIDES_POLL_SECONDS="0.05", YUHENG_SLIDES_SWEEP_SECONDS="3600"
    )


@pytest.fixture
def clinic(slide_settings) -> Iterator[Inside]:
    """A gateway of its own in this process."""
    with Inside(slide_settings) as running:
        running.gateway.pathology.signing_routes.render = running.gateway.pathology.report_routes.render = pdf
        yield running


@pytest.fixture
def bearer(slide_settings) -> dict[str, str]:
    return bearer_of(slide_settings, "pathologist", name="Chen Lan 陈岚", licence="110330100001234")


@pytest.fixture(scope="session")
def slide_service(made, tmp_path_factory) -> Iterator[Service]:
    """A real service, which the tests share."""
    folder = tmp_path_factory.mktemp("slides")
    running = Service(
        environment(folder / "bundles", made, folder) | {"YUHENG_SLIDES_POLL_SECONDS": "0.05"}, folder / "log"
    )
    running.start(ready=False)
    yield running
    running.kill()
