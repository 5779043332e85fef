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
from datasets.credit_limit.county.causal_model import Households, Story, Villages, households, villages
from datasets.credit_limit.county.schema import SIMULATED_KEY, TABLE
from datasets.errors import DataError

VILLAGES_PER_TOWN = 64


def county(households: int, seed: int, story: Story | None = None) -> pl.DataFrame:
    """The whole county in memory: one row a household, conforming to datasets.credit_limit.county.schema.TABLE."""
    return pl.concat(towns(households, seed, story))


def towns(households: int, seed: int, story: Story | None = None) -> Iterator[pl.DataFrame]:
    """The county town by town, about 16,000 rows each; `county` is these, one below the other."""
    story = story or Story()
    if households < 1:
        raise DataError(f"households is {households}; a county needs 1 or more.")
    if seed < 0:
        raise DataError(f"seed is {seed}; a whole number of 0 or more is needed.")
    number = min(households, max(10, round(households / story.households_per_village)))
    sizes = np.full(number, households // number)
    sizes[: households % number] += 1
    for town, first in enumerate(range(0, number, VILLAGES_PER_TOWN)):
        rng = np.random.default_rng([seed, town])
        yield _town(rng, story, sizes[first : first + VILLAGES_PER_TOWN], first, int(sizes[:first].sum()))


def _town(
    rng: np.random.Generator, story: Story, sizes: np.ndarray, first_village: int, first_household: int
) -> pl.DataFrame:
    town = villages(rng, story, sizes)
    people = households(rng, story, town)
    values = observations.registers(rng, story, town, people)
    values |= observations.appraisals(rng, story, town, people, late=values["days_past_due"] > 0)
    values |= _outcome(rng, people) | _truth(town, people) | {"age": people.age}
    named = dict(observations.texts(rng, story, people, first_village, first_household))
    named["tax_grade"] = observations.levels("tax_grade", observations.grades(rng, people, values["licence_age"]))
    named |= {name: pl.Series(array.astype(np.float64)) for name, array in values.items()}
    for name, where in observations.absences(rng, people).items():
        named[name] = named[name].set(pl.Series(where), None)
    return pl.DataFrame({column.name: named[column.name] for column in TABLE.columns})


def _outcome(rng: np.random.Generator, people: Households) -> dict[str, np.ndarray]:
    """Three or more months in arrears is default; a few others are late once or twice."""
    n = len(people.default)
    slips = (rng.random(n) < 0.06) * rng.integers(1, 3, n)
    return {
        "default_12m": people.default,
        "months_in_arrears_after": np.where(people.default, rng.integers(3, 13, n), slips),
    }


def _truth(town: Villages, people: Households) -> dict[str, np.ndarray]:
    return {
        "true_reliability": people.reliability,
        "true_pd": people.true_pd,
        "true_leniency": town.leniency[people.village],
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
    partial = path.with_name(f".{path.name}.partial")
    seen = {"rows": 0, "villages": 0, "defaults": 0.0}
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("simulated households", total=households)

        def source(*_: object) -> Iterator[pl.DataFrame]:
            for frame in towns(households, seed):
                seen["rows"] += frame.height
                seen["villages"] += frame["village_id"].n_unique()
                seen["defaults"] += float(frame["default_12m"].sum())
                bar.update(task, completed=seen["rows"])
                yield frame

        rows = register_io_source(source, schema=next(towns(1, seed)).schema)
        try:
            with partial.open("wb") as file:  # by its name, a thread of Polars may open it after the unlink
                rows.sink_parquet(file, metadata={SIMULATED_KEY: "true", "yuheng.seed": str(seed)})
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return {"rows": seen["rows"], "villages": seen["villages"], "default_rate": seen["defaults"] / seen["rows"]}


def main() -> None:
    import argparse

    words = argparse.ArgumentParser(
        prog="python -m datasets.credit_limit.county.simulator", description="Write a SIMULATED county as Parquet."
    )
    words.add_argument("--households", type=int, default=50_000)
    words.add_argument("--seed", type=int, default=7)
    words.add_argument("--out", type=Path, default=Path("var/county_simulated.parquet"))
    asked = words.parse_args()
    try:
        done = write(asked.out, asked.households, asked.seed, progress=True)
    except DataError as error:
        raise SystemExit(str(error)) from error
    print(
        f"SIMULATED, nobody in it exists: {done['rows']:,.0f} households in {done['villages']:,.0f} villages, "
        f"default rate {done['default_rate']:.3f}, seed {asked.seed}: {asked.out}"
    )


if __name__ == "__main__":
    main()
