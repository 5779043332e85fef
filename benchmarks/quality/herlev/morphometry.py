"""Measure cells with given outlines of cell and nucleus: shapes, ratios, optical density, texture.

x = measure(cells)                    # (n, 70) float64

Following Jantzen et al. (2005), without features that need a scale: Herlev's cells were resized, so every length is
relative to another length of the same cell. Optical density is -log10 of the transmittance, relative to the brightest
tenth of the pixels outside the cell, where there are enough of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.pathology import herlev
from datasets.pathology.checksummed_folder import Images

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
RING_COUNT = 4  # from the rim of the nucleus to its centre
MIN_OUTSIDE_PIXELS = 200  # outside the cell, to estimate white


def measure(cells: herlev.Cells) -> Floats:
    """(n, 70) features of all cells."""
    return np.array([measure_cell(image, mask) for image, mask in zip(cells.images, cells.masks, strict=True)])


def measure_cell(image: Images, mask: Images) -> Floats:
    """(70,) features of one cell; image (h, w, 3) RGB, mask (h, w) with the labels of Herlev."""
    nucleus = _largest_component(mask == herlev.NUCLEUS)
    cell = nucleus | _largest_component(np.isin(mask, (herlev.NUCLEUS, herlev.CYTOPLASM)))
    cytoplasm = cell & ~nucleus
    density = _optical_density(image, mask)
    features = [np.sqrt(nucleus.sum() / cell.sum()), np.log((cytoplasm.sum() + 1) / nucleus.sum())]
    features += [*_shape_features(nucleus), *_shape_features(cell), _nucleus_offset(nucleus, cell)]
    inner, outer = (
        _color_features(density, nucleus),
        _color_features(density, cytoplasm if cytoplasm.sum() > 50 else cell),
    )
    features += [*inner, *outer, *(inner[:4] - outer[:4]), *(inner[:4] / (np.abs(outer[:4]) + 0.05))]
    features += [*_ring_features(density.mean(-1), nucleus), *_texture_features(density.mean(-1), nucleus)]
    features += [*_texture_features(density.mean(-1), cytoplasm if cytoplasm.sum() > 50 else cell)]
    return np.array(features)


def _largest_component(mask: Mask) -> Mask:
    """The largest connected component, with its holes filled."""
    from scipy import ndimage

    components, count = ndimage.label(mask)
    if count > 1:
        mask = components == 1 + int(np.argmax(np.bincount(components.ravel())[1:]))
    filled: Mask = ndimage.binary_fill_holes(mask)
    return filled


def _optical_density(image: Images, mask: Images) -> Floats:
    """(h, w, 3) optical density by colour."""
    top, bottom, left, right = herlev.content_box(image)
    inside = np.zeros(mask.shape, bool)
    inside[top:bottom, left:right] = True
    outside = inside & (mask == herlev.OUTSIDE)
    pixels = image[outside] if outside.sum() >= MIN_OUTSIDE_PIXELS else image[inside]
    white = np.quantile(pixels, 0.9 if outside.sum() >= MIN_OUTSIDE_PIXELS else 0.99, axis=0)
    density: Floats = -np.log10((image.astype(np.float64) + 1) / (white + 1))
    return density


def _shape_features(mask: Mask) -> list[float]:
    """Axis ratio, roundness, share of the bounding box, share of the enclosing disc, variation of the radius."""
    from scipy import ndimage

    coordinates = np.argwhere(mask).astype(np.float64)
    axes = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(coordinates.T)), 1e-6))
    rim = mask & ~ndimage.binary_erosion(mask)
    smooth = ndimage.gaussian_filter(mask.astype(np.float64), 1.5)
    rim_length = np.hypot(*np.gradient(smooth)).sum()  # by the coarea formula
    area = float(mask.sum())
    centre = coordinates.mean(0)
    radius = np.linalg.norm(np.argwhere(rim) - centre, axis=1)
    disc = np.pi * radius.max() ** 2
    box = np.ptp(coordinates @ _principal_axes(coordinates), axis=0) + 1
    return [axes[0] / axes[1], 4 * np.pi * area / rim_length**2, area / box.prod(), area / disc,
            radius.std() / radius.mean()]  # fmt: skip


def _principal_axes(coordinates: Floats) -> Floats:
    axes: Floats = np.linalg.eigh(np.cov(coordinates.T))[1]
    return axes


def _nucleus_offset(nucleus: Mask, cell: Mask) -> float:
    """Distance of the nucleus from the centre of the cell, relative to the cell's radius."""
    distance = np.linalg.norm(np.argwhere(nucleus).mean(0) - np.argwhere(cell).mean(0))
    return float(distance / np.sqrt(cell.sum() / np.pi))


