"""Signed reports contain images of the slide."""

from __future__ import annotations

import hashlib
import io

import pypdf

from serving.pathology.slides import store as slide_store
from tests.serving.conftest import Inside
from tests.serving.pathology import fake_readings
from tests.serving.pathology.conftest import problem, put_read_slide


def test_a_signed_pdf_contains_overview_heatmap_and_evidence_tiles(slide_settings, bearer):
    async def story(client, gateway):
        path = f"/v1/slides/{put_read_slide(gateway)}"
        draft = await client.get(f"{path}/report?format=pdf")
        assert "DRAFT" in pypdf.PdfReader(io.BytesIO(draft.content)).pages[0].extract_text()
        await client.post(f"{path}/review", headers=bearer)
        payload = {"findings": "Coarse chromatin. 染色质粗。", "diagnosis": "HSIL"}
        signed = (await client.post(f"{path}/sign", headers=bearer, json=payload)).json()
        response = await client.get(f"{path}/report?format=pdf")
        assert hashlib.sha256(response.content).hexdigest() == signed["pdf_sha256"]
        reader = pypdf.PdfReader(io.BytesIO(response.content))
        assert "SIGNED" in reader.pages[0].extract_text()
        assert sum(len(page.images) for page in reader.pages) == 2 + len(fake_readings.READING["evidence"])
        fhir = (await client.get(f"{path}/report?format=fhir")).json()
        assert fhir["presentedForm"][0]["size"] == len(response.content)

    with Inside(slide_settings) as running:
        running.run(story)


def test_no_report_is_signed_while_the_slides_file_is_missing(slide_settings, bearer):
    async def story(client, gateway):
        slide = put_read_slide(gateway)
        for file in (gateway.settings.paths.slides / slide / "slide").iterdir():
            file.unlink()
        await client.post(f"/v1/slides/{slide}/review", headers=bearer)
        payload = {"findings": "Coarse chromatin.", "diagnosis": "HSIL"}
        response = await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=payload)
        assert problem(response) == (503, "report_unavailable")
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"

    with Inside(slide_settings) as running:
        running.run(story)
