"""A county of households in villages. SIMULATED: nobody in it exists.

    python -m datasets.credit_limit.county.simulator --households 50000 --seed 7   # writes var/county_simulated.parquet

The causal story (an arrow is "drives"; what stands in brackets nobody observes):

    [reliability] -> default; days past due, gaps in contributions, tax arrears, penalties, abnormal list, utilisation
    [reliability] -> what neighbours see -> the four appraisal items;  [reliability] -> honest appraisal of oneself:
                     the less reliable inflate their own score more
    [village culture] -> reliability of its households
    [village leniency] -> appraisal items, nothing else;  relatives among the raters, and villages where raters collude,
                     add points and agree more than honest raters would
    village wealth -> income -> assets, debts, contributions
    burden (debt service / income), thin deposits, few insured months -> default
    [illness or crop failure], [village shock], [quarter] -> default
    age -> insured months;  poor health -> income;  sex, ethnicity, religion, health, age -> default: NO arrow.
    Ethnicity, religion and age differ between villages, and so does wealth: unequal outcomes without an unequal cause.

What is missing is missing mildly not at random: the poor declare income less often, the less reliable file no
self-assessment, small depositors show no deposits, the young have no appraisal; business fields need a business.

`village_leniency` is what a programme would estimate, not the truth: per town and quarter, the village's mean appraisal
in the quarter before, less what its repayment record explains (least squares over villages), shrunk by empirical Bayes.

Villages stand in towns of 64. A town has its own random stream, so memory is bounded by one town, not by the county.
"""

from __future__ import annotations

import os
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
from datasets.credit_limit.county.schema import SIMULATED_KEY, TABLE
from datasets.errors import DataError

VILLAGES_PER_TOWN = 64


def simulate_county(households: int, seed: int, params: CountyCausalParameters | None = None) -> pl.DataFrame:
    """The whole county in memory: one row a household, conforming to datasets.credit_limit.county.schema.TABLE."""
    return pl.concat(simulate_towns(households, seed, params))


def simulate_towns(households: int, seed: int, params: CountyCausalParameters | None = None) -> Iterator[pl.DataFrame]:
    """The county town by town, about 16,000 rows each; `county` is these, one below the other."""
    params = params or CountyCausalParameters()
    if households < 1:
        raise DataError(f"households is {households}; a county needs 1 or more.")
    if seed < 0:
        raise DataError(f"seed is {seed}; a whole number of 0 or more is needed.")
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
    columns |= {name: pl.Series(array.astype(np.float64)) for name, array in values.items()}
    for name, mask in observations.draw_missing_masks(rng, households).items():
        columns[name] = columns[name].set(pl.Series(mask), None)
    return pl.DataFrame({column.name: columns[column.name] for column in TABLE.columns})


def _outcome_columns(rng: np.random.Generator, households: Households) -> dict[str, np.ndarray]:
    """Three or more months in arrears is default; a few others are late once or twice."""
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
    """The county as Parquet whose metadata says that it is simulated, a few towns in memory at a time.

    Returns rows, villages and default_rate. The file appears under its name when it is whole.
    """
    from polars.io.plugins import register_io_source
    from rich.console import Console
    from rich.progress import Progress

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.partial")
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
        try:
            with partial_path.open("wb") as file:  # by its name, a thread of Polars may open it after the unlink
                rows.sink_parquet(file, metadata={SIMULATED_KEY: "true", "yuheng.seed": str(seed)})
            os.replace(partial_path, path)
        finally:
            partial_path.unlink(missing_ok=True)
    return {"rows": totals["rows"], "villages": totals["villages"], "default_rate": totals["defaults"] / totals["rows"]}


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m datasets.credit_limit.county.simulator", description="Write a SIMULATED county as Parquet."
    )
    parser.add_argument("--households", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("var/county_simulated.parquet"))
    args = parser.parse_args()
    try:
        summary = write(args.out, args.households, args.seed, progress=True)
    except DataError as error:
        raise SystemExit(str(error)) from error
    print(
        f"SIMULATED, nobody in it exists: {summary['rows']:,.0f} households in {summary['villages']:,.0f} villages, "
        f"default rate {summary['default_rate']:.3f}, seed {args.seed}: {args.out}"
    )


if __name__ == "__main__":
    main()
