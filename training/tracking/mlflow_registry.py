"""What came from what: every run, its data, code, figures and bundle, in MLflow on SQLite.

    var/mlflow.db      runs and the registry           var/mlartifacts    reports and signed bundles

A registered version's artefact is the signed bundle itself, so there is no second, unsigned copy of a model. MLflow
takes seconds to import, so nothing here does until a Registry is made.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.card import Data

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
BATCH = 90  # parameters or metrics in one call; MLflow takes 100 and 1,000
LONGEST = 5_000  # characters of a tag's value


class NotRegistered(LookupError):
    """No such model or version in the registry."""


@dataclass(frozen=True)
class Version:
    """A registered version: `number` is MLflow's, `bundle` the name of its bundle's folder."""

    model: str
    number: str
    bundle: str
    aliases: tuple[str, ...]
    auc: str
    gate: str  # "passed", or why not
    forced: str  # the reason, where a person made it the champion all the same
    created: str
    simulated: bool


class Registry:
    """MLflow under `var`; made there on first use."""

    client: MlflowClient

    def __init__(self, var: Path):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, or it looks up a host
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        var = var.resolve()
        var.mkdir(parents=True, exist_ok=True)
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)  # one line for each of eighty migrations
        store = f"sqlite:///{var / 'mlflow.db'}"
        self.client = MlflowClient(store, store)
        self.artifacts = var / "mlartifacts"

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> Run:
        """A run under way, in an experiment of that name."""
        known = self.client.get_experiment_by_name(experiment)
        place = (self.artifacts / experiment).as_uri()
        number = known.experiment_id if known else self.client.create_experiment(experiment, artifact_location=place)
        info = self.client.create_run(number, run_name=name, tags={k: v[:LONGEST] for k, v in tags.items()}).info
        return Run(self.client, info.run_id, info.artifact_uri)

    def register(self, model: str, run: Run, bundle: str, tags: Mapping[str, str]) -> str:
        """Register the bundle that the run recorded under `bundle/`; returns the version's number."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_registered_model(model)
        except MlflowException:
            self.client.create_registered_model(model)
        told = {name: value[:LONGEST] for name, value in {"bundle": bundle, **tags}.items()}
        version = self.client.create_model_version(model, f"{run.artifacts}/bundle", run.id, tags=told)
        return str(version.version)

    def versions(self, model: str | None = None) -> list[Version]:
        """Newest first; all models, or one."""
        found = self.client.search_model_versions(f"name = '{model}'" if model else None, max_results=1_000)
        aliases = {m: dict(self.client.get_registered_model(m).aliases) for m in {version.name for version in found}}
        told = [
            Version(
                model=version.name,
                number=str(version.version),
                bundle=version.tags.get("bundle", ""),
                aliases=tuple(sorted(a for a, n in aliases[version.name].items() if str(n) == str(version.version))),
                auc=version.tags.get("auc", ""),
                gate=version.tags.get("gate", ""),
                forced=version.tags.get("forced", ""),
                created=time.strftime("%Y-%m-%d %H:%M", time.gmtime(version.creation_timestamp / 1_000)),
                simulated=version.tags.get("simulated") == "true",
            )
            for version in found
        ]
        return sorted(told, key=lambda version: (version.model, -int(version.number)))

    def find(self, model: str, version: str) -> Version:
        """By number, by bundle, or by alias; raises NotRegistered."""
        known = self.versions(model)
        for candidate in known:
            if version in (candidate.number, candidate.bundle, *candidate.aliases):
                return candidate
        names = ", ".join(f"{v.number} ({v.bundle})" for v in known) or "none"
        raise NotRegistered(f"{model} has no version {version!r}. Known: {names}. See: python -m training models")

    def alias(self, model: str, alias: str, number: str) -> None:
        self.client.set_registered_model_alias(model, alias, number)

    def unalias(self, model: str, alias: str) -> None:
        self.client.delete_registered_model_alias(model, alias)

    def tag(self, model: str, number: str, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self.client.set_model_version_tag(model, number, name, value[:LONGEST])

    def forget(self, model: str, number: str) -> None:
        """Take a version back that a failed run registered."""
        self.client.delete_model_version(model, number)


@dataclass(frozen=True)
class Run:
    """One training under way. `artifacts` is where its files go, as a URI."""

    client: MlflowClient
    id: str
    artifacts: str

    def params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        known = [Param(named(name), str(value)[:LONGEST]) for name, value in flat(params).items()]
        for start in range(0, len(known), BATCH):
            self.client.log_batch(self.id, params=known[start : start + BATCH])

    def metrics(self, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1_000)
        known = [Metric(named(name), value, now, 0) for name, value in metrics.items()]
        for start in range(0, len(known), BATCH):
            self.client.log_batch(self.id, metrics=known[start : start + BATCH])

    def inputs(self, data: Sequence[Data], context: str = "training") -> None:
        """The data sets, each with its digest. context: what they were read for."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        self.client.log_inputs(
            self.id,
            [
                DatasetInput(
                    dataset=Dataset(
                        name=one.name,
                        digest=one.sha256[:36],  # the longest that MLflow keeps; the whole is in the tags
                        source_type="local",
                        source=one.source,
                        profile=f'{{"num_rows": {one.rows}}}',
                    ),
                    tags=[
                        InputTag("mlflow.data.context", context),
                        InputTag("sha256", one.sha256),
                        InputTag("split_sha256", one.split_sha256),
                        InputTag("split", one.split),
                        InputTag("licence", one.licence),
                        InputTag("simulated", str(one.simulated).lower()),
                    ],
                )
                for one in data
            ],
        )

    def tags(self, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self.client.set_tag(self.id, name, value[:LONGEST])

    def files(self, folder: Path, under: str) -> None:
        self.client.log_artifacts(self.id, str(folder), under)

    def end(self, failed: str = "") -> None:
        """Close the run; `failed` says why where it failed."""
        if failed:
            self.tags({"error": failed})
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


def named(name: str) -> str:
    """A name that MLflow takes: letters of any script, digits, and a few signs."""
    plain = "".join(sign if sign.isalnum() or sign in "_-. /" else "_" for sign in name)
    return plain[:200].replace("..", "._").strip("/")


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{"split": {"how": "rows"}} -> {"split.how": "rows"}."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found


def commit(folder: Path = Path(__file__).parent) -> str:
    """The git commit of the code, '+' behind it where files differ from it; empty outside a repository."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, encoding="utf-8", timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None  # no git here: the card then says no commit
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    return "" if not head else head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def versions(*more: str) -> dict[str, str]:
    """Of the libraries that make a model, and of `more` packages."""
    from importlib.metadata import version
    from platform import python_version

    packages = ("lightgbm", "numpy", "onnx", "onnxruntime", "polars", "scikit-learn", *more)
    return {"python": python_version(), **{package: version(package) for package in packages}}
