"""Export a report as a FHIR R4B DiagnosticReport with its observations, specimen and device contained in it.

build_diagnostic_report(body, pdf, url)      # status preliminary for a draft, final once signed, amended afterwards

The resource names no patient: the laboratory's system knows by the accession number whose slide it is. LOINC and
SNOMED CT codes are used where they have the same meaning; everything else has codes of our own under LOCAL_SYSTEM.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from serving.pathology.labels import (
    INTENDED_USE_LIMITS,
    PATIENT_RISK_NOTE,
    SIMULATED_NOTICE,
    SPECIMEN_LABELS,
    TRIAGE_LABELS,
    BilingualLabel,
    ReportBody,
    diagnosis_label,
    label_for,
    report_status,
)
from serving.pathology.slides.focus import planes_text

LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
LOCAL_SYSTEM = "urn:yuheng:pathology"
SHA256_EXTENSION = "urn:yuheng:sha256"  # extension with a file's SHA-256; FHIR's own `hash` is SHA-1
FHIR_STATUS = {"draft": "preliminary", "signed": "final", "amended": "amended"}

REPORT_CODES = {  # LOINC, by specimen
    "cervical_cytology": ("47528-5", "Cytology report of Cervical or vaginal smear or scraping Cyto stain"),
    "breast_histology": ("11526-1", "Pathology study"),
    "lymph_node": ("11526-1", "Pathology study"),
}
CONCLUSION_CODES = {  # SNOMED CT findings on a cervical smear
    "NILM": ("373887005", "Negative for intraepithelial lesion or malignancy (finding)"),
    "ASC-US": (
        "441087007",
        "Atypical squamous cells of undetermined significance on cervical Papanicolaou smear (finding)",
    ),
    "LSIL": ("62051000119105", "Low grade squamous intraepithelial lesion on cervical Papanicolaou smear (finding)"),
    "ASC-H": (
        "441088002",
        "Atypical squamous cells on cervical Papanicolaou smear cannot exclude high grade squamous intraepithelial "
        "lesion (finding)",
    ),
    "HSIL": ("62061000119107", "High grade squamous intraepithelial lesion on cervical Papanicolaou smear (finding)"),
    "AGC": ("441219009", "Atypical glandular cells on cervical Papanicolaou smear (finding)"),
    "UNSATISFACTORY": ("125154007", "Specimen unsatisfactory for evaluation (finding)"),
}
ADEQUACY_CODES = {
    True: ("125152006", "Specimen satisfactory for evaluation (finding)"),
    False: CONCLUSION_CODES["UNSATISFACTORY"],
}

Resource = dict[str, Any]


def build_diagnostic_report(body: ReportBody, pdf: bytes | None = None, url: str = "") -> Resource:
    """The resource as a JSON object. `pdf`: the file served at `url`, which is referred to by size and digest and not
    embedded."""
    status = report_status(body)
    code = REPORT_CODES.get(body["specimen"])
    optional_observations = [_triage(body), _classes(body), _adequacy(body), _patient_risk(body)]
    observations = [observation for observation in optional_observations if observation is not None]
    contained = [_specimen(body), _device(body), *observations]
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "id": body["slide_id"],
        "identifier": [{"system": f"{LOCAL_SYSTEM}:slide", "value": body["slide_id"]}],
        "status": FHIR_STATUS[status],
        "category": [_codeable_concept("http://terminology.hl7.org/CodeSystem/v2-0074", *_category(body))],
        "code": _codeable_concept(LOINC, *code) if code else {"text": label_for(SPECIMEN_LABELS, body["specimen"]).en},
        "effectiveDateTime": body["created"],
        "issued": body["signed_at"] if status != "draft" else body["created"],
        "specimen": [{"reference": "#specimen"}],
        "result": [{"reference": f"#{observation['id']}"} for observation in observations],
        "conclusion": _conclusion(body),
    }
    if status == "draft":
        resource["contained"] = contained
    else:
        resource["contained"] = [*contained, _pathologist(body)]
        resource["resultsInterpreter"] = [{"reference": "#pathologist"}]
        resource["meta"] = {"versionId": str(body["version"])}
    if body["simulated"]:
        security_label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
        resource.setdefault("meta", {})["security"] = [{**security_label, "display": "test health data"}]
    if (conclusion_code := CONCLUSION_CODES.get(str(body.get("diagnosis")))) and status != "draft":
        resource["conclusionCode"] = [_codeable_concept(SNOMED, *conclusion_code)]
    if pdf is not None:
        resource["presentedForm"] = [_attachment(body, pdf, url)]
    return resource


def _category(body: ReportBody) -> tuple[str, str]:
    return ("CP", "Cytopathology") if body["specimen"] == "cervical_cytology" else ("SP", "Surgical Pathology")


def _codeable_concept(system: str, code: str, display: str, text: str = "") -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": text or display}


def _local_concept(code: str, label: BilingualLabel) -> Resource:
    return _codeable_concept(LOCAL_SYSTEM, code, label.en, f"{label.en} {label.zh}")


def _conclusion(body: ReportBody) -> str:
    """The pathologist's diagnosis and findings; a draft says that it is one."""
    lines = [SIMULATED_NOTICE.en, SIMULATED_NOTICE.zh] if body["simulated"] else []
    diagnosis = diagnosis_label(body)
    if diagnosis is None:
        triage = label_for(TRIAGE_LABELS, body["triage"])
        lines += [f"Machine draft, not signed. AI triage: {triage.en}. 机器草稿，未签发。AI 分流：{triage.zh}。"]
        lines += [f"{reason['en']} {reason['zh']}" for reason in body["abstained"]]
    else:
        lines += [diagnosis.en] if diagnosis.en == diagnosis.zh else [diagnosis.en, diagnosis.zh]
        lines += [str(body["findings"])] if body.get("findings") else []
        lines += [f"Amended: {body['reason']}"] if body.get("amends") and body.get("reason") else []
    return "\n".join(_fhir_string(line) for line in lines)


