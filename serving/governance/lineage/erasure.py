"""A subject erased: its key shredded, its rows kept out of further training, what was made of it named, a certificate.

    document = erase(engine, settings, "credit_limit", "H-000017", by="operator")     # once; asked again, the same one

A model is not unlearned: the certificate names each that has seen the rows, for its owner to train anew without them.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import log
from serving.core.db import lookup
from serving.core.db.engine import reading, unavailable, writing
from serving.core.db.schema import (
    COMPANIES,
    DECISIONS,
    ERASURES,
    GRANTS,
    OUTCOMES,
    OVERRIDES,
    REFERRALS,
    SLIDES,
    UPLOADS,
)
from serving.core.identifiers import new_id, now
from serving.core.security import keys
from serving.governance.lineage import trace
from serving.pathology.slides.states import UNFINISHED, UnknownSlide
from serving.pathology.slides.store import note
from serving.privacy.subjects import vault
from serving.settings import SLIDES as PATHOLOGY
from serving.settings import Settings

PARTS = 5_000  # pseudonyms in one question
KEPT_DECISIONS = {
    "what": "decisions",
    "why": "What was answered stays as the record of a financial decision, under a pseudonym and without indicators.",
    "why_zh": "已作出的决定作为金融业务记录保留，仅含假名，不含指标。",
}
KEPT_DATA = {
    "what": "data sets given out",
    "why": "Files that left the store hold the rows under a pseudonym; who holds one of data_sets must delete it.",
    "why_zh": "已导出的文件以假名含有这些行；持有 data_sets 中文件者须予删除。",
}
KEPT_GRANTS = {
    "what": "authorisations",
    "why": "That consent was given stays as proof of what was done under it.",
    "why_zh": "授权记录保留，以证明此前处理的依据。",
}
KEPT_OUTCOMES = {
    "what": "outcomes",
    "why": "How the decisions turned out stays with them, under their ids.",
    "why_zh": "决定的结果随决定一并保留，仅以决定编号标识。",
}
KEPT_OVERRIDES = {
    "what": "overrides",
    "why": "Why a person decided otherwise stays as it was written; whoever wrote a name into it must say so.",
    "why_zh": "人工改判的理由按原文保留；如其中写有姓名，须由撰写者说明。",
}
KEPT_REFERRALS = {
    "what": "referrals",
    "why": "What one colleague wrote to another stays as it was written; whoever wrote a name into it must say so.",
    "why_zh": "同事之间的转交说明按原文保留；如其中写有姓名，须由撰写者说明。",
}
KEPT_NETWORKS = {
    "what": "place in the networks of other companies",
    "why": "What lies around each of its neighbours is sealed under the neighbour's own key, where an erasure does not "
    "look: it holds this company's pseudonym, which opens nothing any more, until the next register replaces it.",
    "why_zh": "相邻企业的关联网络以其自身密钥密封，删除时不予解封；其中仍含本企业的假名（已无法解开任何数据），"
    "直至下一份名录将其替换。",
}
KEPT_REPORTS = {
    "what": "reading and signed reports",
    "why": "Medical records are kept for as long as the law asks. The image and what was cut from it for the "
    "reading are gone; a signed report keeps the pictures that were signed with it.",
    "why_zh": "病历须按法定期限保存。影像及阅片时由其生成的文件已删除；已签发报告保留随其签发的图片。",
}

KEPT_ORIGINAL = {
    "what": "original in the inbox",
    "why": "The file that was named in the inbox is its clinic's own, which must delete it.",
    "why_zh": "收件箱中的原文件属医疗机构所有，须由其删除。",
}


class NothingToErase(LookupError):
    """Nothing of the subject is there, and nothing was."""


class StillRead(Exception):
    """The slide is on its way; it must end, or be cancelled, first."""


def erase(engine: sa.Engine, settings: Settings, product: str, subject: str, by: str) -> dict[str, Any]:
    """The signed certificate. One transaction, or nothing. Raises NothingToErase, StoreUnavailable, VaultLocked and
    KeyUnusable."""
    with writing(engine) as connection:
        _overwrite(connection)
        log.lock(connection)  # no answer about the subject is recorded between here and the end
        pseudonym = trace.of_subject(connection, settings, product, subject)
        mine = lookup.about(product, pseudonym)
        decisions = _decisions(connection, mine)
        grants = _count(connection, GRANTS, GRANTS.c.subject == pseudonym)
        rows = lookup.in_batches(product, pseudonym).subquery()
        in_batches = _count(connection, rows, sa.true())
        ids = sa.union_all(sa.select(DECISIONS.c.id).where(mine), sa.select(rows.c.id))
        outcomes, overrides, referrals = (
            _count(connection, table, table.c.about.in_(ids)) for table in (OUTCOMES, OVERRIDES, REFERRALS)
        )
        held = trace.data_sets_of(connection, pseudonym)
        in_register = _count(connection, COMPANIES, COMPANIES.c.pseudonym == pseudonym) > 0
        shredded = vault.shred(connection, vault.of(settings), product, subject)
        earlier = _earlier(connection, product, pseudonym)
        if earlier is not None and not shredded:
            return _document(settings, earlier)
        if not (shredded or decisions or in_batches or held):
            raise NothingToErase(f"Nothing of {subject!r} is stored for {product}. Check the id and the product.")
        _forget_salts(connection, mine)
        kept = ((KEPT_DECISIONS, len(decisions) + in_batches), (KEPT_DATA, len(held)), (KEPT_GRANTS, grants),
                (KEPT_OUTCOMES, outcomes), (KEPT_OVERRIDES, overrides), (KEPT_REFERRALS, referrals))  # fmt: skip
        told = {
            "what": "subject",
            "key_shredded": shredded,
            "kept": [what | {"count": many} for what, many in kept if many] + ([KEPT_NETWORKS] if in_register else []),
        }
        row = _certify(connection, settings, product, pseudonym, told, by, decisions)
    _settle(engine)
    return _document(settings, row)


def erase_slide(engine: sa.Engine, settings: Settings, slide: str, by: str) -> dict[str, Any]:
    """Its image and whatever was cut from it; report and reading stay, as medical records. Raises UnknownSlide,
    StillRead, StoreUnavailable."""
    folder = settings.paths.slides / slide
    with writing(engine) as connection:
        found = connection.execute(sa.select(SLIDES).where(SLIDES.c.id == slide)).first()
        if found is None:
            raise UnknownSlide(slide)
        if found.state in UNFINISHED:
            raise StillRead(f"Slide {slide} is {found.state}; let it end or cancel it, then erase it.")
        pseudonym = str(found.sha256 or slide)
        earlier = _earlier(connection, PATHOLOGY, pseudonym, slide)
        removed = sorted(path.name for path in folder.iterdir() if path.name != "reports") if folder.is_dir() else []
        if earlier is not None and not removed:
            return _document(settings, earlier)
        told: dict[str, Any] = {"what": "slide", "slide": slide, "files_removed": removed}
        told["kept"] = [KEPT_REPORTS, *([KEPT_ORIGINAL] if _referred(connection, slide) else [])]
        note(connection, slide, {"erased": removed})
        row = _certify(connection, settings, PATHOLOGY, pseudonym, told, by)
        for name in removed:  # in the transaction: were one left, no certificate would stand
            path = folder / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return _document(settings, row)


def _certify(
    connection: sa.Connection,
    settings: Settings,
    product: str,
    pseudonym: str,
    told: dict[str, Any],
    by: str,
    decisions: list[str] | None = None,
) -> dict[str, Any]:
    """decisions: those whose salts went, which the log's leaf names so that an audit knows why."""
    made = trace.made_of(connection, settings, pseudonym)
    models = {(kept.model, kept.version): kept for found in made.values() for kept in found}
    certificate = {
        "certificate": new_id(),
        "at": now(),
        "by": by,
        "product": product,
        "pseudonym": pseudonym,
        "excluded_from_training": True,
        "data_sets": sorted(made),
        "models": [
            {"model": kept.model, "version": kept.version, "bundle": kept.digest, "live": kept.live}
            for _, kept in sorted(models.items())
        ],
        **told,
    }
    content = orjson.dumps(certificate, option=orjson.OPT_SORT_KEYS)
    signature = keys.pair(settings.paths.log_key)[0].sign(content)
    body = {"certificate_sha256": hashlib.sha256(content).hexdigest(), "decisions": decisions or []}
    leaf = log.append(connection, [log.entry("erasure", now(), "", str(certificate["certificate"]), **body)])
    row = {"id": certificate["certificate"], "product": product, "pseudonym": pseudonym, "at": certificate["at"]}
    row |= {"certificate": content, "signature": signature, "leaf": leaf}
    connection.execute(sa.insert(ERASURES).values(row))
    return row


