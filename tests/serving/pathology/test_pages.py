"""A slide's pictures, and where its pages are, as the gateway gives them; a browser looks at them in tests/browser."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from serving.pathology.slides import store as slide_store
from tests.serving.pathology import fake_readings
from tests.serving.pathology.conftest import FORM, WAY


def read_slide(gateway) -> str:
    """A slide that was read, in the store and on the disk."""
    engine, slide = gateway.service.store.engine, fake_readings.SLIDE_ID
    folder = gateway.settings.paths.slides / slide
    (folder / "slide").mkdir(parents=True)
    (folder / "slide" / fake_readings.CMU.name).write_bytes(fake_readings.CMU.read_bytes())
    probability, attention = fake_readings.heat()
    np.savez(folder / "heat.npz", probability=probability, attention=attention)
    columns = FORM | {
        "request": FORM,
        "name": fake_readings.CMU.name,
        "sha256": fake_readings.READING["slide"]["sha256"],
    }
    slide_store.create(engine, slide, bytes=1, **columns)
    for state in WAY[: WAY.index("ready") + 1]:
        slide_store.transition(engine, slide, state, **({"reading": fake_readings.READING} if state == "ready" else {}))
    return slide


def test_a_read_slides_pictures_are_given_tile_by_tile_and_once(clinic):
    async def story(client, gateway):
        place = f"/v1/slides/{read_slide(gateway)}"
        for address, media_type in (
            ("image.dzi", "application/xml"),
            ("image_files/12/3_4.jpeg", "image/jpeg"),
            ("heatmap.dzi", "application/xml"),
            ("heatmap_files/12/3_4.png", "image/png"),
        ):
            found = await client.get(f"{place}/{address}")
            assert (found.status_code, found.headers["content-type"]) == (200, media_type), address
            assert found.headers["cache-control"].startswith("private")
            again = await client.get(f"{place}/{address}", headers={"If-None-Match": found.headers["etag"]})
            assert (again.status_code, again.content) == (304, b""), address
        for address in ("image_files/12/99_0.jpeg", "image_files/12/0_0.png", "image_files/x/0_0.jpeg"):
            assert (await client.get(f"{place}/{address}")).status_code == 404, address

    clinic.run(story)


def test_annotations_hold_the_tiles_from_the_threshold_that_was_asked_for(clinic):
    async def story(client, gateway):
        place = f"/v1/slides/{read_slide(gateway)}/annotations.geojson"
        few, many = [(await client.get(f"{place}?threshold={least}")).json() for least in ("0.9", "0.1")]
        assert len(READ := fake_readings.READING["evidence"]) < len(few["features"]) < len(many["features"])
        assert few["features"][0]["properties"]["name"].startswith(f"1 {READ[0]['code']}")
        refused = await client.get(f"{place}?threshold=most")
        assert refused.json()["errors"][0]["field"] == "threshold"

    clinic.run(story)


def test_a_slide_that_is_not_there_yet_says_which_state_is_needed(clinic):
    async def story(client, gateway):
        slide_store.create(gateway.service.store.engine, "1" * 32, **FORM, request=FORM, name="a.svs")
        for address in ("image.dzi", "heatmap.dzi", "annotations.geojson"):
            found = await client.get(f"/v1/slides/{'1' * 32}/{address}")
            assert found.status_code == 409
            assert found.json()["type"] == "/problems/slide_state"
            assert (await client.get(f"/v1/slides/{'2' * 32}/{address}")).status_code == 404

    clinic.run(story)


def test_what_cannot_be_decoded_is_refused_with_its_reason(clinic):
    async def story(client, gateway):
        slide = read_slide(gateway)
        (file,) = (gateway.settings.paths.slides / slide / "slide").iterdir()
        file.write_bytes(b"no slide")
        found = await client.get(f"/v1/slides/{slide}/image_files/12/0_0.jpeg")
        assert (found.status_code, found.json()["type"]) == (422, "/problems/slide_unreadable")

    clinic.run(story)


def test_a_signed_report_is_a_pdf_with_the_slides_own_pictures(slide_settings, bearer):
    pypdf = pytest.importorskip("pypdf")
    import io

    from tests.serving.conftest import Inside

    async def story(client, gateway):
        place = f"/v1/slides/{read_slide(gateway)}"
        draft = await client.get(f"{place}/report?format=pdf")
        assert "DRAFT" in pypdf.PdfReader(io.BytesIO(draft.content)).pages[0].extract_text()
        await client.post(f"{place}/review", headers=bearer)
        said = {"findings": "Coarse chromatin. 染色质粗。", "diagnosis": "HSIL"}
        signed = (await client.post(f"{place}/sign", headers=bearer, json=said)).json()
        found = await client.get(f"{place}/report?format=pdf")
        assert hashlib.sha256(found.content).hexdigest() == signed["pdf_sha256"]
        reader = pypdf.PdfReader(io.BytesIO(found.content))
        assert "SIGNED" in reader.pages[0].extract_text()
        assert sum(len(page.images) for page in reader.pages) == 2 + len(fake_readings.READING["evidence"])
        fhir = (await client.get(f"{place}/report?format=fhir")).json()
        assert fhir["presentedForm"][0]["size"] == len(found.content)

    with Inside(slide_settings) as running:
        running.run(story)


def test_nothing_is_signed_while_the_slides_file_is_away(slide_settings, bearer):
    from tests.serving.conftest import Inside

    async def story(client, gateway):
        slide = read_slide(gateway)
        for file in (Path(gateway.settings.paths.slides) / slide / "slide").iterdir():
            file.unlink()
        await client.post(f"/v1/slides/{slide}/review", headers=bearer)
        said = {"findings": "Coarse chromatin.", "diagnosis": "HSIL"}
        found = await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=said)
        assert (found.status_code, found.json()["type"]) == (503, "/problems/report_unavailable")
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"

    with Inside(slide_settings) as running:
        running.run(story)
