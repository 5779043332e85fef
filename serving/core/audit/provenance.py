"""What a bundle was made from, as one canonical JSON that each of its answers' leaves names by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from models.card import Stamp
from serving.core.audit.verify import canonical
from serving.core.db.schema import LINEAGES


class Lineage(NamedTuple):
    sha256: str
    bundle: str
    body: bytes


def lineage(card: Stamp, bundle: str, policy_sha256: str) -> Lineage:
    """Of a verified bundle: its training run, the code's commit, its data sets and on whose consent they were used."""
    body = canonical(
        {
            "product": card.product,
            "model": card.model,
            "version": card.version,
            "bundle": bundle,
            "run_id": card.run_id,
            "git_commit": card.git_commit,
            "data": [
                {"name": item.name, "sha256": item.sha256, "authorisations": list(item.authorisations)}
                for item in card.data
            ],
            "policy_sha256": policy_sha256,
        }
    )
    return Lineage(hashlib.sha256(body).hexdigest(), bundle, body)


def keep_lineages(connection: sa.Connection, lineages: Iterable[Lineage]) -> None:
    """Those that the store does not hold yet."""
    for lineage in lineages:
        there = sa.select(LINEAGES.c.sha256).where(LINEAGES.c.sha256 == lineage.sha256)
        if connection.execute(there).first() is None:
            connection.execute(sa.insert(LINEAGES).values(lineage._asdict()))
