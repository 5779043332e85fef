"""STOW-RS in GET /openapi.json."""

from __future__ import annotations

from serving.core.http.schema import STORE_PROBLEMS, Schema, operation, path_param
from serving.pathology.dicomweb import multipart, store_response

PROBLEMS = ("unsupported_media_type", "malformed_multipart", "upload_too_large", "slow_request", "no_space",
        "quota_used", *STORE_PROBLEMS)  # fmt: skip
STOW_PROBLEMS = {f"POST /v1/dicomweb/studies{study}": PROBLEMS for study in ("", "/{study}")}


def stow_paths() -> Schema:
    content = {store_response.MEDIA_TYPE: {"schema": {"type": "object", "description": "DICOM JSON, PS3.18 I.2."}}}
    responses = {
        status: {"description": description, "content": content}
        for status, description in (
            ("200", "All instances were stored: ReferencedSOPSequence, RetrieveURL of their slide"),
            ("202", "Some were stored: FailedSOPSequence has the others with FailureReason"),
            ("409", "None was stored: FailedSOPSequence, OtherFailuresSequence"),
        )
    }
    body = {
        "required": True,
        "description": "One part of application/dicom for each instance of VL Whole Slide Microscopy Image Storage.",
        "content": {multipart.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
    study_param = path_param("study", "StudyInstanceUID of all instances")

    def stow_operation(name: str, params: list[Schema]) -> Schema:
        summary = "STOW-RS: store the DICOM instances of slides; each series is one slide"
        return operation(PROBLEMS, name, summary, responses, parameters=params, requestBody=body)

    return {
        "/v1/dicomweb/studies": {"post": stow_operation("storeInstances", [])},
        "/v1/dicomweb/studies/{study}": {"post": stow_operation("storeInstancesOfStudy", [study_param])},
    }
