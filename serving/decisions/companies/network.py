"""The network around a company: shared officers, owners and addresses, and trade: GET /v1/companies/{id}/network.

It is stored under the company's own key, with its neighbours as pseudonyms. A response has the ids of those neighbours
that the caller may read, and shows only that the others exist. Officers, owners and addresses appear by kind, not name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.scitech_risk.ego_network import TIE_KINDS, NetworkIndex
from serving.core.db.reader import StoreReader
from serving.core.db.schema import COMPANIES
from serving.core.http.problems import ProblemError
from serving.core.http.schema import Schema, closed_object
from serving.decisions.companies.history import PRODUCT
from serving.privacy.subjects.indicators import is_simulated
from serving.privacy.subjects.vault import Vault, existing_keys

REQUIRED_GROUPS = ("shell", "public_records")  # of ties, invoices and insured staff, whatever a model reads
EDGE_KINDS = (*TIE_KINDS, "invoice")
VisibleFilter = Callable[[sa.Connection, list[str]], set[str]]  # the pseudonyms, of a list, that the caller may read


def encrypt_network(
    vault: Vault, key: bytes, company_id: str, index: NetworkIndex, month: str
) -> dict[str, bytes | None]:
    """The columns of COMPANIES that hold the network. It is None for a register without links and invoices."""
    pseudonym = vault.pseudonym(PRODUCT, company_id)
    label = orjson.dumps({"company_id": company_id, "insures_nobody": index.is_uninsured.get(company_id)})
    columns: dict[str, bytes | None] = {"label": vault.seal(key, label, f"{pseudonym}\0label")}
    if not index.has_network:
        return columns | {"network": None}
    neighbourhood = index.neighbourhood(company_id)
    payload = {
        "month": month,
        "nodes": [
            [node.kind, node.company and vault.pseudonym(PRODUCT, node.company), node.companies]
            for node in neighbourhood.nodes
        ],
        "edges": [[edge.start, edge.end, EDGE_KINDS.index(edge.kind), int(edge.loop)] for edge in neighbourhood.edges],
        "left_out": neighbourhood.omitted_count,
    }
    return columns | {"network": vault.seal(key, zlib.compress(orjson.dumps(payload), 1), f"{pseudonym}\0network")}


def network(reader: StoreReader, vault: Vault, company_id: str, select_visible: VisibleFilter) -> bytes:
    """A company's network as JSON; without nodes where the register had no ties.

    Raises ProblemError for a company of no register, and TamperedError where stored values were changed.
    """
    pseudonym = vault.pseudonym(PRODUCT, company_id)

    def load(connection: sa.Connection) -> dict[str, Any]:
        simulated = is_simulated(connection, pseudonym)
        if simulated is None:
            raise ProblemError("unknown_company", actual=repr(company_id[:80]))
        encrypted = connection.execute(
            sa.select(COMPANIES.c.network).where(COMPANIES.c.pseudonym == pseudonym)
        ).scalar()
        payload: dict[str, Any] = {"month": None, "nodes": [], "edges": [], "left_out": 0}
        if encrypted is not None:
            key = existing_keys(connection, vault, [pseudonym])[pseudonym]
            payload = orjson.loads(zlib.decompress(vault.open(key, encrypted, f"{pseudonym}\0network")))
        labels = _labels(
            connection,
            vault,
            [neighbour for _, neighbour, _ in payload["nodes"] if neighbour is not None],
            select_visible,
        )
        return {
            "company_id": company_id,
            "simulated": simulated,
            "month": payload["month"],
            "nodes": [
                _node_json(kind, neighbour, companies, labels) for kind, neighbour, companies in payload["nodes"]
            ],
            "edges": [
                {"from": start, "to": end, "kind": EDGE_KINDS[kind], "loop": bool(loop)}
                for start, end, kind, loop in payload["edges"]
            ],
            "left_out": payload["left_out"],
        }

    return orjson.dumps(reader.run(load))


def _labels(
    connection: sa.Connection, vault: Vault, pseudonyms: list[str], select_visible: VisibleFilter
) -> dict[str, dict[str, Any]]:
    """Pseudonym -> label, for companies that were not erased and that the caller may read."""
    subject_keys = existing_keys(connection, vault, pseudonyms)
    visible = select_visible(connection, [*subject_keys])
    statement = sa.select(COMPANIES.c.pseudonym, COMPANIES.c.label).where(COMPANIES.c.pseudonym.in_(visible))
    return {
        row.pseudonym: orjson.loads(vault.open(subject_keys[row.pseudonym], row.label, f"{row.pseudonym}\0label"))
        for row in connection.execute(statement)
        if row.label is not None
    }


def _node_json(kind: str, pseudonym: str | None, companies: int, labels: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if pseudonym is None:
        return {"kind": kind, "companies": companies}
    hidden = {"company_id": None, "insures_nobody": None}  # erased, or not covered by an authorisation
    return {"kind": kind, **(labels.get(pseudonym) or hidden)}


def schema() -> Schema:
    """The JSON schema of a network."""
    text, null, count = {"type": "string"}, {"type": "null"}, {"type": "integer", "minimum": 0}
    company = closed_object(
        {
            "kind": {"const": "company"},
            "company_id": {
                "anyOf": [text, null],
                "description": "null: outside the register, erased, or not authorised",
            },
            "insures_nobody": {"type": ["boolean", "null"]},
        },
        ["kind", "company_id", "insures_nobody"],
    )
    shared_node = closed_object(
        {"kind": {"enum": [*TIE_KINDS]}, "companies": count | {"description": "How many companies share it"}},
        ["kind", "companies"],
    )
    edge = closed_object(
        {"from": count, "to": count, "kind": {"enum": [*EDGE_KINDS]}, "loop": {"type": "boolean"}},
        ["from", "to", "kind", "loop"],
    )
    return closed_object(
        {
            "company_id": text,
            "simulated": {"type": "boolean"},
            "month": {"anyOf": [text, null], "description": "Of the register; null: the register had no ties"},
            "nodes": {
                "type": "array",
                "description": "The company itself comes first",
                "items": {"oneOf": [company, shared_node]},
            },
            "edges": {"type": "array", "description": "`from` and `to` are positions in `nodes`", "items": edge},
            "left_out": count | {"description": "Companies with ties or trade that are not shown"},
        },
        ["company_id", "simulated", "month", "nodes", "edges", "left_out"],
    )
