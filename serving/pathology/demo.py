"""What a newcomer sees of a slide: made up, sent as a clinic sends it, read, and told as a pathologist would see it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

PART = 4 << 20  # bytes sent at a time
PATIENCE = 600  # seconds for one small slide
FINAL = ("ready", "abstained", "quality_failed", "failed", "cancelled")
TRIAGE = {
    "negative": "negative 阴性",
    "review": "review 待复核",
    "positive": "positive 阳性",
    "abstained": "no answer 不作结论",
}


def run(base: str, folder: Path, console: Console) -> list[str]:
    """Paint slides into `folder`, send one positive and one negative, show what came back. The slides' ids."""
    if not (folder / "truth.json").exists():
        command = [sys.executable, "-m", "datasets.simulate.slides", "--out", str(folder), "--slides", "4"]
        subprocess.run([*command, "--columns", "8", "--rows", "6", "--seed", "2026"], check=True)
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["slides"]
    labels = {name: one["label"] for name, one in truth.items()}
    chosen = [next(name for name, label in labels.items() if label == wanted) for wanted in ("HSIL", "NILM")]
    found = []
    for name in chosen:
        slide = send(base, folder / name, f"DEMO-{time.strftime('%Y%m%d-%H%M%S')}-{labels[name]}")
        show(console, follow(base, slide, console), labels[name])
        console.print(f"  Look at it: {base}/slides/{slide}\n", soft_wrap=True)
        found.append(slide)
    return found


def send(base: str, path: Path, accession: str) -> str:
    """Upload by tus, as any of its clients does; the slide's id."""
    content = path.read_bytes()
    told = {
        "filename": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "accession": accession,
        "specimen": "cervical_cytology",
        "stain": "papanicolaou",
        "preparation": "liquid_based",
        "request": json.dumps({"age": 46, "hpv_result": "positive", "hpv_genotype": ["16"], "previous_result": "NILM"}),
    }
    metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in told.items())
    tus = {"Tus-Resumable": "1.0.0"}
    created = _ask(
        f"{base}/v1/uploads", "POST", {**tus, "Upload-Length": str(len(content)), "Upload-Metadata": metadata}
    )
    place = created.headers["Location"]
    place = place if place.startswith("http") else base + place
    for start in range(0, len(content), PART):
        headers = {**tus, "Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
        done = _ask(place, "PATCH", headers, content[start : start + PART])
    return str(done.headers["Slide-Id"])


def follow(base: str, slide: str, console: Console) -> dict[str, Any]:
    """Until the machine has said all it will."""
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("reading the slide", total=None)
        while True:
            with _ask(f"{base}/v1/slides/{slide}", "GET", {}) as response:
                told: dict[str, Any] = json.load(response)
            bars.update(task, description=told["state"], completed=told.get("done"), total=told.get("total"))
            if told["state"] in FINAL:
                return told
            if time.monotonic() - began > PATIENCE:
                raise SystemExit(f"Slide {slide} was {told['state']} after {PATIENCE} s. Is serve-slides running?")
            time.sleep(0.3)


def show(console: Console, slide: dict[str, Any], truth: str) -> None:
    """One slide as its reading tells it, beside what was painted."""
    reading = slide.get("reading")
    if reading is None:
        reasons = [Text(f"  {why['en']} {why['zh']}", style="yellow") for why in slide.get("reasons", [])]
        console.print(Panel(Group(Text(slide["state"], style="bold"), *reasons), title=slide["name"]))
        return
    share = "" if reading["probability"] is None else f"   probability {reading['probability']:.3f}"
    head = Text.assemble(
        (TRIAGE[reading["triage"]], "bold"),
        f"{share}   sent to a person from {reading['threshold']:.3f}   priority {reading['priority']}",
    )
    parts: list[Any] = [head, *(Text(f"  {why['en']} {why['zh']}", style="yellow") for why in reading["abstained"])]
    parts += [Text(f"{reading['adequacy']['en']} {reading['adequacy']['zh']}"), Text(), _classes(reading["classes"])]
    if reading["evidence"]:
        parts += [Text(), _evidence(reading["evidence"][:5])]
    if reading["patient"]:
        parts += [Text(), _patient(reading["patient"])]
    parts += [Text(), Text(reading["claim"]["en"], style="dim"), Text(reading["claim"]["zh"], style="dim")]
    model = reading["model"]
    simulated = "trained on SIMULATED slides 模拟切片训练" if reading["simulated"] else "trained on real slides"
    console.print(
        Panel(
            Group(*parts),
            title=f"{slide['accession']} (a SIMULATED slide 模拟切片; painted as {truth})",
            subtitle=f"{model['name']} {model['version']} · {simulated} · not signed 未签发",
            title_align="left",
            subtitle_align="left",
        )
    )


def _classes(classes: list[dict[str, Any]]) -> Table:
    table = Table("class 分类", "", "probability 概率", box=None, pad_edge=False, header_style="bold")
    for one in classes:
        bar = Bar(1, 0, one["probability"], width=30, color="cyan")
        table.add_row(f"  {one['code']}  {one['zh']}", bar, f"{one['probability']:.3f}")
    return table


def _evidence(spots: list[dict[str, Any]]) -> Table:
    table = Table("evidence 证据图块", "level-0 pixels 像素位置", "probability 概率", box=None, pad_edge=False)
    for spot in spots:
        table.add_row(f"  {spot['code']}", f"{spot['x']:,}, {spot['y']:,}", f"{spot['probability']:.3f}")
    return table


def _patient(patient: dict[str, Any]) -> Table:
    table = Table(f"patient's risk, apart from the image 患者风险（独立于图像）: {patient['level']}", "", box=None)
    for reason in patient["reasons"]:
        table.add_row(f"  {reason['points']:+d}  {reason['en']}", reason["zh"])
    return table


def _ask(url: str, method: str, headers: dict[str, str], body: bytes | None = None) -> Any:
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        return urllib.request.urlopen(request, timeout=120)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {url} answered {error.code}: {error.read().decode()}") from error
