"""The steps from an uploaded slide to its reading, with a real slide, store and runner."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import tifffile

from datasets.slides.deidentification import deidentify
from datasets.slides.simulate import pyramid, writers
from datasets.slides.simulate.slides import simulate_slide
from models.bundle import Bundle
from models.pathology.card import SlideCard
from serving import settings as settings_module
from serving.core.audit.authenticator import open_log_store
from serving.core.db.engine import write_transaction
from serving.core.identifiers import utc_now
from serving.pathology.slides import scale, upload_store
from serving.pathology.slides import store as slide_store
from serving.pathology.viewer.deepzoom import DeepZoom
from serving.pathology.workflow import aggregation, steps
from serving.pathology.workflow.runner import TileRunner
from serving.pathology.workflow.step_context import StepContext
from serving.pathology.workflow.workflow import SlideWorkflow
from serving.privacy.consent import grants
from tests.paths import VENDOR_SLIDES
from tests.serving.pathology.arrived_slides import comparable_fields, create_arrived_slide
from tests.serving.pathology.fake_readings import CMU
from tests.serving.pathology.slide_bundles import POLICY, publish

FORM = {"hpv_result": "positive", "hpv_genotype": ["16"]}


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    """A simulated slide of 2,048 x 1,536 pixels at 0.5 um."""
    path = tmp_path_factory.mktemp("slide") / "hsil.tiff"
    return pyramid.write_tiff(path, simulate_slide(seed=5, label="HSIL", columns=8, rows=6))


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A simulated stack of three focal planes, of which the first is sharp at the left and the last at the right."""
    simulated = simulate_slide(seed=5, label="HSIL", columns=4, rows=4)
    return writers.write_dicom(tmp_path_factory.mktemp("stack"), simulated, planes=3)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("bundles")
    publish(folder, keys, policy=POLICY.read_text().replace("batch_size = 256", "batch_size = 64"))
    return folder


@pytest.fixture
def settings(tmp_path, bundles, keys):
    settings = settings_module.load_settings(environ={"YUHENG_HOME": str(tmp_path)})
    return settings.model_copy(
        update={"paths": settings.paths.model_copy(update={"bundles": bundles, "public_key": keys[1]})}
    )


@pytest.fixture
def context(settings):
    engine = open_log_store(settings, 5.0)
    runner = TileRunner(settings)
    yield StepContext(engine, settings.paths.slides, runner.infer, lambda tenant: tenant.encode().ljust(32))
    runner.close()
    engine.dispose()


def create_slide(context, source, **columns):
    columns = {"request": FORM} | columns
    return create_arrived_slide(context.engine, context.slides_dir, source.read_bytes(), source.name, **columns)


def load_test_bundle(settings):
    from models.bundle import load_bundle

    bundle: Bundle[SlideCard] = load_bundle(
        settings.paths.bundles / "pathology" / "1", settings.paths.public_key, SlideCard
    )
    return bundle


def run_all_steps(context, slide, bundle, batch_size=64):
    """Run every step; returns the slide's final state and the codes of its reasons."""
    completed = (
        steps.verify_file(context, slide)
        and steps.deidentify_file(context, slide)
        and steps.check_quality(context, slide, bundle)
        and all(
            steps.infer_batch(context, slide, bundle, n, batch_size)
            for n in range(steps.begin_inference(context, slide, batch_size))
        )
    )
    if completed:
        aggregation.aggregate_slide(context, slide, bundle, batch_size)
    row = slide_store.get(context.engine, slide)
    return row["state"], [reason["code"] for reason in row["reasons"]]


def test_the_steps_turn_a_slide_into_a_reading(context, settings, slide_file):
    slide = create_slide(context, slide_file)
    state, _ = run_all_steps(context, slide, load_test_bundle(settings))
    row, slide_dir = slide_store.get(context.engine, slide), context.slide_dir(slide)
    assert state in ("ready", "abstained")
    reading = json.loads((slide_dir / "reading.json").read_text())
    assert row["reading"] == reading
    assert reading["slide"]["mpp"] == [0.5, 0.5]
    assert reading["patient"]["reasons"][0]["code"] == "hpv_16"
    assert (reading["tiles"]["read"], row["done"]) == (row["total"], row["total"])
    heat, tiles = np.load(slide_dir / "heat.npz"), np.load(slide_dir / "tiles.npz")
    assert heat["probability"].shape == (reading["grid"]["rows"], reading["grid"]["columns"])
    fit = tiles["reasons"] == ""
    assert np.isfinite(heat["probability"]).sum() == fit.sum() > 50
    assert np.nansum(tiles["attention"]) == pytest.approx(1, abs=1e-4)
    assert not (slide_dir / "quarantine").exists()
    states = [event["state"] for event in slide_store.events_after(context.engine, slide) if event["kind"] == "state"]
    assert states[:6] == ["verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating"]


