"""From a decision back to the data and the authorisations behind it, and from a subject forward to what was made of it.

Each link says what it is, and where it is missing, why. What a bundle's card says counts only once its signature holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from datasets.schema import Column
from models.bundle import CARD, BundleRefused, Verified, pointed, read, verify
from models.card import Data, Drift, Stamp
from serving.core.db.lookup import Recorded, _named_in, whose
from serving.core.db.schema import DATASET_ROWS, ERASURES, GRANTS, SLIDES
from serving.privacy.subjects import vault
from serving.settings import SLIDES as PATHOLOGY
from serving.settings import Settings

MOST = 1_000  # decisions spelled out; the rest are counted


@dataclass
class Link:
    """`missing`: why the trail ends here, in English and Chinese; empty where it does not."""

    kind: str
    name: str
    detail: dict[str, Any] = field(default_factory=dict)
    missing: str = ""
    missing_zh: str = ""
    links: list[Link] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"kind": self.kind, "name": self.name, **self.detail}
        if self.missing:
            told |= {"missing": self.missing, "missing_zh": self.missing_zh}
        return told | {"links": [link.json() for link in self.links]}

    def gaps(self) -> Iterator[Link]:
        """Every link that is missing, this one among them."""
        if self.missing:
            yield self
        for link in self.links:
            yield from link.gaps()


class Stamped(Stamp):
    """Any product's card, read for what is asked of it here."""

    model_config = {"frozen": True, "extra": "ignore"}

    inputs: tuple[Column, ...] = ()
    drift: Drift | None = None


@dataclass(frozen=True)
class Kept:
    """A bundle on the disk. `refused`: why its card proves nothing; then there is none."""

    model: str
    version: str
    digest: str = ""
    card: Stamped | None = None
    refused: str = ""
    live: bool = False  # the champion's pointer names it


def bundle_at(settings: Settings, model: str, version: str) -> Kept | None:
    """None where there is no such folder."""
    return bundle_in(settings.paths.bundles, settings.paths.public_key, model, version)


def bundle_in(bundles: Path, public_key: Path, model: str, version: str) -> Kept | None:
    folder = bundles / model / version
    if Path(model).name != model or Path(version).name != version or not folder.is_dir():
        return None
    live = pointed(folder.parent) == version
    try:
        verified: Verified = verify(folder, public_key)
        return Kept(model, version, verified.digest, read(verified, Stamped).card, live=live)
    except (BundleRefused, OSError) as error:
        return Kept(model, version, refused=str(error), live=live)


def bundles(settings: Settings) -> list[Kept]:
    """Every one that is on the disk."""
    found = sorted(settings.paths.bundles.glob(f"*/*/{CARD}"))
    kept = (bundle_at(settings, card.parent.parent.name, card.parent.name) for card in found)
    return [one for one in kept if one is not None]


# --- back


def back(connection: sa.Connection, settings: Settings, decision: Recorded) -> Link:
    told = {"tenant": decision.tenant, "created": decision.created, "said": decision.said}
    root = Link(decision.kind, decision.id, told | ({"policy_version": decision.policy} if decision.policy else {}))
    if not decision.model:
        state = decision.said
        root.missing, root.missing_zh = f"no model has read it: it is {state}", f"尚无模型阅片：状态为 {state}"
        return root
    root.links.append(_model(connection, settings, decision))
    ids = [str(one) for one in decision.answer.get("authorisations", ())]
    root.links += _authorisations(connection, ids, decision.tenant)
    return root


def _model(connection: sa.Connection, settings: Settings, decision: Recorded) -> Link:
    link = Link("model", f"{decision.model} {decision.version}", {"bundle": decision.bundle})
    kept = bundle_at(settings, decision.model, decision.version)
    if kept is None:
        link.missing = f"{settings.paths.bundles / decision.model / decision.version}: no such bundle. Bring it back."
        link.missing_zh = "磁盘上没有该模型包；请恢复"
    elif kept.card is None:
        link.missing, link.missing_zh = kept.refused, "模型包签名或摘要不符，其卡片不足为凭"
    elif kept.digest != decision.bundle:
        link.missing = f"the bundle on the disk has the digest {kept.digest}; it is not the one that decided"
        link.missing_zh = f"磁盘上的模型包摘要为 {kept.digest}，并非作出决定的那一个"
    else:
        link.detail["live"] = kept.live
        link.links.append(_run(connection, kept.card, decision.tenant))
    return link


def _run(connection: sa.Connection, card: Stamped, tenant: str) -> Link:
    run = Link("run", card.run_id or "(none)", {"created": card.created, "seed": card.seed})
    if not card.run_id:
        run.missing, run.missing_zh = "the card names no training run", "卡片未写训练运行编号"
    commit = Link("commit", card.git_commit or "(none)")
    if not card.git_commit:
        commit.missing, commit.missing_zh = "the card names no commit", "卡片未写代码提交"
    elif card.git_commit.endswith("+"):
        commit.missing = "files differed from the commit when the model was made"
        commit.missing_zh = "训练时文件与该提交不一致"
    run.links = [commit, *(data_set(connection, one, tenant) for one in card.data)]
    if not card.data:
        absent = "the card names no data set", "卡片未写数据集"
        run.links.append(Link("data", "(none)", missing=absent[0], missing_zh=absent[1]))
    return run


def data_set(connection: sa.Connection, data: Data, tenant: str) -> Link:
    told = data.model_dump(exclude={"authorisations", "name"}, exclude_defaults=True)
    link = Link("data", data.name, told, links=_authorisations(connection, list(data.authorisations), tenant))
    if not data.sha256:
        link.missing, link.missing_zh = "the card gives no digest of it", "卡片未给出其摘要"
    elif not (data.authorisations or data.simulated or data.licence):
        link.missing = "no authorisation, licence or simulation is told: nothing says that it might be used"
        link.missing_zh = "未写授权、许可或模拟来源：无从说明可以使用"
    return link


