"""Compare reading slides with the bare network in tiles a second, and measure memory.

    python -m benchmarks.speed.slides [--var var] [--parts graphs speed memory]

graphs: the networks of all models in `var`, in full precision and in 8 bits, in turn on one core each.
speed: slides pass through the real processes (python -m serving serve-slides), from upload to reading. In turn with
them, bare ONNX sessions process the same tiles from memory on all cores, as one session with all threads and as one
single-threaded session per core; the faster of the two counts. Unfit tiles do not count, because no network reads them.
The processor time of all processes is printed too, which other load disturbs less than wall time.
memory: a slide of 100,000 x 80,000 pixels; the peak memory of every process.
SIMULATED slides. The model is the champion of `var` (trained by python -m training pathology).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.speed.common import ROOT

SLIDE_SIZES = {  # columns and rows of stored tiles; repeat
    "speed": (64, 64, 8),
    "wsinfer": (24, 24, 8),
    "memory": (391, 313, 16),
}
PARTS = ("graphs", "speed", "memory")
GRAPH_ROUNDS, BATCHES = 9, 8  # of the comparison of graphs; batches of each in a round
END_STATES = ("ready", "abstained", "failed", "quality_failed")


class SlideService:
    """The real slide service, with a store of its own."""

    def __init__(self, var: Path, version: str, policy: str = ""):
        from serving import settings
        from serving.core.audit.authenticator import open_log_store

        self.temp_dir = tempfile.TemporaryDirectory(prefix="slides-")
        self.home_dir = Path(self.temp_dir.name)
        bundles = self.home_dir / "var/bundles/pathology"
        shutil.copytree(var / "bundles/pathology" / version, bundles / version)
        (bundles / "champion").write_text(version + "\n", encoding="utf-8")
        shutil.copytree(var / "keys", self.home_dir / "var/keys")
        self.settings = settings.load_settings(environ={"YUHENG_HOME": str(self.home_dir)})
        self.engine = open_log_store(self.settings, 10.0)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "serving", "serve-slides", "--port", "0"]
        with open(self.home_dir / "log", "ab") as log:
            environment = os.environ | {"YUHENG_HOME": str(self.home_dir)}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def submit(self, path: Path) -> str:
        """Hand in a slide; returns its id. Its file is moved, not copied."""
        from serving.core.identifiers import new_id
        from serving.pathology.slides import storage
        from serving.pathology.slides import store as slide_store

        slide_id = new_id()
        path_in_quarantine = storage.quarantine_path(self.settings.paths.slides, slide_id, path.name)
        storage.create_empty(path_in_quarantine)
        os.replace(path, path_in_quarantine)
        digest = storage.sha256_of(path_in_quarantine).hexdigest()
        fields: dict[str, Any] = {"name": path.name, "sha256": digest, "specimen": "cervical_cytology", "request": {}}
        slide_store.create(self.engine, slide_id, "verifying", **fields)
        return slide_id

    def wait_for_result(self, slide_id: str, on_poll: Any = None) -> tuple[dict[str, Any], float]:
        """Wait until a slide is finished; returns its row and the seconds."""
        from serving.pathology.slides import store as slide_store

        started = time.perf_counter()
        while (row := slide_store.get(self.engine, slide_id) or {})["state"] not in END_STATES:
            if on_poll is not None:
                on_poll()
            time.sleep(0.05)
        if row["reading"] is None:
            raise SystemExit(
                f"the slide is {row['state']}: "
                f"{row['reasons']}\n{(self.home_dir / 'log').read_text(encoding='utf-8')[-2000:]}"
            )
        return row, time.perf_counter() - started

    def processes(self) -> list[Any]:
        import psutil

        assert self.process is not None
        root_process = psutil.Process(self.process.pid)
        return [root_process, *root_process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Processor seconds of all running processes and of their finished children."""
        total = 0.0
        for process in self.processes():
            with suppress(Exception):  # it ended meanwhile, and its parent counts it
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
        self.engine.dispose()
        self.temp_dir.cleanup()


def render_slide(name: str, path: Path, mpp: float = 0.5) -> Path:
    from datasets.slides.simulate import pyramid
    from datasets.slides.simulate.slides import simulate_slide

    columns, rows, repeat = SLIDE_SIZES[name]
    return pyramid.write_tiff(
        path, simulate_slide(seed=5, label="HSIL", columns=columns, rows=rows, mpp=mpp, repeat_tiles=repeat)
    )


