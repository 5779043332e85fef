from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from fhir.resources.R4B.device import Device
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.practitioner import Practitioner
from fhir.resources.R4B.specimen import Specimen

from serving.pathology.report.fhir import SHA256_EXTENSION, build_diagnostic_report
from tests.serving.pathology.fake_readings import ABSTAINED, AMENDED, READING, SIGNED

KINDS = {each.__name__: each for each in (Device, Observation, Practitioner, Specimen)}


def checked(body: dict[str, Any], *more: Any) -> dict[str, Any]:
    """As it is told, after FHIR's own models took it and all that it contains."""
    told = build_diagnostic_report(body, *more)
    DiagnosticReport.model_validate(told)
    for each in told["contained"]:
        KINDS[each["resourceType"]].model_validate(each)
    ids = {each["id"] for each in told["contained"]}
    assert {reference.removeprefix("#") for reference in _references(told)} <= ids
    return told


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["reference"]] if isinstance(part.get("reference"), str) else []
        return own + [found for each in part.values() for found in _references(each)]
    return [found for each in part for found in _references(each)] if isinstance(part, list) else []


def contained(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in told["contained"] if each["id"] == name)


@pytest.mark.parametrize(
    ("body", "status"), [(READING, "preliminary"), (SIGNED, "final"), (AMENDED, "amended"), (ABSTAINED, "preliminary")]
)
def test_a_report_is_preliminary_until_it_is_signed(body, status):
    told = checked(body)
    assert told["status"] == status
    assert ("resultsInterpreter" in told) == (status != "preliminary")
    assert ("conclusionCode" in told) == (status != "preliminary")


def test_a_draft_concludes_nothing_but_what_the_machine_says():
    told = checked({**READING, "diagnosis": "SCC"})
    assert "Machine draft, not signed" in told["conclusion"]
    assert "conclusionCode" not in told


def test_a_signed_report_is_coded_and_names_who_signed_it():
    told = checked(SIGNED)
    assert told["code"]["coding"][0] | {"display": ""} == {
        "system": "http://loinc.org",
        "code": "47528-5",
        "display": "",
    }
    assert told["conclusionCode"][0]["coding"][0]["code"] == "62061000119107"
    assert contained(told, "pathologist")["identifier"][0]["value"] == "110330200012345"
    assert "高级别鳞状上皮内病变" in told["conclusion"]


def test_the_model_its_weights_and_the_settings_are_named():
    versions = {
        each["type"]["coding"][0]["code"]: each["value"] for each in contained(checked(SIGNED), "model")["version"]
    }
    assert versions == {
        "model": READING["model"]["version"],
        "weights": READING["model"]["bundle"],
        "policy": READING["policy_version"],
        "config": READING["config_sha256"],
    }


def test_the_patients_risk_is_an_observation_apart_that_the_image_has_no_part_in():
    risk = contained(checked(SIGNED), "patient-risk")
    assert "device" not in risk
    assert "never lowers the image result" in risk["note"][0]["text"]


def test_simulated_readings_are_labelled_as_test_data():
    assert checked(SIGNED)["meta"]["security"][0]["code"] == "HTEST"
    assert "security" not in checked({**SIGNED, "simulated": False})["meta"]


def test_the_pdf_is_told_by_its_digests():
    form = checked(SIGNED, b"%PDF-1.4", "/v1/slides/x/report?format=pdf")["presentedForm"][0]
    assert base64.b64decode(form["hash"]) == hashlib.sha1(b"%PDF-1.4").digest()
    assert form["extension"] == [{"url": SHA256_EXTENSION, "valueString": hashlib.sha256(b"%PDF-1.4").hexdigest()}]
    assert form["size"] == 8


def test_free_text_and_unknown_facts_still_validate():
    body = {**AMENDED, "diagnosis": "\x00free <b>text</b>", "findings": "", "reason": "\x07"}
    body |= {"classes": [], "probability": None, "specimen": "breast_histology"}
    body["slide"] = {**READING["slide"], "mpp": None, "mpp_from": ""}
    told = checked(body)
    assert "conclusionCode" not in told
    assert "free <b>text</b>" in told["conclusion"]
