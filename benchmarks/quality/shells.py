"""Measure how well the shell gate finds the shells of a SIMULATED zone, depending on how well they hide.

    python -m benchmarks.quality.shells [--companies 20000] [--seed 1001]

For each degree of hiding: the precision at a recall of 0.9 of the gate's points and, on the same companies, of single
indicators (companies at the address, companies that share an officer, months of zero filing); then precision and recall
of the gate's two verdicts. Policy and rules were tuned on other seeds. A shell is what the simulator defines as one:
real shells hide in ways that the simulator does not know.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

POLICY = Path(__file__).parents[2] / "configs" / "policies" / "scitech_risk.toml"
HIDING_DEGREES = (0.0, 0.3, 0.6, 0.9)
TARGET_RECALL = 0.9
SINGLE_INDICATORS = ("address_companies", "officer_companies", "zero_filing_months")

Floats = NDArray[np.float64]


def precision_at(score: Floats, is_shell: NDArray[np.bool_], recall: float = TARGET_RECALL) -> tuple[float, float]:
    """(precision, recall) at the highest cutoff that reaches the recall; companies of equal score stay together."""
    order = np.argsort(-score, kind="stable")
    found_counts = np.cumsum(is_shell[order])
    is_last_of_ties = np.r_[score[order][1:] != score[order][:-1], True]
    recalls = found_counts / is_shell.sum()
    index = int(np.flatnonzero(is_last_of_ties & (recalls >= recall))[0])
    return float(found_counts[index] / (index + 1)), float(recalls[index])


def format_row(frame: pl.DataFrame, hiding: float) -> str:
    """One line of the table: the companies of a zone with one degree of hiding."""
    from models.policy.arithmetic import ArrayOps
    from models.scitech_risk.assessments.shell_gate import ShellGate
    from models.scitech_risk.limit_formula import INDICATORS
    from models.scitech_risk.policy import Policy

    is_shell = frame["is_shell"].to_numpy() > 0
    with np.errstate(invalid="ignore"):
        gate_result = ShellGate(Policy.load(POLICY).gate, ArrayOps).evaluate(
            {name: frame[name].cast(pl.Float64).to_numpy() for name in INDICATORS}
        )
    precision, recall = precision_at(gate_result.points, is_shell)
    cells = [f"{hiding:6.1f} {int(is_shell.sum()):7,}   {precision:.3f} ({recall:.3f})"]
    for name in SINGLE_INDICATORS:
        cells.append(f"{precision_at(frame[name].fill_null(0).to_numpy(), is_shell)[0]:10.3f}")
    for flags in (gate_result.review, gate_result.block):
        is_flagged = np.broadcast_to(flags, len(is_shell))
        cells.append(
            f"   {is_shell[is_flagged].mean() if is_flagged.any() else np.nan:.3f} / {is_flagged[is_shell].mean():.3f}"
        )
    return "".join(cells)


def main() -> int:
    from datasets.scitech_risk.register.reader import build_register
    from datasets.scitech_risk.register.simulator import simulate_zone

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--companies", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1_001)
    args = parser.parse_args()
    print(f"SIMULATED zone of {args.companies:,} companies, seed {args.seed}; precision at recall {TARGET_RECALL}")
    print("hiding  shells   gate (recall)   address  officers  zero filing   review+: precision / recall   block")
    for hiding in HIDING_DEGREES:
        tables = simulate_zone(args.companies, args.seed, hiding)
        print(format_row(build_register(tables, simulated=True).frame, hiding), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
