"""The shortcut: would the light, the glass, the focus and the file tell the label, with no cell looked at?

found = look(tiles, positive, groups)                  # (n, h, w, 3) uint8, or pairs of (pixels, encoded bytes | None)
found.cries, found.en, found.zh

A set gathered on two days under two lamps teaches a network the lamps, and every figure on it is a lie (SurePath fields
of Hussain et al.: three numbers of background colour tell normal from abnormal). So simple numbers that know nothing
of shape are put into a small model, and its AUC is taken on groups that it has not learned from.

It cries where two things hold. The lower end of the AUC's interval over resampled groups is above the limit (.8: four
pairs in five are put right without looking at a cell), so a few lucky groups do not cry. And the AUC is above all of
19 reorderings of the labels, moved in blocks as large as the groups: luck would do as well once in twenty, which
matters where groups are few and large, for then an interval over them is too short.

Stain belongs to the disease too (dark nuclei: hyperchromasia), and so does how much there is to store, so the whole
picture's colour and bytes are reported apart, as `whole`, and do not cry: a high figure there is a question for a
pathologist, not yet a fault. Blur and blocks are taken where a picture is flat, away from the edges of cells.

Pictures must come as they were taken. A crop that was scaled to its nucleus has the nucleus' size in its blur, and no
glass: Herlev's cells tell nothing as they came (AUC .66), and cry as crops of the nucleus.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training.config import Settings
from training.evaluation.metrics import Draws, Interval, Tallier, auc, statistic

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB
Floats = NDArray[np.float64]

FOLDS = 5
REORDERED = 19  # all told worse: p = .05
RESAMPLES = 300
LIGHT = 0.9  # quantile of brightness above which a pixel is taken for glass
STRIP = 8  # px at the border, where padding and streaks lie
SMOOTH = 1.5  # grey levels: a line that was copied outwards varies less
COLOURS = ("red", "green", "blue")

BESIDE = (  # what has nothing to do with a cell
    *(f"background {colour}" for colour in COLOURS),
    *(f"background {colour} spread" for colour in COLOURS),
    "streaks at the border",
    "blocks of 8 px",
    "blur",
    "coarseness of brightness",
    "coarseness of colour",
)
WHOLE = (  # what the disease may change too
    *(f"whole {colour}" for colour in COLOURS),
    *(f"whole {colour} spread" for colour in COLOURS),
    "bytes per pixel",
)
ZH = dict(zip(
    BESIDE + WHOLE,
    ("背景红色", "背景绿色", "背景蓝色", "背景红色离散度", "背景绿色离散度", "背景蓝色离散度", "边缘条纹",
     "8像素块效应", "模糊度", "亮度量化步长", "色度量化步长", "整体红色", "整体绿色", "整体蓝色", "整体红色离散度",
     "整体绿色离散度", "整体蓝色离散度", "每像素字节数"),
    strict=True,
))  # fmt: skip


class ShortcutConfig(Settings):
    """limit: of the AUC; it cries where the interval's lower end is above."""

    limit: float = Field(default=0.8, ge=0.5, lt=1)


@dataclass(frozen=True)
class Shortcut:
    """auc, interval: of the numbers beside the cells. whole: AUC of the whole picture's colour alone. by_chance: the
    highest AUC among reordered labels. loudest: the three numbers that tell most, each by itself. groups: how many
    were resampled."""

    auc: float
    interval: Interval
    by_chance: float
    whole: float
    loudest: tuple[tuple[str, float], ...]
    cries: bool
    limit: float = ShortcutConfig().limit
    groups: int = 0

    @property
    def low(self) -> float:
        return self.interval.low

    @property
    def high(self) -> float:
        return self.interval.high

    @property
    def told(self) -> str:
        return self.en

    @property
    def en(self) -> str:
        start = "Shortcut: " if self.cries else "No shortcut was found: "
        loud = ", ".join(f"{name} ({value:.2f})" for name, value in self.loudest)
        return (
            f"{start}background, border, blur and compression alone tell the label with AUC {self.auc:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}]; it cries where the lower end is above {self.limit:g}. "
            f"The loudest: {loud}. The whole picture's colour, which the disease may change too: {self.whole:.3f}."
        )

    @property
    def zh(self) -> str:
        start = "发现捷径：" if self.cries else "未发现捷径："
        loud = "、".join(f"{ZH[name]}（{value:.2f}）" for name, value in self.loudest)
        return (
            f"{start}仅凭背景、边缘、模糊度和压缩即可判断标签，AUC {self.auc:.3f}"
            f"[{self.low:.3f}, {self.high:.3f}]；下限高于{self.limit:g}即报警。最强：{loud}。"
            f"整体颜色（病变也会改变）：{self.whole:.3f}。"
        )


