"""The way of a model that reads slides: learn, export, calibrate on other slides, judge on the rest."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models import bundle
from models.bundle import SLIDE_GRAPH, SMALL_GRAPH
from models.pathology.card import SlideCard
from models.pathology.onnx_sessions import SlideGraph
from models.pathology.policy import ReadingPolicy
from training import pipeline
from training.evaluation import promotion_gate
from training.evaluation.metrics import Draws
from training.pathology import evaluate, holdout, shortcut_detector
from training.pathology.data import Material
from training.pathology.evaluate import Answered, Judgement
from training.pathology.fit_stages import Fits, Fitting
from training.reporting import pathology_model_card
from training.reporting.pathology_plot_data import plots
from training.reporting.pathology_plots import Picture, draw
from training.tracking.mlflow_registry import CHAMPION, commit

if TYPE_CHECKING:
    from training.pathology.recipe import Config
    from training.pathology.train_network import Learned


@dataclass
class PathologyTrip(pipeline.Trip):
    CARD = SlideCard

    config: Config

    def make(self) -> pipeline.Finished:
        policy = ReadingPolicy.load(self.policy)
        material = self._read()
        learned = self.recipe.fit(self.config, material.learn, self.checkpoints, self.watch)
        fits = Fitting(self.recipe, self.config, self.stamp(), policy, self.watch).go(material, learned)
        picture, judgement = self._judge(material, learned, fits, policy)
        verdict = evaluate.decide(judgement, self.config.gate, fits.parity, self._against(material, picture.main))
        card = fits.card.model_copy(update={"metrics": judgement.json() | {"parity": fits.parity}})
        drawn: list[Path] = []
        if self.config.judge.plots:
            with self.watch.step("draw") as tick:
                drawn = draw(self.plots, picture, tick)
        shutil.rmtree(self.checkpoints, ignore_errors=True)  # only a run that was cut off has something to resume
        more = {SLIDE_GRAPH: fits.slide_graph, SMALL_GRAPH: fits.small if judgement.offers_small else None}
        return pipeline.Finished(
            card=card,
            graph=fits.graph,
            judgement=judgement,
            verdict=verdict,
            text=pathology_model_card.text(card, judgement, verdict, drawn, material.shown),
            parity=fits.parity,
            plots=plots(picture),
            fitted={"epochs": len(learned.history), "best": learned.best + 1, "device": learned.device},
            more={name: graph for name, graph in more.items() if graph is not None},
        )

    @cached_property
    def checkpoints(self) -> Path:
        """Of this config and commit alone: a run that goes on must be the run that was broken off."""
        told = json.dumps([self.config.model_dump(mode="json"), commit()], sort_keys=True)
        return self.var / "checkpoints" / self.config.name / hashlib.sha256(told.encode()).hexdigest()[:16]

    def _read(self) -> Material:
        with self.watch.step("read"):
            material: Material = self.recipe.read(self.config)
        for data in material.data:
            if data.simulated:
                self.watch.say(f"  {data.name}: SIMULATED data 模拟数据", style="bold yellow")
        for remark in material.remarks:
            self.watch.say(f"  {remark}", style="yellow")
        return material

    def _judge(
        self, material: Material, learned: Learned, fits: Fits, policy: ReadingPolicy
    ) -> tuple[Picture, Judgement]:
        """The exported graphs, on rows that nothing was fitted to."""
        card, config, test = fits.card, self.config.judge, fits.cells["test"]
        cells = holdout.answered_cells(card, test, "tiles" if material.slides else "cells")
        main: Answered = cells
        attention: list[NDArray[np.float32]] = []
        if fits.slide_graph is not None:
            with self.watch.step("judge: read as a service reads"):
                graph = SlideGraph(fits.slide_graph, config.threads)
                main, attention = holdout.answered_slides(card, graph, policy, fits.reads["test"])
        cried = self._shortcut(material) if config.shortcut else None
        with self.watch.step("judge: figures"):
            found = evaluate.look(main, self._draws(main))
            tiles = evaluate.look(cells, self._draws(cells)) if material.slides else None
        judgement = Judgement(
            main=found,
            tiles=tiles,
            claim=main.point.claim(),
            claim_zh=main.point.claim_zh(),
            claimable=main.point.claimable,
            familiar=card.familiar,
            alarms=float((test.distance > card.familiar).mean()),
            strange=float((fits.strange > card.familiar).mean()) if len(fits.strange) else None,
            small=fits.small_verdict,
            small_extra=fits.small_extra,
            shortcut=cried,
            remarks=list(material.remarks),
        )
        picture = Picture(
            card=card,
            judgement=judgement,
            main=main,
            cells=cells,
            held=test,
            strange=fits.strange,
            history=learned.history,
            reads=fits.reads["test"],
            attention=attention,
            shown=material.shown,
        )
        return picture, judgement

    def _shortcut(self, material: Material) -> shortcut_detector.Shortcut:
        with self.watch.step("judge: look for a shortcut"):
            taken = material.taken
            label2 = np.isin(taken.labels, self.config.positive).astype(np.intp)
            with threadpool_limits(1):  # a hundred small fits, whose threads would only wait for each other
                found = shortcut_detector.look(taken.images, label2, taken.groups, seed=self.config.seed)
        if found.cries:
            self.watch.say(f"  {found.en}\n  {found.zh}", style="bold red")
        return found

    def _draws(self, answered: Answered) -> Draws:
        return answered.draws(self.config.judge.resamples, self.config.seed)

    def _against(self, material: Material, ours: Answered) -> promotion_gate.Against | None:
        serving = bundle.pointed(self.bundles, CHAMPION)
        if not serving:
            return None
        with self.watch.step("judge the champion on the same rows"):
            try:
                champion = bundle.load(self.bundles / serving, self.public, SlideCard)
            except bundle.BundleRefused as error:
                return promotion_gate.Against(serving, refused=str(error))
            return holdout.against(champion, material, ours, self._draws(ours), self.config.judge.threads)
