"""A slide's way beside the bare network: tiles a second, what coarse-to-fine saves, memory on a huge slide.

    python -m benchmarks.slides [--var var] [--parts speed coarse memory]

speed: slides go through the real processes (python -m serving serve-slides), from their arrival to their reading; in
turns with them the bare ONNX session works on the same tiles in memory on all cores, as one session of so many threads
and as so many of one thread; the faster of the two counts. Unfit tiles are not counted, as no network sees them. The
processor time of all processes is told too, which a busy machine disturbs less than wall time.
coarse: simulated slides read whole, and in stages from what a small look finds most telling: the same triage?
memory: a slide of 100,000 x 80,000 pixels; the peak of every process.
SIMULATED slides. The model is the champion of `var` (python -m training pathology makes it).
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

ROOT = Path(__file__).parents[1]
SLIDE_SIZES = {"speed": (64, 64, 8), "memory": (391, 313, 16)}  # columns, rows of stored tiles; repeat
COARSE_SLIDE_SIZE = (16, 12)  # of a slide read both ways
END_STATES = ("ready", "abstained", "failed", "quality_failed")


class SlideService:
    """The real slides' process on a store of its own."""

    def __init__(self, var: Path, version: str, policy: str = ""):
        from serving import settings
        from serving.core.db.engine import open_store

        self.temp_dir = tempfile.TemporaryDirectory(prefix="slides-")
        self.home_dir = Path(self.temp_dir.name)
        bundles = self.home_dir / "var/bundles/pathology"
        shutil.copytree(var / "bundles/pathology" / version, bundles / version)
        (bundles / "champion").write_text(version + "\n", encoding="utf-8")
        shutil.copytree(var / "keys", self.home_dir / "var/keys")
        self.settings = settings.load_settings(environ={"YUHENG_HOME": str(self.home_dir)})
        self.engine = open_store(self.settings.paths.store, 10.0)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "serving", "serve-slides", "--port", "0"]
        with open(self.home_dir / "log", "ab") as log:
            environment = os.environ | {"YUHENG_HOME": str(self.home_dir)}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def submit(self, path: Path) -> str:
        """The id of a slide that arrived; its file is not copied but moved."""
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
        """(its row, seconds) once it is at its end."""
        from serving.pathology.slides import store as slide_store

        started = time.perf_counter()
        while (row := slide_store.get(self.engine, slide_id) or {})["state"] not in END_STATES:
            if on_poll is not None:
                on_poll()
            time.sleep(0.05)
        if row["reading"] is None:
            raise SystemExit(
                f"the slide is {row['state']}: {row['reasons']}\n{(self.home_dir / 'log').read_text(encoding='utf-8')[-2000:]}"
            )
        return row, time.perf_counter() - started

    def processes(self) -> list[Any]:
        import psutil

        assert self.process is not None
        root_process = psutil.Process(self.process.pid)
        return [root_process, *root_process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Processor seconds of all that live, and of their children that ended."""
        total = 0.0
        for process in self.processes():
            with suppress(Exception):  # it ended meanwhile: its parent counts it
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


# --- speed


def measure_network(graph: bytes, tiles: Any, cores: int, single_session: bool) -> tuple[float, float]:
    """(tiles a second, processor seconds a tile) of the network alone."""
    from concurrent.futures import ThreadPoolExecutor

    from models.pathology.onnx_sessions import BATCH_SIZE, TileGraph

    net = TileGraph(graph, cores if single_session else 1)
    batches = [tiles[start : start + BATCH_SIZE] for start in range(0, len(tiles), BATCH_SIZE)]
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
            service.wait_for_result(service.submit(copy))  # what is loaded once is not measured
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
                print(f"{tile_count:,} tiles in {seconds:.1f} s: {rows[-1][0]:.0f} a second; the network alone {best_rate:.0f} "
                      f"(one session {np.mean([network_rates[0][0], network_rates[2][0]]):.0f}, one a core "
                      f"{np.mean([network_rates[1][0], network_rates[3][0]]):.0f}); processor {1e3 * cpu_seconds / tile_count:.2f} ms a tile, alone "
                      f"{1e3 * least_cpu:.2f}", flush=True)  # fmt: skip
        ratio, processor = (float(np.median([row[index] for row in rows])) for index in (2, 3))
        print(f"end to end over the network alone, {core_count} cores: {ratio:.2f} of its tiles a second (asked: 0.9); "
              f"{processor:.2f} by processor time")  # fmt: skip
    finally:
        service.stop()


# --- coarse to fine


def read_stage(bundle: Any, policy: Any, graph: Any, tiles: Any, outputs: Any, stages: Any, stage: int) -> Any:
    """The reading after a stage, as serving/pathology/workflow/steps.py makes it."""
    import numpy as np

    from models.pathology.decision import TileTable, decide, usable_rows
    from serving.pathology.workflow.sampling import weights

    tile_rows = stages.order[: stages.ends[stage]]
    table = TileTable(tiles.positions[tile_rows], tiles.extent, outputs.reasons[tile_rows], outputs.logits[tile_rows],
                      outputs.embedding[tile_rows], outputs.distance[tile_rows], len(tiles))  # fmt: skip
    used_rows = usable_rows(bundle.card, table)
    weights_of_tiles = weights(stages.rank, stages.ends, stages.tops, stage)
    count = weights_of_tiles[used_rows]
    equal_weight_groups = [np.flatnonzero(count == weight) for weight in np.unique(count)]
    bags = [
        (table.embedding[used_rows[group]].astype(np.float32), float(count[group[0]])) for group in equal_weight_groups
    ]
    logits, raw_attention = graph.run_parts(bags)
    attention = np.empty(len(used_rows), np.float32)
    attention[np.concatenate(equal_weight_groups)] = raw_attention
    return decide(bundle.card, policy, table, used_rows, logits, attention, weights_of_tiles)


def measure_coarse(var: Path, version: str, slides_: int) -> None:
    import numpy as np

    from datasets.slides import sandbox, tiling, tissue
    from datasets.slides.simulate import pyramid
    from datasets.slides.simulate.cell_types import CLASSES
    from datasets.slides.simulate.slides import simulate_slide
    from datasets.slides.tiling import GridConfig
    from models.bundle import SLIDE_GRAPH, load_bundle
    from models.pathology.card import SlideCard
    from models.pathology.decision import is_settled
    from models.pathology.onnx_sessions import SlideGraph
    from models.pathology.policy import ReadingPolicy
    from serving import settings
    from serving.pathology.workflow.runner import TileRequest, TileRunner
    from serving.pathology.workflow.sampling import darkness, plan

    settings_read = settings.load_settings(environ={"YUHENG_HOME": str(var.parent)})
    bundle = load_bundle(var / "bundles/pathology" / version, var / "keys/signing.pub.pem", SlideCard)
    card, policy, graph = bundle.card, ReadingPolicy.load(bundle.policy), SlideGraph(bundle.extra_graphs[SLIDE_GRAPH])
    assert card.mpp is not None
    same_triage, shares = 0, []
    with tempfile.TemporaryDirectory() as folder:
        paths = settings_read.paths.model_copy(
            update={"bundles": var / "bundles", "public_key": var / "keys/signing.pub.pem", "slides": Path(folder)}
        )
        runner = TileRunner(settings_read.model_copy(update={"paths": paths}))
        for slide_index in range(slides_):
            label = CLASSES[slide_index % len(CLASSES)]
            path = pyramid.write_tiff(
                Path(folder) / "a.tiff", simulate_slide(9_000 + slide_index, label, *COARSE_SLIDE_SIZE)
            )
            with sandbox.open_slide(path) as slide_file:
                tiles = tiling.tile_grid(
                    slide_file.metadata, tissue.find_tissue(slide_file), GridConfig(card.mpp, card.side)
                )
                minimum = 2 * policy.adequacy.min_tiles
                stages = plan(darkness(slide_file, tiles), tiles.cells, policy.reading.shares, minimum)
            mpp = slide_file.metadata.mpp or (0.0, 0.0)
            outputs = runner.infer(
                TileRequest("a.tiff", mpp, tiles.positions, tiles.extent, card.model, version, bundle.digest)
            )
            runner.close_idle(0)
            path.unlink()
            stage_args = bundle, policy, graph, tiles, outputs, stages
            full_reading = read_stage(*stage_args, -1)
            for stage, end in enumerate(stages.ends):
                stage_reading, share = read_stage(*stage_args, stage), end / len(tiles)
                if is_settled(card, policy, stage_reading, policy.reading.unsure * ((1 - share) / share) ** 0.5):
                    break
            same_triage += full_reading.triage == stage_reading.triage
            shares.append(share)
            print(f"{label:<5} {len(tiles):>5} tiles: {full_reading.triage} {full_reading.probability or 0:.3f}; "
                  f"{end:>4} of them: {stage_reading.triage} {stage_reading.probability or 0:.3f}", flush=True)  # fmt: skip
        runner.close()
    print(f"coarse to fine: {same_triage} of {slides_} slides with the same triage, {np.mean(shares):.0%} of the tiles read "
          "(asked: all, a third at most)")  # fmt: skip


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
                name = next(
                    (
                        known_name
                        for known_name in ("SlideRunner", "SlideJobs", "sandbox")
                        if known_name in command_line
                    ),
                    "supervisor",
                )
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
        print(f"painted in {time.perf_counter() - started:.0f} s: {size / 1e9:.2f} GB", flush=True)
        service.start()
        row, seconds = service.wait_for_result(service.submit(path), record_peak)
        slide_facts = row["reading"]["slide"]
        print(
            f"{slide_facts['width']:,} x {slide_facts['height']:,} pixels, {row['reading']['tiles']['read']:,} tiles, {seconds:.0f} s"
        )
        for name, peak in sorted(peaks.items()):
            print(f"peak of {name:<12} {peak / 1024:>7,.0f} MB")
        print(f"all together {peak_total[0] / 1024:,.0f} MB at most (asked: every process under 1,500 MB)")
    finally:
        service.stop()


def find_model(var: Path) -> str:
    from models.bundle import read_alias

    bundles_dir = var / "bundles/pathology"
    if not bundles_dir.is_dir():
        print(f"There is no model under {bundles_dir}; it is trained first.", flush=True)
        command = [sys.executable, "-m", "training", "pathology", "--var", str(var), "--quiet"]
        subprocess.run(command, cwd=ROOT, check=True)
    version = read_alias(bundles_dir) or read_alias(bundles_dir, "challenger")
    if version is None:
        raise SystemExit(f"{bundles_dir}: neither champion nor challenger. Train one: python -m training pathology")
    return version


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--var", type=Path, default=ROOT / "var")
    parser.add_argument(
        "--parts", nargs="+", choices=("speed", "coarse", "memory"), default=["speed", "coarse", "memory"]
    )
    parser.add_argument("--rounds", type=int, default=3, help="of speed")
    parser.add_argument("--slides", type=int, default=20, help="read both ways")
    args = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    var = args.var.resolve()
    version = find_model(var)
    card = json.loads((var / "bundles/pathology" / version / "card.json").read_text(encoding="utf-8"))
    print(f"model {card['model']} {version}: {card['backbone']}, {card['side']} px at {card['mpp']} um")
    if "speed" in args.parts:
        measure_speed(var, version, args.rounds)
    if "coarse" in args.parts:
        measure_coarse(var, version, args.slides)
    if "memory" in args.parts:
        measure_memory(var, version)


if __name__ == "__main__":
    main()
