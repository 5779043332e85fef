"""From what arrived to a reading, step by step, with a real slide, a real store and the real runner."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from datasets.slides.simulate import pyramid
from datasets.slides.simulate.slides import simulate_slide
from models.bundle import Bundle
from models.pathology.card import SlideCard
from serving import settings as settings_module
from serving.core.db.engine import open_store
from serving.core.identifiers import new_id, utc_now
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store
from serving.pathology.workflow import steps
from serving.pathology.workflow.runner import TileRunner
from serving.pathology.workflow.steps import StepContext
from serving.pathology.workflow.workflow import SlideWorkflow
from serving.privacy.consent import grants
from tests.serving.pathology.fake_readings import CMU
from tests.serving.pathology.slide_bundles import POLICY, publish

FORM = {"hpv_result": "positive", "hpv_genotype": ["16"]}


@pytest.fixture(scope="module")
def tiff(tmp_path_factory):
    """A simulated slide of 2,048 x 1,536 pixels at 0.5 um."""
    path = tmp_path_factory.mktemp("slide") / "hsil.tiff"
    return pyramid.write_tiff(path, simulate_slide(seed=5, label="HSIL", columns=8, rows=6))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("bundles")
    publish(folder, keys, policy=POLICY.read_text().replace("batch_size = 256", "batch_size = 64"))
    return folder


@pytest.fixture
def settings(tmp_path, bundles, keys):
    found = settings_module.load_settings(environ={"YUHENG_HOME": str(tmp_path)})
    return found.model_copy(
        update={"paths": found.paths.model_copy(update={"bundles": bundles, "public_key": keys[1]})}
    )


@pytest.fixture
def context(settings):
    engine = open_store(settings.store_location, 5.0)
    runner = TileRunner(settings)
    yield StepContext(engine, settings.paths.slides, runner.infer)
    runner.close()
    engine.dispose()


def create_slide(context, path, **columns):
    """A slide as the gateway leaves it once it came whole."""
    slide = new_id()
    place = storage.quarantine_path(context.slides_dir, slide, path.name)
    storage.create_empty(place)
    shutil.copyfile(path, place)
    told = {"accession": "A1", "specimen": "cervical_cytology", "request": FORM, "name": path.name}
    digest = storage.sha256_of(place).hexdigest()
    slide_store.create(context.engine, slide, "verifying", **(told | {"sha256": digest} | columns))
    return slide


def load_test_bundle(settings):
    from models.bundle import load_bundle

    found: Bundle[SlideCard] = load_bundle(
        settings.paths.bundles / "pathology" / "1", settings.paths.public_key, SlideCard
    )
    return found


def run_all_steps(context, slide, bundle, size=64):
    """Every step; the state in which the slide ends."""
    done = (
        steps.verify_file(context, slide)
        and steps.deidentify_file(context, slide)
        and steps.check_quality(context, slide, bundle)
        and all(
            steps.infer_batch(context, slide, bundle, n, size) for n in range(steps.begin_inference(context, slide, size))
        )
    )
    if done:
        steps.aggregate_slide(context, slide, bundle, size)
    row = slide_store.get(context.engine, slide)
    return row["state"], [reason["code"] for reason in row["reasons"]]


def test_a_slide_comes_to_its_reading(context, settings, tiff):
    slide = create_slide(context, tiff)
    state, _ = run_all_steps(context, slide, load_test_bundle(settings))
    row, home = slide_store.get(context.engine, slide), context.slide_dir(slide)
    assert state in ("ready", "abstained")
    reading = json.loads((home / "reading.json").read_text())
    assert row["reading"] == reading
    assert reading["slide"]["mpp"] == [0.5, 0.5]
    assert reading["patient"]["reasons"][0]["code"] == "hpv_16"
    assert (reading["tiles"]["read"], row["done"]) == (row["total"], row["total"])
    heat, tiles = np.load(home / "heat.npz"), np.load(home / "tiles.npz")
    assert heat["probability"].shape == (reading["grid"]["rows"], reading["grid"]["columns"])
    fit = tiles["reasons"] == ""
    assert np.isfinite(heat["probability"]).sum() == fit.sum() > 50
    assert np.nansum(tiles["attention"]) == pytest.approx(1, abs=1e-4)
    assert not (home / "quarantine").exists()
    states = [event["state"] for event in slide_store.events_after(context.engine, slide) if event["kind"] == "state"]
    assert states[:6] == ["verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating"]


def test_every_step_done_twice_leaves_the_same_reading(context, settings, tiff):
    bundle = load_test_bundle(settings)
    once, twice = create_slide(context, tiff), create_slide(context, tiff)
    run_all_steps(context, once, bundle)
    for step in (steps.verify_file, steps.deidentify_file):
        assert step(context, twice)
        assert step(context, twice)
    assert steps.check_quality(context, twice, bundle)
    assert steps.check_quality(context, twice, bundle)
    for number in [0, *range(steps.begin_inference(context, twice, 64))]:
        assert steps.infer_batch(context, twice, bundle, number, 64)
    first = steps.aggregate_slide(context, twice, bundle, 64)
    assert steps.aggregate_slide(context, twice, bundle, 64) == first
    one, two = (slide_store.get(context.engine, slide)["reading"] for slide in (once, twice))
    same = {"slide_id", "created"}
    assert {k: v for k, v in one.items() if k not in same} == {k: v for k, v in two.items() if k not in same}


def test_the_size_of_a_batch_does_not_change_the_reading(context, settings, tiff):
    bundle = load_test_bundle(settings)
    found = []
    for size in (64, 48):
        slide = create_slide(context, tiff)
        run_all_steps(context, slide, bundle, size)
        found.append(slide_store.get(context.engine, slide)["reading"]["probability"])
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize(
    ("fault", "state", "code"),
    [
        ("all_background", "quality_failed", "all_background"),
        ("out_of_focus", "quality_failed", "out_of_focus"),
        ("pen_marks", "quality_failed", "pen_marks"),
        ("no_scale", "failed", "no_scale"),
    ],
)
def test_a_slide_that_cannot_be_read_ends_with_its_reason(context, settings, tmp_path, fault, state, code):
    path = pyramid.write_tiff(tmp_path / "bad.tiff", simulate_slide(seed=6, label="NILM", columns=8, rows=6, defect=fault))
    assert run_all_steps(context, create_slide(context, path), load_test_bundle(settings)) == (state, [code])


def test_an_operators_scale_is_used_and_told(context, settings, tmp_path):
    path = pyramid.write_tiff(tmp_path / "a.tiff", simulate_slide(seed=6, label="NILM", columns=6, rows=4, defect="no_scale"))
    slide = create_slide(context, path, mpp=0.5)
    run_all_steps(context, slide, load_test_bundle(settings))
    assert slide_store.get(context.engine, slide)["reading"]["slide"]["mpp_from"] == "operator"


def test_bytes_that_are_not_those_announced_fail_and_a_truncated_file_says_so(context, tiff, tmp_path):
    assert not steps.verify_file(context, slide := create_slide(context, tiff, sha256="0" * 64))
    assert slide_store.get(context.engine, slide)["code"] == "malformed"
    short = tmp_path / "short.tiff"
    short.write_bytes(tiff.read_bytes()[:-100_000])
    assert not steps.verify_file(context, slide := create_slide(context, short))
    assert slide_store.get(context.engine, slide)["code"] == "truncated"


def test_a_slide_whose_authorisation_is_revoked_while_it_waits_is_not_read(context, settings, tiff):
    told = {"kind": "personal", "grantor": "p", "tenant": "local", "subject": "p", "groups": ["slide"],
            "valid_from": utc_now(), "valid_to": "2999", "document_sha256": "0" * 64, "purpose": "pathology"}  # fmt: skip
    with context.engine.begin() as connection:
        live, dead, other = (
            grants.create(connection, told | more, "t")["authorisation"] for more in ({}, {}, {"purpose": "training"})
        )
    bundle, states = load_test_bundle(settings), {}
    for grant in (live, dead, other):
        slide = create_slide(context, tiff, request=FORM | {"authorisation": grant})
        assert steps.verify_file(context, slide)
        assert steps.deidentify_file(context, slide)
        assert steps.check_quality(context, slide, bundle)
        if grant == dead:
            with context.engine.begin() as connection:
                grants.revoke(connection, dead)
        batches = steps.begin_inference(context, slide, 64)
        if all(steps.infer_batch(context, slide, bundle, n, 64) for n in range(batches)):
            steps.aggregate_slide(context, slide, bundle, 64)
        row = slide_store.get(context.engine, slide)
        states[grant] = row["state"], [reason["code"] for reason in row["reasons"]], row["reading"] is None
    assert states[live][0] in ("ready", "abstained")
    assert states[dead] == states[other] == ("failed", ["not_authorised"], True)


def test_a_slide_unlike_anything_learned_from_abstains(context, settings, tmp_path, keys):
    publish(tmp_path / "strict", keys, familiar=-1.0)
    from models.bundle import load_bundle

    strict = load_bundle(tmp_path / "strict/pathology/1", keys[1], SlideCard)
    told = settings.model_copy(update={"paths": settings.paths.model_copy(update={"bundles": tmp_path / "strict"})})
    runner = TileRunner(told)
    slide = create_slide(context, CMU)
    assert run_all_steps(dataclasses.replace(context, infer=runner.infer), slide, strict) == (
        "abstained",
        ["out_of_distribution"],
    )
    runner.close()


def test_the_workflow_reads_what_arrived_and_a_slide_that_no_model_reads_fails_alone(context, settings, tiff):
    one, other = create_slide(context, tiff), create_slide(context, tiff, specimen="breast_histology")
    workflow = SlideWorkflow(settings, context.infer)
    workflow.start()
    try:
        assert workflow.enqueue_new() == 2
        assert workflow.enqueue_new() == 0
        for slide in (one, other):
            workflow.wait_for_slide(slide, 60)
    finally:
        workflow.stop()
    assert slide_store.get(context.engine, one)["state"] in ("ready", "abstained")
    assert slide_store.get(context.engine, other)["code"] == "no_model"


def test_nothing_that_the_jobs_keep_is_a_pickle(context, settings, tiff):
    import sqlite3

    slide = create_slide(context, tiff)
    workflow = SlideWorkflow(settings, context.infer)
    workflow.start()
    try:
        workflow.enqueue_new()
        workflow.wait_for_slide(slide, 60)
    finally:
        workflow.stop()
    with sqlite3.connect(settings.paths.jobs) as store:
        kept = store.execute("SELECT output, serialization FROM operation_outputs").fetchall()
    assert len(kept) > 5
    for output, how in kept:
        json.loads(output)
        assert how == "json"
