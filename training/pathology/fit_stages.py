"""Export a trained network and fit what follows it on slides set aside: detectors, attention, calibration, 8 bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.card import DatasetInfo
from models.pathology.abstention import KnnOodDetector, StainOodDetector, stain_density
from models.pathology.card import SlideCard
from models.pathology.neural import export, quantization
from models.pathology.onnx_sessions import SlideGraph, TileGraph
from models.pathology.policy import ReadingPolicy
from training.pathology import slide_reader
from training.pathology.config import Config
from training.pathology.data import SUBSETS, SimulatedSlide, TrainingData
from training.pathology.evaluation import holdout
from training.pathology.evaluation.holdout import TilePredictions
from training.pathology.slide_reader import DeviceEncoder, DistanceFn, SlideFeatures, TileEncoder
from training.pathology.train_network import TrainedNetwork
from training.progress import ProgressCallback, ProgressReporter, ignore_progress
from training.tracking.mlflow_registry import package_versions

PARITY_TILES = 24  # on which torch and the graph are compared
QUANTIZATION_TILES = 128  # from which the 8-bit graph takes its ranges


@dataclass(frozen=True)
class FittedStages:
    """The graphs, the card without its metrics, and the slides and tiles read with them, by part of the data.

    ood_distances: (n,) of out-of-distribution tiles. int8_extra_alarms: false-alarm rate of the 8-bit graph minus that
    of the full-precision one.
    """

    card: SlideCard
    graph: bytes
    slide_graph: bytes | None
    int8_graph: bytes | None
    int8_verdict: export.Int8Comparison | None
    int8_extra_alarms: float | None
    slides_by_subset: dict[str, list[SlideFeatures]]
    tiles_by_subset: dict[str, TilePredictions]
    ood_distances: NDArray[np.float32]
    parity: dict[str, float]


@dataclass(frozen=True)
class StageFitter:
    """Fit the stages in their order; the fields are what every one of them needs."""

    recipe: Any  # the module training.pathology.recipe
    config: Config
    card_fields: dict[str, Any]
    policy: ReadingPolicy
    reporter: ProgressReporter

    def fit(self, data: TrainingData, trained: TrainedNetwork) -> FittedStages:
        """Run every stage. Raises ParityError where a graph differs from its network."""
        net, claims, threads = trained.net, self.config.claims, self.config.judge.threads
        with self.reporter.step("export: compile the graph"):
            base_encoder = _build_encoder(trained, export.export_tile_graph(net), threads)
        slides_by_subset: dict[str, list[SlideFeatures]] = {}
        tiles_by_subset: dict[str, TilePredictions] = {}
        with self.reporter.step("read the training part") as progress:
            tile_embeddings = base_encoder.run(data.learn.images).embedding
            slides_by_subset["learn"] = list(self._read_slides(data.slides.get("learn", ()), base_encoder, progress))
        with self.reporter.step("read the calibration part") as progress:
            ood_detector, stain_detector = self._fit_detectors(data, tile_embeddings, slides_by_subset["learn"])
            distance_fn, stain_detector = self._calibrate(
                data, base_encoder, ood_detector, stain_detector, slides_by_subset, tiles_by_subset, progress
            )
        ood_detector = ood_detector.calibrate(tiles_by_subset["calibrate"].distance, claims.ood_false_positive_rate)
        with self.reporter.step("export: compile the graph"):
            graph = export.export_tile_graph(net, ood_detector.reference_embeddings, stain_detector)
        with self.reporter.step("export: verify parity"):
            parity = {
                "tiles": export.check_tile_parity(
                    net,
                    graph,
                    _subsample(data.learn.images, PARITY_TILES, self.config.seed),
                    ood_detector,
                    stain_detector,
                )
            }
        encoder = _build_encoder(trained, graph, threads, distance_fn)
        with self.reporter.step("read the test part") as progress:
            slides_by_subset["test"] = list(self._read_slides(data.slides.get("test", ()), encoder, progress))
            tiles_by_subset["test"] = (
                holdout.from_slides(slides_by_subset["test"]) if data.slides else _test_predictions(encoder, data)
            )
        with self.reporter.step("read out-of-distribution slides"):
            ood_distances = self._ood_distances(data.ood_sample, encoder)
        card = self._build_card(data, slides_by_subset, tiles_by_subset["calibrate"], ood_detector.threshold)
        slide_graph = None
        if data.slides:
            card, slide_graph, parity["slides"] = self._fit_attention(card, slides_by_subset, trained)
        quantized = self._quantize(graph, data, tiles_by_subset["calibrate"], ood_detector.threshold)
        return FittedStages(
            card, graph, slide_graph, *quantized, slides_by_subset, tiles_by_subset, ood_distances, parity
        )

    def _fit_detectors(
        self, data: TrainingData, tile_embeddings: NDArray[np.float32], slides: Sequence[SlideFeatures]
    ) -> tuple[KnnOodDetector, StainOodDetector]:
        """Fit the out-of-distribution detectors to a sample of the training tiles.

        tile_embeddings: (n, d) of the single tiles, to which those of the slides are added.
        """
        embeddings = [tile_embeddings, *(slide.table.embedding[slide.fit_rows].astype(np.float32) for slide in slides)]
        densities = [stain_density(data.learn.images), *(slide.density[slide.fit_rows] for slide in slides)]
        limit, seed = self.config.claims.reference_embeddings, self.config.seed
        return (
            KnnOodDetector.from_embeddings(_subsample(np.concatenate(embeddings), limit, seed)),
            StainOodDetector.from_densities(_subsample(np.concatenate(densities), limit, seed)),
        )

    def _calibrate(
        self,
        data: TrainingData,
        encoder: TileEncoder,
        ood_detector: KnnOodDetector,
        stain_detector: StainOodDetector,
        slides_by_subset: dict[str, list[SlideFeatures]],
        tiles_by_subset: dict[str, TilePredictions],
        progress: ProgressCallback,
    ) -> tuple[DistanceFn, StainOodDetector]:
        """Read the calibration part into `slides_by_subset` and `tiles_by_subset`.

        Returns the distance function, and the stain detector on the scale of the embedding's distances.
        """
        if data.slides:
            slides = list(self._read_slides(data.slides["calibrate"], encoder, progress))
            embeddings = [slide.table.embedding for slide in slides]
            densities = [slide.density for slide in slides]
        else:
            tiles = data.cells["calibrate"]
            outputs = encoder.run(tiles.images)
            embeddings, densities = [outputs.embedding], [stain_density(tiles.images)]
        stain_distances, embedding_distances = (
            stain_detector.distance(np.concatenate(densities)),
            ood_detector.distance(np.concatenate(embeddings)),
        )
        stain_detector = stain_detector.matched_to(
            stain_distances, embedding_distances, self.config.claims.ood_false_positive_rate
        )

        def distance_fn(embedding: NDArray[Any], densities: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.maximum(ood_detector.distance(embedding), stain_detector.distance(densities)).astype(np.float32)

        distances = [distance_fn(*inputs) for inputs in zip(embeddings, densities, strict=True)]
        if data.slides:
            tables = [
                replace(slide.table, distance=distance) for slide, distance in zip(slides, distances, strict=True)
            ]
            slides_by_subset["calibrate"] = [
                replace(slide, table=table) for slide, table in zip(slides, tables, strict=True)
            ]
            tiles_by_subset["calibrate"] = holdout.from_slides(slides_by_subset["calibrate"])
        else:
            tiles_by_subset["calibrate"] = holdout.from_tiles(outputs, distances[0], tiles)
        return distance_fn, stain_detector

    def _read_slides(
        self, slides: Sequence[SimulatedSlide], encoder: TileEncoder, progress: ProgressCallback = ignore_progress
    ) -> Iterator[SlideFeatures]:
        return slide_reader.read_slides(
            slides, encoder, self.config.net.side, self.config.mpp or 0.0, self.policy, progress
        )

    def _ood_distances(self, sample: Any, encoder: TileEncoder) -> NDArray[np.float32]:
        if isinstance(sample, np.ndarray):
            distances = encoder.run(sample).distance
            assert distances is not None
            return distances
        slide_distances = [slide.table.distance[slide.fit_rows] for slide in self._read_slides(sample, encoder)]
        return np.concatenate([np.empty(0, np.float32), *slide_distances])

    def _build_card(
        self,
        training_data: TrainingData,
        slides_by_subset: dict[str, list[SlideFeatures]],
        predictions: TilePredictions,
        ood_threshold: float,
    ) -> SlideCard:
        data, groups = training_data.data, training_data.learn.groups.tolist()
        if training_data.slides:  # then the single tiles come from slides with other seeds
            data = (*data, _describe_slides(training_data, slides_by_subset, self.config.seed))
            groups = [slide.slide.name for slide in slides_by_subset["learn"]]
        return SlideCard(
            **self.card_fields,
            simulated=any(slide.simulated for slide in data),
            data=data,
            versions=package_versions("torch", "torchvision"),
            classes=self.config.classes,
            side=self.config.net.side,
            mpp=self.config.mpp,
            backbone=self.config.net.backbone,
            specimens=self.config.specimens,
            tile=self.recipe.calibrate_outputs(
                self.config, predictions.logits, predictions.labels, predictions.groups.tolist(), groups
            ),
            familiar=ood_threshold,
        )

    def _fit_attention(
        self, card: SlideCard, slides_by_subset: dict[str, list[SlideFeatures]], trained: TrainedNetwork
    ) -> tuple[SlideCard, bytes, float]:
        """Return the card with the calibration of slides, their graph, and its largest difference from torch."""
        bags = [slide.table.embedding[slide.fit_rows].astype(np.float32) for slide in slides_by_subset["learn"]]
        model = self.recipe.fit_attention(
            self.config, bags, _slide_labels(slides_by_subset["learn"]), trained, self.reporter
        )
        graph = export.export_slide_graph(model)
        calibration_bags = [slide_reader.embeddings_bag(card, slide.table) for slide in slides_by_subset["calibrate"]]
        difference = export.check_slide_parity(model, graph, [*calibration_bags[:6], calibration_bags[0][:1]])
        fitted = self.recipe.calibrate_outputs(
            self.config,
            slide_reader.slide_logits(SlideGraph(graph), calibration_bags),
            _slide_labels(slides_by_subset["calibrate"]),
            [slide.slide.name for slide in slides_by_subset["calibrate"]],
            [slide.slide.name for slide in slides_by_subset["learn"]],
        )
        return card.model_copy(update={"slide": fitted}), graph, difference

    def _quantize(
        self, graph: bytes, data: TrainingData, predictions: TilePredictions, ood_threshold: float
    ) -> tuple[bytes | None, export.Int8Comparison | None, float | None]:
        """Return the 8-bit graph, its comparison on calibration tiles, and its additional false-alarm rate."""
        if not self.config.judge.small:
            return None, None, None
        with self.reporter.step("export: quantise to 8 bits"):
            int8_graph = quantization.quantize(
                graph, _subsample(data.learn.images, QUANTIZATION_TILES, self.config.seed)
            )
            positive, labels = self.config.positive_classes, predictions.labels[predictions.image_rows]
            verdict = export.compare_int8(
                graph, int8_graph, predictions.images, np.isin(labels, positive).astype(int), positive
            )
            distances = TileGraph(int8_graph, self.config.judge.threads).run(predictions.images).distance
        assert distances is not None
        alarm_rates = [(d > ood_threshold).mean() for d in (distances, predictions.distance[predictions.image_rows])]
        return int8_graph, verdict, float(alarm_rates[0] - alarm_rates[1])


def _build_encoder(
    trained: TrainedNetwork, graph: bytes, threads: int, distance_fn: DistanceFn | None = None
) -> TileEncoder:
    """The graph on a CPU; the network itself on a GPU, because ONNX Runtime is installed for CPUs only."""
    if trained.device != "cpu":
        return DeviceEncoder(trained.net, trained.device, distance_fn)
    return TileGraph(graph, threads)


def _subsample(rows: NDArray[Any], limit: int, seed: int) -> NDArray[Any]:
    """At most `limit` of the rows, sampled by the seed, in their original order."""
    selected = np.random.default_rng(seed).permutation(len(rows))[:limit]
    return rows[np.sort(selected)]


def _test_predictions(encoder: TileEncoder, data: TrainingData) -> TilePredictions:
    tiles = data.cells["test"]
    outputs = encoder.run(tiles.images)
    assert outputs.distance is not None
    return holdout.from_tiles(outputs, outputs.distance, tiles)


def _slide_labels(slides: Sequence[SlideFeatures]) -> NDArray[np.intp]:
    return np.array([slide.slide.label for slide in slides], np.intp)


def _describe_slides(data: TrainingData, slides_by_subset: dict[str, list[SlideFeatures]], seed: int) -> DatasetInfo:
    """Describe the slides as a data set, with digests of their tiles and of the split."""
    all_slides = [slide for subset in SUBSETS for slide in slides_by_subset[subset]]
    names = "\n".join(f"{slide.slide.name} {slide.slide.seed}" for slide in all_slides)
    subset_counts = ", ".join(f"{len(slides_by_subset[subset])} to {subset}" for subset in SUBSETS)
    return DatasetInfo(
        name=f"simulated cervical slides, seed {seed}",
        rows=len(all_slides),
        sha256=hashlib.sha256("\n".join(slide.sha256 for slide in all_slides).encode()).hexdigest(),
        source="datasets.slides.simulate.slides",
        simulated=True,
        split=f"whole slides: {subset_counts}",
        split_sha256=hashlib.sha256(names.encode()).hexdigest(),
    )
