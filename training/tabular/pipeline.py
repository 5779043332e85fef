"""The way of a table's model: read, look for leaks, split, fit, export, prove, decide, judge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from datasets import leakage
from datasets.splits import Split
from models import bundle, drift
from models.card import Card, Head
from models.trees.onnx_session import Graph, Scores
from training import pipeline
from training.evaluation import promotion_gate
from training.evaluation.evaluate import Case, Judgement, judge
from training.evaluation.metrics import Draws
from training.interfaces import Answers, Fit, Rows, TableConfig, TableRecipe
from training.reporting import model_card, plot_data
from training.tabular import export
from training.tracking.mlflow_registry import CHAMPION, versions


@dataclass
class TabularTrip(pipeline.Trip):
    CARD = Card

    recipe: TableRecipe
    config: TableConfig

    def make(self) -> pipeline.Finished:
        rows, split = self._read()
        fit = self.recipe.train(self.config, rows, split, self.watch)
        with self.watch.step("export: compile the graph"):
            exported = export.export(fit)
            graph = Graph(exported.graph, threads=self.config.judge.threads)
        with self.watch.step("export: prove that it is the model") as tick:
            parity = export.parity(fit, graph, fit.x[split.test], self.config.seed, tick)
        scores, contributions = self._score(graph, fit, split)
        card = self._card(rows, split, fit, exported.head, scores, contributions)
        case, answers = self._case(rows, split, fit, card, scores)
        variants = self.recipe.variants(self.config, rows, split, self.watch)
        judgement = judge(case, self.config.judge, self.watch, variants, answers.referred)
        verdict = self._ask_the_gate(rows, split, fit, case, judgement, parity)
        card = card.model_copy(update={"metrics": judgement.json() | {"parity": parity}})
        text = self._draw(card, case, judgement, verdict, contributions[split.test], rows)
        plots = plot_data.plots(card, case, judgement, contributions[split.test])
        return pipeline.Finished(card, exported.graph, judgement, verdict, text, parity, fit.params, plots)

    def _read(self) -> tuple[Rows, Split]:
        with self.watch.step("read"):
            rows = self.recipe.read(self.config)
        if rows.data.simulated:
            self.watch.say(f"  {rows.data.name}: SIMULATED data 模拟数据", style="bold yellow")
        for remark in rows.remarks:
            self.watch.say(f"  {remark}", style="yellow")
        with self.watch.step("look for leaks"):
            told = [f"possible leak: {leak.column}: {leak.why}" for leak in leakage.find(rows.frame, rows.table)]
        for line in told:
            self.watch.say(f"  {line}", style="bold red")
        rows = replace(rows, remarks=(*rows.remarks, *told))
        return rows, pipeline.split_as_told(self.config, rows)

    def _score(self, graph: Graph, fit: Fit, split: Split) -> tuple[Scores, np.ndarray]:
        """Scores of all rows, and the contributions (rows, inputs) in raw-score units."""
        with self.watch.step("score with the graph"):
            scores = graph.run(fit.x, reasons=True)
        assert scores.contributions is not None
        return scores, scores.contributions

    def _card(self, rows: Rows, split: Split, fit: Fit, head: Head, scores: Scores, contributions: np.ndarray) -> Card:
        data = rows.data.model_copy(update={"split": split.how, "split_sha256": split.sha256})
        return Card(
            **self.stamp(),
            simulated=data.simulated,
            horizon=self.config.horizon,
            inputs=fit.columns,
            also=fit.also,
            target=rows.table.target.name,
            head=head,
            reference=export.reference(scores.points[split.train], contributions[split.train]),
            drift=drift.learn(fit.columns, fit.x[split.train], fit.x[split.test], scores.pd[split.test]),
            data=(data,),
            versions=versions(),
        )

    def _case(self, rows: Rows, split: Split, fit: Fit, card: Card, scores: Scores) -> tuple[Case, Answers]:
        """Limits are those of the exported graph's scores, so what is judged is what will be served."""
        held_frame = rows.frame[split.test]
        held_scores = Scores(scores.pd[split.test], scores.points[split.test], scores.raw[split.test], None)
        with self.watch.step("decide the held-out rows"):
            answers = self.recipe.decide(card, self.policy, held_frame, held_scores)
        grouped = self.config.split.group(rows.table)
        groups = held_frame[grouped].cast(pl.String).fill_null("").to_numpy() if grouped else None
        case = Case(
            columns=fit.columns,
            x=fit.x,
            y=rows.y,
            pd=scores.pd,
            points=scores.points,
            train=split.train,
            held=split.test,
            held_frame=held_frame,
            audit=tuple(column for column in rows.table.role("audit") if column.name != grouped),
            approved_held=answers.approved,
            limit_held=answers.limit,
            terms=self.recipe.terms(self.policy),
            draws=Draws(len(split.test), self.config.judge.resamples, self.config.seed, groups),
            seed=self.config.seed,
        )
        return case, answers

    def _ask_the_gate(
        self, rows: Rows, split: Split, fit: Fit, case: Case, judgement: Judgement, parity: dict[str, float]
    ) -> promotion_gate.Verdict:
        with self.watch.step("prove the policy's guard rails"):
            faults = self.recipe.verify(self.policy, fit.columns)
        against = None
        serving = bundle.pointed(self.bundles, CHAMPION)
        if serving:
            with self.watch.step("judge the champion on the same rows"):
                against = self._champion(serving, rows, case)
        return promotion_gate.decide(judgement, self.config.gate, parity, faults, against)

    def _champion(self, serving: str, rows: Rows, case: Case) -> promotion_gate.Against:
        try:
            champion = bundle.load(self.bundles / serving, self.public)
        except bundle.BundleRefused as error:
            return promotion_gate.Against(serving, refused=str(error))
        held = case.held
        return promotion_gate.against(
            champion, case.held_frame, rows.table.columns, case.y[held], case.pd[held], case.draws
        )

    def _draw(
        self,
        card: Card,
        case: Case,
        judgement: Judgement,
        verdict: promotion_gate.Verdict,
        contributions: np.ndarray,
        rows: Rows,
    ) -> str:
        """The card's text, once its plots are drawn; contributions (held-out rows, inputs)."""
        drawn: list[Path] = []
        if self.config.judge.plots:
            from training.reporting import plots

            with self.watch.step("draw") as tick:
                drawn = plots.draw(self.plots, plots.picture(card, case, judgement, contributions), tick)
        return model_card.text(card, judgement, verdict, drawn, rows.remarks)
