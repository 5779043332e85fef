"""The gateway from the command line.

python -m serving serve --port 3000                       # the champions under var/bundles, on loopback
python -m serving serve-slides                            # beside it: read the slides that arrive
python -m serving send-slide a.svs --accession C2026-0001 # as a clinic does
python -m serving demo                                    # the released models: served, asked, one retrained live
python -m serving install-models                          # verify and install them where no champion is
python -m serving load-subjects households.csv            # indicators into the store, by household
python -m serving ingest tax.csv --department tax         # a department's own groups
python -m serving export-training --out x.parquet         # rows for training, under live authorisations
python -m serving grant create --help                     # authorisations
python -m serving load-register var/registers/2026-06     # companies and their months
python -m serving receipt verify receipt.json             # is this answer genuine?
python -m serving audit verify                            # was anything altered?
python -m serving statement --tenant demo --month 2026-11 # what was used
python -m serving token --tenant demo --role bank         # who may ask: a token, for Authorization: Bearer
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from datasets.text_encoding import use_utf8
from serving.cli import audit as proof_commands
from serving.cli import governance, tokens
from serving.cli import grants as grant_commands

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.add_typer(governance.app)  # trace, erase, effects
app.add_typer(grant_commands.app, name="grant")
app.add_typer(proof_commands.receipt, name="receipt")
app.add_typer(proof_commands.audit, name="audit")
app.command("statement")(proof_commands.statement)

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
    from serving.settings import SettingsRefused, open_to, read

    try:
        settings = read()
        open_to(host or settings.host, settings.access)
    except (SettingsRefused, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    os.environ.update(QUIET)
    os.environ |= {name: os.environ.get(name, value) for name, value in CALM.items()}
    os.environ.setdefault("YUHENG_HOME", str(ROOT))
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:Gateway", "--working-dir", str(ROOT)]
    command += ["--host", host or settings.host, "--port", str(settings.port if port is None else port)]
    if settings.tls.certificate:
        command += ["--ssl-certfile", settings.tls.certificate, "--ssl-keyfile", settings.tls.key]
    os.execv(sys.executable, command)


@app.command("serve-slides")
def serve_slides(port: Annotated[int | None, typer.Option(help="else configs/serving.toml")] = None) -> None:
    """Read the slides that arrive, beside the gateway. Becomes BentoML's server, so that signals reach it."""
    from importlib.util import find_spec

    from serving.settings import SettingsRefused, read

    if missing := [name for name in ("openslide", "kfbslide", "dbos") if find_spec(name) is None]:
        told = f"{', '.join(missing)} is not installed; slides need it: pip install -r configs/locks/demo.txt"
        typer.echo(told, err=True)
        raise typer.Exit(1)
    try:
        settings = read()
    except SettingsRefused as error:
        raise typer.BadParameter(str(error)) from error
    os.environ.update(QUIET)
    os.environ.setdefault("YUHENG_HOME", str(ROOT))
    where = ["--host", "127.0.0.1", "--port", str(settings.reader.port if port is None else port)]
    command = [sys.executable, "-m", "bentoml", "serve", "serving.pathology.workflow.service:SlideJobs"]
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
    if not (ROOT / "serving/console/dist/index.html").exists():
        typer.echo("The console was not built, and a Bento brings it along. Build it first: make console", err=True)
        raise typer.Exit(1)
    typer.echo(f"A Bento that serves {', '.join(models)}")
    command = [sys.executable, "-m", "bentoml", "build", "-f", "serving/bentofile.yaml", "."]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, env={**os.environ, **QUIET}, check=False).returncode)


@app.command("load-subjects")
def load_subjects(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet by the table's contract")],
    table: Annotated[str, typer.Option(help="a table of the project, or a contract's .toml")] = "county",
    true_at: Annotated[str | None, typer.Option(help="the day of which the file tells; else its own, or today")] = None,
) -> None:
    """Put indicators into the store, so that a request may name the household or company alone."""
    from datasets.errors import DataError
    from serving import settings
    from serving.core.db.engine import StoreUnavailable
    from serving.privacy.subjects import ingestion
    from serving.privacy.subjects.vault import VaultLocked
    from serving.privacy.subjects.vault import of as vault_of

    found = settings.read()
    try:
        product, vault = ingestion.product_of(table), vault_of(found)
        where = found.store_place, found.store.patience_seconds
        count = ingestion.load_subjects(file, ingestion.contract(table), *where, vault, product, true_at)
    except (DataError, StoreUnavailable, VaultLocked) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{count:,} subjects from {file} are in the store")


@app.command()
def ingest(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet of a department")],
    department: Annotated[str, typer.Option(help="whose file it is")],
    contract: Annotated[str, typer.Option(help="a table of the project, or a contract's .toml")] = "county",
    groups: Annotated[str | None, typer.Option(help="commas between; else the one named like the department")] = None,
    true_at: Annotated[str | None, typer.Option(help="the day of which the file tells; else its own, or today")] = None,
) -> None:
    """Put a department's file into the store: its own groups, and no other."""
    from datasets.errors import DataError
    from serving import settings
    from serving.core.db.engine import StoreUnavailable
    from serving.privacy.subjects import ingestion
    from serving.privacy.subjects.vault import VaultLocked
    from serving.privacy.subjects.vault import of as vault_of

    found = settings.read()
    chosen = [one.strip() for one in (groups or department).split(",")]
    try:
        vault, table = vault_of(found), ingestion.contract(contract)
        where = found.store_place, found.store.patience_seconds
        product = ingestion.product_of(contract)
        count = ingestion.ingest(file, table, *where, vault, product, department, chosen, true_at)
    except (DataError, StoreUnavailable, VaultLocked) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{', '.join(chosen)} of {count:,} subjects from {department} ({file}) are in the store")


