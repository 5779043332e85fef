"""The fields that a log entry of each kind must have, as far as the audit compares them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.db.schema import GRANTS, OUTCOMES, OVERRIDES, PROMOTIONS, REFERRALS

# Kind of entry -> table of the row that it records. These rows are never altered, except that a grant may be revoked.
ROW_TABLES: dict[str, sa.Table] = {
    "grant": GRANTS,
    "outcome": OUTCOMES,
    "override": OVERRIDES,
    "promotion": PROMOTIONS,
    "referral": REFERRALS,
}
_SLIDE_EVENT = {
    "state": str, "reading": str, "detail": str, "event": int, "since": int, "way": str, "record": str, "progress": str
}  # fmt: skip
ENTRY_SHAPES: dict[str, dict[str, type]] = {
    "decision": {"bundle": str, "policy": str, "answer": str, "record": str},
    "chunk": {
        "batch": str, "first": int, "rows": int, "content": str,
        "bundle": str, "policy": str, "record": str, "counts": str,
    },
    "batch_end": {"state": str},
    "slide_state": _SLIDE_EVENT,
    "slide_note": _SLIDE_EVENT,
    "report": {"slide": str, "version": int, "pdf": str, "record": str},
    "epoch": {"previous": dict, "file": str, "continued": int},
    "export": {"rows": str, "count": int},
    "events": {"count": int, "rows": str},
    "erasure": {"certificate_sha256": str},
    **{kind: {"row": str} for kind in ROW_TABLES},
    "revocation": {"revoked_at": str},
}  # fmt: skip
_PRICE_SHAPE = {"units": int, "rules": str, "rule": str, "fen": int}


def is_well_formed(body: Any) -> bool:
    """Whether an entry has every field that the audit compares, each of its type."""
    shape = dict(ENTRY_SHAPES.get(body["kind"], {}))
    if "price" in body:
        shape |= {"product": str, "price": dict}
    valid = all(type(body.get(name)) is kind for name, kind in shape.items())
    if valid and "price" in body:
        valid = all(type(body["price"].get(name)) is kind for name, kind in _PRICE_SHAPE.items())
    return valid and type(body.get("lineage", "")) is str
