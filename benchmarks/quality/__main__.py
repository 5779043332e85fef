"""Compare the explainable PD with published results on real tables, and with what its constraints cost.

    YUHENG_DATA=../shared/data python -m benchmarks.quality                      # every table, about 40 minutes
    YUHENG_DATA=../shared/data python -m benchmarks.quality --data german        # one; or polish, sba_scitech, sba_case
    ... --jobs 2 --out var/quality.json                                          # two processes; results as JSON

See benchmarks.quality.credit for the tables of credit and benchmarks.quality.companies for those of companies. An
interval of nine splits is the 95 % t-interval with the variance of Nadeau and Bengio (2003), because splits share rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from benchmarks.quality import companies, credit
from benchmarks.quality.splits import SPLIT_COUNT

T = TypeVar("T")


def main(argv: list[str]) -> int:
    """Run the studies of the chosen tables."""
    credit_tables, company_tables = credit.load(), companies.load()
    table_names = [*credit_tables, *company_tables]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=[*table_names, "all"], default="all")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes, one fit each")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    args = parser.parse_args(argv)
    names = table_names if args.data == "all" else [args.data]
    results = {}
    with ProcessPoolExecutor(args.jobs) as pool:
        for name in names:
            if name in company_tables:
                company_tasks = companies.list_tasks(name, company_tables[name])
                pairs = list(
                    zip(
                        company_tasks,
                        _show_progress(name, pool.map(companies.fit_and_score, company_tasks), len(company_tasks)),
                        strict=True,
                    )
                )
                lines, results[name] = companies.report(name, company_tables[name], pairs)
            else:
                tasks = [
                    credit.Task(name, model, split_index)
                    for model in credit.MODELS
                    for split_index in range(SPLIT_COUNT)
                ]
                scores: dict[str, list[credit.FitResult]] = {model: [] for model in credit.MODELS}
                for task, result in zip(
                    tasks, _show_progress(name, pool.map(credit.fit_and_score, tasks), len(tasks)), strict=True
                ):
                    scores[task.model].append(result)
                lines, results[name] = credit.report(name, credit_tables[name], scores)
            print("\r" + "\n".join(lines), flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


def _show_progress(name: str, results: Iterator[T], count: int) -> Iterator[T]:
    """Pass the results on, and print their number on a terminal."""
    for completed, result in enumerate(results, start=1):
        if sys.stderr.isatty():
            print(f"\r{name}: {completed} of {count} fits", end="", file=sys.stderr, flush=True)
        yield result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