# --- graphs


def measure_graphs(var: Path, rounds: int) -> None:
    """Print the processor time of a tile for every graph of every model in `var`, and how it compares to the first."""
    import numpy as np

    from models.bundle import INT8_GRAPH, load_bundle
    from models.pathology.card import SlideCard
    from models.pathology.onnx_sessions import TileGraph
    from serving.pathology.workflow.runner import BATCH_SIZES

    graphs: dict[str, TileGraph] = {}
    for folder in sorted(path for path in (var / "bundles/pathology").iterdir() if path.is_dir()):
        bundle = load_bundle(folder, var / "keys/signing.pub.pem", SlideCard)
        candidates = {"8 bits": bundle.extra_graphs.get(INT8_GRAPH), "full precision": bundle.graph}
        graphs |= {f"{folder.name}, {name}": TileGraph(graph) for name, graph in candidates.items() if graph}
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    random = np.random.default_rng(0)
    for _ in range(rounds):
        for name, graph in graphs.items():
            tiles = random.integers(0, 255, (BATCH_SIZES[0], graph.side, graph.side, 3), np.uint8)
            graph.run(tiles)
            started = time.process_time()
            for _ in range(BATCHES):
                graph.run(tiles)
            seconds[name].append((time.process_time() - started) / (BATCHES * len(tiles)))
    first = np.array(next(iter(seconds.values())))
    for name, values in seconds.items():
        times = float(np.median(first / np.array(values)))
        print(f"{name}: {1e3 * float(np.median(values)):.2f} ms of processor per tile; {times:.2f} times the first")


# --- speed


def measure_network(graph: bytes, tiles: Any, cores: int, single_session: bool) -> tuple[float, float]:
    """(tiles a second, processor seconds per tile) of the network alone."""
    from concurrent.futures import ThreadPoolExecutor

    from models.pathology.onnx_sessions import TileGraph
    from serving.pathology.workflow.runner import BATCH_SIZES

    batch_size = BATCH_SIZES[0]  # of the service
    net = TileGraph(graph, cores if single_session else 1)
    batches = [tiles[start : start + batch_size] for start in range(0, len(tiles), batch_size)]
    net.run(batches[0])
    started, cpu_started = time.perf_counter(), time.process_time()
    if single_session:
        for batch in batches:
            net.run(batch)
    else:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(net.run, batches))
    return len(tiles) / (time.perf_counter() - started), (time.process_time() - cpu_started) / len(tiles)


def measure_speed(var: Path, version: str, rounds: int) -> None:
    import numpy as np

    from datasets.slides import sandbox, tiling, tissue
    from datasets.slides.quality import assess_tiles
    from datasets.slides.tiling import GridConfig
    from models.bundle import load_bundle
    from models.pathology.card import SlideCard, select_tile_graph
    from serving.pathology.workflow.runner import available_cpus

    bundle = load_bundle(var / "bundles/pathology" / version, var / "keys/signing.pub.pem", SlideCard)
    graph, core_count = select_tile_graph(bundle, int8=True), available_cpus()
    service = SlideService(var, version)
    try:
        with tempfile.TemporaryDirectory() as folder:
            source_slide = render_slide("speed", Path(folder) / "a.tiff")
            with sandbox.open_slide(source_slide) as slide:
                assert bundle.card.mpp is not None
                grid = tiling.tile_grid(
                    slide.metadata, tissue.find_tissue(slide), GridConfig(bundle.card.mpp, bundle.card.side)
                )
                tiles = np.concatenate(
                    [batch for _, batch in tiling.read_tiles(slide, grid, 32, range(min(512, len(grid))))]
                )
            tiles = tiles[assess_tiles(tiles) == ""]
            service.start()
            copy = Path(folder) / "slide.tiff"
            shutil.copyfile(source_slide, copy)
            service.wait_for_result(service.submit(copy))  # warm-up
            rows = []
            for _ in range(rounds):
                network_rates = [
                    measure_network(graph, tiles, core_count, single_session) for single_session in (True, False)
                ]
                shutil.copyfile(source_slide, copy)
                slide_id, cpu_before = service.submit(copy), service.cpu_seconds()
                row, seconds = service.wait_for_result(slide_id)
                cpu_seconds = service.cpu_seconds() - cpu_before
                network_rates += [
                    measure_network(graph, tiles, core_count, single_session) for single_session in (True, False)
                ]
                counts = row["reading"]["tiles"]
                tile_count = counts["read"] - sum(counts["unfit"].values())
                best_rate = max(np.mean([network_rates[index][0], network_rates[index + 2][0]]) for index in (0, 1))
                least_cpu = min(np.mean([network_rates[index][1], network_rates[index + 2][1]]) for index in (0, 1))
                rows.append(
                    (
                        tile_count / seconds,
                        best_rate,
                        tile_count / seconds / best_rate,
                        least_cpu / (cpu_seconds / tile_count),
                    )
                )
                print(
                    f"{tile_count:,} tiles in {seconds:.1f} s: {rows[-1][0]:.0f} a second; "
                    f"the network alone {best_rate:.0f} "
                    f"(one session {np.mean([network_rates[0][0], network_rates[2][0]]):.0f}, one per core "
                    f"{np.mean([network_rates[1][0], network_rates[3][0]]):.0f}); processor "
                    f"{1e3 * cpu_seconds / tile_count:.2f} ms per tile, alone "
                    f"{1e3 * least_cpu:.2f}",
                    flush=True,
                )
        ratio, processor = (float(np.median([row[index] for row in rows])) for index in (2, 3))
        print(
            f"end to end over the network alone, {core_count} cores: {ratio:.2f} of its tiles a second (goal: 0.96); "
            f"{processor:.2f} by processor time"
        )
    finally:
        service.stop()


