"""Compare slides, their events, readings and signed reports with the log entries that record them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.findings import (
    MAX_FINDINGS,
    Body,
    Comparison,
    Finding,
    digest_or_none,
    edited_detail,
)
from serving.core.audit.entry_checks import to_bytes
from serving.core.audit.verify import canonical_json, salted_digest
from serving.core.db.lookup import events_between
from serving.core.db.schema import LOG_LEAVES, SLIDE_EVENTS, SLIDE_REPORTS, SLIDES

STATES_WITH_READING = ("ready", "abstained")  # the states whose entry records the reading
_MODEL_COLUMNS = (("model", "name"), ("version", "version"))  # columns, and their names in a reading

# Digests in an entry, and the columns that each covers.
_DIGEST_COLUMNS = {"record": ", ".join(entries.SLIDE_FIELDS), "progress": ", ".join(entries.SLIDE_PROGRESS_FIELDS)}
# A reading is long and compared once, with the entry that brought it; for all others it is enough whether there is one.
_SLIDE_QUERY = sa.select(
    *(column for column in SLIDES.c if column.name != "reading"), SLIDES.c.reading.is_(None).label("unread")
).where(SLIDES.c.id == sa.bindparam("slide"))  # built once, since it runs for every entry


class SlideChecks(Comparison):
    def check_slide(self, index: int, body: Body) -> None:
        """A state that a slide reached, or a note on it: with its row, which must agree with its last entry."""
        slide = str(body["ref"])
        first_mention, finding = slide not in self.pending.findings, self._find_mismatch(slide, index, body)
        if first_mention and (finding is None or finding.kind != "deleted"):
            self.report.rows["slides"] += 1
        self.pending.update(slide, finding)

    def _find_mismatch(self, slide: str, index: int, body: Body) -> Finding | None:
        location = f"slides {slide}"
        try:
            row = self.connection.execute(_SLIDE_QUERY, {"slide": slide}).mappings().first()
        except ValueError:
            return Finding("edited", location, "its JSON cannot be read")
        if row is None:
            return Finding("deleted", location, f"log entry {index} records it")
        self._check_events(slide, to_bytes(row["salt"]), index, body)
        mismatches = [name for name in ("tenant", "state") if row[name] != body[name]]
        if not mismatches:
            if (event := self._find_unlogged_event(slide, body)) is not None:
                return Finding("added", f"slide_events {event}, of slide {slide}", "no log entry records it")
            mismatches = self._compare_columns(row, body)
        return Finding("edited", location, edited_detail(index, "; ".join(mismatches))) if mismatches else None

    def _compare_columns(self, row: sa.RowMapping, body: Body) -> list[str]:
        digests = digest_or_none(entries.slide_digests, row, to_bytes(row["salt"])) or dict.fromkeys(_DIGEST_COLUMNS)
        if body["state"] == "inferring":  # progress moves on until the next entry
            digests.pop("progress")
        mismatches = [_DIGEST_COLUMNS[field] for field, digest in digests.items() if digest != body[field]]
        reading_missing = _value_digest(to_bytes(row["salt"]), None) == body["reading"]
        return mismatches if bool(row["unread"]) == reading_missing else [*mismatches, "reading"]

    def _check_events(self, slide: str, salt: bytes, index: int, body: Body) -> None:
        """The events since the entry before, up to the one that this entry records."""
        since, event = body["since"], int(body["event"])
        location = f"slide_events {since + 1} to {event}, of slide {slide}"
        try:
            events = events_between(self.connection, slide, since, event)
        except ValueError:
            self.report.add("edited", location, "its JSON cannot be read")
            return
        self.report.rows["slide_events"] += len(events)
        if not events or events[-1]["id"] != event:
            self.report_deleted("slide_events", f"{event}, of slide {slide}", index)
        elif digest_or_none(entries.history_digest, events, salt) != body["way"]:
            self.report_edited(location, index, "the events")

    def _find_unlogged_event(self, slide: str, body: Body) -> int | None:
        """The id of an event after this entry's that should have an entry, too."""
        kinds = ["state", "note"]
        if body["state"] != "inferring":  # progress waits for the next entry
            kinds.append("progress")
        is_later = SLIDE_EVENTS.c.slide == slide, SLIDE_EVENTS.c.id > body["event"], SLIDE_EVENTS.c.kind.in_(kinds)
        stmt = sa.select(SLIDE_EVENTS.c.id).where(*is_later).order_by(SLIDE_EVENTS.c.id).limit(1)
        return self.connection.execute(stmt).scalar()

    def finish(self) -> None:
        """Report differences that no later entry explained, and slides that no entry records."""
        self.pending.flush()
        count = self.connection.execute(sa.select(sa.func.count()).select_from(SLIDES)).scalar_one()
        if count == self.report.rows["slides"]:
            return
        logged_slides = sa.select(LOG_LEAVES.c.ref).where(LOG_LEAVES.c.kind.in_(("slide_state", "slide_note")))
        unlogged = sa.select(SLIDES.c.id).where(SLIDES.c.id.not_in(logged_slides)).limit(MAX_FINDINGS)
        for slide in self.connection.execute(unlogged).scalars().all():
            self.report_added(f"slides {slide}")

    def check_report(self, index: int, body: Body) -> None:
        stmt = sa.select(SLIDE_REPORTS, SLIDES.c.salt).join(SLIDES, SLIDES.c.id == SLIDE_REPORTS.c.slide)
        stmt = stmt.where(SLIDE_REPORTS.c.slide == body["slide"], SLIDE_REPORTS.c.version == body["version"])
        name = f"{body['slide']}, version {body['version']}"
        row = self.fetch_row(stmt, "slide_reports", name, index)
        if row is None:
            return
        self.report.rows["slide_reports"] += 1
        self.check_leaf_index("slide_reports", name, row["leaf"], index)
        report_row = dict(row) | {"sha256": str(row["sha256"])}
        digests = digest_or_none(entries.report_digests, report_row, to_bytes(row["salt"])) or {}
        if mismatches := [field for field in ("pdf", "record") if body[field] != digests.get(field)]:
            self.report_edited(f"slide_reports {name}", index, ", ".join(mismatches))

    def check_reading(self, index: int, body: Body) -> None:
        """The reading that an entry records, and the columns copied from it."""
        names = ("reading", "salt", "bundle", "tenant", "triage", "model", "version")
        stmt = sa.select(*(SLIDES.c[name] for name in names)).where(SLIDES.c.id == body["ref"])
        location = f"slides {body['ref']}"
        try:
            row = self.connection.execute(stmt).mappings().first()
        except ValueError:
            self.report.add("edited", location, "the JSON of its reading cannot be read")
            return
        if row is None:  # reported by check_slide
            return
        reading = row["reading"]
        if _value_digest(to_bytes(row["salt"]), reading) != body["reading"] or row["bundle"] != body.get("bundle"):
            self.report_edited(location, index, "reading or bundle")
        elif mismatches := [name for name, expected in _expected_columns(body, reading) if row[name] != expected]:
            self.report_edited(location, index, ", ".join(mismatches))


def _value_digest(salt: bytes, value: Any) -> str | None:
    return digest_or_none(lambda: salted_digest(salt, canonical_json(value)))


def _expected_columns(body: Body, reading: Any) -> list[tuple[str, Any]]:
    """The columns of a slide whose values its entry or its reading holds, too."""
    expected = [("tenant", body["tenant"])]
    if isinstance(reading, dict):
        model = reading.get("model") or {}
        expected += [("triage", reading.get("triage")), *((name, model.get(key)) for name, key in _MODEL_COLUMNS)]
    return expected
