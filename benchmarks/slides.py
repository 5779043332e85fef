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
SIZE = {"speed": (64, 64, 8), "memory": (391, 313, 16)}  # columns, rows of stored tiles; repeat
WIDE = (16, 12)  # of a slide read both ways
DONE = ("ready", "abstained", "failed", "quality_failed")


class Clinic:
    """The real slides' process on a store of its own."""

    def __init__(self, var: Path, version: str, policy: str = ""):
        from serving import settings
        from serving.core.db.engine import open_store

        self.folder = tempfile.TemporaryDirectory(prefix="slides-")
        self.home = Path(self.folder.name)
        bundles = self.home / "var/bundles/pathology"
        shutil.copytree(var / "bundles/pathology" / version, bundles / version)
        (bundles / "champion").write_text(version + "\n", encoding="utf-8")
        shutil.copytree(var / "keys", self.home / "var/keys")
        self.settings = settings.read(environ={"YUHENG_HOME": str(self.home)})
        self.engine = open_store(self.settings.paths.store, 10.0)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "serving", "serve-slides", "--port", "0"]
        with open(self.home / "log", "ab") as log:
            environ = os.environ | {"YUHENG_HOME": str(self.home)}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)

    def send(self, path: Path) -> str:
        """The id of a slide that arrived; its file is not copied but moved."""
        from serving.core.http.request import new_id
        from serving.pathology.slides import storage
        from serving.pathology.slides import store as slides

        slide = new_id()
        place = storage.quarantine(self.settings.paths.slides, slide, path.name)
        storage.begin(place)
        os.replace(path, place)
        digest = storage.digest_of(place).hexdigest()
        told: dict[str, Any] = {"name": path.name, "sha256": digest, "specimen": "cervical_cytology", "request": {}}
        slides.create(self.engine, slide, "verifying", **told)
        return slide

    def follow(self, slide: str, watch: Any = None) -> tuple[dict[str, Any], float]:
        """(its row, seconds) once it is at its end."""
        from serving.pathology.slides import store as slides

        began = time.perf_counter()
        while (row := slides.get(self.engine, slide) or {})["state"] not in DONE:
            if watch is not None:
                watch()
            time.sleep(0.05)
        if row["reading"] is None:
            log = (self.home / "log").read_text(encoding="utf-8")
            raise SystemExit(f"the slide is {row['state']}: {row['reasons']}\n{log[-2000:]}")
        return row, time.perf_counter() - began

    def processes(self) -> list[Any]:
        import psutil

        assert self.process is not None
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def spent(self) -> float:
        """Processor seconds of all that live, and of their children that ended."""
        total = 0.0
        for one in self.processes():
            with suppress(Exception):  # it ended meanwhile: its parent counts it
                times = one.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
        self.engine.dispose()
        self.folder.cleanup()


def painted(name: str, path: Path, mpp: float = 0.5) -> Path:
    from datasets.slides.simulate import pyramid
    from datasets.slides.simulate.slides import slide

    columns, rows, repeat = SIZE[name]
    return pyramid.write_tiff(path, slide(seed=5, label="HSIL", columns=columns, rows=rows, mpp=mpp, repeat=repeat))


# --- speed


def bare(graph: bytes, tiles: Any, cores: int, one_session: bool) -> tuple[float, float]:
    """(tiles a second, processor seconds a tile) of the network alone."""
    from concurrent.futures import ThreadPoolExecutor

    from models.pathology.onnx_sessions import BATCH, TileGraph

    net = TileGraph(graph, cores if one_session else 1)
    parts = [tiles[start : start + BATCH] for start in range(0, len(tiles), BATCH)]
    net.run(parts[0])
    began, spent = time.perf_counter(), time.process_time()
    if one_session:
        for part in parts:
            net.run(part)
    else:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(net.run, parts))
    return len(tiles) / (time.perf_counter() - began), (time.process_time() - spent) / len(tiles)


