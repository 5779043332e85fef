"""The request form of a slide: its fields, their rules, and a validator that reports all errors together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from datasets.errors import FieldError
from datasets.slides.limits import SLIDE_LIMITS
from serving.core.http import validation
from serving.core.http.validation import (
    SHA256,
    Expected,
    RequestModel,
    Rule,
    describe_value,
    is_clean_text,
    is_number,
    line,
    matching,
    one_of,
    text,
)
from serving.core.identifiers import ID_PATTERN

SPECIMENS = ("cervical_cytology", "breast_histology", "lymph_node")
STAINS = ("papanicolaou", "haematoxylin_eosin", "other")
PREPARATIONS = ("liquid_based", "conventional_smear", "paraffin_section", "frozen_section", "other")
HPV_RESULTS = ("positive", "negative", "unknown")
PREVIOUS_RESULTS = (
    *("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC", "AGC", "AIS", "ADENOCARCINOMA", "UNSATISFACTORY"),
    *("benign", "atypia", "DCIS", "invasive", "unknown"),
)  # Bethesda's, then the breast's
MENOPAUSE = ("before", "after", "unknown")
REQUIRED_FIELDS = ("accession", "specimen", "stain", "preparation")
MAX_GENOTYPES, MAX_CONTEXT_FIELDS = 30, 50


@dataclass(frozen=True, slots=True)
class RequestForm:
    """request: the form without mpp. mpp: microns per pixel given by the operator, if the file has none."""

    request: dict[str, Any]
    mpp: float | None

    def columns(self) -> dict[str, Any]:
        """The columns of the store's table of slides."""
        return {**{name: self.request[name] for name in REQUIRED_FIELDS}, "request": self.request, "mpp": self.mpp}


def _is_context_value(value: Any) -> bool:
    return value is None or isinstance(value, bool) or is_number(value, -1e12, 1e12) or is_clean_text(value, 200)


ACCESSION = line(64)
AGE = Rule(
    "a whole number of years from 0 to 120",
    "0 至 120 的整数（岁）",
    {"type": "integer", "minimum": 0, "maximum": 120},
    lambda value: is_number(value, 0, 120) and float(value).is_integer(),
    lambda value: None if value is None else int(value),
)
GENOTYPE = matching(r"[1-9][0-9]{0,2}", "a type number as text", "型别编号（文本）")
GENOTYPES = Rule(
    f'a list of up to {MAX_GENOTYPES} type numbers as text, such as ["16", "52"]',
    f'至多 {MAX_GENOTYPES} 个型别编号（文本）的列表，如 ["16", "52"]',
    {"type": "array", "items": GENOTYPE.schema, "maxItems": MAX_GENOTYPES},
    lambda value: isinstance(value, list) and len(value) <= MAX_GENOTYPES and all(map(GENOTYPE.check, value)),
)
AUTHORISATION = matching(
    ID_PATTERN,
    "the id of the patient's authorisation, as GET /v1/authorisations tells it",
    "患者授权编号（见 GET /v1/authorisations）",
)
CONTEXT = Expected(
    f"a list of up to {MAX_CONTEXT_FIELDS} fields, each with name, value, source and authorisation",
    f"至多 {MAX_CONTEXT_FIELDS} 个字段的列表，各含 name、value、source、authorisation",
)
FOCAL_PLANE = Rule(
    "a whole number from 1, the plane at the slide, to 1000",
    "1（紧贴玻片）至 1000 的整数",
    {"type": "integer", "minimum": 1, "maximum": 1_000},
    lambda value: is_number(value, 1, 1_000) and float(value).is_integer(),
    lambda value: None if value is None else int(value),
)
MPP = Rule(
    f"microns per pixel from {SLIDE_LIMITS.finest_mpp:g} to {SLIDE_LIMITS.coarsest_mpp:g}",
    f"{SLIDE_LIMITS.finest_mpp:g} 至 {SLIDE_LIMITS.coarsest_mpp:g} 的每像素微米数",
    {"type": "number", "minimum": SLIDE_LIMITS.finest_mpp, "maximum": SLIDE_LIMITS.coarsest_mpp},
    lambda value: is_number(value, SLIDE_LIMITS.finest_mpp, SLIDE_LIMITS.coarsest_mpp),
    lambda value: None if value is None else float(value),
)
REFERENCE = replace(
    text(1_000),
    expected="a path below the inbox, or the id of an upload or slide",
    expected_zh="收件箱内的路径，或上传、切片编号",
)
CONTEXT_VALUE = Rule(
    "true, false, a number, text of up to 200 characters, or null for unknown",
    "true、false、数字、至多 200 个字符的文本，或 null（未知）",
    {
        "anyOf": [
            {"type": "boolean"},
            {"type": "number", "minimum": -1e12, "maximum": 1e12},
            {"type": "string", "minLength": 1, "maxLength": 200},
            {"type": "null"},
        ]
    },
    _is_context_value,
)