def _fhir_string(value: object) -> str:
    """FHIR strings must not hold control characters other than tab and line breaks."""
    return (
        "".join(character for character in str(value) if character.isprintable() or character in "\t\n\r").strip()
        or "-"
    )


def _specimen(body: ReportBody) -> Resource:
    slide = body["slide"]
    label = label_for(SPECIMEN_LABELS, body["specimen"])
    mpp = " x ".join(f"{value:g}" for value in slide["mpp"]) if slide["mpp"] else "unknown"
    return {
        "resourceType": "Specimen",
        "id": "specimen",
        "accessionIdentifier": {"system": f"{LOCAL_SYSTEM}:accession", "value": _fhir_string(body["accession"])},
        "type": _local_concept(str(body["specimen"]), label),
        "note": [
            {
                "text": f"Slide file {slide['format']}, {slide['width']} x {slide['height']} pixels, {mpp} um per "
                f"pixel ({slide['mpp_from'] or 'unknown'}), SHA-256 {slide['sha256']}."
            },
            *([{"text": f"Read: {planes[0]}. 判读：{planes[1]}。"}] if (planes := planes_text(slide)) else []),
        ],
    }


def _device(body: ReportBody) -> Resource:
    model = body["model"]
    versions = (
        ("model", "Model version", model["version"]),
        ("weights", "SHA-256 of the signed bundle with its weights", model["bundle"]),
        ("policy", "Policy version", body["policy_version"]),
        ("config", "SHA-256 of the configuration", body["config_sha256"]),
    )
    return {
        "resourceType": "Device",
        "id": "model",
        "deviceName": [{"name": _fhir_string(model["name"]), "type": "model-name"}],
        "type": {"text": "AI model that assists the reading of slides"},
        "version": [
            {"type": _codeable_concept(LOCAL_SYSTEM, code, name), "value": _fhir_string(value)}
            for code, name, value in versions
        ],
        "note": [{"text": f"{INTENDED_USE_LIMITS.en} {INTENDED_USE_LIMITS.zh}"}],
    }


def _pathologist(body: ReportBody) -> Resource:
    signer = body["signed_by"]
    return {
        "resourceType": "Practitioner",
        "id": "pathologist",
        "identifier": [{"system": f"{LOCAL_SYSTEM}:licence", "value": _fhir_string(signer["licence"])}],
        "name": [{"text": _fhir_string(signer["name"])}],
    }