def speed(var: Path, version: str, rounds: int) -> None:
    import numpy as np

    from datasets.slides import sandbox, tiling, tissue
    from datasets.slides.quality import judge_tiles
    from datasets.slides.tiling import GridConfig
    from models.bundle import load
    from models.pathology.card import SlideCard, tile_graph
    from serving.pathology.workflow.runner import cores

    bundle = load(var / "bundles/pathology" / version, var / "keys/signing.pub.pem", SlideCard)
    graph, number = tile_graph(bundle, small=True), cores()
    clinic = Clinic(var, version)
    try:
        with tempfile.TemporaryDirectory() as folder:
            first = painted("speed", Path(folder) / "a.tiff")
            with sandbox.open_slide(first) as opened:
                assert bundle.card.mpp is not None
                found = tiling.cover(opened.facts, tissue.find(opened), GridConfig(bundle.card.mpp, bundle.card.side))
                tiles = np.concatenate(
                    [part for _, part in tiling.read(opened, found, 32, range(min(512, len(found))))]
                )
            tiles = tiles[judge_tiles(tiles) == ""]
            clinic.start()
            copy = Path(folder) / "slide.tiff"
            shutil.copyfile(first, copy)
            clinic.follow(clinic.send(copy))  # what is loaded once is not measured
            rows = []
            for _ in range(rounds):
                nets = [bare(graph, tiles, number, one) for one in (True, False)]
                shutil.copyfile(first, copy)
                slide, before = clinic.send(copy), clinic.spent()
                row, seconds = clinic.follow(slide)
                spent = clinic.spent() - before
                nets += [bare(graph, tiles, number, one) for one in (True, False)]
                counts = row["reading"]["tiles"]
                seen = counts["read"] - sum(counts["unfit"].values())
                best = max(np.mean([nets[at][0], nets[at + 2][0]]) for at in (0, 1))
                least = min(np.mean([nets[at][1], nets[at + 2][1]]) for at in (0, 1))
                rows.append((seen / seconds, best, seen / seconds / best, least / (spent / seen)))
                print(f"{seen:,} tiles in {seconds:.1f} s: {rows[-1][0]:.0f} a second; the network alone {best:.0f} "
                      f"(one session {np.mean([nets[0][0], nets[2][0]]):.0f}, one a core "
                      f"{np.mean([nets[1][0], nets[3][0]]):.0f}); processor {1e3 * spent / seen:.2f} ms a tile, alone "
                      f"{1e3 * least:.2f}", flush=True)  # fmt: skip
        ratio, processor = (float(np.median([row[at] for row in rows])) for at in (2, 3))
        print(f"end to end over the network alone, {number} cores: {ratio:.2f} of its tiles a second (asked: 0.9); "
              f"{processor:.2f} by processor time")  # fmt: skip
    finally:
        clinic.stop()


# --- coarse to fine


def answer(bundle: Any, policy: Any, graph: Any, tiles: Any, said: Any, stages: Any, stage: int) -> Any:
    """The reading after a stage, as serving/pathology/workflow/steps.py makes it."""
    import numpy as np

    from models.pathology.decision import TileTable, decide, rows
    from serving.pathology.workflow.sampling import weights

    chosen = stages.order[: stages.ends[stage]]
    table = TileTable(tiles.places[chosen], tiles.extent, said.reasons[chosen], said.logits[chosen],
                      said.embedding[chosen], said.distance[chosen], len(tiles))  # fmt: skip
    used = rows(bundle.card, table)
    stands = weights(stages.rank, stages.ends, stages.tops, stage)
    count = stands[used]
    alike = [np.flatnonzero(count == one) for one in np.unique(count)]
    parts = [(table.embedding[used[each]].astype(np.float32), float(count[each[0]])) for each in alike]
    logits, found = graph.run_parts(parts)
    attention = np.empty(len(used), np.float32)
    attention[np.concatenate(alike)] = found
    return decide(bundle.card, policy, table, used, logits, attention, stands)


