"""The command line of what proves: receipts, the audit of the store, statements of what was used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

receipt = typer.Typer(no_args_is_help=True, help="Receipts: prove an answer with the log's public key alone.")

audit = typer.Typer(no_args_is_help=True, help="The store compared with its log, and the log with what was signed.")

KEY = Annotated[Path | None, typer.Option(help="the log's public key; else this service's")]


@receipt.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="a receipt, as JSON or as printed")],
    key: KEY = None,
    answer: Annotated[Path | None, typer.Option(help="the decision as it was answered, byte for byte")] = None,
    request: Annotated[Path | None, typer.Option(help="the JSON that was asked with")] = None,
) -> None:
    """Whether a receipt holds, what it proves, and whether an answer (and a request) is the one that it is of."""
    from serving.core.audit.verify import NotProved, Verifier, read_receipt, summary

    verifier = Verifier(public_key(key))
    try:
        found = read_receipt(file.read_bytes())
        contents = [path.read_bytes() if path is not None else None for path in (answer, request)]
        checkpoint = verifier.verify(found, *contents)
    except (NotProved, OSError) as error:
        typer.echo(f"NOT GENUINE 不可信: {file}: {error}", err=True)
        raise typer.Exit(1) from error
    what = "this answer is genuine 答复属实" if answer else "the receipt is genuine 凭证属实"
    typer.echo(f"{what}: {checkpoint.origin} signed it at {checkpoint.at} over {checkpoint.size} leaves")
    typer.echo("\n".join(summary(found)))


@receipt.command("verify-many")
def verify_many(
    place: Annotated[Path, typer.Argument(help="a folder of receipts, or one file with a receipt a line")],
    key: KEY = None,
) -> None:
    """Every receipt there; those that do not hold are named."""
    from serving.core.audit.verify import NotProved, Verifier, read_receipt

    verifier, count, wrong, began = Verifier(public_key(key)), 0, 0, time.perf_counter()
    for name, content in _contents(place):
        count += 1
        try:
            verifier.verify(read_receipt(content))
        except NotProved as error:
            wrong += 1
            typer.echo(f"NOT GENUINE 不可信: {name}: {error}", err=True)
    typer.echo(f"{count - wrong:,} of {count:,} receipts are genuine ({time.perf_counter() - began:.1f} s)")
    if wrong or not count:
        raise typer.Exit(1)


@receipt.command("show")
def show(file: Annotated[Path, typer.Argument(help="a receipt")]) -> None:
    """As it is printed on paper; `receipt verify` reads that form too."""
    from serving.core.audit.receipts import printed
    from serving.core.audit.verify import NotProved, read_receipt

    try:
        typer.echo(printed(read_receipt(file.read_bytes())), nl=False)
    except (NotProved, OSError, KeyError, TypeError) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from error


@audit.command("verify")
def verify_store(
    checkpoints: Annotated[
        Path | None, typer.Option(help="a copy of the checkpoints' file; else this service's")
    ] = None,
    key: KEY = None,
) -> None:
    """Every row of the store that was edited, deleted, reordered, added or put back is named. Nothing is written."""
    from serving import settings
    from serving.core.audit.auditor.auditor import audit as compare
    from serving.core.db.engine import StoreUnavailable, connect

    found, began = settings.read(), time.perf_counter()
    place = found.store_place
    if isinstance(place, Path) and not place.exists():
        typer.echo(f"{place}: there is no store to audit", err=True)
        raise typer.Exit(1)
    engine = connect(f"sqlite:///{place}" if isinstance(place, Path) else place, found.store.patience_seconds)
    try:
        report = compare(engine, public_key(key), checkpoints or found.paths.checkpoints)
    except StoreUnavailable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    for finding in report.findings:
        typer.echo(str(finding), err=True)
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(report.rows.items())) or "no rows"
    seconds = f"({time.perf_counter() - began:.1f} s)"
    typer.echo(f"{report.leaves:,} leaves, {report.checkpoints:,} checkpoints; their leaves prove {rows} {seconds}")
    if report.found:
        typer.echo(f"{report.found:,} findings 处异常: the store is not as it was recorded 存储与记录不符", err=True)
        raise typer.Exit(1)
    typer.echo("nothing was altered 未发现篡改")


@audit.command("checkpoint")
def checkpoint() -> None:
    """The newest signed checkpoint: keep it where nobody who runs the service can reach it."""
    from serving import settings
    from serving.core.audit.checkpoints import read_notes

    file, last = settings.read().paths.checkpoints, None
    if file.exists():
        for _, note in read_notes(file):
            last = note or last
    if last is None:
        typer.echo(f"{file}: no checkpoint was signed yet", err=True)
        raise typer.Exit(1)
    typer.echo(last, nl=False)


def statement(
    tenant: Annotated[str, typer.Option(help="whose")],
    month: Annotated[str, typer.Option(help="as 2026-11, UTC")],
    format: Annotated[str, typer.Option(help="json, ndjson or csv")] = "json",
) -> None:
    """What a tenant used in a month: a line for each answer, tied to its receipt, and the totals."""
    from serving import settings
    from serving.core.billing import statements
    from serving.core.db.engine import StoreUnavailable, connect

    found = settings.read()
    place = found.store_place
    if format not in statements.FORMATS:
        raise typer.BadParameter(f"{format!r}: one of {', '.join(statements.FORMATS)} is needed")
    engine = connect(f"sqlite:///{place}" if isinstance(place, Path) else place, found.store.patience_seconds)
    try:
        for part in statements.statement(engine, tenant, month, format):
            typer.echo(part, nl=False)
    except (StoreUnavailable, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if format == "json":
        typer.echo()


def _contents(place: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each receipt; one is held at a time."""
    if place.is_dir():
        for path in sorted(place.iterdir()):
            yield path.name, path.read_bytes()
        return
    with place.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"line {number}", line


def public_key(given: Path | None) -> Ed25519PublicKey:
    from serving import settings
    from serving.core.audit.verify import NotProved, read_key

    file = given or settings.read().paths.log_key.with_suffix(".pub.pem")
    try:
        return read_key(file.read_bytes())
    except (NotProved, OSError) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from error
