"""Slides as their leaves tell of them: each state, the machine's reading, signed reports."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.store.tables import SLIDE_REPORTS, SLIDES
from serving.trust import leaves
from serving.trust.audit_report import Body, Comparison, raw
from serving.trust.verify import canonical, salted

READ = ("ready", "abstained")  # states that bring a slide's reading
MODEL = (("model", "name"), ("version", "version"))  # columns, and their names in a reading


class Slides(Comparison):
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
        digests = leaves.report_digests(told, raw(row["salt"]))
        if wrong := [part for part, digest in digests.items() if body[part] != digest]:
            self.differs(f"slide_reports {name}", index, ", ".join(wrong))

    def reading(self, index: int, body: Body) -> None:
        names = ("reading", "salt", "bundle", "tenant", "triage", "model", "version")
        chosen = sa.select(*(SLIDES.c[name] for name in names)).where(SLIDES.c.id == body["ref"])
        row = self.read(chosen, "slides", body["ref"], index)
        if row is None:
            return
        self.report.rows["slides"] += 1
        found = row["reading"]
        if salted(raw(row["salt"]), canonical(found)) != body["reading"] or row["bundle"] != body.get("bundle"):
            self.differs(f"slides {body['ref']}", index, "reading or bundle")
        elif wrong := [name for name, was in _implied(body, found) if row[name] != was]:
            self.differs(f"slides {body['ref']}", index, ", ".join(wrong))


def _implied(body: Body, reading: Any) -> list[tuple[str, Any]]:
    """Columns of a slide that its leaf and its reading tell too."""
    told = [("tenant", body["tenant"])]
    if isinstance(reading, dict):
        model = reading.get("model") or {}
        told += [("triage", reading.get("triage")), *((name, model.get(key)) for name, key in MODEL)]
    return told
