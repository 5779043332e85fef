"""python -m serving token: our own issuer."""

from __future__ import annotations

from typing import Annotated

import typer


def token(
    tenant: Annotated[str, typer.Option(help="whose records they see: small letters, digits, - and _")],
    role: Annotated[list[str], typer.Option(help="bank, clinic, pathologist, scientist, auditor or operator; several")],
    subject: Annotated[str, typer.Option(help="who it is, for the record")] = "",
    name: Annotated[str, typer.Option(help="a pathologist's, as it stands on the report")] = "",
    licence: Annotated[str, typer.Option(help="a pathologist's licence to practise")] = "",
    hours: Annotated[float, typer.Option(help="until it ends")] = 12.0,
) -> None:
    """Print a token that proves who asks, for Authorization: Bearer or a page's sign-in. It is kept nowhere."""
    from serving import settings
    from serving.core.security.keys import KeyUnusable
    from serving.core.security.token_issuer import issue

    try:
        found = settings.read()
        who = subject or licence or f"{tenant}/{'+'.join(role)}"
        whose = found.paths.tokens, found.access.audience
        made = issue(*whose, tenant=tenant, roles=role, who=who, name=name, licence=licence, hours=hours)
    except (ValueError, OSError, KeyUnusable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(made)
