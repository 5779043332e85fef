"""The request form that comes with a slide: what may stand in it, and all that is wrong with one told together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets.errors import Fault
from datasets.schema import unknown_names
from datasets.slides.limits import LIMITS
from serving.core.http.validation import kind, text

SPECIMENS = ("cervical_cytology", "breast_histology", "lymph_node")
STAINS = ("papanicolaou", "haematoxylin_eosin", "other")
PREPARATIONS = ("liquid_based", "conventional_smear", "paraffin_section", "frozen_section", "other")
HPV = ("positive", "negative", "unknown")
PREVIOUS = (
    *("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC", "AGC", "AIS", "ADENOCARCINOMA", "UNSATISFACTORY"),
    *("benign", "atypia", "DCIS", "invasive", "unknown"),
)  # Bethesda's, then the breast's
MENOPAUSE = ("before", "after", "unknown")
NEEDED = ("accession", "specimen", "stain", "preparation")
GENOTYPE = re.compile(r"[1-9][0-9]{0,2}")
FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
GRANT = re.compile(r"[0-9a-f]{32}")
CONTEXT = ("name", "value", "source", "authorisation")
MOST_GENOTYPES, MOST_CONTEXT = 30, 50

Rule = tuple[Callable[[Any], bool], str, str]  # whether a value fits, and what is needed


@dataclass(frozen=True, slots=True)
class Form:
    """`request`: the whole form but mpp: microns per pixel as the operator gives them where the file has none."""

    request: dict[str, Any]
    mpp: float | None

    def columns(self) -> dict[str, Any]:
        """As the store's table of slides has them."""
        return {**{name: self.request[name] for name in NEEDED}, "request": self.request, "mpp": self.mpp}


def one_of(levels: tuple[str, ...]) -> Rule:
    told = ", ".join(levels)
    return (lambda found: isinstance(found, str) and found in levels), f"one of {told}", f"{told} 之一"


def _number(found: Any, low: float, high: float) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and low <= found <= high


def _genotypes(found: Any) -> bool:
    whole = isinstance(found, list) and len(found) <= MOST_GENOTYPES
    return whole and all(isinstance(one, str) and GENOTYPE.fullmatch(one) is not None for one in found)


RULES: dict[str, Rule] = {
    "accession": (lambda found: text(found, 64), "text of 1 to 64 printable characters", "1 至 64 个可打印字符"),
    "specimen": one_of(SPECIMENS),
    "stain": one_of(STAINS),
    "preparation": one_of(PREPARATIONS),
    "age": (
        lambda found: _number(found, 0, 120) and float(found).is_integer(),
        "a whole number of years from 0 to 120",
        "0 至 120 的整数（岁）",
    ),
    "hpv_result": one_of(HPV),
    "hpv_genotype": (
        _genotypes,
        f"a list of up to {MOST_GENOTYPES} type numbers as text, such as [\"16\", \"52\"]",
        f"至多 {MOST_GENOTYPES} 个型别编号（文本）的列表，如 [\"16\", \"52\"]",
    ),
    "previous_result": one_of(PREVIOUS),
    "menopause": one_of(MENOPAUSE),
    "authorisation": (
        lambda found: isinstance(found, str) and GRANT.fullmatch(found) is not None,
        "the id of the patient's authorisation, as GET /v1/authorisations tells it",
        "患者授权编号（见 GET /v1/authorisations）",
    ),
    "context": (
        lambda found: isinstance(found, list) and len(found) <= MOST_CONTEXT,
        f"a list of up to {MOST_CONTEXT} fields, each with name, value, source and authorisation",
        f"至多 {MOST_CONTEXT} 个字段的列表，各含 name、value、source、authorisation",
    ),
    "mpp": (
        lambda found: _number(found, LIMITS.finest_mpp, LIMITS.coarsest_mpp),
        f"microns per pixel from {LIMITS.finest_mpp:g} to {LIMITS.coarsest_mpp:g}",
        f"{LIMITS.finest_mpp:g} 至 {LIMITS.coarsest_mpp:g} 的每像素微米数",
    ),
}  # fmt: skip
IN_CONTEXT: dict[str, Rule] = {
    "name": (
        lambda found: isinstance(found, str) and FIELD.fullmatch(found) is not None,
        "a name in small letters, digits and _",
        "由小写字母、数字和 _ 组成的名称",
    ),
    "value": (
        lambda found: found is None or isinstance(found, bool) or _number(found, -1e12, 1e12) or text(found, 200),
        "true, false, a number, text of up to 200 characters, or null for unknown",
        "true、false、数字、至多 200 个字符的文本，或 null（未知）",
    ),
    "source": (lambda found: text(found, 200), "where the value comes from, as text", "数值来源（文本）"),
    "authorisation": (
        lambda found: text(found, 200),
        "the authorisation under which it may be read, as text",
        "读取该值所依据的授权（文本）",
    ),
}


def read(found: Mapping[str, Any]) -> tuple[Form | None, list[Fault]]:
    """The form, or all that is wrong with it. A field that is null is left out: unknown."""
    told = {name: value for name, value in found.items() if value is not None}
    known = ", ".join(RULES)
    faults = unknown_names(found, RULES, f"one of {known}", f"{known} 之一")
    faults += [Fault(name, "absent", *RULES[name][1:]) for name in NEEDED if name not in told]
    faults += [Fault(name, kind(told[name]), en, zh) for name, (fits, en, zh) in RULES.items()
               if name in told and not fits(told[name])]  # fmt: skip
    if isinstance(told.get("context"), list):
        faults += [fault for at, field in enumerate(told["context"][:MOST_CONTEXT]) for fault in _context(at, field)]
    if told.get("hpv_genotype") and told.get("hpv_result") != "positive":
        needed = "left out, as hpv_result is not positive", "hpv_result 不为 positive 时应省略"
        faults.append(Fault("hpv_genotype", kind(told["hpv_genotype"]), *needed))
    if faults:
        return None, faults
    mpp = told.pop("mpp", None)
    if "age" in told:
        told["age"] = int(told["age"])
    return Form(told, None if mpp is None else float(mpp)), []


def _context(at: int, field: Any) -> list[Fault]:
    place = f"context[{at}]"
    if not isinstance(field, dict):
        return [Fault(place, kind(field), "an object of name, value, source, authorisation", "含 name 等四项的对象")]
    known = ", ".join(CONTEXT)
    faults = unknown_names(field, CONTEXT, f"one of {known}", f"{known} 之一", f"{place}.")
    for name, (fits, en, zh) in IN_CONTEXT.items():
        if name not in field or not fits(field[name]):
            faults.append(Fault(f"{place}.{name}", kind(field[name]) if name in field else "absent", en, zh))
    return faults


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    """What came as text where numbers are meant, as metadata of an upload does."""
    if isinstance(mpp := found.get("mpp"), str):
        try:
            value = float(mpp)
        except ValueError:
            return found
        return found | {"mpp": value} if math.isfinite(value) else found
    return found
