"""Commands that verify receipts, audit the store, and print checkpoints and statements of usage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.store import fail, reported_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

receipt_app = typer.Typer(no_args_is_help=True, help="Receipts: prove an answer with the log's public key alone.")

audit_app = typer.Typer(
    no_args_is_help=True, help="Audit: compare the store with its log, and the log with its signed checkpoints."
)

KeyOption = Annotated[Path | None, typer.Option(help="public key of the log; else this service's")]


@receipt_app.command("verify")
def verify_receipt(
    file: Annotated[Path, typer.Argument(help="a receipt, as JSON or as printed")],
    key: KeyOption = None,
    answer: Annotated[Path | None, typer.Option(help="the answer, byte for byte")] = None,
    request: Annotated[Path | None, typer.Option(help="the JSON of the request")] = None,
) -> None:
    """Verify a receipt and show what it proves; with an answer or a request, that it belongs to these."""
    from serving.core.audit.verify import ReceiptVerifier, VerificationError, parse_receipt, summary_lines

    verifier = ReceiptVerifier(load_log_key(key))
    try:
        parsed = parse_receipt(file.read_bytes())
        contents = [path.read_bytes() if path is not None else None for path in (answer, request)]
        checkpoint = verifier.verify(parsed, *contents)
    except (VerificationError, OSError) as error:
        fail(f"NOT GENUINE 不可信: {file}: {error}")
    verdict = "this answer is genuine 答复属实" if answer else "the receipt is genuine 凭证属实"
    typer.echo(f"{verdict}: {checkpoint.origin} signed it at {checkpoint.timestamp} over {checkpoint.size} leaves")
    typer.echo("\n".join(summary_lines(parsed)))


@receipt_app.command("verify-many")
def verify_receipts(
    location: Annotated[
        Path, typer.Argument(metavar="PLACE", help="a folder of receipts, or a file with one receipt a line")
    ],
    key: KeyOption = None,
) -> None:
    """Verify many receipts and name those that are not genuine."""
    from serving.core.audit.verify import ReceiptVerifier, VerificationError, parse_receipt

    verifier, count, failures, start = ReceiptVerifier(load_log_key(key)), 0, 0, time.perf_counter()
    for name, content in _receipt_contents(location):
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
    """Print a receipt for paper; `receipt verify` reads that form, too."""
    from serving.core.audit.receipts import render_text
    from serving.core.audit.verify import VerificationError, parse_receipt

    try:
        typer.echo(render_text(parse_receipt(file.read_bytes())), nl=False)
    except (VerificationError, OSError, KeyError, TypeError) as error:
        fail(f"{file}: {error}")


@audit_app.command("verify")
def verify_store(
    checkpoints: Annotated[
        Path | None, typer.Option(help="a copy of the file of checkpoints; else this service's")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Name every row of the store that was edited, deleted, reordered, added or restored. Nothing is written."""
    from serving import settings
    from serving.core.audit.auditor.auditor import audit_store
    from serving.core.audit.authenticator import load_authenticator
    from serving.core.db.engine import create_engine

    config, start = settings.load_settings(), time.perf_counter()
    location = config.store_location
    if isinstance(location, Path) and not location.exists():
        fail(f"{location}: there is no store to audit")
    engine = create_engine(
        f"sqlite:///{location}" if isinstance(location, Path) else location, config.store.lock_timeout_seconds
    )
    with reported_errors():
        authenticator = None
        if config.paths.entry_key.exists():
            authenticator = load_authenticator(config.paths.entry_key, config.log.origin)
        report = audit_store(engine, load_log_key(key), checkpoints or config.paths.checkpoints, authenticator)
    for finding in report.findings:
        typer.echo(str(finding), err=True)
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(report.rows.items())) or "no rows"
    for index, epoch in report.epochs:
        previous = epoch["previous"]
        typer.echo(
            f"epoch 纪元: entry {index} of {epoch['at']} accepted a restored store; the log before it had "
            f"{previous['size']:,} entries, signed at {previous['at']} with the root {previous['root']}"
        )
    elapsed = f"({time.perf_counter() - start:.1f} s)"
    typer.echo(f"{report.leaves:,} leaves, {report.checkpoints:,} checkpoints; their leaves prove {rows} {elapsed}")
    if report.finding_count:
        fail(f"{report.finding_count:,} findings 处异常: the store is not as it was recorded 存储与记录不符")
    if authenticator is None and (unsigned := report.leaves - report.covered):
        fail(
            f"nothing was altered in the {report.covered:,} leaves under the newest checkpoint; who wrote the last "
            f"{unsigned:,} only the entry key shows 检查点之内未发现篡改；其后 {unsigned:,} 条须凭条目密钥核验"
        )
    typer.echo("nothing was altered 未发现篡改")


