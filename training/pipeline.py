"""The one road of every model: open the registry, let its trip make it, sign, record, and do as the gate says.

    var/bundles/<model>/<version>/   the signed bundle            var/reports/<model>/<version>/   card, plots, figures
    var/mlflow.db, var/mlartifacts   runs, data sets, registry    var/keys                         the signing key
    var/lineage                      the runs as OpenLineage events

What lies between, reading, fitting and judging, differs with what a model reads: tabular/pipeline.py for tables,
pathology/pipeline.py for slides. A run that fails leaves no bundle and no registered version, and is marked failed in
MLflow.
"""

from __future__ import annotations

import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from datasets.errors import DataError
from datasets.schema import nearest
from datasets.splits import Split, split_groups, split_rows, split_time
from models import bundle
from models.card import Data, Stamp
from models.evaluation_summary import Plots
from training.evaluation.metrics import Interval
from training.evaluation.promotion_gate import Verdict
from training.interfaces import Recipe, RoadConfig, Rows, TableConfig
from training.progress import Watch
from training.tracking.mlflow_registry import CHALLENGER, CHAMPION, Registry, Run, commit
from training.tracking.openlineage import Events

REPORT = "card.md"


class Judged(Protocol):
    """What was found of a model on rows that it never saw, whatever it reads."""

    @property
    def figures(self) -> dict[str, Interval]: ...
    def flat(self) -> dict[str, float]: ...
    def json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Finished:
    """What a trip brings back: what shall be signed, and what is recorded beside it.

    text: the model card in Markdown. parity: largest differences between the fitted model and its graph. fitted: what
    the fit settled on. plots: what the pictures are drawn from. more: further graphs of the bundle.
    """

    card: Stamp
    graph: bytes
    judgement: Judged
    verdict: Verdict
    text: str
    parity: dict[str, float]
    fitted: dict[str, Any]
    plots: Plots | None = None
    more: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A trained, judged, signed and recorded model, and whether it serves now."""

    model: str
    version: str  # of the bundle
    number: str  # in the registry
    run: str
    folder: Path  # the bundle
    report: Path  # the model card
    judgement: Judged
    verdict: Verdict
    seconds: dict[str, float]

    @property
    def alias(self) -> str:
        return CHAMPION if self.verdict.passed else CHALLENGER


@dataclass
class Trip(ABC):
    """One model on the road. A kind of model says how it is made, the road what becomes of it."""

    CARD: ClassVar[type[Stamp]]

    recipe: Any
    config: Any
    policy: bytes
    var: Path
    watch: Watch
    registry: Registry
    run: Run
    version: str
    private: Path
    public: Path
    number: str = ""
    data: tuple[Data, ...] = ()  # what it is made from, once that is read
    digest: str = ""  # of the bundle, once it is signed

    @abstractmethod
    def make(self) -> Finished:
        """Read, fit, export, prove, judge, ask the gate, and draw into `plots`."""

    @property
    def bundles(self) -> Path:
        return self.var / "bundles" / str(self.config.name)

    @property
    def report(self) -> Path:
        return self.var / "reports" / str(self.config.name) / self.version

    @property
    def plots(self) -> Path:
        return self.report / "plots"

    def stamp(self) -> dict[str, Any]:
        """What every card tells of where it comes from, but for its data."""
        return {
            "product": self.recipe.PRODUCT,
            "model": self.config.name,
            "version": self.version,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "purpose": self.config.purpose,
            "not_for": self.config.not_for,
            "purpose_zh": self.config.purpose_zh,
            "not_for_zh": self.config.not_for_zh,
            "seed": self.config.seed,
            "git_commit": commit(),
            "run_id": self.run.id,
        }

    def go(self) -> Made:
        made = self.make()
        told = {"verdict": made.verdict.told(), "plots": made.plots}
        found = replace(made, card=made.card.model_copy(update=told))
        self.data = found.card.data
        self._write_report(found)
        with self.watch.step("sign"):
            folder = bundle.write(
                self.bundles / self.version,
                graph=found.graph,
                card=found.card,
                policy=self.policy,
                private_key=self.private,
                more=found.more,
            )
            self.digest = bundle.load(folder, self.public, self.CARD).digest  # as serving will
        with self.watch.step("record"):
            self._record(found)
        if found.verdict.passed:
            promote(self.registry, self.var, self.config.name, self.number, self.version)
        else:
            self.registry.alias(self.config.name, CHALLENGER, self.number)
            bundle.point(self.bundles, CHALLENGER, self.version)
        return Made(
            model=self.config.name,
            version=self.version,
            number=self.number,
            run=self.run.id,
            folder=folder,
            report=self.report / REPORT,
            judgement=found.judgement,
            verdict=found.verdict,
            seconds=dict(self.watch.seconds),
        )

    def _write_report(self, found: Finished) -> None:
        """`card.md` and `judgement.json`, beside the `plots/` that the trip drew."""
        self.report.mkdir(parents=True, exist_ok=True)
        (self.report / REPORT).write_text(found.text, encoding="utf-8")
        (self.report / "judgement.json").write_text(json.dumps(found.card.metrics, indent=1), encoding="utf-8")

    def _record(self, found: Finished) -> None:
        card, judgement, verdict = found.card, found.judgement, found.verdict
        self.run.inputs(card.data)
        self.run.params(self.config.model_dump(mode="json") | {"fitted": found.fitted})
        self.run.metrics(judgement.flat() | {f"parity/{name}": value for name, value in found.parity.items()})
        self.run.metrics({f"seconds/{name}": value for name, value in self.watch.seconds.items()})
        self.run.files(self.report, "report")
        self.run.files(self.bundles / self.version, "bundle")
        told = {
            "auc": str(judgement.figures["auc"]),
            "gate": "passed" if verdict.passed else " | ".join(verdict.why),
            "simulated": str(card.simulated).lower(),
            "product": self.recipe.PRODUCT,
        }
        self.run.tags({"bundle": self.version, "data_sha256": card.data[0].sha256, **told})
        self.number = self.registry.register(self.config.name, self.run, self.version, told)

    def take_back(self) -> None:
        """Undo what a run has left so far, except the run itself, which tells of it."""
        if bundle.pointed(self.bundles, CHAMPION) != self.version:
            shutil.rmtree(self.bundles / self.version, ignore_errors=True)
            shutil.rmtree(self.report, ignore_errors=True)
            if self.number:
                self.registry.forget(self.config.name, self.number)


def train(recipe: Recipe, config: RoadConfig, var: Path, watch: Watch) -> Made:
    """All of it, in an MLflow run."""
    policy = config.policy.read_bytes()
    with watch.step("open the registry"):
        registry = Registry(var)
        private, public = bundle.make_keys(var / "keys")
    run = registry.start(config.name, config.name, {"product": recipe.PRODUCT, "git_commit": commit()})
    version = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{run.id[:6]}"
    trip = recipe.TRIP(recipe, config, policy, var, watch, registry, run, version, private, public)
    events = Events(var, watch, run.id, config.name, recipe.PRODUCT)
    try:
        events.began()
        made: Made = trip.go()
    except BaseException as error:  # Ctrl-C too: whatever stops a run, nothing of it may stay
        trip.take_back()
        run.end(failed=f"{type(error).__name__}: {error}")
        events.failed(trip.data, f"{type(error).__name__}: {error}")
        raise
    run.end()
    events.done(trip.data, made.folder, trip.digest)
    return made


def promote(registry: Registry, var: Path, model: str, number: str, version: str) -> None:
    """Make a version the champion: the registry's alias, then the pointer that serving reads; both, or neither."""
    known = {alias: one.number for one in registry.versions(model) for alias in one.aliases}
    registry.alias(model, CHAMPION, number)
    try:
        bundle.point(var / "bundles" / model, CHAMPION, version)
    except BaseException:
        if CHAMPION in known:
            registry.alias(model, CHAMPION, known[CHAMPION])
        else:
            registry.unalias(model, CHAMPION)
        raise
    if known.get(CHALLENGER) == number:
        registry.unalias(model, CHALLENGER)
        (var / "bundles" / model / CHALLENGER).unlink(missing_ok=True)


def split_as_told(config: TableConfig, rows: Rows) -> Split:
    """The config's split of the rows. No part is set aside for calibration: out-of-fold scores serve for that."""
    told = config.split
    shares = (1 - told.test, 0.0, told.test)
    if told.how == "rows":
        return split_rows(rows.y, config.seed, shares)
    column = told.by(rows.table)
    if column is None or column not in rows.frame.columns:
        raise DataError(
            f"split.column is {told.column!r}; a split by {told.how} needs a column of {rows.table.name}"
            f"{nearest(told.column or '', rows.frame.columns)}."
        )
    values = rows.frame[column].to_numpy()
    return (
        split_groups(values, config.seed, shares, rows.y) if told.how == "group" else split_time(values, shares, rows.y)
    )
