"""Traces a decision back to its model, data and authorisations, and a subject forward to everything made from it.

Each node names one object; a node that is missing says why. A bundle's card counts only once its signature is verified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from models.card import BaseCard, DatasetInfo
from serving.core.db.acts import read_acts
from serving.core.db.lookup import DecisionRecord, all_decisions_about, tenant_filter
from serving.core.db.schema import BATCH_SUBJECTS, DATASET_ROWS, ERASURES, EVENTS, GRANTS, SLIDES
from serving.privacy.subjects import vault
from serving.registry import versions
from serving.registry.versions import StoredVersion
from serving.settings import SLIDE_PRODUCT as PATHOLOGY
from serving.settings import Settings

MAX_LISTED = 1_000  # decisions that are listed; the others are only counted


@dataclass
class TraceNode:
    """An object of the trace and the nodes that it leads to.

    missing, missing_zh: why the trace ends here, in English and Chinese; empty where it does not.
    """

    kind: str
    name: str
    detail: dict[str, Any] = field(default_factory=dict)
    missing: str = ""
    missing_zh: str = ""
    links: list[TraceNode] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        payload: dict[str, Any] = {"kind": self.kind, "name": self.name, **self.detail}
        if self.missing:
            payload |= {"missing": self.missing, "missing_zh": self.missing_zh}
        return payload | {"links": [link.to_json() for link in self.links]}

    def missing_nodes(self) -> Iterator[TraceNode]:
        """This node and those below it that are missing."""
        if self.missing:
            yield self
        for link in self.links:
            yield from link.missing_nodes()


# --- from a decision back to its data


def trace_decision(connection: sa.Connection, settings: Settings, decision: DecisionRecord) -> TraceNode:
    """The decision (or slide) with its model, training run, commit, data sets and authorisations."""
    detail = {"tenant": decision.tenant, "created": decision.created, "said": decision.outcome}
    root = TraceNode(
        decision.kind, decision.id, detail | ({"policy_version": decision.policy} if decision.policy else {})
    )
    if not decision.model:
        state = decision.outcome
        root.missing = f"no model has read this slide yet: its state is {state}"
        root.missing_zh = f"尚无模型阅片：状态为 {state}"
        return root
    root.links.append(_model_node(connection, settings, decision))
    ids = [str(grant_id) for grant_id in decision.answer.get("authorisations", ())]
    root.links += _authorisation_nodes(connection, ids, decision.tenant)
    root.links += _act_nodes(connection, decision)
    return root


def _act_nodes(connection: sa.Connection, decision: DecisionRecord) -> list[TraceNode]:
    """What people decided or did about it, in order; their own words are left out."""
    acts = read_acts(connection, decision.tenant, [decision.id])[decision.id]
    hidden = ("kind", "id", "reason", "note")
    return [
        TraceNode(act["kind"], act["id"], {name: value for name, value in act.items() if name not in hidden})
        for act in acts
    ]


def _model_node(connection: sa.Connection, settings: Settings, decision: DecisionRecord) -> TraceNode:
    node = TraceNode("model", f"{decision.model} {decision.version}", {"bundle": decision.bundle})
    paths = settings.paths
    bundle = versions.load_version(paths.bundles, paths.public_key, decision.model, decision.version)
    if bundle is None:
        node.missing = f"the bundle {decision.model}/{decision.version} is no longer on disk; restore it"
        node.missing_zh = f"磁盘上已无模型包 {decision.model}/{decision.version}；请恢复"
    elif bundle.card is None:
        node.missing, node.missing_zh = bundle.error, "模型包签名或摘要不符，其卡片不足为凭"
    elif bundle.digest != decision.bundle:
        node.missing = f"the bundle on disk is not the one that decided: its digest is {bundle.digest}"
        node.missing_zh = f"磁盘上的模型包并非作出决定的那一个：其摘要为 {bundle.digest}"
    else:
        node.detail["live"] = bundle.is_champion
        node.links.append(_run_node(connection, bundle.card, decision.tenant))
    return node


def _run_node(connection: sa.Connection, card: BaseCard, tenant: str) -> TraceNode:
    run = TraceNode("run", card.run_id or "(none)", {"created": card.created, "seed": card.seed})
    if not card.run_id:
        run.missing, run.missing_zh = "the card names no training run", "卡片未写训练运行编号"
    commit = TraceNode("commit", card.git_commit or "(none)")
    if not card.git_commit:
        commit.missing, commit.missing_zh = "the card names no commit", "卡片未写代码提交"
    elif card.git_commit.endswith("+"):
        commit.missing = "files differed from this commit when the model was trained"
        commit.missing_zh = "训练时文件与该提交不一致"
    run.links = [commit, *(data_set_node(connection, data, tenant) for data in card.data)]
    if not card.data:
        reason = "the card names no data set", "卡片未写数据集"
        run.links.append(TraceNode("data", "(none)", missing=reason[0], missing_zh=reason[1]))
    return run


def data_set_node(connection: sa.Connection, data: DatasetInfo, tenant: str) -> TraceNode:
    detail = data.model_dump(exclude={"authorisations", "name"}, exclude_defaults=True)
    node = TraceNode(
        "data", data.name, detail, links=_authorisation_nodes(connection, list(data.authorisations), tenant)
    )
    if not data.sha256:
        node.missing, node.missing_zh = "the card has no digest of this data set", "卡片未写该数据集的摘要"
    elif not (data.authorisations or data.simulated or data.licence):
        node.missing = (
            "the card names no authorisation, no licence and no simulation: nothing shows that its use was allowed"
        )
        node.missing_zh = "卡片未写授权、许可或模拟来源：无法说明可以使用"
    return node


def _authorisation_nodes(connection: sa.Connection, ids: list[str], tenant: str) -> list[TraceNode]:
    """The grants of these ids. Another tenant's, under which a model was trained, show only their scope and dates."""
    statement = sa.select(GRANTS).where(GRANTS.c.id.in_(ids))
    # str(): `groups` is an SQL keyword, whose name SQLAlchemy returns as a subclass of str; orjson refuses it as a key
    grants = {
        row["id"]: {str(name): value for name, value in row.items()} for row in connection.execute(statement).mappings()
    }
    nodes = []
    for grant_id in ids:
        grant = grants.get(grant_id, {})
        is_own = grant.get("tenant") == tenant
        hidden = {"id", "subject"} if is_own else {"id", "subject", "tenant", "grantor", "document_sha256", "by"}
        detail = {name: value for name, value in grant.items() if name not in hidden}
        reason = ("", "") if grant_id in grants else ("this authorisation is not in the store", "库中没有该授权")
        nodes.append(TraceNode("authorisation", grant_id, detail, *reason))
    return nodes


