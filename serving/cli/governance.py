"""Trace, erasure and effects from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa
    from rich.table import Table as RichTable
    from rich.tree import Tree

    from serving.governance.lineage.trace import Link
    from serving.settings import Settings

app = typer.Typer(add_completion=False)
Product = Annotated[str, typer.Option(help="credit_limit, scitech_risk or pathology")]


@app.command()
def trace(
    decision: Annotated[str, typer.Argument(help="its id, that of a batch's row or of a slide")] = "",
    subject: Annotated[str, typer.Option(help="instead: a household, company or slide, to what was made of it")] = "",
    product: Product = "credit_limit",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Walk from a decision back to data and authorisations, or from a subject forward to models and services."""
    import json

    from rich.console import Console

    from serving.core.db import lookup
    from serving.core.db.engine import reading
    from serving.governance.lineage import trace as tracing

    if bool(decision) == bool(subject):
        raise typer.BadParameter("a decision, or --subject with --product, is needed: one of the two")
    with _store() as (engine, settings), reading(engine) as connection:
        if subject:
            found = tracing.forward(connection, settings, product, subject)
        else:
            told = lookup.find(connection, decision)
            if told is None:
                raise _stop(f"Nothing was recorded under {decision!r}. Check the decision_id of the answer.")
            found = tracing.back(connection, settings, told)
    if as_json:
        typer.echo(json.dumps(found.json(), ensure_ascii=False, indent=1))
        return
    console = Console()
    console.print(tree(found))
    for gap in found.gaps():
        console.print(f"missing 缺失  {gap.kind} {gap.name}: {gap.missing} {gap.missing_zh}", style="red", markup=False)


@app.command()
def erase(
    subject: Annotated[str, typer.Option(help="a household or company, as its owner knows it")] = "",
    slide: Annotated[str, typer.Option(help="instead: a slide")] = "",
    product: Product = "credit_limit",
    yes: Annotated[bool, typer.Option("--yes", help="without asking: it cannot be undone")] = False,
    out: Annotated[Path | None, typer.Option(help="the certificate; else var/erasures/<id>.json")] = None,
) -> None:
    """Shred what is stored of a subject, keep it out of training, name what was made of it, and certify it."""
    import json

    from serving.governance.lineage import erasure
    from serving.pathology.slides.states import UnknownSlide

    if bool(subject) == bool(slide):
        raise typer.BadParameter("--subject with --product, or --slide, is needed: one of the two")
    if not yes:
        typer.confirm(f"Erase {subject or slide}? It cannot be undone. 删除后无法恢复，确认？", abort=True)
    with _store() as (engine, settings):
        try:
            made = (
                erasure.erase(engine, settings, product, subject, "operator")
                if subject
                else erasure.erase_slide(engine, settings, slide, "operator")
            )
        except (erasure.NothingToErase, erasure.StillRead, UnknownSlide, OSError) as error:
            raise _stop(str(error)) from error
        told = made["certificate"]
        file = out or settings.paths.store.parent / "erasures" / f"{told['certificate']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made, ensure_ascii=False, indent=1), encoding="utf-8")
    for model in told["models"]:
        live = "serves now 在线" if model["live"] else "does not serve 未上线"
        typer.echo(f"affected 受影响  {model['model']} {model['version']}  {live}")
    typer.echo(f"{file}")


@app.command()
def effects(
    model: Annotated[str | None, typer.Option(help="else every one")] = None,
    tenant: Annotated[str | None, typer.Option(help="else every one")] = None,
    since: Annotated[str, typer.Option(help="a day, as 2026-11-01")] = "",
    html: Annotated[Path | None, typer.Option(help="a page with plots")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """How good the answers were, and whether what is asked still looks as it did in training."""
    import json

    from rich.console import Console

    from serving.core.db.engine import reading
    from serving.core.identifiers import now
    from serving.governance.monitoring import html_report
    from serving.governance.monitoring import performance as figures

    with _store() as (engine, settings), reading(engine) as connection:
        found = figures.gather(connection, settings, tenant=tenant, model=model, since=since)
    if html is not None:
        html.write_text(html_report.page(found, now()), encoding="utf-8")
        typer.echo(f"{html}")
    elif as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        Console().print(_table(found))


def _table(found: list[dict[str, Any]]) -> RichTable:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    heads = ("model 模型", "tenant 机构", "answers 次数", "positive 阳性", "overridden 改判", "AUC", "drifted 漂移")
    for head in heads:
        table.add_column(head.replace(" ", "\n"), overflow="fold")
    for one in found:
        drift = one.get("drift")
        moved = "" if drift is None else f"{sum(row['drifted'] for row in drift['inputs'])} of {len(drift['inputs'])}"
        shares = (one["positive_rate"], one.get("override_rate"), one["auc"])
        table.add_row(
            f"{one['model']} {one['version']}",
            one["tenant"],
            f"{one.get('decisions', one.get('slides')):,}",
            *("" if share is None else f"{share['value']:.3f}" for share in shares),
            moved,
        )
    return table


def tree(link: Link, into: Tree | None = None) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    detail = ", ".join(f"{name} {value}" for name, value in link.detail.items() if value not in ("", None))
    line = Text.assemble((f"{link.kind} ", "dim"), (link.name, "red" if link.missing else "bold"), f"  {detail}")
    node = Tree(line) if into is None else into.add(line)
    for inner in link.links:
        tree(inner, node)
    return node


@contextmanager
def _store() -> Iterator[tuple[sa.Engine, Settings]]:
    """The store that the settings name. What is wrong is told in a sentence."""
    from serving.core.db.engine import StoreUnavailable, open_store
    from serving.core.security.keys import KeyUnusable
    from serving.privacy.subjects.vault import VaultLocked
    from serving.settings import SettingsRefused, read

    try:
        settings = read()
        engine = open_store(settings.store_place, settings.store.patience_seconds)
    except (SettingsRefused, StoreUnavailable) as error:
        raise _stop(str(error)) from error
    try:
        yield engine, settings
    except (StoreUnavailable, VaultLocked, KeyUnusable) as error:
        raise _stop(str(error)) from error
    finally:
        engine.dispose()


def _stop(told: Any) -> typer.Exit:
    typer.echo(str(told), err=True)
    return typer.Exit(1)
