"""The rows that the log's leaves stand for, each compared with what its leaf tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.batches import Batches
from serving.core.audit.auditor.findings import MOST, Body, Comparison, Report, made_of, raw
from serving.core.audit.auditor.slides import READ, Slides
from serving.core.audit.verify import salted
from serving.core.db.schema import (
    BATCH_SUBJECTS,
    CHUNKS,
    DECISIONS,
    ERASURES,
    GRANT_USES,
    GRANTS,
    LINEAGES,
    LOG_LEAVES,
    METER,
    OUTCOMES,
    OVERRIDES,
    PROMOTIONS,
    REFERRALS,
    SLIDE_REPORTS,
)

# What a leaf of each kind tells, as far as it is compared here.
KEPT = {
    "grant": GRANTS,
    "outcome": OUTCOMES,
    "override": OVERRIDES,
    "promotion": PROMOTIONS,
    "referral": REFERRALS,
}  # kind of leaf -> the table of its row
SHAPES: dict[str, dict[str, type]] = {
    "start": {"before": dict},
    "decision": {"bundle": str, "policy": str, "answer": str, "record": str},
    "chunk": {"batch": str, "first": int, "rows": int, "content": str, "bundle": str, "policy": str},
    "batch_end": {"state": str},
    "slide_state": {"state": str, "reading": str},
    "slide_note": {"state": str, "event": int, "since": int, "way": str, "record": str},
    "report": {"slide": str, "version": int, "pdf": str, "record": str},
    "erasure": {"decisions": list},
    **{kind: {"row": str} for kind in KEPT},
    "revocation": {"revoked_at": str},
}
PRICE = {"units": int, "rules": str, "rule": str, "fen": int}


class Rows(Comparison):
    """`compare` the leaves in their order, then `finish`."""

    def __init__(self, connection: sa.Connection, report: Report):
        super().__init__(connection, report)
        self.batches, self.slides = Batches(connection, report), Slides(connection, report)
        self.before: Mapping[str, int] = {}  # rows that were there when the log began, by table
        self.began = ""
        self.lineages: set[str] = set()
        self.erased: set[str] = set()  # decisions whose salt is gone
        self.erasures: set[str] = set()  # and those of which a leaf says so

    def finish(self) -> None:
        """What no leaf tells of."""
        for decision in sorted(self.erased - self.erasures):
            self.report.add("edited", f"decisions {decision}", "its salt is gone, and no leaf tells of an erasure")
        self.batches.finish()
        self.slides.finish()
        self._added()
        self._unentered()
        self._used()

    def compare(self, told: list[tuple[int, Body]]) -> None:
        decisions = {body["ref"]: (index, body) for index, body in told if body["kind"] == "decision"}
        if decisions:
            self._decisions(decisions)
        priced = {body["ref"]: (index, body) for index, body in told if "price" in body}
        if priced:
            self._meter(priced)
        if told:
            self._uses({index: body.get("authorisations") for index, body in told})
        for index, body in told:
            kind = body["kind"]
            if kind == "start" and index == 0:
                self.before, self.began = body["before"], body["at"]
            elif kind == "chunk":
                self.batches.chunk(index, body)
            elif kind == "batch_end":
                self.batches.end(index, body)
            elif kind == "report":
                self.slides.signed(index, body)
            elif kind in ("slide_state", "slide_note"):
                self.slides.moment(index, body)
                if kind == "slide_state" and body["state"] in READ:
                    self.slides.reading(index, body)
            elif kind == "erasure":
                self.erasures.update(map(str, body["decisions"]))
                self._erasure(index, body)
            elif kind in KEPT:
                self._row(index, body, KEPT[kind])
            elif kind == "revocation":
                self._revocation(index, body)
            if (lineage := body.get("lineage")) is not None and lineage not in self.lineages:
                self._lineage(lineage)

    def _decisions(self, told: dict[str, tuple[int, Body]]) -> None:
        names = ("id", "leaf", "tenant", "bundle", "policy", "salt", "answer", *entries.RECORD)
        chosen = sa.select(*(DECISIONS.c[name] for name in names)).where(DECISIONS.c.id.in_(told))
        there = set()
        for name, leaf, tenant, bundle, policy, salt, answer, *record in self.connection.execute(chosen):
            there.add(name)
            index, body = told[name]
            self.linked("decisions", name, leaf, index)
            if salt is None:  # what was salted proves nothing any more
                self.erased.add(name)
                digests = body["answer"], body["record"]
            else:
                record_ = orjson.dumps(record, default=repr)
                digests = salted(raw(salt), raw(answer)), salted(raw(salt), record_)
            found = tenant, bundle, policy, *digests
            if found != (body["tenant"], body["bundle"], body["policy"], body["answer"], body["record"]):
                parts = ("tenant", "bundle", "policy", "answer", ", ".join(entries.RECORD))
                wanted = (body[part] for part in (*parts[:4], "record"))
                wrong = [part for part, is_, was in zip(parts, found, wanted, strict=True) if is_ != was]
                self.differs(f"decisions {name}", index, "; ".join(wrong))
        self.report.rows["decisions"] += len(there)
        self.missing("decisions", told, there)

    def _meter(self, told: dict[str, tuple[int, Body]]) -> None:
        names = ("tenant", "product", "at", "units", "rules", "rule", "fen")
        chosen = sa.select(METER.c.decision, METER.c.leaf, *(METER.c[name] for name in names))
        there = set()
        for name, leaf, *found in self.connection.execute(chosen.where(METER.c.decision.in_(told))):
            there.add(name)
            index, body = told[name]
            self.linked("meter", name, leaf, index)
            price = body["price"]
            wanted = [body["tenant"], body["product"], body["at"]]
            wanted += [price["units"], price["rules"], price["rule"], price["fen"]]
            if found != wanted:
                wrong = [part for part, is_, was in zip(names, found, wanted, strict=True) if is_ != was]
                self.differs(f"meter {name}", index, ", ".join(wrong))
        self.report.rows["meter"] += len(there)
        self.missing("meter", told, there)

    def _uses(self, told: dict[int, Any]) -> None:
        """Of a part of the log: which of its leaves name an authorisation."""
        named = {(str(one), index) for index, many in told.items() if isinstance(many, list) for one in many}
        chosen = sa.select(GRANT_USES.c.authorisation, GRANT_USES.c.leaf)
        within = GRANT_USES.c.leaf.between(min(told), max(told))
        there = {(one, index) for one, index in self.connection.execute(chosen.where(within)).all()}
        self.report.rows["grant_uses"] += len(named & there)
        for one, index in sorted(named - there):
            self.report.add("deleted", f"grant_uses {one}, {index}", f"leaf {index} tells of it")
        for one, index in sorted(there - named):
            self.report.add("added", f"grant_uses {one}, {index}", "no leaf tells of it")

    def _erasure(self, index: int, body: Body) -> None:
        """Which subjects no training may see again stands in its columns."""
        if "certificate_sha256" not in body:
            return
        row = self.connection.execute(sa.select(ERASURES).where(ERASURES.c.id == body["ref"])).mappings().first()
        if row is None:
            self.gone("erasures", body["ref"], index)
            return
        self.report.rows["erasures"] += 1
        self.linked("erasures", body["ref"], row["leaf"], index)
        content = raw(row["certificate"])
        if entries.sha256(content) != body["certificate_sha256"]:
            self.differs(f"erasures {body['ref']}", index, "certificate")
            return
        certified = orjson.loads(content)
        if wrong := [name for name in ("product", "pseudonym", "at") if row[name] != certified[name]]:
            self.differs(f"erasures {body['ref']}", index, ", ".join(wrong))

    def _row(self, index: int, body: Body, table: sa.Table) -> None:
        row = self.read(sa.select(table).where(table.c.id == body["ref"]), table.name, body["ref"], index)
        if row is None:
            return
        self.report.rows[table.name] += 1
        if made_of(entries.digest, table, row) != body["row"]:
            self.differs(f"{table.name} {body['ref']}", index, "the row")

    def _revocation(self, index: int, body: Body) -> None:
        row = self.read(sa.select(GRANTS).where(GRANTS.c.id == body["ref"]), "grants", body["ref"], index)
        if row is None:
            return
        self.report.rows["revocations"] += 1
        if row["revoked_at"] != body["revoked_at"]:
            self.differs(f"grants {body['ref']}", index, "revoked_at")

    def _unentered(self) -> None:
        """Rows that nobody entered, and revocations that nobody made."""
        leaf, revoked = LOG_LEAVES.c, GRANTS.c.revoked_at.is_not(None)
        every = [(table.name, kind, table, sa.true()) for kind, table in KEPT.items()]
        for what, kind, table, chosen in [*every, ("revocations", "revocation", GRANTS, revoked)]:
            many = self.connection.execute(sa.select(sa.func.count()).select_from(table).where(chosen)).scalar_one()
            if many == self.report.rows[what]:
                continue
            told = sa.exists().where(leaf.kind == kind, leaf.ref == table.c.id)
            for one in self.connection.execute(sa.select(table.c.id).where(chosen, ~told).limit(MOST)).scalars():
                self.report.add("added", f"{what} {one}", "no leaf tells of it")

    def _used(self) -> None:
        """Uses in leaves that are not there; the others were compared with theirs."""
        there = sa.exists().where(LOG_LEAVES.c.index == GRANT_USES.c.leaf)
        chosen = sa.select(GRANT_USES.c.authorisation, GRANT_USES.c.leaf).where(~there).limit(MOST)
        for one, index in self.connection.execute(chosen).all():
            self.report.add("added", f"grant_uses {one}, {index}", "there is no such leaf")

    def _lineage(self, digest: str) -> None:
        self.lineages.add(digest)
        chosen = sa.select(LINEAGES.c.body, LINEAGES.c.bundle).where(LINEAGES.c.sha256 == digest)
        row = self.connection.execute(chosen).first()
        if row is None:
            self.report.add("deleted", f"lineages {digest}", "leaves name it")
        elif entries.sha256(raw(row.body)) != digest or orjson.loads(row.body)["bundle"] != row.bundle:
            self.report.add("edited", f"lineages {digest}", "its body does not have its digest, or its bundle")

    def _added(self) -> None:
        """Rows that no leaf tells of."""
        named = self.connection.execute(sa.select(sa.func.count()).select_from(BATCH_SUBJECTS)).scalar_one()
        if named != (proved := self.report.rows["batch_subjects"]):
            self.report.add("added", "batch_subjects", f"{named:,} are there; {proved:,} lie within chunks with a leaf")
        for table, name, born in (
            (DECISIONS, DECISIONS.c.id, DECISIONS.c.created),
            (METER, METER.c.decision, METER.c.at),
            (CHUNKS, CHUNKS.c.batch + "-" + sa.cast(CHUNKS.c.first_row, sa.String), None),
            (
                SLIDE_REPORTS,
                SLIDE_REPORTS.c.slide + "-" + sa.cast(SLIDE_REPORTS.c.version, sa.String),
                SLIDE_REPORTS.c.at,
            ),
            (ERASURES, ERASURES.c.id, ERASURES.c.at),
        ):
            count = self.connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            before = self.before.get(table.name, 0)
            balanced = count == self.report.rows[table.name] + before
            if balanced and not (before and born is not None):
                continue
            leaf = LOG_LEAVES.c
            tells = sa.exists().where(leaf.index == table.c.leaf, leaf.ref == name)
            chosen = sa.select(name).where(~tells)
            if before:
                newer = sa.false() if born is None else born >= self.began
                chosen = chosen.where(sa.or_(table.c.leaf.is_not(None), newer))
            more = self.connection.execute(chosen.limit(MOST)).scalars().all()
            for each in more:
                self.report.add("added", f"{table.name} {each}", "no leaf tells of it")
            if not more and not balanced:
                told = (
                    f"{count:,} are there; {self.report.rows[table.name]:,} have leaves, {before:,} were before the log"
                )
                self.report.add("added" if count > before else "deleted", table.name, told)


def whole(body: Any) -> bool:
    """Whether a leaf tells what is compared of its kind."""
    shape = dict(SHAPES.get(body["kind"], {}))
    if body["kind"] == "slide_state" and "event" in body:
        shape |= SHAPES["slide_note"]
    if "price" in body:
        shape |= {"product": str, "price": dict}
    fits = all(type(body.get(name)) is kind for name, kind in shape.items())
    if fits and "price" in body:
        fits = all(type(body["price"].get(name)) is kind for name, kind in PRICE.items())
    if fits and body["kind"] == "start":
        fits = all(type(count) is int for count in body["before"].values())
    return fits and type(body.get("lineage", "")) is str
