"""Record every run with its data, code, metrics and bundle, and register its model, in MLflow on SQLite.

    var/mlflow.db      runs and the registry           var/mlartifacts    reports and signed bundles

The artefact of a registered version is the signed bundle itself, so there is no second, unsigned copy of a model.
MLflow takes seconds to import, so it is imported only when a Registry is created.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.card import DatasetInfo

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
MAX_BATCH_SIZE = 90  # parameters or metrics in one call; MLflow accepts 100 and 1,000
MAX_TAG_LENGTH = 5_000  # characters of a tag's value


class NotRegisteredError(LookupError):
    """The registry has no such model or version."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered version: `number` is MLflow's, `bundle` the name of its folder."""

    model: str
    number: str
    bundle: str
    aliases: tuple[str, ...]
    auc: str
    gate: str  # "passed", or why not
    forced: str  # the reason, where a person promoted it although the gate was not passed
    created: str
    simulated: bool


class Registry:
    """The MLflow runs and registry under `var`, created on first use."""

    client: MlflowClient

    def __init__(self, var: Path):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, or it looks up a host
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        var = var.resolve()
        var.mkdir(parents=True, exist_ok=True)
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they log each of eighty migrations
        tracking_uri = f"sqlite:///{var / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri, tracking_uri)
        self.artifacts = var / "mlartifacts"

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> MlflowRun:
        """Start a run in the experiment of that name, which is created if needed."""
        existing = self.client.get_experiment_by_name(experiment)
        artifact_uri = (self.artifacts / experiment).as_uri()
        experiment_id = (
            existing.experiment_id
            if existing
            else self.client.create_experiment(experiment, artifact_location=artifact_uri)
        )
        info = self.client.create_run(
            experiment_id, run_name=name, tags={k: v[:MAX_TAG_LENGTH] for k, v in tags.items()}
        ).info
        return MlflowRun(self.client, info.run_id, info.artifact_uri)

    def register(self, model: str, run: MlflowRun, bundle: str, tags: Mapping[str, str]) -> str:
        """Register the bundle that the run logged under `bundle/`; returns the number of the version."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_registered_model(model)
        except MlflowException:
            self.client.create_registered_model(model)
        version_tags = {name: value[:MAX_TAG_LENGTH] for name, value in {"bundle": bundle, **tags}.items()}
        version = self.client.create_model_version(model, f"{run.artifacts}/bundle", run.id, tags=version_tags)
        return str(version.version)

    def list_versions(self, model: str | None = None) -> list[RegisteredVersion]:
        """The versions of one model, or of all, newest first."""
        model_versions = self.client.search_model_versions(f"name = '{model}'" if model else None, max_results=1_000)
        aliases = {
            m: dict(self.client.get_registered_model(m).aliases) for m in {version.name for version in model_versions}
        }
        registered = [
            RegisteredVersion(
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
            for version in model_versions
        ]
        return sorted(registered, key=lambda version: (version.model, -int(version.number)))

    def find(self, model: str, version: str) -> RegisteredVersion:
        """Find a version by number, bundle or alias. Raises NotRegisteredError."""
        candidates = self.list_versions(model)
        for candidate in candidates:
            if version in (candidate.number, candidate.bundle, *candidate.aliases):
                return candidate
        names = ", ".join(f"{v.number} ({v.bundle})" for v in candidates) or "none"
        raise NotRegisteredError(
            f"{model} has no version {version!r}. Known versions: {names}. See: python -m training models"
        )

    def set_alias(self, model: str, alias: str, number: str) -> None:
        """Point an alias at a version."""
        self.client.set_registered_model_alias(model, alias, number)

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove an alias."""
        self.client.delete_registered_model_alias(model, alias)

    def set_tags(self, model: str, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version, cut to MLflow's length."""
        for name, value in tags.items():
            self.client.set_model_version_tag(model, number, name, value[:MAX_TAG_LENGTH])

    def delete_version(self, model: str, number: str) -> None:
        """Remove a version that a failed run registered."""
        self.client.delete_model_version(model, number)


@dataclass(frozen=True)
class MlflowRun:
    """A run in progress. `artifacts` is the URI of its files."""

    client: MlflowClient
    id: str
    artifacts: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested ones get dotted names. One whose name MLflow does not accept gets a digest of it."""
        from mlflow.entities import Param

        entries = [Param(unique_name(name), str(value)[:MAX_TAG_LENGTH]) for name, value in flatten(params).items()]
        for start in range(0, len(entries), MAX_BATCH_SIZE):
            self.client.log_batch(self.id, params=entries[start : start + MAX_BATCH_SIZE])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log metrics under names that MLflow accepts."""
        from mlflow.entities import Metric

        timestamp_ms = int(time.time() * 1_000)
        entries = [Metric(sanitize_name(name), value, timestamp_ms, 0) for name, value in metrics.items()]
        for start in range(0, len(entries), MAX_BATCH_SIZE):
            self.client.log_batch(self.id, metrics=entries[start : start + MAX_BATCH_SIZE])

    def log_inputs(self, data: Sequence[DatasetInfo], context: str = "training") -> None:
        """Log data sets with their digests; `context` says what they were read for."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        self.client.log_inputs(
            self.id,
            [
                DatasetInput(
                    dataset=Dataset(
                        name=source.name,
                        digest=source.sha256[:36],  # the most that MLflow stores; the tags have the full digest
                        source_type="local",
                        source=source.source,
                        profile=f'{{"num_rows": {source.rows}}}',
                    ),
                    tags=[
                        InputTag("mlflow.data.context", context),
                        InputTag("sha256", source.sha256),
                        InputTag("split_sha256", source.split_sha256),
                        InputTag("split", source.split),
                        InputTag("licence", source.licence),
                        InputTag("simulated", str(source.simulated).lower()),
                    ],
                )
                for source in data
            ],
        )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run, cut to MLflow's length."""
        for name, value in tags.items():
            self.client.set_tag(self.id, name, value[:MAX_TAG_LENGTH])

    def log_files(self, folder: Path, artifact_path: str) -> None:
        """Copy a folder to the run's artefacts."""
        self.client.log_artifacts(self.id, str(folder), artifact_path)

    def finish(self, error: str = "") -> None:
        """Close the run; a non-empty `error` marks it as failed."""
        if error:
            self.set_tags({"error": error})
        self.client.set_terminated(self.id, "FAILED" if error else "FINISHED")


def sanitize_name(name: str) -> str:
    """Replace the characters that MLflow does not accept in a name; letters of any script are accepted."""
    sanitized = "".join(character if character.isalnum() or character in "_-. /" else "_" for character in name)
    return sanitized[:200].replace("..", "._").strip("/")


def unique_name(name: str) -> str:
    """A name that MLflow accepts; two names that differ only in what it does not accept stay two."""
    sanitized = sanitize_name(name)
    return name if sanitized == name else f"{sanitized[:190]} {hashlib.sha256(name.encode()).hexdigest()[:8]}"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested settings into dotted names: {"split": {"how": "rows"}} -> {"split.how": "rows"}."""
    flattened: dict[str, Any] = {}
    for name, value in settings.items():
        flattened |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flattened


def git_commit(folder: Path = Path(__file__).parent) -> str:
    """The git commit of the code, followed by '+' where files differ from it; empty outside a repository."""

    def git(*args: str) -> str | None:
        try:
            completed = subprocess.run(
                ["git", "-C", str(folder), *args], capture_output=True, encoding="utf-8", timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None  # without git the card states no commit
        return completed.stdout.strip() if completed.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    return "" if not head else head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def package_versions(*extra_packages: str) -> dict[str, str]:
    """The versions of Python, of the libraries that every model uses, and of `extra_packages`."""
    from importlib.metadata import version
    from platform import python_version

    packages = ("lightgbm", "numpy", "onnx", "onnxruntime", "polars", "scikit-learn", *extra_packages)
    return {"python": python_version(), **{package: version(package) for package in packages}}
