"""Commands that import subjects and companies into the store and export rows for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.store import account, configured_store, configured_vault, reported_errors

app = typer.Typer(add_completion=False)
ROOT = Path(__file__).parents[2]
DEFAULT_POLICY = ROOT / "configs" / "policies" / "scitech_risk.toml"

FileArgument = Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet by the table's contract")]
TableOption = Annotated[str, typer.Option(help="a table of the project, or a contract's .toml")]
TrueAtOption = Annotated[str | None, typer.Option(help="day the values are valid from; else the file's own, or today")]


@app.command()
def load_subjects(file: FileArgument, table: TableOption = "county", true_at: TrueAtOption = None) -> None:
    """Put indicators into the store, so that a request may name the household or company alone."""
    from serving.privacy.subjects import ingestion

    with reported_errors():
        settings, vault = configured_vault()
        product, contract = ingestion.product_for_table(table), ingestion.load_contract(table)
        store = settings.store_location, settings.store.lock_timeout_seconds
        count = ingestion.load_subjects(file, contract, *store, vault, product, true_at)
    typer.echo(f"{count:,} subjects from {file} are in the store")


@app.command()
def import_indicators(
    file: FileArgument,
    department: Annotated[str, typer.Option(help="the department that the file comes from")],
    contract: TableOption = "county",
    groups: Annotated[
        str | None, typer.Option(help="separated by commas; else the group named like the department")
    ] = None,
    true_at: TrueAtOption = None,
) -> None:
    """Put a department's file into the store, its own groups only."""
    from serving.privacy.subjects import ingestion

    group_names = [group.strip() for group in (groups or department).split(",")]
    with reported_errors():
        settings, vault = configured_vault()
        table, product = ingestion.load_contract(contract), ingestion.product_for_table(contract)
        store = settings.store_location, settings.store.lock_timeout_seconds
        count = ingestion.import_indicators(file, table, *store, vault, product, department, group_names, true_at)
    typer.echo(f"{', '.join(group_names)} of {count:,} subjects from {department} ({file}) are in the store")


@app.command()
def export_training(
    out: Annotated[Path, typer.Option(help="Parquet file; its manifest is written next to it")],
    table: TableOption = "county",
    rows: Annotated[Path | None, typer.Option(help="id, time and outcome of each row; else every subject, now")] = None,
    tenant: Annotated[str, typer.Option(help="the tenant that trains, to whom the grants were given")] = "local",
    purpose: Annotated[str, typer.Option(help="purpose of the grants")] = "training",
) -> None:
    """Export rows for training: pseudonyms, with the values known at each row's time under live grants."""
    from datasets.errors import DataError
    from serving.privacy.consent.rules import load_rules
    from serving.privacy.subjects import ingestion
    from serving.privacy.subjects.vault import open_vault

    with configured_store() as (engine, settings):
        from serving.governance.lineage import training_export

        if purpose != "training":
            raise DataError(f"--purpose is {purpose!r}; rows leave the store for training alone.")
        contract, vault = ingestion.load_contract(table), open_vault(settings)
        requested_rows = training_export.requested_rows(rows, contract, engine, vault)
        product = ingestion.product_for_table(contract.name)
        request = training_export.ExportRequest(contract, product, tenant, requested_rows)
        manifest = training_export.export(engine, vault, load_rules(), request, out, account())
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in manifest.left_out.items()) or "none"
    typer.echo(
        f"{manifest.rows:,} rows under {len(manifest.authorisations)} authorisations are in {out}; left out: {left_out}"
    )


@app.command()
def import_register(
    folder: Annotated[Path, typer.Argument(help="folder of a register: companies, links, invoices, history")],
    answers: Annotated[Path | None, typer.Option(help="answers.parquet of a portfolio run on this register")] = None,
    policy: Annotated[Path, typer.Option(help="policy whose signals become the warnings")] = DEFAULT_POLICY,
) -> None:
    """Put a register of companies into the store, for requests by company id and for histories by month."""
    from models.policy.config import PolicyError
    from models.scitech_risk.policy import Policy

    with reported_errors(PolicyError):
        from serving.decisions.companies import register_loader

        settings, vault = configured_vault()
        store = settings.store_location, settings.store.lock_timeout_seconds
        result = register_loader.import_register(folder, Policy.load(policy), *store, vault, answers)
    for remark in result.remarks:
        typer.echo(f"{remark.en} {remark.zh}")
    typer.echo(f"{result.companies:,} companies of {result.month} with {result.months:,} months are in the store")
