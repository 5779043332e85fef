"""Join requests to what was known at their time: for each group, the latest values that were true and loaded by then.

matches = as_of_join(requests, observations)      # pairs of row numbers; nothing later than a request is matched
"""

from __future__ import annotations

import polars as pl

# An observation is visible once it is true and loaded. Of the visible ones the latest true one counts, and among equals
# the one loaded last. This changes only when another becomes visible, so a running maximum and one as-of join find it.
QUERY = """
WITH visible AS (
    SELECT n, subject, "group", true_at || loaded AS age,
           greatest(CAST(true_at AS TIMESTAMP), CAST(rtrim(loaded, 'Z') AS TIMESTAMP)) AS since
    FROM observations
), latest AS (
    SELECT DISTINCT subject, "group", since,
           arg_max(n, age) OVER (PARTITION BY subject, "group" ORDER BY since) AS n
    FROM visible
), requested AS (
    SELECT requests.row, requests.subject, groups."group", CAST(rtrim(requests.at, 'Z') AS TIMESTAMP) AS at
    FROM requests CROSS JOIN (SELECT DISTINCT "group" FROM observations) AS groups
)
SELECT requested.row AS row, latest.n AS n
FROM requested ASOF JOIN latest
ON requested.subject = latest.subject AND requested."group" = latest."group" AND requested.at >= latest.since
ORDER BY row, n
"""


def as_of_join(requests: pl.DataFrame, observations: pl.DataFrame) -> pl.DataFrame:
    """Pairs (row, n) of row numbers of requests and observations, at most one observation per request and group.

    requests: subject, at (UTC, ISO 8601). observations: subject, group, true_at (a day), loaded (UTC). All as text.
    """
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    try:
        connection.register("requests", requests.select("subject", "at").with_row_index("row").to_arrow())
        connection.register(
            "observations", observations.select("subject", "group", "true_at", "loaded").with_row_index("n").to_arrow()
        )
        matches: pl.DataFrame = connection.sql(QUERY).pl()
    finally:
        connection.close()
    return matches.cast({"row": pl.UInt32, "n": pl.UInt32})