@audit_app.command("new-epoch")
def new_epoch(
    reason: Annotated[str, typer.Option(help="why the store that was signed cannot be restored")],
) -> None:
    """Accept a store that was restored to an earlier day. The log names for ever the checkpoint that it does not reach.

    Stop the service first.
    """
    import json

    from serving.cli.store import account
    from serving.core.audit.authenticator import open_log_store
    from serving.core.audit.epochs import NoRollbackError, start_epoch
    from serving.core.audit.verify import VerificationError
    from serving.settings import load_settings

    with reported_errors(NoRollbackError, VerificationError, OSError):
        config = load_settings()
        engine = open_log_store(config)
        try:
            epoch = start_epoch(engine, config, account(), reason)
        finally:
            engine.dispose()
    typer.echo(json.dumps(epoch, ensure_ascii=False, indent=1))


@audit_app.command("consistency")
def verify_log_consistency(
    earlier: Annotated[Path, typer.Argument(help="a checkpoint that was kept")],
    proof: Annotated[Path, typer.Argument(help="the answer to GET /v1/log/consistency?size=SIZE of that checkpoint")],
    key: KeyOption = None,
) -> None:
    """Verify, with the log's public key alone, that the log continues a checkpoint that was kept."""
    from serving.core.audit.checkpoints import verify_consistency
    from serving.core.audit.verify import VerificationError, parse_strict_json

    try:
        document = parse_strict_json(proof.read_bytes())
        first, second = verify_consistency(earlier.read_text(encoding="utf-8"), document, load_log_key(key))
    except (VerificationError, ValueError, OSError) as error:
        fail(f"NOT CONSISTENT 不一致: {error}")
    typer.echo(
        f"the log continues 日志连续: {first.size:,} entries signed at {first.timestamp}, "
        f"{second.size:,} at {second.timestamp}"
    )


@audit_app.command("checkpoint")
def show_checkpoint() -> None:
    """Print the newest signed checkpoint. Keep it where nobody who runs the service can change it."""
    from serving import settings
    from serving.core.audit.checkpoints import read_checkpoint_file

    file, latest = settings.load_settings().paths.checkpoints, None
    if file.exists():
        for _, note in read_checkpoint_file(file):
            latest = note or latest
    if latest is None:
        fail(f"{file}: no checkpoint was signed yet")
    typer.echo(latest, nl=False)


def print_statement(
    tenant: Annotated[str, typer.Option(help="tenant to bill")],
    month: Annotated[str, typer.Option(help="as 2026-11, UTC")],
    format: Annotated[str, typer.Option(help="json, ndjson or csv")] = "json",
) -> None:
    """Print a tenant's usage in a month: a line for each answer, with its receipt, and the totals."""
    from serving import settings
    from serving.core.billing import statements
    from serving.core.db.engine import create_engine

    config = settings.load_settings()
    location = config.store_location
    if format not in statements.FORMATS:
        raise typer.BadParameter(f"{format!r}: one of {', '.join(statements.FORMATS)} is needed")
    engine = create_engine(
        f"sqlite:///{location}" if isinstance(location, Path) else location, config.store.lock_timeout_seconds
    )
    with reported_errors(ValueError):
        for chunk in statements.render_statement(engine, tenant, month, format):
            typer.echo(chunk, nl=False)
    if format == "json":
        typer.echo()


def _receipt_contents(location: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each receipt, read one at a time."""
    if location.is_dir():
        for path in sorted(location.iterdir()):
            yield path.name, path.read_bytes()
        return
    with location.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"line {number}", line


def load_log_key(path: Path | None) -> Ed25519PublicKey:
    """The public key of the log, by default this service's. Exits with status 1 where it cannot be read."""
    from serving import settings
    from serving.core.audit.verify import VerificationError, load_public_key

    file = path or settings.load_settings().paths.log_key.with_suffix(".pub.pem")
    try:
        return load_public_key(file.read_bytes())
    except (VerificationError, OSError) as error:
        fail(f"{file}: {error}")