# --- from a subject forward to what was made from it


def trace_subject(
    connection: sa.Connection,
    settings: Settings,
    product: str,
    subject: str,
    serving: Mapping[str, str] | None = None,
    tenant: str | None = None,
) -> TraceNode:
    """The subject with the decisions about it, the data sets and models that contain it, and its erasures.

    subject: the id that its owner uses; for a slide its id or SHA-256. serving: model -> version that is deployed; None
    takes the champions' pointers. tenant: whose decisions; None for everybody's. Raises VaultKeyError.
    """
    pseudonym = pseudonym_of(connection, settings, product, subject)
    root = TraceNode("subject", pseudonym, {"product": product})
    root.links.append(_decisions_node(connection, product, pseudonym, tenant))
    root.links += [
        _exported_data_node(sha256, bundles, serving)
        for sha256, bundles in bundles_by_data_set(connection, settings, pseudonym).items()
    ]
    root.links.append(_reads_node(connection, product, pseudonym))
    root.links += [
        TraceNode("erasure", row.id, {"at": row.at})
        for row in connection.execute(sa.select(ERASURES.c.id, ERASURES.c.at).where(erasure_of(product, pseudonym)))
    ]
    return root


def pseudonym_of(connection: sa.Connection, settings: Settings, product: str, subject: str) -> str:
    """The subject's name in the store. Raises VaultKeyError."""
    if product != PATHOLOGY:
        return vault.open_vault(settings).pseudonym(product, subject)
    if "\0" in subject:  # PostgreSQL refuses it in a query, and no slide has such an id
        return ""
    sha256 = connection.execute(sa.select(SLIDES.c.sha256).where(SLIDES.c.id == subject)).scalar()
    return str(sha256 or subject)


def erasure_of(product: str, pseudonym: str) -> sa.ColumnElement[bool]:
    return sa.and_(ERASURES.c.product == product, ERASURES.c.pseudonym == pseudonym)


