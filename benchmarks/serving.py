"""One decision over HTTP, with record and reasons, beside a bare FastAPI application that only runs the same graph.

    python -m benchmarks.serving [--seconds 5] [--rounds 5]

Both are driven in turn, by one process with 16 connections, one worker each. Prints the ratio of requests a second (at
least 0.5 is asked), p50 and p99 in ms (p99 under 10 x p50), and the serving process's memory (under 400 MB).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from datasets.schema import Column

ROOT = Path(__file__).parents[1]
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "BENTOML_DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
CONNECTIONS = 16
FIELDS = 60  # of a request
BOOSTERS, TREES = 5, 120  # about what configs/credit_limit.toml ends with
TOLD = f"{BOOSTERS * TREES} trees, {CONNECTIONS} connections, one worker each"


# --- what both serve


def build(folder: Path, households: int = 6_000) -> dict[str, Any]:
    """A signed champion under `folder`, trained on a simulated county filled up to 60 fields; returns one applicant."""
    import numpy as np
    import polars as pl

    from datasets.credit_limit.county import schema
    from datasets.credit_limit.county.simulator import county as simulate
    from datasets.schema import Column

    table, people = schema.TABLE, simulate(households, seed=1)
    moral = [column for column in table.indicators if column.group in schema.MORAL_GROUPS]
    inputs = [column for column in table.indicators if column not in moral and column.kind != "text"]
    also = [*moral, *(column for column in table.indicators if column.kind == "text"), table["age"]]
    rng = np.random.default_rng(1)
    filling = [
        Column(name=f"filling_{i}", low=-10, high=10, unit="standard deviations")
        for i in range(FIELDS - len(inputs) - len(also))
    ]
    people = people.with_columns(pl.Series(column.name, rng.normal(size=households)) for column in filling)
    return publish(folder, "credit_limit", people, [*inputs, *filling], also, table.target.name)


def build_companies(folder: Path, companies: int = 6_000) -> dict[str, Any]:
    """The same, trained on a simulated zone; its own fields, more than 60, of which its PD reads most."""
    from datasets.scitech_risk.register import schema

    table = schema.TABLE
    beside = {"shell", "data_assets"}  # read by the gate and the limit
    also = [c for c in table.indicators if c.group in beside or c.name == "patent_value" or c.kind == "text"]
    inputs = sorted((c for c in table.indicators if c not in also), key=lambda column: column.derived is not None)
    frame = schema.sample(companies, seed=1).frame
    return publish(folder, "scitech_risk", frame, inputs, also, table.target.name)


def publish(
    folder: Path, product: str, frame: pl.DataFrame, inputs: list[Column], also: list[Column], target: str
) -> dict[str, Any]:
    import lightgbm
    import numpy as np

    from models import bundle
    from models.card import Card, Head, Reference
    from models.feature_encoder import encode, learn_levels
    from models.scorecard.scaling import Scale
    from models.trees.forest import merge
    from models.trees.onnx_graph import bias, compile_graph
    from models.trees.onnx_session import Graph

    columns = learn_levels(frame, inputs, target)
    x, y = encode(frame, columns), frame[target].to_numpy()
    params = {
        **{"objective": "binary", "max_depth": 3, "num_leaves": 8, "verbosity": -1, "num_threads": 1, "seed": 1},
        **{"learning_rate": 0.05, "feature_fraction": 0.5},
    }
    bag = [lightgbm.train(params | {"seed": seed}, lightgbm.Dataset(x, y), TREES) for seed in range(BOOSTERS)]
    forest = merge(bag)
    graph = compile_graph(forest, slope=1.0, intercept=0.0, scale=Scale(), n_features=len(columns)).SerializeToString()
    scores = Graph(graph).run(x, reasons=True)
    assert scores.contributions is not None
    parts = np.array_split(np.argsort(scores.points), 16)
    card = Card(
        product=product,
        model=product,
        version="benchmark",
        created="2026-01-01T00:00:00Z",
        simulated=True,
        purpose="benchmark",
        not_for="decisions",
        inputs=columns,
        also=tuple(also),
        target=target,
        head=Head(slope=1.0, intercept=0.0, bias=bias(forest)),
        reference=Reference(
            points=tuple(float(scores.points[part].mean()) for part in parts),
            contributions=tuple(tuple(scores.contributions[part].mean(axis=0).tolist()) for part in parts),
        ),
    )
    private, _ = bundle.make_keys(folder / "keys")
    policy = (ROOT / f"configs/policies/{product}.toml").read_bytes()
    place = folder / "bundles" / product
    bundle.write(place / "benchmark", graph=graph, card=card, policy=policy, private_key=private)
    bundle.point(place, "champion", "benchmark")
    forest.save_model(folder / "forest.txt")
    stated = [column for column in (*columns, *also) if column.derived is None]
    rows = frame.select(column.name for column in stated)
    rows.write_parquet(folder / "people.parquet")
    whole = {column.name for column in stated if column.integer}
    return {k: int(v) if k in whole else v for k, v in rows.row(7, named=True).items() if v is not None}


def bare_app() -> Any:
    """The application to compare with: pydantic reads the same fields, the same graph runs, the PD goes back."""
    import numpy as np
    import onnxruntime
    from fastapi import FastAPI
    from pydantic import create_model

    from models.bundle import load
    from models.feature_encoder import encode  # noqa: F401  (loaded in both)

    folder, product = Path(os.environ["BENCHMARK_FOLDER"]), os.environ["BENCHMARK_PRODUCT"]
    found = load(folder / f"bundles/{product}/benchmark", folder / "keys/signing.pub.pem")
    card = found.card
    stated = [column for column in card.inputs if column.derived is None]
    place = {column.name: at for at, column in enumerate(card.inputs)}
    made = [(c.derived, [place[n] for n in c.derived.of], [place[n] for n in c.derived.by])
            for c in card.inputs if c.derived is not None]  # fmt: skip
    kinds: dict[str, Any] = {
        column.name: ((float if column.kind == "number" else str) | None, None)
        for column in (*stated, *(column for column in card.also if column.derived is None))
    }
    Applicant = create_model("Applicant", **kinds)
    Answer = create_model("Answer", pd=(float, ...))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(found.graph, options, providers=["CPUExecutionProvider"])
    levels = [{level: i for i, level in enumerate(column.levels)} if column.levels else None for column in stated]
    names = [column.name for column in stated]
    without = np.array(False)
    app = FastAPI()

    async def pd(applicant: Any) -> Any:
        row = [
            float("nan") if (v := getattr(applicant, name)) is None else codes[v] if codes else v
            for name, codes in zip(names, levels, strict=True)
        ]
        for derived, of, by in made:
            row.append(derived.one([row[at] for at in of], [row[at] for at in by]))
        x = np.array([row], np.float32)
        return {"pd": float(session.run(["pd"], {"x": x, "with_reasons": without})[0][0])}

    pd.__annotations__ = {"applicant": Applicant}  # the class is made here, so its name means nothing to FastAPI
    app.post("/pd", response_model=Answer)(pd)
    return app


# --- who asks


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as the answer is whole; keeps each one's seconds."""

    def __init__(self, request: bytes, times: list[float], until: float):
        self.request, self.times, self.until = request, times, until
        self.waiting = b""
        self.needed = -1  # bytes of the answer, head and body
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        if self.needed < 0:
            head = self.waiting.find(b"\r\n\r\n")
            if head < 0:
                return
            if not self.waiting.startswith(b"HTTP/1.1 200"):
                self.transport.close()
                self.done.set_exception(OSError(self.waiting[:600].decode()))
                return
            lower = self.waiting[:head].lower()
            at = lower.index(b"content-length:") + 15
            self.needed = head + 4 + int(lower[at:].partition(b"\r\n")[0])
        if len(self.waiting) >= self.needed:
            now = time.perf_counter()
            self.times.append(now - self.began)
            self.waiting, self.needed = b"", -1
            if now < self.until:
                self._send()
            else:
                self.transport.close()
                self.done.set_result(None)


