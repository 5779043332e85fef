"""How well the shell gate finds the shells of a SIMULATED zone, and how that falls as they hide better.

    python -m benchmarks.shells [--companies 20000] [--seed 1001]

For each degree of hiding: the precision at a recall of .9 (the fewest points that reach it), of the gate's points and,
side by side on the same companies, of what a single list would give (companies at the address, companies that share an
officer, months of zero filing); then precision and recall of the gate's own two verdicts. Policy and rules were chosen
on other seeds. A shell is what the simulator made one: real shells hide in ways that nobody here has thought of.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

POLICY = Path(__file__).parents[1] / "configs" / "policies" / "scitech_risk.toml"
HIDING = (0.0, 0.3, 0.6, 0.9)
RECALL = 0.9
SINGLE = ("address_companies", "officer_companies", "zero_filing_months")

Floats = NDArray[np.float64]


def precision_at(score: Floats, shell: NDArray[np.bool_], recall: float = RECALL) -> tuple[float, float]:
    """(precision, recall) of score >= the highest cut that reaches the recall; companies of equal score go together."""
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(shell[order])
    last = np.r_[score[order][1:] != score[order][:-1], True]
    reached = found / shell.sum()
    at = int(np.flatnonzero(last & (reached >= recall))[0])
    return float(found[at] / (at + 1)), float(reached[at])


def row(frame: pl.DataFrame, hiding: float) -> str:
    from models.policy.arithmetic import Arrays
    from models.scitech_risk.limit_formula import INDICATORS
    from models.scitech_risk.policy import Policy
    from models.scitech_risk.shell_gate import Gate

    shell = frame["is_shell"].to_numpy() > 0
    with np.errstate(invalid="ignore"):
        gated = Gate(Policy.load(POLICY).gate, Arrays).work(
            {name: frame[name].cast(pl.Float64).to_numpy() for name in INDICATORS}
        )
    precision, recall = precision_at(gated.points, shell)
    told = [f"{hiding:6.1f} {int(shell.sum()):7,}   {precision:.3f} ({recall:.3f})"]
    for name in SINGLE:
        told.append(f"{precision_at(frame[name].fill_null(0).to_numpy(), shell)[0]:10.3f}")
    for verdict in (gated.review, gated.block):
        held = np.broadcast_to(verdict, len(shell))
        told.append(f"   {shell[held].mean() if held.any() else np.nan:.3f} / {held[shell].mean():.3f}")
    return "".join(told)


def main() -> int:
    from datasets.scitech_risk.register.schema import assemble
    from datasets.scitech_risk.register.simulator import zone

    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--companies", type=int, default=20_000)
    words.add_argument("--seed", type=int, default=1_001)
    asked = words.parse_args()
    print(f"SIMULATED zone of {asked.companies:,} companies, seed {asked.seed}; precision at recall {RECALL}")
    print("hiding  shells   gate (recall)   address  officers  zero filing   review+: precision / recall   block")
    for hiding in HIDING:
        parts = zone(asked.companies, asked.seed, hiding)
        print(row(assemble(parts, simulated=True).frame, hiding), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