def test_a_copy_is_recorded_with_its_proof_and_no_name_of_a_file_stays(context, slide_file, tmp_path):
    named = tmp_path / "Zhang_Wei.tiff"
    named.write_bytes(slide_file.read_bytes())
    slide = create_slide(context, named)
    upload_store.create_upload(context.engine, "u" * 32, slide, 9, None, {"filename": named.name, "accession": "A"})
    assert steps.verify_file(context, slide)
    assert steps.deidentify_file(context, slide)
    proof = slide_store.find_proof(context.engine, slide)
    copy = context.deidentified_path(slide)
    assert {reader["name"] for reader in proof["readers"]} == {"OpenSlide", "tifffile", "Yuheng"}
    assert proof["tiles"] > 0 < proof["words"]
    assert proof["copy_sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert proof["original_sha256"] == hashlib.sha256(named.read_bytes()).hexdigest()
    assert (copy.name, slide_store.get(context.engine, slide)["name"]) == ("slide.tiff", "slide.tiff")
    assert upload_store.get_upload(context.engine, "u" * 32)["metadata"] == {}
    assert steps.deidentify_file(context, slide)  # repeated after a crash
    assert slide_store.find_proof(context.engine, slide) == proof


def test_a_copy_that_cannot_be_proved_is_removed_and_the_file_stays_in_quarantine(context, slide_file, monkeypatch):
    def clean(checked, folder, limits, key):
        path = container.clean(checked, folder, limits, key)
        with path.open("ab") as file:
            file.write(b"C26-00317")
        return path

    container = deidentify.CONTAINERS["generic-tiff"]
    monkeypatch.setitem(deidentify.CONTAINERS, "generic-tiff", dataclasses.replace(container, clean=clean))
    slide = create_slide(context, slide_file, accession="C26-00317")
    assert steps.verify_file(context, slide)
    assert not steps.deidentify_file(context, slide)
    row, slide_dir = slide_store.get(context.engine, slide), context.slide_dir(slide)
    assert (row["state"], row["code"]) == ("failed", "not_proved")
    assert "C26" not in row["reasons"][0]["en"]
    assert "字节处有原始文件中的词" in row["reasons"][0]["zh"]
    assert not (slide_dir / "slide").exists()
    assert (slide_dir / "quarantine" / row["name"]).read_bytes() == slide_file.read_bytes()
    assert slide_store.find_proof(context.engine, slide) is None


def test_repeating_every_step_gives_the_same_reading(context, settings, slide_file):
    bundle = load_test_bundle(settings)
    once, twice = (create_slide(context, slide_file) for _ in range(2))
    run_all_steps(context, once, bundle)
    for step in (steps.verify_file, steps.deidentify_file):
        assert step(context, twice)
        assert step(context, twice)
    assert steps.check_quality(context, twice, bundle)
    assert steps.check_quality(context, twice, bundle)
    for number in [0, *range(steps.begin_inference(context, twice, 64))]:
        assert steps.infer_batch(context, twice, bundle, number, 64)
    first = aggregation.aggregate_slide(context, twice, bundle, 64)
    assert aggregation.aggregate_slide(context, twice, bundle, 64) == first
    first_reading, second_reading = (slide_store.get(context.engine, slide)["reading"] for slide in (once, twice))
    assert comparable_fields(first_reading) == comparable_fields(second_reading)


def test_the_batch_size_does_not_change_the_reading(context, settings, slide_file):
    bundle = load_test_bundle(settings)
    probabilities = []
    for batch_size in (64, 48):
        slide = create_slide(context, slide_file)
        run_all_steps(context, slide, bundle, batch_size)
        probabilities.append(slide_store.get(context.engine, slide)["reading"]["probability"])
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-6)


@pytest.mark.parametrize(
    ("defect", "state", "code"),
    [
        ("all_background", "quality_failed", "all_background"),
        ("out_of_focus", "quality_failed", "out_of_focus"),
        ("pen_marks", "quality_failed", "pen_marks"),
        ("no_scale", "awaiting_scale", "no_scale"),
    ],
)
def test_a_slide_that_cannot_be_read_ends_with_its_reason(context, settings, tmp_path, defect, state, code):
    path = pyramid.write_tiff(
        tmp_path / "bad.tiff", simulate_slide(seed=6, label="NILM", columns=8, rows=6, defect=defect)
    )
    assert run_all_steps(context, create_slide(context, path), load_test_bundle(settings)) == (state, [code])


def test_a_scale_given_by_an_operator_is_used_and_named_as_such(context, settings, tmp_path):
    path = pyramid.write_tiff(
        tmp_path / "a.tiff", simulate_slide(seed=6, label="NILM", columns=6, rows=4, defect="no_scale")
    )
    slide = create_slide(context, path, mpp=0.5)
    run_all_steps(context, slide, load_test_bundle(settings))
    assert slide_store.get(context.engine, slide)["reading"]["slide"]["mpp_from"] == "operator"