def ask(port: int, path: str, body: bytes, seconds: float) -> dict[str, float]:
    """Requests a second, p50 and p99 in ms."""
    import uvloop

    told = {"Host": "x", "Content-Type": "application/json", "Content-Length": len(body)}
    told["Authorization"] = f"Bearer {os.environ['BENCHMARK_TOKEN']}"
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in told.items()) + "\r\n"
    times: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        until = time.perf_counter() + seconds
        made = [
            await loop.create_connection(lambda: Connection(head.encode() + body, times, until), "127.0.0.1", port)
            for _ in range(CONNECTIONS)
        ]
        await asyncio.gather(*(protocol.done for _, protocol in made))

    uvloop.run(main())
    times.sort()
    return {
        "rate": len(times) / seconds,
        "p50": 1000 * times[len(times) // 2],
        "p99": 1000 * times[int(0.99 * len(times))],
    }


# --- the two servers


class Server:
    def __init__(self, command: list[str], path: str, body: bytes, folder: Path, product: str):
        from serving.core.security.token_issuer import issue

        self.path, self.body = path, body
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        environ = {
            **os.environ,
            **QUIET,
            "BENCHMARK_FOLDER": str(folder),
            "BENCHMARK_PRODUCT": product,
            "YUHENG_BUNDLES": str(folder / "bundles"),
            "YUHENG_PUBLIC_KEY": str(folder / "keys/signing.pub.pem"),
            "YUHENG_STORE": str(folder / "store.db"),
            "YUHENG_SPOOL": str(folder / "spool"),
            "YUHENG_LOG_KEY": str(folder / "log.pem"),
            "YUHENG_CHECKPOINTS": str(folder / "checkpoints"),
            "YUHENG_TOKENS": str(folder / "keys/tokens.pem"),
            "YUHENG_RATE_PER_SECOND": "0",  # as fast as it can
        }
        token = issue(folder / "keys/tokens.pem", "yuheng", tenant="bank", roles=["bank"], who="benchmark")
        self.environ = {**environ, "BENCHMARK_TOKEN": token}
        full = [sys.executable, "-m", *command, "--port", str(self.port)]
        with (folder / f"{command[0]}.log").open("wb") as log:
            self.process = subprocess.Popen(full, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 90
        while True:
            try:
                self.drive(0.05)
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def drive(self, seconds: float) -> dict[str, float]:
        """From a process of its own. `cpu`: of the server, us a request, which a busy machine disturbs least."""
        before = self._cpu()
        command = [sys.executable, "-m", "benchmarks.serving", "--ask", str(self.port), self.path, str(seconds)]
        done = subprocess.run(command, cwd=ROOT, input=self.body, env=self.environ, capture_output=True, check=True)
        found: dict[str, float] = json.loads(done.stdout)
        found["cpu"] = 1e6 * (self._cpu() - before) / max(1.0, found["rate"] * seconds)
        return found

    def _cpu(self) -> float:
        """Seconds that the server's processes have used."""
        import psutil

        whole = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (whole, *whole.children(recursive=True))]
        return float(sum(time.user + time.system for time in times))

    def memory(self) -> dict[str, float]:
        """MB resident, by process."""
        import psutil

        tree = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return {" ".join(p.cmdline()[1:4]): p.memory_info().rss / 1e6 for p in tree}

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ask", nargs=3, metavar=("PORT", "PATH", "SECONDS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        port, path, seconds = given.ask
        print(json.dumps(ask(int(port), path, sys.stdin.buffer.read(), float(seconds))))
        return
    compare_credit_limits(given.rounds, given.seconds)
    compare_scitech_risks(given.rounds, given.seconds)


def compare_credit_limits(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(dir=var()) as name:
        folder = Path(name)
        applicant = build(folder)
        asked = {"indicators": applicant, "raises": False}
        with servers(folder, "credit_limit", "/v1/credit-limits", asked) as (ours, bare):
            print(f"households: {len(applicant)} fields, {TOLD}; with record, ledger and reasons:")
            compare(ours, bare, rounds, seconds)
            print("and with what would raise the limit, nine what-ifs more an answer:")
            ours.body = json.dumps(asked | {"raises": True}).encode()
            compare(ours, bare, rounds, seconds)
            for process, size in ours.memory().items():
                print(f"memory: {size:.0f} MB  {process} (under 400 is asked of the one that serves)")


def compare_scitech_risks(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(dir=var()) as name:
        folder = Path(name)
        company = build_companies(folder)
        with servers(folder, "scitech_risk", "/v1/scitech-risks", {"indicators": company}) as (ours, bare):
            print(f"companies: {len(company)} fields, {TOLD}; with record, gate, innovation, warnings and reasons:")
            compare(ours, bare, rounds, seconds)
            for process, size in ours.memory().items():
                print(f"memory: {size:.0f} MB  {process}")


@contextmanager
def servers(folder: Path, product: str, route: str, asked: dict[str, Any]) -> Iterator[tuple[Server, Server]]:
    """(ours, the bare one) with one product each."""
    ours = Server(["serving", "serve"], route, json.dumps(asked).encode(), folder, product)
    flags = ["--factory", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    body = json.dumps(asked["indicators"]).encode()
    try:
        bare = Server(["uvicorn", "benchmarks.serving:bare_app", *flags], "/pd", body, folder, product)
        try:
            yield ours, bare
        finally:
            bare.stop()
    finally:
        ours.stop()


def compare(ours: Server, bare: Server, rounds: int, seconds: float) -> None:
    for server in (ours, bare):
        server.drive(1.0)  # warm
    found: list[tuple[dict[str, float], dict[str, float]]] = []
    for turn in range(rounds):
        found.append((ours.drive(seconds), bare.drive(seconds)))
        mine, other = found[-1]
        told = [
            f"{name} {r['rate']:6.0f}/s p50 {r['p50']:5.1f} p99 {r['p99']:5.1f} ms {r['cpu']:5.0f} us CPU"
            for name, r in (("ours", mine), ("bare", other))
        ]
        print(f"round {turn + 1}: {' | '.join(told)} | ratio {mine['rate'] / other['rate']:.2f}")
    ratio = statistics.median(mine["rate"] / other["rate"] for mine, other in found)
    work = statistics.median(other["cpu"] / mine["cpu"] for mine, other in found)
    spread = statistics.median(mine["p99"] / mine["p50"] for mine, _ in found)
    print(f"requests/s, ours / bare FastAPI: {ratio:.2f} (0.50 or more is asked)")
    print(f"CPU a request, bare FastAPI / ours: {work:.2f}")
    print(f"p99 / p50: {spread:.1f} (under 10 is asked)")


def var() -> Path:
    """On the disk that the real store uses, so that its sync is the real one."""
    folder = ROOT / "var"
    folder.mkdir(exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
