"""The report as a FHIR R4B DiagnosticReport, with what it rests on contained in it.

report(body, pdf, url)      # JSON; preliminary while it is a draft, final when signed, amended afterwards

It names no patient: a laboratory's system knows by the accession number whose slide it is. LOINC and SNOMED CT codes
stand where these systems have one that says the same; the rest has our own codes under CODES.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from serving.pathology.labels import APART, NOT_FOR, SIMULATED, SPECIMENS, TRIAGE, Body, Words, diagnosis, named, status

LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
CODES = "urn:yuheng:pathology"
SHA256 = "urn:yuheng:sha256"  # extension: the digest of a file; FHIR's own `hash` is SHA-1
STATUS = {"draft": "preliminary", "signed": "final", "amended": "amended"}

REPORTS = {  # LOINC, by specimen
    "cervical_cytology": ("47528-5", "Cytology report of Cervical or vaginal smear or scraping Cyto stain"),
    "breast_histology": ("11526-1", "Pathology study"),
    "lymph_node": ("11526-1", "Pathology study"),
}
CONCLUSIONS = {  # SNOMED CT findings on a cervical smear
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
ADEQUATE = {
    True: ("125152006", "Specimen satisfactory for evaluation (finding)"),
    False: CONCLUSIONS["UNSATISFACTORY"],
}

Resource = dict[str, Any]


def report(body: Body, pdf: bytes | None = None, url: str = "") -> Resource:
    """`pdf`: the bytes that `url` gives, told by size and digest; they are not copied into the resource."""
    kind = status(body)
    code = REPORTS.get(body["specimen"])
    results = [_triage(body), _classes(body), _adequacy(body), _patient(body)]
    observations = [one for one in results if one is not None]
    contained = [_specimen(body), _device(body), *observations]
    told: Resource = {
        "resourceType": "DiagnosticReport",
        "id": body["slide_id"],
        "identifier": [{"system": f"{CODES}:slide", "value": body["slide_id"]}],
        "status": STATUS[kind],
        "category": [_concept("http://terminology.hl7.org/CodeSystem/v2-0074", *_category(body))],
        "code": _concept(LOINC, *code) if code else {"text": named(SPECIMENS, body["specimen"]).en},
        "effectiveDateTime": body["created"],
        "issued": body["signed_at"] if kind != "draft" else body["created"],
        "specimen": [{"reference": "#specimen"}],
        "result": [{"reference": f"#{one['id']}"} for one in observations],
        "conclusion": _conclusion(body),
    }
    if kind == "draft":
        told["contained"] = contained
    else:
        told["contained"] = [*contained, _pathologist(body)]
        told["resultsInterpreter"] = [{"reference": "#pathologist"}]
        told["meta"] = {"versionId": str(body["version"])}
    if body["simulated"]:
        label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
        told.setdefault("meta", {})["security"] = [{**label, "display": "test health data"}]
    if (found := CONCLUSIONS.get(str(body.get("diagnosis")))) and kind != "draft":
        told["conclusionCode"] = [_concept(SNOMED, *found)]
    if pdf is not None:
        told["presentedForm"] = [_form(body, pdf, url)]
    return told


def _category(body: Body) -> tuple[str, str]:
    return ("CP", "Cytopathology") if body["specimen"] == "cervical_cytology" else ("SP", "Surgical Pathology")


def _concept(system: str, code: str, display: str, text: str = "") -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": text or display}


def _own(code: str, words: Words) -> Resource:
    return _concept(CODES, code, words.en, f"{words.en} {words.zh}")


def _conclusion(body: Body) -> str:
    """The pathologist's words where there are some; a draft says that it is one."""
    lines = [SIMULATED.en, SIMULATED.zh] if body["simulated"] else []
    found = diagnosis(body)
    if found is None:
        triage = named(TRIAGE, body["triage"])
        lines += [f"Machine draft, not signed. AI triage: {triage.en}. 机器草稿，未签发。AI 分流：{triage.zh}。"]
        lines += [f"{why['en']} {why['zh']}" for why in body["abstained"]]
    else:
        lines += [found.en] if found.en == found.zh else [found.en, found.zh]
        lines += [str(body["findings"])] if body.get("findings") else []
        lines += [f"Amended: {body['reason']}"] if body.get("amends") and body.get("reason") else []
    return "\n".join(_text(line) for line in lines)


def _text(told: object) -> str:
    """FHIR's strings hold no control characters but tab and line breaks."""
    return "".join(letter for letter in str(told) if letter.isprintable() or letter in "\t\n\r").strip() or "-"


