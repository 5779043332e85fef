"""The one road of every model: read, split, fit, export, prove, judge, sign, record, and ask the gate.

    var/bundles/<model>/<version>/   the signed bundle            var/reports/<model>/<version>/   card, plots, figures
    var/mlflow.db, var/mlartifacts   runs, data sets, registry    var/keys                         the signing key

A run that fails leaves no bundle and no registered version, and is marked failed in MLflow.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from datasets import leaks
from datasets.faults import DataError
from datasets.split import Split, split_groups, split_rows, split_time
from datasets.table import nearest
from models import bundle
from models.card import Card, Head
from models.graph import Graph, Scores
from training import card_text, export, gate
from training.judge import Case, Judgement, judge
from training.lineage import CHALLENGER, CHAMPION, Registry, Run, commit, versions
from training.metrics import Draws
from training.progress import Watch
from training.recipe import Answers, Fit, Recipe, RoadConfig, Rows

REPORT = "card.md"


@dataclass(frozen=True)
class Made:
    """A trained, judged, signed and recorded model, and whether it serves now."""

    model: str
    version: str  # of the bundle
    number: str  # in the registry
    run: str
    folder: Path  # the bundle
    report: Path  # the model card
    judgement: Judgement
    verdict: gate.Verdict
    seconds: dict[str, float]

    @property
    def alias(self) -> str:
        return CHAMPION if self.verdict.passed else CHALLENGER


def train(recipe: Recipe, config: RoadConfig, var: Path, watch: Watch) -> Made:
    """All of it, in an MLflow run."""
    policy = config.policy.read_bytes()
    with watch.step("open the registry"):
        registry = Registry(var)
        private, public = bundle.make_keys(var / "keys")
    run = registry.start(config.name, config.name, {"product": recipe.PRODUCT, "git_commit": commit()})
    version = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{run.id[:6]}"
    trip = _Trip(recipe, config, policy, var, watch, registry, run, version, private, public)
    try:
        made = trip.go()
    except BaseException as error:  # Ctrl-C too: whatever stops a run, nothing of it may stay
        trip.take_back()
        run.end(failed=f"{type(error).__name__}: {error}")
        raise
    run.end()
    return made


@dataclass
class _Trip:
    recipe: Recipe
    config: RoadConfig
    policy: bytes
    var: Path
    watch: Watch
    registry: Registry
    run: Run
    version: str
    private: Path
    public: Path
    number: str = ""

    @property
    def bundles(self) -> Path:
        return self.var / "bundles" / self.config.name

    @property
    def report(self) -> Path:
        return self.var / "reports" / self.config.name / self.version

    def go(self) -> Made:
        rows, split = self._read()
        fit = self.recipe.train(self.config, rows, split, self.watch)
        with self.watch.step("export: compile the graph"):
            exported = export.export(fit)
            graph = Graph(exported.graph, threads=self.config.judge.threads)
        with self.watch.step("export: prove that it is the model") as tick:
            parity = export.parity(fit, graph, fit.x[split.test], self.config.seed, tick)
        scores, contributions = self._score(graph, fit, split)
        card = self._card(rows, split, fit, exported.head, scores, contributions)
        case, answers = self._case(rows, split, fit, card, scores)
        variants = self.recipe.variants(self.config, rows, split, self.watch)
        judgement = judge(case, self.config.judge, self.watch, variants, answers.referred)
        verdict = self._ask_the_gate(rows, split, fit, case, judgement, parity)
        card = card.model_copy(update={"metrics": judgement.json() | {"parity": parity}})
        self._write_report(card, case, judgement, verdict, contributions[split.test], rows)
        with self.watch.step("sign"):
            folder = bundle.write(
                self.bundles / self.version,
                graph=exported.graph,
                card=card,
                policy=self.policy,
                private_key=self.private,
            )
            bundle.load(folder, self.public)  # as serving will
        with self.watch.step("record"):
            self._record(rows, fit, card, judgement, verdict, parity)
        if verdict.passed:
            promote(self.registry, self.var, self.config.name, self.number, self.version)
        else:
            self.registry.alias(self.config.name, CHALLENGER, self.number)
            bundle.point(self.bundles, CHALLENGER, self.version)
        return Made(
            model=self.config.name,
            version=self.version,
            number=self.number,
            run=self.run.id,
            folder=folder,
            report=self.report / REPORT,
            judgement=judgement,
            verdict=verdict,
            seconds=dict(self.watch.seconds),
        )

    def _read(self) -> tuple[Rows, Split]:
        with self.watch.step("read"):
            rows = self.recipe.read(self.config)
        if rows.data.simulated:
            self.watch.say(f"  {rows.data.name}: SIMULATED data 模拟数据", style="bold yellow")
        for remark in rows.remarks:
            self.watch.say(f"  {remark}", style="yellow")
        with self.watch.step("look for leaks"):
            told = [f"possible leak: {leak.column}: {leak.why}" for leak in leaks.find(rows.frame, rows.table)]
        for line in told:
            self.watch.say(f"  {line}", style="bold red")
        rows = replace(rows, remarks=(*rows.remarks, *told))
        return rows, split_as_told(self.config, rows)

    def _score(self, graph: Graph, fit: Fit, split: Split) -> tuple[Scores, np.ndarray]:
        """Scores of all rows, and the contributions (rows, inputs) in raw-score units."""
        with self.watch.step("score with the graph"):
            scores = graph.run(fit.x, reasons=True)
        assert scores.contributions is not None
        return scores, scores.contributions

    def _card(self, rows: Rows, split: Split, fit: Fit, head: Head, scores: Scores, contributions: np.ndarray) -> Card:
        data = rows.data.model_copy(update={"split": split.how, "split_sha256": split.sha256})
        return Card(
            product=self.recipe.PRODUCT,
            model=self.config.name,
            version=self.version,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            simulated=data.simulated,
            purpose=self.config.purpose,
            not_for=self.config.not_for,
            horizon=self.config.horizon,
            inputs=fit.columns,
            also=fit.also,
            target=rows.table.target.name,
            head=head,
            reference=export.reference(scores.points[split.train], contributions[split.train]),
            data=(data,),
            seed=self.config.seed,
            git_commit=commit(),
            run_id=self.run.id,
            versions=versions(),
        )

    def _case(self, rows: Rows, split: Split, fit: Fit, card: Card, scores: Scores) -> tuple[Case, Answers]:
        """Limits are those of the exported graph's scores, so what is judged is what will be served."""
        held_frame = rows.frame[split.test]
        held_scores = Scores(scores.pd[split.test], scores.points[split.test], scores.raw[split.test], None)
        with self.watch.step("decide the held-out rows"):
            answers = self.recipe.decide(card, self.policy, held_frame, held_scores)
        grouped = self.config.split.group(rows.table)
        groups = held_frame[grouped].cast(pl.String).fill_null("").to_numpy() if grouped else None
        case = Case(
            columns=fit.columns,
            x=fit.x,
            y=rows.y,
            pd=scores.pd,
            points=scores.points,
            train=split.train,
            held=split.test,
            held_frame=held_frame,
            audit=tuple(column for column in rows.table.role("audit") if column.name != grouped),
            approved_held=answers.approved,
            limit_held=answers.limit,
            terms=self.recipe.terms(self.policy),
            draws=Draws(len(split.test), self.config.judge.resamples, self.config.seed, groups),
            seed=self.config.seed,
        )
        return case, answers

    def _ask_the_gate(
        self, rows: Rows, split: Split, fit: Fit, case: Case, judgement: Judgement, parity: dict[str, float]
    ) -> gate.Verdict:
        with self.watch.step("prove the policy's guard rails"):
            faults = self.recipe.verify(self.policy, fit.columns)
        against = None
        serving = bundle.pointed(self.bundles, CHAMPION)
        if serving:
            with self.watch.step("judge the champion on the same rows"):
                against = self._champion(serving, rows, case)
        return gate.decide(judgement, self.config.gate, parity, faults, against)

    def _champion(self, serving: str, rows: Rows, case: Case) -> gate.Against:
        try:
            champion = bundle.load(self.bundles / serving, self.public)
        except bundle.BundleRefused as error:
            return gate.Against(serving, refused=str(error))
        held = case.held
        return gate.against(champion, case.held_frame, rows.table.columns, case.y[held], case.pd[held], case.draws)

    def _write_report(
        self, card: Card, case: Case, judgement: Judgement, verdict: gate.Verdict, contributions: np.ndarray, rows: Rows
    ) -> None:
        """`card.md`, `judgement.json` and `plots/`; contributions (held-out rows, inputs)."""
        self.report.mkdir(parents=True)
        plots: list[Path] = []
        if self.config.judge.plots:
            from training import plots as draw

            with self.watch.step("draw") as tick:
                picture = draw.picture(card, case, judgement, contributions)
                plots = draw.draw(self.report / "plots", picture, tick)
        told = card_text.text(card, judgement, verdict, plots, rows.remarks)
        (self.report / REPORT).write_text(told, encoding="utf-8")
        (self.report / "judgement.json").write_text(json.dumps(card.metrics, indent=1), encoding="utf-8")

    def _record(
        self, rows: Rows, fit: Fit, card: Card, judgement: Judgement, verdict: gate.Verdict, parity: dict[str, float]
    ) -> None:
        simulated = str(card.simulated).lower()
        self.run.inputs(card.data)
        self.run.params(self.config.model_dump(mode="json") | {"fitted": fit.params})
        self.run.metrics(judgement.flat() | {f"parity/{name}": value for name, value in parity.items()})
        self.run.metrics({f"seconds/{name}": value for name, value in self.watch.seconds.items()})
        self.run.files(self.report, "report")
        self.run.files(self.bundles / self.version, "bundle")
        told = {
            "auc": str(judgement.figures["auc"]),
            "gate": "passed" if verdict.passed else " | ".join(verdict.why),
            "simulated": simulated,
            "product": self.recipe.PRODUCT,
        }
        self.run.tags({"bundle": self.version, "data_sha256": card.data[0].sha256, **told})
        self.number = self.registry.register(self.config.name, self.run, self.version, told)

    def take_back(self) -> None:
        """Undo what a run has left so far, except the run itself, which tells of it."""
        if bundle.pointed(self.bundles, CHAMPION) != self.version:
            shutil.rmtree(self.bundles / self.version, ignore_errors=True)
            shutil.rmtree(self.report, ignore_errors=True)
            if self.number:
                self.registry.forget(self.config.name, self.number)


