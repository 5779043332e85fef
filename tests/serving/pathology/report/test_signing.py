"""A pathologist reviews, signs and amends a report; every version is kept, and the AI's reading never changes."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from pypdf import PdfReader

from serving.pathology.report import signing
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import bearer_of
from tests.serving.pathology import fake_readings
from tests.serving.pathology.conftest import fake_pdf, problem, put_slide, sha256

REPORT = {"findings": "Scattered cells with large, dark nuclei.\n可见核大深染细胞。", "diagnosis": "HSIL"}


def test_a_report_is_reviewed_signed_and_amended_and_every_version_is_kept(clinic, bearer):
    async def story(client, gateway):
        slide = put_slide(gateway, "ready")
        path = f"/v1/slides/{slide}"
        reading = (await client.get(path)).json()["reading"]
        reviewed = await client.post(f"{path}/review", headers=bearer)
        assert reviewed.json() == {"slide_id": slide, "state": "in_review"}
        signed = (await client.post(f"{path}/sign", headers=bearer, json=REPORT)).json()
        assert (signed["version"], signed["amends"]) == (1, None)
        assert signed["signed_by"] == {"name": "Chen Lan 陈岚", "licence": "110330100001234"}
        assert {name: signed[name] for name in REPORT} == REPORT
        amendment = REPORT | {"diagnosis": "SCC", "reason": "The second look found invasion."}
        amended = (await client.post(f"{path}/amend", headers=bearer, json=amendment)).json()
        assert (amended["version"], amended["amends"], amended["reason"]) == (2, 1, amendment["reason"])
        detail = (await client.get(path)).json()
        assert detail["state"] == "amended"
        assert detail["reading"] == reading
        assert {name: amended[name] for name in reading} == reading
        assert [(report["version"], report["kind"]) for report in detail["reports"]] == [(1, "signed"), (2, "amended")]
        first = (await client.get(f"{path}/report?version=1")).json()
        assert first == {name: value for name, value in signed.items() if name != "pdf_sha256"}
        newest = await client.get(f"{path}/report")
        assert newest.json()["diagnosis"] == "SCC"
        assert newest.headers["report-version"] == "2"

    clinic.run(story)


def test_the_signed_pdf_is_served_only_while_it_is_unchanged(clinic, bearer):
    async def story(client, gateway):
        slide = put_slide(gateway, "in_review")
        signed = (await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=REPORT)).json()
        digest = signed.pop("pdf_sha256")
        [report] = slide_store.list_reports(gateway.service.store.engine, slide)
        assert (report["body"], report["sha256"]) == (signed, digest)
        folder = gateway.settings.paths.slides / slide / "reports"
        assert sorted(path.name for path in folder.iterdir()) == ["1.json", "1.pdf"]
        assert json.loads((folder / "1.json").read_bytes()) == signed
        response = await client.get(f"/v1/slides/{slide}/report", headers={"Accept": "application/pdf"})
        assert response.content == fake_pdf(signed)
        assert sha256(response.content) == digest
        (folder / "1.pdf").write_bytes(b"%PDF another")
        response = await client.get(f"/v1/slides/{slide}/report?format=pdf")
        assert problem(response) == (503, "report_unavailable")

    clinic.run(story)


def test_a_signed_report_is_a_real_pdf_and_a_fhir_report_that_refers_to_it(clinic, bearer):
    async def story(client, gateway):
        gateway.pathology.signing_routes.render = gateway.pathology.report_routes.render = signing.render_without_images
        slide = put_slide(gateway, "in_review", reading=fake_readings.READING)
        digest = (await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=REPORT)).json()["pdf_sha256"]
        response = await client.get(f"/v1/slides/{slide}/report", headers={"Accept": "application/pdf"})
        assert sha256(response.content) == digest
        words = "".join(page.extract_text() for page in PdfReader(io.BytesIO(response.content)).pages)
        assert "Chen Lan" in words
        assert "可见核大深染细胞" in words
        resource = (await client.get(f"/v1/slides/{slide}/report?format=fhir")).json()
        report = DiagnosticReport.model_validate(resource)
        assert report.status == "final"
        assert report.presentedForm[0].url == f"/v1/slides/{slide}/report?format=pdf&version=1"

    clinic.run(story)


def test_the_draft_is_the_reading_and_is_marked_as_a_draft(clinic):
    async def story(client, gateway):
        slide = put_slide(gateway, "ready")
        draft = await client.get(f"/v1/slides/{slide}/report")
        assert draft.headers["report-version"] == "draft"
        assert draft.json()["triage"] == "positive"
        assert (await client.get(f"/v1/slides/{slide}/report?format=pdf")).content == fake_pdf(draft.json())
        assert problem(await client.get(f"/v1/slides/{slide}/report?version=1")) == (404, "unknown_report")
        assert problem(await client.get(f"/v1/slides/{slide}/report?version=0&x=1")) == (422, "bad_parameter")
        accept = {"Accept": "image/png"}
        assert problem(await client.get(f"/v1/slides/{slide}/report", headers=accept)) == (406, "not_acceptable")
        unread = put_slide(gateway, "queued")
        assert problem(await client.get(f"/v1/slides/{unread}/report")) == (409, "slide_state")

    clinic.run(story)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("queued", "review"),
        ("queued", "sign"),
        ("ready", "sign"),
        ("ready", "amend"),
        ("in_review", "amend"),
        ("signed", "sign"),
        ("amended", "sign"),
    ],
)
def test_an_action_that_the_state_forbids_is_refused_without_a_trace(clinic, bearer, state, action):
    async def story(client, gateway):
        slide = put_slide(gateway, state)
        payload = REPORT | ({"reason": "because"} if action == "amend" else {})
        response = await client.post(f"/v1/slides/{slide}/{action}", headers=bearer, json=payload)
        assert problem(response) == (409, "slide_state")
        assert state in response.json()["detail"]
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == state
        assert not slide_store.list_reports(gateway.service.store.engine, slide)
        assert not (gateway.settings.paths.slides / slide).exists()

    clinic.run(story)


@pytest.mark.parametrize(
    ("action", "changes", "fields"),
    [
        ("sign", {"findings": "", "diagnosis": "x" * 501}, {"findings", "diagnosis"}),
        ("sign", {"findings": 5, "reason": "not here"}, {"findings", "reason"}),
        ("sign", {"triage": "negative"}, {"triage"}),
        ("sign", {"findings": "bell \x07"}, {"findings"}),
        ("amend", {}, {"reason"}),
        ("amend", {"reason": "   "}, {"reason"}),
    ],
)
def test_all_errors_of_a_report_are_reported_together(clinic, bearer, action, changes, fields):
    async def story(client, gateway):
        slide = put_slide(gateway, "in_review")
        response = await client.post(f"/v1/slides/{slide}/{action}", headers=bearer, json=REPORT | changes)
        assert problem(response) == (422, "invalid_request")
        assert {error["field"] for error in response.json()["errors"]} == fields

    clinic.run(story)


def test_a_signature_repeated_with_its_idempotency_key_is_one_report(clinic, bearer):
    async def story(client, gateway):
        slide = put_slide(gateway, "in_review")
        headers = bearer | {"Idempotency-Key": "k"}
        first = await client.post(f"/v1/slides/{slide}/sign", headers=headers, json=REPORT)
        again = await client.post(f"/v1/slides/{slide}/sign", headers=headers, json=REPORT)
        assert again.json() == first.json()
        assert again.headers["idempotent-replayed"] == "true"
        other = await client.post(f"/v1/slides/{slide}/sign", headers=headers, json=REPORT | {"diagnosis": "LSIL"})
        assert problem(other) == (409, "key_reused")

    clinic.run(story)


def test_only_one_of_two_simultaneous_signatures_succeeds(clinic, bearer):
    async def story(client, gateway):
        second = bearer_of(gateway.settings, "pathologist", name="Wu Bo", licence="110330100005678")
        slide = put_slide(gateway, "in_review")
        signers = (bearer, second)
        responses = await asyncio.gather(
            *(client.post(f"/v1/slides/{slide}/sign", headers=signer, json=REPORT) for signer in signers)
        )
        assert sorted(response.status_code for response in responses) == [200, 409]
        [report] = slide_store.list_reports(gateway.service.store.engine, slide)
        content = (gateway.settings.paths.slides / slide / "reports" / "1.pdf").read_bytes()
        assert sha256(content) == report["sha256"]

    clinic.run(story)


def test_a_report_that_cannot_be_rendered_or_written_is_not_signed(clinic, bearer):
    async def story(client, gateway):
        def broken(body):
            raise RuntimeError("no fonts")

        slide = put_slide(gateway, "in_review")
        gateway.pathology.signing_routes.render = broken
        response = await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=REPORT)
        assert problem(response) == (500, "internal")
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"
        gateway.settings.paths.slides.mkdir(exist_ok=True)
        (gateway.settings.paths.slides / slide).write_text("a file where the folder should be")
        gateway.pathology.signing_routes.render = fake_pdf
        response = await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=REPORT)
        assert problem(response) == (503, "report_unavailable")
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"

    clinic.run(story)
