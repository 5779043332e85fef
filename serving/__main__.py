"""The gateway from the command line.

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
from typing import Annotated

import typer

from datasets.text_encoding import use_utf8
from serving.cli import audit as audit_commands
from serving.cli import governance, tokens
from serving.cli import grants as grant_commands

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.add_typer(governance.app)  # trace, erase, effects
app.add_typer(grant_commands.app, name="grant")
app.add_typer(audit_commands.receipt_app, name="receipt")
app.add_typer(audit_commands.audit_app, name="audit")
app.command("statement")(audit_commands.print_statement)

# Before any of them is imported: each calls out by default.
TELEMETRY_OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
THREAD_LIMITS = {"POLARS_MAX_THREADS": "1"}  # a batch leaves the other cores to the applicants who wait; yours to raise
ROOT = Path(__file__).parents[1]
DEFAULT_POLICY = ROOT / "configs" / "policies" / "scitech_risk.toml"


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="else configs/serving.toml")] = None,
    host: Annotated[str | None, typer.Option(help="else configs/serving.toml: loopback")] = None,
) -> None:
    """Serve the champions. Becomes BentoML's server, so that signals reach it."""
    from serving.settings import SettingsError, check_exposure, load_settings

    try:
        settings = load_settings()
        check_exposure(host or settings.host, settings.access)
    except (SettingsError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    os.environ.update(TELEMETRY_OFF)
    os.environ |= {name: os.environ.get(name, value) for name, value in THREAD_LIMITS.items()}
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

    from serving.settings import SettingsError, load_settings

    if missing := [name for name in ("openslide", "kfbslide", "dbos") if find_spec(name) is None]:
        message = f"{', '.join(missing)} is not installed; slides need it: pip install -r configs/locks/demo.txt"
        typer.echo(message, err=True)
        raise typer.Exit(1)
    try:
        settings = load_settings()
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error
    os.environ.update(TELEMETRY_OFF)
    os.environ.setdefault("YUHENG_HOME", str(ROOT))
    address = ["--host", "127.0.0.1", "--port", str(settings.reader.port if port is None else port)]
    command = [sys.executable, "-m", "bentoml", "serve", "serving.pathology.workflow.service:SlideJobs"]
    os.execv(sys.executable, [*command, "--working-dir", str(ROOT), *address])


@app.command()
def build() -> None:
    """Make a Bento of the code, the configs and the bundles under var/bundles, which serves alone."""
    import subprocess

    from models.bundle import read_alias

    models = [folder.name for folder in sorted((ROOT / "var/bundles").glob("*")) if read_alias(folder)]
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
    raise typer.Exit(subprocess.run(command, cwd=ROOT, env={**os.environ, **TELEMETRY_OFF}, check=False).returncode)


@app.command("load-subjects")
def load_subjects(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet by the table's contract")],
    table: Annotated[str, typer.Option(help="a table of the project, or a contract's .toml")] = "county",
    true_at: Annotated[str | None, typer.Option(help="the day of which the file tells; else its own, or today")] = None,
) -> None:
    """Put indicators into the store, so that a request may name the household or company alone."""
    from datasets.errors import DataError
    from serving import settings
    from serving.core.db.errors import StoreUnavailableError
    from serving.privacy.subjects import ingestion
    from serving.privacy.subjects.errors import VaultKeyError
    from serving.privacy.subjects.vault import open_vault as vault_of

    config = settings.load_settings()
    try:
        product, vault = ingestion.product_for_table(table), vault_of(config)
        store = config.store_location, config.store.lock_timeout_seconds
        count = ingestion.load_subjects(file, ingestion.load_contract(table), *store, vault, product, true_at)
    except (DataError, StoreUnavailableError, VaultKeyError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{count:,} subjects from {file} are in the store")


@app.command()
def import_indicators(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet of a department")],
    department: Annotated[str, typer.Option(help="whose file it is")],
    contract: Annotated[str, typer.Option(help="a table of the project, or a contract's .toml")] = "county",
    groups: Annotated[str | None, typer.Option(help="commas between; else the one named like the department")] = None,
    true_at: Annotated[str | None, typer.Option(help="the day of which the file tells; else its own, or today")] = None,
) -> None:
    """Put a department's file into the store: its own groups, and no other."""
    from datasets.errors import DataError
    from serving import settings
    from serving.core.db.errors import StoreUnavailableError
    from serving.privacy.subjects import ingestion
    from serving.privacy.subjects.errors import VaultKeyError
    from serving.privacy.subjects.vault import open_vault as vault_of

    config = settings.load_settings()
    group_names = [group.strip() for group in (groups or department).split(",")]
    try:
        vault, table = vault_of(config), ingestion.load_contract(contract)
        store = config.store_location, config.store.lock_timeout_seconds
        product = ingestion.product_for_table(contract)
        count = ingestion.import_indicators(file, table, *store, vault, product, department, group_names, true_at)
    except (DataError, StoreUnavailableError, VaultKeyError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{', '.join(group_names)} of {count:,} subjects from {department} ({file}) are in the store")


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
    from serving.core.db.engine import open_store
    from serving.core.db.errors import StoreUnavailableError
    from serving.governance.lineage import training_export
    from serving.privacy.consent.rules import load_rules
    from serving.privacy.subjects import ingestion
    from serving.privacy.subjects.errors import VaultKeyError
    from serving.privacy.subjects.vault import open_vault as vault_of

    config = settings.load_settings()
    try:
        if purpose != "training":
            raise DataError(f"--purpose is {purpose!r}; rows leave the store for training alone.")
        table_schema, vault = ingestion.load_contract(table), vault_of(config)
        engine = open_store(config.store_location, config.store.lock_timeout_seconds)
        requested_rows = training_export.requested_rows(rows, table_schema, engine, vault)
        request = training_export.ExportRequest(
            table_schema, ingestion.product_for_table(table_schema.name), tenant, requested_rows
        )
        manifest = training_export.export(engine, vault, load_rules(), request, out)
    except (DataError, StoreUnavailableError, VaultKeyError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:
        typer.echo(f"{error.name} is not installed; needed: pip install -r configs/locks/training.txt", err=True)
        raise typer.Exit(1) from error
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in manifest.left_out.items()) or "none"
    typer.echo(
        f"{manifest.rows:,} rows under {len(manifest.authorisations)} authorisations are in {out}; left out: {left_out}"
    )


@app.command("import-register")
def import_register(
    folder: Annotated[Path, typer.Argument(help="a register: companies, links, invoices, history")],
    answers: Annotated[Path | None, typer.Option(help="answers.parquet of a run over this register")] = None,
    policy: Annotated[Path, typer.Option(help="whose signals are the warnings")] = DEFAULT_POLICY,
) -> None:
    """Put a register of companies into the store: to ask about one by its id, and for its history by month."""
    from datasets.errors import DataError
    from models.policy.config import PolicyError
    from models.scitech_risk.policy import Policy
    from serving import settings
    from serving.core.db.errors import StoreUnavailableError
    from serving.decisions.companies import register_loader
    from serving.privacy.subjects.errors import VaultKeyError
    from serving.privacy.subjects.vault import open_vault as vault_of

    config = settings.load_settings()
    try:
        warning_policy = Policy.load(policy)
        vault = vault_of(config)
        store = config.store_location, config.store.lock_timeout_seconds
        result = register_loader.import_register(folder, warning_policy, *store, vault, answers)
    except (DataError, PolicyError, StoreUnavailableError, VaultKeyError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:  # the graph's library: a service answers without it
        typer.echo(
            f"{error.name} is not installed; a register needs it: pip install -r configs/locks/training.txt", err=True
        )
        raise typer.Exit(1) from error
    for remark in result.remarks:
        typer.echo(f"{remark.en} {remark.zh}")
    typer.echo(f"{result.companies:,} companies of {result.month} with {result.months:,} months are in the store")


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

    fields = {"accession": accession, "specimen": specimen, "stain": stain, "preparation": preparation}
    fields |= {} if mpp is None else {"mpp": str(mpp)}
    try:
        slide = client.send(url, file, token, (json.loads(form.read_text(encoding="utf-8")) if form else {}) | fields)
    except (OSError, ValueError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from error
    console = Console()
    client.show_reading(console, client.follow(url, slide, token, console), file.name)
    typer.echo(f"{url}/console/slides/{slide}")


app.command("token")(tokens.print_token)


@app.command("install-models")
def install_models() -> None:
    """Verify the models that ship with the project and install those whose name has no champion yet."""
    from models.bundle import BundleError
    from serving import settings
    from serving.registry import released_models

    try:
        installed = released_models.install_from(settings.load_settings().paths)
    except (BundleError, OSError, settings.SettingsError) as error:
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
    details: Annotated[bool, typer.Option("--details", help="each answer in full, with ledger and reasons")] = False,
) -> None:
    """Serve the released models, ask each of configs/examples, retrain one live, and stay."""
    from serving.cli.demo import run

    raise typer.Exit(run(port, once, details))


if __name__ == "__main__":
    use_utf8()
    app()
