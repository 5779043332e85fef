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

from datasets.errors import DataError, did_you_mean
from datasets.splits import Split, split_groups, split_rows, split_time
from models import bundle
from models.card import BaseCard, DatasetInfo
from models.evaluation_summary import PlotData
from training.evaluation.metrics import Interval
from training.evaluation.promotion_gate import GateVerdict
from training.interfaces import Dataset, Recipe, TableConfig, TrainingConfig
from training.progress import ProgressReporter
from training.tracking.mlflow_registry import CHALLENGER, CHAMPION, MlflowRun, Registry, git_commit
from training.tracking.openlineage import LineageEmitter

CARD_FILE = "card.md"


class Evaluation(Protocol):
    """What was found of a model on rows that it never saw, whatever it reads."""

    @property
    def metrics(self) -> dict[str, Interval]: ...
    def to_metrics(self) -> dict[str, float]: ...
    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PipelineResult:
    """What a trip brings back: what shall be signed, and what is recorded beside it.

    text: the model card in Markdown. parity: largest differences between the fitted model and its graph. fitted: what
    the fit settled on. plots: what the pictures are drawn from. more: further graphs of the bundle.
    """

    card: BaseCard
    graph: bytes
    evaluation: Evaluation
    verdict: GateVerdict
    card_text: str
    parity: dict[str, float]
    fit_summary: dict[str, Any]
    plots: PlotData | None = None
    extra_graphs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedModel:
    """A trained, judged, signed and recorded model, and whether it serves now."""

    model: str
    version: str  # of the bundle
    registry_version: str  # in the registry
    run_id: str
    bundle_dir: Path  # the bundle
    card_path: Path  # the model card
    evaluation: Evaluation
    verdict: GateVerdict
    step_seconds: dict[str, float]

    @property
    def alias(self) -> str:
        return CHAMPION if self.verdict.passed else CHALLENGER


@dataclass
class TrainingPipeline(ABC):
    """One model on the road. A kind of model says how it is made, the road what becomes of it."""

    CARD_TYPE: ClassVar[type[BaseCard]]

    recipe: Any
    config: Any
    policy: bytes
    var: Path
    reporter: ProgressReporter
    registry: Registry
    mlflow_run: MlflowRun
    version: str
    private_key: Path
    public_key: Path
    registry_version: str = ""
    data: tuple[DatasetInfo, ...] = ()  # what it is made from, once that is read
    bundle_digest: str = ""  # of the bundle, once it is signed

    @abstractmethod
    def run_steps(self) -> PipelineResult:
        """Read, fit, export, prove, judge, ask the gate, and draw into `plots`."""

    @property
    def bundles_dir(self) -> Path:
        return self.var / "bundles" / str(self.config.name)

    @property
    def report_dir(self) -> Path:
        return self.var / "reports" / str(self.config.name) / self.version

    @property
    def plots_dir(self) -> Path:
        return self.report_dir / "plots"

    def card_fields(self) -> dict[str, Any]:
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
            "git_commit": git_commit(),
            "run_id": self.mlflow_run.id,
        }

    def run(self) -> TrainedModel:
        steps_result = self.run_steps()
        card_updates = {"verdict": steps_result.verdict.to_card(), "plots": steps_result.plots}
        result = replace(steps_result, card=steps_result.card.model_copy(update=card_updates))
        self.data = result.card.data
        self._write_report(result)
        with self.reporter.step("sign"):
            folder = bundle.write_bundle(
                self.bundles_dir / self.version,
                graph=result.graph,
                card=result.card,
                policy=self.policy,
                private_key=self.private_key,
                extra_graphs=result.extra_graphs,
            )
            self.bundle_digest = bundle.load_bundle(folder, self.public_key, self.CARD_TYPE).digest  # as serving will
        with self.reporter.step("record"):
            self._record(result)
        if result.verdict.passed:
            promote(self.registry, self.var, self.config.name, self.registry_version, self.version)
        else:
            self.registry.set_alias(self.config.name, CHALLENGER, self.registry_version)
            bundle.set_alias(self.bundles_dir, CHALLENGER, self.version)
        return TrainedModel(
            model=self.config.name,
            version=self.version,
            registry_version=self.registry_version,
            run_id=self.mlflow_run.id,
            bundle_dir=folder,
            card_path=self.report_dir / CARD_FILE,
            evaluation=result.evaluation,
            verdict=result.verdict,
            step_seconds=dict(self.reporter.step_seconds),
        )

    def _write_report(self, result: PipelineResult) -> None:
        """`card.md` and `judgement.json`, beside the `plots/` that the trip drew."""
        self.report_dir.mkdir(parents=True, exist_ok=True)
        (self.report_dir / CARD_FILE).write_text(result.card_text, encoding="utf-8")
        (self.report_dir / "judgement.json").write_text(json.dumps(result.card.metrics, indent=1), encoding="utf-8")

    def _record(self, result: PipelineResult) -> None:
        card, evaluation, verdict = result.card, result.evaluation, result.verdict
        self.mlflow_run.log_inputs(card.data)
        self.mlflow_run.log_params(self.config.model_dump(mode="json") | {"fitted": result.fit_summary})
        self.mlflow_run.log_metrics(
            evaluation.to_metrics() | {f"parity/{name}": value for name, value in result.parity.items()}
        )
        self.mlflow_run.log_metrics({f"seconds/{name}": value for name, value in self.reporter.step_seconds.items()})
        self.mlflow_run.log_files(self.report_dir, "report")
        self.mlflow_run.log_files(self.bundles_dir / self.version, "bundle")
        tags = {
            "auc": str(evaluation.metrics["auc"]),
            "gate": "passed" if verdict.passed else " | ".join(verdict.failures),
            "simulated": str(card.simulated).lower(),
            "product": self.recipe.PRODUCT,
        }
        self.mlflow_run.set_tags({"bundle": self.version, "data_sha256": card.data[0].sha256, **tags})
        self.registry_version = self.registry.register(self.config.name, self.mlflow_run, self.version, tags)

    def rollback(self) -> None:
        """Undo what a run has left so far, except the run itself, which tells of it."""
        if bundle.read_alias(self.bundles_dir, CHAMPION) != self.version:
            shutil.rmtree(self.bundles_dir / self.version, ignore_errors=True)
            shutil.rmtree(self.report_dir, ignore_errors=True)
            if self.registry_version:
                self.registry.delete_version(self.config.name, self.registry_version)


