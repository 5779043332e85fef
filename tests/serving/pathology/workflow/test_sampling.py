"""Not all tiles are read where some say enough; what was not read is stood for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.pathology.slides import store as slide_store
from serving.pathology.workflow.sampling import plan, weights
from tests.serving.pathology.slide_bundles import POLICY, publish
from tests.serving.pathology.workflow.test_steps import all_the_way, arrived, bundle_of

SHARES = (0.15, 0.33, 0.66)


@given(st.integers(1, 400), st.integers(0, 100), st.integers(0, 2**32 - 1))
def test_every_tile_comes_once_the_darkest_early_and_the_others_are_stood_for(n, least, seed):
    rng = np.random.default_rng(seed)
    dark = rng.random(n)
    cells = np.stack([np.arange(n) % 20, np.arange(n) // 20], 1)
    stages = plan(dark, cells, SHARES, least)
    assert sorted(stages.order.tolist()) == list(range(n))
    assert stages.ends[-1] == n
    assert (np.diff(stages.ends) > 0).all()
    for stage, (end, top) in enumerate(zip(stages.ends, stages.tops, strict=True)):
        assert end >= min(n, least)
        assert set(np.argsort(-dark)[:top]) <= set(stages.order[:end].tolist())
        whole = weights(stages.rank, stages.ends, stages.tops, stage).sum()
        others = (stages.rank[:end] >= top).any()
        assert whole == pytest.approx(n if others or top == n else top)
    assert (weights(stages.rank, stages.ends, stages.tops, -1) == 1).all()


def test_what_stands_for_the_others_lies_all_over_the_slide():
    n = 4_000
    stages = plan(np.zeros(n), np.stack([np.arange(n) % 50, np.arange(n) // 50], 1), SHARES, 0)
    sample = stages.order[: stages.ends[0]][stages.rank[: stages.ends[0]] >= stages.tops[0]]
    counts = np.histogram(sample, bins=10, range=(int(stages.tops[0]), n))[0]
    assert counts.min() > 0.8 * counts.max()


def coarse(settings, keys, tmp_path, unsure):  # noqa: F811
    policy = POLICY.read_text().replace("coarse = false", "coarse = true").replace("min_tiles = 30", "least_tiles = 5")
    publish(tmp_path / "coarse", keys, policy=policy.replace("unsure = 0.08", f"unsure = {unsure}"))
    paths = settings.paths.model_copy(update={"bundles": tmp_path / "coarse"})
    return settings.model_copy(update={"paths": paths})


def test_a_slide_whose_answer_stands_is_read_in_part_and_one_in_doubt_as_a_whole(
    desk,  # noqa: F811
    settings,  # noqa: F811
    keys,
    tmp_path,
    tiff,  # noqa: F811
):
    from serving.pathology.workflow.runner import TileRunner
    from serving.pathology.workflow.workflow import SlideWorkflow

    whole = arrived(desk, tiff)
    all_the_way(desk, whole, bundle_of(settings))
    full = slide_store.get(desk.engine, whole)["reading"]
    for unsure, all_of_it in ((0.0, False), (1.0, True)):
        home = tmp_path / str(all_of_it)
        told = coarse(settings, keys, home, unsure)
        runner = TileRunner(told)
        jobs = SlideWorkflow(told, runner.infer)
        jobs.start()
        slide = arrived(desk, tiff)
        try:
            jobs.enqueue_new()
            jobs.wait_for_slide(slide, 60)
        finally:
            jobs.stop()
            runner.close()
        row = slide_store.get(desk.engine, slide)
        reading = row["reading"]
        assert reading["tiles"]["grid"] == full["tiles"]["grid"]
        assert (reading["tiles"]["read"] == full["tiles"]["grid"]) == all_of_it
        assert row["done"] == row["total"] == reading["tiles"]["read"]
        if all_of_it:
            assert reading["probability"] == pytest.approx(full["probability"], abs=1e-5)
        heat = np.load(desk.of(slide) / "heat.npz")["probability"]
        assert np.isfinite(heat).sum() <= reading["tiles"]["read"]
