"""What was known at a time is what was true and loaded by then, and nothing later."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.export.point_in_time import as_of_join

DAYS = [f"2026-01-{day:02d}" for day in range(1, 7)]
TIMES = [f"{day}T{hour}:00:00.000Z" for day in DAYS for hour in ("06", "18")]
KNOWN = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["tax", "assets"]), st.sampled_from(DAYS), st.sampled_from(TIMES)
)
QUERIES = st.tuples(st.sampled_from("abc"), st.sampled_from(TIMES))


@settings(max_examples=150)
@given(known=st.lists(KNOWN, max_size=12, unique=True), queries=st.lists(QUERIES, max_size=5))
def test_each_group_gives_the_newest_that_was_true_and_loaded_by_then(known, queries):
    schema = dict.fromkeys(("subject", "group", "true_at", "loaded"), pl.String)
    result = as_of_join(
        pl.DataFrame(queries, schema={"subject": pl.String, "at": pl.String}, orient="row"),
        pl.DataFrame(known, schema=schema, orient="row"),
    )
    expected = []
    for row, (subject, timestamp) in enumerate(queries):
        for group in ("tax", "assets"):
            seen = [
                (true_at, loaded, n)
                for n, (whose, which, true_at, loaded) in enumerate(known)
                if (whose, which) == (subject, group) and true_at <= timestamp[:10] and loaded <= timestamp
            ]
            expected += [(row, max(seen)[2])] if seen else []
    assert sorted(result.iter_rows()) == sorted(expected)
