"""What the log's leaves tell: which record was made, by what, from what, on whose consent, at what price. No person.

Content that could be guessed stands in them as a digest under a random salt, which is kept beside the record: without
it, as after an erasure, the digest tells nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from serving.trust.log import Entry, entry
from serving.trust.prices import Price
from serving.trust.verify import salted

SALT = 16  # bytes
# Of a decision's row, what its leaf digests as one beside the answer: all that is told nowhere else.
RECORD = ("scope", "idempotency_key", "request_sha256", "subject", "model", "version", "created")


def decision(
    row: Mapping[str, Any],
    product: str,
    indicators: Mapping[str, Any],
    lineage: str,
    price: Price,
    grants: Sequence[str],
) -> Entry:
    """`row`: of DECISIONS, with its salt."""
    salt = row["salt"]
    return entry(
        "decision",
        row["created"],
        row["tenant"],
        row["id"],
        product=product,
        answer=salted(salt, row["answer"]),
        inputs=salted(salt, orjson.dumps(indicators, option=orjson.OPT_SORT_KEYS)),
        record=salted(salt, record(row)),
        bundle=row["bundle"],
        policy=row["policy"],
        lineage=lineage,
        authorisations=list(grants),
        price=price.told(),
    )


def record(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps([row[name] for name in RECORD])


class _Salts:
    """Drawn for a thousand records at a time, as ids are."""

    def __init__(self) -> None:
        self._bits, self._at = b"", 0

    def __call__(self) -> bytes:
        at = self._at
        if at >= len(self._bits):
            self._bits, at = os.urandom(1_000 * SALT), 0
        self._at = at + SALT
        return self._bits[at : at + SALT]


new_salt = _Salts()  # in one thread
