"""Slides as their leaves tell of them: each moment of a slide's way, its row, the machine's reading, signed reports."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.findings import MOST, Body, Comparison, Finding, Report, made_of, raw
from serving.core.audit.verify import canonical, salted
from serving.core.db.lookup import moments
from serving.core.db.schema import LOG_LEAVES, SLIDE_EVENTS, SLIDE_REPORTS, SLIDES

READ = ("ready", "abstained")  # states that bring a slide's reading
MODEL = (("model", "name"), ("version", "version"))  # columns, and their names in a reading


# Digests in a leaf, and the columns that each stands for.
TOLD = {"record": ", ".join(entries.SLIDE), "progress": ", ".join(entries.PROGRESS)}
# A reading is long, and compared once; else it is asked whether there is one.
COLUMNS = [*(column for column in SLIDES.c if column.name != "reading"), SLIDES.c.reading.is_(None).label("unread")]
ROW = sa.select(*COLUMNS).where(SLIDES.c.id == sa.bindparam("slide"))  # made once: it is asked for each leaf
EVENT = SLIDE_EVENTS.c


class Slides(Comparison):
    def __init__(self, connection: sa.Connection, report: Report):
        super().__init__(connection, report)
        self.since: str | None = None  # from when on a slide has a leaf as soon as it is there
        self.old = False  # leaves are there from before then

    def moment(self, index: int, body: Body) -> None:
        """A state that a slide came to, or a note on it: with its row, which stands as the last of them tells."""
        slide = str(body["ref"])
        if "event" not in body:
            self.old = True
        elif self.since is None:
            self.since = body["at"]
        new, wrong = slide not in self.last.held, self._wrong(slide, index, body)
        if new and (wrong is None or wrong.what != "deleted"):
            self.report.rows["slides"] += 1
        self.last.tell(slide, wrong)

    def _wrong(self, slide: str, index: int, body: Body) -> Finding | None:
        where = f"slides {slide}"
        try:
            row = self.connection.execute(ROW, {"slide": slide}).mappings().first()
        except ValueError:
            return Finding("edited", where, "its JSON cannot be read")
        if row is None:
            return Finding("deleted", where, f"leaf {index} tells of it")
        event = self._event(slide, raw(row["salt"]), index, body)
        wrong = [name for name in ("tenant", "state") if row[name] != body[name]]
        if not wrong and event is not None and (more := self._later(slide, event, body)) is not None:
            return Finding("added", f"slide_events {more}, of slide {slide}", "no leaf tells of it")
        if not wrong and "record" in body:
            wrong = self._columns(row, body)
        return Finding("edited", where, f"{'; '.join(wrong)}: not as leaf {index} tells") if wrong else None

    def _columns(self, row: sa.RowMapping, body: Body) -> list[str]:
        found = made_of(entries.slide_digests, row, raw(row["salt"])) or dict.fromkeys(TOLD)
        if body["state"] == "inferring":  # while which it moves
            found.pop("progress")
        wrong = [TOLD[part] for part, digest in found.items() if digest != body.get(part)]
        unread = _digest(raw(row["salt"]), None) == body["reading"]
        return wrong if bool(row["unread"]) == unread else [*wrong, "reading"]

    def _event(self, slide: str, salt: bytes, index: int, body: Body) -> int | None:
        """The id of the event that a leaf tells of, compared; None where it is not there."""
        if "event" not in body:
            return self._old_event(slide, salt, index, body)
        since, event = body["since"], int(body["event"])
        where = f"slide_events {since + 1} to {event}, of slide {slide}"
        try:
            found = moments(self.connection, slide, since, event)
        except ValueError:
            self.report.add("edited", where, "its JSON cannot be read")
            return event
        self.report.rows["slide_events"] += len(found)
        if not found or found[-1]["id"] != event:
            self.gone("slide_events", f"{event}, of slide {slide}", index)
        elif made_of(entries.way, found, salt) != body["way"]:
            self.differs(where, index, "what happened")
        return event

    def _old_event(self, slide: str, salt: bytes, index: int, body: Body) -> int | None:
        """Of a leaf that does not name its event."""
        mine = EVENT.slide == slide, EVENT.kind == "state", EVENT.state == body["state"], EVENT.at == body["at"]
        name = f"{body['state']} at {body['at']}, of slide {slide}"
        try:
            found = self.connection.execute(sa.select(EVENT.id, EVENT.detail).where(*mine)).all()
        except ValueError:
            self.report.add("edited", f"slide_events {name}", "its JSON cannot be read")
            return None
        # Of no detail such a leaf may tell as of null, where its event has {}.
        told = body.get("detail")
        same = [one.id for one in found if told in (_digest(salt, one.detail), _digest(salt, one.detail or None))]
        self.report.rows["slide_events"] += bool(found)
        if not found:
            self.gone("slide_events", name, index)
        elif not same:
            self.differs(f"slide_events {name}", index, "detail")
        return max(same, default=None)

    def _later(self, slide: str, event: int, body: Body) -> int | None:
        """An event after this one for which a leaf should have told of, too."""
        kinds = ["state"] if "event" not in body else ["state", "note"]
        if "event" in body and body["state"] != "inferring":  # while which its progress waits for the next leaf
            kinds.append("progress")
        chosen = sa.select(EVENT.id).where(EVENT.slide == slide, EVENT.id > event, EVENT.kind.in_(kinds))
        return self.connection.execute(chosen.order_by(EVENT.id).limit(1)).scalar()

    def finish(self) -> None:
        """What waits for a leaf that did not come; and slides that nobody brought."""
        self.last.finish()
        salt, many = SLIDES.c.salt, sa.select(sa.func.count()).select_from(SLIDES)
        added = [] if self.since is None else [sa.and_(salt.is_(None), SLIDES.c.created >= self.since)]
        there = self.connection.execute(many.where(salt.is_not(None))).scalar_one()
        if self.old or there != self.report.rows["slides"]:
            told = sa.select(LOG_LEAVES.c.ref).where(LOG_LEAVES.c.kind.in_(("slide_state", "slide_note")))
            added.append(sa.and_(salt.is_not(None), SLIDES.c.id.not_in(told)))
        for which in added:
            for slide in self.connection.execute(sa.select(SLIDES.c.id).where(which).limit(MOST)).scalars().all():
                self.report.add("added", f"slides {slide}", "no leaf tells of it")

    def signed(self, index: int, body: Body) -> None:
        chosen = sa.select(SLIDE_REPORTS, SLIDES.c.salt).join(SLIDES, SLIDES.c.id == SLIDE_REPORTS.c.slide)
        chosen = chosen.where(SLIDE_REPORTS.c.slide == body["slide"], SLIDE_REPORTS.c.version == body["version"])
        name = f"{body['slide']}, version {body['version']}"
        row = self.read(chosen, "slide_reports", name, index)
        if row is None:
            return
        self.report.rows["slide_reports"] += 1
        self.linked("slide_reports", name, row["leaf"], index)
        told = dict(row) | {"sha256": str(row["sha256"])}
        digests = made_of(entries.report_digests, told, raw(row["salt"])) or {}
        if wrong := [part for part in ("pdf", "record") if body[part] != digests.get(part)]:
            self.differs(f"slide_reports {name}", index, ", ".join(wrong))

    def reading(self, index: int, body: Body) -> None:
        names = ("reading", "salt", "bundle", "tenant", "triage", "model", "version")
        chosen = sa.select(*(SLIDES.c[name] for name in names)).where(SLIDES.c.id == body["ref"])
        try:
            row = self.connection.execute(chosen).mappings().first()
        except ValueError:
            self.report.add("edited", f"slides {body['ref']}", "its reading's JSON cannot be read")
            return
        if row is None:  # which `moment` tells
            return
        found = row["reading"]
        if _digest(raw(row["salt"]), found) != body["reading"] or row["bundle"] != body.get("bundle"):
            self.differs(f"slides {body['ref']}", index, "reading or bundle")
        elif wrong := [name for name, was in _implied(body, found) if row[name] != was]:
            self.differs(f"slides {body['ref']}", index, ", ".join(wrong))


def _digest(salt: bytes, told: Any) -> str | None:
    return made_of(lambda: salted(salt, canonical(told)))


def _implied(body: Body, reading: Any) -> list[tuple[str, Any]]:
    """Columns of a slide that its leaf and its reading tell too."""
    told = [("tenant", body["tenant"])]
    if isinstance(reading, dict):
        model = reading.get("model") or {}
        told += [("triage", reading.get("triage")), *((name, model.get(key)) for name, key in MODEL)]
    return told
