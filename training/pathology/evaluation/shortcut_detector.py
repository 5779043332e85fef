"""Detect a shortcut in labelled images: do light, glass, focus and file predict the label without any cell?

result = detect(images, positive, groups)              # (n, h, w, 3) uint8, or pairs of (pixels, encoded bytes | None)
result.flagged, result.en, result.zh

A data set collected on two days under two lamps teaches a network the lamps, and every metric measured on it is wrong
(SurePath fields of Hussain et al.: three background colours separate normal from abnormal). So a small model is fitted
to simple features without any shape, and its AUC is measured on groups that it was not fitted to.

A shortcut is flagged where two conditions hold. The lower end of the AUC's interval over resampled groups is above the
limit (0.8: four pairs in five are ranked correctly without any cell), so that a few lucky groups do not suffice. And
the AUC exceeds that of all 19 permutations of the labels, in blocks as large as the groups: chance alone would do so
once in twenty. This matters where groups are few and large, for an interval over them is then too short.

Stain is part of the disease too (dark nuclei: hyperchromasia), and so is the size of the file, so the colour and the
bytes of the whole image are reported separately and do not flag: a high AUC there is a question for a pathologist, not
yet a fault. Blur and block artefacts are measured where an image is flat, away from the edges of cells.

The images must be given as they were taken. A crop scaled to its nucleus carries the size of the nucleus in its blur,
and has no glass: Herlev's cells are not flagged as they were taken (AUC 0.66), and are flagged as crops of the nucleus.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.metrics import Interval, auc
from training.config import ConfigSection
from training.evaluation import metrics
from training.evaluation.metrics import BootstrapSamples, ScoreCounter, bootstrap_interval

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB
Floats = NDArray[np.float64]

FOLDS = 5
PERMUTATIONS = 19  # all with a lower AUC: p = 0.05
RESAMPLES = 300
GLASS_QUANTILE = 0.9  # quantile of brightness above which a pixel counts as glass
BORDER_STRIP = 8  # px at the border, where padding and streaks lie
FLAT_STD = 1.5  # grey levels; a replicated line varies less
COLORS = ("red", "green", "blue")

NUISANCE_FEATURES = (  # unrelated to any cell
    *(f"background {colour}" for colour in COLORS),
    *(f"background {colour} spread" for colour in COLORS),
    "streaks at the border",
    "blocks of 8 px",
    "blur",
    "coarseness of brightness",
    "coarseness of colour",
)
REPORTED_FEATURES = (  # the disease may change these too
    *(f"whole {colour}" for colour in COLORS),
    *(f"whole {colour} spread" for colour in COLORS),
    "bytes per pixel",
)
FEATURE_NAMES_ZH = dict(zip(
    NUISANCE_FEATURES + REPORTED_FEATURES,
    ("背景红色", "背景绿色", "背景蓝色", "背景红色离散度", "背景绿色离散度", "背景蓝色离散度", "边缘条纹",
     "8像素块效应", "模糊度", "亮度量化步长", "色度量化步长", "整体红色", "整体绿色", "整体蓝色", "整体红色离散度",
     "整体绿色离散度", "整体蓝色离散度", "每像素字节数"),
    strict=True,
))  # fmt: skip


class ShortcutConfig(ConfigSection):
    """limit: AUC that the lower end of the interval must exceed to flag a shortcut."""

    limit: float = Field(default=0.8, ge=0.5, lt=1)


@dataclass(frozen=True)
class ShortcutResult:
    """auc, interval: of the nuisance features. permutation_auc: the highest AUC among permuted labels. reported_auc: of
    the whole image's colour and bytes. top_features: the three nuisance features with the highest AUC of their own.
    groups: how many were resampled."""

    auc: float
    interval: Interval
    permutation_auc: float
    reported_auc: float
    top_features: tuple[tuple[str, float], ...]
    flagged: bool
    limit: float = ShortcutConfig().limit
    groups: int = 0

    @property
    def low(self) -> float:
        return self.interval.low

    @property
    def high(self) -> float:
        return self.interval.high

    @property
    def en(self) -> str:
        """The result as a sentence."""
        prefix = "Shortcut: " if self.flagged else "No shortcut was found: "
        features = ", ".join(f"{name} ({value:.2f})" for name, value in self.top_features)
        return (
            f"{prefix}background, border, blur and compression alone predict the label with AUC {self.auc:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}]; a shortcut is flagged where the lower end is above {self.limit:g}. "
            f"Strongest: {features}. Colour of the whole image, which the disease may change too: "
            f"{self.reported_auc:.3f}."
        )

    @property
    def zh(self) -> str:
        """The result as a sentence in Chinese."""
        prefix = "发现捷径：" if self.flagged else "未发现捷径："
        features = "、".join(f"{FEATURE_NAMES_ZH[name]}（{value:.2f}）" for name, value in self.top_features)
        return (
            f"{prefix}仅凭背景、边缘、模糊度和压缩即可判断标签，AUC {self.auc:.3f}"
            f"[{self.low:.3f}, {self.high:.3f}]；下限高于{self.limit:g}即判定存在捷径。最强：{features}。"
            f"整体颜色（病变也会改变）：{self.reported_auc:.3f}。"
        )


def detect(
    images: NDArray[np.uint8] | Iterable[tuple[Pixels, bytes | None]],
    positive: NDArray[np.intp],
    groups: NDArray[Any],
    seed: int = 0,
    config: ShortcutConfig | None = None,
) -> ShortcutResult:
    """Look for a shortcut. positive (n,) 0 or 1; groups (n,): rows that stay on one side of a split.

    Images are read one by one. Raises ValueError where a label occurs in fewer than two groups.
    """
    limit = (config or ShortcutConfig()).limit
    pairs = ((image, None) for image in images) if isinstance(images, np.ndarray) else images
    x = np.array([image_features(pixels, encoded) for pixels, encoded in pairs])  # (n, 18)
    group_index = np.unique(groups, return_inverse=True)[1]
    _check_inputs(x, positive, group_index)
    nuisance, reported = x[:, : len(NUISANCE_FEATURES)], x[:, len(NUISANCE_FEATURES) :]
    counter = ScoreCounter(_out_of_fold_scores(nuisance, positive, group_index, seed), positive)
    interval = bootstrap_interval(
        lambda weights: metrics.auc(counter(weights)), BootstrapSamples(len(x), RESAMPLES, seed, group_index)
    )
    permutation_auc = max(_permutation_aucs(nuisance, positive, group_index, seed))
    feature_aucs = [
        (name, _separation_auc(column, positive)) for name, column in zip(NUISANCE_FEATURES, nuisance.T, strict=True)
    ]
    return ShortcutResult(
        auc=interval.value,
        interval=interval,
        permutation_auc=permutation_auc,
        reported_auc=auc(_out_of_fold_scores(reported, positive, group_index, seed), positive == 1),
        top_features=tuple(sorted(feature_aucs, key=lambda feature_auc: -feature_auc[1])[:3]),
        flagged=bool(interval.low > limit and interval.value > permutation_auc),
        limit=limit,
        groups=int(group_index.max()) + 1,
    )


def image_features(pixels: Pixels, encoded: bytes | None = None) -> Floats:
    """(18,) nuisance and reported features of one image (h, w, 3); those of the file are 0 where `encoded` is None."""
    sampled = pixels[::2, ::2].reshape(-1, 3).astype(np.float64)
    grey = pixels.mean(-1, dtype=np.float32)
    flat_mask = _flat_mask(grey)
    brightness = sampled.mean(1)
    glass = sampled[brightness >= np.quantile(brightness, GLASS_QUANTILE)]
    nuisance = [
        *glass.mean(0),
        *glass.std(0),
        _border_streaks(grey),
        _block_artifacts(grey, flat_mask),
        _blur_level(grey, flat_mask),
        *_quantization_steps(encoded),
    ]
    bytes_per_pixel = len(encoded or b"") / (pixels.shape[0] * pixels.shape[1])
    return np.array([*nuisance, *sampled.mean(0), *sampled.std(0), bytes_per_pixel])


def _flat_mask(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(h - 2, w - 2) the half of the inner pixels with the smallest gradient in their 7 x 7 neighbourhood."""
    from scipy.ndimage import uniform_filter

    gradients = uniform_filter(np.hypot(*np.gradient(grey)), 7)[1:-1, 1:-1]
    flat_mask: NDArray[np.bool_] = gradients <= np.median(gradients)
    return flat_mask


