"""What was found of a model that reads slides, as the numbers that its pictures are drawn from."""

from __future__ import annotations

import numpy as np

from models.evaluation_summary import Plots
from training.reporting.pathology_plots import Picture
from training.reporting.plot_data import curve, reliability, roc, spread


def plots(picture: Picture) -> Plots:
    main, judged = picture.main, picture.judgement
    curves = [roc("model", main.y, main.stated, judged.main.figures["auc"])]
    if judged.tiles is not None:
        curves.append(roc("tiles", picture.cells.y, picture.cells.stated, judged.tiles.figures["auc"]))
    epochs = np.arange(1, len(picture.history) + 1)
    losses = {name: np.array([getattr(epoch, name) for epoch in picture.history]) for name in ("learned", "held")}
    return Plots(
        unit=main.unit,
        rows=judged.main.rows,
        roc=tuple(curves),
        reliability=reliability(judged.main.bins),
        spread=spread("probability", main.stated, main.y, main.point.threshold),
        line=main.point.threshold,
        learning=tuple(curve(name, epochs, loss) for name, loss in losses.items() if np.isfinite(loss).all()),
    )
