"""Simulate a county of households in villages. SIMULATED: nobody in it exists.

    python -m datasets simulate county --households 50000 --seed 7   # writes var/county_simulated.parquet

The causal model (an arrow reads "drives"; quantities in brackets are never observed):

    [reliability] -> default; days past due, gaps in contributions, tax arrears, penalties, abnormal list, utilisation
    [reliability] -> what neighbours see -> the four appraisal items;  [reliability] -> honesty of the self-assessment:
                     less reliable households inflate their own score more
    [village culture] -> reliability of its households
    [village leniency] -> appraisal items, nothing else;  relatives among the raters, and villages where raters collude,
                     add points and agree more than honest raters would
    village wealth -> income -> assets, debts, contributions
    burden (debt service / income), low deposits, few insured months -> default
    [illness or crop failure], [village shock], [quarter] -> default
    age -> insured months;  poor health -> income;  sex, ethnicity, religion, health, age -> default: NO arrow.
    Ethnicity, religion and age differ between villages, and so does wealth: outcomes differ between these groups
    although none of them is a cause.

Values are missing mildly not at random: poorer households declare income less often, less reliable ones file no
self-assessment, small depositors show no deposits, the young have no appraisal; business fields need a business.

`village_leniency` is what a programme would estimate, not the true value: per town and quarter, the village's mean
appraisal in the quarter before, less the part explained by its repayment record (least squares over villages), shrunk
by empirical Bayes.

Villages belong to towns of 64. Each town has its own random stream, so memory is bounded by one town.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from datasets.credit_limit.county import observations
from datasets.credit_limit.county.causal_model import (
    CountyCausalParameters,
    Households,
    Villages,
    draw_households,
    draw_villages,
)
from datasets.credit_limit.county.schema import TABLE
from datasets.errors import DataError
from datasets.simulation import SIMULATED_KEY, complete_file

VILLAGES_PER_TOWN = 64


def simulate_county(households: int, seed: int, params: CountyCausalParameters | None = None) -> pl.DataFrame:
    """Simulate a whole county in memory: one row per household, with the columns of schema.TABLE."""
    return pl.concat(simulate_towns(households, seed, params))


def simulate_towns(households: int, seed: int, params: CountyCausalParameters | None = None) -> Iterator[pl.DataFrame]:
    """Simulate the county town by town, about 16,000 rows each; `simulate_county` concatenates them.

    Raises DataError for fewer than 1 household or a negative seed.
    """
    params = params or CountyCausalParameters()
    if households < 1:
        raise DataError(f"households is {households}; it must be 1 or more.")
    if seed < 0:
        raise DataError(f"seed is {seed}; it must be 0 or more.")
    village_count = min(households, max(10, round(households / params.households_per_village)))
    sizes = np.full(village_count, households // village_count)
    sizes[: households % village_count] += 1
    for town, first_village in enumerate(range(0, village_count, VILLAGES_PER_TOWN)):
        rng = np.random.default_rng([seed, town])
        yield _simulate_town(
            rng,
            params,
            sizes[first_village : first_village + VILLAGES_PER_TOWN],
            first_village,
            int(sizes[:first_village].sum()),
        )


def _simulate_town(
    rng: np.random.Generator,
    params: CountyCausalParameters,
    sizes: np.ndarray,
    first_village: int,
    first_household: int,
) -> pl.DataFrame:
    villages = draw_villages(rng, params, sizes)
    households = draw_households(rng, params, villages)
    values = observations.observe_registers(rng, params, villages, households)
    values |= observations.observe_appraisals(rng, params, villages, households, is_late=values["days_past_due"] > 0)
    values |= _outcome_columns(rng, households) | _true_columns(villages, households) | {"age": households.age}
    columns = dict(observations.text_columns(rng, params, households, first_village, first_household))
    columns["tax_grade"] = observations.level_series(
        "tax_grade", observations.draw_tax_grades(rng, households, values["licence_age"])
    )
    masks = observations.draw_missing_masks(rng, households)
    columns["veto_codes"] = observations.draw_veto_codes(rng, households)
    values |= observations.observe_public_records(rng, households, values)
    columns |= {name: pl.Series(array.astype(np.float64)) for name, array in values.items()}
    for name, mask in masks.items():
        columns[name] = columns[name].set(pl.Series(mask), None)
    return pl.DataFrame({column.name: columns[column.name] for column in TABLE.columns})


def _outcome_columns(rng: np.random.Generator, households: Households) -> dict[str, np.ndarray]:
    """Three or more months in arrears count as default; a few other households are one or two months late."""
    n = len(households.default)
    brief_arrears = (rng.random(n) < 0.06) * rng.integers(1, 3, n)
    return {
        "default_12m": households.default,
        "months_in_arrears_after": np.where(households.default, rng.integers(3, 13, n), brief_arrears),
    }


def _true_columns(villages: Villages, households: Households) -> dict[str, np.ndarray]:
    return {
        "true_reliability": households.reliability,
        "true_pd": households.true_pd,
        "true_leniency": villages.leniency[households.village],
    }


def write(path: Path | str, households: int, seed: int, progress: bool = False) -> dict[str, float]:
    """Write a county as Parquet whose metadata say that it is simulated, with a few towns in memory at a time.

    Returns rows, villages and default_rate. The file appears under its name once it is complete.
    """
    from polars.io.plugins import register_io_source
    from rich.console import Console
    from rich.progress import Progress

    totals = {"rows": 0, "villages": 0, "defaults": 0.0}
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as progress_bar:
        task = progress_bar.add_task("simulated households", total=households)

        def source(*_: object) -> Iterator[pl.DataFrame]:
            for frame in simulate_towns(households, seed):
                totals["rows"] += frame.height
                totals["villages"] += frame["village_id"].n_unique()
                totals["defaults"] += float(frame["default_12m"].sum())
                progress_bar.update(task, completed=totals["rows"])
                yield frame

        rows = register_io_source(source, schema=next(simulate_towns(1, seed)).schema)
        # An open file, not its name: a thread of Polars may open a name after the file was removed.
        with complete_file(Path(path)) as partial_path, partial_path.open("wb") as file:
            rows.sink_parquet(file, metadata={SIMULATED_KEY: "true", "yuheng.seed": str(seed)})
    return {"rows": totals["rows"], "villages": totals["villages"], "default_rate": totals["defaults"] / totals["rows"]}
