"""Authorisations from the command line.

python -m serving grant create --kind government --grantor "Tax Bureau" --tenant demo --purpose credit_limit \
    --groups tax,social_security --to 2027-12-31 --document signed.pdf
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(no_args_is_help=True, help="Authorisations: create, list, revoke.")


@app.command()
def create(
    kind: Annotated[str, typer.Option(help="government or personal")],
    tenant: Annotated[str, typer.Option(help="to whom")],
    purpose: Annotated[str, typer.Option(help="credit_limit, scitech_risk, pathology or training")],
    groups: Annotated[str, typer.Option(help="of indicators, commas between; all: each that the purpose knows")],
    to: Annotated[str, typer.Option(help="the last day, or a time in UTC")],
    document: Annotated[Path, typer.Option(help="the signed document, whose SHA-256 is kept")],
    grantor: Annotated[str | None, typer.Option(help="the body that grants it")] = None,
    subject: Annotated[str | None, typer.Option(help="household or company id; else all")] = None,
    product: Annotated[str | None, typer.Option(help="of the subject, for training")] = None,
    since: Annotated[str | None, typer.Option("--from", help="else now")] = None,
    by: Annotated[str, typer.Option(help="who enters it")] = "operator",
) -> None:
    """Enter an authorisation that was signed, and print it."""
    from serving.privacy.consent import grants
    from serving.privacy.consent.rules import load_rules

    consent_rules = load_rules()
    try:
        digest = hashlib.sha256(document.read_bytes()).hexdigest()
    except OSError as error:
        _fail(f"{document}: {error.strerror}. Name the signed document.")
    group_names = consent_rules.groups(purpose) if groups == "all" else [group.strip() for group in groups.split(",")]
    fields = {"kind": kind, "tenant": tenant, "purpose": purpose, "groups": group_names, "valid_to": to, "grantor": grantor,
             "subject_id": subject, "product": product, "valid_from": since, "document_sha256": digest}  # fmt: skip

    def insert_grant(connection: Any, vault: Any) -> Any:
        form, errors = grants.validate(
            {name: value for name, value in fields.items() if value is not None}, consent_rules, vault
        )
        if form is None:
            _fail("\n".join(f"{error.field} is {error.actual}; it must be {error.expected}." for error in errors))
        return grants.create(connection, form, by)

    _print_json(_run_in_store(insert_grant))


@app.command("list")
def list_grants(tenant: Annotated[str | None, typer.Option(help="else every tenant's")] = None) -> None:
    """The newest 200, a line of JSON each."""
    from serving.privacy.consent import grants

    for grant in _run_in_store(lambda connection, _: grants.list_grants(connection, tenant)):
        _print_json(grant)


@app.command()
def revoke(authorisation: Annotated[str, typer.Argument(help="its id")]) -> None:
    """Nothing more is read under it, in any process, from now on."""
    from serving.privacy.consent import grants

    revoked = _run_in_store(lambda connection, _: grants.revoke(connection, authorisation))
    if revoked is None:
        _fail(f"No authorisation was entered under {authorisation!r}; python -m serving grant list tells them.")
    _print_json(revoked)


def _run_in_store(fn: Callable[[Any, Any], Any]) -> Any:
    """In one transaction on the store that the settings name."""
    import sqlalchemy as sa

    from serving import settings
    from serving.core.db.engine import open_store, to_store_error
    from serving.core.db.errors import StoreUnavailableError
    from serving.privacy.subjects.errors import VaultKeyError
    from serving.privacy.subjects.vault import bind_store
    from serving.privacy.subjects.vault import open_vault as vault_of

    config = settings.load_settings()
    try:
        vault = vault_of(config)
        engine = open_store(config.store_location, config.store.lock_timeout_seconds)
        with engine.begin() as connection:
            bind_store(connection, vault)
            return fn(connection, vault)
    except sa.exc.SQLAlchemyError as error:
        _fail(str(to_store_error(error)))
    except (StoreUnavailableError, VaultKeyError) as error:
        _fail(str(error))


def _print_json(value: Any) -> None:
    import orjson

    typer.echo(orjson.dumps(value).decode())


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
