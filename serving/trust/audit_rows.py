"""The rows that the log's leaves stand for, each compared with what its leaf tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa

from serving.store.tables import (
    BATCH_SUBJECTS,
    BATCHES,
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
    SLIDES,
)
from serving.trust import leaves
from serving.trust.verify import canonical, salted

MOST = 1_000  # findings that are spelled out
READ = ("ready", "abstained")  # states that bring a slide's reading

ZH = {
    "edited": "被修改",
    "deleted": "被删除",
    "added": "被添加",
    "reordered": "被调换",
    "rolled back": "被回退",
    "not signed": "签名不符",
}
Body = Mapping[str, Any]

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
    "slide_state": {"state": str, "reading": str},
    "report": {"slide": str, "version": int, "pdf": str, "record": str},
    "erasure": {"decisions": list},
    **{kind: {"row": str} for kind in KEPT},
    "revocation": {"revoked_at": str},
}
PRICE = {"units": int, "rules": str, "rule": str, "fen": int}


@dataclass(frozen=True, slots=True)
class Finding:
    what: str  # of ZH
    where: str  # the row
    why: str

    def __str__(self) -> str:
        return f"{self.what} {ZH[self.what]}: {self.where}: {self.why}"


@dataclass
class Report:
    leaves: int = 0
    checkpoints: int = 0
    rows: Counter[str] = field(default_factory=Counter)  # by table, that their leaves prove
    findings: list[Finding] = field(default_factory=list)  # the first MOST
    found: int = 0

    def add(self, what: str, where: str, why: str) -> None:
        self.found += 1
        if len(self.findings) < MOST:
            self.findings.append(Finding(what, where, why))


class Rows:
    """`compare` the leaves in their order, then `finish`."""

    def __init__(self, connection: sa.Connection, report: Report):
        self.connection, self.report = connection, report
        self.before: Mapping[str, int] = {}  # rows that were there when the log began, by table
        self.began = ""
        self.lineages: set[str] = set()
        self.erased: set[str] = set()  # decisions whose salt is gone
        self.erasures: set[str] = set()  # and those of which a leaf says so

    def finish(self) -> None:
        """What no leaf tells of."""
        for decision in sorted(self.erased - self.erasures):
            self.report.add("edited", f"decisions {decision}", "its salt is gone, and no leaf tells of an erasure")
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
                self._chunk(index, body)
            elif kind == "report":
                self._report(index, body)
            elif kind == "slide_state" and body["state"] in READ:
                self._reading(index, body)
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
        names = ("id", "leaf", "tenant", "bundle", "policy", "salt", "answer", *leaves.RECORD)
        chosen = sa.select(*(DECISIONS.c[name] for name in names)).where(DECISIONS.c.id.in_(told))
        there = set()
        for name, leaf, tenant, bundle, policy, salt, answer, *record in self.connection.execute(chosen):
            there.add(name)
            index, body = told[name]
            self._linked("decisions", name, leaf, index)
            if salt is None:  # what was salted proves nothing any more
                self.erased.add(name)
                digests = body["answer"], body["record"]
            else:
                record_ = orjson.dumps(record, default=repr)
                digests = salted(raw(salt), raw(answer)), salted(raw(salt), record_)
            found = tenant, bundle, policy, *digests
            if found != (body["tenant"], body["bundle"], body["policy"], body["answer"], body["record"]):
                parts = ("tenant", "bundle", "policy", "answer", ", ".join(leaves.RECORD))
                wanted = (body[part] for part in (*parts[:4], "record"))
                wrong = [part for part, is_, was in zip(parts, found, wanted, strict=True) if is_ != was]
                self._differs(f"decisions {name}", index, "; ".join(wrong))
        self.report.rows["decisions"] += len(there)
        self._gone("decisions", told, there)

    def _meter(self, told: dict[str, tuple[int, Body]]) -> None:
        names = ("tenant", "product", "at", "units", "rules", "rule", "fen")
        chosen = sa.select(METER.c.decision, METER.c.leaf, *(METER.c[name] for name in names))
        there = set()
        for name, leaf, *found in self.connection.execute(chosen.where(METER.c.decision.in_(told))):
            there.add(name)
            index, body = told[name]
            self._linked("meter", name, leaf, index)
            price = body["price"]
            wanted = [body["tenant"], body["product"], body["at"]]
            wanted += [price["units"], price["rules"], price["rule"], price["fen"]]
            if found != wanted:
                wrong = [part for part, is_, was in zip(names, found, wanted, strict=True) if is_ != was]
                self._differs(f"meter {name}", index, ", ".join(wrong))
        self.report.rows["meter"] += len(there)
        self._gone("meter", told, there)

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

    def _chunk(self, index: int, body: Body) -> None:
        of = [BATCHES.c[name].label(f"of_{name}") for name in ("id", "tenant", "bundle", "policy")]
        chosen = sa.select(CHUNKS, *of).outerjoin(BATCHES, BATCHES.c.id == CHUNKS.c.batch)
        chosen = chosen.where(CHUNKS.c.batch == body["batch"], CHUNKS.c.first_row == body["first"])
        row, name = self.connection.execute(chosen).mappings().first(), f"{body['batch']}, row {body['first']}"
        if row is None:
            self._gone("batch_chunks", {name: (index, body)}, set())
            return
        self.report.rows["batch_chunks"] += 1
        self._linked("batch_chunks", name, row["leaf"], index)
        if salted(raw(row["salt"]), raw(row["content"])) != body["content"] or row["rows"] != body["rows"]:
            self._differs(f"batch_chunks {name}", index, "rows, content or salt")
        self._named(name, row, index, body)
        if row["of_id"] is None:
            self._gone("batches", {body["batch"]: (index, body)}, set())
        elif wrong := [part for part in ("tenant", "bundle", "policy") if row[f"of_{part}"] != body[part]]:
            self._differs(f"batches {body['batch']}", index, ", ".join(wrong))

    def _named(self, name: str, chunk: sa.RowMapping, index: int, body: Body) -> None:
        """By which a subject's trace finds its rows of batches."""
        mine, first = BATCH_SUBJECTS.c.batch == body["batch"], body["first"]
        chosen = sa.select(BATCH_SUBJECTS.c.row, BATCH_SUBJECTS.c.pseudonym).where(mine)
        chosen = chosen.where(BATCH_SUBJECTS.c.row.between(first, first + body["rows"] - 1))
        found = {row.row: row.pseudonym for row in self.connection.execute(chosen)}
        self.report.rows["batch_subjects"] += len(found)
        if (salted(raw(chunk["salt"]), leaves.named(found)) if found else None) != body.get("subjects"):
            self._differs(f"batch_subjects {name}", index, "which rows are about whom")

    def _report(self, index: int, body: Body) -> None:
        chosen = sa.select(SLIDE_REPORTS, SLIDES.c.salt).join(SLIDES, SLIDES.c.id == SLIDE_REPORTS.c.slide)
        chosen = chosen.where(SLIDE_REPORTS.c.slide == body["slide"], SLIDE_REPORTS.c.version == body["version"])
        name = f"{body['slide']}, version {body['version']}"
        row = self._read(chosen, f"slide_reports {name}")
        if row is None:
            self._gone("slide_reports", {name: (index, body)}, set())
            return
        self.report.rows["slide_reports"] += 1
        self._linked("slide_reports", name, row["leaf"], index)
        told = dict(row) | {"sha256": str(row["sha256"])}
        digests = leaves.report_digests(told, raw(row["salt"]))
        if wrong := [part for part, digest in digests.items() if body[part] != digest]:
            self._differs(f"slide_reports {name}", index, ", ".join(wrong))

    def _reading(self, index: int, body: Body) -> None:
        names = ("reading", "salt", "bundle", "tenant", "triage", "model", "version")
        chosen = sa.select(*(SLIDES.c[name] for name in names)).where(SLIDES.c.id == body["ref"])
        row = self._read(chosen, f"slides {body['ref']}")
        if row is None:
            self._gone("slides", {body["ref"]: (index, body)}, set())
            return
        self.report.rows["slides"] += 1
        found = row["reading"]
        if salted(raw(row["salt"]), canonical(found)) != body["reading"] or row["bundle"] != body.get("bundle"):
            self._differs(f"slides {body['ref']}", index, "reading or bundle")
        elif wrong := [name for name, was in _implied(body, found) if row[name] != was]:
            self._differs(f"slides {body['ref']}", index, ", ".join(wrong))

    def _erasure(self, index: int, body: Body) -> None:
        """Which subjects no training may see again stands in its columns."""
        if "certificate_sha256" not in body:
            return
        row = self.connection.execute(sa.select(ERASURES).where(ERASURES.c.id == body["ref"])).mappings().first()
        if row is None:
            self._gone("erasures", {body["ref"]: (index, body)}, set())
            return
        self.report.rows["erasures"] += 1
        self._linked("erasures", body["ref"], row["leaf"], index)
        content = raw(row["certificate"])
        if leaves.sha256(content) != body["certificate_sha256"]:
            self._differs(f"erasures {body['ref']}", index, "certificate")
            return
        certified = orjson.loads(content)
        if wrong := [name for name in ("product", "pseudonym", "at") if row[name] != certified[name]]:
            self._differs(f"erasures {body['ref']}", index, ", ".join(wrong))

    def _row(self, index: int, body: Body, table: sa.Table) -> None:
        where = f"{table.name} {body['ref']}"
        row = self._read(sa.select(table).where(table.c.id == body["ref"]), where)
        if row is None:
            self._gone(table.name, {body["ref"]: (index, body)}, set())
            return
        self.report.rows[table.name] += 1
        if leaves.digest(table, row) != body["row"]:
            self._differs(where, index, "the row")

    def _revocation(self, index: int, body: Body) -> None:
        where = f"grants {body['ref']}"
        row = self._read(sa.select(GRANTS).where(GRANTS.c.id == body["ref"]), where)
        if row is None:
            self._gone("grants", {body["ref"]: (index, body)}, set())
            return
        self.report.rows["revocations"] += 1
        if row["revoked_at"] != body["revoked_at"]:
            self._differs(where, index, "revoked_at")

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

    def _read(self, chosen: sa.Select[Any], where: str) -> Mapping[str, Any] | None:
        """A row with columns of JSON, which may be none any more."""
        try:
            row = self.connection.execute(chosen).mappings().first()
            return None if row is None else dict(row)
        except ValueError:
            self.report.add("edited", where, "its JSON cannot be read")
            return None

    def _lineage(self, digest: str) -> None:
        self.lineages.add(digest)
        chosen = sa.select(LINEAGES.c.body, LINEAGES.c.bundle).where(LINEAGES.c.sha256 == digest)
        row = self.connection.execute(chosen).first()
        if row is None:
            self.report.add("deleted", f"lineages {digest}", "leaves name it")
        elif leaves.sha256(raw(row.body)) != digest or orjson.loads(row.body)["bundle"] != row.bundle:
            self.report.add("edited", f"lineages {digest}", "its body does not have its digest, or its bundle")

    # --- findings

    def _linked(self, table: str, name: str, leaf: int | None, index: int) -> None:
        if leaf != index:
            self.report.add("reordered", f"{table} {name}", f"it names leaf {leaf}; leaf {index} tells of it")

    def _differs(self, where: str, index: int, wrong: str) -> None:
        self.report.add("edited", where, f"{wrong}: not as leaf {index} tells")

    def _gone(self, table: str, told: dict[str, tuple[int, Body]], there: set[str]) -> None:
        for name, (index, _) in told.items():
            if name not in there:
                self.report.add("deleted", f"{table} {name}", f"leaf {index} tells of it")

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


def raw(stored: Any) -> bytes:
    """What a column of bytes holds. SQLite lets somebody put text there: that is never what was hashed."""
    return stored if isinstance(stored, bytes) else repr(stored).encode()


def whole(body: Any) -> bool:
    """Whether a leaf tells what is compared of its kind."""
    shape = dict(SHAPES.get(body["kind"], {}))
    if "price" in body:
        shape |= {"product": str, "price": dict}
    fits = all(type(body.get(name)) is kind for name, kind in shape.items())
    if fits and "price" in body:
        fits = all(type(body["price"].get(name)) is kind for name, kind in PRICE.items())
    if fits and body["kind"] == "start":
        fits = all(type(count) is int for count in body["before"].values())
    return fits and type(body.get("lineage", "")) is str


def _implied(body: Body, reading: Any) -> list[tuple[str, Any]]:
    """Columns of a slide that its leaf and its reading tell too."""
    told = [("tenant", body["tenant"])]
    if isinstance(reading, dict):
        model = reading.get("model") or {}
        told += [("triage", reading.get("triage")), *((name, model.get(key)) for name, key in _MODEL)]
    return told


_MODEL = (("model", "name"), ("version", "version"))
