"""Slides in the store, on SQLite and PostgreSQL: transitions, readings, reports, the order of the worklist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.core.audit.authenticator import EntryAuthenticator, attach
from serving.core.db.engine import open_store
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.schema import METADATA, SLIDES
from serving.core.identifiers import new_id
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import PREDECESSORS, STATES, UNFINISHED, InvalidTransitionError, SlideNotFoundError
from tests import postgres as test_postgres

STATE_PATH = (
    "verifying deidentified quality_passed queued inferring aggregating ready in_review signed amended".split()  # noqa: SIM905  # the order is easier to read
)
READING = {"triage": "positive", "priority": 70, "model": {"name": "pathology", "version": "3", "bundle": "ab"}}


@pytest.fixture(scope="module")
def postgres() -> Iterator[sa.Engine]:
    engine = sa.create_engine(test_postgres.database("slide_states"))
    METADATA.create_all(engine)
    attach(engine, EntryAuthenticator(b"k" * 32, "test"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory) -> Iterator[sa.Engine]:
    engine = open_store(tmp_path_factory.mktemp("store") / "store.db", 1.0)
    attach(engine, EntryAuthenticator(b"k" * 32, "test"))
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request) -> sa.Engine:
    """Every test runs on both databases."""
    return request.getfixturevalue(request.param)


def create_slide(engine: sa.Engine, target_state: str = "uploading", **columns) -> str:
    slide = new_id()
    slide_store.create(engine, slide, **columns)
    for state in STATE_PATH if target_state != "uploading" else ():
        slide_store.transition(engine, slide, state, **({"reading": READING} if state == "ready" else {}))
        if state == target_state:
            break
    return slide


def list_states(engine: sa.Engine, slide: str) -> list[str]:
    return [event["state"] for event in slide_store.events_after(engine, slide) if event["kind"] == "state"]


def test_every_state_has_names_and_leads_only_to_known_states():
    for state in STATES.values():
        assert state.en
        assert any("\u4e00" <= character <= "\u9fff" for character in state.zh)
        assert set(state.next) <= set(STATES)
    assert set(UNFINISHED) == {name for name, state in STATES.items() if "cancelled" in state.next}
    assert not {"ready", "abstained", "in_review", "signed", "amended"} & set(UNFINISHED)


def test_every_transition_of_a_slide_is_recorded_as_an_event(engine):
    slide = create_slide(engine, "amended")
    assert list_states(engine, slide) == ["uploading", *STATE_PATH]
    row = slide_store.get(engine, slide)
    assert (row["state"], row["triage"], row["priority"]) == ("amended", "positive", 70)
    assert (row["model"], row["version"], row["bundle"]) == ("pathology", "3", "ab")


@settings(max_examples=60)
@given(targets=st.lists(st.sampled_from([*STATES]), max_size=25))
def test_only_listed_transitions_succeed_and_a_repeated_one_does_nothing(sqlite, targets):
    slide = create_slide(sqlite)
    reached, current = ["uploading"], "uploading"
    for target in targets:
        if current not in PREDECESSORS[target] and target not in reached:
            with pytest.raises(InvalidTransitionError) as refused:
                slide_store.transition(sqlite, slide, target)
            assert (refused.value.current, refused.value.target) == (current, target)
        elif slide_store.transition(sqlite, slide, target):
            assert current in PREDECESSORS[target]
            reached.append(target)
            current = target
        else:
            assert current not in PREDECESSORS[target]
            assert target in reached
        assert slide_store.get(sqlite, slide)["state"] == current
    assert list_states(sqlite, slide) == reached


def test_a_reading_is_never_altered(engine):
    slide = create_slide(engine, "in_review")
    with pytest.raises(ValueError, match="never altered"):
        slide_store.transition(engine, slide, "signed", reading=READING | {"triage": "negative"})
    assert slide_store.get(engine, slide)["reading"] == READING
    assert slide_store.get(engine, slide)["state"] == "in_review"


def test_progress_only_grows_and_only_while_a_slide_is_being_read(engine):
    slide = create_slide(engine, "queued")
    assert not slide_store.record_progress(engine, slide, 10, 100)
    slide_store.transition(engine, slide, "inferring")
    assert slide_store.record_progress(engine, slide, 64, 100)
    assert not slide_store.record_progress(engine, slide, 64, 100)
    assert not slide_store.record_progress(engine, slide, 32, 100)
    assert slide_store.record_progress(engine, slide, 100, 100)
    progress = [
        event["detail"]["done"] for event in slide_store.events_after(engine, slide) if event["kind"] == "progress"
    ]
    assert progress == [64, 100]


def test_the_first_reason_sets_the_code(engine):
    slide = create_slide(engine)
    reasons = [{"code": "sha256", "en": "...", "zh": "..."}]
    slide_store.transition(engine, slide, "failed", reasons=reasons)
    assert slide_store.get(engine, slide)["code"] == "sha256"


def test_every_signed_version_is_kept_and_none_is_skipped(engine):
    slide = create_slide(engine, "in_review")
    slide_store.add_report(engine, slide, 1, "signed", {"findings": "one"}, "00", "L1", "2026")
    with pytest.raises(slide_store.ReportVersionConflictError):
        slide_store.add_report(engine, slide, 1, "amended", {"findings": "late"}, "01", "L2", "2026")
    with pytest.raises(InvalidTransitionError):
        slide_store.add_report(engine, slide, 2, "signed", {"findings": "twice"}, "01", "L2", "2026")
    slide_store.add_report(engine, slide, 2, "amended", {"findings": "two"}, "02", "L1", "2026")
    slide_store.add_report(engine, slide, 3, "amended", {"findings": "three"}, "03", "L1", "2026")
    assert [report["body"]["findings"] for report in slide_store.list_reports(engine, slide)] == ["one", "two", "three"]
    assert list_states(engine, slide)[-3:] == ["signed", "amended", "amended"]


def test_the_worklist_is_sorted_by_priority_then_age_over_all_pages(engine):
    with engine.begin() as connection:
        connection.execute(sa.update(SLIDES).values(state="cancelled", priority=-1))
    first, second, third = (create_slide(engine, "queued") for _ in range(3))
    urgent = create_slide(engine, "ready")
    rows = slide_store.worklist(engine, 100, state="queued")
    assert [row["id"] for row in rows] == sorted([first, second, third])
    assert slide_store.worklist(engine, 1)[0]["id"] == urgent
    ids, after = [], None
    while page := slide_store.worklist(engine, 2, after=after):
        ids += [row["id"] for row in page]
        after = ids[-1]
    assert ids == [row["id"] for row in slide_store.worklist(engine, 10_000)]
    with pytest.raises(SlideNotFoundError):
        slide_store.worklist(engine, 1, after="none")


def test_a_negative_awaits_a_pathologist_only_if_selected_for_audit(engine):
    with engine.begin() as connection:
        connection.execute(sa.update(SLIDES).values(state="cancelled", priority=-1))
    negative = READING | {"triage": "negative", "priority": 5}
    selected, not_selected = create_slide(engine, "aggregating", audit=True), create_slide(engine, "aggregating")
    for slide in (selected, not_selected):
        slide_store.transition(engine, slide, "ready", reading=negative)
    positive = create_slide(engine, "ready")
    assert [row["id"] for row in slide_store.worklist(engine, 10, review=True)] == [positive, selected]


def test_a_locked_store_raises_store_unavailable(tmp_path):
    engine = open_store(tmp_path / "store.db", 0.1)
    attach(engine, EntryAuthenticator(b"k" * 32, "test"))
    slide = create_slide(engine)
    with engine.begin(), pytest.raises(StoreUnavailableError, match="holds the store"):
        slide_store.transition(engine, slide, "verifying")
    assert slide_store.transition(engine, slide, "verifying")
