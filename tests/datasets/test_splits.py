"""Splits: reproducible, without overlap, and whole where a group or a moment must stay whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import DataError
from datasets.splits import split_groups, split_rows, split_time

SHARES = st.sampled_from([(0.75, 0.0, 0.25), (0.6, 0.15, 0.25), (0.5, 0.25, 0.25), (0.34, 0.33, 0.33)])


def subsets(split):
    return (split.train, split.calibrate, split.test)


def each_row_once(split, rows):
    assert np.array_equal(np.sort(np.concatenate(subsets(split))), np.arange(rows))
    assert all((np.diff(subset) > 0).all() for subset in subsets(split))


@given(bad=st.integers(10, 60), good=st.integers(10, 200), seed=st.integers(0, 99), shares=SHARES)
def test_rows_are_split_once_each_and_stratified(bad, good, seed, shares):
    y = np.random.default_rng(seed).permutation(np.repeat([1, 0], [bad, good]))
    split = split_rows(y, seed, shares)
    each_row_once(split, len(y))
    for subset, share in zip(subsets(split), shares, strict=True):
        assert abs(y[subset].sum() - share * bad) <= 1
        assert abs(len(subset) - share * len(y)) <= 2


@given(groups=st.lists(st.integers(0, 30), min_size=60, max_size=200), seed=st.integers(0, 99))
def test_a_group_never_straddles(groups, seed):
    groups = np.array([*groups, *range(31)])
    split = split_groups([f"V{g}" for g in groups], seed)
    each_row_once(split, len(groups))
    assert not set(groups[split.train]) & set(groups[split.test])


def test_groups_come_near_the_shares_asked_for():
    groups = np.repeat(np.arange(500), np.random.default_rng(0).integers(1, 40, 500))
    split = split_groups(groups, 3, (0.6, 0.15, 0.25))
    for subset, share in zip(subsets(split), (0.6, 0.15, 0.25), strict=True):
        assert len(subset) / len(groups) == pytest.approx(share, abs=0.02)


@given(times=st.lists(st.integers(0, 11), min_size=30, max_size=120), shares=SHARES)
def test_time_runs_from_training_to_test_and_a_moment_stays_whole(times, shares):
    times = np.array([*times, *range(12)])
    split = split_time([f"20{10 + t}-03-31" for t in times], shares)
    each_row_once(split, len(times))
    used = [times[subset] for subset in subsets(split) if len(subset)]
    assert len(used) == sum(share > 0 for share in shares)
    assert all(before.max() < after.min() for before, after in zip(used, used[1:], strict=False))


def test_time_says_where_each_part_begins():
    split = split_time(["2023-03-31"] * 6 + ["2023-06-30"] * 2 + ["2023-09-30"] * 2, (0.6, 0.2, 0.2))
    assert split.method == "time: train from 2023-03-31, calibrate from 2023-06-30, test from 2023-09-30"


def test_the_same_seed_gives_the_same_split_and_digest():
    y = np.tile([0, 0, 1], 100)
    assert split_rows(y, 7).sha256 == split_rows(y, 7).sha256
    assert split_rows(y, 7).sha256 != split_rows(y, 8).sha256
    assert split_groups(y.cumsum(), 7).sha256 != split_groups(y.cumsum(), 8).sha256
    assert "seed 7" in split_rows(y, 7).method


def test_a_row_moved_from_one_part_to_another_changes_the_digest():
    from datasets.splits import Split

    rows = np.arange(10)
    moved = Split(rows[:5], rows[5:6], rows[6:], "x").sha256
    assert Split(rows[:5], rows[5:7], rows[7:], "x").sha256 != moved


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda: split_rows([0, 1] * 9, 1, (0.5, 0.2, 0.2)), "add up to 1"),
        (lambda: split_rows([0, 1] * 9, 1, (1.0, 0.0, 0.0)), "add up to 1"),
        (lambda: split_rows([0, 0, 0, 1], 1), "same outcome; both outcomes must occur"),
        (lambda: split_rows([0] * 50, 1), "same outcome"),
        (lambda: split_rows([], 1), "would be empty"),
        (lambda: split_groups(["a"] * 9, 1), "there are 1 groups; 2 parts need at least as many"),
        (lambda: split_groups(["a"] * 90 + ["b"], 3), "would be empty .* Give it a larger share, or use another seed"),
        (lambda: split_groups(["a", None, "b"], 1), "1 of 3 rows have no group"),
        (lambda: split_time([1.0, float("nan"), 2.0]), "1 of 3 rows have no time"),
        (lambda: split_time([1, 1, 1]), "there are 1 times"),
        (lambda: split_time([1, 1, 2, 2], y=[0, 1, 1, 1]), "test have the same outcome"),
    ],
)
def test_an_impossible_ask_is_refused_in_a_sentence(ask, reason):
    with pytest.raises(DataError, match=reason):
        ask()