class ContextField(RequestModel):
    """A value of the patient's record, with its source and the authorisation under which it may be read."""

    name: Annotated[
        str,
        matching(r"[a-z][a-z0-9_]{0,63}", "a name in small letters, digits and _", "由小写字母、数字和 _ 组成的名称"),
    ]
    value: Annotated[Any, CONTEXT_VALUE]
    source: Annotated[str, line(200, ": where the value comes from", "：数值来源")]
    authorisation: Annotated[str, line(200, ": under which it may be read", "：读取该值所依据的授权")]


class FormFields(RequestModel):
    """The fields of a request form. None, or null, means unknown."""

    accession: Annotated[str, ACCESSION]
    specimen: Annotated[str, one_of(*SPECIMENS)]
    stain: Annotated[str, one_of(*STAINS)]
    preparation: Annotated[str, one_of(*PREPARATIONS)]
    age: Annotated[int | None, AGE.or_null()] = None
    hpv_result: Annotated[str | None, one_of(*HPV_RESULTS).or_null()] = None
    hpv_genotype: Annotated[
        list[str] | None, GENOTYPES.or_null(), Field(description="Only with hpv_result positive.")
    ] = None
    previous_result: Annotated[str | None, one_of(*PREVIOUS_RESULTS).or_null()] = None
    menopause: Annotated[str | None, one_of(*MENOPAUSE).or_null()] = None
    authorisation: Annotated[
        str | None, AUTHORISATION.or_null(), Field(description="The patient's; its revocation stops the reading")
    ] = None
    context: Annotated[list[ContextField] | None, Field(max_length=MAX_CONTEXT_FIELDS), CONTEXT] = None
    focal_plane: Annotated[
        int | None,
        FOCAL_PLANE.or_null(),
        Field(description="Of a stack, the plane that is read; else each tile in its sharpest."),
    ] = None
    mpp: Annotated[
        float | None,
        MPP.or_null(),
        Field(description="Microns per pixel, where the file has none; who sends it answers for it."),
    ] = None

    def to_form(self) -> RequestForm:
        """The known fields without mpp."""
        fields = self.model_dump(include=set(FormFields.model_fields) - {"mpp"})
        return RequestForm({name: value for name, value in fields.items() if value is not None}, self.mpp)

    def errors(self) -> list[FieldError]:
        """Errors that concern several fields."""
        if not self.hpv_genotype or self.hpv_result == "positive":
            return []
        expected = "left out, as hpv_result is not positive", "hpv_result 不为 positive 时应省略"
        return [FieldError("hpv_genotype", describe_value(self.hpv_genotype), *expected)]


class Submission(FormFields):
    """The body of POST /v1/slides."""

    reference: Annotated[
        str, REFERENCE, Field(description="A path below the inbox, the id of an upload, or that of a slide being sent.")
    ]
    sha256: Annotated[
        str | None, SHA256.or_null(), Field(description="May be left out where the uploads of its files announced it.")
    ] = None


class ScaleConfirmation(RequestModel):
    """The body of POST /v1/slides/{id}/scale."""

    mpp: Annotated[float, MPP, Field(description="Microns per pixel, looked up at the scanner.")]


def missing_sha256() -> FieldError:
    """The error of a slide whose SHA-256 nobody announced."""
    return FieldError("sha256", "absent", SHA256.expected, SHA256.expected_zh)


def validate(payload: Mapping[str, Any]) -> tuple[RequestForm | None, list[FieldError]]:
    """The form, or all its errors."""
    fields, errors = validation.validate(FormFields, payload)
    errors = errors if fields is None else fields.errors()
    return (None if fields is None or errors else fields.to_form()), errors


def parse_mpp(payload: dict[str, Any]) -> dict[str, Any]:
    """Make mpp a number if it is text, as it is in the metadata of an upload."""
    if isinstance(mpp := payload.get("mpp"), str):
        try:
            value = float(mpp)
        except ValueError:
            return payload
        return payload | {"mpp": value} if math.isfinite(value) else payload
    return payload
