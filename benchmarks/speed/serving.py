"""Compare one decision over HTTP, with record and reasons, with a bare FastAPI application that only runs the graph.

    python -m benchmarks.speed.serving [--seconds 5] [--rounds 5]

One process with 16 connections drives both in turn, one worker each. Prints the ratio of requests a second (goal: at
least 0.5), p50 and p99 in ms (goal: p99 under 10 x p50), and the memory of the serving process (goal: under 400 MB).
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
from typing import Any

from benchmarks.speed.common import BOOSTERS, ROOT, TELEMETRY_OFF, TREES, build_companies, build_households, var_dir

CONNECTIONS = 16
SETUP_NOTE = f"{BOOSTERS * TREES} trees, {CONNECTIONS} connections, one worker each"


def bare_app() -> Any:
    """The application to compare with: pydantic reads the same fields, the same graph runs, the PD is returned."""
    import numpy as np
    import onnxruntime
    from fastapi import FastAPI
    from pydantic import create_model

    from models.bundle import load_bundle
    from models.feature_encoder import encode  # noqa: F401  (loaded in both)

    folder, product = Path(os.environ["BENCHMARK_FOLDER"]), os.environ["BENCHMARK_PRODUCT"]
    bundle = load_bundle(folder / f"bundles/{product}/benchmark", folder / "keys/signing.pub.pem")
    card = bundle.card
    stated_columns = [column for column in card.inputs if column.derived is None]
    index_of = {column.name: position for position, column in enumerate(card.inputs)}
    derived_inputs = [(c.derived, [index_of[n] for n in c.derived.of], [index_of[n] for n in c.derived.by])
            for c in card.inputs if c.derived is not None]  # fmt: skip
    kinds: dict[str, Any] = {
        column.name: ((float if column.kind == "number" else str) | None, None)
        for column in (*stated_columns, *(column for column in card.also if column.derived is None))
    }
    Applicant = create_model("Applicant", **kinds)
    Answer = create_model("Answer", pd=(float, ...))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])
    levels = [
        {level: i for i, level in enumerate(column.levels)} if column.levels else None for column in stated_columns
    ]
    names = [column.name for column in stated_columns]
    without_reasons = np.array(False)
    app = FastAPI()

    async def pd(applicant: Any) -> Any:
        row = [
            float("nan") if (v := getattr(applicant, name)) is None else codes[v] if codes else v
            for name, codes in zip(names, levels, strict=True)
        ]
        for derived, of, by in derived_inputs:
            row.append(derived.compute([row[position] for position in of], [row[position] for position in by]))
        x = np.array([row], np.float32)
        return {"pd": float(session.run(["pd"], {"x": x, "with_reasons": without_reasons})[0][0])}

    pd.__annotations__ = {"applicant": Applicant}  # the class is created here, so FastAPI cannot resolve its name
    app.post("/pd", response_model=Answer)(pd)
    return app


# --- the client


class Connection(asyncio.Protocol):
    """Send the same request again as soon as a response is complete, and record the seconds of each."""

    def __init__(self, request: bytes, times: list[float], deadline: float):
        self.request, self.times, self.deadline = request, times, deadline
        self.buffer = b""
        self.expected_bytes = -1  # of the response, header and body
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.expected_bytes < 0:
            header_end = self.buffer.find(b"\r\n\r\n")
            if header_end < 0:
                return
            if not self.buffer.startswith(b"HTTP/1.1 200"):
                self.transport.close()
                self.done.set_exception(OSError(self.buffer[:600].decode()))
                return
            headers = self.buffer[:header_end].lower()
            start = headers.index(b"content-length:") + 15
            self.expected_bytes = header_end + 4 + int(headers[start:].partition(b"\r\n")[0])
        if len(self.buffer) >= self.expected_bytes:
            now = time.perf_counter()
            self.times.append(now - self.started)
            self.buffer, self.expected_bytes = b"", -1
            if now < self.deadline:
                self._send()
            else:
                self.transport.close()
                self.done.set_result(None)


def send_requests(port: int, path: str, body: bytes, seconds: float) -> dict[str, float]:
    """Send requests for so many seconds; returns requests a second, p50 and p99 in ms."""
    import uvloop

    headers = {"Host": "x", "Content-Type": "application/json", "Content-Length": len(body)}
    headers["Authorization"] = f"Bearer {os.environ['BENCHMARK_TOKEN']}"
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    times: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadline = time.perf_counter() + seconds
        connections = [
            await loop.create_connection(lambda: Connection(head.encode() + body, times, deadline), "127.0.0.1", port)
            for _ in range(CONNECTIONS)
        ]
        await asyncio.gather(*(protocol.done for _, protocol in connections))

    uvloop.run(main())
    times.sort()
    return {
        "rate": len(times) / seconds,
        "p50": 1000 * times[len(times) // 2],
        "p99": 1000 * times[int(0.99 * len(times))],
    }


# --- the two servers


class Server:
    """A server process, and requests to measure it with."""

    def __init__(self, command: list[str], path: str, body: bytes, folder: Path, product: str):
        from serving.core.security.token_issuer import issue_token

        self.path, self.body = path, body
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {
            **os.environ,
            **TELEMETRY_OFF,
            "BENCHMARK_FOLDER": str(folder),
            "BENCHMARK_PRODUCT": product,
            "YUHENG_BUNDLES": str(folder / "bundles"),
            "YUHENG_PUBLIC_KEY": str(folder / "keys/signing.pub.pem"),
            "YUHENG_STORE": str(folder / "store.db"),
            "YUHENG_SPOOL": str(folder / "spool"),
            "YUHENG_LOG_KEY": str(folder / "log.pem"),
            "YUHENG_ENTRY_KEY": str(folder / "entries.key"),
            "YUHENG_CHECKPOINTS": str(folder / "checkpoints"),
            "YUHENG_TOKENS": str(folder / "keys/tokens.pem"),
            "YUHENG_RATE_PER_SECOND": "0",  # unlimited
        }
        token = issue_token(folder / "keys/tokens.pem", "yuheng", tenant="bank", roles=["bank"], subject="benchmark")
        self.environ = {**environment, "BENCHMARK_TOKEN": token}
        full_command = [sys.executable, "-m", *command, "--port", str(self.port)]
        with (folder / f"{command[0]}.log").open("wb") as log:
            self.process = subprocess.Popen(
                full_command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while True:
            try:
                self.measure(0.05)
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def measure(self, seconds: float) -> dict[str, float]:
        """Measure from another process. `cpu`: of the server, us per request, which a busy machine disturbs least."""
        cpu_before = self._cpu()
        command = [sys.executable, "-m", "benchmarks.speed.serving", "--send", str(self.port), self.path, str(seconds)]
        completed = subprocess.run(
            command, cwd=ROOT, input=self.body, env=self.environ, capture_output=True, check=True
        )
        result: dict[str, float] = json.loads(completed.stdout)
        result["cpu"] = 1e6 * (self._cpu() - cpu_before) / max(1.0, result["rate"] * seconds)
        return result

    def _cpu(self) -> float:
        """Processor seconds that the server's processes have used."""
        import psutil

        root_process = psutil.Process(self.process.pid)
        cpu_times = [process.cpu_times() for process in (root_process, *root_process.children(recursive=True))]
        return float(sum(usage.user + usage.system for usage in cpu_times))

    def memory(self) -> dict[str, float]:
        """Resident memory in MB, by process."""
        import psutil

        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return {" ".join(process.cmdline()[1:4]): process.memory_info().rss / 1e6 for process in processes}

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--send", nargs=3, metavar=("PORT", "PATH", "SECONDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send:
        port, path, seconds = args.send
        print(json.dumps(send_requests(int(port), path, sys.stdin.buffer.read(), float(seconds))))
        return
    compare_credit_limits(args.rounds, args.seconds)
    compare_scitech_risks(args.rounds, args.seconds)