def _border_streaks(grey: NDArray[np.float32]) -> float:
    """Share of the lines perpendicular to the border, BORDER_STRIP long, that hardly vary: padding or replication."""
    strips = (grey[:BORDER_STRIP], grey[-BORDER_STRIP:], grey[:, :BORDER_STRIP].T, grey[:, -BORDER_STRIP:].T)
    return float(np.mean([(strip.std(0) < FLAT_STD).mean() for strip in strips]))


def _block_artifacts(grey: NDArray[np.float32], flat_mask: NDArray[np.bool_]) -> float:
    """Log-ratio of the steps at every eighth pixel to the others, at any phase; above 0 after coarse JPEG."""
    ratios = []
    for oriented, oriented_mask in ((grey, flat_mask), (grey.T, flat_mask.T)):
        steps = np.abs(np.diff(oriented, axis=0))[:-1, 1:-1] * oriented_mask
        mean = steps.sum(1) / np.maximum(oriented_mask.sum(1), 1)
        phases = [mean[phase::8].mean() for phase in range(8)]
        ratios.append((max(phases) + 1e-3) / (np.median(phases) + 1e-3))
    return float(np.log(np.mean(ratios)))


def _blur_level(grey: NDArray[np.float32], flat_mask: NDArray[np.bool_]) -> float:
    """Log-ratio of the Laplacian's energy to the gradient's, which does not depend on contrast."""
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    gradient = (inner - grey[:-2, 1:-1]) ** 2 + (inner - grey[1:-1, :-2]) ** 2
    return float(np.log(((laplacian**2)[flat_mask].mean() + 1e-3) / (gradient[flat_mask].mean() + 1e-3)))