def _color_features(density: Floats, mask: Mask) -> Floats:
    """Mean density, that of R, G and B, standard deviation, quantiles, differences from blue."""
    pixels = density[mask]
    grey = pixels.mean(1)
    mean = pixels.mean(0)
    return np.array([grey.mean(), *mean, grey.std(), *np.quantile(grey, [0.1, 0.5, 0.9]), mean[0] - mean[2],
                     mean[1] - mean[2]])  # fmt: skip


def _ring_features(grey: Floats, nucleus: Mask) -> list[float]:
    """Density of rings from the rim inwards minus the mean of the nucleus, then the step across the rim."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(nucleus)
    share = depth / depth.max()
    mean = grey[nucleus].mean()
    rings = []
    for ring in range(RING_COUNT):
        ring_mask = nucleus & (share > ring / RING_COUNT) & (share <= (ring + 1) / RING_COUNT)
        rings.append(float(grey[ring_mask].mean() - mean) if ring_mask.any() else 0.0)
    outside_distance = ndimage.distance_transform_edt(~nucleus)
    surrounding = (outside_distance > 0) & (outside_distance <= 0.25 * depth.max() + 2)
    return [*rings, float(mean - grey[surrounding].mean())]


def _texture_features(grey: Floats, mask: Mask) -> list[float]:
    """At three scales, relative to the radius of the region: contrast, skewness, density of peaks and of troughs."""
    from scipy import ndimage

    radius = np.sqrt(mask.sum() / np.pi)
    features = []
    for share in (0.06, 0.12, 0.25):
        grain = max(share * radius, 0.7)
        weight = ndimage.gaussian_filter(mask.astype(np.float64), grain) + 1e-6
        fine = ndimage.gaussian_filter(grey * mask, grain) / weight
        coarse_weight = ndimage.gaussian_filter(mask.astype(np.float64), 2 * grain) + 1e-6
        coarse = ndimage.gaussian_filter(grey * mask, 2 * grain) / coarse_weight
        band = (fine - coarse)[mask]
        size = int(2 * round(grain) + 1)
        peaks = ((fine == ndimage.maximum_filter(fine, size)) & mask).sum()
        troughs = ((fine == ndimage.minimum_filter(fine, size)) & mask).sum()
        spread = band.std()
        skew = ((band - band.mean()) ** 3).mean() / (spread**3 + 1e-9)
        features += [float(spread), float(skew), float(peaks * grain**2 / mask.sum() * 10)]
        features += [float(troughs * grain**2 / mask.sum() * 10)]
    return features


def classifiers(seed: int = 0) -> dict[str, Any]:
    """Three classifiers from the measurements to the seven classes."""
    from lightgbm import LGBMClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer
    from sklearn.svm import SVC

    def make_normaliser() -> Any:
        return QuantileTransformer(n_quantiles=100, output_distribution="normal", random_state=seed)

    return {
        "logistic": make_pipeline(make_normaliser(), LogisticRegression(C=0.1, max_iter=2_000)),
        "svm": make_pipeline(make_normaliser(), SVC(C=3.0, gamma=0.005, probability=True, random_state=seed)),
        "trees": LGBMClassifier(n_estimators=200, learning_rate=0.04, num_leaves=8, min_child_samples=10, subsample=0.7,
                                subsample_freq=1, colsample_bytree=0.3, reg_lambda=5.0, verbosity=-1, n_jobs=1,
                                random_state=seed),
    }  # fmt: skip
