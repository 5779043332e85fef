"""What every recipe over a table shares: which table, which of its columns, and small monotone trees fitted to them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from datasets import catalog, manifest
from datasets.errors import DataError
from datasets.schema import Column, Table, nearest
from datasets.splits import Split
from models.card import Data
from models.feature_encoder import encode, learn_levels
from models.trees.estimator import BaggedTrees, EstimatorConfig
from models.trees.forest import merge
from training import config as settings
from training.config import Settings
from training.interfaces import Fit, Rows, TableConfig
from training.progress import Watch
from training.tabular import user_table
from training.tabular.tuning import TuneConfig, tune
from training.tabular.user_table import OwnData


class KnownData(Settings):
    """One of the project's tables. One that is simulated is made on the spot where no file is named."""

    source: str
    file: Path | None = None
    rows: int = Field(default=25_000, ge=100)  # of a table that is made on the spot


class TabularConfig(TableConfig):
    """[data] names a table of the project, [table] describes one of your own; one of the two."""

    product: ClassVar[str]
    data: KnownData | None = None
    table: OwnData | None = None
    leave_out: tuple[str, ...] = ()  # indicators that the PD shall not read
    half_life: float | None = Field(default=None, gt=0)  # in the split's time: a training row so much older counts half
    estimator: EstimatorConfig = EstimatorConfig()
    tune: TuneConfig = TuneConfig()

    @model_validator(mode="after")
    def _names_one_table(self) -> TabularConfig:
        if (self.data is None) == (self.table is None):
            raise ValueError("exactly one of [data] (a table of the project) and [table] (your own) is needed")
        return self

    @field_validator("data")
    @classmethod
    def _is_of_the_project(cls, data: KnownData | None) -> KnownData | None:
        known = list(catalog.names(cls.product))
        if data is not None and data.source not in known:
            raise ValueError(f"{data.source!r} is not one of {', '.join(known)}{nearest(data.source, known)}")
        return data


C = TypeVar("C", bound=TabularConfig)


