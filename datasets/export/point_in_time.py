"""What was known of a subject at a time: for each row asked for, each group's newest values that were true and loaded
by then. Nothing from a later day reaches an earlier row.

chosen = choose(asked, known)      # the rows of `known` to take, by the rows of `asked`
"""

from __future__ import annotations

import polars as pl

# A value is visible once it is true and loaded. Of what is visible the one true latest counts, of those the one loaded
# last; that can only change when another becomes visible, so a running maximum and one as-of join find it.
QUERY = """
WITH visible AS (
    SELECT n, subject, "group", true_at || loaded AS age,
           greatest(CAST(true_at AS TIMESTAMP), CAST(rtrim(loaded, 'Z') AS TIMESTAMP)) AS since
    FROM known
), best AS (
    SELECT DISTINCT subject, "group", since,
           arg_max(n, age) OVER (PARTITION BY subject, "group" ORDER BY since) AS n
    FROM visible
), wanted AS (
    SELECT asked.row, asked.subject, groups."group", CAST(rtrim(asked.at, 'Z') AS TIMESTAMP) AS at
    FROM asked CROSS JOIN (SELECT DISTINCT "group" FROM known) AS groups
)
SELECT wanted.row AS row, best.n AS n
FROM wanted ASOF JOIN best
ON wanted.subject = best.subject AND wanted."group" = best."group" AND wanted.at >= best.since
ORDER BY row, n
"""


def as_of_join(requests: pl.DataFrame, observations: pl.DataFrame) -> pl.DataFrame:
    """row, n: which rows of `known` say what was known of which rows of `asked`, at most one a group.

    asked: subject, at (UTC, ISO 8601). known: subject, group, true_at (a day), loaded (UTC). Both as text.
    """
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    try:
        connection.register("asked", requests.select("subject", "at").with_row_index("row").to_arrow())
        connection.register(
            "known", observations.select("subject", "group", "true_at", "loaded").with_row_index("n").to_arrow()
        )
        matches: pl.DataFrame = connection.sql(QUERY).pl()
    finally:
        connection.close()
    return matches.cast({"row": pl.UInt32, "n": pl.UInt32})
