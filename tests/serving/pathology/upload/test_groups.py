"""Slides of several files, each sent as an upload of its own, or in a ZIP: from the uploads to the checked copy."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
import sqlalchemy as sa

from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from serving.core.db.schema import UPLOADS
from serving.pathology.slides import store as slide_store
from serving.pathology.workflow import steps
from serving.pathology.workflow.step_context import StepContext
from tests.serving.pathology.conftest import FORM, PART_HEADERS, TUS_HEADERS, metadata, problem, sha256
from tests.serving.pathology.originals.test_archive import write_zip

FILES = {"a/Slidedat.ini": b"[GENERAL]", "a/Data0000.dat": bytes(5_000), "a.mrxs": b"label"}


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> dict[str, bytes]:
    slide = simulate_slide(seed=5, label="NILM", columns=8, rows=6)
    first = writers.write_dicom(tmp_path_factory.mktemp("dicom") / "series", slide)
    return {f"series/{path.name}": path.read_bytes() for path in sorted(first.parent.iterdir())}


def manifest(files: dict[str, bytes]) -> str:
    lines = [f"{sha256(content)}  {path}\n" for path, content in sorted(files.items(), key=lambda item: item[0])]
    return sha256("".join(lines).encode())


async def create(client, path: str, content: bytes, **fields: Any):
    fields = {"group": "C26 7", "files": "3", "relativePath": path, "filename": path.rpartition("/")[2]} | fields
    fields = {name: value for name, value in ({"sha256": sha256(content)} | FORM | fields).items() if value is not None}
    headers = TUS_HEADERS | {"Upload-Length": str(len(content)), "Upload-Metadata": metadata(**fields)}
    return await client.post("/v1/uploads", headers=headers)


async def send(client, path: str, content: bytes, **fields: Any):
    created = await create(client, path, content, **fields)
    assert created.status_code == 201, created.text
    chunk_headers = PART_HEADERS | {"Upload-Offset": "0"}
    return await client.patch(created.headers["location"], content=content, headers=chunk_headers)


async def state_of(client, slide: str) -> tuple[str, str | None]:
    row = (await client.get(f"/v1/slides/{slide}")).json()
    return row["state"], row["sha256"]


@pytest.mark.parametrize("at_once", [False, True])
def test_the_files_of_a_group_make_one_slide_once_all_are_here(clinic, at_once):
    async def story(client, gateway):
        if at_once:
            sent = await asyncio.gather(*(send(client, path, content) for path, content in FILES.items()))
        else:
            sent = [await send(client, path, content) for path, content in FILES.items()]
        [slide] = {response.headers["slide-id"] for response in sent}
        assert await state_of(client, slide) == ("verifying", manifest(FILES))
        row = (await client.get(f"/v1/slides/{slide}")).json()
        assert (row["name"], row["bytes"], row["accession"]) == ("C26_7", sum(map(len, FILES.values())), "C26-00117")
        assert problem(await create(client, "d", b"late", files="3")) == (409, "group_complete")
        codes = [event["detail"].get("code") for event in slide_store.events_after(gateway.service.store.engine, slide)]
        assert codes.count("file") == 2, "each file is in the log, the last one as the slide's arrival"
        assert codes.count("arrived") == 1

    clinic.run(story)


def test_the_same_files_under_the_same_accession_number_are_one_slide(clinic):
    async def story(client, gateway):
        first = [await send(client, path, content) for path, content in FILES.items()][-1].headers["slide-id"]
        again = [await send(client, path, content, group="once more") for path, content in FILES.items()][-1]
        assert (again.headers["slide-id"], again.headers["idempotent-replayed"]) == (first, "true")
        assert len(list(gateway.settings.paths.slides.glob("*/quarantine"))) == 1

    clinic.run(story)


def test_a_file_that_is_sent_again_replaces_the_earlier_one(clinic):
    """A browser that was closed begins anew."""

    async def story(client, gateway):
        begun = await create(client, "a.mrxs", b"label")
        await send(client, "a/Slidedat.ini", b"old")
        sent = [await send(client, path, content) for path, content in FILES.items()]
        assert await state_of(client, sent[-1].headers["slide-id"]) == ("verifying", manifest(FILES))
        assert (await client.head(begun.headers["location"], headers=TUS_HEADERS)).status_code == 410

    clinic.run(story)


def test_a_wrong_sha256_of_one_file_fails_the_slide_and_the_group_may_be_sent_again(clinic):
    async def story(client, gateway):
        await send(client, "a.mrxs", b"label")
        wrong = await send(client, "a/Slidedat.ini", b"[GENERAL]", sha256=sha256(b"another"))
        assert problem(wrong) == (422, "upload_sha256")
        sent = [await send(client, path, content) for path, content in FILES.items()]
        assert await state_of(client, sent[-1].headers["slide-id"]) == ("verifying", manifest(FILES))

    clinic.run(story)


def test_without_digests_the_slide_waits_for_that_of_its_list_of_files(clinic):
    async def story(client, gateway):
        bare = dict.fromkeys(("sha256", *FORM))
        sent = [await send(client, path, content, **bare) for path, content in FILES.items()]
        slide = sent[-1].headers["slide-id"]
        assert await state_of(client, slide) == ("uploading", None)
        form = FORM | {"reference": slide}
        taken = await client.post("/v1/slides", json=form | {"sha256": manifest(FILES)})
        assert (taken.status_code, taken.json()["state"]) == (202, "verifying")

    clinic.run(story)


def test_with_digests_the_form_may_follow_alone(clinic):
    async def story(client, gateway):
        sent = [await send(client, path, content, **dict.fromkeys(FORM)) for path, content in FILES.items()]
        slide = sent[-1].headers["slide-id"]
        assert await state_of(client, slide) == ("uploading", manifest(FILES))
        taken = await client.post("/v1/slides", json=FORM | {"reference": slide})
        assert (taken.status_code, taken.json()["state"]) == (202, "verifying")

    clinic.run(story)


def test_a_digest_cannot_be_left_out_where_nobody_announced_it(clinic):
    async def story(client, gateway):
        begun = await create(client, "a.svs", b"x", group=None, files=None, sha256=None)
        for reference in (begun.headers["slide-id"], begun.headers["location"].rpartition("/")[2]):
            refused = await client.post("/v1/slides", json=FORM | {"reference": reference})
            assert problem(refused) == (422, "invalid_request")
            assert [error["field"] for error in refused.json()["errors"]] == ["sha256"]

    clinic.run(story)


@pytest.mark.parametrize(("fields", "names"), [
    ({"files": None}, {"files"}), ({"group": None}, {"group"}), ({"files": "0", "group": " "}, {"files", "group"}),
    ({"files": "many"}, {"files"}), ({"relativePath": "../a"}, {"relativePath"}),
    ({"relativePath": "a\\..\\b"}, {"relativePath"}), ({"relativePath": "C:/x"}, {"relativePath"}),
    ({"relativePath": "a//b"}, {"relativePath"}),
])  # fmt: skip
def test_what_makes_no_group_is_refused(clinic, fields, names):
    async def story(client, gateway):
        refused = await create(client, "a", b"x", **fields)
        assert problem(refused) == (422, "invalid_request")
        assert {error["field"] for error in refused.json()["errors"]} == names

    clinic.run(story)


def test_files_that_contradict_the_earlier_ones_of_their_group_are_refused(clinic):
    async def story(client, gateway):
        await create(client, "a", b"x")
        assert problem(await create(client, "b", b"x", files="4")) == (409, "group_complete")
        other_form = await create(client, "b", b"x", accession="C26-9")
        assert problem(other_form) == (422, "invalid_request")
        assert (await create(client, "b", b"x", **dict.fromkeys(FORM))).status_code == 201

    clinic.run(story)


def test_ending_one_file_ends_the_slide_and_all_that_was_received_of_it(clinic):
    async def story(client, gateway):
        await send(client, "a.mrxs", b"label")
        begun = await create(client, "a/Slidedat.ini", b"[GENERAL]")
        assert (await client.delete(begun.headers["location"], headers=TUS_HEADERS)).status_code == 204
        assert (await state_of(client, begun.headers["slide-id"]))[0] == "cancelled"
        assert not (gateway.settings.paths.slides / begun.headers["slide-id"]).exists()

    clinic.run(story)


def test_a_group_expires_as_a_whole_and_not_while_one_of_its_files_is_being_sent(clinic):
    async def story(client, gateway):
        idle = await create(client, "a.mrxs", b"label")
        moving = await create(client, "a/Slidedat.ini", b"[GENERAL]")
        slide = idle.headers["slide-id"]

        def age(condition) -> None:
            with gateway.service.store.engine.begin() as connection:
                old = "2020-01-01T00:00:00.000Z"
                connection.execute(sa.update(UPLOADS).where(condition).values(updated=old))

        age(UPLOADS.c.id == idle.headers["location"].rpartition("/")[2])
        await gateway.pathology.intake.sweep()
        assert (await state_of(client, slide))[0] == "uploading"
        assert (await client.head(moving.headers["location"], headers=TUS_HEADERS)).status_code == 200
        age(UPLOADS.c.slide == slide)
        await gateway.pathology.intake.sweep()
        assert (await state_of(client, slide))[0] == "failed"
        assert not (gateway.settings.paths.slides / slide).exists()

    clinic.run(story)


def test_groups_of_two_tenants_have_nothing_in_common(clinic):
    async def story(client, gateway):
        mine = await create(client, "a.mrxs", b"label")
        with gateway.service.store.engine.begin() as connection:
            from serving.pathology.upload import groups

            keys = {tenant: groups.group_key(gateway.pathology.context.vault, tenant, "C26 7")
                    for tenant in ("other", "local")}  # fmt: skip
            assert groups.find_open_slide(connection, "other", keys["other"], 3) is None
            assert groups.find_open_slide(connection, "other", keys["local"], 3) is None
            assert groups.find_open_slide(connection, "local", keys["local"], 3)["id"] == mine.headers["slide-id"]

    clinic.run(story)


def context_of(gateway: Any) -> StepContext:
    def infer(request: Any) -> Any:
        raise AssertionError("nothing is read here")

    engine = gateway.service.store.engine
    return StepContext(engine, gateway.settings.paths.slides, infer, lambda tenant: tenant.encode().ljust(32))


@pytest.mark.parametrize("how", ["group", "zip"])
def test_a_dicom_series_is_verified_and_de_identified_however_it_was_sent(clinic, series, tmp_path, how):
    async def send_all(client, gateway):
        if how == "zip":
            content = write_zip(tmp_path / "series.zip", series).read_bytes()
            done = await send(client, "series.zip", content, group=None, files=None, relativePath="null")
        else:
            sent = [await send(client, path, content, files=str(len(series))) for path, content in series.items()]
            done = sent[-1]
        return gateway, done.headers["slide-id"]

    gateway, slide = clinic.run(send_all)
    context = context_of(gateway)
    assert steps.verify_file(context, slide), slide_store.get(context.engine, slide)["reasons"]
    assert steps.verify_file(context, slide)
    assert steps.deidentify_file(context, slide), slide_store.get(context.engine, slide)["reasons"]
    copies = sorted(path for path in (context.slide_dir(slide) / "slide").rglob("*") if path.is_file())
    assert len(copies) == len(series)
    assert not (context.slide_dir(slide) / "quarantine").exists()
    assert slide_store.get(context.engine, slide)["state"] == "deidentified"


def test_a_file_of_a_group_that_changed_on_the_disk_fails_the_slide(clinic):
    async def send_all(client, gateway):
        return gateway, [await send(client, path, content) for path, content in FILES.items()][-1].headers["slide-id"]

    gateway, slide = clinic.run(send_all)
    context = context_of(gateway)
    folder = next((context.slide_dir(slide) / "quarantine").iterdir())
    next(iter(sorted(folder.iterdir()))).write_bytes(b"altered")
    assert not steps.verify_file(context, slide)
    assert slide_store.get(context.engine, slide)["code"] == "malformed"


def test_a_zip_of_two_slides_fails_with_that_reason(clinic, series, tmp_path):
    content = write_zip(tmp_path / "two.zip", {"a.tif": b"II*\0" + bytes(200), "b.tif": b"II*\0" + bytes(200)})

    async def send_zip(client, gateway):
        done = await send(client, "two.zip", content.read_bytes(), group=None, files=None)
        return gateway, done.headers["slide-id"]

    gateway, slide = clinic.run(send_zip)
    context = context_of(gateway)
    assert not steps.verify_file(context, slide)
    row = slide_store.get(context.engine, slide)
    assert (row["state"], row["code"]) == ("failed", "several_slides")


def test_the_digest_of_a_list_of_files_is_that_of_the_documented_command(tmp_path):
    import subprocess

    from serving.pathology.upload.groups import manifest_sha256

    files = {"片子/数据 1.dat": b"1", "a.mrxs": b"2", "a/Slidedat.ini": b"3", "B": b"4"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    command = "export LC_ALL=C; find * -type f | sort | tr '\\n' '\\0' | xargs -0 sha256sum | sha256sum"
    printed = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    digests = ((name, hashlib.sha256(content).hexdigest()) for name, content in files.items())
    assert printed.split()[0] == manifest_sha256(digests)
