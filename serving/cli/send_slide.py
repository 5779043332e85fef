"""A clinic's side of the service: a slide sent, followed while it is read, and its reading shown to a person.

slide = send(base, Path("a.svs"), token, {"accession": "C2026-0001", "specimen": "cervical_cytology", ...})
show(console, follow(base, slide, token, console), "a.svs")
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from serving.core.http.client import open_url
from serving.pathology.slides.storage import sha256_of

TUS_HEADERS = {"Tus-Resumable": "1.0.0"}
METADATA_FIELDS = ("accession", "specimen", "stain", "preparation", "mpp")  # of the form, what tus carries by itself
DEMO_FORM = {
    "specimen": "cervical_cytology",
    "stain": "papanicolaou",
    "preparation": "liquid_based",
    "age": 46,
    "hpv_result": "positive",
    "hpv_genotype": ["16"],
    "previous_result": "NILM",
}
MIRAX_SUFFIX = ".mrxs"
MAX_LOSSES = 5  # of the connection, during one file
CHUNK_BYTES = 4 << 20  # bytes sent at a time
TIMEOUT_SECONDS = 600  # seconds for one small slide
FINAL_STATES = ("ready", "abstained", "quality_failed", "failed", "cancelled", "awaiting_scale")
TRIAGE_LABELS = {
    "negative": "negative 阴性",
    "review": "review 待复核",
    "positive": "positive 阳性",
    "abstained": "no answer 不作结论",
}


def send(base: str, path: Path, token: str, form: dict[str, Any]) -> str:
    """Upload by tus, as any of its clients does; the slide's id. `form`: accession, specimen, stain, preparation, …

    path: a file, a folder with the files of one slide, such as a DICOM series, or an MRXS, whose folder lies beside it.
    An upload whose connection is lost continues where it stopped.
    """
    fields = {name: value for name, value in form.items() if name in METADATA_FIELDS}
    fields["request"] = json.dumps(
        {name: value for name, value in form.items() if name not in METADATA_FIELDS}, ensure_ascii=False
    )
    files = files_of_slide(path)
    if len(files) == 1:
        return _send_file(base, next(iter(files.values())), token, fields)
    group = {"group": f"{path.name[:30]} {uuid.uuid4().hex[:16]}", "files": str(len(files))}
    for relative_path, file in files.items():
        slide_id = _send_file(base, file, token, fields | group | {"relativePath": relative_path})
    return slide_id


def files_of_slide(path: Path) -> dict[str, Path]:
    """Path within the slide's folder -> file. Raises FileNotFoundError where there is none."""
    folder = path if path.is_dir() else path.with_suffix("")
    files = {} if path.is_dir() else {path.name: path}
    if path.is_dir() or path.suffix.lower() == MIRAX_SUFFIX:
        files |= {str(file.relative_to(folder.parent)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    if not files:
        raise FileNotFoundError(f"{path} holds no file. Name a slide, or the folder with the files of one slide.")
    return files


def _send_file(base: str, path: Path, token: str, fields: dict[str, Any]) -> str:
    fields = fields | {"filename": path.name, "sha256": sha256_of(path).hexdigest()}
    metadata = ",".join(f"{name} {base64.b64encode(str(value).encode()).decode()}" for name, value in fields.items())
    creation_headers = {**TUS_HEADERS, "Upload-Length": str(path.stat().st_size), "Upload-Metadata": metadata}
    response = _request(f"{base}/v1/uploads", "POST", token, creation_headers)
    upload_url = urllib.parse.urljoin(base, response.headers["Location"])
    losses = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            offset = file.tell() - len(chunk)
            headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            try:
                response = _request(upload_url, "PATCH", token, {**TUS_HEADERS, **headers}, chunk)
            except OSError:  # the connection was lost; another request tells how far the service came
                losses += 1
                if losses > MAX_LOSSES:
                    raise
                time.sleep(losses)
                head = _request(upload_url, "HEAD", token, TUS_HEADERS)
                file.seek(int(head.headers["Upload-Offset"]))
                response = head
    return str(response.headers["Slide-Id"])


def follow(base: str, slide: str, token: str, console: Console) -> dict[str, Any]:
    """Until the machine has said all it will."""
    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading the slide", total=None)
        while True:
            with _request(f"{base}/v1/slides/{slide}", "GET", token, {}) as response:
                payload: dict[str, Any] = json.load(response)
            progress.update(
                task, description=payload["state"], completed=payload.get("done"), total=payload.get("total")
            )
            if payload["state"] in FINAL_STATES:
                return payload
            if time.monotonic() - start > TIMEOUT_SECONDS:
                raise SystemExit(
                    f"Slide {slide} was {payload['state']} after {TIMEOUT_SECONDS} s. Is serve-slides running?"
                )
            time.sleep(0.3)


def confirm_scale(base: str, slide: str, token: str, mpp: float) -> dict[str, Any]:
    """Confirm microns per pixel for a slide that waits for them; the slide as it is afterwards."""
    headers = {"Content-Type": "application/json"}
    with _request(
        f"{base}/v1/slides/{slide}/scale", "POST", token, headers, json.dumps({"mpp": mpp}).encode()
    ) as response:
        payload: dict[str, Any] = json.load(response)
    return payload


def show_reading(console: Console, slide: dict[str, Any], description: str) -> None:
    """One slide as its reading tells it; `what` is said beside its accession number."""
    reading = slide.get("reading")
    if reading is None:
        reasons = [Text(f"  {reason['en']} {reason['zh']}", style="yellow") for reason in slide.get("reasons", [])]
        if slide["state"] == "awaiting_scale":
            reasons.append(Text(f"  python -m serving confirm-scale {slide['slide_id']} --mpp ..."))
        console.print(
            Panel(Group(Text(slide["state"], style="bold"), *reasons), title=f"{slide['accession']} ({description})")
        )
        return
    probability = "" if reading["probability"] is None else f"   probability {reading['probability']:.3f}"
    headline = Text.assemble(
        (TRIAGE_LABELS[reading["triage"]], "bold"),
        f"{probability}   sent to a person from {reading['threshold']:.3f}   priority {reading['priority']}",
    )
    sections: list[Any] = [
        headline,
        *(Text(f"  {why['en']} {why['zh']}", style="yellow") for why in reading["abstained"]),
    ]
    sections += [
        Text(f"{reading['adequacy']['en']} {reading['adequacy']['zh']}"),
        Text(),
        _classes_table(reading["classes"]),
    ]
    if reading["evidence"]:
        sections += [Text(), _evidence_table(reading["evidence"][:5])]
    if reading["patient"]:
        sections += [Text(), _patient_table(reading["patient"])]
    sections += [Text(), Text(reading["claim"]["en"], style="dim"), Text(reading["claim"]["zh"], style="dim")]
    model = reading["model"]
    simulated = "trained on SIMULATED slides 模拟切片训练" if reading["simulated"] else "trained on real slides"
    console.print(
        Panel(
            Group(*sections),
            title=f"{slide['accession']} ({description})",
            subtitle=f"{model['name']} {model['version']} · {simulated} · not signed 未签发",
            title_align="left",
            subtitle_align="left",
        )
    )


def _classes_table(classes: list[dict[str, Any]]) -> Table:
    table = Table("class 分类", "", "probability 概率", box=None, pad_edge=False, header_style="bold")
    for row in classes:
        bar = Bar(1, 0, row["probability"], width=30, color="cyan")
        table.add_row(f"  {row['code']}  {row['zh']}", bar, f"{row['probability']:.3f}")
    return table


def _evidence_table(spots: list[dict[str, Any]]) -> Table:
    table = Table("evidence 证据图块", "level-0 pixels 像素位置", "probability 概率", box=None, pad_edge=False)
    for spot in spots:
        table.add_row(f"  {spot['code']}", f"{spot['x']:,}, {spot['y']:,}", f"{spot['probability']:.3f}")
    return table


def _patient_table(patient: dict[str, Any]) -> Table:
    table = Table(f"patient's risk, apart from the image 患者风险（独立于图像）: {patient['level']}", "", box=None)
    for reason in patient["reasons"]:
        table.add_row(f"  {reason['points']:+d}  {reason['en']}", reason["zh"])
    return table


def _request(url: str, method: str, token: str, headers: dict[str, str], body: bytes | None = None) -> Any:
    headers = headers | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        return open_url(request, timeout=120)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {url} answered {error.code}: {error.read().decode()}") from error