@app.command("export-training")
def export_training(
    out: Annotated[Path, typer.Option(help="Parquet; its manifest comes beside it")],
    table: Annotated[str, typer.Option(help="a table of the project, or a contract's .toml")] = "county",
    rows: Annotated[Path | None, typer.Option(help="id, time and outcome of each row; else every subject, now")] = None,
    tenant: Annotated[str, typer.Option(help="who trains: to whom the grants were given")] = "local",
    purpose: Annotated[str, typer.Option(help="of the grants")] = "training",
) -> None:
    """Take rows for training out of the store: pseudonyms, and what was known at each row's time under live grants."""
    from datasets.errors import DataError
    from serving import settings
    from serving.core.db.engine import StoreUnavailable, open_store
    from serving.governance.lineage import training_export
    from serving.privacy.consent.rules import rules
    from serving.privacy.subjects import ingestion
    from serving.privacy.subjects.vault import VaultLocked
    from serving.privacy.subjects.vault import of as vault_of

    found = settings.read()
    try:
        if purpose != "training":
            raise DataError(f"--purpose is {purpose!r}; rows leave the store for training alone.")
        told, vault = ingestion.contract(table), vault_of(found)
        engine = open_store(found.store_place, found.store.patience_seconds)
        asked = training_export.asked_of(rows, told, engine, vault)
        wanted = training_export.Wanted(told, ingestion.product_of(told.name), tenant, asked)
        manifest = training_export.export(engine, vault, rules(), wanted, out)
    except (DataError, StoreUnavailable, VaultLocked) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:
        typer.echo(f"{error.name} is not installed; needed: pip install -r configs/locks/training.txt", err=True)
        raise typer.Exit(1) from error
    lost = ", ".join(f"{many:,} {why}" for why, many in manifest.left_out.items()) or "none"
    typer.echo(
        f"{manifest.rows:,} rows under {len(manifest.authorisations)} authorisations are in {out}; left out: {lost}"
    )


@app.command("load-register")
def load_register(
    folder: Annotated[Path, typer.Argument(help="a register: companies, links, invoices, history")],
    answers: Annotated[Path | None, typer.Option(help="answers.parquet of a run over this register")] = None,
    policy: Annotated[Path, typer.Option(help="whose signals are the warnings")] = POLICY,
) -> None:
    """Put a register of companies into the store: to ask about one by its id, and for its history by month."""
    from datasets.errors import DataError
    from models.policy.config import PolicyRefused
    from models.scitech_risk.policy import Policy
    from serving import settings
    from serving.core.db.engine import StoreUnavailable
    from serving.decisions.companies import register_loader
    from serving.privacy.subjects.vault import VaultLocked
    from serving.privacy.subjects.vault import of as vault_of

    found = settings.read()
    try:
        told = Policy.load(policy)
        vault = vault_of(found)
        where = found.store_place, found.store.patience_seconds
        loaded = register_loader.load_register(folder, told, *where, vault, answers)
    except (DataError, PolicyRefused, StoreUnavailable, VaultLocked) as error:
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
    token: Annotated[str, typer.Option(envvar="TOKEN", help="of a clinic: python -m serving token --role clinic")] = "",
) -> None:
    """Send a slide as a clinic does, follow it while it is read, and show the reading."""
    import json

    from rich.console import Console

    from serving.cli import send_slide as client

    told = {"accession": accession, "specimen": specimen, "stain": stain, "preparation": preparation}
    told |= {} if mpp is None else {"mpp": str(mpp)}
    try:
        slide = client.send(url, file, token, (json.loads(form.read_text(encoding="utf-8")) if form else {}) | told)
    except (OSError, ValueError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from error
    console = Console()
    client.show(console, client.follow(url, slide, token, console), file.name)
    typer.echo(f"{url}/console/slides/{slide}")


app.command("token")(tokens.token)


@app.command("install-models")
def install_models() -> None:
    """Verify the models that ship with the project and install those whose name has no champion yet."""
    from models.bundle import BundleRefused
    from serving import settings
    from serving.registry import released_models

    try:
        installed = released_models.install_from(settings.read().paths)
    except (BundleRefused, OSError, settings.SettingsRefused) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    for model in installed:
        typer.echo(f"{model.model} {model.version} is the champion (bundle {model.digest})")
    if not installed:
        typer.echo("Nothing to install: each released model has a champion, or none is released.")


@app.command()
def demo(
    port: Annotated[int, typer.Option()] = 3000,
    once: Annotated[bool, typer.Option("--once", help="stop after the answers")] = False,
    details: Annotated[bool, typer.Option("--details", help="each answer whole, with ledger and reasons")] = False,
) -> None:
    """Serve the released models, ask each of configs/examples, retrain one live, and stay."""
    from serving.cli.demo import run

    raise typer.Exit(run(port, once, details))


if __name__ == "__main__":
    use_utf8()
    app()
