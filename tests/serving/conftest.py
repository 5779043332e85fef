"""Fixtures: a small bundle of each product, trained by the real code, and the service with them, in this process or in
one of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import psutil
import pytest
import sqlalchemy as sa

from datasets.credit_limit.county import schema as county_schema
from datasets.credit_limit.county.simulator import simulate_county as simulate
from datasets.schema import ColumnSchema, TableSchema
from datasets.scitech_risk.register import reader as register_reader
from datasets.scitech_risk.register import schema as register_schema
from datasets.scitech_risk.register.schema import Register
from models import bundle, drift
from models.card import Card, ContributionReference, ScoreHead
from models.evaluation_summary import GateVerdict
from serving import settings as settings_module
from serving.app import App
from serving.core.db.engine import create_engine
from serving.core.db.schema import DECISIONS, INDICATORS, METADATA
from serving.core.security import token_issuer
from serving.privacy.subjects import indicators as indicators_store
from serving.privacy.subjects import vault
from serving.privacy.subjects.indicators import columns_by_group, latest_as_of
from serving.privacy.subjects.ingestion import product_for_table
from serving.privacy.subjects.vault import Vault
from serving.settings import Settings
from tests import postgres
from tests.paths import ROOT

QUIET = {"ORT_DISABLE_TELEMETRY": "1", "BENTOML_DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
POLICIES = ROOT / "configs/policies"


@dataclass(frozen=True)
class Made:
    """The outcome of a training run: keys, a graph and its card."""

    private: Path
    public: Path
    graph: bytes
    card: Card

    def publish(self, bundles: Path, version: str, model: str | None = None, champion: bool = True) -> Path:
        model = self.card.product if model is None else model
        card = self.card.model_copy(update={"version": version, "model": model})
        folder = bundles / model / version
        policy = (POLICIES / f"{card.product}.toml").read_bytes()
        bundle.write_bundle(folder, graph=self.graph, card=card, policy=policy, private_key=self.private)
        if champion:
            bundle.set_alias(bundles / model, "champion", version)
        return folder


@pytest.fixture(scope="session")
def people() -> pl.DataFrame:
    """A small simulated county with every column."""
    return simulate(3_000, seed=11)


@pytest.fixture(scope="session")
def zone() -> Register:
    """A small simulated tech zone with its history by month."""
    return register_reader.sample(1_500, seed=11)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return bundle.create_signing_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def made(people: pl.DataFrame, keys: tuple[Path, Path]) -> Made:
    table = county_schema.TABLE
    moral = [column for column in table.indicators if column.group in county_schema.MORAL_GROUPS]
    inputs = [column for column in table.indicators if column not in moral and column.kind != "text"]
    also = [column for column in table.indicators if column in moral or column.kind == "text"]
    return fitted("credit_limit", people, table.target.name, inputs, (*also, table["age"]), keys)


@pytest.fixture(scope="session")
def companies(zone: Register, keys: tuple[Path, Path]) -> Made:
    """The trained model of companies."""
    table = register_schema.TABLE
    extra_groups = {"shell", "data_assets"}

    def read(column: ColumnSchema) -> bool:
        return column.group not in extra_groups and column.name != "patent_value" and column.kind != "text"

    inputs = sorted(
        (column for column in table.indicators if read(column)), key=lambda column: column.derived is not None
    )
    also = [column for column in table.indicators if not read(column)]
    return fitted("scitech_risk", zone.frame, table.target.name, inputs, also, keys)


def fitted(
    product: str,
    frame: pl.DataFrame,
    target: str,
    inputs: Sequence[ColumnSchema],
    also: Sequence[ColumnSchema],
    keys: tuple[Path, Path],
) -> Made:
    from models.feature_encoder import encode, order_levels
    from models.scorecard.scaling import ScoreScale
    from models.scorecard.unknown_inputs import assumed_codes, assumed_values
    from models.trees.estimator import BaggedTrees, EstimatorConfig
    from models.trees.forest import assume_values, merge_boosters
    from models.trees.onnx_graph import compile_graph, expected_raw_score
    from models.trees.onnx_session import TabularSession

    columns = order_levels(frame, inputs, target)
    x, y = encode(frame, columns), frame[target].to_numpy()
    estimator = BaggedTrees(EstimatorConfig(folds=2, trees=25, monotone="basic"))
    estimator.fit(x, y, directions=[column.direction for column in columns])
    unknown = import_module(f"models.{product}.policy").Policy.load(POLICIES / f"{product}.toml").unknown
    assumed = assumed_values(columns, unknown)
    forest = assume_values(merge_boosters(estimator.boosters_), assumed_codes(columns, assumed))
    slope, intercept = estimator.slope_, estimator.intercept_
    graph = compile_graph(forest, slope=slope, intercept=intercept, scale=ScoreScale(), n_features=len(columns))
    scores = TabularSession(graph.SerializeToString()).run(x, reasons=True)
    assert scores.contributions is not None
    parts = np.array_split(np.argsort(scores.points), 8)
    card = Card(
        product=product,
        model=product,
        version="0",
        created="2026-01-01T00:00:00Z",
        simulated=True,
        purpose="tests",
        not_for="anything else",
        inputs=columns,
        also=tuple(also),
        target=target,
        verdict=GateVerdict(passed=True, checks=()),
        assumed=assumed,
        drift=drift.fit_bins(columns, x, x, scores.pd),
        head=ScoreHead(slope=slope, intercept=intercept, bias=expected_raw_score(forest)),
        reference=ContributionReference(
            points=tuple(float(scores.points[indices].mean()) for indices in parts),
            contributions=tuple(tuple(scores.contributions[indices].mean(axis=0).tolist()) for indices in parts),
        ),
    )
    return Made(*keys, graph.SerializeToString(), card)


@pytest.fixture(scope="session")
def bundles(made: Made, companies: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Each product's default model, and a second one of the first. Shared: a test that adds one uses its own folder."""
    folder = tmp_path_factory.mktemp("bundles")
    made.publish(folder, "1")
    made.publish(folder, "1", model="credit_limit_second")
    companies.publish(folder, "1")
    published = sorted(folder.glob("*/*"))
    yield folder
    assert sorted(folder.glob("*/*")) == published, "a test has changed the shared bundles"


