"""Build the plot data of a slide model for its signed card."""

from __future__ import annotations

import numpy as np

from models.evaluation_summary import PlotData
from training.pathology.reporting.plots import SlidePlotInputs
from training.reporting.plot_data import build_curve, build_histogram, build_reliability, build_roc


def build_plots(inputs: SlidePlotInputs) -> PlotData:
    """The plot data of the evaluation, with the learning curves."""
    main, evaluation = inputs.main, inputs.evaluation
    curves = [build_roc("model", main.y, main.positive_probability, evaluation.main.metrics["auc"])]
    if evaluation.tiles is not None:
        curves.append(
            build_roc(
                "tiles",
                inputs.tile_predictions.y,
                inputs.tile_predictions.positive_probability,
                evaluation.tiles.metrics["auc"],
            )
        )
    epochs = np.arange(1, len(inputs.history) + 1)
    losses = {
        "learned": np.array([epoch.train_loss for epoch in inputs.history]),
        "held": np.array([epoch.validation_loss for epoch in inputs.history]),
    }
    return PlotData(
        unit=main.unit,
        rows=evaluation.main.rows,
        roc=tuple(curves),
        reliability=build_reliability(evaluation.main.bins),
        spread=build_histogram("probability", main.positive_probability, main.y, main.operating_point.threshold),
        line=main.operating_point.threshold,
        learning=tuple(build_curve(name, epochs, loss) for name, loss in losses.items() if np.isfinite(loss).all()),
    )
