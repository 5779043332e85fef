"""Train a tabular model: read, look for leaks, split, fit, export, verify, decide, evaluate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from datasets.splits import Split
from models import drift
from models.card import Card, ScoreHead
from models.trees.onnx_session import Scores, TabularSession
from training import pipeline
from training.evaluation import promotion_gate
from training.evaluation.evaluate import EvaluationData, EvaluationReport, evaluate
from training.evaluation.gate_floors import load_gate_floors, tighten
from training.evaluation.metrics import BootstrapSamples
from training.reporting import model_card, plot_data
from training.tabular import export
from training.tabular.columns.leaks import describe_leak
from training.tabular.config import TabularConfig
from training.tabular.dataset import Dataset, make_split
from training.tabular.fit import FittedModel
from training.tabular.profile.page import write_profile
from training.tabular.recipe import Decisions, TabularRecipe
from training.tracking.mlflow_registry import package_versions

PROFILE_FILE = "profile.html"


@dataclass
class TabularPipeline(pipeline.TrainingPipeline):
    """The training run of a model that reads a table."""

    CARD_TYPE = Card

    recipe: TabularRecipe
    config: TabularConfig

    def run_steps(self) -> pipeline.PipelineResult:
        dataset, split = self._load_data()
        fitted = self.recipe.train(self.config, self.policy, dataset, split, self.reporter)
        with self.reporter.step("export: compile the graph"):
            exported = export.export(fitted)
            graph = TabularSession(exported.graph, threads=self.config.judge.threads)
        with self.reporter.step("export: verify parity") as progress:
            parity = export.verify_parity(fitted, graph, fitted.x[split.test], self.config.seed, progress)
        scores, contributions = self._score(graph, fitted, split)
        card = self._build_card(dataset, split, fitted, exported.head, scores, contributions)
        evaluation_data, decisions = self._build_evaluation_data(dataset, split, fitted, card, scores)
        variants = self.recipe.predict_variants(self.config, dataset, split, self.reporter)
        evaluation = evaluate(evaluation_data, self.config.judge, self.reporter, variants, decisions.referral_counts)
        verdict = self._run_gate(dataset, split, fitted, evaluation_data, evaluation, parity)
        card = card.model_copy(update={"metrics": evaluation.to_json() | {"parity": parity}})
        card_text = self._write_card(card, evaluation_data, evaluation, verdict, contributions[split.test], dataset)
        plots = plot_data.build_plots(card, evaluation_data, evaluation, contributions[split.test])
        return pipeline.PipelineResult(
            card, exported.graph, evaluation, verdict, card_text, parity, fitted.params, plots
        )

    def _load_data(self) -> tuple[Dataset, Split]:
        with self.reporter.step("read"):
            dataset = self.recipe.read(self.config)
        self.log_data([dataset.data], dataset.remarks)
        if dataset.user_table:
            with self.reporter.step("profile the table"):
                path = self.report_dir / PROFILE_FILE
                write_profile(dataset.user_table, dataset.data.name, path, dataset.data.simulated)
        columns = {column.name: column for column in dataset.table.columns}
        leak_warnings = [f"{leak.column}: {describe_leak(leak, columns.get(leak.column))}" for leak in dataset.leaks]
        for warning in leak_warnings:
            self.reporter.log(f"  {warning}", style="bold red")
        dataset = replace(dataset, remarks=(*dataset.remarks, *leak_warnings))
        return dataset, make_split(self.config, dataset)

    def _score(self, graph: TabularSession, fitted: FittedModel, split: Split) -> tuple[Scores, np.ndarray]:
        """Scores of all rows, and their contributions (rows, inputs) in raw-score units."""
        with self.reporter.step("score with the graph"):
            scores = graph.run(fitted.x, reasons=True)
        assert scores.contributions is not None
        return scores, scores.contributions

    def _build_card(
        self,
        dataset: Dataset,
        split: Split,
        fitted: FittedModel,
        head: ScoreHead,
        scores: Scores,
        contributions: np.ndarray,
    ) -> Card:
        data = dataset.data.model_copy(update={"split": split.method, "split_sha256": split.sha256})
        return Card(
            **self.card_fields(),
            simulated=data.simulated,
            horizon=self.config.horizon,
            inputs=fitted.columns,
            also=fitted.decision_only_columns,
            missing=dataset.table.missing if self.config.table else (),
            target=dataset.table.target.name,
            head=head,
            reference=export.fit_reference(scores.points[split.train], contributions[split.train]),
            assumed=fitted.assumed,
            drift=drift.fit_bins(fitted.columns, fitted.x[split.train], fitted.x[split.test], scores.pd[split.test]),
            data=(data,),
            versions=package_versions(),
        )

    def _build_evaluation_data(
        self, dataset: Dataset, split: Split, fitted: FittedModel, card: Card, scores: Scores
    ) -> tuple[EvaluationData, Decisions]:
        """The limits follow from the exported graph's scores, so the evaluation covers what will be served."""
        holdout_frame = dataset.frame[split.test]
        holdout_scores = Scores(scores.pd[split.test], scores.points[split.test], scores.raw[split.test], None)
        with self.reporter.step("decide the held-out rows"):
            decisions = self.recipe.decide(card, self.policy, holdout_frame, holdout_scores)
        group_column = self.config.split.group_column(dataset.table)
        groups = holdout_frame[group_column].cast(pl.String).fill_null("").to_numpy() if group_column else None
        is_assumed = np.array([column.name in fitted.assumed for column in fitted.columns], bool)
        evaluation_data = EvaluationData(
            columns=fitted.columns,
            x=fitted.x,
            y=dataset.y,
            pd=scores.pd,
            points=scores.points,
            train=split.train,
            holdout=split.test,
            holdout_frame=holdout_frame,
            audit=tuple(column for column in dataset.table.columns_with_role("audit") if column.name != group_column),
            approved_holdout=decisions.approved,
            on_line_holdout=decisions.on_line,
            but_for_age_holdout=decisions.but_for_age,
            known_holdout=~np.isnan(fitted.x[split.test][:, is_assumed]).any(axis=1),
            limit_holdout=decisions.limit,
            terms=self.recipe.loan_terms(self.policy),
            samples=BootstrapSamples(len(split.test), self.config.judge.resamples, self.config.seed, groups),
            seed=self.config.seed,
        )
        return evaluation_data, decisions

    def _run_gate(
        self,
        dataset: Dataset,
        split: Split,
        fitted: FittedModel,
        evaluation_data: EvaluationData,
        evaluation: EvaluationReport,
        parity: dict[str, float],
    ) -> promotion_gate.GateVerdict:
        with self.reporter.step("prove the policy's guardrails"):
            policy_problems = self.recipe.verify(self.policy, fitted)
        holdout = evaluation_data.holdout
        comparison = self.compare_champion(
            lambda champion: promotion_gate.compare_champion(
                champion,
                evaluation_data.holdout_frame,
                dataset.table.columns,
                evaluation_data.y[holdout],
                evaluation_data.pd[holdout],
                evaluation_data.samples,
            )
        )
        parity_check = promotion_gate.check_parity(parity, export.TOLERANCES)
        unexplained = {column.name for column in fitted.columns if not column.reason.strip()}
        leaks = [leak for leak in dataset.leaks if leak.column in unexplained]
        floors = load_gate_floors()
        thresholds = tighten(self.config.gate, floors.tabular)
        allowances = {"first_model": floors.first_model, "without_evidence": floors.without_evidence}
        return promotion_gate.decide(
            evaluation, thresholds, parity_check, policy_problems, comparison, leaks, **allowances
        )

    def _write_card(
        self,
        card: Card,
        evaluation_data: EvaluationData,
        evaluation: EvaluationReport,
        verdict: promotion_gate.GateVerdict,
        contributions: np.ndarray,
        dataset: Dataset,
    ) -> str:
        """Draw the plots and return the card's text; contributions (held-out rows, inputs)."""
        plot_paths: list[Path] = []
        if self.config.judge.plots:
            from training.reporting import plots

            with self.reporter.step("draw plots") as progress:
                plot_paths = plots.draw_plots(
                    self.plots_dir, plots.build_plot_inputs(card, evaluation_data, evaluation, contributions), progress
                )
        return model_card.render(card, evaluation, verdict, plot_paths, dataset.remarks)
