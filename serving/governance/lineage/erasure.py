"""Erases subjects and slides: deletes keys and files, bars the rows from further training, and signs a certificate.

    document = erase(engine, settings, "credit_limit", "H-000017", by="operator")

A model is not unlearned: the certificate names each one that was trained on the rows, for its owner to train it again
without them. Erasing the same subject again returns the same certificate.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import entries, log
from serving.core.db import lookup
from serving.core.db.engine import read_connection, write_transaction
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
from serving.core.identifiers import new_id, utc_now
from serving.core.security import keys
from serving.governance.lineage import trace
from serving.governance.lineage.deletion import enable_secure_delete, prove_deletion, reduce_decisions
from serving.pathology.slides.states import UNFINISHED, SlideNotFoundError
from serving.pathology.slides.store import add_event
from serving.privacy.subjects import vault
from serving.privacy.subjects.erasure_list import add_to_erasure_list, erased_among
from serving.settings import SLIDE_PRODUCT as PATHOLOGY
from serving.settings import Settings

PSEUDONYMS_PER_STATEMENT = 5_000
RETAINED_DECISIONS = {
    "what": "decisions",
    "why": "What was decided is retained as a record of a financial business, under a pseudonym: the decision, limit, "
    "grade and score. Its reasons, derivation and evidence are deleted.",
    "why_zh": "所作决定作为金融业务记录以假名保留：结论、额度、等级和评分；其理由、测算过程和证据均已删除。",
}
RETAINED_DATA = {
    "what": "data sets given out",
    "why": "Exported files contain the rows under a pseudonym; whoever has a file of data_sets must delete it.",
    "why_zh": "已导出的文件以假名含有这些行；持有 data_sets 中文件者须予删除。",
}
RETAINED_GRANTS = {
    "what": "authorisations",
    "why": "Authorisations are retained as proof of the basis on which the data were used.",
    "why_zh": "授权记录保留，以证明此前处理的依据。",
}
RETAINED_OUTCOMES = {
    "what": "outcomes",
    "why": "The outcomes of decisions are retained with them, under the ids of the decisions.",
    "why_zh": "决定的结果随决定一并保留，仅以决定编号标识。",
}
RETAINED_OVERRIDES = {
    "what": "overrides",
    "why": "The reasons of overrides are retained as they were written; whoever wrote a name into one must say so.",
    "why_zh": "人工改判的理由按原文保留；如其中写有姓名，须由撰写者说明。",
}
RETAINED_REFERRALS = {
    "what": "referrals",
    "why": "Notes between colleagues are retained as they were written; whoever wrote a name into one must say so.",
    "why_zh": "同事之间的转交说明按原文保留；如其中写有姓名，须由撰写者说明。",
}
RETAINED_NETWORKS = {
    "what": "place in the networks of other companies",
    "why": "The network of each neighbour is encrypted under the neighbour's own key, which an erasure does not open. "
    "Until the next register replaces it, it contains this company's pseudonym, which no longer opens anything.",
    "why_zh": "相邻企业的关联网络以其自身密钥加密，删除时不予解密；其中仍含本企业的假名（已无法解开任何数据），"
    "直至下一份名录将其替换。",
}
RETAINED_REPORTS = {
    "what": "reading and signed reports",
    "why": "Medical records are retained for the period that the law requires. The image and the files made from it "
    "for the reading are deleted; a signed report keeps the pictures that were signed with it.",
    "why_zh": "病历须按法定期限保存。影像及阅片时由其生成的文件已删除；已签发报告保留随其签发的图片。",
}

RETAINED_ORIGINAL = {
    "what": "original in the inbox",
    "why": "The original file in the inbox belongs to the clinic, which must delete it.",
    "why_zh": "收件箱中的原文件属医疗机构所有，须由其删除。",
}


class NothingToEraseError(LookupError):
    """Nothing is stored about the subject, and nothing ever was."""


class SlideInProgressError(Exception):
    """The slide is being processed; it must finish or be cancelled before it can be erased."""


def erase(engine: sa.Engine, settings: Settings, product: str, subject: str, by: str) -> dict[str, Any]:
    """Erase a subject and return the signed certificate, once it was shown that the key is gone from the disk.

    subject: the id that its owner uses. by: who erases it. Raises NothingToEraseError, StoreUnavailableError,
    VaultKeyError, KeyFileError, and ErasureNotProvenError where the subject is deleted but nothing certifies it yet;
    erasing it again then continues.
    """
    subject_vault = vault.open_vault(settings)
    keys.load_key_pair(settings.paths.log_key)  # nothing is deleted that could not be certified
    with write_transaction(engine) as connection:
        enable_secure_delete(connection)
        log.acquire_append_lock(connection)  # no decision about the subject is recorded until this ends
        pseudonym = trace.pseudonym_of(connection, settings, product, subject)
        earlier = _find_earlier_erasure(connection, product, pseudonym)
        about_subject = lookup.decisions_about(product, pseudonym)
        wrapped_keys = [key for _, key in vault.wrapped_keys(connection, [pseudonym])]
        in_register = _count(connection, COMPANIES, COMPANIES.c.pseudonym == pseudonym) > 0
        is_listed = bool(erased_among(connection, subject_vault.erasure_list, [pseudonym]))
        shredded = vault.shred(connection, subject_vault, product, subject)
        if earlier is not None and not shredded:
            return _certificate_document(settings, earlier)
        salts = reduce_decisions(connection, about_subject)
        is_known = _retained_decisions(connection, about_subject) or trace.data_sets_containing(connection, pseudonym)
        in_batches = _count(connection, lookup.batch_rows_about(product, pseudonym).subquery(), sa.true())
        if not (shredded or is_listed or is_known or in_batches):
            raise NothingToEraseError(
                f"Nothing is stored about {subject!r} for {product}. Check the id and the product."
            )
        if subject_vault.erasure_list is not None:  # before the commit: what is deleted is never loaded again
            add_to_erasure_list(subject_vault.erasure_list, [pseudonym])
    proof = prove_deletion(engine, [*wrapped_keys, *salts])
    with write_transaction(engine) as connection:
        log.acquire_append_lock(connection)
        decisions = _retained_decisions(connection, about_subject)
        details = {
            "what": "subject",
            "key_shredded": shredded or is_listed,
            "proof": proof,
            "kept": _retained(connection, product, pseudonym, len(decisions))
            + ([RETAINED_NETWORKS] if in_register else []),
        }
        row = _certify(connection, settings, product, pseudonym, details, by, decisions)
    return _certificate_document(settings, row)


def erase_reference(
    engine: sa.Engine, settings: Settings, product: str, tenant: str, reference: str, by: str
) -> dict[str, Any]:
    """Erase what answers say of somebody whose indicators a tenant stated, and return the signed certificate.

    reference: the tenant's own id, as its requests named it. Raises what `erase` raises.
    """
    keyed_reference = vault.open_vault(settings).reference(tenant, product, reference)
    keys.load_key_pair(settings.paths.log_key)  # nothing is deleted that could not be certified
    is_about = DECISIONS.c.reference == keyed_reference
    with write_transaction(engine) as connection:
        enable_secure_delete(connection)
        log.acquire_append_lock(connection)
        salts = reduce_decisions(connection, is_about)
        decisions = _retained_decisions(connection, is_about)
        if not decisions:
            raise NothingToEraseError(
                f"No answer of {tenant} to {product} names the reference {reference!r}. Check all three."
            )
        earlier = _find_earlier_erasure(connection, product, keyed_reference)
        if earlier is not None and orjson.loads(earlier["certificate"])["decisions"].keys() == decisions.keys():
            return _certificate_document(settings, earlier)
    proof = prove_deletion(engine, salts)
    with write_transaction(engine) as connection:
        log.acquire_append_lock(connection)
        decisions = _retained_decisions(connection, is_about)
        details: dict[str, Any] = {"what": "reference", "tenant": tenant, "proof": proof}
        details["kept"] = [RETAINED_DECISIONS | {"count": len(decisions)}]
        row = _certify(connection, settings, product, keyed_reference, details, by, decisions)
    return _certificate_document(settings, row)


def certify_retention(connection: sa.Connection, settings: Settings, reduced: list[str]) -> None:
    """Certify, in the transaction that reduced these decisions, that their retention period is over."""
    decisions = _retained_decisions(connection, DECISIONS.c.id.in_(reduced))
    details: dict[str, Any] = {"what": "retention", "kept": [RETAINED_DECISIONS | {"count": len(decisions)}]}
    _certify(connection, settings, "", "", details, "retention period", decisions)


def _retained(connection: sa.Connection, product: str, pseudonym: str, decisions: int) -> list[dict[str, Any]]:
    """What is kept after the erasure of a subject, with its counts. `decisions`: single ones."""
    rows = lookup.batch_rows_about(product, pseudonym).subquery()
    about_subject = lookup.decisions_about(product, pseudonym)
    ids = sa.union_all(sa.select(DECISIONS.c.id).where(about_subject), sa.select(rows.c.id))
    outcomes, overrides, referrals = (
        _count(connection, table, table.c.about.in_(ids)) for table in (OUTCOMES, OVERRIDES, REFERRALS)
    )
    counts = (
        (RETAINED_DECISIONS, decisions + _count(connection, rows, sa.true())),
        (RETAINED_DATA, len(trace.data_sets_containing(connection, pseudonym))),
        (RETAINED_GRANTS, _count(connection, GRANTS, GRANTS.c.subject == pseudonym)),
        (RETAINED_OUTCOMES, outcomes),
        (RETAINED_OVERRIDES, overrides),
        (RETAINED_REFERRALS, referrals),
    )
    return [entry | {"count": count} for entry, count in counts if count]


def erase_slide(engine: sa.Engine, settings: Settings, slide_id: str, by: str) -> dict[str, Any]:
    """Erase a slide's image and the files made from it, and return the signed certificate.

    Reports and the reading are retained as medical records. Raises SlideNotFoundError, SlideInProgressError,
    StoreUnavailableError and KeyFileError.
    """
    folder = settings.paths.slides / slide_id
    with write_transaction(engine) as connection:
        slide = connection.execute(sa.select(SLIDES).where(SLIDES.c.id == slide_id)).first()
        if slide is None:
            raise SlideNotFoundError(slide_id)
        if slide.state in UNFINISHED:
            raise SlideInProgressError(
                f"Slide {slide_id} is {slide.state}; wait until it is finished, or cancel it, then erase it."
            )
        pseudonym = str(slide.sha256 or slide_id)
        earlier = _find_earlier_erasure(connection, PATHOLOGY, pseudonym, slide_id)
        removed = sorted(path.name for path in folder.iterdir() if path.name != "reports") if folder.is_dir() else []
        if earlier is not None and not removed:
            return _certificate_document(settings, earlier)
        details: dict[str, Any] = {"what": "slide", "slide": slide_id, "files_removed": removed}
        details["kept"] = [RETAINED_REPORTS, *([RETAINED_ORIGINAL] if _came_from_inbox(connection, slide_id) else [])]
        add_event(connection, slide_id, {"erased": removed})
        row = _certify(connection, settings, PATHOLOGY, pseudonym, details, by)
        for name in removed:  # in the transaction: where a file cannot be deleted, nothing is certified
            path = folder / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return _certificate_document(settings, row)


def _certify(
    connection: sa.Connection,
    settings: Settings,
    product: str,
    pseudonym: str,
    details: dict[str, Any],
    by: str,
    decisions: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Sign a certificate and insert it with its log entry; return its row of ERASURES.

    decisions: those whose salts were deleted, with the digests of what is retained of them: the audit accepts a missing
    salt only where a certificate names the decision and its digest.
    """
    bundles_by_data_set = trace.bundles_by_data_set(connection, settings, pseudonym)
    models = {(bundle.model, bundle.version): bundle for bundles in bundles_by_data_set.values() for bundle in bundles}
    certificate = {
        "certificate": new_id(),
        "at": utc_now(),
        "by": by,
        "product": product,
        "pseudonym": pseudonym,
        "excluded_from_training": True,
        "decisions": decisions or {},
        "data_sets": sorted(bundles_by_data_set),
        "models": [
            {"model": bundle.model, "version": bundle.version, "bundle": bundle.digest, "live": bundle.is_champion}
            for _, bundle in sorted(models.items())
        ],
        **details,
    }
    content = orjson.dumps(certificate, option=orjson.OPT_SORT_KEYS)
    signature = keys.load_key_pair(settings.paths.log_key)[0].sign(content)
    digest = hashlib.sha256(content).hexdigest()
    entry = log.make_entry("erasure", utc_now(), "", str(certificate["certificate"]), certificate_sha256=digest)
    leaf = log.append(connection, [entry])
    row = {"id": certificate["certificate"], "product": product, "pseudonym": pseudonym, "at": certificate["at"]}
    row |= {"certificate": content, "signature": signature, "leaf": leaf}
    connection.execute(sa.insert(ERASURES).values(row))
    return row


