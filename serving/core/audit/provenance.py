"""The provenance of a bundle: one canonical JSON document that the log entry of each answer names by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from models.card import BaseCard
from serving.core.audit.verify import canonical_json
from serving.core.db.schema import PROVENANCE


class Provenance(NamedTuple):
    sha256: str
    bundle: str
    body: bytes


def build_provenance(card: BaseCard, bundle: str, policy_sha256: str) -> Provenance:
    """The provenance of a verified bundle: training run, commit, data sets and the authorisations of their use."""
    body = canonical_json(
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
    return Provenance(hashlib.sha256(body).hexdigest(), bundle, body)


def store_provenance(connection: sa.Connection, provenances: Iterable[Provenance]) -> None:
    """Insert the documents that the store does not hold yet."""
    for provenance in provenances:
        existing = sa.select(PROVENANCE.c.sha256).where(PROVENANCE.c.sha256 == provenance.sha256)
        if connection.execute(existing).first() is None:
            connection.execute(sa.insert(PROVENANCE).values(provenance._asdict()))
