"""The command that issues tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from serving.cli.store import configured_store, record_event


def print_token(
    tenant: Annotated[
        str, typer.Option(help="tenant whose records the token opens: lower-case letters, digits, - and _")
    ],
    role: Annotated[
        list[str], typer.Option(help="bank, clinic, pathologist, scientist, auditor or operator; may be repeated")
    ],
    subject: Annotated[str, typer.Option(help="person or machine, for the audit log")] = "",
    name: Annotated[str, typer.Option(help="name of a pathologist, as printed on reports")] = "",
    licence: Annotated[str, typer.Option(help="licence of a pathologist")] = "",
    hours: Annotated[float, typer.Option(help="hours until it expires")] = 12.0,
) -> None:
    """Print a token for Authorization: Bearer or for signing in to the console. Only its issue is recorded."""
    from serving.core.security.token_issuer import issue_token

    with configured_store(ValueError, OSError) as (engine, config):
        token_subject = subject or licence or f"{tenant}/{'+'.join(role)}"
        issuer_args = config.paths.tokens, config.access.audience
        issued = issue_token(
            *issuer_args, tenant=tenant, roles=role, subject=token_subject, name=name, licence=licence, hours=hours
        )
        what = f"token of {hours:g} hours for {', '.join(role)}"
        record_event(engine, "token", tenant, token_subject, what)
    typer.echo(issued)
