"""From a decision back to the data and the authorisations behind it, and from a subject forward to what was made of it.

Each link says what it is, and where it is missing, why. What a bundle's card says counts only once its signature holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from datasets.schema import ColumnSchema
from models.bundle import CARD, BundleError, VerifiedBundle, parse_bundle, read_alias, verify_bundle
from models.card import BaseCard, DatasetInfo, DriftProfile
from serving.core.db.lookup import DecisionRecord, _all_decisions_about, tenant_filter
from serving.core.db.schema import DATASET_ROWS, ERASURES, GRANTS, SLIDES
from serving.privacy.subjects import vault
from serving.settings import SLIDE_PRODUCT as PATHOLOGY
from serving.settings import Settings

MAX_LISTED = 1_000  # decisions spelled out; the rest are counted


@dataclass
class TraceNode:
    """`missing`: why the trail ends here, in English and Chinese; empty where it does not."""

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
        """Every link that is missing, this one among them."""
        if self.missing:
            yield self
        for link in self.links:
            yield from link.missing_nodes()


class TracedCard(BaseCard):
    """Any product's card, read for what is asked of it here."""

    model_config = {"frozen": True, "extra": "ignore"}

    inputs: tuple[ColumnSchema, ...] = ()
    drift: DriftProfile | None = None


@dataclass(frozen=True)
class StoredBundle:
    """A bundle on the disk. `refused`: why its card proves nothing; then there is none."""

    model: str
    version: str
    digest: str = ""
    card: TracedCard | None = None
    refusal: str = ""
    live: bool = False  # the champion's pointer names it


def load_bundle(settings: Settings, model: str, version: str) -> StoredBundle | None:
    """None where there is no such folder."""
    return load_bundle_from(settings.paths.bundles, settings.paths.public_key, model, version)


def load_bundle_from(bundles: Path, public_key: Path, model: str, version: str) -> StoredBundle | None:
    folder = bundles / model / version
    if Path(model).name != model or Path(version).name != version or not folder.is_dir():
        return None
    live = read_alias(folder.parent) == version
    try:
        verified: VerifiedBundle = verify_bundle(folder, public_key)
        return StoredBundle(model, version, verified.digest, parse_bundle(verified, TracedCard).card, live=live)
    except (BundleError, OSError) as error:
        return StoredBundle(model, version, refusal=str(error), live=live)


def list_bundles(settings: Settings) -> list[StoredBundle]:
    """Every one that is on the disk."""
    card_paths = sorted(settings.paths.bundles.glob(f"*/*/{CARD}"))
    bundles = (load_bundle(settings, card.parent.parent.name, card.parent.name) for card in card_paths)
    return [bundle for bundle in bundles if bundle is not None]


# --- back


def trace_decision(connection: sa.Connection, settings: Settings, decision: DecisionRecord) -> TraceNode:
    detail = {"tenant": decision.tenant, "created": decision.created, "said": decision.outcome}
    root = TraceNode(
        decision.kind, decision.id, detail | ({"policy_version": decision.policy} if decision.policy else {})
    )
    if not decision.model:
        state = decision.outcome
        root.missing, root.missing_zh = f"no model has read it: it is {state}", f"尚无模型阅片：状态为 {state}"
        return root
    root.links.append(_model_node(connection, settings, decision))
    ids = [str(grant_id) for grant_id in decision.answer.get("authorisations", ())]
    root.links += _authorisation_nodes(connection, ids, decision.tenant)
    return root


def _model_node(connection: sa.Connection, settings: Settings, decision: DecisionRecord) -> TraceNode:
    node = TraceNode("model", f"{decision.model} {decision.version}", {"bundle": decision.bundle})
    bundle = load_bundle(settings, decision.model, decision.version)
    if bundle is None:
        node.missing = f"{settings.paths.bundles / decision.model / decision.version}: no such bundle. Bring it back."
        node.missing_zh = "磁盘上没有该模型包；请恢复"
    elif bundle.card is None:
        node.missing, node.missing_zh = bundle.refusal, "模型包签名或摘要不符，其卡片不足为凭"
    elif bundle.digest != decision.bundle:
        node.missing = f"the bundle on the disk has the digest {bundle.digest}; it is not the one that decided"
        node.missing_zh = f"磁盘上的模型包摘要为 {bundle.digest}，并非作出决定的那一个"
    else:
        node.detail["live"] = bundle.live
        node.links.append(_run_node(connection, bundle.card, decision.tenant))
    return node


def _run_node(connection: sa.Connection, card: TracedCard, tenant: str) -> TraceNode:
    run = TraceNode("run", card.run_id or "(none)", {"created": card.created, "seed": card.seed})
    if not card.run_id:
        run.missing, run.missing_zh = "the card names no training run", "卡片未写训练运行编号"
    commit = TraceNode("commit", card.git_commit or "(none)")
    if not card.git_commit:
        commit.missing, commit.missing_zh = "the card names no commit", "卡片未写代码提交"
    elif card.git_commit.endswith("+"):
        commit.missing = "files differed from the commit when the model was made"
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
        node.missing, node.missing_zh = "the card gives no digest of it", "卡片未给出其摘要"
    elif not (data.authorisations or data.simulated or data.licence):
        node.missing = "no authorisation, licence or simulation is told: nothing says that it might be used"
        node.missing_zh = "未写授权、许可或模拟来源：无从说明可以使用"
    return node