def erased(connection: sa.Connection, product: str, pseudonyms: Iterable[str]) -> set[str]:
    """Those that no further training may see."""
    wanted, found = list(pseudonyms), set()
    for at in range(0, len(wanted), PARTS):
        chosen = sa.select(ERASURES.c.pseudonym).where(ERASURES.c.product == product)
        part = chosen.where(ERASURES.c.pseudonym.in_(wanted[at : at + PARTS]))
        found |= set(connection.execute(part).scalars())
    return found


def certificates(engine: sa.Engine, settings: Settings, product: str, subject: str) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        pseudonym = trace.of_subject(connection, settings, product, subject)
        chosen = sa.select(ERASURES).where(trace.erased_as(product, pseudonym)).order_by(ERASURES.c.id)
        return [_document(settings, dict(row._mapping)) for row in connection.execute(chosen)]


def holds(document: dict[str, Any], public_key: bytes) -> bool:
    """Whether the certificate is the one that the key signed. Raises ValueError for what is no certificate."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public_key)
    if not isinstance(key, Ed25519PublicKey) or not {"certificate", "signature"} <= document.keys():
        raise ValueError("an Ed25519 public key and a certificate with its signature are needed")
    try:
        key.verify(
            base64.b64decode(document["signature"]),
            orjson.dumps(document["certificate"], option=orjson.OPT_SORT_KEYS),
        )
    except InvalidSignature:
        return False
    return True


def _document(settings: Settings, row: dict[str, Any]) -> dict[str, Any]:
    """As it is given out."""
    return {
        "certificate": orjson.loads(row["certificate"]),
        "signature": base64.b64encode(row["signature"]).decode(),
        "leaf": row["leaf"],
    }


def _earlier(
    connection: sa.Connection, product: str, pseudonym: str, slide: str | None = None
) -> dict[str, Any] | None:
    """`slide`: of that one, as another tenant's may have the same content."""
    chosen = sa.select(ERASURES).where(trace.erased_as(product, pseudonym)).order_by(ERASURES.c.id.desc())
    for found in connection.execute(chosen):
        if slide is None or orjson.loads(found.certificate).get("slide") == slide:
            return dict(found._mapping)
    return None


def _referred(connection: sa.Connection, slide: str) -> bool:
    """Whether it came out of the inbox."""
    told = connection.execute(sa.select(UPLOADS.c.metadata).where(UPLOADS.c.slide == slide)).scalars()
    return any("reference" in one for one in told)


def _decisions(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[str]:
    return list(connection.execute(sa.select(DECISIONS.c.id).where(which).order_by(DECISIONS.c.id)).scalars())


def _count(connection: sa.Connection, table: sa.FromClause, which: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(which)).scalar_one())


def _forget_salts(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Without its salt the digest of what was read cannot be matched against guesses."""
    connection.execute(sa.update(DECISIONS).where(which).values(salt=None))


def _overwrite(connection: sa.Connection) -> None:
    """What is deleted is overwritten with zeros, not only let go of."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON").close()


def _settle(engine: sa.Engine) -> None:
    """What was deleted leaves the write-ahead log (SQLite) or the dead rows (PostgreSQL) too."""
    try:
        with engine.execution_options(reading=True, isolation_level="AUTOCOMMIT").connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()
            else:
                connection.exec_driver_sql("VACUUM")
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error
