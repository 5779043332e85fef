"""STOW-RS: a scanner's series becomes a slide, with the same checks, log and de-identification as every upload."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from serving.core.db.schema import UPLOADS
from serving.pathology.originals.dicom_header import DicomHeaderError, parse_header
from serving.pathology.slides import store as slide_store
from serving.pathology.workflow import steps
from tests.serving.conftest import Inside, settings_for
from tests.serving.pathology.conftest import FORM, problem
from tests.serving.pathology.upload.test_groups import context_of, manifest

URL = "/v1/dicomweb/studies"
TYPE = 'multipart/related; type="application/dicom"; boundary=XX'
STORED, FAILED, OTHERS = "00081199", "00081198", "0008119A"


@pytest.fixture(scope="module")
def instances(tmp_path_factory) -> list[bytes]:
    slide = simulate_slide(seed=5, label="NILM", columns=8, rows=6)
    first = writers.write_dicom(tmp_path_factory.mktemp("dicom") / "series", slide)
    return [path.read_bytes() for path in sorted(first.parent.iterdir())]


def altered(instance: bytes, **values: Any) -> bytes:
    dataset = pydicom.dcmread(BytesIO(instance))
    for name, value in values.items():
        setattr(dataset, name, value)
    if "SOPClassUID" in values:
        dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    if "SOPInstanceUID" in values:
        dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"]
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def body_of(instances: list[bytes], part_type: str = "application/dicom") -> bytes:
    head = f"--XX\r\nContent-Type: {part_type}\r\n\r\n".encode()
    return b"".join(head + instance + b"\r\n" for instance in instances) + b"--XX--\r\n"


async def store(client, instances: list[bytes], study: str = "", **headers: str):
    url = f"{URL}/{study}" if study else URL
    return await client.post(url, content=body_of(instances), headers={"Content-Type": TYPE} | headers)


def slide_of(response) -> str:
    [element] = response.json()["00081190"]["Value"]
    return element.rpartition("/")[2]


def reasons(response) -> list[int]:
    items = [*response.json().get(FAILED, {}).get("Value", []), *response.json().get(OTHERS, {}).get("Value", [])]
    return [item["00081197"]["Value"][0] for item in items]


async def settle(gateway: Any, slide: str) -> None:
    """As if nothing had come for a while."""
    with gateway.service.store.engine.begin() as connection:
        earlier = "2020-01-01T00:00:00.000Z"
        connection.execute(sa.update(UPLOADS).where(UPLOADS.c.slide == slide).values(updated=earlier))
        gateway_settings = gateway.pathology.intake.settings
    object.__setattr__(gateway_settings, "upload_expires_seconds", 1e9)
    await gateway.pathology.intake.sweep()


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_series_becomes_a_slide_that_is_checked_and_de_identified(clinic, instances, one_by_one):
    async def story(client, gateway):
        requests = [[instance] for instance in instances] if one_by_one else [instances]
        responses = [await store(client, sent) for sent in requests]
        assert {response.status_code for response in responses} == {200}
        assert {response.headers["content-type"] for response in responses} == {"application/dicom+json"}
        [slide] = {slide_of(response) for response in responses}
        stored = [item for response in responses for item in response.json()[STORED]["Value"]]
        assert [item["00081155"]["Value"][0] for item in stored] == [parse_header(each).instance for each in instances]
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "uploading"
        taken = await client.post("/v1/slides", json=FORM | {"reference": slide})
        assert (taken.status_code, taken.json()["state"]) == (202, "uploading"), "more instances may come"
        await gateway.pathology.intake.sweep()
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "uploading"
        await settle(gateway, slide)
        row = (await client.get(f"/v1/slides/{slide}")).json()
        files = {f"{parse_header(instance).instance}.dcm": instance for instance in instances}
        assert (row["state"], row["sha256"]) == ("verifying", manifest(files))
        codes = [event["detail"].get("code") for event in slide_store.events_after(gateway.service.store.engine, slide)]
        assert codes.count("file") == len(instances)
        return gateway, slide

    gateway, slide = clinic.run(story)
    context = context_of(gateway)
    assert steps.verify_file(context, slide), slide_store.get(context.engine, slide)["reasons"]
    assert steps.deidentify_file(context, slide), slide_store.get(context.engine, slide)["reasons"]
    assert not list(context.slides_dir.glob(".incoming/*"))


def test_the_form_may_be_here_before_the_last_instance_and_the_series_waits_for_it(clinic, instances):
    async def story(client, gateway):
        slide = slide_of(await store(client, instances[:1]))
        await client.post("/v1/slides", json=FORM | {"reference": slide})
        await store(client, instances[1:])
        await settle(gateway, slide)
        row = (await client.get(f"/v1/slides/{slide}")).json()
        assert (row["state"], row["bytes"]) == ("verifying", sum(map(len, instances)))

    clinic.run(story)


def test_an_instance_that_is_sent_again_is_stored_once_and_another_under_its_uid_is_refused(clinic, instances):
    other = altered(instances[0], ImageComments="another content")

    async def story(client, gateway):
        slide = slide_of(await store(client, instances))
        again = await store(client, instances)
        assert (again.status_code, slide_of(again)) == (200, slide)
        mixed = await store(client, [other, instances[1]])
        assert (mixed.status_code, reasons(mixed)) == (202, [0x0111])
        folder = gateway.settings.paths.slides / slide / "quarantine/dicom_series"
        assert len(list(folder.iterdir())) == len(instances)
        await client.post("/v1/slides", json=FORM | {"reference": slide})
        await settle(gateway, slide)
        late = await store(client, [*instances, altered(instances[0], SOPInstanceUID=generate_uid())])
        assert (late.status_code, reasons(late)) == (202, [0x0110])
        assert len(late.json()[STORED]["Value"]) == len(instances)

    clinic.run(story)


def test_what_is_no_slide_is_refused_instance_by_instance(clinic, instances):
    ct = altered(instances[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID=generate_uid())

    async def story(client, gateway):
        mixed = await store(client, [ct, instances[0], b"no DICOM at all"])
        assert (mixed.status_code, reasons(mixed)) == (202, [0x0122, 0xC000])
        assert len(mixed.json()[STORED]["Value"]) == 1
        none = await store(client, [ct, b""])
        assert (none.status_code, reasons(none)) == (409, [0x0122, 0xC000])
        other_study = await store(client, [instances[1]], study="1.2.3")
        assert (other_study.status_code, reasons(other_study)) == (409, [0xA900])
        same_study = await store(client, [instances[1]], study=parse_header(instances[1]).study)
        assert same_study.status_code == 200

    clinic.run(story)


def test_two_series_are_two_slides_each_with_its_accession_number(clinic, instances):
    def series_of(accession: str) -> bytes:
        uids = {"SeriesInstanceUID": generate_uid(), "SOPInstanceUID": generate_uid()}
        return altered(instances[0], AccessionNumber=accession, **uids)

    series = [series_of(accession) for accession in ("C26-1", "C26-2")]

    async def story(client, gateway):
        response = await store(client, series)
        assert "00081190" not in response.json()
        urls = [item["00081190"]["Value"][0] for item in response.json()[STORED]["Value"]]
        slides = [(await client.get(url)).json() for url in urls]
        assert [slide["accession"] for slide in slides] == ["C26-1", "C26-2"]
        [by_accession] = (await client.get("/v1/slides?accession=C26-2")).json()["slides"]
        assert by_accession["slide_id"] == slides[1]["slide_id"]
        taken = await client.post("/v1/slides", json=FORM | {"reference": slides[0]["slide_id"], "accession": "C26-9"})
        assert [note["code"] for note in taken.json()["notes"]] == ["accession_differs"]
        taken = await client.post("/v1/slides", json=FORM | {"reference": slides[1]["slide_id"], "accession": "C26-2"})
        assert taken.json()["notes"] == []

    clinic.run(story)


@pytest.mark.parametrize(("content_type", "status", "kind"), [
    ("application/dicom", 415, "unsupported_media_type"),
    ("multipart/form-data; boundary=XX", 415, "unsupported_media_type"),
    ('multipart/related; type="application/dicom+xml"; boundary=XX', 415, "unsupported_media_type"),
    ('multipart/related; type="application/dicom"', 400, "malformed_multipart"),
    (f'multipart/related; type="application/dicom"; boundary={"x" * 71}', 400, "malformed_multipart"),
    ("multipart/related; boundary=YY", 400, "malformed_multipart"),
])  # fmt: skip
def test_another_kind_of_request_is_refused(clinic, instances, content_type, status, kind):
    async def story(client, gateway):
        refused = await client.post(URL, content=body_of(instances[:1]), headers={"Content-Type": content_type})
        assert problem(refused) == (status, kind)
        assert (await client.get("/v1/slides")).json()["slides"] == []

    clinic.run(story)


@pytest.mark.parametrize(("content", "kind"), [
    (lambda instances: body_of(instances, "application/dicom+xml"), "unsupported_media_type"),
    (lambda instances: body_of(instances)[:-200], "malformed_multipart"),
    (lambda instances: b"", "malformed_multipart"),
    (lambda instances: b"--XX\r\n" + b"x" * 5_000 + b": y\r\n\r\n--XX--", "malformed_multipart"),
    (lambda instances: b"--XX\r\nContent-Type: application/dicom\r\n\r\nabc\r\n--XX!!", "malformed_multipart"),
])  # fmt: skip
def test_a_request_that_breaks_off_or_has_other_parts_stores_nothing(clinic, instances, content, kind):
    async def story(client, gateway):
        refused = await client.post(URL, content=content(instances), headers={"Content-Type": TYPE})
        assert problem(refused)[1] == kind
        assert (await client.get("/v1/slides")).json()["slides"] == []
        assert list(gateway.settings.paths.slides.glob(".incoming/*")) == []

    clinic.run(story)


def test_boundaries_and_headers_are_read_as_other_libraries_write_them(clinic, instances):
    boundary = "----=_Part_1(2)'3+4/5.6"
    parts = b"".join(
        f"--{boundary}\r\ncontent-location: /x\r\n"
        f"CONTENT-TYPE: application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50\r\n"
        f"Content-Length: {len(instance)}\r\n\r\n".encode()
        + instance
        + b"\r\n"
        for instance in instances
    )

    async def story(client, gateway):
        headers = {"Content-Type": f'Multipart/Related; TYPE="application/dicom"; Boundary="{boundary}"'}
        for before, behind in ((b"", b""), (b"\r\n", b"\r\n"), (b"", b"\r\nan epilogue")):
            content = before + parts + f"--{boundary}--".encode() + behind
            response = await client.post(URL, content=content, headers=headers)
            assert response.status_code == 200, response.text

    clinic.run(story)


def test_a_deflated_instance_is_refused_without_being_unpacked(instances):
    head = instances[0].replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1.99")
    with pytest.raises(DicomHeaderError, match="transfer syntax"):
        parse_header(head)


def test_the_settings_bound_a_request_and_a_series(made, tmp_path, instances):
    size = len(body_of(instances))
    limits = {"YUHENG_SLIDES_MAX_UPLOAD_BYTES": str(size + 1_000)}
    with Inside(settings_for(tmp_path / "bundles", made, tmp_path, **limits)) as running:

        async def story(client, gateway):
            assert problem(await store(client, [*instances, *instances])) == (413, "upload_too_large")

            async def chunks():
                yield body_of([*instances, *instances])

            unannounced = await client.post(URL, content=chunks(), headers={"Content-Type": TYPE})
            assert problem(unannounced) == (413, "upload_too_large")
            assert (await store(client, instances)).status_code == 200
            more = await store(client, [altered(instances[0], SOPInstanceUID=generate_uid())])
            assert (more.status_code, reasons(more)) == (409, [0xA700])

        running.run(story)


def test_requests_at_once_for_one_series_make_one_slide(clinic, instances):
    async def story(client, gateway):
        responses = await asyncio.gather(*(store(client, [instance]) for instance in instances * 2))
        assert {response.status_code for response in responses} == {200}
        assert len({slide_of(response) for response in responses}) == 1

    clinic.run(story)


def test_only_a_clinic_may_store(clinic, instances, bearer):
    async def story(client, gateway):
        refused = await store(client, instances[:1], **bearer)
        assert problem(refused) == (403, "not_allowed")

    clinic.run(story)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_header_of_any_damaged_instance_is_read_or_refused(instances, data):
    content = bytearray(instances[0][:3_000])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = parse_header(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except DicomHeaderError:
        return
    for uid in (header.sop_class, header.instance, header.study, header.series):
        assert 0 < len(uid) <= 64
        assert not set(uid) - set("0123456789.")
