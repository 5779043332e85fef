"""From what arrived to a reading, step by step, with a real slide, a real store and the real runner."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from datasets.slides.simulate import pyramid
from datasets.slides.simulate.slides import simulate_slide as painted
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
    path = tmp_path_factory.mktemp("painted") / "hsil.tiff"
    return pyramid.write_tiff(path, painted(seed=5, label="HSIL", columns=8, rows=6))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("bundles")
    publish(folder, keys, policy=POLICY.read_text().replace("batch_size = 256", "batch = 64"))
    return folder


@pytest.fixture
def settings(tmp_path, bundles, keys):
    found = settings_module.load_settings(environ={"YUHENG_HOME": str(tmp_path)})
    return found.model_copy(
        update={"paths": found.paths.model_copy(update={"bundles": bundles, "public_key": keys[1]})}
    )


@pytest.fixture
def desk(settings):
    engine = open_store(settings.store_location, 5.0)
    runner = TileRunner(settings)
    yield StepContext(engine, settings.paths.slides, runner.infer)
    runner.close()
    engine.dispose()


def arrived(desk, path, **columns):
    """A slide as the gateway leaves it once it came whole."""
    slide = new_id()
    place = storage.quarantine_path(desk.folder, slide, path.name)
    storage.create_empty(place)
    shutil.copyfile(path, place)
    told = {"accession": "A1", "specimen": "cervical_cytology", "request": FORM, "name": path.name}
    digest = storage.sha256_of(place).hexdigest()
    slide_store.create(desk.engine, slide, "verifying", **(told | {"sha256": digest} | columns))
    return slide


def bundle_of(settings):
    from models.bundle import load_bundle

    found: Bundle[SlideCard] = load_bundle(
        settings.paths.bundles / "pathology" / "1", settings.paths.public_key, SlideCard
    )
    return found


def all_the_way(desk, slide, bundle, size=64):
    """Every step; the state in which the slide ends."""
    done = (
        steps.verify_file(desk, slide)
        and steps.deidentify_file(desk, slide)
        and steps.check_quality(desk, slide, bundle)
        and all(
            steps.infer_batch(desk, slide, bundle, n, size) for n in range(steps.begin_inference(desk, slide, size)[-1])
        )
    )
    if done:
        steps.aggregate_slide(desk, slide, bundle, size)
    row = slide_store.get(desk.engine, slide)
    return row["state"], [reason["code"] for reason in row["reasons"]]


def test_a_slide_comes_to_its_reading(desk, settings, tiff):
    slide = arrived(desk, tiff)
    state, _ = all_the_way(desk, slide, bundle_of(settings))
    row, home = slide_store.get(desk.engine, slide), desk.of(slide)
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
    states = [event["state"] for event in slide_store.events_after(desk.engine, slide) if event["kind"] == "state"]
    assert states[:6] == ["verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating"]


def test_every_step_done_twice_leaves_the_same_reading(desk, settings, tiff):
    bundle = bundle_of(settings)
    once, twice = arrived(desk, tiff), arrived(desk, tiff)
    all_the_way(desk, once, bundle)
    for step in (steps.verify_file, steps.deidentify_file):
        assert step(desk, twice)
        assert step(desk, twice)
    assert steps.check_quality(desk, twice, bundle)
    assert steps.check_quality(desk, twice, bundle)
    for number in [0, *range(steps.begin_inference(desk, twice, 64)[-1])]:
        assert steps.infer_batch(desk, twice, bundle, number, 64)
    first = steps.aggregate_slide(desk, twice, bundle, 64)
    assert steps.aggregate_slide(desk, twice, bundle, 64) == first
    one, two = (slide_store.get(desk.engine, slide)["reading"] for slide in (once, twice))
    same = {"slide_id", "created"}
    assert {k: v for k, v in one.items() if k not in same} == {k: v for k, v in two.items() if k not in same}


def test_the_size_of_a_batch_does_not_change_the_reading(desk, settings, tiff):
    bundle = bundle_of(settings)
    found = []
    for size in (64, 48):
        slide = arrived(desk, tiff)
        all_the_way(desk, slide, bundle, size)
        found.append(slide_store.get(desk.engine, slide)["reading"]["probability"])
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
def test_a_slide_that_cannot_be_read_ends_with_its_reason(desk, settings, tmp_path, fault, state, code):
    path = pyramid.write_tiff(tmp_path / "bad.tiff", painted(seed=6, label="NILM", columns=8, rows=6, defect=fault))
    assert all_the_way(desk, arrived(desk, path), bundle_of(settings)) == (state, [code])


def test_an_operators_scale_is_used_and_told(desk, settings, tmp_path):
    path = pyramid.write_tiff(tmp_path / "a.tiff", painted(seed=6, label="NILM", columns=6, rows=4, defect="no_scale"))
    slide = arrived(desk, path, mpp=0.5)
    all_the_way(desk, slide, bundle_of(settings))
    assert slide_store.get(desk.engine, slide)["reading"]["slide"]["mpp_from"] == "operator"


def test_bytes_that_are_not_those_announced_fail_and_a_truncated_file_says_so(desk, tiff, tmp_path):
    assert not steps.verify_file(desk, slide := arrived(desk, tiff, sha256="0" * 64))
    assert slide_store.get(desk.engine, slide)["code"] == "malformed"
    short = tmp_path / "short.tiff"
    short.write_bytes(tiff.read_bytes()[:-100_000])
    assert not steps.verify_file(desk, slide := arrived(desk, short))
    assert slide_store.get(desk.engine, slide)["code"] == "truncated"


def test_a_slide_whose_authorisation_is_revoked_while_it_waits_is_not_read(desk, settings, tiff):
    told = {"kind": "personal", "grantor": "p", "tenant": "local", "subject": "p", "groups": ["slide"],
            "valid_from": utc_now(), "valid_to": "2999", "document_sha256": "0" * 64, "purpose": "pathology"}  # fmt: skip
    with desk.engine.begin() as connection:
        live, dead, other = (
            grants.create(connection, told | more, "t")["authorisation"] for more in ({}, {}, {"purpose": "training"})
        )
    bundle, states = bundle_of(settings), {}
    for grant in (live, dead, other):
        slide = arrived(desk, tiff, request=FORM | {"authorisation": grant})
        assert steps.verify_file(desk, slide)
        assert steps.deidentify_file(desk, slide)
        assert steps.check_quality(desk, slide, bundle)
        if grant == dead:
            with desk.engine.begin() as connection:
                grants.revoke(connection, dead)
        batches = steps.begin_inference(desk, slide, 64)[-1]
        if all(steps.infer_batch(desk, slide, bundle, n, 64) for n in range(batches)):
            steps.aggregate_slide(desk, slide, bundle, 64)
        row = slide_store.get(desk.engine, slide)
        states[grant] = row["state"], [reason["code"] for reason in row["reasons"]], row["reading"] is None
    assert states[live][0] in ("ready", "abstained")
    assert states[dead] == states[other] == ("failed", ["not_authorised"], True)


def test_a_slide_unlike_anything_learned_from_abstains(desk, settings, tmp_path, keys):
    publish(tmp_path / "strict", keys, familiar=-1.0)
    from models.bundle import load_bundle

    strict = load_bundle(tmp_path / "strict/pathology/1", keys[1], SlideCard)
    told = settings.model_copy(update={"paths": settings.paths.model_copy(update={"bundles": tmp_path / "strict"})})
    runner = TileRunner(told)
    slide = arrived(desk, CMU)
    assert all_the_way(dataclasses.replace(desk, read=runner.infer), slide, strict) == (
        "abstained",
        ["out_of_distribution"],
    )
    runner.close()


def test_the_workflow_reads_what_arrived_and_a_slide_that_no_model_reads_fails_alone(desk, settings, tiff):
    one, other = arrived(desk, tiff), arrived(desk, tiff, specimen="breast_histology")
    jobs = SlideWorkflow(settings, desk.read)
    jobs.start()
    try:
        assert jobs.enqueue_new() == 2
        assert jobs.enqueue_new() == 0
        for slide in (one, other):
            jobs.wait_for_slide(slide, 60)
    finally:
        jobs.stop()
    assert slide_store.get(desk.engine, one)["state"] in ("ready", "abstained")
    assert slide_store.get(desk.engine, other)["code"] == "no_model"


def test_nothing_that_the_jobs_keep_is_a_pickle(desk, settings, tiff):
    import sqlite3

    slide = arrived(desk, tiff)
    jobs = SlideWorkflow(settings, desk.read)
    jobs.start()
    try:
        jobs.enqueue_new()
        jobs.wait_for_slide(slide, 60)
    finally:
        jobs.stop()
    with sqlite3.connect(settings.paths.jobs) as store:
        kept = store.execute("SELECT output, serialization FROM operation_outputs").fetchall()
    assert len(kept) > 5
    for output, how in kept:
        json.loads(output)
        assert how == "json"
