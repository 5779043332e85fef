"""A month's register from its folder to the committee's report: answered, compared, stressed, written and recorded.

    var/portfolio/<model>/<month>-<run>/   answers.parquet   report.html   figures.json

The folder appears whole or not at all; a run that fails is marked failed in MLflow and leaves nothing else.
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

from datasets.errors import DataError
from datasets.external_files import digest
from datasets.schema import nearest
from datasets.scitech_risk.register.schema import TABLE
from models.card import Data
from models.scitech_risk.stress import Shock, Stress, with_trade
from training.portfolio import labels, register_loader, report, stress
from training.portfolio import scoring as answering
from training.portfolio.aggregates import LIMIT
from training.portfolio.migration import read_previous
from training.portfolio.scoring import Champion
from training.portfolio.summary import Books, figures, flat
from training.progress import Watch
from training.tracking.mlflow_registry import Registry, Run, commit

EXPERIMENT = "portfolio"
ANSWERS, REPORT, FIGURES = "answers.parquet", "report.html", "figures.json"
SIMULATED_KEY = b"yuheng.simulated"


@dataclass(frozen=True)
class Asked:
    """One run's question. out: a folder that is not there yet; None: one under `var`."""

    folder: Path
    model: str = answering.PRODUCT
    previous: Path | None = None
    stress: Path = stress.CONFIG
    out: Path | None = None
    var: Path = Path("var")


@dataclass(frozen=True)
class Done:
    folder: Path
    run: str
    figures: dict[str, Any]
    seconds: dict[str, float]

    def told(self) -> str:
        """The result in a few lines."""
        head, moved = self.figures["headline"], self.figures["migration"]
        lines = [
            f"{head['companies']:,} companies in {sum(self.seconds.values()):.0f} s, {head['faulty']:,} rows faulty",
            f"  limits         RMB {report.money_en(head['limit'])} to {head['with_limit']:,} companies",
            f"  expected loss  RMB {report.money_en(head['expected_loss'])} a year",
            f"  to a person    {head['referred']:,}, of them {head['blocked']:,} blocked by the gate",
        ]
        if moved:
            up, down = report.percent(moved["share_up"]), report.percent(moved["share_down"])
            lines.append(f"  migration      {up} up, {down} down, {moved['newly_blocked']:,} newly blocked")
        return "\n".join([*lines, f"  {self.folder / REPORT}", f"  {self.folder / ANSWERS}"])


def portfolio(asked: Asked, watch: Watch) -> Done:
    """Raises DataError, SettingsRefused, NoChampion or BundleRefused, and then leaves nothing."""
    if asked.out is not None and asked.out.exists() and (not asked.out.is_dir() or any(asked.out.iterdir())):
        raise DataError(
            f"{asked.out}: is there already; a run never writes over another. Name a new folder with --out."
        )
    shocks = stress.load(asked.stress)
    stress.verify(shocks, TABLE, str(asked.stress))
    with watch.step("verify the champion"):
        held = answering.champion(asked.var, asked.model)
    with watch.step("read the register"):
        read = register_loader.read(asked.folder)
    month = read.register.month
    simulated = read.register.simulated or held.card.simulated
    if simulated:
        watch.say("  SIMULATED 模拟数据", style="bold yellow")
    _fits(read.frame, held, asked.folder)
    previous = None
    if asked.previous is not None:
        with watch.step("read the previous run"):
            one = replace(read, frame=read.frame[:1], rows=read.rows[:1])
            like = _finished(one, answering.answer(held, one.frame), held, "", simulated)
            previous = read_previous(asked.previous, like.schema, held.card.model, month, simulated, held.grades)
    with watch.step("open the registry"):
        registry = Registry(asked.var)
    tags = {"product": answering.PRODUCT, "git_commit": commit(), "month": month, "model": held.card.model,
            "version": held.card.version, "bundle_sha256": held.digest, "policy_version": held.policy.version,
            "simulated": str(simulated).lower()}  # fmt: skip
    run = registry.start(EXPERIMENT, f"{held.card.model} {month}", tags)
    trip = _Trip(asked, shocks, held, read, simulated, previous, run, watch)
    try:
        done = trip.go()
    except BaseException as error:  # Ctrl-C too
        run.end(failed=f"{type(error).__name__}: {error}")
        raise
    run.end()
    return done


