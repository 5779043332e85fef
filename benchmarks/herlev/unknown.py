"""Are colon tiles called unlike Pap cells? Where the distance is taken is chosen on breast tiles; colon only judges.

For each ordered pair (k, j) of folds: what is known are the cells of the other two folds, the threshold (5 % false
alarms) comes from the cells of j, false alarms are counted on the cells of k. Each fold is k three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.herlev import networks, parts
from benchmarks.herlev.networks import FOLDS, VIEWS, View
from benchmarks.herlev.parts import Floats
from datasets.pathology import herlev
from models.pathology.abstention import FALSE_ALARMS, Familiar

STILL = (View("cell", 0.1, 96, "efficientnet_lite0"), View("nucleus", 0.3, 96, "efficientnet_lite0"))
ASKED = 0.9  # share of colon tiles


def report(cells: herlev.Cells) -> Iterator[str]:
    """Lines for people: each way's share of breast tiles, then the chosen way's share of colon tiles."""
    shares = {name: _shares(cells, name) for name in _ways()}
    yield f"Out of distribution, {FALSE_ALARMS:.0%} false alarms meant; mean over 12 pairs of folds (least)"
    for name, found in shares.items():
        breast, alarms = found["breast"], found["alarms"]
        yield f"  {name:42} breast {breast.mean():.3f} ({breast.min():.3f})  false alarms {alarms.mean():.3f}"
    chosen = max(shares, key=lambda name: (shares[name]["breast"].mean().round(3), -shares[name]["alarms"].mean()))
    colon = shares[chosen]["colon"]
    yield f"  chosen on breast tiles: {chosen}; colon {colon.mean():.3f} ({colon.min():.3f}), {ASKED} is asked for"
    rest = {name: found["colon"].mean() for name, found in shares.items() if name != chosen}
    yield "  colon by the others, for the record: " + ", ".join(f"{name} {share:.3f}" for name, share in rest.items())


def _ways() -> list[str]:
    learned = [view for view in VIEWS if all(_tuned(view, pair).exists() for pair in networks.learned_folds()[4:])
               and "strange_colon" in np.load(_tuned(view, networks.learned_folds()[4]))]  # fmt: skip
    return [*(f"frozen {view.name}" for view in STILL), *(f"tuned {view}" for view in learned)]


def _tuned(view: str, folds: tuple[int, ...]) -> Path:
    return networks.place(VIEWS[view], folds, 0)


def _shares(cells: herlev.Cells, way: str) -> dict[str, Floats]:
    """breast, colon: share called unknown; alarms: share of cells; each (12,)."""
    found: dict[str, list[float]] = {"breast": [], "colon": [], "alarms": []}
    for judge in FOLDS:
        for calibrate in FOLDS:
            if calibrate == judge:
                continue
            learned = tuple(fold for fold in FOLDS if fold not in (judge, calibrate))
            own, others = _embeddings(cells, way, learned)
            far = Familiar.fit(own[np.isin(cells.folds, learned)], own[cells.folds == calibrate])
            for name, rows in {**others, "alarms": own[cells.folds == judge]}.items():
                found[name].append(float(far.unknown(rows).mean()))
    return {name: np.array(values) for name, values in found.items()}


def _embeddings(cells: herlev.Cells, way: str, learned: tuple[int, ...]) -> tuple[Floats, dict[str, Floats]]:
    """(734, 1280) of the cells, and of the strange pictures by name."""
    kind, name = way.split(" ", 1)
    if kind == "tuned":
        kept = np.load(networks.place(VIEWS[name], learned, 0))
        return kept["embedding"], {other: kept[f"strange_{other}"] for other in ("breast", "colon")}
    view = next(one for one in STILL if one.name == name)
    return parts.embedding(cells, view), {other: _still(view, other) for other in ("breast", "colon")}


def _still(view: View, other: str) -> Floats:
    """As ImageNet left it; the same pictures whichever part of a cell is cut out."""

    def make() -> Floats:
        from models.pathology.network import NetConfig, TileNet
        from training.pathology.train_network import predict

        net = TileNet(NetConfig(backbone=view.backbone, side=view.side))
        return predict(net, networks.strange(view.side)[other], turns=networks.TURNS)[1].astype(np.float64)

    return parts.kept(f"strange-{other}-{view.side}-{view.backbone}", make)
