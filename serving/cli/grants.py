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
    from serving.privacy.consent.rules import rules

    told = rules()
    try:
        digest = hashlib.sha256(document.read_bytes()).hexdigest()
    except OSError as error:
        _fail(f"{document}: {error.strerror}. Name the signed document.")
    chosen = told.groups(purpose) if groups == "all" else [one.strip() for one in groups.split(",")]
    found = {"kind": kind, "tenant": tenant, "purpose": purpose, "groups": chosen, "valid_to": to, "grantor": grantor,
             "subject_id": subject, "product": product, "valid_from": since, "document_sha256": digest}  # fmt: skip

    def enter(connection: Any, vault: Any) -> Any:
        form, faults = grants.read({name: one for name, one in found.items() if one is not None}, told, vault)
        if form is None:
            _fail("\n".join(f"{fault.column} is {fault.found}; it must be {fault.needed}." for fault in faults))
        return grants.create(connection, form, by)

    _print(_in_store(enter))


@app.command("list")
def list_(tenant: Annotated[str | None, typer.Option(help="else every tenant's")] = None) -> None:
    """The newest 200, a line of JSON each."""
    from serving.privacy.consent import grants

    for one in _in_store(lambda connection, _: grants.listed(connection, tenant)):
        _print(one)


@app.command()
def revoke(authorisation: Annotated[str, typer.Argument(help="its id")]) -> None:
    """Nothing more is read under it, in any process, from now on."""
    from serving.privacy.consent import grants

    done = _in_store(lambda connection, _: grants.revoke(connection, authorisation))
    if done is None:
        _fail(f"No authorisation was entered under {authorisation!r}; python -m serving grant list tells them.")
    _print(done)


def _in_store(do: Callable[[Any, Any], Any]) -> Any:
    """In one transaction on the store that the settings name."""
    import sqlalchemy as sa

    from serving import settings
    from serving.core.db.engine import StoreUnavailable, open_store, unavailable
    from serving.privacy.subjects.vault import VaultLocked, claim
    from serving.privacy.subjects.vault import of as vault_of

    found = settings.read()
    try:
        vault = vault_of(found)
        engine = open_store(found.store_place, found.store.patience_seconds)
        with engine.begin() as connection:
            claim(connection, vault)
            return do(connection, vault)
    except sa.exc.SQLAlchemyError as error:
        _fail(str(unavailable(error)))
    except (StoreUnavailable, VaultLocked) as error:
        _fail(str(error))


def _print(found: Any) -> None:
    import orjson

    typer.echo(orjson.dumps(found).decode())


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)