def load(path: Path, kind: type[C], data: Path | None = None) -> C:
    """The config in a file, named like it unless it says otherwise; `data` replaces the table's file."""
    config = settings.load(path, kind, name=re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_"))
    if data is None:
        return config
    if config.data:
        return config.model_copy(update={"data": config.data.model_copy(update={"file": data})})
    assert config.table is not None
    return config.model_copy(update={"table": config.table.model_copy(update={"file": data})})


def read(config: TabularConfig) -> Rows:
    """Rows with a known outcome."""
    remarks: list[str] = []
    if config.table:
        table, frame, remarks = user_table.read(config.table)
        name = config.table.file.name
    else:
        assert config.data is not None
        module = catalog.source(config.data.source, config.product)
        table, name = module.TABLE, config.data.source
        on_the_spot = config.data.file is None and not table.origin.sha256  # its contract describes no one file
        found = module.sample(config.data.rows, config.seed) if on_the_spot else module.read(config.data.file)
        if isinstance(found, pl.DataFrame):
            frame = found
        else:  # a register, which brings more than its table
            frame, remarks = found.frame, [remark.en for remark in found.remarks]
            table = table.model_copy(update={"origin": table.origin.model_copy(update={"simulated": found.simulated})})
        if on_the_spot:
            name = f"{name} of {frame.height:,} simulated rows, seed {config.seed}"
        frame = frame.filter(pl.col(table.target.name).is_not_null())
    if table.role("weight") or config.half_life:
        remarks.append("Rows are weighted in the fit; every figure counts them alike.")
    unknown = [left for left in config.leave_out if left not in frame.columns]
    if unknown:
        raise DataError(f"leave_out names {', '.join(unknown)}; {table.name} has no such column.")
    file = config.table.file if config.table else config.data.file if config.data else None
    taken = None if file is None else manifest.read(file)  # where the rows left a store
    data = Data(
        name=name,
        rows=frame.height,
        # of a file out of a store its own digest, by which an erasure finds the models made of it
        sha256=taken.sha256 if taken else hashlib.sha256(frame.write_csv().encode()).hexdigest(),
        source=table.origin.source,
        licence=table.origin.licence,
        simulated=table.origin.simulated or bool(taken and taken.simulated),
        authorisations=taken.authorisations if taken else (),
    )
    return Rows(table, frame, data, tuple(remarks))


def inputs(config: TabularConfig, table: Table, unread: Callable[[Column], bool]) -> tuple[Column, ...]:
    """What the PD may read: indicators that are no text, not left out, and not `unread` by the product's rules.

    Those that are made from others stand last, and go where one of their parts goes.
    """
    read = [
        column
        for column in table.indicators
        if column.kind != "text" and column.name not in config.leave_out and not unread(column)
    ]
    plain = [column for column in read if column.derived is None]
    names = {column.name for column in plain}
    made = []
    for column in read:
        if column.derived is not None and names.issuperset(column.derived.parts):
            made.append(column)
            names.add(column.name)
    return (*plain, *made)


def train(
    config: TabularConfig, rows: Rows, split: Split, columns: tuple[Column, ...], watch: Watch, also: Collection[str]
) -> Fit:
    """Fit on the training rows; `also`: audit columns that the decision reads, beside every indicator not fitted."""
    columns = learn_levels(rows.frame[split.train], columns, rows.table.target.name)
    x, y = encode(rows.frame, columns), rows.y  # (rows, inputs) float32; (rows,)
    estimator = config.estimator.model_copy(update={"seed": config.seed})
    beside = _beside(config, rows, split, columns)
    if config.tune.trials:
        with watch.step("tune") as tick:
            estimator = tune(
                estimator,
                x[split.train],
                y[split.train],
                trials=config.tune.trials,
                seed=config.seed,
                tick=tick,
                **beside,
            )
    with watch.step("fit") as tick:
        try:
            model = BaggedTrees(estimator).fit(x[split.train], y[split.train], progress=tick, **beside)
        except ValueError as error:  # too few rows, or indicators that tell nothing: the table's owner can act on it
            raise DataError(f"{rows.table.name}: {error}") from error
    read = {column.name for column in columns}
    unfitted = [column for column in rows.table.indicators if column.name not in read]
    unfitted += [column for column in rows.table.role("audit") if column.name in also]
    params = estimator.model_dump() | {"trees_per_booster": model.trees_, "boosters": len(model.boosters_)}
    return Fit(columns, x, merge(model.boosters_), model.slope_, model.intercept_, params, tuple(unfitted))


def variant(
    config: TabularConfig, rows: Rows, split: Split, columns: tuple[Column, ...], watch: Watch, step: str
) -> np.ndarray:
    """Held-out PDs (rows,) of the same estimator on other columns; for the judge, never kept."""
    columns = learn_levels(rows.frame[split.train], columns, rows.table.target.name)
    x = encode(rows.frame, columns)
    with watch.step(step) as tick:
        model = BaggedTrees(config.estimator.model_copy(update={"seed": config.seed})).fit(
            x[split.train], rows.y[split.train], progress=tick, **_beside(config, rows, split, columns)
        )
    return model.predict_pd(x[split.test])


def _beside(config: TabularConfig, rows: Rows, split: Split, columns: Sequence[Column]) -> dict[str, Any]:
    """What a fit is told beside x and y: directions, weights, and groups that stay together."""
    grouped = config.split.group(rows.table)
    return {
        "directions": [column.direction for column in columns],
        "weight": _weight(config, rows, split),
        "groups": rows.frame[grouped].to_numpy()[split.train] if grouped else None,
    }


def _weight(config: TabularConfig, rows: Rows, split: Split) -> np.ndarray | None:
    """(training rows,) the table's own weight, and less for what is old where the config has a half-life."""
    own = rows.table.role("weight")
    weight = rows.frame[own[0].name].to_numpy()[split.train] if own else None
    if config.half_life is None:
        return weight
    column = config.split.by(rows.table) if config.split.how == "time" else None
    if column is None or not rows.frame[column].dtype.is_numeric():
        raise DataError("half_life needs a split by time whose column is a number, as a year is.")
    time = rows.frame[column].to_numpy()[split.train]
    aged: np.ndarray = 0.5 ** ((time.max() - time) / config.half_life)
    return aged if weight is None else aged * weight
