"""What was found of a model that reads slides, as pictures: PNG files beside its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.pathology import decision
from models.pathology.card import SlideCard
from training.pathology.evaluate import Answered, Found, Judgement
from training.pathology.holdout import Cells
from training.pathology.slide_reader import Read
from training.pathology.train_network import Epoch
from training.progress import Tick, ignore
from training.reporting.plot_style import BAD, GOOD, OURS, QUIET, axes_on, calm, page, roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 4  # example tiles of a class, right and wrong
NAMES = {
    "confusion": ("What was told of each class", "混淆矩阵"),
    "roc": ("ROC curve, and where it works", "ROC 曲线与工作点"),
    "calibration": ("Stated and seen share of positives, with 95 % intervals", "校准：预测与实际阳性率"),
    "learning": ("How it learned", "学习曲线"),
    "distances": ("How far from all that was learned from", "与训练数据的距离"),
    "examples": ("Held-out tiles, right and wrong", "示例图块"),
    "heatmap": ("A positive held-out slide: attention and probability", "热图"),
}


@dataclass(frozen=True)
class Picture:
    """What the plots show. main: the held-out slides, or cells; cells: the held-out tiles; held: with their images.

    history: of each epoch. attention: of each of `reads`, (tiles,). shown: whether images may be shown.
    """

    card: SlideCard
    judgement: Judgement
    main: Answered
    cells: Answered
    held: Cells
    strange: NDArray[np.float32]
    history: Sequence[Epoch]
    reads: Sequence[Read]
    attention: Sequence[NDArray[np.float32]]
    shown: bool

    @property
    def title(self) -> str:
        return f"{self.card.model} {self.card.version}" + (" (simulated data)" if self.card.simulated else "")

    @property
    def codes(self) -> list[str]:
        return [one.code for one in self.card.classes]


def draw(folder: Path, picture: Picture, tick: Tick = ignore) -> list[Path]:
    """Every plot that there is something for, as `<name>.png`; no image where none may be shown."""
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Figure, Picture], None]] = {
        "confusion": _confusion,
        "roc": _roc,
        "calibration": _calibration,
        "learning": _learning,
        "distances": _distances,
    }
    if picture.shown:
        plots["examples"] = _examples
    if picture.reads and _shown_slide(picture) is not None:
        plots["heatmap"] = _heatmap
    written = []
    for done, (name, plot) in enumerate(plots.items()):
        figure = page(*NAMES[name], picture.title)
        plot(figure, picture)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        written.append(path)
        tick(done + 1, len(plots))
    return written


def _confusion(figure: Figure, picture: Picture) -> None:
    """Rows sum to one; the numbers are counts."""
    found = [picture.judgement.main, *([picture.judgement.tiles] if picture.judgement.tiles else [])]
    for place, part in enumerate(found):
        _matrix(figure.add_subplot(1, len(found), place + 1), part, picture.codes)


def _matrix(axes: Axes, found: Found, codes: Sequence[str]) -> None:
    counts = found.confusion
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(codes)):
        for column in range(len(codes)):
            colour = "white" if share[row, column] > 0.6 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=8, color=colour)
    short = [code.replace("_", "\n") for code in codes]
    axes.set_xticks(range(len(codes)), short, fontsize=7, rotation=0 if len(codes) < 6 else 90)
    axes.set_yticks(range(len(codes)), short, fontsize=7)
    axes.set_xlabel("told", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    axes.set_title(f"{found.rows:,} {found.unit}: {found.accuracy_classes.value:.3f} right", fontsize=9)


def _roc(figure: Figure, picture: Picture) -> None:
    axes = axes_on(figure, "share of negatives above the threshold", "share of positives above it: sensitivity")
    main, judged = picture.main, picture.judgement
    axes.plot(*roc(main.y, main.stated), color=OURS, lw=2, label=f"{main.unit}, AUC {judged.main.figures['auc']}")
    if judged.tiles is not None:
        label = f"single tiles, AUC {judged.tiles.figures['auc']}"
        axes.plot(*roc(picture.cells.y, picture.cells.stated), color=QUIET, lw=1, label=label)
    x, y = 1 - judged.main.specificity.value, judged.main.sensitivity.value
    told = f"operating point {main.point.threshold:.3f}: sensitivity {y:.3f}, specificity {1 - x:.3f}"
    axes.plot([x], [y], "o", color=BAD, ms=7, label=told, clip_on=False, zorder=5)
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.6, ls=":")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _calibration(figure: Figure, picture: Picture) -> None:
    main = picture.judgement.main
    axes = axes_on(figure, f"mean stated probability of a tenth of the {main.unit}", "share that was positive")
    x, seen = np.array([one.pd for one in main.bins]), np.array([one.bad.value for one in main.bins])
    low, high = (np.array([getattr(one.bad, end) for one in main.bins]) for end in ("low", "high"))
    bars = [np.maximum(seen - low, 0), np.maximum(high - seen, 0)]
    axes.errorbar(x, seen, yerr=bars, fmt="o", ms=4, color=OURS, capsize=2, lw=1)
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
    axes.axvline(picture.main.point.threshold, color=BAD, lw=1, ls="--", label="operating point")
    told = "\n".join(f"{name} {main.figures[name]}" for name in ("slope", "intercept", "brier"))
    axes.text(0.98, 0.05, told, transform=axes.transAxes, ha="right", fontsize=8)
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _learning(figure: Figure, picture: Picture) -> None:
    axes = axes_on(figure, "epoch", "mean loss")
    epochs = np.arange(1, len(picture.history) + 1)
    learned, held = ([getattr(epoch, name) for epoch in picture.history] for name in ("learned", "held"))
    axes.plot(epochs, learned, marker="o", ms=3, color=QUIET, label="tiles learned from, as augmented and mixed")
    axes.plot(epochs, held, marker="o", ms=3, color=OURS, label="groups held back, averaged weights")
    best = int(np.nanargmin(held))
    axes.plot(epochs[best], held[best], "o", ms=8, mfc="none", color=BAD, label=f"kept: epoch {best + 1}")
    axes.set_ylim(0, 1.1 * np.nanmax([*learned, *held]))
    axes.set_xticks(epochs[:: -(-len(epochs) // 12)])
    axes.legend(fontsize=8, frameon=False)


def _distances(figure: Figure, picture: Picture) -> None:
    axes = axes_on(figure, "cosine distance to what was learned from", "share of the tiles")
    inside = picture.held.distance
    every = np.concatenate([inside, picture.strange])
    edges = np.linspace(0, float(np.quantile(every, 0.999)) * 1.02 + 1e-9, 60)
    judged = picture.judgement
    parts = [(inside, GOOD, f"held-out: {judged.alarms:.1%} beyond the limit")]
    if judged.strange is not None:
        parts.append((picture.strange, BAD, f"strange: {judged.strange:.1%} beyond the limit"))
    for values, colour, label in parts:
        weights = np.full(len(values), 1 / len(values))
        axes.hist(np.minimum(values, edges[-1]), edges.tolist(), weights=weights, color=colour, alpha=0.55, label=label)
    axes.axvline(judged.familiar, color=OURS, lw=1.2, ls="--", label=f"limit {judged.familiar:.3f}")
    axes.legend(fontsize=8, frameon=False)


def _examples(figure: Figure, picture: Picture) -> None:
    """A row of a class: the surest right ones, then the surest wrong ones with what was told instead."""
    codes = picture.codes
    figure.set_size_inches(8.6, 0.9 + 1.15 * len(codes))
    kept = picture.held.kept
    labels, told = picture.cells.labels[kept], picture.cells.told[kept]
    best = told.argmax(1)
    for row, code in enumerate(codes):
        own = labels == row
        for side, chosen in enumerate((own & (best == row), own & (best != row))):
            rows = np.flatnonzero(chosen)
            rows = rows[np.argsort(-told[rows].max(1), kind="stable")][:ACROSS]
            for place in range(ACROSS):
                axes = figure.add_subplot(len(codes), 2 * ACROSS, row * 2 * ACROSS + side * ACROSS + place + 1)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(place < len(rows))
                if place == 0 and side == 0:
                    axes.set_ylabel(code, fontsize=8)
                if row == 0 and place == 0:
                    axes.set_title("right" if side == 0 else "wrong", fontsize=9, loc="left")
                if place >= len(rows):
                    continue
                at = rows[place]
                axes.imshow(picture.held.images[at])
                axes.spines[:].set_color(GOOD if side == 0 else BAD)
                axes.spines[:].set_linewidth(2)
                axes.set_xlabel(f"{codes[int(best[at])]} {told[at].max():.2f}", fontsize=7, labelpad=2)


def _shown_slide(picture: Picture) -> int | None:
    """The positive slide that the most of its tiles speak for."""
    stated = np.where(picture.main.y == 1, picture.main.stated, -1.0)
    return int(stated.argmax()) if (stated >= 0).any() else None


def _heatmap(figure: Figure, picture: Picture) -> None:
    at = _shown_slide(picture)
    assert at is not None
    one, attention = picture.reads[at], picture.attention[at]
    figure.set_size_inches(10.0, 4.2)
    table = one.table
    probability = decision.tile_probability(picture.card, table.logits)
    with one.slide.open()[0] as slide:
        width, height = slide.facts.size
        thumbnail = slide.read(0, 0, (width, height))
    step = max(1, max(width, height) // 700)
    parts = [
        (f"{one.slide.name}: {picture.codes[one.slide.label]}, stated {picture.main.stated[at]:.3f}", None),
        ("attention", attention / max(float(attention.max()), 1e-9)),
        ("probability of a positive class", probability),
    ]
    for place, (name, values) in enumerate(parts):
        axes = figure.add_subplot(1, 3, place + 1)
        calm(axes)
        axes.imshow(thumbnail[::step, ::step], extent=(0, width, height, 0))
        if values is not None:
            _boxes(axes, table.places, table.extent, values)
        elif (one.truth > 0).any():
            _outline(axes, table.places[one.truth > 0], table.extent)
            name += "\n(outlined: tiles painted with positive cells)"
        axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        axes.set_title(name, fontsize=8)


def _boxes(axes: Axes, places: NDArray[np.int64], extent: tuple[float, float], values: NDArray[np.floating]) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    boxes = [Rectangle((float(x), float(y)), *extent) for x, y in places]
    drawn = PatchCollection(boxes, cmap="inferno", alpha=0.6, linewidths=0)
    drawn.set_array(np.asarray(values))
    drawn.set_clim(0, 1)
    axes.add_collection(drawn)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.7).ax.tick_params(labelsize=6)


def _outline(axes: Axes, places: NDArray[np.int64], extent: tuple[float, float]) -> None:
    from matplotlib.patches import Rectangle

    for x, y in places:
        axes.add_patch(Rectangle((float(x), float(y)), *extent, fill=False, ec=BAD, lw=1.2))