def erased_subjects(connection: sa.Connection, product: str, pseudonyms: Iterable[str]) -> set[str]:
    """Those of these subjects that were erased, and that no training may use any more."""
    requested, erased = list(pseudonyms), set()
    for offset in range(0, len(requested), PSEUDONYMS_PER_STATEMENT):
        statement = sa.select(ERASURES.c.pseudonym).where(ERASURES.c.product == product)
        chunk_statement = statement.where(
            ERASURES.c.pseudonym.in_(requested[offset : offset + PSEUDONYMS_PER_STATEMENT])
        )
        erased |= set(connection.execute(chunk_statement).scalars())
    return erased


def list_certificates(engine: sa.Engine, settings: Settings, product: str, subject: str) -> list[dict[str, Any]]:
    """Every certificate of a subject, oldest first."""
    with read_connection(engine) as connection:
        pseudonym = trace.pseudonym_of(connection, settings, product, subject)
        statement = sa.select(ERASURES).where(trace.erasure_of(product, pseudonym)).order_by(ERASURES.c.id)
        return [_certificate_document(settings, dict(row._mapping)) for row in connection.execute(statement)]


def verify_certificate(document: dict[str, Any], public_key: bytes) -> bool:
    """Whether the key signed this certificate. Raises ValueError for a document that is not a certificate."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public_key)
    if not isinstance(key, Ed25519PublicKey) or not {"certificate", "signature"} <= document.keys():
        raise ValueError("an Ed25519 public key and a certificate with its signature are expected")
    try:
        key.verify(
            base64.b64decode(document["signature"]),
            orjson.dumps(document["certificate"], option=orjson.OPT_SORT_KEYS),
        )
    except InvalidSignature:
        return False
    return True


def _certificate_document(settings: Settings, row: dict[str, Any]) -> dict[str, Any]:
    """The certificate as it is handed out."""
    return {
        "certificate": orjson.loads(row["certificate"]),
        "signature": base64.b64encode(row["signature"]).decode(),
        "leaf": row["leaf"],
    }


def _find_earlier_erasure(
    connection: sa.Connection, product: str, pseudonym: str, slide_id: str | None = None
) -> dict[str, Any] | None:
    """The newest erasure of a subject; of a slide where one is named, as another tenant may have the same content."""
    statement = sa.select(ERASURES).where(trace.erasure_of(product, pseudonym)).order_by(ERASURES.c.id.desc())
    for row in connection.execute(statement):
        if slide_id is None or orjson.loads(row.certificate).get("slide") == slide_id:
            return dict(row._mapping)
    return None


def _came_from_inbox(connection: sa.Connection, slide_id: str) -> bool:
    """Whether the slide was taken from the inbox."""
    metadata = connection.execute(sa.select(UPLOADS.c.metadata).where(UPLOADS.c.slide == slide_id)).scalars()
    return any("reference" in entry for entry in metadata)


def _retained_decisions(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[str, str]:
    """Decision -> digest of its row, for those without a salt."""
    columns = (DECISIONS.c[name] for name in ("id", "answer", *entries.DECISION_FIELDS))
    rows = connection.execute(sa.select(*columns).where(condition, DECISIONS.c.salt.is_(None)).order_by(DECISIONS.c.id))
    return {name: entries.retained_decision_digest(answer, record) for name, answer, *record in rows}


def _count(connection: sa.Connection, table: sa.FromClause, condition: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(condition)).scalar_one())
