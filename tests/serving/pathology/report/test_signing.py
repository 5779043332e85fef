"""A pathologist opens, signs and amends; what was signed stays, and what the machine said stays as it was."""

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
from tests.serving.pathology.conftest import pdf, put, sha256

SAID = {"findings": "Scattered cells with large, dark nuclei.\n可见核大深染细胞。", "diagnosis": "HSIL"}


def problem(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


def test_a_slide_is_opened_signed_and_amended_and_each_version_stays(clinic, bearer):
    async def story(client, gateway):
        slide = put(gateway, "ready")
        place = f"/v1/slides/{slide}"
        before = (await client.get(place)).json()["reading"]
        opened = await client.post(f"{place}/review", headers=bearer)
        assert opened.json() == {"slide_id": slide, "state": "in_review"}
        signed = (await client.post(f"{place}/sign", headers=bearer, json=SAID)).json()
        assert (signed["version"], signed["amends"]) == (1, None)
        assert signed["signed_by"] == {"name": "Chen Lan 陈岚", "licence": "110330100001234"}
        assert {name: signed[name] for name in SAID} == SAID
        change = SAID | {"diagnosis": "SCC", "reason": "The second look found invasion."}
        amended = (await client.post(f"{place}/amend", headers=bearer, json=change)).json()
        assert (amended["version"], amended["amends"], amended["reason"]) == (2, 1, change["reason"])
        told = (await client.get(place)).json()
        assert told["state"] == "amended"
        assert told["reading"] == before
        assert {name: amended[name] for name in before} == before
        assert [(report["version"], report["kind"]) for report in told["reports"]] == [(1, "signed"), (2, "amended")]
        first = (await client.get(f"{place}/report?version=1")).json()
        assert first == {name: value for name, value in signed.items() if name != "pdf_sha256"}
        newest = await client.get(f"{place}/report")
        assert newest.json()["diagnosis"] == "SCC"
        assert newest.headers["report-version"] == "2"

    clinic.run(story)


def test_the_pdf_that_was_signed_is_kept_and_given_only_as_it_was(clinic, bearer):
    async def story(client, gateway):
        slide = put(gateway, "in_review")
        signed = (await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=SAID)).json()
        digest = signed.pop("pdf_sha256")
        [report] = slide_store.list_reports(gateway.service.store.engine, slide)
        assert (report["body"], report["sha256"]) == (signed, digest)
        folder = gateway.settings.paths.slides / slide / "reports"
        assert sorted(path.name for path in folder.iterdir()) == ["1.json", "1.pdf"]
        assert json.loads((folder / "1.json").read_bytes()) == signed
        found = await client.get(f"/v1/slides/{slide}/report", headers={"Accept": "application/pdf"})
        assert found.content == pdf(signed)
        assert sha256(found.content) == digest
        (folder / "1.pdf").write_bytes(b"%PDF another")
        found = await client.get(f"/v1/slides/{slide}/report?format=pdf")
        assert problem(found) == (503, "report_unavailable")

    clinic.run(story)


def test_what_is_signed_is_a_real_pdf_and_a_fhir_report_that_names_it(clinic, bearer):
    async def story(client, gateway):
        gateway.pathology.signing_routes.render = gateway.pathology.report_routes.render = signing.render_without_images
        slide = put(gateway, "in_review", reading=fake_readings.READING)
        digest = (await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=SAID)).json()["pdf_sha256"]
        found = await client.get(f"/v1/slides/{slide}/report", headers={"Accept": "application/pdf"})
        assert sha256(found.content) == digest
        words = "".join(page.extract_text() for page in PdfReader(io.BytesIO(found.content)).pages)
        assert "Chen Lan" in words
        assert "可见核大深染细胞" in words
        told = (await client.get(f"/v1/slides/{slide}/report?format=fhir")).json()
        report = DiagnosticReport.model_validate(told)
        assert report.status == "final"
        assert report.presentedForm[0].url == f"/v1/slides/{slide}/report?format=pdf&version=1"

    clinic.run(story)


