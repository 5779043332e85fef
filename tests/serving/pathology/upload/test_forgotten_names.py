"""Names of files and folders, which may name a person, are nowhere once the uploaded files are gone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datasets.slides.simulate import pyramid, writers
from datasets.slides.simulate.slides import simulate_slide
from serving.core.db.schema import METADATA, UPLOADS
from serving.pathology.slides import store as slide_store
from serving.pathology.workflow import steps
from tests.serving.pathology.conftest import FORM, PART_HEADERS, TUS_HEADERS, metadata, sha256
from tests.serving.pathology.originals.test_archive import write_zip
from tests.serving.pathology.upload.test_groups import context_of

NAME = "Zhangsan 张三"
TRACES = ("zhangsan", "张三")


@pytest.fixture(scope="module")
def tiff(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("tiff") / "slide.tiff"
    return pyramid.write_tiff(path, simulate_slide(seed=3, label="NILM", columns=3, rows=2)).read_bytes()


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> dict[str, bytes]:
    slide = simulate_slide(seed=5, label="NILM", columns=5, rows=2)
    first = writers.write_dicom(tmp_path_factory.mktemp("dicom"), slide)
    return {f"{NAME}/{path.stem} {NAME}.dcm": path.read_bytes() for path in sorted(first.parent.iterdir())}


async def send(client, name: str, content: bytes, attempt: int = 1, **fields: Any):
    """Send a file under its name, which is also part of the request's key."""
    fields = {"filename": name, "relativePath": name, "sha256": sha256(content)} | FORM | fields
    headers = TUS_HEADERS | {"Upload-Length": str(len(content)), "Upload-Metadata": metadata(**fields)}
    headers |= {"Idempotency-Key": f"Zhangsan-{sha256(name.encode())[:8]}-{attempt}"}
    created = await client.post("/v1/uploads", headers=headers)
    assert created.status_code == 201, created.text
    return await client.patch(
        created.headers["location"], content=content, headers=PART_HEADERS | {"Upload-Offset": "0"}
    )


def traces(gateway: Any) -> list[str]:
    """Where the store or the slides' folder still has the name."""
    places = []
    with gateway.service.store.engine.begin() as connection:
        for table in METADATA.sorted_tables:
            for row in connection.execute(sa.select(table)).mappings():
                texts = {name: _text(value).lower() for name, value in row.items()}
                places += [f"{table.name}.{name}" for name, text in texts.items() if any(t in text for t in TRACES)]
    for path in gateway.settings.paths.slides.rglob("*"):
        content = path.read_bytes().lower() if path.is_file() else b""
        places += [str(path) for t in TRACES if t in path.name.lower() or t.encode() in content]
    return places


def _text(value: Any) -> str:
    return (
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else json.dumps(value, ensure_ascii=False, default=str)
    )


def deidentify(gateway: Any, slide: str) -> None:
    context = context_of(gateway)
    assert steps.verify_file(context, slide), slide_store.get(context.engine, slide)["reasons"]
    assert steps.deidentify_file(context, slide), slide_store.get(context.engine, slide)["reasons"]


async def expire(client, gateway: Any) -> None:
    with gateway.service.store.engine.begin() as connection:
        connection.execute(sa.update(UPLOADS).values(updated="2020-01-01T00:00:00.000Z"))
    await gateway.pathology.intake.sweep()


@pytest.mark.parametrize("way", ["file", "group", "zip"])
def test_no_name_is_left_of_an_upload_once_its_slide_has_been_de_identified(clinic, tiff, series, tmp_path, way):
    async def send_all(client, gateway):
        if way == "group":
            group = {"group": f"group {NAME}", "files": str(len(series))}
            interrupted = next(iter(series))
            await send(client, interrupted, series[interrupted], **group)  # a browser that was closed begins anew
            sent = [await send(client, path, content, attempt=2, **group) for path, content in series.items()]
            done = sent[-1]
        elif way == "zip":
            done = await send(client, f"{NAME}.zip", write_zip(tmp_path / "a.zip", series).read_bytes())
        else:
            done = await send(client, f"{NAME}.tiff", tiff)
        assert traces(gateway), "the file keeps its name while it is in quarantine"
        return gateway, done.headers["slide-id"]

    gateway, slide = clinic.run(send_all)
    deidentify(gateway, slide)
    assert traces(gateway) == []


