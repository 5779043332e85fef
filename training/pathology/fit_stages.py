"""Between the learned network and the judge: the graphs, and every number that is fitted on slides set aside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.card import Data
from models.pathology import export
from models.pathology.abstention import Familiar, Stain, density
from models.pathology.card import SlideCard
from models.pathology.onnx_sessions import SlideGraph, TileGraph
from models.pathology.policy import ReadingPolicy
from training.pathology import holdout, slide_reader
from training.pathology.data import PARTS, Material, Painted
from training.pathology.holdout import Cells
from training.pathology.slide_reader import Far, Network, OnDevice, Read
from training.progress import Tick, Watch, ignore
from training.tracking.mlflow_registry import versions

if TYPE_CHECKING:
    from training.pathology.recipe import Config
    from training.pathology.train_network import Learned

PROOFS = 24  # tiles on which torch and the graph are compared
RANGES = 128  # tiles that give the 8-bit graph its ranges


@dataclass(frozen=True)
class Fits:
    """The graphs, the card but for its figures, and what was read with them, by part.

    strange: (n,) distances of tiles unlike all that was learned from. small: the 8-bit graph; small_extra: its false
    alarms beyond those of the whole one.
    """

    card: SlideCard
    graph: bytes
    slide_graph: bytes | None
    small: bytes | None
    small_verdict: export.Verdict | None
    small_extra: float | None
    reads: dict[str, list[Read]]
    cells: dict[str, Cells]
    strange: NDArray[np.float32]
    parity: dict[str, float]


@dataclass(frozen=True)
class Fitting:
    """What every step needs."""

    recipe: Any
    config: Config
    stamp: dict[str, Any]
    policy: ReadingPolicy
    watch: Watch

    def go(self, material: Material, learned: Learned) -> Fits:
        net, claims = learned.net, self.config.claims
        with self.watch.step("export: compile the graph"):
            first = self._network(learned, export.tiles_graph(net))
        reads: dict[str, list[Read]] = {}
        cells: dict[str, Cells] = {}
        with self.watch.step("read those to learn from") as tick:
            seen = first.run(material.learn.images).embedding
            reads["learn"] = list(self._read(material.slides.get("learn", ()), first, tick))
        with self.watch.step("read those to calibrate") as tick:
            familiar, stain = self._known(material, seen, reads["learn"])
            far, stain = self._calibrate(material, first, familiar, stain, reads, cells, tick)
        familiar = familiar.calibrated(cells["calibrate"].distance, claims.false_alarms)
        with self.watch.step("export: compile the graph"):
            graph = export.tiles_graph(net, familiar.known, stain)
        with self.watch.step("export: prove that it is the model"):
            parity = {"tiles": export.parity(net, graph, self._some(material.learn.images, PROOFS), familiar, stain)}
        network = self._network(learned, graph, far)
        with self.watch.step("read those to test") as tick:
            reads["test"] = list(self._read(material.slides.get("test", ()), network, tick))
            cells["test"] = holdout.of_slides(reads["test"]) if material.slides else _cells(network, material)
        with self.watch.step("read strange ones"):
            strange = self._strange(material.strange, network)
        card = self._card(material, reads, cells["calibrate"], familiar.threshold)
        slide_graph = None
        if material.slides:
            card, slide_graph, parity["slides"] = self._attend(card, reads, learned)
        small = self._small(graph, material, cells["calibrate"], familiar.threshold)
        return Fits(card, graph, slide_graph, *small, reads, cells, strange, parity)

    def _known(self, material: Material, seen: NDArray[np.float32], reads: Sequence[Read]) -> tuple[Familiar, Stain]:
        """What is kept of all that was learned from; seen: embeddings of the single tiles."""
        embeddings = [seen, *(one.table.embedding[one.fit].astype(np.float32) for one in reads)]
        densities = [density(material.learn.images), *(one.density[one.fit] for one in reads)]
        most = self.config.claims.known
        return (
            Familiar.of(self._some(np.concatenate(embeddings), most)),
            Stain.of(self._some(np.concatenate(densities), most)),
        )

    def _calibrate(
        self,
        material: Material,
        first: Network,
        familiar: Familiar,
        stain: Stain,
        reads: dict[str, list[Read]],
        cells: dict[str, Cells],
        tick: Tick,
    ) -> tuple[Far, Stain]:
        """Reads those to calibrate on into `reads` and `cells`; gives the distance, and the stain as it is weighed."""
        if material.slides:
            read = list(self._read(material.slides["calibrate"], first, tick))
            embeddings = [one.table.embedding for one in read]
            densities = [one.density for one in read]
        else:
            tiles = material.cells["calibrate"]
            answer = first.run(tiles.images)
            embeddings, densities = [answer.embedding], [density(tiles.images)]
        own, other = stain.distance(np.concatenate(densities)), familiar.distance(np.concatenate(embeddings))
        stain = stain.like(own, other, self.config.claims.false_alarms)

        def far(embedding: NDArray[Any], densities: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.maximum(familiar.distance(embedding), stain.distance(densities)).astype(np.float32)

        distances = [far(*pair) for pair in zip(embeddings, densities, strict=True)]
        if material.slides:
            tables = [replace(one.table, distance=new) for one, new in zip(read, distances, strict=True)]
            reads["calibrate"] = [replace(one, table=new) for one, new in zip(read, tables, strict=True)]
            cells["calibrate"] = holdout.of_slides(reads["calibrate"])
        else:
            cells["calibrate"] = holdout.of_tiles(answer, distances[0], tiles)
        return far, stain

    def _network(self, learned: Learned, graph: bytes, far: Far | None = None) -> Network:
        """The graph on a CPU; the network itself on a GPU, as the graph's runtime here has none."""
        if learned.device != "cpu":
            return OnDevice(learned.net, learned.device, far)
        return TileGraph(graph, self.config.judge.threads)

    def _read(self, slides: Sequence[Painted], network: Network, tick: Tick = ignore) -> Iterator[Read]:
        return slide_reader.read(slides, network, self.config.net.side, self.config.mpp or 0.0, self.policy, tick)

    def _some(self, rows: NDArray[Any], most: int) -> NDArray[Any]:
        """At most so many of the rows, chosen by the seed, in their order."""
        chosen = np.random.default_rng(self.config.seed).permutation(len(rows))[:most]
        return rows[np.sort(chosen)]

    def _strange(self, strange: Any, network: Network) -> NDArray[np.float32]:
        if isinstance(strange, np.ndarray):
            found = network.run(strange).distance
            assert found is not None
            return found
        read = [one.table.distance[one.fit] for one in self._read(strange, network)]
        return np.concatenate([np.empty(0, np.float32), *read])

    def _card(self, material: Material, reads: dict[str, list[Read]], cells: Cells, familiar: float) -> SlideCard:
        groups = material.learn.groups.tolist()
        if material.slides:
            groups = [one.slide.name for one in reads["learn"]]  # single tiles are of slides with other seeds
        data = (*material.data, _data(material, reads, self.config.seed)) if material.slides else material.data
        return SlideCard(
            **self.stamp,
            simulated=any(one.simulated for one in data),
            data=data,
            versions=versions("torch", "torchvision"),
            classes=self.config.classes,
            side=self.config.net.side,
            mpp=self.config.mpp,
            backbone=self.config.net.backbone,
            specimens=self.config.specimens,
            tile=self.recipe.predict(self.config, cells.logits, cells.labels, cells.groups.tolist(), groups),
            familiar=familiar,
        )

    def _attend(
        self, card: SlideCard, reads: dict[str, list[Read]], learned: Learned
    ) -> tuple[SlideCard, bytes, float]:
        """The card with its slide part, the graph over slides, and its largest difference from torch."""
        bags = [one.table.embedding[one.fit].astype(np.float32) for one in reads["learn"]]
        model = self.recipe.attend(self.config, bags, _labels(reads["learn"]), learned, self.watch)
        graph = export.slide_graph(model)
        seen = [slide_reader.bag(card, one.table) for one in reads["calibrate"]]
        difference = export.slide_parity(model, graph, [*seen[:6], seen[0][:1]])
        fitted = self.recipe.predict(
            self.config,
            slide_reader.logits(SlideGraph(graph), seen),
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
        return small, verdict, float((far > familiar).mean() - (cells.distance[cells.kept] > familiar).mean())


def _cells(network: Network, material: Material) -> Cells:
    tiles = material.cells["test"]
    answer = network.run(tiles.images)
    assert answer.distance is not None
    return holdout.of_tiles(answer, answer.distance, tiles)


def _labels(reads: Sequence[Read]) -> NDArray[np.intp]:
    return np.array([one.slide.label for one in reads], np.intp)


def _data(material: Material, reads: dict[str, list[Read]], seed: int) -> Data:
    """The slides as a data set: digests over their tiles, and over who is in which part."""
    every = [one for part in PARTS for one in reads[part]]
    names = "\n".join(f"{one.slide.name} {one.slide.seed}" for one in every)
    told = ", ".join(f"{len(reads[part])} to {part}" for part in PARTS)
    return Data(
        name=f"simulated cervical slides, seed {seed}",
        rows=len(every),
        sha256=hashlib.sha256("\n".join(one.sha256 for one in every).encode()).hexdigest(),
        source="datasets.slides.simulate.slides",
        simulated=True,
        split=f"whole slides: {told}",
        split_sha256=hashlib.sha256(names.encode()).hexdigest(),
    )