@pytest.fixture
def settings(bundles: Path, made: Made, tmp_path: Path) -> Settings:
    return settings_for(bundles, made, tmp_path)


def settings_for(bundles: Path, made: Made, folder: Path, **environ: str) -> Settings:
    return settings_module.load_settings(environ=environment(bundles, made, folder) | environ)


def environment(bundles: Path, made: Made, folder: Path) -> dict[str, str]:
    return {
        "YUHENG_BUNDLES": str(bundles),
        "YUHENG_PUBLIC_KEY": str(made.public),
        "YUHENG_STORE": str(folder / "store.db"),
        "YUHENG_SPOOL": str(folder / "spool"),
        "YUHENG_SLIDES": str(folder / "slides"),
        "YUHENG_SLIDE_INBOX": str(folder / "inbox"),
        "YUHENG_LOG_KEY": str(folder / "keys/log.pem"),
        "YUHENG_ENTRY_KEY": str(folder / "keys/entries.key"),
        "YUHENG_CHECKPOINTS": str(folder / "checkpoints"),
        "YUHENG_TOKENS": str(folder / "tokens.pem"),
        "YUHENG_ACCESS_REQUIRED": "false",
        "YUHENG_CONSENT_REQUIRED": "false",
        "YUHENG_VAULT_KEY": str(folder / "vault.key"),
        "YUHENG_CHAMPION_POLL_SECONDS": "0.1",
        "YUHENG_CHAMPION_RETRY_SECONDS": "0.3",
        "YUHENG_STORE_LOCK_TIMEOUT_SECONDS": "0.3",
        "YUHENG_CONFINEMENT_REQUIRED": os.environ.get("YUHENG_CONFINEMENT_REQUIRED", "true"),
        **postgres.store(folder),
    }


def bearer_of(settings: Settings, *roles: str, tenant: str = "local", **more: Any) -> dict[str, str]:
    """An Authorization header with these roles; a pathologist needs name and licence."""
    audience, subject = settings.access.audience, more.pop("subject", "/".join(roles))
    token = token_issuer.issue_token(
        settings.paths.tokens, audience, tenant=tenant, roles=roles, subject=subject, **more
    )
    return {"Authorization": f"Bearer {token}"}


def store_url(environ: Mapping[str, str]) -> str:
    """The URL of the store that these settings name."""
    return environ.get("YUHENG_STORE_URL") or f"sqlite:///{environ['YUHENG_STORE']}"


def rows(where: Settings | str, query: sa.Executable) -> list[Any]:
    """The rows of a query on the store, read next to the service."""
    url = where if isinstance(where, str) else where.store.url or f"sqlite:///{where.paths.store}"
    engine = create_engine(url, 5.0)
    with engine.connect().execution_options(reading=True) as connection:
        result = list(connection.execute(query))
    engine.dispose()
    return result


def vault_of(settings: Settings) -> Vault:
    return vault.open_vault(settings)


def put_subject(
    engine: sa.Engine,
    settings: Settings,
    table: TableSchema,
    subject: str,
    values: Mapping[str, Any],
    day: str = "2026-01-01",
    loaded: str = "2026-01-01T00:00:00.000Z",
) -> None:
    """Put indicators into the store, as importing a file does."""
    values_by_group = {
        group: {name: values.get(name) for name in names} for group, names in columns_by_group(table).items()
    }
    source = indicators_store.IndicatorSource(product_for_table(table.name), "x.csv", "0" * 64, True, loaded)
    with engine.begin() as connection:
        indicators_store.insert(connection, vault_of(settings), [(subject, day, values_by_group)], source)


def stored(settings: Settings, product: str, subject: str) -> dict[str, Any] | None:
    """The newest indicators of a subject in the store, of every group."""
    vault, groups = vault_of(settings), sorted({group for [group] in rows(settings, sa.select(INDICATORS.c.group))})
    engine = create_engine(settings.store.url or f"sqlite:///{settings.paths.store}", 5.0)
    with engine.connect().execution_options(reading=True) as connection:
        stored_values = latest_as_of(connection, vault, vault.pseudonym(product, subject), groups, "9999-12-31")
    engine.dispose()
    return None if stored_values is None else stored_values.values


