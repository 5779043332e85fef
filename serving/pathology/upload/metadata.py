"""What the metadata of an upload says of its slide: the request form, the SHA-256, and the place in a group of files.

Clients in browsers add names of their own, such as Uppy's relativePath, and write a missing value as the text "null":
names that are not known here are ignored, and such values count as absent.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

from datasets.errors import FieldError
from datasets.slides.limits import SLIDE_LIMITS
from serving.core.http import validation
from serving.core.http.problems import ProblemError
from serving.core.http.validation import find_json_ambiguity, line, shorten, whole_number
from serving.pathology.slides import storage
from serving.pathology.upload import request_form

RESERVED_FIELD = "reference"  # the inbox file, in the metadata of the store's own uploads
ABSENT_VALUES = ("", "null", "undefined")  # as JavaScript writes null and undefined
FORM_FIELDS = tuple(request_form.FormFields.model_fields)
JSON_FIELDS = ("age", "mpp", "focal_plane", "hpv_genotype", "context")  # of the form; all others are texts
METADATA_FIELDS = ("filename", "sha256", "request", "group", "files", "relativePath", *FORM_FIELDS)
GROUP = line(64, ": the same for all files of a slide", "：同一切片的各文件取值相同")
FILE_COUNT = whole_number(1, SLIDE_LIMITS.files)
MAX_PATH_CHARS, MAX_PATH_DEPTH, MAX_NAME_BYTES = 400, 8, 200


class GroupFile(NamedTuple):
    """A file of a slide that has several. path: relative, as it lay in the slide's folder. file_count: of the slide."""

    group: str
    path: str
    file_count: int


class UploadDescription(NamedTuple):
    """form, sha256: None where they follow later. name: sanitised file name, of the group where there is one."""

    form: request_form.RequestForm | None
    sha256: str | None
    name: str
    group_file: GroupFile | None


def known_fields(metadata: dict[str, str]) -> dict[str, str]:
    """Without what a client added of its own, which may name a person and is not needed once the upload is complete."""
    return {name: value for name, value in metadata.items() if name in (*METADATA_FIELDS, RESERVED_FIELD)}


def describe_upload(metadata: dict[str, str]) -> UploadDescription:
    """Raises ProblemError with all errors."""
    fields = {name: value for name, value in metadata.items() if value not in ABSENT_VALUES}
    form, errors = _parse_form(fields)
    sha256 = fields.get("sha256")
    if sha256 is not None:
        sha256 = sha256.strip().lower()
        errors += validation.SHA256.errors("sha256", sha256)
    file_name = fields.get("filename") or fields.get("name") or "slide"
    group_file = None
    if "group" in fields or "files" in fields:
        group_file, group_errors = _parse_group(fields, file_name)
        errors += group_errors
    if errors:
        raise ProblemError("invalid_request", errors=errors)
    name = storage.sanitize_name(file_name if group_file is None else group_file.group)
    return UploadDescription(form, sha256, name, group_file)


def _parse_form(fields: dict[str, str]) -> tuple[request_form.RequestForm | None, list[FieldError]]:
    errors: list[FieldError] = []
    payload: dict[str, Any] = {name: _field_value(name, fields[name]) for name in FORM_FIELDS if name in fields}
    if "request" in fields:
        try:
            request_json = orjson.loads(fields["request"])
        except orjson.JSONDecodeError:
            request_json = None
        if isinstance(request_json, dict):
            if ambiguity := find_json_ambiguity(fields["request"].encode(), request_json):
                errors.append(FieldError("request", ambiguity[0], "each name once", "每个名称只出现一次"))
            errors += [
                FieldError(name, "given twice with different values", "a single value", "单一取值")
                for name, value in payload.items()
                if name in request_json and request_json[name] != value and str(request_json[name]) != fields[name]
            ]
            payload = payload | request_json
        else:
            expected = "the request form as a JSON object", "JSON 对象形式的申请单"
            errors.append(FieldError("request", "not a JSON object", *expected))
    if not payload:
        return None, errors
    form, form_errors = request_form.validate(request_form.parse_mpp(payload))
    return form, errors + form_errors


def _field_value(name: str, text: str) -> Any:
    """The value of a form's field, which is text in the metadata."""
    if name == "hpv_genotype" and re.fullmatch(r"[0-9]+(\s*,\s*[0-9]+)*", text):
        return re.split(r"\s*,\s*", text)
    if name in JSON_FIELDS:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text


def _parse_group(fields: dict[str, str], file_name: str) -> tuple[GroupFile | None, list[FieldError]]:
    errors = []
    group, count, path = fields.get("group"), fields.get("files"), fields.get("relativePath", file_name)
    for field, value, rule in (("group", group, GROUP), ("files", count, FILE_COUNT)):
        if value is None:
            errors.append(FieldError(field, "absent", rule.expected, rule.expected_zh))
        else:
            errors += rule.errors(field, value)
    names = re.split(r"[/\\]", path.lstrip("/"))
    if not is_safe_path(names):
        expected = (
            f"a relative path of plain names, at most {MAX_PATH_DEPTH}",
            f"由普通名称组成的相对路径，至多 {MAX_PATH_DEPTH} 级",
        )
        errors.append(FieldError("relativePath", repr(shorten(path)), *expected))
    if errors or group is None or count is None:
        return None, errors
    return GroupFile(group, "/".join(names), int(count)), []


def is_safe_path(names: list[str]) -> bool:
    """Whether these names of folders and a file stay inside their folder on any system."""
    return (
        len(names) <= MAX_PATH_DEPTH
        and sum(map(len, names)) <= MAX_PATH_CHARS
        and all(
            name not in ("", ".", "..")
            and name.isprintable()
            and not set(name) & set('/\\:*?"<>|')
            and len(name.encode("utf-8", "surrogateescape")) <= MAX_NAME_BYTES
            for name in names
        )
    )