@pytest.mark.parametrize("plane", [None, 1])
def test_a_stack_is_read_in_the_sharpest_planes_or_in_the_requested_one_and_says_so(context, settings, stack, plane):
    slide = create_slide(context, stack, request=FORM | ({} if plane is None else {"focal_plane": plane}))
    state, _ = run_all_steps(context, slide, load_test_bundle(settings))
    assert state in ("ready", "abstained")
    reading = slide_store.get(context.engine, slide)["reading"]
    facts = {name: reading["slide"][name] for name in ("planes", "plane_spacing", "plane")}
    assert facts == {"planes": 3, "plane_spacing": 1.0, "plane": plane}
    detail = slide_store.events_after(context.engine, slide)[-1]["detail"]
    assert detail["planes"].startswith("3 focal planes" if plane is None else "focal plane 1 of 3")
    if plane is not None:  # its right part is blurred there
        assert reading["tiles"]["unfit"].get("focus", 0) > 0


def test_a_plane_that_the_slide_does_not_have_is_refused(context, stack, slide_file):
    for path, planes in ((stack, 3), (slide_file, 1)):
        slide = create_slide(context, path, request=FORM | {"focal_plane": 4})
        assert not steps.verify_file(context, slide)
        row = slide_store.get(context.engine, slide)
        assert (row["state"], row["code"]) == ("failed", "no_such_plane")
        assert f"the slide has {planes}" in row["reasons"][0]["en"]


def test_a_slide_without_a_scale_is_read_once_a_person_has_entered_it(context, settings, tmp_path):
    path = pyramid.write_tiff(tmp_path / "a.tiff", simulate_slide(6, 0, columns=4, rows=3, defect="no_scale"))
    slide = create_slide(context, path)
    assert not steps.verify_file(context, slide)
    row = slide_store.get(context.engine, slide)
    assert (row["state"], row["code"], row["reasons"][0]["scales"]) == ("awaiting_scale", "no_scale", [])
    with write_transaction(context.engine) as connection:
        scale.confirm(connection, slide, 0.5, "clinic-7")
    assert run_all_steps(context, slide, load_test_bundle(settings))[0] in ("ready", "abstained")
    assert slide_store.get(context.engine, slide)["reading"]["slide"]["mpp"] == [0.5, 0.5]


def test_a_wrong_sha256_and_a_truncated_file_fail_the_slide(context, slide_file, tmp_path):
    assert not steps.verify_file(context, slide := create_slide(context, slide_file, sha256="0" * 64))
    assert slide_store.get(context.engine, slide)["code"] == "malformed"
    short = tmp_path / "short.tiff"
    short.write_bytes(slide_file.read_bytes()[:-100_000])
    assert not steps.verify_file(context, slide := create_slide(context, short))
    assert slide_store.get(context.engine, slide)["code"] == "truncated"


def test_a_slide_is_not_read_once_its_authorisation_is_revoked(context, settings, slide_file):
    grant_fields = {"kind": "personal", "grantor": "p", "tenant": "local", "subject": "p", "groups": ["slide"],
                    "valid_from": utc_now(), "valid_to": "2999", "document_sha256": "0" * 64,
                    "purpose": "pathology"}  # fmt: skip
    with context.engine.begin() as connection:
        active, revoked, wrong_purpose, wrong_kind = (
            grants.create(connection, grant_fields | changes, "t")["authorisation"]
            for changes in ({}, {}, {"purpose": "training"}, {"kind": "government", "subject": None})
        )
    bundle, states = load_test_bundle(settings), {}
    for grant in (active, revoked, wrong_purpose, wrong_kind):
        slide = create_slide(context, slide_file, request=FORM | {"authorisation": grant})
        assert steps.verify_file(context, slide)
        assert steps.deidentify_file(context, slide)
        assert steps.check_quality(context, slide, bundle)
        if grant == revoked:
            with context.engine.begin() as connection:
                grants.revoke(connection, revoked)
        batches = steps.begin_inference(context, slide, 64)
        if all(steps.infer_batch(context, slide, bundle, n, 64) for n in range(batches)):
            aggregation.aggregate_slide(context, slide, bundle, 64)
        row = slide_store.get(context.engine, slide)
        states[grant] = row["state"], [reason["code"] for reason in row["reasons"]], row["reading"] is None
    assert states[active][0] in ("ready", "abstained")
    assert states[revoked] == states[wrong_purpose] == states[wrong_kind] == ("failed", ["not_authorised"], True)


