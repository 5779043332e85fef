"""python -m serving token: our own issuer."""

from __future__ import annotations

from typing import Annotated

import typer


def print_token(
    tenant: Annotated[str, typer.Option(help="whose records they see: small letters, digits, - and _")],
    role: Annotated[list[str], typer.Option(help="bank, clinic, pathologist, scientist, auditor or operator; several")],
    subject: Annotated[str, typer.Option(help="who it is, for the record")] = "",
    name: Annotated[str, typer.Option(help="a pathologist's, as it stands on the report")] = "",
    licence: Annotated[str, typer.Option(help="a pathologist's licence to practise")] = "",
    hours: Annotated[float, typer.Option(help="until it ends")] = 12.0,
) -> None:
    """Print a token that proves who asks, for Authorization: Bearer or a page's sign-in. It is kept nowhere."""
    from serving import settings
    from serving.core.security.errors import KeyFileError
    from serving.core.security.token_issuer import issue_token

    try:
        config = settings.load_settings()
        token_subject = subject or licence or f"{tenant}/{'+'.join(role)}"
        issuer_args = config.paths.tokens, config.access.audience
        issued = issue_token(
            *issuer_args, tenant=tenant, roles=role, subject=token_subject, name=name, licence=licence, hours=hours
        )
    except (ValueError, OSError, KeyFileError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(issued)
