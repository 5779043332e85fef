"""The commands of the service.

python -m serving serve --port 3000                       # the champions under var/bundles, on loopback
python -m serving serve-slides                            # beside it: read the slides that arrive
python -m serving send-slide a.svs --accession C2026-0001 # as a clinic does
python -m serving demo                                    # the released models: served, asked, one retrained live
python -m serving install-models                          # verify and install them where no champion is
python -m serving load-subjects households.csv            # indicators into the store, by household
python -m serving import-indicators tax.csv --department tax         # a department's own groups
python -m serving export-training --out x.parquet         # rows for training, under live authorisations
python -m serving grant create --help                     # authorisations
python -m serving import-register var/registers/2026-06     # companies and their months
python -m serving receipt verify receipt.json             # is this answer genuine?
python -m serving audit verify                            # was anything altered?
python -m serving statement --tenant demo --month 2026-11 # what was used
python -m serving token --tenant demo --role bank         # who may ask: a token, for Authorization: Bearer
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from datasets.files.error_report import run_reported
from datasets.files.text_encoding import use_utf8
from serving.cli import audit as audit_commands
from serving.cli import governance, subjects, tokens
from serving.cli import grants as grant_commands
from serving.cli.store import fail, reported_errors

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(subjects.app)
app.add_typer(governance.app)  # trace, erase, effects
app.add_typer(grant_commands.app, name="grant")
app.add_typer(audit_commands.receipt_app, name="receipt")
app.add_typer(audit_commands.audit_app, name="audit")
app.command("statement")(audit_commands.print_statement)

# Set before these libraries are imported, as each calls out by default.
TELEMETRY_OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
THREAD_LIMITS = {
    "POLARS_MAX_THREADS": "1"
}  # one thread, so that batches do not starve single requests; may be set higher
ROOT = Path(__file__).parents[1]


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="default: configs/serving.toml")] = None,
    host: Annotated[str | None, typer.Option(help="default: configs/serving.toml, loopback")] = None,
) -> None:
    """Serve the champions. The process becomes BentoML's server, so that signals reach it."""
    from serving.settings import SettingsError, check_exposure, load_settings

    try:
        settings = load_settings()
        check_exposure(host or settings.host, settings.access)
    except (SettingsError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    os.environ |= {name: os.environ.get(name, value) for name, value in THREAD_LIMITS.items()}
    tls = settings.tls
    options = ["--ssl-certfile", tls.certificate, "--ssl-keyfile", tls.key] if tls.certificate else []
    _become_server("serving.service:Gateway", host or settings.host, settings.port if port is None else port, *options)


@app.command("serve-slides")
def serve_slides(port: Annotated[int | None, typer.Option(help="default: configs/serving.toml")] = None) -> None:
    """Read the slides that arrive, next to `serve`. The process becomes BentoML's server, so that signals reach it."""
    from importlib.util import find_spec

    from serving.settings import SettingsError, load_settings

    if missing := [name for name in ("openslide", "kfbslide", "dbos") if find_spec(name) is None]:
        fail(f"{', '.join(missing)} is not installed; slides need it: pip install -r configs/locks/demo.txt")
    try:
        settings = load_settings()
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error
    port = settings.reader.port if port is None else port
    _become_server("serving.pathology.workflow.service:SlideJobs", "127.0.0.1", port)


def _become_server(service: str, host: str, port: int, *options: str) -> NoReturn:
    os.environ.update(TELEMETRY_OFF)
    os.environ.setdefault("YUHENG_HOME", str(ROOT))
    command = [sys.executable, "-m", "bentoml", "serve", service, "--working-dir", str(ROOT)]
    os.execv(sys.executable, [*command, "--host", host, "--port", str(port), *options])


@app.command()
def build() -> None:
    """Build a self-contained Bento of the code, the configs and the bundles under var/bundles."""
    import subprocess

    from models.bundle import read_alias

    models = [folder.name for folder in sorted((ROOT / "var/bundles").glob("*")) if read_alias(folder)]
    if not models:
        fail("var/bundles holds no champion. Train one first: python -m training credit_limit")
    if not (ROOT / "serving/console/dist/index.html").exists():
        fail("The console is not built, and a Bento contains it. Build it first: make console")
    typer.echo(f"A Bento that serves {', '.join(models)}")
    command = [sys.executable, "-m", "bentoml", "build", "-f", "serving/bentofile.yaml", "."]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, env={**os.environ, **TELEMETRY_OFF}, check=False).returncode)