def test_a_slide_unlike_the_training_data_ends_in_abstention(context, settings, tmp_path, keys):
    publish(tmp_path / "strict", keys, familiar=-1.0)
    from models.bundle import load_bundle

    strict = load_bundle(tmp_path / "strict/pathology/1", keys[1], SlideCard)
    strict_settings = settings.model_copy(
        update={"paths": settings.paths.model_copy(update={"bundles": tmp_path / "strict"})}
    )
    runner = TileRunner(strict_settings)
    slide = create_slide(context, CMU)
    assert run_all_steps(dataclasses.replace(context, infer=runner.infer), slide, strict) == (
        "abstained",
        ["out_of_distribution"],
    )
    runner.close()


def test_a_slide_that_no_model_reads_fails_without_affecting_others(context, settings, slide_file):
    readable, unreadable = (
        create_slide(context, slide_file),
        create_slide(context, slide_file, specimen="breast_histology"),
    )
    workflow = SlideWorkflow(settings, context.infer)
    workflow.start()
    try:
        assert workflow.enqueue_new() == 2
        assert workflow.enqueue_new() == 0
        for slide in (readable, unreadable):
            workflow.wait_for_slide(slide, 60)
    finally:
        workflow.stop()
    assert slide_store.get(context.engine, readable)["state"] in ("ready", "abstained")
    assert slide_store.get(context.engine, unreadable)["code"] == "no_model"


def contradict(path, target):
    """The simulated slide of `path` with a description that states half the scale of its resolution tags."""
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["ImageDescription"]
    text = b'<OME><Image><Pixels SizeX="2048" SizeY="1536" PhysicalSizeX="0.25"/></Image></OME>'
    data = bytearray(path.read_bytes())
    data[tag.valueoffset : tag.valueoffset + tag.count] = text.ljust(tag.count, b"\0")
    target.write_bytes(data)
    return target


def test_a_slide_whose_file_contradicts_itself_waits_and_is_read_at_the_confirmed_scale(
    context, settings, slide_file, tmp_path
):
    slide = create_slide(context, contradict(slide_file, tmp_path / "slide.tiff"))
    sound = create_slide(context, slide_file)
    workflow = SlideWorkflow(settings, context.infer)
    workflow.start()
    try:
        assert workflow.enqueue_new() == 2
        for each in (slide, sound):
            workflow.wait_for_slide(each, 60)
        row = slide_store.get(context.engine, slide)
        assert (row["state"], row["code"]) == ("awaiting_scale", "scale_conflict")
        assert sorted(each["x"] for each in row["reasons"][0]["scales"]) == [0.25, 0.5]
        assert workflow.enqueue_new() == 0
        with write_transaction(context.engine) as connection:
            scale.confirm(connection, slide, 0.5, "clinic-7")
        assert workflow.enqueue_new() == 1
        workflow.wait_for_slide(slide, 60)
    finally:
        workflow.stop()
    row, sound_row = (slide_store.get(context.engine, each) for each in (slide, sound))
    assert row["state"] == sound_row["state"], row["reasons"]
    assert (row["reading"]["slide"]["mpp"], row["reading"]["slide"]["mpp_from"]) == ([0.5, 0.5], "operator")
    assert row["reading"]["probability"] == pytest.approx(sound_row["reading"]["probability"], abs=1e-6)


def test_the_workflow_stores_json_and_no_pickles(context, settings, slide_file):
    import sqlite3

    slide = create_slide(context, slide_file)
    workflow = SlideWorkflow(settings, context.infer)
    workflow.start()
    try:
        workflow.enqueue_new()
        workflow.wait_for_slide(slide, 60)
    finally:
        workflow.stop()
    with sqlite3.connect(settings.paths.jobs) as store:
        stored = store.execute("SELECT output, serialization FROM operation_outputs").fetchall()
    assert len(stored) > 5
    for output, serialization in stored:
        json.loads(output)
        assert serialization == "json"


VENDOR_FILES = ("simulated_hamamatsu.ndpi", "simulated_leica.scn", "simulated_ventana.bif", "simulated_philips.tiff")


@pytest.mark.parametrize("name", VENDOR_FILES)
def test_a_scanners_own_format_is_stripped_read_and_shown_like_svs(context, settings, name):
    source = VENDOR_SLIDES / name
    if not source.exists():
        pytest.skip("no folder of simulated vendor files")
    slide = create_slide(context, source)
    state, codes = run_all_steps(context, slide, load_test_bundle(settings))
    assert state in ("ready", "abstained"), codes
    copy = context.deidentified_path(slide)
    assert b"TEST-0001" not in copy.read_bytes()
    viewer = DeepZoom()
    try:
        overview = viewer.render_region(copy, None, None, (256, 256))
        for level in (0, 8, 10):
            assert viewer.render_tile(copy, None, level, 0, 0).startswith(b"\xff\xd8")
    finally:
        viewer.close()
    assert len(overview) > 1_000
