"""The audit reports an edit of any column of a slide and of any of its events, and nothing on untouched slides."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from serving.core.audit.authenticator import open_log_store
from serving.core.billing.prices import Prices
from serving.core.db.schema import LOG_LEAVES, SLIDE_EVENTS, SLIDES
from serving.core.identifiers import utc_now
from serving.governance.lineage import erasure
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import settings_for
from tests.serving.core.audit.auditor.audit_helpers import findings, findings_after, rolled_back

STATES = ("verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating")
READING = {"triage": "negative", "priority": 9, "score": 0.25, "model": {"name": "m", "version": "1", "bundle": "b"}}
REASON = {"code": "no_tissue", "en": "no tissue", "zh": "无组织"}
REQUEST_FORM = {
    "accession": "A-1",
    "specimen": "cervical_cytology",
    "stain": "h_e",
    "preparation": "smear",
    "mpp": 0.25,
}
AMENDED, READY, INFERRING, ABSTAINED, UNFIT, FAILED, CANCELLED, UPLOADING, NEW = (f"{i:032x}" for i in range(1, 10))
CHANGED = {
    "tenant": "other", "state": "queued", "code": "other", "reasons": [{}], "notes": [{}], "name": "other",
    "sha256": "0" * 64, "bytes": 7, "accession": "other", "specimen": "other", "stain": "other",
    "preparation": "other", "request": {"age": 7}, "mpp": 0.5, "done": 3, "total": 9, "audit": True,
    "triage": "positive", "priority": 7, "model": "other", "version": "other", "bundle": "other",
    "reading": READING | {"triage": "positive"}, "salt": b"0" * 16, "created": "2020", "updated": "2020",
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(bundles, made, tmp_path_factory):
    return settings_for(bundles, made, tmp_path_factory.mktemp("slides"))


@pytest.fixture(scope="module")
def store(settings):
    """One slide of each kind, among them one cancelled during its upload and one whose image is erased."""
    engine, prices = open_log_store(settings, 5.0), Prices.load(settings.paths.prices)

    def move(slide, *states, **columns):
        for state in states:
            slide_store.transition(engine, slide, state, {"of": state}, prices=prices, **columns)

    for slide in (AMENDED, READY, INFERRING, ABSTAINED, UNFIT, FAILED, CANCELLED, UPLOADING, NEW):
        slide_store.create(engine, slide, name="a.svs", sha256="a" * 64, **({} if slide == UPLOADING else REQUEST_FORM))
        if slide != NEW:
            slide_store.add_event(engine, slide, {"code": "arrived", "sha256": "a" * 64}, bytes=5)
    slide_store.add_event(engine, UPLOADING, {"code": "request_form"}, request={"age": 41}, **REQUEST_FORM)
    for slide in (AMENDED, READY, INFERRING, ABSTAINED):
        move(slide, *STATES[:5], total=4)
        slide_store.add_event(engine, slide, {"code": "no_model"})
        for done in (1, 2):
            slide_store.record_progress(engine, slide, done, 4)
    for slide in (AMENDED, READY):
        move(slide, "aggregating")
        move(slide, "ready", reading=READING)
    move(ABSTAINED, "aggregating")
    move(ABSTAINED, "abstained", reading=READING, reasons=[REASON])
    move(AMENDED, "in_review")
    for version, kind in enumerate(("signed", "amended", "amended"), start=1):
        body = {"findings": "none 无", "age": 41.5}
        slide_store.add_report(engine, AMENDED, version, kind, body, "a" * 64, "licence-1", utc_now())
    move(UNFIT, *STATES[:2])
    move(UNFIT, "quality_failed", reasons=[REASON])
    move(FAILED, "verifying", "failed")
    move(CANCELLED, "cancelled")
    slide_store.add_event(engine, CANCELLED, {"code": "arrived"}, bytes=6)
    (settings.paths.slides / FAILED / "slide").mkdir(parents=True)
    erasure.erase_slide(engine, settings, FAILED, "tester")
    yield engine
    engine.dispose()


def event_ids(connection, slide: str) -> list[int]:
    stmt = sa.select(SLIDE_EVENTS.c.id).where(SLIDE_EVENTS.c.slide == slide)
    return list(connection.execute(stmt.order_by(SLIDE_EVENTS.c.id)).scalars())


def test_untouched_slides_have_no_findings(store, settings):
    with rolled_back(store) as connection:
        assert findings(connection, settings) == []


@pytest.mark.parametrize("column", [column.name for column in SLIDES.c if column.name != "id"])
@pytest.mark.parametrize("slide", [AMENDED, READY, ABSTAINED, UNFIT, FAILED, CANCELLED, UPLOADING, NEW])
def test_an_edit_of_any_column_of_a_slide_is_reported(store, settings, slide, column):
    lines = findings_after(
        store, settings, sa.update(SLIDES).where(SLIDES.c.id == slide).values({column: CHANGED[column]})
    )
    assert lines
    assert all(slide in line for line in lines), lines
    assert any(line.startswith("edited 被修改: slides") for line in lines), lines
    assert column == "salt" or any(column in line for line in lines), lines


@pytest.mark.parametrize("column", ["state", "audit", "request", "created"])
def test_during_inference_everything_but_progress_is_compared(store, settings, column):
    update = sa.update(SLIDES).where(SLIDES.c.id == INFERRING)
    assert findings_after(store, settings, update.values(done=4)) == []
    assert [
        line for line in findings_after(store, settings, update.values({column: CHANGED[column]})) if column in line
    ]


@pytest.mark.parametrize("column", ["slide", "at", "kind", "state", "detail"])
@pytest.mark.parametrize("position", [0, 1, 4, 8, 10, -1], ids=lambda position: f"event {position}")
def test_an_edit_of_any_event_of_a_slide_is_reported(store, settings, position, column):
    with rolled_back(store) as connection:
        event = event_ids(connection, AMENDED)[position]
        changed = {"slide": UNFIT, "at": "2020", "kind": "other", "state": "other", "detail": {"of": "other"}}
        update = sa.update(SLIDE_EVENTS).where(SLIDE_EVENTS.c.id == event)
        connection.execute(update.values({column: changed[column]}))
        lines = findings(connection, settings)
    assert [line for line in lines if "slide_events" in line and f"of slide {AMENDED}" in line], lines


@pytest.mark.parametrize("position", [0, 1, 4, 8, -1])
def test_a_deleted_event_is_reported(store, settings, position):
    with rolled_back(store) as connection:
        event = event_ids(connection, AMENDED)[position]
        connection.execute(sa.delete(SLIDE_EVENTS).where(SLIDE_EVENTS.c.id == event))
        lines = findings(connection, settings)
    assert [line for line in lines if "slide_events" in line and f"of slide {AMENDED}" in line], lines


@pytest.mark.parametrize("kind", ["state", "note", "progress"])
def test_an_added_event_is_reported(store, settings, kind):
    row = {"slide": AMENDED, "at": "2027", "kind": kind, "state": "amended", "detail": {}}
    [finding] = findings_after(store, settings, sa.insert(SLIDE_EVENTS).values(row))
    assert finding.startswith("added 被添加: slide_events ")
    assert f"of slide {AMENDED}" in finding


def test_a_deleted_or_added_slide_is_reported_once(store, settings):
    with rolled_back(store) as connection:
        row = dict(connection.execute(sa.select(SLIDES).where(SLIDES.c.id == FAILED)).mappings().one())
        connection.execute(sa.delete(SLIDE_EVENTS).where(SLIDE_EVENTS.c.slide == UPLOADING))
        connection.execute(sa.delete(SLIDES).where(SLIDES.c.id == UPLOADING))
        [finding] = findings(connection, settings)
    assert finding.startswith(f"deleted 被删除: slides {UPLOADING}: log entry ")
    forged = sa.insert(SLIDES).values(row | {"id": "f" * 32, "created": "2027"})
    assert findings_after(store, settings, forged) == [f"added 被添加: slides {'f' * 32}: no log entry records it"]


@pytest.mark.parametrize("column", ["request", "reasons", "notes"])
def test_invalid_json_is_reported_and_does_not_end_the_audit(store, settings, column):
    if store.dialect.name == "postgresql":
        pytest.skip("PostgreSQL rejects invalid JSON")
    for text in ("{", "NaN"):
        lines = findings_after(store, settings, sa.text(f"UPDATE slides SET {column} = '{text}' WHERE id = '{READY}'"))
        assert [line for line in lines if f"slides {READY}" in line]
        lines = findings_after(
            store, settings, sa.text(f"UPDATE slide_events SET detail = '{text}' WHERE slide = '{READY}'")
        )
        assert [line for line in lines if "slide_events" in line]
        lines = findings_after(store, settings, sa.text(f"UPDATE slides SET reading = '{text}' WHERE id = '{READY}'"))
        assert [line for line in lines if f"slides {READY}" in line]


def test_every_event_except_progress_has_a_log_entry(store):
    with store.connect().execution_options(reading=True) as connection:
        kinds = sa.select(LOG_LEAVES.c.kind, sa.func.count()).group_by(LOG_LEAVES.c.kind)
        leaves = dict(connection.execute(kinds).all())
        event_kinds = sa.select(SLIDE_EVENTS.c.kind, sa.func.count()).group_by(SLIDE_EVENTS.c.kind)
        events = dict(connection.execute(event_kinds).all())
    assert (leaves["slide_state"], leaves["slide_note"]) == (events["state"], events["note"])
    assert events["progress"] == 8