def promote(registry: Registry, var: Path, model: str, number: str, version: str) -> None:
    """Make a version the champion: the registry's alias, then the pointer that serving reads; both, or neither."""
    known = {alias: one.number for one in registry.versions(model) for alias in one.aliases}
    registry.alias(model, CHAMPION, number)
    try:
        bundle.point(var / "bundles" / model, CHAMPION, version)
    except BaseException:
        if CHAMPION in known:
            registry.alias(model, CHAMPION, known[CHAMPION])
        else:
            registry.unalias(model, CHAMPION)
        raise
    if known.get(CHALLENGER) == number:
        registry.unalias(model, CHALLENGER)
        (var / "bundles" / model / CHALLENGER).unlink(missing_ok=True)


def split_as_told(config: RoadConfig, rows: Rows) -> Split:
    """The config's split of the rows. No part is set aside for calibration: out-of-fold scores serve for that."""
    told = config.split
    shares = (1 - told.test, 0.0, told.test)
    if told.how == "rows":
        return split_rows(rows.y, config.seed, shares)
    column = told.by(rows.table)
    if column is None or column not in rows.frame.columns:
        raise DataError(
            f"split.column is {told.column!r}; a split by {told.how} needs a column of {rows.table.name}"
            f"{nearest(told.column or '', rows.frame.columns)}."
        )
    values = rows.frame[column].to_numpy()
    return (
        split_groups(values, config.seed, shares, rows.y) if told.how == "group" else split_time(values, shares, rows.y)
    )