def train(recipe: Recipe, config: TrainingConfig, var: Path, reporter: ProgressReporter) -> TrainedModel:
    """All of it, in an MLflow run."""
    policy = config.policy.read_bytes()
    with reporter.step("open the registry"):
        registry = Registry(var)
        private_key, public_key = bundle.create_signing_keys(var / "keys")
    run = registry.start(config.name, config.name, {"product": recipe.PRODUCT, "git_commit": git_commit()})
    version = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{run.id[:6]}"
    pipeline = recipe.PIPELINE(recipe, config, policy, var, reporter, registry, run, version, private_key, public_key)
    emitter = LineageEmitter(var, reporter, run.id, config.name, recipe.PRODUCT)
    try:
        emitter.started()
        trained: TrainedModel = pipeline.run()
    except BaseException as error:  # Ctrl-C too: whatever stops a run, nothing of it may stay
        pipeline.rollback()
        run.finish(error=f"{type(error).__name__}: {error}")
        emitter.failed(pipeline.data, f"{type(error).__name__}: {error}")
        raise
    run.finish()
    emitter.completed(pipeline.data, trained.bundle_dir, pipeline.bundle_digest)
    return trained


def promote(registry: Registry, var: Path, model: str, registry_version: str, version: str) -> None:
    """Make a version the champion: the registry's alias, then the pointer that serving reads; both, or neither."""
    number_by_alias = {
        alias: registered.number for registered in registry.list_versions(model) for alias in registered.aliases
    }
    registry.set_alias(model, CHAMPION, registry_version)
    try:
        bundle.set_alias(var / "bundles" / model, CHAMPION, version)
    except BaseException:
        if CHAMPION in number_by_alias:
            registry.set_alias(model, CHAMPION, number_by_alias[CHAMPION])
        else:
            registry.delete_alias(model, CHAMPION)
        raise
    if number_by_alias.get(CHALLENGER) == registry_version:
        registry.delete_alias(model, CHALLENGER)
        (var / "bundles" / model / CHALLENGER).unlink(missing_ok=True)


def make_split(config: TableConfig, dataset: Dataset) -> Split:
    """The config's split of the rows. No part is set aside for calibration: out-of-fold scores serve for that."""
    split_config = config.split
    shares = (1 - split_config.test, 0.0, split_config.test)
    if split_config.how == "rows":
        return split_rows(dataset.y, config.seed, shares)
    column = split_config.split_column(dataset.table)
    if column is None or column not in dataset.frame.columns:
        raise DataError(
            f"split.column is {split_config.column!r}; a split by {split_config.how} needs a column of {dataset.table.name}"
            f"{did_you_mean(split_config.column or '', dataset.frame.columns)}."
        )
    values = dataset.frame[column].to_numpy()
    return (
        split_groups(values, config.seed, shares, dataset.y)
        if split_config.how == "group"
        else split_time(values, shares, dataset.y)
    )
