"""The same questions put to every model, on rows that it never saw.

Nothing here knows how a model was fitted: it gets outcomes, the exported graph's scores, the answers, and the audit
columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from datasets.schema import Column
from training.config import Settings
from training.evaluation import baselines, fairness
from training.evaluation.metrics import Draws, Interval, Tallier, auc, difference, measures, psi
from training.evaluation.profit import Profit, Terms, profit
from training.progress import Watch

BINS = 10  # of equal rows, in the calibration plot
BESIDE = {
    "scorecard": "plain scorecard: logistic regression on weight of evidence",
    "unconstrained": "unconstrained LightGBM: what exact reasons cost",
    "with_moral_data": "this model with the moral groups as inputs; never served",
    "with_shell_flags": "this model with the shell flags as inputs; never served",
}


class JudgeConfig(Settings):
    """How closely to look."""

    resamples: int = Field(default=300, ge=20)
    smallest_group: int = Field(default=200, ge=20)  # rows of an audit group that is looked at by itself
    scorecard: bool = True
    unconstrained: bool = True
    unread: bool = True  # fit once more with what the product's PD must not read, to say what it would add
    plots: bool = True
    threads: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Case:
    """What a model is judged on: arrays of all rows, or of the held-out ones where the name says so, as `draws` are."""

    columns: tuple[Column, ...]
    x: np.ndarray
    y: np.ndarray
    pd: np.ndarray
    points: np.ndarray
    train: np.ndarray  # positions
    held: np.ndarray  # positions
    held_frame: pl.DataFrame
    audit: tuple[Column, ...]
    approved_held: np.ndarray
    limit_held: np.ndarray
    terms: Terms
    draws: Draws
    seed: int = 0


@dataclass(frozen=True)
class Beside:
    """Another model on the same rows; `less` is our AUC less its own."""

    what: str
    pd: np.ndarray
    auc: Interval
    less: Interval


@dataclass(frozen=True)
class Bin:
    """Held-out rows of like PD: their mean PD, share of bad ones, and its 95 % interval (Wilson 1927)."""

    rows: int
    pd: float
    bad: Interval


@dataclass(frozen=True)
class Judgement:
    """Everything found. `groups` are those of the audit attributes; `remarks` what could not be asked."""

    rows: int
    train_rows: int
    bad_rate: float
    figures: dict[str, Interval]
    train_auc: float
    bins: list[Bin]
    psi: dict[str, float]
    groups: list[fairness.Group]
    beside: dict[str, Beside]
    profit: Profit
    cleared: float  # share of the held-out rows at or above the approval line
    approved: float
    median_limit: float
    referred: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def flat(self) -> dict[str, float]:
        """Finite figures by name, as a run records them."""
        found = {"rows": float(self.rows), "bad_rate": self.bad_rate, "train_auc": self.train_auc}
        for name, value in self.figures.items():
            found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        for name, other in self.beside.items():
            found |= {f"beside/{name}/auc": other.auc.value, f"beside/{name}/ours_less": other.less.value}
        for group in self.groups:
            where = f"group/{group.attribute}/{group.value}"
            found |= {
                f"{where}/auc": group.figures["auc"].value,
                f"{where}/approval_ratio": group.approval_ratio.value,
                f"{where}/limit_ratio_at_equal_pd": group.limit_ratio_at_equal_pd.value,
            }
        found |= {f"psi/{name}": value for name, value in self.psi.items()}
        found |= {
            "profit/at_line": self.profit.at_line.value,
            "profit/approve_all": self.profit.approve_all.value,
            "cleared": self.cleared,
            "approved": self.approved,
            "median_limit": self.median_limit,
        }
        return {name: float(value) for name, value in found.items() if np.isfinite(value)}

    def json(self) -> dict[str, Any]:
        """The same for the card, with intervals; NaN is None."""
        return {
            "rows": self.rows,
            "train_rows": self.train_rows,
            "bad_rate": self.bad_rate,
            **{name: value.json() for name, value in self.figures.items()},
            "train_auc": self.train_auc,
            "psi": self.psi,
            "beside": {
                name: {"what": b.what, "auc": b.auc.json(), "ours_less": b.less.json()}
                for name, b in self.beside.items()
            },
            "groups": [
                {
                    "attribute": g.attribute,
                    "value": g.value,
                    "rows": g.rows,
                    "bad_rate": g.bad_rate,
                    "mean_pd": g.mean_pd,
                    **{name: value.json() for name, value in g.figures.items()},
                    "approval": g.approval,
                    "approval_ratio": g.approval_ratio.json(),
                    "limit_ratio": g.limit_ratio.json(),
                    "limit_ratio_at_equal_pd": g.limit_ratio_at_equal_pd.json(),
                }
                for g in self.groups
            ],
            "profit": {
                "currency": self.profit.currency,
                "exposure": self.profit.exposure,
                "at_line": self.profit.at_line.json(),
                "approve_all": self.profit.approve_all.json(),
                "gain": self.profit.gain.json(),
                "best": self.profit.best,
                "best_cut_off": self.profit.best_cut_off,
            },
            "cleared": self.cleared,
            "approved": self.approved,
            "median_limit": self.median_limit if np.isfinite(self.median_limit) else None,
            "referred": self.referred,
            "remarks": self.remarks,
        }


def judge(
    case: Case, config: JudgeConfig, watch: Watch, variants: Mapping[str, np.ndarray], referred: dict[str, int]
) -> Judgement:
    """Put every question. `variants`: held-out PDs of fits that are never served, by a name of BESIDE."""
    held, train = case.held, case.train
    y, pd = case.y[held], case.pd[held]
    cleared = pd <= case.terms.line
    approved, remarks = case.approved_held, []
    if not approved.any():
        approved = cleared
        remarks.append("No row would be approved by a machine; audit groups compare who clears the approval line.")
    limited = np.isfinite(case.limit_held)
    others = {**_challengers(case, config, watch), **variants}
    with watch.step("judge: figures") as tick:
        figures = measures(y, pd, case.draws)
        tick(1, 3)
        beside = {
            name: Beside(
                BESIDE[name], other, measures(y, other, case.draws)["auc"], difference(y, pd, other, case.draws)
            )
            for name, other in others.items()
        }
        tick(2, 3)
        earned = profit(y, pd, case.limit_held, case.terms, case.draws)
        shifts = {"score": psi(case.points[train], case.points[held])}
        shifts |= {c.name: psi(case.x[train, i], case.x[held, i]) for i, c in enumerate(case.columns)}
    with watch.step("judge: audit groups"):
        found = list(
            fairness.groups(
                case.held_frame, case.audit, y, pd, approved, case.limit_held, case.draws, config.smallest_group
            )
        )
    return Judgement(
        rows=len(held),
        train_rows=len(train),
        bad_rate=float(y.mean()),
        figures=figures,
        train_auc=float(auc(Tallier(case.pd[train], case.y[train])(np.ones((1, len(train)))))[0]),
        bins=parts(y, pd),
        psi=shifts,
        groups=[part for part in found if isinstance(part, fairness.Group)],
        beside=beside,
        profit=earned,
        cleared=float(cleared.mean()),
        approved=float(case.approved_held.mean()),
        median_limit=float(np.median(case.limit_held[limited])) if limited.any() else np.nan,
        referred=referred,
        remarks=remarks + [part for part in found if isinstance(part, str)],
    )


def _challengers(case: Case, config: JudgeConfig, watch: Watch) -> dict[str, np.ndarray]:
    """Held-out PDs of the models that stand beside ours, on the same inputs and the same training rows."""
    x, y, held = case.x[case.train], case.y[case.train], case.x[case.held]
    found: dict[str, np.ndarray] = {}
    if config.scorecard:
        with watch.step("beside: scorecard") as tick:
            directions, names = [c.direction for c in case.columns], [c.name for c in case.columns]
            found["scorecard"] = baselines.scorecard(x, y, held, directions, names, tick)
    if config.unconstrained:
        with watch.step("beside: unconstrained LightGBM") as tick:
            found["unconstrained"] = baselines.unconstrained(x, y, held, case.seed, config.threads, tick)
    return found


def parts(y: np.ndarray, pd: np.ndarray) -> list[Bin]:
    """Rows in order of PD, in BINS equal parts."""
    rows_of = np.array_split(np.argsort(pd, kind="stable"), min(BINS, len(y)))
    return [Bin(len(rows), float(pd[rows].mean()), wilson(int(y[rows].sum()), len(rows))) for rows in rows_of]


def wilson(bad: int, rows: int, z: float = 1.96) -> Interval:
    """A share and its interval (Wilson 1927)."""
    share = bad / rows
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Interval(share, float(middle - half), float(middle + half))
