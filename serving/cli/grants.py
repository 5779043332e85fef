"""Commands that create, list and revoke authorisations.

python -m serving grant create --kind government --grantor "Tax Bureau" --tenant demo --purpose credit_limit \
    --groups tax,social_security --to 2027-12-31 --document signed.pdf
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli.store import configured_store, fail

app = typer.Typer(no_args_is_help=True, help="Authorisations: create, list, revoke.")


@app.command()
def create(
    kind: Annotated[str, typer.Option(help="government or personal")],
    tenant: Annotated[str, typer.Option(help="tenant that may read")],
    purpose: Annotated[str, typer.Option(help="credit_limit, scitech_risk, pathology or training")],
    groups: Annotated[
        str, typer.Option(help="groups of indicators, separated by commas; all: every group of the purpose")
    ],
    to: Annotated[str, typer.Option(help="the last day, or a time in UTC")],
    document: Annotated[Path, typer.Option(help="the signed document; its SHA-256 is recorded")],
    grantor: Annotated[str | None, typer.Option(help="body that grants it")] = None,
    subject: Annotated[str | None, typer.Option(help="id of a household or company; default: all")] = None,
    product: Annotated[str | None, typer.Option(help="product of the subject, for training")] = None,
    since: Annotated[str | None, typer.Option("--from", help="default: now")] = None,
    by: Annotated[str, typer.Option(help="person who enters it")] = "operator",
) -> None:
    """Enter a signed authorisation and print it."""
    from serving.privacy.consent import grants
    from serving.privacy.consent.rules import load_rules

    consent_rules = load_rules()
    try:
        digest = hashlib.sha256(document.read_bytes()).hexdigest()
    except OSError as error:
        fail(f"{document}: {error.strerror}. Name the signed document.")
    group_names = consent_rules.groups(purpose) if groups == "all" else [group.strip() for group in groups.split(",")]
    fields = {
        **{
            "kind": kind,
            "tenant": tenant,
            "purpose": purpose,
            "groups": group_names,
            "valid_from": since,
            "valid_to": to,
        },
        **{"grantor": grantor, "subject_id": subject, "product": product, "document_sha256": digest},
    }

    def insert_grant(connection: Any, vault: Any) -> Any:
        form, errors = grants.validate(
            {name: value for name, value in fields.items() if value is not None}, consent_rules, vault
        )
        if form is None:
            fail("\n".join(f"{error.field} is {error.actual}; it must be {error.expected}." for error in errors))
        return grants.create(connection, form, by)

    _print_json(_run_in_store(insert_grant))


@app.command("list")
def list_grants(tenant: Annotated[str | None, typer.Option(help="default: every tenant")] = None) -> None:
    """Print the newest 200 authorisations, one line of JSON each."""
    from serving.privacy.consent import grants

    for grant in _run_in_store(lambda connection, _: grants.list_grants(connection, tenant)):
        _print_json(grant)


@app.command()
def revoke(authorisation: Annotated[str, typer.Argument(help="id of the authorisation")]) -> None:
    """Revoke an authorisation: from now on no process reads under it."""
    from serving.privacy.consent import grants

    revoked = _run_in_store(lambda connection, _: grants.revoke(connection, authorisation))
    if revoked is None:
        fail(f"No authorisation was entered under {authorisation!r}; python -m serving grant list shows them.")
    _print_json(revoked)


def _run_in_store(fn: Callable[[Any, Any], Any]) -> Any:
    """Run `fn(connection, vault)` in one transaction on the configured store and return its result."""
    import sqlalchemy as sa

    from serving.core.db.engine import to_store_error
    from serving.privacy.subjects.vault import bind_store, open_vault

    with configured_store() as (engine, settings):
        vault = open_vault(settings)
        try:
            with engine.begin() as connection:
                bind_store(connection, vault)
                return fn(connection, vault)
        except sa.exc.SQLAlchemyError as error:
            raise to_store_error(error) from error


def _print_json(value: Any) -> None:
    import orjson

    typer.echo(orjson.dumps(value).decode())