def test_no_name_is_left_of_an_inbox_file_once_its_slide_has_been_de_identified(clinic, tiff):
    async def submit(client, gateway):
        inbox = gateway.settings.paths.slide_inbox / "local" / NAME
        inbox.mkdir(parents=True)
        (inbox / f"{NAME}.tiff").write_bytes(tiff)
        body = FORM | {"reference": f"{NAME}/{NAME}.tiff", "sha256": sha256(tiff)}
        submitted = await client.post("/v1/slides", json=body, headers={"Idempotency-Key": "Zhangsan"})
        slide = submitted.json()["slide_id"]
        for _ in range(500):
            if slide_store.get(gateway.service.store.engine, slide)["state"] == "verifying":
                break
            await asyncio.sleep(0.02)
        return gateway, slide

    gateway, slide = clinic.run(submit)
    deidentify(gateway, slide)
    assert traces(gateway) == []


def test_no_name_is_left_of_a_duplicate(clinic, tiff):
    async def story(client, gateway):
        await send(client, "slide.tiff", tiff)
        again = await send(client, f"{NAME}.tiff", tiff)
        assert again.headers["idempotent-replayed"] == "true"
        assert traces(gateway) == []

    clinic.run(story)


def test_no_name_is_left_of_an_upload_that_its_client_ends(clinic):
    async def story(client, gateway):
        group = {"group": NAME, "files": "2"}
        await send(client, f"{NAME}/1.dcm", b"1", **group)
        done = await send(client, f"{NAME}/2.dcm", b"1", group=f"{NAME} 2", files="2")
        for slide in slide_store.in_state(gateway.service.store.engine, "uploading"):
            cancelled = await client.post(f"/v1/slides/{slide['id']}/cancel")
            assert cancelled.status_code == 200, cancelled.text
        assert done.headers["slide-id"]
        assert traces(gateway) == []

    clinic.run(story)


@pytest.mark.parametrize("how", ["never completed", "wrong digest", "two slides", "unsafe", "no slide", "cancelled"])
def test_no_name_is_left_of_a_slide_that_failed_once_its_files_have_expired(clinic, tiff, tmp_path, how):
    contents = {
        "two slides": {f"{NAME} a.tiff": tiff, f"{NAME} b.tiff": tiff},
        "unsafe": {f"../{NAME}.tiff": tiff, f"{NAME}/{NAME}.tiff": tiff},
        "no slide": {f"{NAME}.txt": b"x", f"{NAME}/{NAME}.mrxs": b"x"},
    }

    async def send_all(client, gateway):
        if how == "never completed":
            await send(client, f"{NAME}/1.dcm", b"1", group=NAME, files="2")
        elif how == "wrong digest":
            await send(client, f"{NAME}.tiff", tiff, sha256=sha256(b"another"))
        elif how == "cancelled":
            done = await send(client, f"{NAME}.tiff", tiff)
            await client.post(f"/v1/slides/{done.headers['slide-id']}/cancel")
        else:
            await send(client, f"{NAME}.zip", write_zip(tmp_path / "a.zip", contents[how]).read_bytes())
        return gateway

    gateway = clinic.run(send_all)
    for slide in slide_store.in_state(gateway.service.store.engine, "verifying"):
        assert not steps.verify_file(context_of(gateway), slide["id"])
    clinic.run(expire)
    assert not any(Path(gateway.settings.paths.slides).rglob("quarantine"))
    assert traces(gateway) == []
