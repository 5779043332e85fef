"""The way of a model that reads slides: learn, export with what it knows, calibrate on other slides, judge on the rest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datasets.faults import DataError
from models import bundle
from models.bundle import SLIDE_GRAPH, SMALL_GRAPH
from models.card import Data
from models.pathology import decision, export
from models.pathology.abstain import Familiar
from models.pathology.calibrate import log_odds
from models.pathology.card import Fitted, SlideCard
from models.pathology.policy import ReadingPolicy
from models.pathology.session import SlideGraph, TileGraph, softmax
from training import gate, road
from training.lineage import CHAMPION, versions
from training.metrics import difference
from training.pathology import card_text, judge, reading, shortcut
from training.pathology.judge import Answered
from training.pathology.material import PARTS, Images, Material, Tiles
from training.pathology.reading import Network, OnDevice, Read

if TYPE_CHECKING:
    from models.pathology.aggregate import GatedAttention
    from training.pathology.learn import Learned
    from training.pathology.recipe import Config

PROOFS = 24  # tiles on which torch and the graph are compared
RANGES = 128  # tiles that give the 8-bit graph its ranges


@dataclass(frozen=True)
class Cells:
    """Labelled tiles as the graph answered them; images: of all of them, or of the rows `kept`."""

    logits: NDArray[np.float32]
    embedding: NDArray[Any]
    distance: NDArray[np.float32]
    labels: NDArray[np.intp]
    groups: NDArray[Any]
    images: Images
    kept: NDArray[np.intp]


@dataclass(frozen=True)
class Fits:
    """The graphs, and the slides and cells as read with them."""

    card: SlideCard
    graph: bytes
    slide_graph: bytes | None
    small: bytes | None
    small_verdict: export.Verdict | None
    small_extra: float | None  # false alarms of the 8-bit graph beyond those of the whole one
    reads: dict[str, list[Read]]
    cells: dict[str, Cells]
    parity: dict[str, float]


@dataclass
class PathologyTrip(road.Trip):
    CARD = SlideCard

    config: Config

    def make(self) -> road.Finished:
        self.reading = ReadingPolicy.load(self.policy)
        material = self._read()
        learned = self.recipe.fit(self.config, material.learn, self.checkpoints, self.watch)
        fits = self._fit(material, learned)
        judgement, answered, cells = self._judge(material, learned, fits)
        verdict = gate_of(judgement, self.config.gate, fits.parity, self._against(material, answered))
        metrics = judgement.json() | {"parity": fits.parity}
        card = fits.card.model_copy(update={"metrics": metrics})
        drawn = self._draw(card, material, learned, fits, judgement, answered, cells)
        more = {SLIDE_GRAPH: fits.slide_graph, SMALL_GRAPH: fits.small if judgement.offers_small else None}
        shutil.rmtree(self.checkpoints, ignore_errors=True)  # of a run that was not cut off nothing is to be resumed
        return road.Finished(
            card=card,
            graph=fits.graph,
            judgement=judgement,
            verdict=verdict,
            text=card_text.text(card, judgement, verdict, drawn, material, learned.history),
            parity=fits.parity,
            fitted=learned.summary(),
            more={name: graph for name, graph in more.items() if graph is not None},
        )

    @property
    def checkpoints(self) -> Path:
        return self.var / "checkpoints" / self.config.name

    def _read(self) -> Material:
        with self.watch.step("read"):
            material: Material = self.recipe.read(self.config)
        for data in material.data:
            if data.simulated:
                self.watch.say(f"  {data.name}: SIMULATED data 模拟数据", style="bold yellow")
        return material

    # fit: everything between the learned network and the judge

    def _fit(self, material: Material, learned: Learned) -> Fits:
        net, device = learned.net, learned.device
        with self.watch.step("export: compile the graph"):
            first = self._network(export.tiles_graph(net.cpu()), learned)
        reads = {}
        with self.watch.step("embed what was learned from") as tick:
            seen = [first.run(material.learn.images).embedding]
            reads["learn"] = list(self._reads(material, "learn", first, tick))
        seen += [one.table.embedding[one.fit].astype(np.float32) for one in reads["learn"]]
        familiar = Familiar.of(self._some(np.concatenate(seen), self.config.claims.known))
        with self.watch.step("export: compile the graph"):
            graph = export.tiles_graph(net.cpu(), familiar.known)
        with self.watch.step("export: prove that it is the model"):
            parity = {"tiles": export.parity(net, graph, self._some(material.learn.images, PROOFS), familiar)}
        network: Network = OnDevice(net, device, familiar) if device != "cpu" else self._network(graph, learned)
        cells = {}
        for part in ("calibrate", "test"):
            if material.slides:
                with self.watch.step(f"read the slides to {part}") as tick:
                    reads[part] = list(self._reads(material, part, network, tick))
                cells[part] = _cells_of(reads[part])
            else:
                with self.watch.step(f"read the cells to {part}"):
                    cells[part] = _answered(network, material.cells[part])
        familiar = familiar.calibrated(cells["calibrate"].distance, self.config.claims.false_alarms)
        card = self._card(material, reads, cells["calibrate"], familiar.threshold)
        slide_graph = None
        if material.slides:
            card, slide_graph, parity["slides"] = self._attend(card, reads)
        small, verdict, extra = self._small(graph, material, cells["calibrate"], familiar.threshold)
        return Fits(card, graph, slide_graph, small, verdict, extra, reads, cells, parity)

    def _network(self, graph: bytes, learned: Learned) -> Network:
        if learned.device != "cpu":
            return OnDevice(learned.net, learned.device)
        return TileGraph(graph, self.config.judge.threads)

    def _reads(self, material: Material, part: str, network: Network, tick: Any) -> Any:
        assert self.config.mpp is not None or not material.slides
        slides = material.slides.get(part, ())
        return reading.read(slides, network, self.config.net.side, self.config.mpp or 0.0, self.reading, tick)

    def _some(self, rows: NDArray[Any], most: int) -> NDArray[Any]:
        """At most so many of the rows, chosen by the seed, in their order."""
        chosen = np.random.default_rng(self.config.seed).permutation(len(rows))[:most]
        return rows[np.sort(chosen)]

    def _card(self, material: Material, reads: dict[str, list[Read]], cells: Cells, familiar: float) -> SlideCard:
        tile = self.recipe.predict(
            self.config, cells.logits, cells.labels, cells.groups.tolist(), _groups(material, "learn")
        )
        data = material.data
        if material.slides:
            data = (*data, _slides_data(material, reads, self.config.seed))
        return SlideCard(
            **self.stamp(),
            simulated=any(one.simulated for one in data),
            data=data,
            versions=versions("torch", "torchvision"),
            classes=self.config.classes,
            side=self.config.net.side,
            mpp=self.config.mpp,
            backbone=self.config.net.backbone,
            specimens=self.config.specimens,
            tile=tile,
            familiar=familiar,
        )

    def _attend(self, card: SlideCard, reads: dict[str, list[Read]]) -> tuple[SlideCard, bytes, float]:
        """The card with its slide part, the graph over slides, and its largest difference from torch."""
        bags = [one.table.embedding[one.fit].astype(np.float32) for one in reads["learn"]]
        model: GatedAttention = self.recipe.attend(self.config, bags, _labels(reads["learn"]), self.watch)
        graph = export.slide_graph(model)
        seen = [reading.bag(card, one.table) for one in reads["calibrate"]]
        difference = export.slide_parity(model, graph, [*seen[:6], seen[0][:1]])
        fitted = self.recipe.predict(
            self.config,
            reading.logits(SlideGraph(graph), seen),
            _labels(reads["calibrate"]),
            [one.slide.name for one in reads["calibrate"]],
            [one.slide.name for one in reads["learn"]],
        )
        return card.model_copy(update={"slide": fitted}), graph, difference

    def _small(
        self, graph: bytes, material: Material, cells: Cells, familiar: float
    ) -> tuple[bytes | None, export.Verdict | None, float | None]:
        """The 8-bit graph, and what it is worth on calibration tiles."""
        if not self.config.judge.small:
            return None, None, None
        with self.watch.step("export: try 8 bits"):
            small = export.quantize(graph, self._some(material.learn.images, RANGES))
            positive, labels = self.config.positive, cells.labels[cells.kept]
            verdict = export.int8_verdict(graph, small, cells.images, np.isin(labels, positive).astype(int), positive)
            far = TileGraph(small, self.config.judge.threads).run(cells.images).distance
        assert far is not None
        extra = float((far > familiar).mean() - (cells.distance[cells.kept] > familiar).mean())
        return small, verdict, extra

    # judge: the exported graphs, on rows that nothing was fitted to

    def _judge(
        self, material: Material, learned: Learned, fits: Fits
    ) -> tuple[judge.Judgement, Answered, Answered]:
        card, config = fits.card, self.config.judge
        cells = cells_answered(card, fits.cells["test"])
        answered = cells
        if fits.slide_graph is not None:
            with self.watch.step("judge: read as a service reads"):
                answered, _ = slides_answered(card, SlideGraph(fits.slide_graph), self.reading, fits.reads["test"])
        cried = None
        if config.shortcut:
            with self.watch.step("judge: look for a shortcut"):
                label2 = np.isin(material.learn.labels, self.config.positive).astype(np.intp)
                cried = shortcut.look(material.learn.images, label2, material.learn.groups, seed=self.config.seed)
            if cried.cries:
                self.watch.say(f"  {cried.told}", style="bold red")
        with self.watch.step("judge: figures"):
            main = judge.look(answered, answered.draws(config.resamples, self.config.seed))
            tiles = None
            if answered is not cells:
                tiles = judge.look(cells, cells.draws(config.resamples, self.config.seed))
            strange = self._strange(material, fits)
        point = _main(card).point
        return (
            judge.Judgement(
                main=main,
                tiles=tiles,
                claim=point.claim(),
                claimable=point.claimable,
                familiar=card.familiar,
                alarms=float((fits.cells["test"].distance > card.familiar).mean()),
                strange=None if strange is None else float((strange > card.familiar).mean()),
                small=fits.small_verdict,
                small_extra=fits.small_extra,
                shortcut=cried,
                learned=learned.summary_figures(),
                remarks=list(material.remarks),
            ),
            answered,
            cells,
        )
