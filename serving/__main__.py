"""The gateway from the command line.

python -m serving serve --port 3000                       # the champions under var/bundles, on loopback
python -m serving serve-slides                            # beside it: read the slides that arrive
python -m serving send-slide a.svs --accession C2026-0001 # as a clinic does
python -m serving demo                                    # serve, ask the examples, show the answers
python -m serving load-subjects households.csv            # indicators into the store, by household
python -m serving load-register var/registers/2026-06     # companies and their months
python -m serving add-pathologist "Chen Lan" --licence 1234  # who may sign a slide's report
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from serving.trust import effects_commands

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.add_typer(effects_commands.app)  # trace, erase, effects

# Before any of them is imported: each calls out by default.
QUIET = {
    "ORT_DISABLE_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
CALM = {"POLARS_MAX_THREADS": "1"}  # a batch leaves the other cores to the applicants who wait; yours to raise
ROOT = Path(__file__).parents[1]
POLICY = ROOT / "configs" / "policies" / "scitech_risk.toml"


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="else configs/serving.toml")] = None,
    host: Annotated[str | None, typer.Option(help="else configs/serving.toml: loopback")] = None,
) -> None:
    """Serve the champions. Becomes BentoML's server, so that signals reach it."""
    from serving.settings import SettingsRefused, read

    try:
        settings = read()
    except SettingsRefused as error:
        raise typer.BadParameter(str(error)) from error
    os.environ.update(QUIET)
    os.environ |= {name: os.environ.get(name, value) for name, value in CALM.items()}
    os.environ.setdefault("YUHENG_HOME", str(ROOT))
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:Gateway", "--working-dir", str(ROOT)]
    command += ["--host", host or settings.host, "--port", str(settings.port if port is None else port)]
    os.execv(sys.executable, command)


@app.command("serve-slides")
def serve_slides(port: Annotated[int | None, typer.Option(help="else configs/serving.toml")] = None) -> None:
    """Read the slides that arrive, beside the gateway. Becomes BentoML's server, so that signals reach it."""
    from importlib.util import find_spec

    from serving.settings import SettingsRefused, read

    if missing := [name for name in ("openslide", "kfbslide", "dbos") if find_spec(name) is None]:
        told = f"{', '.join(missing)} is not installed; slides need it: pip install -r configs/locks/dev.txt"
        typer.echo(told, err=True)
        raise typer.Exit(1)
    try:
        settings = read()
    except SettingsRefused as error:
        raise typer.BadParameter(str(error)) from error
    os.environ.update(QUIET)
    os.environ.setdefault("YUHENG_HOME", str(ROOT))
    where = ["--host", "127.0.0.1", "--port", str(settings.reader.port if port is None else port)]
    command = [sys.executable, "-m", "bentoml", "serve", "serving.pathology.service:SlideJobs"]
    os.execv(sys.executable, [*command, "--working-dir", str(ROOT), *where])


@app.command()
def build() -> None:
    """Make a Bento of the code, the configs and the bundles under var/bundles, which serves alone."""
    import subprocess

    from models.bundle import pointed

    models = [folder.name for folder in sorted((ROOT / "var/bundles").glob("*")) if pointed(folder)]
    if not models:
        typer.echo(
            "var/bundles holds no champion; one is needed. Train first: python -m training credit_limit", err=True
        )
        raise typer.Exit(1)
    typer.echo(f"A Bento that serves {', '.join(models)}")
    command = [sys.executable, "-m", "bentoml", "build", "-f", "serving/bentofile.yaml", "."]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, env={**os.environ, **QUIET}, check=False).returncode)


