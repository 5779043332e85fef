"""The request form that comes with a slide: what may stand in it, and all that is wrong with one told together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from datasets.slides.limits import SLIDE_LIMITS
from serving.core.http.validation import describe_value, is_clean_text, line

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
GENOTYPE_PATTERN = re.compile(r"[1-9][0-9]{0,2}")
FIELD_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")
GRANT_ID_PATTERN = re.compile(r"[0-9a-f]{32}")
CONTEXT_FIELDS = ("name", "value", "source", "authorisation")
MAX_GENOTYPES, MAX_CONTEXT_FIELDS = 30, 50

Rule = tuple[Callable[[Any], bool], str, str]  # whether a value fits, and what is needed


@dataclass(frozen=True, slots=True)
class RequestForm:
    """`request`: the whole form but mpp: microns per pixel as the operator gives them where the file has none."""

    request: dict[str, Any]
    mpp: float | None

    def columns(self) -> dict[str, Any]:
        """As the store's table of slides has them."""
        return {**{name: self.request[name] for name in REQUIRED_FIELDS}, "request": self.request, "mpp": self.mpp}


def one_of_rule(allowed: tuple[str, ...]) -> Rule:
    allowed_text = ", ".join(allowed)
    return (lambda found: isinstance(found, str) and found in allowed), f"one of {allowed_text}", f"{allowed_text} 之一"


def _is_number_within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _are_genotypes(value: Any) -> bool:
    is_short_list = isinstance(value, list) and len(value) <= MAX_GENOTYPES
    return is_short_list and all(
        isinstance(genotype, str) and GENOTYPE_PATTERN.fullmatch(genotype) is not None for genotype in value
    )


ACCESSION = line(64)
RULES: dict[str, Rule] = {
    "accession": (ACCESSION.check, "text of 1 to 64 printable characters", "1 至 64 个可打印字符"),
    "specimen": one_of_rule(SPECIMENS),
    "stain": one_of_rule(STAINS),
    "preparation": one_of_rule(PREPARATIONS),
    "age": (
        lambda value: _is_number_within(value, 0, 120) and float(value).is_integer(),
        "a whole number of years from 0 to 120",
        "0 至 120 的整数（岁）",
    ),
    "hpv_result": one_of_rule(HPV_RESULTS),
    "hpv_genotype": (
        _are_genotypes,
        f"a list of up to {MAX_GENOTYPES} type numbers as text, such as [\"16\", \"52\"]",
        f"至多 {MAX_GENOTYPES} 个型别编号（文本）的列表，如 [\"16\", \"52\"]",
    ),
    "previous_result": one_of_rule(PREVIOUS_RESULTS),
    "menopause": one_of_rule(MENOPAUSE),
    "authorisation": (
        lambda found: isinstance(found, str) and GRANT_ID_PATTERN.fullmatch(found) is not None,
        "the id of the patient's authorisation, as GET /v1/authorisations tells it",
        "患者授权编号（见 GET /v1/authorisations）",
    ),
    "context": (
        lambda value: isinstance(value, list) and len(value) <= MAX_CONTEXT_FIELDS,
        f"a list of up to {MAX_CONTEXT_FIELDS} fields, each with name, value, source and authorisation",
        f"至多 {MAX_CONTEXT_FIELDS} 个字段的列表，各含 name、value、source、authorisation",
    ),
    "mpp": (
        lambda value: _is_number_within(value, SLIDE_LIMITS.finest_mpp, SLIDE_LIMITS.coarsest_mpp),
        f"microns per pixel from {SLIDE_LIMITS.finest_mpp:g} to {SLIDE_LIMITS.coarsest_mpp:g}",
        f"{SLIDE_LIMITS.finest_mpp:g} 至 {SLIDE_LIMITS.coarsest_mpp:g} 的每像素微米数",
    ),
}  # fmt: skip
CONTEXT_RULES: dict[str, Rule] = {
    "name": (
        lambda found: isinstance(found, str) and FIELD_PATTERN.fullmatch(found) is not None,
        "a name in small letters, digits and _",
        "由小写字母、数字和 _ 组成的名称",
    ),
    "value": (
        lambda value: (
            value is None
            or isinstance(value, bool)
            or _is_number_within(value, -1e12, 1e12)
            or is_clean_text(value, 200)
        ),
        "true, false, a number, text of up to 200 characters, or null for unknown",
        "true、false、数字、至多 200 个字符的文本，或 null（未知）",
    ),
    "source": (lambda found: is_clean_text(found, 200), "where the value comes from, as text", "数值来源（文本）"),
    "authorisation": (
        lambda found: is_clean_text(found, 200),
        "the authorisation under which it may be read, as text",
        "读取该值所依据的授权（文本）",
    ),
}


def validate(payload: Mapping[str, Any]) -> tuple[RequestForm | None, list[FieldError]]:
    """The form, or all that is wrong with it. A field that is null is left out: unknown."""
    values = {name: value for name, value in payload.items() if value is not None}
    allowed_text = ", ".join(RULES)
    errors = find_unknown_names(payload, RULES, f"one of {allowed_text}", f"{allowed_text} 之一")
    errors += [FieldError(name, "absent", *RULES[name][1:]) for name in REQUIRED_FIELDS if name not in values]
    errors += [FieldError(name, describe_value(values[name]), en, zh) for name, (is_valid, en, zh) in RULES.items()
               if name in values and not is_valid(values[name])]  # fmt: skip
    if isinstance(values.get("context"), list):
        errors += [
            fault
            for index, field in enumerate(values["context"][:MAX_CONTEXT_FIELDS])
            for fault in _validate_context_field(index, field)
        ]
    if values.get("hpv_genotype") and values.get("hpv_result") != "positive":
        expected = "left out, as hpv_result is not positive", "hpv_result 不为 positive 时应省略"
        errors.append(FieldError("hpv_genotype", describe_value(values["hpv_genotype"]), *expected))
    if errors:
        return None, errors
    mpp = values.pop("mpp", None)
    if "age" in values:
        values["age"] = int(values["age"])
    return RequestForm(values, None if mpp is None else float(mpp)), []


def _validate_context_field(index: int, field: Any) -> list[FieldError]:
    location = f"context[{index}]"
    if not isinstance(field, dict):
        return [
            FieldError(
                location,
                describe_value(field),
                "an object of name, value, source, authorisation",
                "含 name 等四项的对象",
            )
        ]
    allowed_text = ", ".join(CONTEXT_FIELDS)
    errors = find_unknown_names(field, CONTEXT_FIELDS, f"one of {allowed_text}", f"{allowed_text} 之一", f"{location}.")
    for name, (is_valid, en, zh) in CONTEXT_RULES.items():
        if name not in field or not is_valid(field[name]):
            errors.append(
                FieldError(f"{location}.{name}", describe_value(field[name]) if name in field else "absent", en, zh)
            )
    return errors


def parse_mpp(payload: dict[str, Any]) -> dict[str, Any]:
    """What came as text where numbers are meant, as metadata of an upload does."""
    if isinstance(mpp := payload.get("mpp"), str):
        try:
            value = float(mpp)
        except ValueError:
            return payload
        return payload | {"mpp": value} if math.isfinite(value) else payload
    return payload
