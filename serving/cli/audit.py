"""The command line of what proves: receipts, the audit of the store, statements of what was used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

receipt_app = typer.Typer(no_args_is_help=True, help="Receipts: prove an answer with the log's public key alone.")

audit_app = typer.Typer(no_args_is_help=True, help="The store compared with its log, and the log with what was signed.")

KeyOption = Annotated[Path | None, typer.Option(help="the log's public key; else this service's")]


@receipt_app.command("verify")
def verify_receipt(
    file: Annotated[Path, typer.Argument(help="a receipt, as JSON or as printed")],
    key: KeyOption = None,
    answer: Annotated[Path | None, typer.Option(help="the decision as it was answered, byte for byte")] = None,
    request: Annotated[Path | None, typer.Option(help="the JSON that was asked with")] = None,
) -> None:
    """Whether a receipt holds, what it proves, and whether an answer (and a request) is the one that it is of."""
    from serving.core.audit.verify import ReceiptVerifier, VerificationError, parse_receipt, summary_lines

    verifier = ReceiptVerifier(load_log_key(key))
    try:
        parsed = parse_receipt(file.read_bytes())
        contents = [path.read_bytes() if path is not None else None for path in (answer, request)]
        checkpoint = verifier.verify(parsed, *contents)
    except (VerificationError, OSError) as error:
        typer.echo(f"NOT GENUINE 不可信: {file}: {error}", err=True)
        raise typer.Exit(1) from error
    verdict = "this answer is genuine 答复属实" if answer else "the receipt is genuine 凭证属实"
    typer.echo(f"{verdict}: {checkpoint.origin} signed it at {checkpoint.timestamp} over {checkpoint.size} leaves")
    typer.echo("\n".join(summary_lines(parsed)))


@receipt_app.command("verify-many")
def verify_receipts(
    place: Annotated[Path, typer.Argument(help="a folder of receipts, or one file with a receipt a line")],
    key: KeyOption = None,
) -> None:
    """Every receipt there; those that do not hold are named."""
    from serving.core.audit.verify import ReceiptVerifier, VerificationError, parse_receipt

    verifier, count, failures, start = ReceiptVerifier(load_log_key(key)), 0, 0, time.perf_counter()
    for name, content in _receipt_contents(place):
        count += 1
        try:
            verifier.verify(parse_receipt(content))
        except VerificationError as error:
            failures += 1
            typer.echo(f"NOT GENUINE 不可信: {name}: {error}", err=True)
    typer.echo(f"{count - failures:,} of {count:,} receipts are genuine ({time.perf_counter() - start:.1f} s)")
    if failures or not count:
        raise typer.Exit(1)


@receipt_app.command("show")
def show_receipt(file: Annotated[Path, typer.Argument(help="a receipt")]) -> None:
    """As it is printed on paper; `receipt verify` reads that form too."""
    from serving.core.audit.receipts import render_text
    from serving.core.audit.verify import VerificationError, parse_receipt

    try:
        typer.echo(render_text(parse_receipt(file.read_bytes())), nl=False)
    except (VerificationError, OSError, KeyError, TypeError) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from error


@audit_app.command("verify")
def verify_store(
    checkpoints: Annotated[
        Path | None, typer.Option(help="a copy of the checkpoints' file; else this service's")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Every row of the store that was edited, deleted, reordered, added or put back is named. Nothing is written."""
    from serving import settings
    from serving.core.audit.auditor.auditor import audit_store
    from serving.core.db.engine import create_engine
    from serving.core.db.errors import StoreUnavailableError

    config, start = settings.load_settings(), time.perf_counter()
    location = config.store_location
    if isinstance(location, Path) and not location.exists():
        typer.echo(f"{location}: there is no store to audit", err=True)
        raise typer.Exit(1)
    engine = create_engine(
        f"sqlite:///{location}" if isinstance(location, Path) else location, config.store.lock_timeout_seconds
    )
    try:
        report = audit_store(engine, load_log_key(key), checkpoints or config.paths.checkpoints)
    except StoreUnavailableError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    for finding in report.findings:
        typer.echo(str(finding), err=True)
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(report.rows.items())) or "no rows"
    elapsed = f"({time.perf_counter() - start:.1f} s)"
    typer.echo(f"{report.leaves:,} leaves, {report.checkpoints:,} checkpoints; their leaves prove {rows} {elapsed}")
    if report.finding_count:
        typer.echo(
            f"{report.finding_count:,} findings 处异常: the store is not as it was recorded 存储与记录不符", err=True
        )
        raise typer.Exit(1)
    typer.echo("nothing was altered 未发现篡改")


@audit_app.command("checkpoint")
def show_checkpoint() -> None:
    """The newest signed checkpoint: keep it where nobody who runs the service can reach it."""
    from serving import settings
    from serving.core.audit.checkpoints import read_checkpoint_file

    file, latest = settings.load_settings().paths.checkpoints, None
    if file.exists():
        for _, note in read_checkpoint_file(file):
            latest = note or latest
    if latest is None:
        typer.echo(f"{file}: no checkpoint was signed yet", err=True)
        raise typer.Exit(1)
    typer.echo(latest, nl=False)


def print_statement(
    tenant: Annotated[str, typer.Option(help="whose")],
    month: Annotated[str, typer.Option(help="as 2026-11, UTC")],
    format: Annotated[str, typer.Option(help="json, ndjson or csv")] = "json",
) -> None:
    """What a tenant used in a month: a line for each answer, tied to its receipt, and the totals."""
    from serving import settings
    from serving.core.billing import statements
    from serving.core.db.engine import create_engine
    from serving.core.db.errors import StoreUnavailableError

    config = settings.load_settings()
    location = config.store_location
    if format not in statements.FORMATS:
        raise typer.BadParameter(f"{format!r}: one of {', '.join(statements.FORMATS)} is needed")
    engine = create_engine(
        f"sqlite:///{location}" if isinstance(location, Path) else location, config.store.lock_timeout_seconds
    )
    try:
        for chunk in statements.render_statement(engine, tenant, month, format):
            typer.echo(chunk, nl=False)
    except (StoreUnavailableError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if format == "json":
        typer.echo()


def _receipt_contents(location: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each receipt; one is held at a time."""
    if location.is_dir():
        for path in sorted(location.iterdir()):
            yield path.name, path.read_bytes()
        return
    with location.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"line {number}", line


def load_log_key(path: Path | None) -> Ed25519PublicKey:
    from serving import settings
    from serving.core.audit.verify import VerificationError, load_public_key

    file = path or settings.load_settings().paths.log_key.with_suffix(".pub.pem")
    try:
        return load_public_key(file.read_bytes())
    except (VerificationError, OSError) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from error