@app.command("send-slide")
def send_slide(
    file: Annotated[Path, typer.Argument(help="the slide: a file, or a folder that holds its files")],
    accession: Annotated[str, typer.Option(help="accession number of the laboratory")],
    specimen: Annotated[str, typer.Option()] = "cervical_cytology",
    stain: Annotated[str, typer.Option()] = "papanicolaou",
    preparation: Annotated[str, typer.Option()] = "liquid_based",
    mpp: Annotated[float | None, typer.Option(help="microns per pixel, where the file has none")] = None,
    form: Annotated[Path | None, typer.Option(help="JSON: age, hpv_result, hpv_genotype, previous_result, ...")] = None,
    url: Annotated[str, typer.Option(help="address of the service")] = "http://127.0.0.1:3000",
    token: Annotated[
        str, typer.Option(envvar="TOKEN", help="token of a clinic: python -m serving token --role clinic")
    ] = "",
) -> None:
    """Send a slide as a clinic does, follow its progress, and show the reading."""
    import json

    from rich.console import Console

    from serving.cli import send_slide as client

    fields = {"accession": accession, "specimen": specimen, "stain": stain, "preparation": preparation}
    fields |= {} if mpp is None else {"mpp": str(mpp)}
    with reported_errors(OSError, ValueError):
        slide = client.send(url, file, token, (json.loads(form.read_text(encoding="utf-8")) if form else {}) | fields)
    console = Console()
    client.show_reading(console, client.follow(url, slide, token, console), file.name)
    typer.echo(f"{url}/console/slides/{slide}")


@app.command("confirm-scale")
def confirm_scale(
    slide: Annotated[str, typer.Argument(help="id of a slide that is awaiting_scale")],
    mpp: Annotated[float, typer.Option(help="microns per pixel, looked up at the scanner")],
    url: Annotated[str, typer.Option(help="address of the service")] = "http://127.0.0.1:3000",
    token: Annotated[str, typer.Option(envvar="TOKEN", help="token of the clinic or of an operator")] = "",
) -> None:
    """Confirm the scale of a slide whose file contradicts itself or its sender; the slide proceeds."""
    from serving.cli import send_slide as client

    with reported_errors(OSError, ValueError):
        row = client.confirm_scale(url, slide, token, mpp)
    typer.echo(f"{slide} is {row['state']} at {row['mpp']:g} microns per pixel")


app.command("token")(tokens.print_token)


@app.command("install-models")
def install_models() -> None:
    """Verify the models that ship with the project and install those whose name has no champion yet."""
    from models.bundle import BundleError
    from serving.registry import released_models
    from serving.settings import load_settings

    with reported_errors(BundleError, OSError):
        installed = released_models.install_from(load_settings().paths)
    for model in installed:
        typer.echo(f"{model.model} {model.version} is the champion (bundle {model.digest})")
    if not installed:
        typer.echo("Nothing to install: each released model has a champion, or none is released.")


@app.command()
def demo(
    port: Annotated[int, typer.Option()] = 3000,
    once: Annotated[bool, typer.Option("--once", help="stop after the answers")] = False,
    details: Annotated[bool, typer.Option("--details", help="each answer in full, with ledger and reasons")] = False,
) -> None:
    """Serve the released models, ask each of configs/examples, retrain one live, and stay."""
    from serving.cli.demo import run

    raise typer.Exit(run(port, once, details))


if __name__ == "__main__":
    use_utf8()
    sys.exit(run_reported(app))
