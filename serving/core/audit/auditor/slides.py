"""Slides as their leaves tell of them: each moment of a slide's way, its row, the machine's reading, signed reports."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.findings import (
    MAX_FINDINGS,
    AuditReport,
    Body,
    Comparison,
    Finding,
    digest_or_none,
    to_bytes,
)
from serving.core.audit.verify import canonical_json, salted_digest
from serving.core.db.lookup import events_between
from serving.core.db.schema import LOG_LEAVES, SLIDE_EVENTS, SLIDE_REPORTS, SLIDES

STATES_WITH_READING = ("ready", "abstained")  # states that bring a slide's reading
MODEL_COLUMNS = (("model", "name"), ("version", "version"))  # columns, and their names in a reading


# Digests in a leaf, and the columns that each stands for.
DIGEST_COLUMNS = {"record": ", ".join(entries.SLIDE_FIELDS), "progress": ", ".join(entries.SLIDE_PROGRESS_FIELDS)}
# A reading is long, and compared once; else it is asked whether there is one.
SLIDE_COLUMNS = [
    *(column for column in SLIDES.c if column.name != "reading"),
    SLIDES.c.reading.is_(None).label("unread"),
]
SLIDE_QUERY = sa.select(*SLIDE_COLUMNS).where(
    SLIDES.c.id == sa.bindparam("slide")
)  # made once: it is asked for each leaf
EVENT_COLUMNS = SLIDE_EVENTS.c


class SlideChecks(Comparison):
    def __init__(self, connection: sa.Connection, report: AuditReport):
        super().__init__(connection, report)
        self.logged_since: str | None = None  # from when on a slide has a leaf as soon as it is there
        self.has_legacy_leaves = False  # leaves are there from before then

    def check_slide(self, index: int, body: Body) -> None:
        """A state that a slide came to, or a note on it: with its row, which stands as the last of them tells."""
        slide = str(body["ref"])
        if "event" not in body:
            self.has_legacy_leaves = True
        elif self.logged_since is None:
            self.logged_since = body["at"]
        first_mention, finding = slide not in self.pending.findings, self._find_mismatch(slide, index, body)
        if first_mention and (finding is None or finding.kind != "deleted"):
            self.report.rows["slides"] += 1
        self.pending.update(slide, finding)

    def _find_mismatch(self, slide: str, index: int, body: Body) -> Finding | None:
        location = f"slides {slide}"
        try:
            row = self.connection.execute(SLIDE_QUERY, {"slide": slide}).mappings().first()
        except ValueError:
            return Finding("edited", location, "its JSON cannot be read")
        if row is None:
            return Finding("deleted", location, f"leaf {index} tells of it")
        event = self._check_events(slide, to_bytes(row["salt"]), index, body)
        mismatches = [name for name in ("tenant", "state") if row[name] != body[name]]
        if (
            not mismatches
            and event is not None
            and (unlogged_event := self._find_unlogged_event(slide, event, body)) is not None
        ):
            return Finding("added", f"slide_events {unlogged_event}, of slide {slide}", "no leaf tells of it")
        if not mismatches and "record" in body:
            mismatches = self._compare_columns(row, body)
        return (
            Finding("edited", location, f"{'; '.join(mismatches)}: not as leaf {index} tells") if mismatches else None
        )

    def _compare_columns(self, row: sa.RowMapping, body: Body) -> list[str]:
        digests = digest_or_none(entries.slide_digests, row, to_bytes(row["salt"])) or dict.fromkeys(DIGEST_COLUMNS)
        if body["state"] == "inferring":  # while which it moves
            digests.pop("progress")
        mismatches = [DIGEST_COLUMNS[field] for field, digest in digests.items() if digest != body.get(field)]
        reading_missing = _value_digest(to_bytes(row["salt"]), None) == body["reading"]
        return mismatches if bool(row["unread"]) == reading_missing else [*mismatches, "reading"]

    def _check_events(self, slide: str, salt: bytes, index: int, body: Body) -> int | None:
        """The id of the event that a leaf tells of, compared; None where it is not there."""
        if "event" not in body:
            return self._check_legacy_event(slide, salt, index, body)
        since, event = body["since"], int(body["event"])
        location = f"slide_events {since + 1} to {event}, of slide {slide}"
        try:
            events = events_between(self.connection, slide, since, event)
        except ValueError:
            self.report.add("edited", location, "its JSON cannot be read")
            return event
        self.report.rows["slide_events"] += len(events)
        if not events or events[-1]["id"] != event:
            self.report_deleted("slide_events", f"{event}, of slide {slide}", index)
        elif digest_or_none(entries.history_digest, events, salt) != body["way"]:
            self.report_edited(location, index, "what happened")
        return event

    def _check_legacy_event(self, slide: str, salt: bytes, index: int, body: Body) -> int | None:
        """Of a leaf that does not name its event."""
        conditions = (
            EVENT_COLUMNS.slide == slide,
            EVENT_COLUMNS.kind == "state",
            EVENT_COLUMNS.state == body["state"],
            EVENT_COLUMNS.at == body["at"],
        )
        name = f"{body['state']} at {body['at']}, of slide {slide}"
        try:
            events = self.connection.execute(sa.select(EVENT_COLUMNS.id, EVENT_COLUMNS.detail).where(*conditions)).all()
        except ValueError:
            self.report.add("edited", f"slide_events {name}", "its JSON cannot be read")
            return None
        # Of no detail such a leaf may tell as of null, where its event has {}.
        expected_digest = body.get("detail")
        matching_ids = [
            event.id
            for event in events
            if expected_digest in (_value_digest(salt, event.detail), _value_digest(salt, event.detail or None))
        ]
        self.report.rows["slide_events"] += bool(events)
        if not events:
            self.report_deleted("slide_events", name, index)
        elif not matching_ids:
            self.report_edited(f"slide_events {name}", index, "detail")
        return max(matching_ids, default=None)

    def _find_unlogged_event(self, slide: str, event: int, body: Body) -> int | None:
        """An event after this one for which a leaf should have told of, too."""
        kinds = ["state"] if "event" not in body else ["state", "note"]
        if "event" in body and body["state"] != "inferring":  # while which its progress waits for the next leaf
            kinds.append("progress")
        stmt = sa.select(EVENT_COLUMNS.id).where(
            EVENT_COLUMNS.slide == slide, EVENT_COLUMNS.id > event, EVENT_COLUMNS.kind.in_(kinds)
        )
        return self.connection.execute(stmt.order_by(EVENT_COLUMNS.id).limit(1)).scalar()

    def finish(self) -> None:
        """What waits for a leaf that did not come; and slides that nobody brought."""
        self.pending.flush()
        salt, count_stmt = SLIDES.c.salt, sa.select(sa.func.count()).select_from(SLIDES)
        conditions = (
            [] if self.logged_since is None else [sa.and_(salt.is_(None), SLIDES.c.created >= self.logged_since)]
        )
        count = self.connection.execute(count_stmt.where(salt.is_not(None))).scalar_one()
        if self.has_legacy_leaves or count != self.report.rows["slides"]:
            logged_slides = sa.select(LOG_LEAVES.c.ref).where(LOG_LEAVES.c.kind.in_(("slide_state", "slide_note")))
            conditions.append(sa.and_(salt.is_not(None), SLIDES.c.id.not_in(logged_slides)))
        for condition in conditions:
            for slide in (
                self.connection.execute(sa.select(SLIDES.c.id).where(condition).limit(MAX_FINDINGS)).scalars().all()
            ):
                self.report.add("added", f"slides {slide}", "no leaf tells of it")

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
        names = ("reading", "salt", "bundle", "tenant", "triage", "model", "version")
        stmt = sa.select(*(SLIDES.c[name] for name in names)).where(SLIDES.c.id == body["ref"])
        try:
            row = self.connection.execute(stmt).mappings().first()
        except ValueError:
            self.report.add("edited", f"slides {body['ref']}", "its reading's JSON cannot be read")
            return
        if row is None:  # which `moment` tells
            return
        reading = row["reading"]
        if _value_digest(to_bytes(row["salt"]), reading) != body["reading"] or row["bundle"] != body.get("bundle"):
            self.report_edited(f"slides {body['ref']}", index, "reading or bundle")
        elif mismatches := [name for name, expected in _expected_columns(body, reading) if row[name] != expected]:
            self.report_edited(f"slides {body['ref']}", index, ", ".join(mismatches))


def _value_digest(salt: bytes, value: Any) -> str | None:
    return digest_or_none(lambda: salted_digest(salt, canonical_json(value)))


def _expected_columns(body: Body, reading: Any) -> list[tuple[str, Any]]:
    """Columns of a slide that its leaf and its reading tell too."""
    expected = [("tenant", body["tenant"])]
    if isinstance(reading, dict):
        model = reading.get("model") or {}
        expected += [("triage", reading.get("triage")), *((name, model.get(key)) for name, key in MODEL_COLUMNS)]
    return expected