def _authorisations(connection: sa.Connection, ids: list[str], tenant: str) -> list[Link]:
    """Of another tenant's, under whose grants a model was trained, no more than what it opens and until when."""
    chosen = sa.select(GRANTS).where(GRANTS.c.id.in_(ids))
    # `groups` is a word of SQL: its name comes as a kind of text that orjson takes for no key
    known = {
        row["id"]: {str(name): found for name, found in row.items()} for row in connection.execute(chosen).mappings()
    }
    links = []
    for one in ids:
        grant = known.get(one, {})
        mine = grant.get("tenant") == tenant
        hidden = {"id", "subject"} if mine else {"id", "subject", "tenant", "grantor", "document_sha256", "by"}
        told = {name: value for name, value in grant.items() if name not in hidden}
        absent = ("", "") if one in known else ("the store holds no such authorisation", "库中没有该授权")
        links.append(Link("authorisation", one, told, *absent))
    return links


# --- forward


def forward(
    connection: sa.Connection,
    settings: Settings,
    product: str,
    subject: str,
    serving: Mapping[str, str] | None = None,
    tenant: str | None = None,
) -> Link:
    """`subject`: as its owner names it; of a slide its id or SHA-256. `serving`: model -> version that answers;
    else what the champions' pointers name."""
    pseudonym = of_subject(connection, settings, product, subject)
    root = Link("subject", pseudonym, {"product": product})
    root.links.append(_decisions(connection, product, pseudonym, tenant))
    root.links += [_given_out(one, made, serving) for one, made in made_of(connection, settings, pseudonym).items()]
    root.links += [
        Link("erasure", row.id, {"at": row.at})
        for row in connection.execute(sa.select(ERASURES.c.id, ERASURES.c.at).where(erased_as(product, pseudonym)))
    ]
    return root


def of_subject(connection: sa.Connection, settings: Settings, product: str, subject: str) -> str:
    """What the store calls it. Raises VaultLocked."""
    if product != PATHOLOGY:
        return vault.of(settings).pseudonym(product, subject)
    if "\0" in subject:  # PostgreSQL looks for none, and nobody is called so
        return ""
    found = connection.execute(sa.select(SLIDES.c.sha256).where(SLIDES.c.id == subject)).scalar()
    return str(found or subject)


def erased_as(product: str, pseudonym: str) -> sa.ColumnElement[bool]:
    return sa.and_(ERASURES.c.product == product, ERASURES.c.pseudonym == pseudonym)


def _decisions(connection: sa.Connection, product: str, pseudonym: str, tenant: str | None) -> Link:
    if product == PATHOLOGY:
        chosen = sa.select(SLIDES.c.id, SLIDES.c.created, SLIDES.c.model, SLIDES.c.version)
        chosen = chosen.where(SLIDES.c.sha256 == pseudonym, whose(SLIDES, tenant)).order_by(SLIDES.c.id.desc())
    else:
        both = _named_in(product, pseudonym, tenant)
        chosen = sa.select(both).order_by(both.c.id.desc())
    many = connection.execute(sa.select(sa.func.count()).select_from(chosen.order_by(None).subquery())).scalar() or 0
    found = connection.execute(chosen.limit(MOST)).all()
    links = [
        Link("decision", row.id, {"created": row.created, "model": f"{row.model or ''} {row.version or ''}".strip()})
        for row in found
    ]
    return Link("decisions", f"{many:,}", links=links)


def data_sets_of(connection: sa.Connection, pseudonym: str) -> list[str]:
    """Digests of those that hold the subject's rows."""
    chosen = sa.select(DATASET_ROWS.c.dataset_sha256).where(DATASET_ROWS.c.pseudonym == pseudonym)
    return sorted(connection.execute(chosen).scalars())


def made_of(connection: sa.Connection, settings: Settings, pseudonym: str) -> dict[str, list[Kept]]:
    """Each data set that holds the subject's rows, with the bundles made of it."""
    held = data_sets_of(connection, pseudonym)
    known = bundles(settings) if held else []
    return {
        one: [kept for kept in known if kept.card is not None and one in {data.sha256 for data in kept.card.data}]
        for one in held
    }


def _given_out(sha256: str, made: list[Kept], serving: Mapping[str, str] | None) -> Link:
    names = sorted({data.name for kept in made if kept.card for data in kept.card.data if data.sha256 == sha256})
    link = Link("data", ", ".join(names) or "(in no card)", {"sha256": sha256})
    for kept in made:
        live = kept.live if serving is None else serving.get(kept.model) == kept.version
        model = Link("model", f"{kept.model} {kept.version}", {"bundle": kept.digest, "live": live})
        if live:
            model.links.append(Link("service", kept.model, {"product": kept.card.product if kept.card else ""}))
        link.links.append(model)
    return link


def note_rows(connection: sa.Connection, dataset_sha256: str, pseudonyms: list[str]) -> None:
    """Whose rows a data set holds, told by what gives it out; once told, nothing is done again."""
    held = sa.select(DATASET_ROWS.c.pseudonym).where(DATASET_ROWS.c.dataset_sha256 == dataset_sha256)
    before = set(connection.execute(held).scalars())
    rows = [{"dataset_sha256": dataset_sha256, "pseudonym": one} for one in dict.fromkeys(pseudonyms)]
    if new := [row for row in rows if row["pseudonym"] not in before]:
        connection.execute(sa.insert(DATASET_ROWS), new)