def coarse(var: Path, version: str, slides_: int) -> None:
    import numpy as np

    from datasets.slides import sandbox, tiling, tissue
    from datasets.slides.simulate import pyramid
    from datasets.slides.simulate.cell_types import CLASSES
    from datasets.slides.simulate.slides import slide
    from datasets.slides.tiling import GridConfig
    from models.bundle import SLIDE_GRAPH, load
    from models.pathology.card import SlideCard
    from models.pathology.decision import settled
    from models.pathology.onnx_sessions import SlideGraph
    from models.pathology.policy import ReadingPolicy
    from serving import settings
    from serving.pathology.workflow.runner import Asked, Runner
    from serving.pathology.workflow.sampling import darkness, plan

    home = settings.read(environ={"YUHENG_HOME": str(var.parent)})
    bundle = load(var / "bundles/pathology" / version, var / "keys/signing.pub.pem", SlideCard)
    card, policy, graph = bundle.card, ReadingPolicy.load(bundle.policy), SlideGraph(bundle.more[SLIDE_GRAPH])
    assert card.mpp is not None
    same, shares = 0, []
    with tempfile.TemporaryDirectory() as folder:
        paths = home.paths.model_copy(
            update={"bundles": var / "bundles", "public_key": var / "keys/signing.pub.pem", "slides": Path(folder)}
        )
        runner = Runner(home.model_copy(update={"paths": paths}))
        for number in range(slides_):
            label = CLASSES[number % len(CLASSES)]
            path = pyramid.write_tiff(Path(folder) / "a.tiff", slide(9_000 + number, label, *WIDE))
            with sandbox.open_slide(path) as opened:
                tiles = tiling.cover(opened.facts, tissue.find(opened), GridConfig(card.mpp, card.side))
                least = 2 * policy.adequacy.least_tiles
                stages = plan(darkness(opened, tiles), tiles.cells, policy.reading.shares, least)
            mpp = opened.facts.mpp or (0.0, 0.0)
            said = runner.read(Asked("a.tiff", mpp, tiles.places, tiles.extent, card.model, version, bundle.digest))
            runner.close_idle(0)
            path.unlink()
            told = bundle, policy, graph, tiles, said, stages
            whole = answer(*told, -1)
            for stage, end in enumerate(stages.ends):
                fine, share = answer(*told, stage), end / len(tiles)
                if settled(card, policy, fine, policy.reading.unsure * ((1 - share) / share) ** 0.5):
                    break
            same += whole.triage == fine.triage
            shares.append(share)
            print(f"{label:<5} {len(tiles):>5} tiles: {whole.triage} {whole.probability or 0:.3f}; "
                  f"{end:>4} of them: {fine.triage} {fine.probability or 0:.3f}", flush=True)  # fmt: skip
        runner.close()
    print(f"coarse to fine: {same} of {slides_} slides with the same triage, {np.mean(shares):.0%} of the tiles read "
          "(asked: all, a third at most)")  # fmt: skip


# --- memory


def memory(var: Path, version: str) -> None:
    clinic = Clinic(var, version)
    peaks: dict[str, int] = {}
    at_once = [0]

    def watch() -> None:
        here = 0
        for one in clinic.processes():
            with suppress(Exception):  # it ended meanwhile
                line = " ".join(one.cmdline())
                name = next((n for n in ("SlideRunner", "SlideJobs", "sandbox") if n in line), "supervisor")
                lines = Path(f"/proc/{one.pid}/status").read_text(encoding="utf-8").splitlines()
                status = dict(part.split(":", 1) for part in lines)
                peaks[name] = max(peaks.get(name, 0), int(status["VmHWM"].split()[0]))
                here += int(status["VmRSS"].split()[0])
        at_once[0] = max(at_once[0], here)

    try:
        began = time.perf_counter()
        path = painted("memory", clinic.home / "huge.tiff", mpp=0.25)
        size = path.stat().st_size
        print(f"painted in {time.perf_counter() - began:.0f} s: {size / 1e9:.2f} GB", flush=True)
        clinic.start()
        row, seconds = clinic.follow(clinic.send(path), watch)
        told = row["reading"]["slide"]
        print(
            f"{told['width']:,} x {told['height']:,} pixels, {row['reading']['tiles']['read']:,} tiles, {seconds:.0f} s"
        )
        for name, peak in sorted(peaks.items()):
            print(f"peak of {name:<12} {peak / 1024:>7,.0f} MB")
        print(f"all together {at_once[0] / 1024:,.0f} MB at most (asked: every process under 1,500 MB)")
    finally:
        clinic.stop()


def champion(var: Path) -> str:
    from models.bundle import pointed

    models = var / "bundles/pathology"
    if not models.is_dir():
        print(f"There is no model under {models}; it is trained first.", flush=True)
        command = [sys.executable, "-m", "training", "pathology", "--var", str(var), "--quiet"]
        subprocess.run(command, cwd=ROOT, check=True)
    found = pointed(models) or pointed(models, "challenger")
    if found is None:
        raise SystemExit(f"{models}: neither champion nor challenger. Train one: python -m training pathology")
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--var", type=Path, default=ROOT / "var")
    words.add_argument(
        "--parts", nargs="+", choices=("speed", "coarse", "memory"), default=["speed", "coarse", "memory"]
    )
    words.add_argument("--rounds", type=int, default=3, help="of speed")
    words.add_argument("--slides", type=int, default=20, help="read both ways")
    asked = words.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    var = asked.var.resolve()
    version = champion(var)
    card = json.loads((var / "bundles/pathology" / version / "card.json").read_text(encoding="utf-8"))
    print(f"model {card['model']} {version}: {card['backbone']}, {card['side']} px at {card['mpp']} um")
    if "speed" in asked.parts:
        speed(var, version, asked.rounds)
    if "coarse" in asked.parts:
        coarse(var, version, asked.slides)
    if "memory" in asked.parts:
        memory(var, version)


if __name__ == "__main__":
    main()
