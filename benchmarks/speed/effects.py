"""Measure what model monitoring costs: counting each decision, drift tests, AUC and calibration of the outcomes.

    python -m benchmarks.speed.effects

All figures are processor time, the best of several rounds, because other load only adds to it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

ROUNDS, ROWS, INPUTS = 15, 4_000, 60
OUTCOMES = 100_000
MAX_COUNT_MICROSECONDS, MAX_DRIFT_SECONDS = 5.0, 5.0  # goals: us per decision; s for the drift tests of sixty inputs


def main() -> int:
    """Print the figures; the exit status is 1 where a goal is missed."""
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    from serving.governance.monitoring import statistics

    per_answer, longest_hold = measure_counting()
    print(f"counting one decision of {INPUTS} inputs  {per_answer:6.2f} us (goal: at most {MAX_COUNT_MICROSECONDS:g})")
    print(f"  longest block of the event loop     {longest_hold:6.2f} ms")
    rng = np.random.default_rng(0)
    old = [rng.multinomial(10_000, [0.1] * 10 + [0.0]) for _ in range(INPUTS)]
    new = [rng.multinomial(50_000, [0.1] * 10 + [0.0]) for _ in range(INPUTS)]
    drift = best_time(lambda: statistics.drift_tests([str(i) for i in range(INPUTS)], old, new), 3)
    print(f"drift of {INPUTS} inputs                    {drift:6.2f} s (goal: at most {MAX_DRIFT_SECONDS:g})")
    pd = rng.beta(2, 20, OUTCOMES)
    bad = rng.random(OUTCOMES) < pd
    print(f"AUC of {OUTCOMES:,} outcomes             {best_time(lambda: statistics.auc(pd, bad), 3) * 1e3:6.1f} ms")
    print(
        f"calibration of {OUTCOMES:,} outcomes     {best_time(lambda: statistics.calibration(pd, bad), 3) * 1e3:6.1f} "
        "ms"
    )
    return 0 if per_answer <= MAX_COUNT_MICROSECONDS and drift <= MAX_DRIFT_SECONDS else 1


def measure_counting() -> tuple[float, float]:
    """(us per decision, ms of the longest single call)."""
    from datasets.schema import ColumnSchema
    from models.drift import fit_bins
    from serving.decisions.input_counts import InputCounter

    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, INPUTS + 4)).astype(np.float32)
    rows, pd = x.tolist(), rng.beta(2, 20, ROWS).tolist()
    columns = [ColumnSchema(name=f"x{i}") for i in range(INPUTS)]
    card = SimpleNamespace(drift=fit_bins(columns, x[:, :INPUTS], x[:, :INPUTS], np.array(pd)), model="m", version="1")
    model: Any = SimpleNamespace(card=card, digest="d" * 64, inputs=list(range(INPUTS)))
    predictions = [{"decision": "approve", "pd": probability} for probability in pd]
    longest_calls = []

    def run() -> None:
        counter = InputCounter(None)  # type: ignore[arg-type]  # nothing is flushed
        longest_call = 0.0
        for row, prediction in zip(rows, predictions, strict=True):
            started = time.thread_time()
            counter.add_row(model, "tenant", row, prediction)
            longest_call = max(longest_call, time.thread_time() - started)
        longest_calls.append(longest_call)

    def measure_overhead() -> None:
        """Measure the loop and its clock alone."""
        longest_call = 0.0
        for _ in zip(rows, predictions, strict=True):
            started = time.thread_time()
            longest_call = max(longest_call, time.thread_time() - started)

    return (best_time(run, ROUNDS) - best_time(measure_overhead, ROUNDS)) / ROWS * 1e6, min(longest_calls) * 1e3


def best_time(fn: Callable[[], Any], rounds: int) -> float:
    """Processor seconds of the fastest of so many rounds."""
    times = []
    for _ in range(rounds):
        started = time.thread_time()
        fn()
        times.append(time.thread_time() - started)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
