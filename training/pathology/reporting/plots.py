"""Draw the plots of a slide model as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.pathology import decision
from models.pathology.card import SlideCard
from training.pathology.evaluation.evaluate import HoldoutMetrics, HoldoutPredictions, SlideEvaluationReport
from training.pathology.evaluation.holdout import TilePredictions
from training.pathology.slide_reader import SlideFeatures
from training.pathology.train_network import EpochLosses
from training.progress import ProgressCallback, ignore_progress
from training.reporting.plot_style import (
    BAD_COLOR,
    GOOD_COLOR,
    MUTED_COLOR,
    PRIMARY_COLOR,
    add_axes,
    plot_calibration,
    roc_points,
    save_plots,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXAMPLES_PER_SIDE = 4  # example tiles of a class, correct and incorrect
TITLES = {
    "confusion": ("Confusion matrix", "混淆矩阵"),
    "roc": ("ROC curve with the operating point", "ROC 曲线与工作点"),
    "calibration": (
        "Calibration: predicted and observed share of positives, with 95 % intervals",
        "校准：预测与实际阳性率",
    ),
    "learning": ("Learning curves", "学习曲线"),
    "distances": ("Distance from the training tiles", "与训练数据的距离"),
    "examples": ("Held-out tiles, classified correctly and incorrectly", "示例图块"),
    "heatmap": ("A positive held-out slide: attention and probability", "热图"),
}


@dataclass(frozen=True)
class SlidePlotInputs:
    """What the plots show. main: the held-out slides, or cells; tile_predictions: the held-out tiles; holdout_tiles:
    the same with their images. history: of each epoch. attention: (tiles,) of each of `slides`."""

    card: SlideCard
    evaluation: SlideEvaluationReport
    main: HoldoutPredictions
    tile_predictions: HoldoutPredictions
    holdout_tiles: TilePredictions
    ood_distances: NDArray[np.float32]
    history: Sequence[EpochLosses]
    slides: Sequence[SlideFeatures]
    attention: Sequence[NDArray[np.float32]]
    show_images: bool

    @property
    def title(self) -> str:
        return f"{self.card.model} {self.card.version}" + (" (simulated data)" if self.card.simulated else "")

    @property
    def codes(self) -> list[str]:
        return [slide_class.code for slide_class in self.card.classes]


def draw_plots(folder: Path, inputs: SlidePlotInputs, progress: ProgressCallback = ignore_progress) -> list[Path]:
    """Draw every plot for which there are data, as `<name>.png`; those with images only where these may be shown."""
    plots: dict[str, Callable[[Figure, SlidePlotInputs], None]] = {
        "confusion": _confusion,
        "roc": _roc,
        "calibration": _calibration,
        "learning": _learning,
        "distances": _distances,
    }
    if inputs.show_images:
        plots["examples"] = _examples
    if inputs.slides and _example_slide(inputs) is not None:
        plots["heatmap"] = _heatmap
    return save_plots(folder, plots, inputs, TITLES, inputs.title, progress)


def _confusion(figure: Figure, inputs: SlidePlotInputs) -> None:
    """Colours are shares of a row; the numbers are counts."""
    subsets = [inputs.evaluation.main, *([inputs.evaluation.tiles] if inputs.evaluation.tiles else [])]
    for position, metrics in enumerate(subsets):
        _matrix(figure.add_subplot(1, len(subsets), position + 1), metrics, inputs.codes)


def _matrix(axes: Axes, metrics: HoldoutMetrics, codes: Sequence[str]) -> None:
    counts = metrics.confusion
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(codes)):
        for column in range(len(codes)):
            colour = "white" if share[row, column] > 0.6 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=8, color=colour)
    labels = [code.replace("_", "\n") for code in codes]
    axes.set_xticks(range(len(codes)), labels, fontsize=7, rotation=0 if len(codes) < 6 else 90)
    axes.set_yticks(range(len(codes)), labels, fontsize=7)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    axes.set_title(f"{metrics.rows:,} {metrics.unit}: {metrics.accuracy_classes.value:.3f} correct", fontsize=9)


def _roc(figure: Figure, inputs: SlidePlotInputs) -> None:
    axes = add_axes(figure, "share of negatives above the threshold", "share of positives above it: sensitivity")
    main, evaluation = inputs.main, inputs.evaluation
    axes.plot(
        *roc_points(main.y, main.positive_probability),
        color=PRIMARY_COLOR,
        lw=2,
        label=f"{main.unit}, AUC {evaluation.main.metrics['auc']}",
    )
    if evaluation.tiles is not None:
        label = f"single tiles, AUC {evaluation.tiles.metrics['auc']}"
        axes.plot(
            *roc_points(inputs.tile_predictions.y, inputs.tile_predictions.positive_probability),
            color=MUTED_COLOR,
            lw=1,
            label=label,
        )
    x, y = 1 - evaluation.main.specificity.value, evaluation.main.sensitivity.value
    operating_label = (
        f"operating point {main.operating_point.threshold:.3f}: sensitivity {y:.3f}, specificity {1 - x:.3f}"
    )
    axes.plot([x], [y], "o", color=BAD_COLOR, ms=7, label=operating_label, clip_on=False, zorder=5)
    axes.plot([0, 1], [0, 1], color=MUTED_COLOR, lw=0.6, ls=":")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _calibration(figure: Figure, inputs: SlidePlotInputs) -> None:
    main = inputs.evaluation.main
    axes = add_axes(figure, f"mean predicted probability of a tenth of the {main.unit}", "share that was positive")
    plot_calibration(axes, main.bins)
    axes.plot([0, 1], [0, 1], color=MUTED_COLOR, lw=0.8, ls=":")
    axes.axvline(inputs.main.operating_point.threshold, color=BAD_COLOR, lw=1, ls="--", label="operating point")
    note = "\n".join(f"{name} {main.metrics[name]}" for name in ("slope", "intercept", "brier"))
    axes.text(0.98, 0.05, note, transform=axes.transAxes, ha="right", fontsize=8)
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _learning(figure: Figure, inputs: SlidePlotInputs) -> None:
    axes = add_axes(figure, "epoch", "mean loss")
    epochs = np.arange(1, len(inputs.history) + 1)
    train_losses = [epoch.train_loss for epoch in inputs.history]
    validation_losses = [epoch.validation_loss for epoch in inputs.history]
    axes.plot(epochs, train_losses, marker="o", ms=3, color=MUTED_COLOR, label="training tiles, augmented and mixed")
    axes.plot(
        epochs, validation_losses, marker="o", ms=3, color=PRIMARY_COLOR, label="validation groups, averaged weights"
    )
    best = int(np.nanargmin(validation_losses))
    axes.plot(
        epochs[best],
        validation_losses[best],
        "o",
        ms=8,
        mfc="none",
        color=BAD_COLOR,
        label=f"selected: epoch {best + 1}",
    )
    axes.set_ylim(0, 1.1 * np.nanmax([*train_losses, *validation_losses]))
    axes.set_xticks(epochs[:: -(-len(epochs) // 12)])
    axes.legend(fontsize=8, frameon=False)


def _distances(figure: Figure, inputs: SlidePlotInputs) -> None:
    axes = add_axes(figure, "cosine distance from the training tiles", "share of the tiles")
    holdout_distances = inputs.holdout_tiles.distance
    all_distances = np.concatenate([holdout_distances, inputs.ood_distances])
    edges = np.linspace(0, float(np.quantile(all_distances, 0.999)) * 1.02 + 1e-9, 60)
    evaluation = inputs.evaluation
    series = [(holdout_distances, GOOD_COLOR, f"held-out: {evaluation.false_alarm_rate:.1%} beyond the threshold")]
    if evaluation.ood_detection_rate is not None:
        series.append(
            (
                inputs.ood_distances,
                BAD_COLOR,
                f"out of distribution: {evaluation.ood_detection_rate:.1%} beyond the threshold",
            )
        )
    for values, colour, label in series:
        weights = np.full(len(values), 1 / len(values))
        axes.hist(np.minimum(values, edges[-1]), edges.tolist(), weights=weights, color=colour, alpha=0.55, label=label)
    axes.axvline(
        evaluation.ood_threshold,
        color=PRIMARY_COLOR,
        lw=1.2,
        ls="--",
        label=f"threshold {evaluation.ood_threshold:.3f}",
    )
    axes.legend(fontsize=8, frameon=False)


def _examples(figure: Figure, inputs: SlidePlotInputs) -> None:
    """One row for each class: the most confident correct tiles, then the most confident errors."""
    codes = inputs.codes
    figure.set_size_inches(8.6, 0.9 + 1.15 * len(codes))
    stored_rows = inputs.holdout_tiles.image_rows
    labels, probabilities = (
        inputs.tile_predictions.labels[stored_rows],
        inputs.tile_predictions.class_probabilities[stored_rows],
    )
    best = probabilities.argmax(1)
    for row, code in enumerate(codes):
        is_class = labels == row
        for side, selected in enumerate((is_class & (best == row), is_class & (best != row))):
            rows = np.flatnonzero(selected)
            rows = rows[np.argsort(-probabilities[rows].max(1), kind="stable")][:EXAMPLES_PER_SIDE]
            for position in range(EXAMPLES_PER_SIDE):
                axes = figure.add_subplot(
                    len(codes),
                    2 * EXAMPLES_PER_SIDE,
                    row * 2 * EXAMPLES_PER_SIDE + side * EXAMPLES_PER_SIDE + position + 1,
                )
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(position < len(rows))
                if position == 0 and side == 0:
                    axes.set_ylabel(code, fontsize=8)
                if row == 0 and position == 0:
                    axes.set_title("correct" if side == 0 else "incorrect", fontsize=9, loc="left")
                if position >= len(rows):
                    continue
                row_index = rows[position]
                axes.imshow(inputs.holdout_tiles.images[row_index])
                axes.spines[:].set_color(GOOD_COLOR if side == 0 else BAD_COLOR)
                axes.spines[:].set_linewidth(2)
                axes.set_xlabel(
                    f"{codes[int(best[row_index])]} {probabilities[row_index].max():.2f}", fontsize=7, labelpad=2
                )


def _example_slide(inputs: SlidePlotInputs) -> int | None:
    """Index of the positive slide with the highest predicted probability."""
    positive_probability = np.where(inputs.main.y == 1, inputs.main.positive_probability, -1.0)
    return int(positive_probability.argmax()) if (positive_probability >= 0).any() else None


def _heatmap(figure: Figure, inputs: SlidePlotInputs) -> None:
    index = _example_slide(inputs)
    assert index is not None
    slide_features, attention = inputs.slides[index], inputs.attention[index]
    figure.set_size_inches(10.0, 4.2)
    table = slide_features.table
    probability = decision.tile_probability(inputs.card, table.logits)
    with slide_features.slide.open()[0] as slide:
        width, height = slide.metadata.size
        thumbnail = slide.read(0, 0, (width, height))
    step = max(1, max(width, height) // 700)
    panels = [
        (
            f"{slide_features.slide.name}: {inputs.codes[slide_features.slide.label]}, predicted "
            f"{inputs.main.positive_probability[index]:.3f}",
            None,
        ),
        ("attention", attention / max(float(attention.max()), 1e-9)),
        ("probability of a positive class", probability),
    ]
    for position, (name, values) in enumerate(panels):
        axes = figure.add_subplot(1, 3, position + 1)
        style_axes(axes)
        axes.imshow(thumbnail[::step, ::step], extent=(0, width, height, 0))
        if values is not None:
            _draw_boxes(axes, table.positions, table.extent, values)
        elif (slide_features.truth > 0).any():
            _draw_outlines(axes, table.positions[slide_features.truth > 0], table.extent)
            name += "\n(outlined: tiles simulated with positive cells)"
        axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        axes.set_title(name, fontsize=8)


def _draw_boxes(
    axes: Axes, places: NDArray[np.int64], extent: tuple[float, float], values: NDArray[np.floating]
) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    boxes = [Rectangle((float(x), float(y)), *extent) for x, y in places]
    collection = PatchCollection(boxes, cmap="inferno", alpha=0.6, linewidths=0)
    collection.set_array(np.asarray(values))
    collection.set_clim(0, 1)
    axes.add_collection(collection)
    axes.figure.colorbar(collection, ax=axes, shrink=0.7).ax.tick_params(labelsize=6)


def _draw_outlines(axes: Axes, places: NDArray[np.int64], extent: tuple[float, float]) -> None:
    from matplotlib.patches import Rectangle

    for x, y in places:
        axes.add_patch(Rectangle((float(x), float(y)), *extent, fill=False, ec=BAD_COLOR, lw=1.2))