def _authorisation_nodes(connection: sa.Connection, ids: list[str], tenant: str) -> list[TraceNode]:
    """Of another tenant's, under whose grants a model was trained, no more than what it opens and until when."""
    statement = sa.select(GRANTS).where(GRANTS.c.id.in_(ids))
    # `groups` is a word of SQL: its name comes as a kind of text that orjson takes for no key
    grants = {
        row["id"]: {str(name): value for name, value in row.items()} for row in connection.execute(statement).mappings()
    }
    nodes = []
    for grant_id in ids:
        grant = grants.get(grant_id, {})
        is_own = grant.get("tenant") == tenant
        hidden = {"id", "subject"} if is_own else {"id", "subject", "tenant", "grantor", "document_sha256", "by"}
        detail = {name: value for name, value in grant.items() if name not in hidden}
        reason = ("", "") if grant_id in grants else ("the store holds no such authorisation", "库中没有该授权")
        nodes.append(TraceNode("authorisation", grant_id, detail, *reason))
    return nodes


# --- forward


def trace_subject(
    connection: sa.Connection,
    settings: Settings,
    product: str,
    subject: str,
    serving: Mapping[str, str] | None = None,
    tenant: str | None = None,
) -> TraceNode:
    """`subject`: as its owner names it; of a slide its id or SHA-256. `serving`: model -> version that answers;
    else what the champions' pointers name."""
    pseudonym = pseudonym_of(connection, settings, product, subject)
    root = TraceNode("subject", pseudonym, {"product": product})
    root.links.append(_decisions_node(connection, product, pseudonym, tenant))
    root.links += [
        _exported_data_node(sha256, bundles, serving)
        for sha256, bundles in bundles_by_data_set(connection, settings, pseudonym).items()
    ]
    root.links += [
        TraceNode("erasure", row.id, {"at": row.at})
        for row in connection.execute(sa.select(ERASURES.c.id, ERASURES.c.at).where(erasure_of(product, pseudonym)))
    ]
    return root


def pseudonym_of(connection: sa.Connection, settings: Settings, product: str, subject: str) -> str:
    """What the store calls it. Raises VaultLocked."""
    if product != PATHOLOGY:
        return vault.open_vault(settings).pseudonym(product, subject)
    if "\0" in subject:  # PostgreSQL looks for none, and nobody is called so
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
        decisions = _all_decisions_about(product, pseudonym, tenant)
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


def data_sets_containing(connection: sa.Connection, pseudonym: str) -> list[str]:
    """Digests of those that hold the subject's rows."""
    statement = sa.select(DATASET_ROWS.c.dataset_sha256).where(DATASET_ROWS.c.pseudonym == pseudonym)
    return sorted(connection.execute(statement).scalars())


def bundles_by_data_set(connection: sa.Connection, settings: Settings, pseudonym: str) -> dict[str, list[StoredBundle]]:
    """Each data set that holds the subject's rows, with the bundles made of it."""
    data_sets = data_sets_containing(connection, pseudonym)
    stored_bundles = list_bundles(settings) if data_sets else []
    return {
        sha256: [
            bundle
            for bundle in stored_bundles
            if bundle.card is not None and sha256 in {data.sha256 for data in bundle.card.data}
        ]
        for sha256 in data_sets
    }


def _exported_data_node(sha256: str, bundles: list[StoredBundle], serving: Mapping[str, str] | None) -> TraceNode:
    names = sorted(
        {data.name for bundle in bundles if bundle.card for data in bundle.card.data if data.sha256 == sha256}
    )
    node = TraceNode("data", ", ".join(names) or "(in no card)", {"sha256": sha256})
    for bundle in bundles:
        live = bundle.live if serving is None else serving.get(bundle.model) == bundle.version
        model = TraceNode("model", f"{bundle.model} {bundle.version}", {"bundle": bundle.digest, "live": live})
        if live:
            model.links.append(
                TraceNode("service", bundle.model, {"product": bundle.card.product if bundle.card else ""})
            )
        node.links.append(model)
    return node


def record_dataset_rows(connection: sa.Connection, dataset_sha256: str, pseudonyms: list[str]) -> None:
    """Whose rows a data set holds, told by what gives it out; once told, nothing is done again."""
    statement = sa.select(DATASET_ROWS.c.pseudonym).where(DATASET_ROWS.c.dataset_sha256 == dataset_sha256)
    existing = set(connection.execute(statement).scalars())
    rows = [{"dataset_sha256": dataset_sha256, "pseudonym": pseudonym} for pseudonym in dict.fromkeys(pseudonyms)]
    if new_rows := [row for row in rows if row["pseudonym"] not in existing]:
        connection.execute(sa.insert(DATASET_ROWS), new_rows)
