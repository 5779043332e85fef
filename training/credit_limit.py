"""A calibrated probability of default for a credit limit: read a table, fit small monotone trees, predict.

    python -m training credit_limit                                              # the simulated county
    python -m training credit_limit --config configs/credit_limit_taiwan.toml    # a real table
    python -m training credit_limit --config my_bank.toml --data loans.csv       # your own

The PD never reads the moral groups (they act through the limit's uplift), nor any audit column.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from datasets import sources
from datasets.faults import DataError
from datasets.split import Split
from datasets.table import Column, Table, nearest
from models.card import Card, Data
from models.credit_limit.decision import Decider
from models.credit_limit.limit import MORAL_GROUPS
from models.credit_limit.policy import Policy
from models.estimator import BaggedTrees, EstimatorConfig
from models.forest import merge
from models.graph import Scores
from models.inputs import encode, learn_levels
from training import own_table, settings
from training.own_table import OwnData
from training.profit import Terms
from training.progress import Watch
from training.recipe import Answers, Fit, RoadConfig, Rows
from training.settings import Settings
from training.tune import TuneConfig, tune

PRODUCT = "credit_limit"
CONFIG = Path("configs/credit_limit.toml")


class KnownData(Settings):
    """One of the tables in datasets/credit_limit. The county is simulated on the spot where no file is named."""

    source: str
    file: Path | None = None
    households: int = Field(default=25_000, ge=100)  # of a simulated county

    @model_validator(mode="after")
    def _exists(self) -> KnownData:
        known = list(sources.names(PRODUCT))
        if self.source not in known:
            raise ValueError(f"{self.source!r} is not one of {', '.join(known)}{nearest(self.source, known)}")
        return self


class Config(RoadConfig):
    """[data] names a table of the project, [table] describes one of your own; one of the two."""

    purpose: str = "A calibrated probability of default, and the limit that the policy makes of it."
    not_for: str = "Refusing anyone without a person; people unlike those of the table that it learned from."
    policy: Path = Path("configs/policies/credit_limit.toml")
    data: KnownData | None = None
    table: OwnData | None = None
    leave_out: tuple[str, ...] = ()  # indicators that the PD shall not read
    estimator: EstimatorConfig = EstimatorConfig()
    tune: TuneConfig = TuneConfig()

    @model_validator(mode="after")
    def _names_one_table(self) -> Config:
        if (self.data is None) == (self.table is None):
            raise ValueError("exactly one of [data] (a table of the project) and [table] (your own) is needed")
        return self


def load(path: Path, data: Path | None = None) -> Config:
    """The config in a file, named like it unless it says otherwise; `data` replaces the table's file."""
    config = settings.load(path, Config, name=re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_"))
    if data is None:
        return config
    if config.data:
        return config.model_copy(update={"data": config.data.model_copy(update={"file": data})})
    assert config.table is not None
    return config.model_copy(update={"table": config.table.model_copy(update={"file": data})})


def read(config: Config) -> Rows:
    remarks: list[str] = []
    if config.table:
        table, frame, remarks = own_table.read(config.table)
        name = config.table.file.name
    else:
        assert config.data is not None
        module = sources.source(config.data.source, PRODUCT)
        table, name = module.TABLE, config.data.source
        if name == "county" and config.data.file is None:
            frame = module.sample(config.data.households, config.seed)
            name = f"county of {frame.height:,} simulated households, seed {config.seed}"
        else:
            frame = module.read(config.data.file)
        frame = frame.filter(pl.col(table.target.name).is_not_null())
    if table.role("weight"):
        remarks.append("Rows are weighted in the fit; every figure counts them alike.")
    unknown = [left for left in config.leave_out if left not in frame.columns]
    if unknown:
        raise DataError(f"leave_out names {', '.join(unknown)}; {table.name} has no such column.")
    data = Data(
        name=name,
        rows=frame.height,
        sha256=hashlib.sha256(frame.write_csv().encode()).hexdigest(),
        source=table.origin.source,
        licence=table.origin.licence,
        simulated=table.origin.simulated,
    )
    return Rows(table, frame, data, tuple(remarks))


def inputs(config: Config, table: Table, moral: bool = False) -> tuple[Column, ...]:
    """What the PD may read: indicators that are no text, of no moral group unless `moral`, and not left out.

    Those that are made from others stand last, and go where one of their parts goes.
    """
    read = [
        column
        for column in table.indicators
        if column.kind != "text" and column.name not in config.leave_out and (moral or column.group not in MORAL_GROUPS)
    ]
    plain = [column for column in read if column.derived is None]
    names = {column.name for column in plain}
    made = []
    for column in read:
        if column.derived is not None and names.issuperset(column.derived.parts):
            made.append(column)
            names.add(column.name)
    return (*plain, *made)


def train(config: Config, rows: Rows, split: Split, watch: Watch) -> Fit:
    columns = learn_levels(rows.frame[split.train], inputs(config, rows.table), rows.table.target.name)
    x, y = encode(rows.frame, columns), rows.y  # (rows, inputs) float32; (rows,)
    estimator = config.estimator.model_copy(update={"seed": config.seed})
    if config.tune.trials:
        with watch.step("tune") as tick:
            estimator = tune(
                estimator,
                x[split.train],
                y[split.train],
                trials=config.tune.trials,
                seed=config.seed,
                tick=tick,
                **_beside(config, rows, split, columns),
            )
    with watch.step("fit") as tick:
        try:
            model = BaggedTrees(estimator).fit(
                x[split.train], y[split.train], progress=tick, **_beside(config, rows, split, columns)
            )
        except ValueError as error:  # too few rows, or indicators that tell nothing: the table's owner can act on it
            raise DataError(f"{rows.table.name}: {error}") from error
    read = {column.name for column in columns}
    also = [column for column in rows.table.indicators if column.name not in read]
    also += [column for column in rows.table.role("audit") if column.name == "age"]  # legal capacity, nothing else
    params = estimator.model_dump() | {"trees_per_booster": model.trees_, "boosters": len(model.boosters_)}
    return Fit(columns, x, merge(model.boosters_), model.slope_, model.intercept_, params, tuple(also))


def variants(config: Config, rows: Rows, split: Split, watch: Watch) -> dict[str, np.ndarray]:
    """Held-out PDs of the same estimator with the moral groups, to say what they would add; never kept."""
    every = inputs(config, rows.table, moral=True)
    if not config.judge.moral_data or len(every) == len(inputs(config, rows.table)):
        return {}
    columns = learn_levels(rows.frame[split.train], every, rows.table.target.name)
    x = encode(rows.frame, columns)
    with watch.step("beside: with moral data") as tick:
        model = BaggedTrees(config.estimator.model_copy(update={"seed": config.seed})).fit(
            x[split.train], rows.y[split.train], progress=tick, **_beside(config, rows, split, columns)
        )
    return {"with_moral_data": model.predict_pd(x[split.test])}


def _beside(config: Config, rows: Rows, split: Split, columns: tuple[Column, ...]) -> dict[str, Any]:
    """What a fit is told beside x and y: directions, weights, and groups that stay together."""
    weight = rows.table.role("weight")
    grouped = config.split.group(rows.table)
    return {
        "directions": [column.direction for column in columns],
        "weight": rows.frame[weight[0].name].to_numpy()[split.train] if weight else None,
        "groups": rows.frame[grouped].to_numpy()[split.train] if grouped else None,
    }


def decide(card: Card, policy: bytes, frame: pl.DataFrame, scores: Scores) -> Answers:
    """What the policy would answer to rows with these scores. An indicative limit counts as one here."""
    told = Decider(card, Policy.load(policy)).many(frame, scores)
    why = told["referral"].str.split(";").explode().drop_nulls().value_counts(sort=True).rows()
    return Answers(
        approved=(told["decision"] == "approve").to_numpy(),
        limit=told["indicative_limit"].cast(pl.Float64).to_numpy(),
        referred={code: rows for code, rows in why if code},
    )


def terms(policy: bytes) -> Terms:
    """A loan's economics, as the policy has them."""
    found = Policy.load(policy)
    return Terms(
        currency=found.currency,
        margin=found.product.annual_rate - found.product.funding_rate,
        lgd=found.risk.lgd,
        ccf=found.risk.ccf,
        line=found.approval_pd,
    )


def verify(policy: bytes, columns: tuple[Column, ...]) -> list[str]:
    """The guard rails that do not hold for this policy and these inputs; a sentence each."""
    from models.credit_limit.check import check, overlap

    counted = overlap(columns)
    faults = [f"inputs that count in the uplift too: {', '.join(counted)}"] if counted else []
    return faults + [str(verdict) for verdict in check(Policy.load(policy)) if not verdict.proved]