def recorded(where: Settings | str) -> int:
    """The number of decisions in the store."""
    return int(rows(where, sa.select(sa.func.count()).select_from(DECISIONS))[0][0])


@contextmanager
def locked_store(settings: Settings) -> Iterator[None]:
    """Lock the store, as another process would: nothing can be written meanwhile."""
    engine = create_engine(settings.store.url or f"sqlite:///{settings.paths.store}", 5.0)
    with engine.begin() as connection:  # which takes SQLite's one lock
        if engine.dialect.name == "postgresql":
            names = connection.dialect.identifier_preparer
            tables = ", ".join(names.format_table(table) for table in METADATA.sorted_tables)
            connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")  # as long as it takes
            connection.exec_driver_sql(f"LOCK TABLE {tables} IN EXCLUSIVE MODE")
        yield
    engine.dispose()


Story = Callable[[httpx.AsyncClient, App], Any]


@pytest.fixture(scope="module")
def inside(bundles: Path, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Story], Any]]:
    """Run a story (client, gateway) against an application in this process that the tests of a file share."""
    with Inside(settings_for(bundles, made, tmp_path_factory.mktemp("inside"))) as running:
        yield running.run


def run_inside(settings: Settings, story: Story) -> Any:
    """Run a story against an application of its own."""
    with Inside(settings) as running:
        return running.run(story)


class Inside:
    def __init__(self, settings: Settings):
        self.gateway = App(settings)
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> Inside:
        async def start() -> None:
            self.gateway.start()

        self.loop.run_until_complete(start())
        return self

    def run(self, story: Story) -> Any:
        async def main() -> Any:
            transport = httpx.ASGITransport(self.gateway, raise_app_exceptions=False)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await story(client, self.gateway)

        return self.loop.run_until_complete(main())

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            self.gateway.stop()

        self.loop.run_until_complete(stop())
        self.loop.close()


@dataclass
class Service:
    """The real service in a process group of its own."""

    environ: dict[str, str]
    log: Path
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self, prepare: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
        """Start the process without waiting until it is ready."""
        command = [sys.executable, "-m", "serving", "serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **self.environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=prepare,
            )
        return self.process

    def start(self, *, ready: bool = True, prepare: Callable[[], None] | None = None) -> None:
        process = self.launch(prepare)
        try:
            wait_for(self.url + ("/healthz/ready" if ready else "/healthz/live"), process, self.log)
        except AssertionError:
            self.kill()
            raise

    def kill(self) -> None:
        """kill -9, for all of its processes."""
        if self.process is not None:
            with suppress(psutil.NoSuchProcess):
                tree = psutil.Process(self.process.pid)
                for process in (*tree.children(recursive=True), tree):
                    process.kill()
            self.process.wait()

    def worker(self) -> int:
        """Process id of the worker."""
        assert self.process is not None
        workers = [p.pid for p in psutil.Process(self.process.pid).children(recursive=True) if works(p)]
        assert len(workers) == 1, workers
        return int(workers[0])


def works(process: Any) -> bool:
    """Whether a process is a running worker."""
    with suppress(psutil.NoSuchProcess):
        return "_bentoml_impl.worker.service" in " ".join(process.cmdline()) and process.status() != "zombie"
    return False


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    """Wait until `url` answers 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"the service did not start:\n{log.read_text()[-3000:]}")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def service(bundles: Path, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real service, shared by tests that do not change it."""
    folder = tmp_path_factory.mktemp("service")
    shutil.copytree(bundles, folder / "bundles")
    environ = environment(folder / "bundles", made, folder) | {"YUHENG_LIMITS_HEADER_TIMEOUT_SECONDS": "1"}
    running = Service(environ, folder / "log")
    running.start()
    yield running
    running.kill()


@pytest.fixture
def own_service(made: Made, tmp_path: Path) -> Iterator[Service]:
    """A real service with bundles and a store of its own, not started yet."""
    bundles = tmp_path / "bundles"
    made.publish(bundles, "1")
    running = Service(environment(bundles, made, tmp_path), tmp_path / "log")
    yield running
    running.kill()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def applicant(people: pl.DataFrame, made: Made) -> dict[str, Any]:
    """The indicators of a household, as in a request."""
    return indicators(people, made.card, 5)


@pytest.fixture(scope="session")
def company(zone: Register, companies: Made) -> dict[str, Any]:
    """The indicators of a company, as in a request."""
    return indicators(zone.frame, companies.card, 5)


def indicators(people: pl.DataFrame, card: Card, row: int) -> dict[str, Any]:
    columns = {column.name: column for column in (*card.inputs, *card.also) if column.derived is None}
    values = people.select(list(columns)).row(row, named=True)
    integers = {name for name, column in columns.items() if column.integer}
    return {name: int(value) if name in integers else value for name, value in values.items() if value is not None}