def _quantization_steps(encoded: bytes | None) -> tuple[float, float]:
    """Mean of a JPEG's luminance and of its chrominance quantisation table; 0 where the file is no JPEG or unknown."""
    if encoded is None:
        return 0.0, 0.0
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        tables = getattr(image, "quantization", {})
    steps = [float(np.mean(tables[table_id])) for table_id in sorted(tables)]
    return (steps[0], steps[-1]) if steps else (0.0, 0.0)


def _out_of_fold_scores(x: Floats, positive: NDArray[np.intp], group_index: NDArray[np.intp], seed: int) -> Floats:
    """(n,) log-odds of a logistic model on the features and their squares, fitted without the row's group."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, *(len(np.unique(group_index[positive == label])) for label in (0, 1)))
    scores = np.zeros(len(x))
    for train_rows, test_rows in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(
        x, positive, group_index
    ):
        if len(np.unique(positive[train_rows])) < 2:
            continue  # nothing to learn from; the scores stay 0
        mean, deviation = x[train_rows].mean(0), x[train_rows].std(0) + 1e-9
        features = np.clip((x - mean) / deviation, -5, 5)
        features = np.concatenate([features, features**2 - 1], 1)
        model = LogisticRegression(C=0.3, max_iter=500, class_weight="balanced").fit(
            features[train_rows], positive[train_rows]
        )
        scores[test_rows] = model.decision_function(features[test_rows])
    return scores


def _permutation_aucs(x: Floats, positive: NDArray[np.intp], group_index: NDArray[np.intp], seed: int) -> list[float]:
    """AUCs after permuting the labels between groups and within each: what chance alone reaches."""
    rng = np.random.default_rng(seed)
    by_group = np.argsort(group_index, kind="stable")
    blocks = np.split(positive[by_group], np.flatnonzero(np.diff(group_index[by_group])) + 1)
    aucs = []
    for _ in range(PERMUTATIONS):
        labels = np.empty_like(positive)
        labels[by_group] = np.concatenate(
            [rng.permutation(blocks[block_index]) for block_index in rng.permutation(len(blocks))]
        )
        has_enough_groups = all(len(np.unique(group_index[labels == label])) >= 2 for label in (0, 1))
        scores = _out_of_fold_scores(x, labels, group_index, seed) if has_enough_groups else np.zeros(len(x))
        aucs.append(auc(scores, labels == 1))
    return aucs


def _separation_auc(score: Floats, positive: NDArray[np.intp]) -> float:
    """AUC of a feature in the better direction."""
    auc_value = auc(score, positive == 1)
    return max(auc_value, 1 - auc_value)


def _check_inputs(x: Floats, positive: NDArray[np.intp], group_index: NDArray[np.intp]) -> None:
    if not len(x) == len(positive) == len(group_index):
        raise ValueError(
            f"There are {len(x)} images, {len(positive)} labels and {len(group_index)} groups; one of each per image "
            "is "
            "expected."
        )
    if not set(np.unique(positive).tolist()) <= {0, 1}:
        raise ValueError(f"The labels are {np.unique(positive)[:5].tolist()}; 0 or 1 is expected.")
    for label in (0, 1):
        count = len(np.unique(group_index[positive == label]))
        if count < 2:
            raise ValueError(f"Label {label} occurs in {count} groups; at least two are needed to look for a shortcut.")
