"""Train a model of any kind: open the registry, run the product's steps, sign and record the result, and promote it.

    var/bundles/<model>/<version>/   the signed bundle            var/reports/<model>/<version>/   card, plots, metrics
    var/mlflow.db, var/mlartifacts   runs, data sets, registry    var/keys                         the signing key
    var/lineage                      the runs as OpenLineage events

The steps in between depend on what the model reads: tabular/pipeline.py for tables, pathology/pipeline.py for slides. A
run that fails leaves no bundle and no registered version, and is marked as failed in MLflow.
"""

from __future__ import annotations

import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from models import bundle
from models.bundle import Bundle, BundleError
from models.card import BaseCard, DatasetInfo
from models.evaluation_summary import PlotData
from models.metrics import Interval
from training.config import TrainingConfig
from training.evaluation.promotion_gate import ChampionComparison, GateVerdict
from training.progress import ProgressReporter
from training.tracking.mlflow_registry import CHALLENGER, CHAMPION, MlflowRun, Registry, git_commit
from training.tracking.openlineage import LineageEmitter

CARD_FILE = "card.md"


class Evaluation(Protocol):
    """What the evaluation of a model on held-out rows offers, whatever the model reads."""

    @property
    def metrics(self) -> dict[str, Interval]: ...
    def to_metrics(self) -> dict[str, float]: ...
    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PipelineResult:
    """What the steps of a pipeline produce: what is signed, and what is recorded with it.

    card_text: the model card in Markdown. parity: largest differences between the fitted model and its graph.
    fit_summary: parameters that the fit settled on. plots: the data of the plots. extra_graphs: further graphs of the
    bundle.
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
    """A trained, evaluated, signed and recorded model, and whether it became the champion."""

    model: str
    version: str  # of the bundle
    registry_version: str
    run_id: str
    bundle_dir: Path
    card_path: Path
    evaluation: Evaluation
    verdict: GateVerdict
    step_seconds: dict[str, float]

    @property
    def alias(self) -> str:
        """The alias that the gate's verdict gives it."""
        return CHAMPION if self.verdict.passed else CHALLENGER


@dataclass
class TrainingPipeline(ABC):
    """One training run. A subclass makes the model; this class signs, records and promotes it."""

    CARD_TYPE: ClassVar[type[BaseCard]]

    recipe: Any  # a TabularRecipe, or the module training.pathology.recipe
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
    data: tuple[DatasetInfo, ...] = ()  # the training data, once the steps have run
    bundle_digest: str = ""  # once the bundle is signed

    @abstractmethod
    def run_steps(self) -> PipelineResult:
        """Read, fit, export, verify, evaluate, ask the gate, and draw the plots."""

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
        """The fields of a card that every product fills alike, except those about its data."""
        return {
            "product": self.config.product,
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

    def log_data(self, data: Iterable[DatasetInfo], remarks: Iterable[str]) -> None:
        """Log which data are simulated, and what the reader remarked on them."""
        for source in data:
            if source.simulated:
                self.reporter.log(f"  {source.name}: SIMULATED data 模拟数据", style="bold yellow")
        for remark in remarks:
            self.reporter.log(f"  {remark}", style="yellow")

    def compare_champion(self, compare: Callable[[Bundle[Any]], ChampionComparison]) -> ChampionComparison | None:
        """Compare the new model with the champion, by `compare`; None for the first model of its name."""
        version = bundle.read_alias(self.bundles_dir, CHAMPION)
        if not version:
            others = sorted(path.parent.name for path in self.bundles_dir.glob(f"*/{bundle.CARD}"))
            if not others:
                return None
            reason = f"its pointer is missing, though there are earlier versions: {', '.join(others[-3:])}"
            return ChampionComparison("(none)", failure=reason)
        with self.reporter.step("evaluate the champion on the same rows"):
            try:
                champion = bundle.load_bundle(self.bundles_dir / version, self.public_key, self.CARD_TYPE)
            except BundleError as error:
                return ChampionComparison(version, failure=str(error))
            return compare(champion)

    def run(self) -> TrainedModel:
        """Run the steps, then sign, record and promote the model as the gate's verdict says."""
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
            self.bundle_digest = bundle.load_bundle(
                folder, self.public_key, self.CARD_TYPE
            ).digest  # verified as by serving
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
        """Write `card.md`, `judgement.json` and `config.json` next to `plots/`, which the steps have drawn."""
        self.report_dir.mkdir(parents=True, exist_ok=True)
        config = json.dumps(self.config.model_dump(mode="json"), ensure_ascii=False, indent=1)
        (self.report_dir / "config.json").write_text(config, encoding="utf-8")
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
            "product": self.config.product,
        }
        self.mlflow_run.set_tags({"bundle": self.version, "data_sha256": card.data[0].sha256, **tags})
        self.registry_version = self.registry.register(self.config.name, self.mlflow_run, self.version, tags)

    def rollback(self) -> None:
        """Remove what a failed run has left so far; the MLflow run stays as the record of the failure."""
        if bundle.read_alias(self.bundles_dir, CHAMPION) != self.version:
            shutil.rmtree(self.bundles_dir / self.version, ignore_errors=True)
            shutil.rmtree(self.report_dir, ignore_errors=True)
            if self.registry_version:
                self.registry.delete_version(self.config.name, self.registry_version)


def train(
    recipe: Any, pipeline_type: type[TrainingPipeline], config: TrainingConfig, var: Path, reporter: ProgressReporter
) -> TrainedModel:
    """Train a model in an MLflow run of its own. Whatever stops the run is raised again once it is rolled back."""
    policy = config.policy.read_bytes()
    with reporter.step("open the registry"):
        registry = Registry(var)
        private_key, public_key = bundle.create_signing_keys(var / "keys")
    run = registry.start(config.name, config.name, {"product": config.product, "git_commit": git_commit()})
    version = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{run.id[:6]}"
    pipeline = pipeline_type(recipe, config, policy, var, reporter, registry, run, version, private_key, public_key)
    emitter = LineageEmitter(var, reporter, run.id, config.name, config.product)
    try:
        emitter.started()
        trained = pipeline.run()
    except BaseException as error:  # including Ctrl-C: whatever stops a run, nothing of it may stay
        pipeline.rollback()
        run.finish(error=f"{type(error).__name__}: {error}")
        emitter.failed(pipeline.data, f"{type(error).__name__}: {error}")
        raise
    run.finish()
    emitter.completed(pipeline.data, trained.bundle_dir, pipeline.bundle_digest)
    return trained


def promote(registry: Registry, var: Path, model: str, registry_version: str, version: str) -> None:
    """Make a version the champion: set the registry's alias and the pointer that serving reads, both or neither.

    registry_version: its number in the registry; version: the name of its bundle.
    """
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
