"""What lies around a company of a register, kept and told: GET /v1/companies/{id}/network.

Kept under the company's own key, with its neighbours as pseudonyms. Told with the ids of those that the caller may read
too; of others it is told that they are there. Officers, owners and addresses are told by their kind, never by name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.scitech_risk.ego_network import KINDS, Around
from serving.core.db.reader import Reader
from serving.core.db.schema import COMPANIES
from serving.core.http.problems import Problem
from serving.core.http.schema import Schema, closed
from serving.decisions.companies.history import PRODUCT
from serving.privacy.subjects.indicators import known
from serving.privacy.subjects.vault import Vault, held_keys

GROUPS = ("shell", "public_records")  # what ties, invoices and insured staff are told of, whatever a model reads
TIES = (*KINDS, "invoice")
Readable = Callable[[sa.Connection, list[str]], set[str]]  # of pseudonyms, those that the caller may read


def sealed(vault: Vault, key: bytes, company: str, around: Around, month: str) -> dict[str, bytes | None]:
    """Columns of COMPANIES. A register that brings no links and no invoices leaves nothing to tell."""
    name = vault.pseudonym(PRODUCT, company)
    label = orjson.dumps({"company_id": company, "insures_nobody": around.empty.get(company)})
    told: dict[str, bytes | None] = {"label": vault.seal(key, label, f"{name}\0label")}
    if not around.known:
        return told | {"network": None}
    near = around.of(company)
    found = {
        "month": month,
        "nodes": [
            [node.kind, node.company and vault.pseudonym(PRODUCT, node.company), node.companies] for node in near.nodes
        ],
        "edges": [[edge.start, edge.end, TIES.index(edge.kind), int(edge.loop)] for edge in near.edges],
        "left_out": near.left_out,
    }
    return told | {"network": vault.seal(key, zlib.compress(orjson.dumps(found), 1), f"{name}\0network")}


def network(reader: Reader, vault: Vault, company: str, readable: Readable) -> bytes:
    """As JSON; without nodes where the register told of no ties. Raises Problem for a company that no register
    brought, and Tampered."""
    name = vault.pseudonym(PRODUCT, company)

    def find(connection: sa.Connection) -> dict[str, Any]:
        simulated = known(connection, name)
        if simulated is None:
            raise Problem("unknown_company", found=repr(company[:80]))
        kept = connection.execute(sa.select(COMPANIES.c.network).where(COMPANIES.c.pseudonym == name)).scalar()
        told: dict[str, Any] = {"month": None, "nodes": [], "edges": [], "left_out": 0}
        if kept is not None:
            key = held_keys(connection, vault, [name])[name]
            told = orjson.loads(zlib.decompress(vault.open(key, kept, f"{name}\0network")))
        labels = _labels(connection, vault, [one for _, one, _ in told["nodes"] if one is not None], readable)
        return {
            "company_id": company,
            "simulated": simulated,
            "month": told["month"],
            "nodes": [_node(kind, name, companies, labels) for kind, name, companies in told["nodes"]],
            "edges": [
                {"from": a, "to": b, "kind": TIES[kind], "loop": bool(loop)} for a, b, kind, loop in told["edges"]
            ],
            "left_out": told["left_out"],
        }

    return orjson.dumps(reader.ask(find))


def _labels(connection: sa.Connection, vault: Vault, names: list[str], readable: Readable) -> dict[str, dict[str, Any]]:
    """Pseudonym -> what may be told, of those that the store still holds and the caller may read."""
    held = held_keys(connection, vault, names)
    may = readable(connection, [*held])
    chosen = sa.select(COMPANIES.c.pseudonym, COMPANIES.c.label).where(COMPANIES.c.pseudonym.in_(may))
    return {
        row.pseudonym: orjson.loads(vault.open(held[row.pseudonym], row.label, f"{row.pseudonym}\0label"))
        for row in connection.execute(chosen)
        if row.label is not None
    }


def _node(kind: str, name: str | None, companies: int, labels: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if name is None:
        return {"kind": kind, "companies": companies}
    nothing = {"company_id": None, "insures_nobody": None}  # of one that is erased, or that no authorisation opens
    return {"kind": kind, **(labels.get(name) or nothing)}


def schema() -> Schema:
    text, null, count = {"type": "string"}, {"type": "null"}, {"type": "integer", "minimum": 0}
    company = closed(
        {
            "kind": {"const": "company"},
            "company_id": {
                "anyOf": [text, null],
                "description": "null: outside the register, erased, or not yours to read",
            },
            "insures_nobody": {"type": ["boolean", "null"]},
        },
        ["kind", "company_id", "insures_nobody"],
    )
    tie = closed(
        {"kind": {"enum": [*KINDS]}, "companies": count | {"description": "That it ties"}}, ["kind", "companies"]
    )
    edge = closed(
        {"from": count, "to": count, "kind": {"enum": [*TIES]}, "loop": {"type": "boolean"}},
        ["from", "to", "kind", "loop"],
    )
    return closed(
        {
            "company_id": text,
            "simulated": {"type": "boolean"},
            "month": {"anyOf": [text, null], "description": "Of the register; null: it told of no ties"},
            "nodes": {"type": "array", "description": "The company first", "items": {"oneOf": [company, tie]}},
            "edges": {"type": "array", "description": "By places among the nodes", "items": edge},
            "left_out": count | {"description": "Companies that share something or trade with it, and are not shown"},
        },
        ["company_id", "simulated", "month", "nodes", "edges", "left_out"],
    )