def look(
    images: NDArray[np.uint8] | Iterable[tuple[Pixels, bytes | None]],
    positive: NDArray[np.intp],
    groups: NDArray[Any],
    seed: int = 0,
    config: ShortcutConfig | None = None,
) -> Shortcut:
    """positive (n,) 0 or 1; groups (n,): what stays on one side of a split. Pictures are taken one by one.

    Raises ValueError where a label stands in fewer than two groups.
    """
    limit = (config or ShortcutConfig()).limit
    pairs = ((image, None) for image in images) if isinstance(images, np.ndarray) else images
    x = np.array([numbers(pixels, encoded) for pixels, encoded in pairs])  # (n, 18)
    unit = np.unique(groups, return_inverse=True)[1]
    _check(x, positive, unit)
    beside, whole = x[:, : len(BESIDE)], x[:, len(BESIDE) :]
    tallier = Tallier(_unseen(beside, positive, unit, seed), positive)
    interval = statistic(lambda weights: auc(tallier(weights)), Draws(len(x), RESAMPLES, seed, unit))
    chance = max(_reordered(beside, positive, unit, seed))
    alone = [(name, _apart(column, positive)) for name, column in zip(BESIDE, beside.T, strict=True)]
    return Shortcut(
        auc=interval.value,
        interval=interval,
        by_chance=chance,
        whole=_auc(_unseen(whole, positive, unit, seed), positive),
        loudest=tuple(sorted(alone, key=lambda one: -one[1])[:3]),
        cries=bool(interval.low > limit and interval.value > chance),
        limit=limit,
        groups=int(unit.max()) + 1,
    )


def numbers(pixels: Pixels, encoded: bytes | None = None) -> Floats:
    """(18,) BESIDE and WHOLE of one picture; what the encoded bytes would tell is 0 where they are not known."""
    part = pixels[::2, ::2].reshape(-1, 3).astype(np.float64)
    grey = pixels.mean(-1, dtype=np.float32)
    flat = _flat(grey)
    bright = part.mean(1)
    glass = part[bright >= np.quantile(bright, LIGHT)]
    beside = [*glass.mean(0), *glass.std(0), _streaks(grey), _blocks(grey, flat), _blur(grey, flat), *_steps(encoded)]
    weight = len(encoded or b"") / (pixels.shape[0] * pixels.shape[1])
    return np.array([*beside, *part.mean(0), *part.std(0), weight])


