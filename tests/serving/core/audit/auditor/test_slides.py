"""The audit names an edit of a slide's row and of each moment of its way; of what nobody altered it finds nothing."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from serving.core.billing.prices import Prices
from serving.core.db.engine import open_store
from serving.core.db.schema import LOG_LEAVES, SLIDE_EVENTS, SLIDES
from serving.governance.lineage import erasure
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import settings_for
from tests.serving.core.audit.auditor.audit_helpers import altered, edited, findings

WAY = ("verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating")
READING = {"triage": "negative", "priority": 9, "score": 0.25, "model": {"name": "m", "version": "1", "bundle": "b"}}
REASON = {"code": "no_tissue", "en": "no tissue", "zh": "无组织"}
FORM = {"accession": "A-1", "specimen": "cervical_cytology", "stain": "h_e", "preparation": "smear", "mpp": 0.25}
AMENDED, READ, READING_ON, ABSTAINED, UNFIT, FAILED, CANCELLED, COMING, LEFT = (f"{i:032x}" for i in range(1, 10))
OTHER = {
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
    """A slide of each kind; one that is cancelled while its last bytes come, and whose image is erased."""
    engine, prices = open_store(settings.store_location, 5.0), Prices.load(settings.paths.prices)

    def move(slide, *states, **columns):
        for state in states:
            slide_store.transition(engine, slide, state, {"of": state}, prices=prices, **columns)

    for slide in (AMENDED, READ, READING_ON, ABSTAINED, UNFIT, FAILED, CANCELLED, COMING, LEFT):
        slide_store.create(engine, slide, name="a.svs", sha256="a" * 64, **({} if slide == COMING else FORM))
        if slide != LEFT:
            slide_store.add_event(engine, slide, {"code": "arrived", "sha256": "a" * 64}, bytes=5)
    slide_store.add_event(engine, COMING, {"code": "request_form"}, request={"age": 41}, **FORM)
    for slide in (AMENDED, READ, READING_ON, ABSTAINED):
        move(slide, *WAY[:5], total=4)
        slide_store.add_event(engine, slide, {"code": "no_model"})
        for done in (1, 2):
            slide_store.record_progress(engine, slide, done, 4)
    for slide in (AMENDED, READ):
        move(slide, "aggregating")
        move(slide, "ready", reading=READING)
    move(ABSTAINED, "aggregating")
    move(ABSTAINED, "abstained", reading=READING, reasons=[REASON])
    move(AMENDED, "in_review")
    for version, kind in enumerate(("signed", "amended", "amended"), start=1):
        body = {"findings": "none 无", "age": 41.5}
        slide_store.add_report(engine, AMENDED, version, kind, body, "a" * 64, "licence-1", "2026-11-25T00:00:00.000Z")
    move(UNFIT, *WAY[:2])
    move(UNFIT, "quality_failed", reasons=[REASON])
    move(FAILED, "verifying", "failed")
    move(CANCELLED, "cancelled")
    slide_store.add_event(engine, CANCELLED, {"code": "arrived"}, bytes=6)
    (settings.paths.slides / FAILED / "slide").mkdir(parents=True)
    erasure.erase_slide(engine, settings, FAILED, "tester")
    yield engine
    engine.dispose()


def events(connection, slide: str) -> list[int]:
    chosen = sa.select(SLIDE_EVENTS.c.id).where(SLIDE_EVENTS.c.slide == slide)
    return list(connection.execute(chosen.order_by(SLIDE_EVENTS.c.id)).scalars())


def test_slides_that_nobody_altered_bring_no_finding(store, settings):
    with altered(store) as connection:
        assert findings(connection, settings) == []


@pytest.mark.parametrize("column", [column.name for column in SLIDES.c if column.name != "id"])
@pytest.mark.parametrize("slide", [AMENDED, READ, ABSTAINED, UNFIT, FAILED, CANCELLED, COMING, LEFT])
def test_an_edit_of_a_column_of_a_slide_is_named(store, settings, slide, column):
    found = edited(store, settings, sa.update(SLIDES).where(SLIDES.c.id == slide).values({column: OTHER[column]}))
    assert found
    assert all(slide in line for line in found), found
    assert any(line.startswith("edited 被修改: slides") for line in found), found
    assert column == "salt" or any(column in line for line in found), found


@pytest.mark.parametrize("column", ["state", "audit", "request", "created"])
def test_while_a_slide_is_read_all_but_its_progress_is_compared(store, settings, column):
    mine = sa.update(SLIDES).where(SLIDES.c.id == READING_ON)
    assert edited(store, settings, mine.values(done=4)) == []
    assert [line for line in edited(store, settings, mine.values({column: OTHER[column]})) if column in line]


@pytest.mark.parametrize("column", ["slide", "at", "kind", "state", "detail"])
@pytest.mark.parametrize("place", [0, 1, 4, 8, 10, -1], ids=lambda place: f"event {place}")
def test_an_edit_of_any_moment_of_a_slides_way_is_named(store, settings, place, column):
    with altered(store) as connection:
        event = events(connection, AMENDED)[place]
        other = {"slide": UNFIT, "at": "2020", "kind": "other", "state": "other", "detail": {"of": "other"}}
        mine = sa.update(SLIDE_EVENTS).where(SLIDE_EVENTS.c.id == event)
        connection.execute(mine.values({column: other[column]}))
        found = findings(connection, settings)
    assert [line for line in found if "slide_events" in line and f"of slide {AMENDED}" in line], found


@pytest.mark.parametrize("place", [0, 1, 4, 8, -1])
def test_a_moment_that_was_taken_away_is_named(store, settings, place):
    with altered(store) as connection:
        event = events(connection, AMENDED)[place]
        connection.execute(sa.delete(SLIDE_EVENTS).where(SLIDE_EVENTS.c.id == event))
        found = findings(connection, settings)
    assert [line for line in found if "slide_events" in line and f"of slide {AMENDED}" in line], found


@pytest.mark.parametrize("kind", ["state", "note", "progress"])
def test_a_moment_that_was_put_in_is_named(store, settings, kind):
    row = {"slide": AMENDED, "at": "2027", "kind": kind, "state": "amended", "detail": {}}
    [found] = edited(store, settings, sa.insert(SLIDE_EVENTS).values(row))
    assert found.startswith("added 被添加: slide_events ")
    assert f"of slide {AMENDED}" in found


def test_a_slide_that_was_taken_away_or_put_in_is_named_once(store, settings):
    with altered(store) as connection:
        row = dict(connection.execute(sa.select(SLIDES).where(SLIDES.c.id == FAILED)).mappings().one())
        connection.execute(sa.delete(SLIDE_EVENTS).where(SLIDE_EVENTS.c.slide == COMING))
        connection.execute(sa.delete(SLIDES).where(SLIDES.c.id == COMING))
        [found] = findings(connection, settings)
    assert found.startswith(f"deleted 被删除: slides {COMING}: leaf ")
    for salt in (row["salt"], None):
        forged = sa.insert(SLIDES).values(row | {"id": "f" * 32, "salt": salt, "created": "2027"})
        assert edited(store, settings, forged) == [f"added 被添加: slides {'f' * 32}: no leaf tells of it"]


@pytest.mark.parametrize("column", ["request", "reasons", "notes"])
def test_what_is_no_json_any_more_is_named_and_ends_no_audit(store, settings, column):
    if store.dialect.name == "postgresql":
        pytest.skip("it takes no such value")
    for text in ("{", "NaN"):
        found = edited(store, settings, sa.text(f"UPDATE slides SET {column} = '{text}' WHERE id = '{READ}'"))
        assert [line for line in found if f"slides {READ}" in line]
        found = edited(store, settings, sa.text(f"UPDATE slide_events SET detail = '{text}' WHERE slide = '{READ}'"))
        assert [line for line in found if "slide_events" in line]
        found = edited(store, settings, sa.text(f"UPDATE slides SET reading = '{text}' WHERE id = '{READ}'"))
        assert [line for line in found if f"slides {READ}" in line]


def test_of_leaves_that_told_less_state_time_and_detail_are_compared(store, settings):
    mine, read = SLIDES.c.id == AMENDED, SLIDE_EVENTS.c.slide == AMENDED
    with altered(store) as connection:
        # as they were: a slide that still comes had no leaf, nor therefore a salt
        connection.execute(sa.update(SLIDES).where(SLIDES.c.id.in_([COMING, LEFT])).values(salt=None))
        assert findings(connection, settings, before=True) == []
        slide_store.add_event(connection, COMING, {"code": "slow"})  # by the code of today
        assert findings(connection, settings) == []
    assert edited(store, settings, sa.update(SLIDES).where(mine).values(state="signed"), before=True)
    for told in ({"at": "2020"}, {"detail": {"version": 7}}, {"state": "ready"}):
        changed = sa.update(SLIDE_EVENTS).where(read, SLIDE_EVENTS.c.state == "signed").values(told)
        found = edited(store, settings, changed, before=True)
        assert [line for line in found if "slide_events signed at" in line], found


def test_each_moment_but_progress_has_a_leaf(store):
    with store.connect().execution_options(reading=True) as connection:
        kinds = sa.select(LOG_LEAVES.c.kind, sa.func.count()).group_by(LOG_LEAVES.c.kind)
        leaves = dict(connection.execute(kinds).all())
        happened = sa.select(SLIDE_EVENTS.c.kind, sa.func.count()).group_by(SLIDE_EVENTS.c.kind)
        events = dict(connection.execute(happened).all())
    assert (leaves["slide_state"], leaves["slide_note"]) == (events["state"], events["note"])
    assert events["progress"] == 8
