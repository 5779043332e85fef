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


def build_validated(body: dict[str, Any], *args: Any) -> dict[str, Any]:
    """The report, after FHIR's own models have accepted it and everything that it contains."""
    resource = build_diagnostic_report(body, *args)
    DiagnosticReport.model_validate(resource)
    for child in resource["contained"]:
        KINDS[child["resourceType"]].model_validate(child)
    ids = {child["id"] for child in resource["contained"]}
    assert {reference.removeprefix("#") for reference in _references(resource)} <= ids
    return resource


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["reference"]] if isinstance(node.get("reference"), str) else []
        return own + [reference for child in node.values() for reference in _references(child)]
    return [reference for child in node for reference in _references(child)] if isinstance(node, list) else []


def find_contained(resource: dict[str, Any], name: str) -> dict[str, Any]:
    return next(child for child in resource["contained"] if child["id"] == name)


@pytest.mark.parametrize(
    ("body", "status"), [(READING, "preliminary"), (SIGNED, "final"), (AMENDED, "amended"), (ABSTAINED, "preliminary")]
)
def test_a_report_is_preliminary_until_it_is_signed(body, status):
    resource = build_validated(body)
    assert resource["status"] == status
    assert ("resultsInterpreter" in resource) == (status != "preliminary")
    assert ("conclusionCode" in resource) == (status != "preliminary")


def test_a_slide_unlike_the_training_data_has_no_observation_of_classes_or_adequacy():
    def codes(body: dict[str, Any]) -> set[str]:
        return {child["id"] for child in build_validated(body)["contained"] if child["resourceType"] == "Observation"}

    assert codes(READING) >= {"classes", "adequacy"}
    assert not codes(ABSTAINED) & {"classes", "adequacy"}


def test_a_draft_has_no_coded_conclusion():
    resource = build_validated({**READING, "diagnosis": "SCC"})
    assert "Machine draft, not signed" in resource["conclusion"]
    assert "conclusionCode" not in resource


def test_a_signed_report_is_coded_and_names_its_signer():
    resource = build_validated(SIGNED)
    assert resource["code"]["coding"][0] | {"display": ""} == {
        "system": "http://loinc.org",
        "code": "47528-5",
        "display": "",
    }
    assert resource["conclusionCode"][0]["coding"][0]["code"] == "62061000119107"
    assert find_contained(resource, "pathologist")["identifier"][0]["value"] == "110330200012345"
    assert "高级别鳞状上皮内病变" in resource["conclusion"]


def test_the_specimen_says_which_focal_planes_were_read():
    stack = {"planes": 5, "plane_spacing": 1.0, "plane": None}
    for plane, words in ((None, "each tile in the sharpest"), (2, "focal plane 2 of 5, 1 µm apart")):
        resource = build_diagnostic_report({**READING, "slide": READING["slide"] | stack | {"plane": plane}})
        assert words in find_contained(resource, "specimen")["note"][1]["text"]
    assert len(find_contained(build_diagnostic_report(READING), "specimen")["note"]) == 1


def test_the_device_names_the_model_its_weights_policy_and_configuration():
    versions = {
        version["type"]["coding"][0]["code"]: version["value"]
        for version in find_contained(build_validated(SIGNED), "model")["version"]
    }
    assert versions == {
        "model": READING["model"]["version"],
        "weights": READING["model"]["bundle"],
        "policy": READING["policy_version"],
        "config": READING["config_sha256"],
    }


def test_the_patient_level_risk_is_an_observation_without_the_device():
    risk = find_contained(build_validated(SIGNED), "patient-risk")
    assert "device" not in risk
    assert "never lowers the image result" in risk["note"][0]["text"]


def test_simulated_readings_are_labelled_as_test_data():
    assert build_validated(SIGNED)["meta"]["security"][0]["code"] == "HTEST"
    assert "security" not in build_validated({**SIGNED, "simulated": False})["meta"]


def test_the_pdf_is_referred_to_by_its_digests():
    form = build_validated(SIGNED, b"%PDF-1.4", "/v1/slides/x/report?format=pdf")["presentedForm"][0]
    assert base64.b64decode(form["hash"]) == hashlib.sha1(b"%PDF-1.4").digest()
    assert form["extension"] == [{"url": SHA256_EXTENSION, "valueString": hashlib.sha256(b"%PDF-1.4").hexdigest()}]
    assert form["size"] == 8


def test_free_text_and_missing_values_still_validate():
    body = {**AMENDED, "diagnosis": "\x00free <b>text</b>", "findings": "", "reason": "\x07"}
    body |= {"classes": [], "probability": None, "specimen": "breast_histology"}
    body["slide"] = {**READING["slide"], "mpp": None, "mpp_from": ""}
    resource = build_validated(body)
    assert "conclusionCode" not in resource
    assert "free <b>text</b>" in resource["conclusion"]