def compare_credit_limits(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(dir=var_dir()) as name:
        folder = Path(name)
        applicant = build_households(folder)
        payload = {"indicators": applicant, "raises": False}
        with servers(folder, "credit_limit", "/v1/credit-limits", payload) as (own_server, bare_server):
            print(f"households: {len(applicant)} fields, {SETUP_NOTE}; with record, ledger and reasons:")
            compare(own_server, bare_server, rounds, seconds)
            print("and with improvements that would raise the limit, nine what-ifs more per answer:")
            own_server.body = json.dumps(payload | {"raises": True}).encode()
            compare(own_server, bare_server, rounds, seconds)
            for process, size in own_server.memory().items():
                print(f"memory: {size:.0f} MB  {process} (goal for the serving process: under 400)")


def compare_scitech_risks(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(dir=var_dir()) as name:
        folder = Path(name)
        company = build_companies(folder)
        with servers(folder, "scitech_risk", "/v1/scitech-risks", {"indicators": company}) as (own_server, bare_server):
            print(
                f"companies: {len(company)} fields, {SETUP_NOTE}; with record, gate, innovation, warnings and reasons:"
            )
            compare(own_server, bare_server, rounds, seconds)
            for process, size in own_server.memory().items():
                print(f"memory: {size:.0f} MB  {process}")


@contextmanager
def servers(folder: Path, product: str, route: str, payload: dict[str, Any]) -> Iterator[tuple[Server, Server]]:
    """Start both servers with one product: (ours, the bare one)."""
    own_server = Server(["serving", "serve"], route, json.dumps(payload).encode(), folder, product)
    flags = ["--factory", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    body = json.dumps(payload["indicators"]).encode()
    try:
        bare_server = Server(["uvicorn", "benchmarks.speed.serving:bare_app", *flags], "/pd", body, folder, product)
        try:
            yield own_server, bare_server
        finally:
            bare_server.stop()
    finally:
        own_server.stop()


def compare(own_server: Server, bare_server: Server, rounds: int, seconds: float) -> None:
    for server in (own_server, bare_server):
        server.measure(1.0)  # warm-up
    results: list[tuple[dict[str, float], dict[str, float]]] = []
    for round_index in range(rounds):
        results.append((own_server.measure(seconds), bare_server.measure(seconds)))
        own, baseline = results[-1]
        summaries = [
            f"{name} {result['rate']:6.0f}/s p50 {result['p50']:5.1f} p99 {result['p99']:5.1f} ms {result['cpu']:5.0f} "
            "us CPU"
            for name, result in (("ours", own), ("bare", baseline))
        ]
        print(f"round {round_index + 1}: {' | '.join(summaries)} | ratio {own['rate'] / baseline['rate']:.2f}")
    ratio = statistics.median(own["rate"] / baseline["rate"] for own, baseline in results)
    cpu_ratio = statistics.median(baseline["cpu"] / own["cpu"] for own, baseline in results)
    spread = statistics.median(own["p99"] / own["p50"] for own, _ in results)
    print(f"requests/s, ours / bare FastAPI: {ratio:.2f} (goal: at least 0.50)")
    print(f"CPU per request, bare FastAPI / ours: {cpu_ratio:.2f}")
    print(f"p99 / p50: {spread:.1f} (goal: under 10)")


if __name__ == "__main__":
    main()