@dataclass
class _Trip:
    asked: Asked
    shocks: Stress
    held: Champion
    read: register_loader.Intake
    simulated: bool
    previous: pl.DataFrame | None
    run: Run
    watch: Watch

    def go(self) -> Done:
        asked, read, watch = self.asked, self.read, self.watch
        with watch.step(f"answer {read.frame.height:,} companies") as tick:
            answered = answering.answer(self.held, read.frame, tick)
            answers = _finished(read, answered, self.held, self.run.id, self.simulated)
        largest = _largest_trade(answers)
        under = []
        for shock in self.shocks.shocks:
            named = with_trade(shock, largest)
            with watch.step(f"stress: {shock.code}") as tick:
                under.append((named, answering.under(self.held, read.frame, named, TABLE, tick)))
        with watch.step("figures"):
            found = figures(self._books(answers, under))
            about = self._about()
        out = asked.out or asked.var / EXPERIMENT / asked.model / f"{read.register.month}-{self.run.id[:6]}"
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=out.parent))
        try:
            with watch.step("draw and write"):
                self._write(scratch, answers, found, about)
            with watch.step("record"):
                self._record(scratch, found, about)
            scratch.chmod(0o755)
            os.replace(scratch, out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return Done(out, self.run.id, found, dict(watch.seconds))

    def _books(self, answers: pl.DataFrame, under: list[tuple[Shock, pl.DataFrame]]) -> Books:
        policy = self.held.policy
        return Books(
            frame=self.read.frame,
            answers=answers,
            previous=self.previous,
            under=under,
            columns=TABLE.columns,
            trades=TABLE["trade"].levels,
            grades=self.held.grades,
            below=self.held.below,
            acts=policy.acts,
            severity=policy.risk.lgd * policy.risk.ccf,
        )

    def _about(self) -> dict[str, Any]:
        card, policy = self.held.card, self.held.policy
        known = {name: card.metrics.get(name) for name in ("auc", "ks", "brier", "slope")}
        told = [f"{name.upper()} {one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}]"
                for name, one in known.items() if isinstance(one, dict)]  # fmt: skip
        return {
            "model": card.model,
            "version": card.version,
            "bundle": self.held.digest,
            "policy_version": policy.version,
            "month": self.read.register.month,
            "simulated": self.simulated,  # the register, or what the model learned from
            "simulated_register": self.read.register.simulated,
            "created": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "trained": card.created,
            "purpose": card.purpose,
            "not_for": card.not_for,
            "judged": ", ".join(told),
            "trained_on": "; ".join(f"{data.name}, {data.rows:,} rows, SHA-256 {data.sha256}" for data in card.data),
            "lgd": policy.risk.lgd,
            "ccf": policy.risk.ccf,
            "floor": policy.risk.floor_grade,
            "first_below": self.held.below[0],
            "run": self.run.id,
            "git_commit": commit(),
            "inputs": self._inputs(),
            "remarks": [(remark.en, remark.zh) for remark in self.read.register.remarks],
        }

    def _inputs(self) -> list[dict[str, Any]]:
        """Every file that was read, with its digest."""
        asked = self.asked
        rows = {
            "companies": self.read.frame.height + self.read.faulty.height,
            "history": self.read.register.history.height,
        }
        files = sorted(path for path in asked.folder.iterdir() if path.is_file() and not path.name.startswith("."))
        told = [(path, rows.get(path.name.split(".")[0], 0)) for path in files]
        told.append((asked.stress, len(self.shocks.shocks)))
        if asked.previous is not None and self.previous is not None:
            told.append((asked.previous, self.previous.height))
        return [{"name": path.name, "source": str(path), "rows": n, "sha256": digest(path)} for path, n in told]

    def _write(self, folder: Path, answers: pl.DataFrame, found: dict[str, Any], about: dict[str, Any]) -> None:
        told = {"yuheng.simulated": str(self.simulated).lower(), "yuheng.run": self.run.id}
        answers.write_parquet(folder / ANSWERS, compression="zstd", metadata=told)
        before = self.previous["version"][0] if self.previous is not None else ""
        page = report.render(
            found, about, answers.select(LIMIT).to_series().to_list(), labels.names(self.held.policy), before
        )
        (folder / REPORT).write_text(page, encoding="utf-8")
        whole = {"about": about, **found}
        text = json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False, default=_plain)
        (folder / FIGURES).write_text(text, encoding="utf-8")

    def _record(self, folder: Path, found: dict[str, Any], about: dict[str, Any]) -> None:
        data = [
            Data(name=one["name"], rows=one["rows"], sha256=one["sha256"], source=one["source"],
                 simulated=self.simulated)
            for one in about["inputs"]
        ]  # fmt: skip
        self.run.inputs(data, context="answering")
        self.run.params({"stress": self.shocks.model_dump(mode="json"), "previous": str(self.asked.previous or "")})
        self.run.metrics(flat(found))
        self.run.files(folder, "portfolio")


def _fits(frame: pl.DataFrame, held: Champion, folder: Path) -> None:
    """Raises DataError where the register cannot be answered by this model."""
    if not frame.height:
        raise DataError(f"{folder}: no company of it can be answered: every row is faulty. Correct the rows.")
    card = held.card
    lacks = [column.name for column in (*card.inputs, *card.also) if column.name not in frame.columns]
    if lacks:
        raise DataError(
            f"{folder}: {card.model} {card.version} reads {', '.join(lacks[:6])}, which a register has not"
            f"{nearest(lacks[0], frame.columns)}. Train it anew: python -m training {card.model}; or name another with "
            "--model."
        )


def _finished(
    read: register_loader.Intake, answered: pl.DataFrame, held: Champion, run: str, simulated: bool
) -> pl.DataFrame:
    """The answers as they are written, in the order of the companies file: who, what, and by which model."""
    front = read.frame.select("company_id", "trade").insert_column(0, read.rows)
    good = pl.concat([front, answered], how="horizontal")
    whole = pl.concat([good, read.faulty], how="diagonal").sort("row")
    maker = {"month": read.register.month, "model": held.card.model, "version": held.card.version,
             "bundle": held.digest, "policy_version": held.policy.version, "simulated": simulated}  # fmt: skip
    whole = whole.with_columns(pl.lit(value).alias(name) for name, value in maker.items())
    return whole.insert_column(1, whole.select(decision_id=pl.format(run + "-{}", "row")).to_series())


def _largest_trade(answers: pl.DataFrame) -> str:
    """By the sum of limits; the first by name where several are equal."""
    found = answers.drop_nulls("trade").group_by("trade").agg(LIMIT.sum())
    return "" if found.is_empty() else str(found.sort(["limit", "trade"], descending=[True, False])["trade"][0])


def _plain(value: Any) -> Any:
    """numpy's numbers as JSON's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in {FIGURES}")