def test_a_draft_is_the_reading_and_says_that_it_is_one(clinic):
    async def story(client, gateway):
        slide = put(gateway, "ready")
        draft = await client.get(f"/v1/slides/{slide}/report")
        assert draft.headers["report-version"] == "draft"
        assert draft.json()["triage"] == "positive"
        assert (await client.get(f"/v1/slides/{slide}/report?format=pdf")).content == pdf(draft.json())
        assert problem(await client.get(f"/v1/slides/{slide}/report?version=1")) == (404, "unknown_report")
        assert problem(await client.get(f"/v1/slides/{slide}/report?version=0&x=1")) == (422, "bad_parameter")
        accept = {"Accept": "image/png"}
        assert problem(await client.get(f"/v1/slides/{slide}/report", headers=accept)) == (406, "not_acceptable")
        unread = put(gateway, "queued")
        assert problem(await client.get(f"/v1/slides/{unread}/report")) == (409, "slide_state")

    clinic.run(story)


@pytest.mark.parametrize(
    ("state", "act"),
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
def test_an_act_that_the_state_does_not_allow_is_refused_and_leaves_nothing(clinic, bearer, state, act):
    async def story(client, gateway):
        slide = put(gateway, state)
        said = SAID | ({"reason": "because"} if act == "amend" else {})
        found = await client.post(f"/v1/slides/{slide}/{act}", headers=bearer, json=said)
        assert problem(found) == (409, "slide_state")
        assert state in found.json()["detail"]
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == state
        assert not slide_store.list_reports(gateway.service.store.engine, slide)
        assert not (gateway.settings.paths.slides / slide).exists()

    clinic.run(story)


@pytest.mark.parametrize(
    ("act", "changed", "fields"),
    [
        ("sign", {"findings": "", "diagnosis": "x" * 501}, {"findings", "diagnosis"}),
        ("sign", {"findings": 5, "reason": "not here"}, {"findings", "reason"}),
        ("sign", {"triage": "negative"}, {"triage"}),
        ("sign", {"findings": "bell \x07"}, {"findings"}),
        ("amend", {}, {"reason"}),
        ("amend", {"reason": "   "}, {"reason"}),
    ],
)
def test_what_is_wrong_with_a_signature_is_told_together(clinic, bearer, act, changed, fields):
    async def story(client, gateway):
        slide = put(gateway, "in_review")
        found = await client.post(f"/v1/slides/{slide}/{act}", headers=bearer, json=SAID | changed)
        assert problem(found) == (422, "invalid_request")
        assert {error["field"] for error in found.json()["errors"]} == fields

    clinic.run(story)


def test_a_signature_sent_twice_with_its_key_is_one(clinic, bearer):
    async def story(client, gateway):
        slide = put(gateway, "in_review")
        headers = bearer | {"Idempotency-Key": "k"}
        first = await client.post(f"/v1/slides/{slide}/sign", headers=headers, json=SAID)
        again = await client.post(f"/v1/slides/{slide}/sign", headers=headers, json=SAID)
        assert again.json() == first.json()
        assert again.headers["idempotent-replayed"] == "true"
        other = await client.post(f"/v1/slides/{slide}/sign", headers=headers, json=SAID | {"diagnosis": "LSIL"})
        assert problem(other) == (409, "key_reused")

    clinic.run(story)


def test_of_two_who_sign_at_once_one_does(clinic, bearer):
    async def story(client, gateway):
        second = bearer_of(gateway.settings, "pathologist", name="Wu Bo", licence="110330100005678")
        slide = put(gateway, "in_review")
        both = (bearer, second)
        found = await asyncio.gather(*(client.post(f"/v1/slides/{slide}/sign", headers=who, json=SAID) for who in both))
        assert sorted(answer.status_code for answer in found) == [200, 409]
        [report] = slide_store.list_reports(gateway.service.store.engine, slide)
        content = (gateway.settings.paths.slides / slide / "reports" / "1.pdf").read_bytes()
        assert sha256(content) == report["sha256"]

    clinic.run(story)


def test_a_report_that_cannot_be_made_is_not_signed(clinic, bearer):
    async def story(client, gateway):
        def broken(body):
            raise RuntimeError("no fonts")

        slide = put(gateway, "in_review")
        gateway.pathology.signing_routes.render = broken
        found = await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=SAID)
        assert problem(found) == (500, "internal")
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"
        gateway.settings.paths.slides.mkdir(exist_ok=True)
        (gateway.settings.paths.slides / slide).write_text("a file where the folder should be")
        gateway.pathology.signing_routes.render = pdf
        found = await client.post(f"/v1/slides/{slide}/sign", headers=bearer, json=SAID)
        assert problem(found) == (503, "report_unavailable")
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"

    clinic.run(story)