def _specimen(body: Body) -> Resource:
    slide = body["slide"]
    words = named(SPECIMENS, body["specimen"])
    scale = " x ".join(f"{value:g}" for value in slide["mpp"]) if slide["mpp"] else "unknown"
    return {
        "resourceType": "Specimen",
        "id": "specimen",
        "accessionIdentifier": {"system": f"{CODES}:accession", "value": _text(body["accession"])},
        "type": _own(str(body["specimen"]), words),
        "note": [
            {
                "text": f"Slide file {slide['format']}, {slide['width']} x {slide['height']} pixels, {scale} um a "
                f"pixel ({slide['mpp_from'] or 'unknown'}), SHA-256 {slide['sha256']}."
            }
        ],
    }


def _device(body: Body) -> Resource:
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
        "deviceName": [{"name": _text(model["name"]), "type": "model-name"}],
        "type": {"text": "AI model that assists the reading of slides"},
        "version": [{"type": _concept(CODES, code, name), "value": _text(value)} for code, name, value in versions],
        "note": [{"text": f"{NOT_FOR.en} {NOT_FOR.zh}"}],
    }


def _pathologist(body: Body) -> Resource:
    signer = body["signed_by"]
    return {
        "resourceType": "Practitioner",
        "id": "pathologist",
        "identifier": [{"system": f"{CODES}:licence", "value": _text(signer["licence"])}],
        "name": [{"text": _text(signer["name"])}],
    }


def _observation(body: Body, name: str, code: Resource) -> Resource:
    """What a machine found is not final before a pathologist signed."""
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary" if status(body) == "draft" else "final",
        "code": code,
        "specimen": {"reference": "#specimen"},
        "device": {"reference": "#model"},
        "effectiveDateTime": body["created"],
    }


def _triage(body: Body) -> Resource:
    told = _observation(body, "triage", _own("triage", Words("AI triage of the slide", "AI 切片分流")))
    told["valueCodeableConcept"] = _own(str(body["triage"]), named(TRIAGE, body["triage"]))
    claim = body["claim"]
    told["note"] = [{"text": f"{claim['en']} {claim['zh']}"}, *({"text": why["en"]} for why in body["abstained"])]
    parts = [("threshold", Words("Operating point", "工作点"), body["threshold"])]
    if body["probability"] is not None:
        parts.insert(
            0, ("probability", Words("Calibrated probability of abnormality", "异常概率"), body["probability"])
        )
    told["component"] = [{"code": _own(name, words), "valueQuantity": _share(value)} for name, words, value in parts]
    return told


def _classes(body: Body) -> Resource | None:
    if not body["classes"]:
        return None
    told = _observation(body, "classes", _own("class_probabilities", Words("Class probabilities", "分类概率")))
    told["component"] = [
        {"code": _own(one["code"], Words(one["en"], one["zh"])), "valueQuantity": _share(one["probability"])}
        for one in body["classes"]
    ]
    return told


def _adequacy(body: Body) -> Resource:
    adequacy = body["adequacy"]
    name = "Statement of adequacy [Interpretation] of Cervical or vaginal smear or scraping by Cyto stain"
    cytology = body["specimen"] == "cervical_cytology"
    code = _concept(LOINC, "19764-0", name) if cytology else _own("adequacy", Words("Adequacy", "标本满意度"))
    told = _observation(body, "adequacy", code)
    told["valueCodeableConcept"] = _concept(SNOMED, *ADEQUATE[bool(adequacy["adequate"])])
    told["note"] = [{"text": f"{adequacy['tiles']} fit tiles; {adequacy['needed']} are needed."}]
    return told


def _patient(body: Body) -> Resource | None:
    risk = body["patient"]
    if risk is None:
        return None
    told = _observation(body, "patient-risk", _own("patient_risk", Words("Patient-level risk", "患者层面风险")))
    del told["device"]  # the image had no part in it
    told["valueInteger"] = risk["points"]
    told["interpretation"] = [_own(risk["level"], Words(f"Priority: {risk['level']}", "优先级"))]
    told["note"] = [
        {"text": f"{APART.en} {APART.zh}"},
        *({"text": f"{why['en']} {why['zh']}"} for why in risk["reasons"]),
    ]
    return told


def _share(value: float) -> Resource:
    return {"value": round(float(value), 6), "unit": "1", "system": UCUM, "code": "1"}


def _form(body: Body, pdf: bytes, url: str) -> Resource:
    sha1 = hashlib.sha1(pdf, usedforsecurity=False).digest()  # FHIR R4B asks for this one
    form = {
        "contentType": "application/pdf",
        "size": len(pdf),
        "hash": base64.b64encode(sha1).decode(),
        "title": "Pathology reading report 病理判读报告",
        "creation": body.get("signed_at") or body["created"],
        "extension": [{"url": SHA256, "valueString": hashlib.sha256(pdf).hexdigest()}],
    }
    return {**form, "url": url} if url else form