def _decisions_node(connection: sa.Connection, product: str, pseudonym: str, tenant: str | None) -> TraceNode:
    if product == PATHOLOGY:
        statement = sa.select(SLIDES.c.id, SLIDES.c.created, SLIDES.c.model, SLIDES.c.version)
        statement = statement.where(SLIDES.c.sha256 == pseudonym, tenant_filter(SLIDES, tenant)).order_by(
            SLIDES.c.id.desc()
        )
    else:
        decisions = all_decisions_about(product, pseudonym, tenant)
        statement = sa.select(decisions).order_by(decisions.c.id.desc())
    count = (
        connection.execute(sa.select(sa.func.count()).select_from(statement.order_by(None).subquery())).scalar() or 0
    )
    rows = connection.execute(statement.limit(MAX_LISTED)).all()
    nodes = [
        TraceNode(
            "decision", row.id, {"created": row.created, "model": f"{row.model or ''} {row.version or ''}".strip()}
        )
        for row in rows
    ]
    return TraceNode("decisions", f"{count:,}", links=nodes)


def _reads_node(connection: sa.Connection, product: str, pseudonym: str) -> TraceNode:
    """Who read what about the subject: under its pseudonym, or the records of its decisions."""
    about = EVENTS.c.about == pseudonym
    if product == PATHOLOGY:
        about |= EVENTS.c.about.in_(sa.select(SLIDES.c.id).where(SLIDES.c.sha256 == pseudonym))
    else:
        decisions = all_decisions_about(product, pseudonym, None)
        batches = sa.select(BATCH_SUBJECTS.c.batch).where(BATCH_SUBJECTS.c.pseudonym == pseudonym)
        about |= EVENTS.c.about.in_(sa.select(decisions.c.id)) | EVENTS.c.about.in_(batches)
    statement = sa.select(EVENTS).where(EVENTS.c.kind == "read", about)
    count = connection.execute(sa.select(sa.func.count()).select_from(statement.subquery())).scalar_one()
    rows = connection.execute(statement.order_by(EVENTS.c.id.desc()).limit(MAX_LISTED)).mappings()
    names = ("at", "tenant", "by", "about", "what", "reason")
    return TraceNode(
        "reads", f"{count:,}", links=[TraceNode("read", row["id"], {name: row[name] for name in names}) for row in rows]
    )


def data_sets_containing(connection: sa.Connection, pseudonym: str) -> list[str]:
    """The digests of the exported data sets that contain rows of the subject."""
    statement = sa.select(DATASET_ROWS.c.dataset_sha256).where(DATASET_ROWS.c.pseudonym == pseudonym)
    return sorted(connection.execute(statement).scalars())


def bundles_by_data_set(
    connection: sa.Connection, settings: Settings, pseudonym: str
) -> dict[str, list[StoredVersion]]:
    """Each data set that contains rows of the subject, by its digest, with the bundles that were trained on it."""
    data_sets = data_sets_containing(connection, pseudonym)
    stored_bundles = versions.load_all(settings.paths.bundles, settings.paths.public_key) if data_sets else []
    return {
        sha256: [
            bundle
            for bundle in stored_bundles
            if bundle.card is not None and sha256 in {data.sha256 for data in bundle.card.data}
        ]
        for sha256 in data_sets
    }


def _exported_data_node(sha256: str, bundles: list[StoredVersion], serving: Mapping[str, str] | None) -> TraceNode:
    names = sorted(
        {data.name for bundle in bundles if bundle.card for data in bundle.card.data if data.sha256 == sha256}
    )
    node = TraceNode("data", ", ".join(names) or "(not in any card)", {"sha256": sha256})
    for bundle in bundles:
        live = bundle.is_champion if serving is None else serving.get(bundle.model) == bundle.version
        model = TraceNode("model", f"{bundle.model} {bundle.version}", {"bundle": bundle.digest, "live": live})
        if live:
            model.links.append(
                TraceNode("service", bundle.model, {"product": bundle.card.product if bundle.card else ""})
            )
        node.links.append(model)
    return node


def record_dataset_rows(connection: sa.Connection, dataset_sha256: str, pseudonyms: list[str]) -> None:
    """Record whose rows an exported data set contains. Recording the same again changes nothing."""
    statement = sa.select(DATASET_ROWS.c.pseudonym).where(DATASET_ROWS.c.dataset_sha256 == dataset_sha256)
    existing = set(connection.execute(statement).scalars())
    rows = [{"dataset_sha256": dataset_sha256, "pseudonym": pseudonym} for pseudonym in dict.fromkeys(pseudonyms)]
    if new_rows := [row for row in rows if row["pseudonym"] not in existing]:
        connection.execute(sa.insert(DATASET_ROWS), new_rows)