def _flat(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(h - 2, w - 2) the half of the inner pixels around which, seven by seven, least happens."""
    from scipy.ndimage import uniform_filter

    steps = uniform_filter(np.hypot(*np.gradient(grey)), 7)[1:-1, 1:-1]
    flat: NDArray[np.bool_] = steps <= np.median(steps)
    return flat


def _streaks(grey: NDArray[np.float32]) -> float:
    """Share of the border's lines, STRIP long and square to it, that hardly vary: padding, or pixels copied out."""
    strips = (grey[:STRIP], grey[-STRIP:], grey[:, :STRIP].T, grey[:, -STRIP:].T)
    return float(np.mean([(strip.std(0) < SMOOTH).mean() for strip in strips]))


def _blocks(grey: NDArray[np.float32], flat: NDArray[np.bool_]) -> float:
    """Steps at every eighth pixel against the others, wherever the grid begins: above 0 where JPEG was coarse."""
    found = []
    for turned, here in ((grey, flat), (grey.T, flat.T)):
        steps = np.abs(np.diff(turned, axis=0))[:-1, 1:-1] * here
        mean = steps.sum(1) / np.maximum(here.sum(1), 1)
        phases = [mean[phase::8].mean() for phase in range(8)]
        found.append((max(phases) + 1e-3) / (np.median(phases) + 1e-3))
    return float(np.log(np.mean(found)))


def _blur(grey: NDArray[np.float32], flat: NDArray[np.bool_]) -> float:
    """Logarithm of the Laplacian's energy to the gradient's, which contrast does not change."""
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    gradient = (inner - grey[:-2, 1:-1]) ** 2 + (inner - grey[1:-1, :-2]) ** 2
    return float(np.log(((laplacian**2)[flat].mean() + 1e-3) / (gradient[flat].mean() + 1e-3)))


def _steps(encoded: bytes | None) -> tuple[float, float]:
    """The mean step of a JPEG's tables of brightness and of colour; 0 where it is no JPEG or is not known."""
    if encoded is None:
        return 0.0, 0.0
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as opened:
        tables = getattr(opened, "quantization", {})
    steps = [float(np.mean(tables[at])) for at in sorted(tables)]
    return (steps[0], steps[-1]) if steps else (0.0, 0.0)


def _unseen(x: Floats, positive: NDArray[np.intp], unit: NDArray[np.intp], seed: int) -> Floats:
    """(n,) log-odds of a logistic model over the numbers and their squares, each row from a fit without its group."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, *(len(np.unique(unit[positive == label])) for label in (0, 1)))
    said = np.zeros(len(x))
    for learn, rest in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(x, positive, unit):
        if len(np.unique(positive[learn])) < 2:
            continue  # tells nothing, and says so
        middle, spread = x[learn].mean(0), x[learn].std(0) + 1e-9
        even = np.clip((x - middle) / spread, -5, 5)
        even = np.concatenate([even, even**2 - 1], 1)
        model = LogisticRegression(C=0.3, max_iter=500, class_weight="balanced").fit(even[learn], positive[learn])
        said[rest] = model.decision_function(even[rest])
    return said


def _reordered(x: Floats, positive: NDArray[np.intp], unit: NDArray[np.intp], seed: int) -> list[float]:
    """AUCs where the groups' labels come in another order, and those of a group too: what luck tells of so few."""
    rng = np.random.default_rng(seed)
    by_group = np.argsort(unit, kind="stable")
    blocks = np.split(positive[by_group], np.flatnonzero(np.diff(unit[by_group])) + 1)
    found = []
    for _ in range(REORDERED):
        labels = np.empty_like(positive)
        labels[by_group] = np.concatenate([rng.permutation(blocks[place]) for place in rng.permutation(len(blocks))])
        enough = all(len(np.unique(unit[labels == label])) >= 2 for label in (0, 1))
        found.append(_auc(_unseen(x, labels, unit, seed), labels) if enough else 0.5)
    return found


def _auc(score: Floats, positive: NDArray[np.intp]) -> float:
    return float(auc(Tallier(score, positive)(np.ones((1, len(score)))))[0])


def _apart(score: Floats, positive: NDArray[np.intp]) -> float:
    """AUC in whichever direction tells."""
    found = _auc(score, positive)
    return max(found, 1 - found)


def _check(x: Floats, positive: NDArray[np.intp], unit: NDArray[np.intp]) -> None:
    if not len(x) == len(positive) == len(unit):
        raise ValueError(
            f"There are {len(x)} pictures, {len(positive)} labels and {len(unit)} groups; give as many of each."
        )
    if not set(np.unique(positive).tolist()) <= {0, 1}:
        raise ValueError(f"The labels hold {np.unique(positive)[:5].tolist()}; they must be 0 or 1.")
    for label in (0, 1):
        count = len(np.unique(unit[positive == label]))
        if count < 2:
            raise ValueError(f"Label {label} stands in {count} groups; two at least are needed to look for a shortcut.")