@app.command("load-subjects")
def load_subjects(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet by the table's contract")],
    table: Annotated[str, typer.Option(help="a table of the project, or a contract's .toml")] = "county",
) -> None:
    """Put indicators into the store, so that a request may name the household or company alone."""
    from datasets.faults import DataError
    from serving import settings, subjects
    from serving.store.engine import StoreUnavailable

    found = settings.read()
    try:
        patience, product = found.store.patience_seconds, subjects.product_of(table)
        count = subjects.load_subjects(file, subjects.contract(table), found.store_place, patience, product)
    except (DataError, StoreUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{count:,} subjects from {file} are in the store")


@app.command("load-register")
def load_register(
    folder: Annotated[Path, typer.Argument(help="a register: companies, links, invoices, history")],
    answers: Annotated[Path | None, typer.Option(help="answers.parquet of a run over this register")] = None,
    policy: Annotated[Path, typer.Option(help="whose signals are the warnings")] = POLICY,
) -> None:
    """Put a register of companies into the store: to ask about one by its id, and for its history by month."""
    from datasets.faults import DataError
    from models.policy import PolicyRefused
    from models.scitech_risk.policy import Policy
    from serving import registers, settings
    from serving.store.engine import StoreUnavailable

    found = settings.read()
    try:
        told = Policy.load(policy)
        loaded = registers.load_register(folder, told, found.store_place, found.store.patience_seconds, answers)
    except (DataError, PolicyRefused, StoreUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:  # the graph's library: a service answers without it
        typer.echo(
            f"{error.name} is not installed; a register needs it: pip install -r configs/locks/training.txt", err=True
        )
        raise typer.Exit(1) from error
    for remark in loaded.remarks:
        typer.echo(f"{remark.en} {remark.zh}")
    typer.echo(f"{loaded.companies:,} companies of {loaded.month} with {loaded.months:,} months are in the store")


@app.command("send-slide")
def send_slide(
    file: Annotated[Path, typer.Argument(help="the slide, in one file")],
    accession: Annotated[str, typer.Option(help="its number in the laboratory")],
    specimen: Annotated[str, typer.Option()] = "cervical_cytology",
    stain: Annotated[str, typer.Option()] = "papanicolaou",
    preparation: Annotated[str, typer.Option()] = "liquid_based",
    mpp: Annotated[float | None, typer.Option(help="microns per pixel, where the file does not say")] = None,
    form: Annotated[Path | None, typer.Option(help="JSON: age, hpv_result, hpv_genotype, previous_result, ...")] = None,
    url: Annotated[str, typer.Option(help="of the gateway")] = "http://127.0.0.1:3000",
) -> None:
    """Send a slide as a clinic does, follow it while it is read, and show the reading."""
    import json

    from rich.console import Console

    from serving.pathology import client

    told = {"accession": accession, "specimen": specimen, "stain": stain, "preparation": preparation}
    told |= {} if mpp is None else {"mpp": str(mpp)}
    try:
        slide = client.send(url, file, (json.loads(form.read_text()) if form else {}) | told)
    except (OSError, ValueError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from error
    console = Console()
    client.show(console, client.follow(url, slide, console), file.name)
    typer.echo(f"{url}/slides/{slide}")


@app.command("add-pathologist")
def add_pathologist(
    name: Annotated[str, typer.Argument(help="as it stands on the report")],
    licence: Annotated[str, typer.Option(help="number of the licence to practise")],
    replace: Annotated[bool, typer.Option("--replace", help="a new token for a licence that is there")] = False,
) -> None:
    """Let a pathologist sign, and print the token that proves it: once, as only its digest is kept."""
    from serving import settings
    from serving.pathology import people

    file = settings.read().paths.pathologists
    try:
        token = people.add(file, name, licence, replace)
    except (ValueError, OSError, people.PeopleUnusable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{name} ({licence}) is in {file}. The token, which nobody can look up later:", err=True)
    typer.echo(token)


@app.command()
def demo(
    port: Annotated[int, typer.Option()] = 3000,
    once: Annotated[bool, typer.Option("--once", help="stop after the answers")] = False,
) -> None:
    """Serve, ask each of configs/examples, show the answers, and stay."""
    from serving.demo import run

    raise typer.Exit(run(port, once))


if __name__ == "__main__":
    app()