def _observation(body: ReportBody, name: str, code: Resource) -> Resource:
    """A machine's observation is preliminary until a pathologist signs."""
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary" if report_status(body) == "draft" else "final",
        "code": code,
        "specimen": {"reference": "#specimen"},
        "device": {"reference": "#model"},
        "effectiveDateTime": body["created"],
    }


def _triage(body: ReportBody) -> Resource:
    resource = _observation(
        body, "triage", _local_concept("triage", BilingualLabel("AI triage of the slide", "AI 切片分流"))
    )
    resource["valueCodeableConcept"] = _local_concept(str(body["triage"]), label_for(TRIAGE_LABELS, body["triage"]))
    claim = body["claim"]
    resource["note"] = [
        {"text": f"{claim['en']} {claim['zh']}"},
        *({"text": reason["en"]} for reason in body["abstained"]),
    ]
    components = [("threshold", BilingualLabel("Operating point", "工作点"), body["threshold"])]
    if body["probability"] is not None:
        components.insert(
            0, ("probability", BilingualLabel("Calibrated probability of abnormality", "异常概率"), body["probability"])
        )
    resource["component"] = [
        {"code": _local_concept(name, label), "valueQuantity": _ratio(value)} for name, label, value in components
    ]
    return resource


def _classes(body: ReportBody) -> Resource | None:
    if not body["classes"]:
        return None
    resource = _observation(
        body, "classes", _local_concept("class_probabilities", BilingualLabel("Class probabilities", "分类概率"))
    )
    resource["component"] = [
        {
            "code": _local_concept(item["code"], BilingualLabel(item["en"], item["zh"])),
            "valueQuantity": _ratio(item["probability"]),
        }
        for item in body["classes"]
    ]
    return resource


def _adequacy(body: ReportBody) -> Resource | None:
    adequacy = body["adequacy"]
    if adequacy["adequate"] is None:
        return None
    name = "Statement of adequacy [Interpretation] of Cervical or vaginal smear or scraping by Cyto stain"
    is_cytology = body["specimen"] == "cervical_cytology"
    code = (
        _codeable_concept(LOINC, "19764-0", name)
        if is_cytology
        else _local_concept("adequacy", BilingualLabel("Adequacy", "标本满意度"))
    )
    resource = _observation(body, "adequacy", code)
    resource["valueCodeableConcept"] = _codeable_concept(SNOMED, *ADEQUACY_CODES[adequacy["adequate"]])
    resource["note"] = [{"text": f"{adequacy['tiles']} usable tiles; at least {adequacy['needed']} are required."}]
    return resource


def _patient_risk(body: ReportBody) -> Resource | None:
    risk = body["patient"]
    if risk is None:
        return None
    resource = _observation(
        body, "patient-risk", _local_concept("patient_risk", BilingualLabel("Patient-level risk", "患者层面风险"))
    )
    del resource["device"]  # the image model had no part in it
    resource["valueInteger"] = risk["points"]
    resource["interpretation"] = [_local_concept(risk["level"], BilingualLabel(f"Priority: {risk['level']}", "优先级"))]
    resource["note"] = [
        {"text": f"{PATIENT_RISK_NOTE.en} {PATIENT_RISK_NOTE.zh}"},
        *({"text": f"{reason['en']} {reason['zh']}"} for reason in risk["reasons"]),
    ]
    return resource


def _ratio(value: float) -> Resource:
    return {"value": round(float(value), 6), "unit": "1", "system": UCUM, "code": "1"}


def _attachment(body: ReportBody, pdf: bytes, url: str) -> Resource:
    sha1 = hashlib.sha1(pdf, usedforsecurity=False).digest()  # FHIR R4B requires SHA-1
    attachment = {
        "contentType": "application/pdf",
        "size": len(pdf),
        "hash": base64.b64encode(sha1).decode(),
        "title": "Pathology reading report 病理判读报告",
        "creation": body.get("signed_at") or body["created"],
        "extension": [{"url": SHA256_EXTENSION, "valueString": hashlib.sha256(pdf).hexdigest()}],
    }
    return {**attachment, "url": url} if url else attachment
