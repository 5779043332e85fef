"""Run a portfolio report: answer a month's register, compare and stress it, write the report and record the run.

    var/portfolio/<model>/<month>-<run>/   answers.parquet   report.html   figures.json

The folder is written atomically; a run that fails is marked as failed in MLflow and leaves nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import DataError, did_you_mean
from datasets.files.external_files import file_sha256
from datasets.scitech_risk.register.schema import TABLE
from models.card import DatasetInfo
from models.scitech_risk.stress import Shock, StressConfig, resolve_trade
from training.portfolio import labels, register_loader, report, scoring, stress
from training.portfolio.aggregates import LIMIT_EXPR
from training.portfolio.migration import read_previous
from training.portfolio.scoring import ChampionModel
from training.portfolio.summary import PortfolioData, compute_figures, flatten_metrics
from training.progress import ProgressReporter
from training.tracking.mlflow_registry import MlflowRun, Registry, git_commit

EXPERIMENT = "portfolio"
ANSWERS_FILE, REPORT_FILE, FIGURES_FILE = "answers.parquet", "report.html", "figures.json"
SIMULATED_KEY = b"yuheng.simulated"


@dataclass(frozen=True)
class PortfolioRequest:
    """What to report on. out: a folder that does not exist yet; by default one under `var`."""

    folder: Path
    model: str = scoring.PRODUCT
    previous: Path | None = None
    stress: Path = stress.CONFIG
    out: Path | None = None
    var: Path = Path("var")


@dataclass(frozen=True)
class PortfolioResult:
    """The folder and the figures of a run."""

    folder: Path
    run_id: str
    figures: dict[str, Any]
    step_seconds: dict[str, float]

    def format_summary(self) -> str:
        """The result in a few lines for a terminal."""
        headline, migration_figures = self.figures["headline"], self.figures["migration"]
        lines = [
            f"{headline['companies']:,} companies in {sum(self.step_seconds.values()):.0f} s, {headline['faulty']:,} "
            "rows "
            "with errors",
            f"  limits         RMB {report.money_en(headline['limit'])} to {headline['with_limit']:,} companies",
            f"  expected loss  RMB {report.money_en(headline['expected_loss'])} a year",
            f"  referred       {headline['referred']:,}, of them {headline['blocked']:,} blocked by the gate",
        ]
        if migration_figures:
            upgraded, downgraded = (
                report.format_percent(migration_figures["share_up"]),
                report.format_percent(migration_figures["share_down"]),
            )
            lines.append(
                f"  migration      {upgraded} up, {downgraded} down, {migration_figures['newly_blocked']:,} newly "
                "blocked"
            )
        return "\n".join([*lines, f"  {self.folder / REPORT_FILE}", f"  {self.folder / ANSWERS_FILE}"])


def run_portfolio(request: PortfolioRequest, reporter: ProgressReporter) -> PortfolioResult:
    """Answer, compare and stress a register, and write and record the report.

    Raises DataError, ConfigError, NoChampionError or BundleError; a failed run leaves no files.
    """
    if request.out is not None and request.out.exists() and (not request.out.is_dir() or any(request.out.iterdir())):
        raise DataError(f"{request.out} already exists; a run never overwrites another. Name a new folder with --out.")
    shocks = stress.load_shocks(request.stress)
    stress.verify_shocks(shocks, TABLE, str(request.stress))
    with reporter.step("verify the champion"):
        champion = scoring.load_champion(request.var, request.model)
    with reporter.step("read the register"):
        register_data = register_loader.load_register(request.folder)
    month = register_data.register.month
    simulated = register_data.register.simulated or champion.card.simulated
    if simulated:
        reporter.log("  SIMULATED 模拟数据", style="bold yellow")
    _check_columns(register_data.frame, champion, request.folder)
    previous = None
    if request.previous is not None:
        with reporter.step("read the previous run"):
            first_row = replace(register_data, frame=register_data.frame[:1], rows=register_data.rows[:1])
            sample_answers = _build_answers(
                first_row, scoring.score_register(champion, first_row.frame), champion, "", simulated
            )
            previous = read_previous(
                request.previous, sample_answers.schema, champion.card.model, month, simulated, champion.grades
            )
    with reporter.step("open the registry"):
        registry = Registry(request.var)
    tags = {
        "product": scoring.PRODUCT,
        "git_commit": git_commit(),
        "month": month,
        "model": champion.card.model,
        "version": champion.card.version,
        "bundle_sha256": champion.digest,
        "policy_version": champion.policy.version,
        "simulated": str(simulated).lower(),
    }
    run = registry.start(EXPERIMENT, f"{champion.card.model} {month}", tags)
    portfolio_run = _PortfolioRun(request, shocks, champion, register_data, simulated, previous, run, reporter)
    try:
        result = portfolio_run.execute()
    except BaseException as error:  # including Ctrl-C
        run.finish(error=f"{type(error).__name__}: {error}")
        raise
    run.finish()
    return result


@dataclass
class _PortfolioRun:
    """A run whose inputs are all read and checked."""

    request: PortfolioRequest
    shocks: StressConfig
    champion: ChampionModel
    register_data: register_loader.RegisterData
    simulated: bool
    previous: pl.DataFrame | None
    mlflow_run: MlflowRun
    reporter: ProgressReporter

    def execute(self) -> PortfolioResult:
        request, register_data, reporter = self.request, self.register_data, self.reporter
        with reporter.step(f"answer {register_data.frame.height:,} companies") as progress:
            scored = scoring.score_register(self.champion, register_data.frame, progress)
            answers = _build_answers(register_data, scored, self.champion, self.mlflow_run.id, self.simulated)
        largest = _largest_trade(answers)
        stressed_answers = []
        for shock in self.shocks.shocks:
            resolved_shock = resolve_trade(shock, largest)
            with reporter.step(f"stress: {shock.code}") as progress:
                stressed_answers.append(
                    (
                        resolved_shock,
                        scoring.score_under_shock(self.champion, register_data.frame, resolved_shock, TABLE, progress),
                    )
                )
        with reporter.step("compute figures"):
            figures = compute_figures(self._build_portfolio_data(answers, stressed_answers))
            metadata = self._build_metadata()
        output_dir = (
            request.out
            or request.var / EXPERIMENT / request.model / f"{register_data.register.month}-{self.mlflow_run.id[:6]}"
        )
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=output_dir.parent))
        try:
            with reporter.step("write the report"):
                self._write(scratch, answers, figures, metadata)
            with reporter.step("record"):
                self._record(scratch, figures, metadata)
            scratch.chmod(0o755)
            os.replace(scratch, output_dir)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return PortfolioResult(output_dir, self.mlflow_run.id, figures, dict(reporter.step_seconds))

    def _build_portfolio_data(
        self, answers: pl.DataFrame, stressed_answers: list[tuple[Shock, pl.DataFrame]]
    ) -> PortfolioData:
        policy = self.champion.policy
        return PortfolioData(
            frame=self.register_data.frame,
            answers=answers,
            previous=self.previous,
            stressed=stressed_answers,
            columns=TABLE.columns,
            trades=TABLE["trade"].levels,
            grades=self.champion.grades,
            below_floor=self.champion.below_floor,
            act_codes=frozenset(signal.code for signal in policy.act_signals),
            severity=policy.risk.lgd * policy.risk.ccf,
        )

    def _build_metadata(self) -> dict[str, Any]:
        card, policy = self.champion.card, self.champion.policy
        metrics = {name: card.metrics.get(name) for name in ("auc", "ks", "brier", "slope")}
        metric_texts = [f"{name.upper()} {metric['value']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]"
                for name, metric in metrics.items() if isinstance(metric, dict)]  # fmt: skip
        return {
            "model": card.model,
            "version": card.version,
            "bundle": self.champion.digest,
            "policy_version": policy.version,
            "month": self.register_data.register.month,
            "simulated": self.simulated,  # the register, or the model's training data
            "simulated_register": self.register_data.register.simulated,
            "created": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "trained": card.created,
            "purpose": card.purpose,
            "not_for": card.not_for,
            "judged": ", ".join(metric_texts),
            "trained_on": "; ".join(f"{data.name}, {data.rows:,} rows, SHA-256 {data.sha256}" for data in card.data),
            "lgd": policy.risk.lgd,
            "ccf": policy.risk.ccf,
            "floor": policy.risk.floor_grade,
            "first_below": self.champion.below_floor[0],
            "run": self.mlflow_run.id,
            "git_commit": git_commit(),
            "inputs": self._input_files(),
            "remarks": [(remark.en, remark.zh) for remark in self.register_data.register.remarks],
        }

    def _input_files(self) -> list[dict[str, Any]]:
        """Every input file with its digest."""
        request = self.request
        rows = {
            "companies": self.register_data.frame.height + self.register_data.faulty.height,
            "history": self.register_data.register.history.height,
        }
        files = sorted(path for path in request.folder.iterdir() if path.is_file() and not path.name.startswith("."))
        file_rows = [(path, rows.get(path.name.split(".")[0], 0)) for path in files]
        file_rows.append((request.stress, len(self.shocks.shocks)))
        if request.previous is not None and self.previous is not None:
            file_rows.append((request.previous, self.previous.height))
        return [
            {"name": path.name, "source": str(path), "rows": row_count, "sha256": file_sha256(path)}
            for path, row_count in file_rows
        ]

    def _write(self, folder: Path, answers: pl.DataFrame, figures: dict[str, Any], metadata: dict[str, Any]) -> None:
        parquet_metadata = {"yuheng.simulated": str(self.simulated).lower(), "yuheng.run": self.mlflow_run.id}
        answers.write_parquet(folder / ANSWERS_FILE, compression="zstd", metadata=parquet_metadata)
        previous_version = self.previous["version"][0] if self.previous is not None else ""
        page = report.render(
            figures,
            metadata,
            answers.select(LIMIT_EXPR).to_series().to_list(),
            labels.policy_labels(self.champion.policy),
            previous_version,
        )
        (folder / REPORT_FILE).write_text(page, encoding="utf-8")
        document = {"about": metadata, **figures}
        text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False, default=_to_json_type)
        (folder / FIGURES_FILE).write_text(text, encoding="utf-8")

    def _record(self, folder: Path, figures: dict[str, Any], metadata: dict[str, Any]) -> None:
        data = [
            DatasetInfo(name=source["name"], rows=source["rows"], sha256=source["sha256"], source=source["source"],
                 simulated=self.simulated)
            for source in metadata["inputs"]
        ]  # fmt: skip
        self.mlflow_run.log_inputs(data, context="answering")
        self.mlflow_run.log_params(
            {"stress": self.shocks.model_dump(mode="json"), "previous": str(self.request.previous or "")}
        )
        self.mlflow_run.log_metrics(flatten_metrics(figures))
        self.mlflow_run.log_files(folder, "portfolio")


def _check_columns(frame: pl.DataFrame, champion: ChampionModel, folder: Path) -> None:
    """Check that this model can answer the register; raises DataError."""
    if not frame.height:
        raise DataError(f"{folder}: every row has an error, so no company can be answered. Correct the rows.")
    card = champion.card
    missing_columns = [column.name for column in (*card.inputs, *card.also) if column.name not in frame.columns]
    if missing_columns:
        raise DataError(
            f"{folder}: {card.model} {card.version} reads {', '.join(missing_columns[:6])}, which a register does not "
            "have"
            f"{did_you_mean(missing_columns[0], frame.columns)}. Train the model again: python -m training "
            f"{card.model}; or "
            "name another one with --model."
        )


def _build_answers(
    register_data: register_loader.RegisterData,
    scored: pl.DataFrame,
    champion: ChampionModel,
    run: str,
    simulated: bool,
) -> pl.DataFrame:
    """The answers as they are written, in the order of the companies file, each with the model that gave it."""
    id_columns = register_data.frame.select("company_id", "trade").insert_column(0, register_data.rows)
    scored_rows = pl.concat([id_columns, scored], how="horizontal")
    all_rows = pl.concat([scored_rows, register_data.faulty], how="diagonal").sort("row")
    model_columns = {
        "month": register_data.register.month,
        "model": champion.card.model,
        "version": champion.card.version,
        "bundle": champion.digest,
        "policy_version": champion.policy.version,
        "simulated": simulated,
    }
    all_rows = all_rows.with_columns(pl.lit(value).alias(name) for name, value in model_columns.items())
    return all_rows.insert_column(1, all_rows.select(decision_id=pl.format(run + "-{}", "row")).to_series())


def _largest_trade(answers: pl.DataFrame) -> str:
    """The trade with the largest sum of limits; the first by name where several are equal."""
    limits_by_trade = answers.drop_nulls("trade").group_by("trade").agg(LIMIT_EXPR.sum())
    return (
        ""
        if limits_by_trade.is_empty()
        else str(limits_by_trade.sort(["limit", "trade"], descending=[True, False])["trade"][0])
    )


def _to_json_type(value: Any) -> Any:
    """Convert numpy's numbers for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written to {FIGURES_FILE}")