# --- memory


def measure_memory(var: Path, version: str) -> None:
    service = SlideService(var, version)
    peaks: dict[str, int] = {}
    peak_total = [0]

    def record_peak() -> None:
        total = 0
        for process in service.processes():
            with suppress(Exception):  # it ended meanwhile
                command_line = " ".join(process.cmdline())
                names = ("SlideRunner", "SlideJobs", "sandbox")
                name = next((known_name for known_name in names if known_name in command_line), "supervisor")
                status = dict(
                    line_of_status.split(":", 1)
                    for line_of_status in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
                )
                peaks[name] = max(peaks.get(name, 0), int(status["VmHWM"].split()[0]))
                total += int(status["VmRSS"].split()[0])
        peak_total[0] = max(peak_total[0], total)

    try:
        started = time.perf_counter()
        path = render_slide("memory", service.home_dir / "huge.tiff", mpp=0.25)
        size = path.stat().st_size
        print(f"simulated in {time.perf_counter() - started:.0f} s: {size / 1e9:.2f} GB", flush=True)
        service.start()
        row, seconds = service.wait_for_result(service.submit(path), record_peak)
        slide_facts = row["reading"]["slide"]
        print(
            f"{slide_facts['width']:,} x {slide_facts['height']:,} pixels, {row['reading']['tiles']['read']:,} tiles, "
            f"{seconds:.0f} s"
        )
        for name, peak in sorted(peaks.items()):
            print(f"peak of {name:<12} {peak / 1024:>7,.0f} MB")
        print(f"all together {peak_total[0] / 1024:,.0f} MB at most (goal: every process under 1,500 MB)")
    finally:
        service.stop()


def find_model(var: Path) -> str:
    from models.bundle import read_alias

    bundles_dir = var / "bundles/pathology"
    if not bundles_dir.is_dir():
        print(f"There is no model under {bundles_dir}; training one first.", flush=True)
        command = [sys.executable, "-m", "training", "pathology", "--var", str(var), "--quiet"]
        subprocess.run(command, cwd=ROOT, check=True)
    version = read_alias(bundles_dir) or read_alias(bundles_dir, "challenger")
    if version is None:
        raise SystemExit(
            f"{bundles_dir} has neither a champion nor a challenger. Train one: python -m training pathology"
        )
    return version


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--var", type=Path, default=ROOT / "var")
    parser.add_argument(
        "--parts", nargs="+", choices=("graphs", "speed", "memory"), default=["graphs", "speed", "memory"]
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the speed part")
    args = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    var = args.var.resolve()
    version = find_model(var)
    card = json.loads((var / "bundles/pathology" / version / "card.json").read_text(encoding="utf-8"))
    print(f"model {card['model']} {version}: {card['backbone']}, {card['side']} px at {card['mpp']} um")
    if "graphs" in args.parts:
        measure_graphs(var, GRAPH_ROUNDS)
    if "speed" in args.parts:
        measure_speed(var, version, args.rounds)
    if "memory" in args.parts:
        measure_memory(var, version)


if __name__ == "__main__":
    main()
