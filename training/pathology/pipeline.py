"""Train a slide model: learn, export, calibrate on other slides, evaluate on the rest."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.bundle import INT8_GRAPH, SLIDE_GRAPH
from models.pathology.card import SlideCard
from models.pathology.neural.export import TOLERANCE
from models.pathology.onnx_sessions import SlideGraph
from models.pathology.policy import ReadingPolicy
from training import pipeline
from training.evaluation import promotion_gate
from training.evaluation.gate_floors import load_gate_floors, tighten
from training.evaluation.metrics import BootstrapSamples
from training.evaluation.promotion_gate import ChampionComparison
from training.pathology.config import Config
from training.pathology.data import TrainingData
from training.pathology.evaluation import evaluate, holdout, shortcut_detector
from training.pathology.evaluation.evaluate import HoldoutPredictions, SlideEvaluationReport
from training.pathology.fit_stages import FittedStages, StageFitter
from training.pathology.reporting import model_card
from training.pathology.reporting.plot_data import build_plots
from training.pathology.reporting.plots import SlidePlotInputs, draw_plots
from training.pathology.train_network import TrainedNetwork
from training.tracking.mlflow_registry import git_commit


@dataclass
class PathologyPipeline(pipeline.TrainingPipeline):
    """The training run of a model that reads slides, or single cells where the data have no scale."""

    CARD_TYPE = SlideCard

    config: Config

    def run_steps(self) -> pipeline.PipelineResult:
        policy = ReadingPolicy.load(self.policy)
        data = self._load_data()
        trained = self.recipe.train_tile_network(self.config, data.learn, self.checkpoints_dir, self.reporter)
        stages = StageFitter(self.recipe, self.config, self.card_fields(), policy, self.reporter).fit(data, trained)
        plot_inputs, evaluation = self._evaluate(data, trained, stages, policy)
        parity_check = promotion_gate.check_parity(stages.parity, dict.fromkeys(stages.parity, TOLERANCE))
        comparison = self._compare_champion(data, plot_inputs.main)
        floors = load_gate_floors()
        thresholds = tighten(self.config.gate, floors.slides)
        allowances = {"first_model": floors.first_model, "without_evidence": floors.without_evidence}
        verdict = evaluate.decide(evaluation, thresholds, parity_check, comparison, **allowances)
        card = stages.card.model_copy(update={"metrics": evaluation.to_json() | {"parity": stages.parity}})
        plot_paths: list[Path] = []
        if self.config.judge.plots:
            with self.reporter.step("draw plots") as progress:
                plot_paths = draw_plots(self.plots_dir, plot_inputs, progress)
        shutil.rmtree(self.checkpoints_dir, ignore_errors=True)  # only an interrupted run is resumed
        extra_graphs = {
            SLIDE_GRAPH: stages.slide_graph,
            INT8_GRAPH: stages.int8_graph if evaluation.offers_int8 else None,
        }
        return pipeline.PipelineResult(
            card=card,
            graph=stages.graph,
            evaluation=evaluation,
            verdict=verdict,
            card_text=model_card.render(card, evaluation, verdict, plot_paths, data.show_images),
            parity=stages.parity,
            plots=build_plots(plot_inputs),
            fit_summary={"epochs": len(trained.history), "best": trained.best_epoch + 1, "device": trained.device},
            extra_graphs={name: graph for name, graph in extra_graphs.items() if graph is not None},
        )

    @cached_property
    def checkpoints_dir(self) -> Path:
        """One folder for each config and commit: a resumed run must be the one that was interrupted."""
        fingerprint = json.dumps([self.config.model_dump(mode="json"), git_commit()], sort_keys=True)
        return self.var / "checkpoints" / self.config.name / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]

    def _load_data(self) -> TrainingData:
        with self.reporter.step("read"):
            training_data: TrainingData = self.recipe.read(self.config)
        self.log_data(training_data.data, training_data.remarks)
        return training_data

    def _evaluate(
        self, data: TrainingData, trained: TrainedNetwork, stages: FittedStages, policy: ReadingPolicy
    ) -> tuple[SlidePlotInputs, SlideEvaluationReport]:
        """Evaluate the exported graphs on rows that nothing was fitted to."""
        card, config, test_tiles = stages.card, self.config.judge, stages.tiles_by_subset["test"]
        tile_predictions = holdout.predict_tiles(card, test_tiles, "tiles" if data.slides else "cells")
        main: HoldoutPredictions = tile_predictions
        attention: list[NDArray[np.float32]] = []
        if stages.slide_graph is not None:
            with self.reporter.step("evaluate: read slides as the service does"):
                graph = SlideGraph(stages.slide_graph, config.threads)
                main, attention = holdout.predict_slides(card, graph, policy, stages.slides_by_subset["test"])
        shortcut = self._detect_shortcut(data) if config.shortcut else None
        with self.reporter.step("evaluate: metrics"):
            main_metrics = evaluate.compute_metrics(main, self._bootstrap_samples(main))
            tile_metrics = (
                evaluate.compute_metrics(tile_predictions, self._bootstrap_samples(tile_predictions))
                if data.slides
                else None
            )
        evaluation = SlideEvaluationReport(
            main=main_metrics,
            tiles=tile_metrics,
            claim=main.operating_point.claim(),
            claim_zh=main.operating_point.claim_zh(),
            claimable=main.operating_point.claimable,
            ood_threshold=card.familiar,
            false_alarm_rate=float((test_tiles.distance > card.familiar).mean()),
            ood_detection_rate=float((stages.ood_distances > card.familiar).mean())
            if len(stages.ood_distances)
            else None,
            int8_verdict=stages.int8_verdict,
            int8_extra_alarms=stages.int8_extra_alarms,
            shortcut=shortcut,
            remarks=list(data.remarks),
        )
        plot_inputs = SlidePlotInputs(
            card=card,
            evaluation=evaluation,
            main=main,
            tile_predictions=tile_predictions,
            holdout_tiles=test_tiles,
            ood_distances=stages.ood_distances,
            history=trained.history,
            slides=stages.slides_by_subset["test"],
            attention=attention,
            show_images=data.show_images,
        )
        return plot_inputs, evaluation

    def _detect_shortcut(self, data: TrainingData) -> shortcut_detector.ShortcutResult:
        with self.reporter.step("evaluate: look for a shortcut"):
            sample = data.shortcut_sample
            is_positive = np.isin(sample.labels, self.config.positive_classes).astype(np.intp)
            with threadpool_limits(1):  # a hundred small fits: more threads would only wait for each other
                shortcut = shortcut_detector.detect(sample.images, is_positive, sample.groups, seed=self.config.seed)
        if shortcut.flagged:
            self.reporter.log(f"  {shortcut.en}\n  {shortcut.zh}", style="bold red")
        return shortcut

    def _bootstrap_samples(self, predictions: HoldoutPredictions) -> BootstrapSamples:
        return predictions.bootstrap_samples(self.config.judge.resamples, self.config.seed)

    def _compare_champion(self, data: TrainingData, predictions: HoldoutPredictions) -> ChampionComparison | None:
        samples, threads = self._bootstrap_samples(predictions), self.config.judge.threads
        return self.compare_champion(
            lambda champion: holdout.compare_champion(champion, data, predictions, samples, threads)
        )
