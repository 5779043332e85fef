"""Commands that trace decisions and subjects, erase subjects, and report model performance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli.store import account, configured_store, fail, record_event

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.tree import Tree

    from serving.governance.lineage.trace import TraceNode

app = typer.Typer(add_completion=False)
Product = Annotated[str, typer.Option(help="credit_limit, scitech_risk or pathology")]


@app.command()
def trace(
    decision: Annotated[str, typer.Argument(help="id of a decision, of a row of a batch or of a slide")] = "",
    subject: Annotated[str, typer.Option(help="instead: a household, company or slide, traced forward")] = "",
    product: Product = "credit_limit",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Trace a decision back to data and authorisations, or a subject forward to models and services."""
    import json

    from rich.console import Console

    from serving.core.db import lookup
    from serving.core.db.engine import read_connection
    from serving.governance.lineage import trace as tracing

    if bool(decision) == bool(subject):
        raise typer.BadParameter("give either a decision or --subject with --product")
    with configured_store() as (engine, settings), read_connection(engine) as connection:
        if subject:
            node = tracing.trace_subject(connection, settings, product, subject)
            record_event(engine, "read", "", node.name, "trace --subject")
        else:
            record = lookup.find(connection, decision)
            if record is None:
                fail(f"Nothing was recorded under {decision!r}. Check the decision_id of the answer.")
            node = tracing.trace_decision(connection, settings, record)
            record_event(engine, "read", record.tenant, record.id, "trace")
    if as_json:
        typer.echo(json.dumps(node.to_json(), ensure_ascii=False, indent=1))
        return
    console = Console()
    console.print(render_tree(node))
    for missing_node in node.missing_nodes():
        console.print(
            f"missing 缺失  {missing_node.kind} {missing_node.name}: {missing_node.missing} {missing_node.missing_zh}",
            style="red",
            markup=False,
        )


@app.command()
def erase(
    subject: Annotated[str, typer.Option(help="id of a household or company")] = "",
    slide: Annotated[str, typer.Option(help="instead: id of a slide")] = "",
    reference: Annotated[str, typer.Option(help="instead: a tenant's own id, as its requests named it")] = "",
    tenant: Annotated[str, typer.Option(help="whose reference it is")] = "",
    product: Product = "credit_limit",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False,
    out: Annotated[Path | None, typer.Option(help="file for the certificate; else var/erasures/<id>.json")] = None,
) -> None:
    """Erase a subject: shred its data, keep it out of training, name the models made from it, and certify it."""
    import json

    from serving.governance.lineage import erasure
    from serving.governance.lineage.deletion import ErasureNotProvenError
    from serving.pathology.slides.states import SlideNotFoundError

    if sum(map(bool, (subject, slide, reference))) != 1 or bool(reference) != bool(tenant):
        raise typer.BadParameter("give one of --subject, --slide, and --reference with --tenant")
    if not yes:
        typer.confirm(f"Erase {subject or slide or reference}? It cannot be undone. 删除后无法恢复，确认？", abort=True)
    refused = (
        erasure.NothingToEraseError,
        ErasureNotProvenError,
        erasure.SlideInProgressError,
        SlideNotFoundError,
        OSError,
    )
    with configured_store(*refused) as (engine, settings):
        if subject:
            result = erasure.erase(engine, settings, product, subject, account())
        elif reference:
            result = erasure.erase_reference(engine, settings, product, tenant, reference, account())
        else:
            result = erasure.erase_slide(engine, settings, slide, account())
        certificate = result["certificate"]
        path = out or settings.paths.store.parent / "erasures" / f"{certificate['certificate']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")
    for model in certificate["models"]:
        live = "serves now 在线" if model["live"] else "does not serve 未上线"
        typer.echo(f"affected 受影响  {model['model']} {model['version']}  {live}")
    typer.echo(f"{path}")


@app.command()
def effects(
    model: Annotated[str | None, typer.Option(help="default: all")] = None,
    tenant: Annotated[str | None, typer.Option(help="default: all")] = None,
    since: Annotated[str, typer.Option(help="a day, as 2026-11-01")] = "",
    html: Annotated[Path | None, typer.Option(help="write an HTML page with plots")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Report discrimination, calibration and drift of each model version."""
    import json

    from rich.console import Console

    from serving.core.db.engine import read_connection
    from serving.core.identifiers import utc_now
    from serving.governance.monitoring import html_report
    from serving.governance.monitoring import performance as figures

    with configured_store() as (engine, settings), read_connection(engine) as connection:
        reports = figures.model_performance(connection, settings, tenant=tenant, model=model, since=since)
    if html is not None:
        html.write_text(html_report.render_page(reports, utc_now()), encoding="utf-8")
        typer.echo(f"{html}")
    elif as_json:
        typer.echo(json.dumps(reports, ensure_ascii=False, indent=1))
    else:
        Console().print(_report_table(reports))


def _report_table(reports: list[dict[str, Any]]) -> RichTable:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    headers = ("model 模型", "tenant 机构", "answers 次数", "positive 阳性", "overridden 改判", "AUC", "drifted 漂移")
    for header in headers:
        table.add_column(header.replace(" ", "\n"), overflow="fold")
    for report in reports:
        drift = report.get("drift")
        drifted = "" if drift is None else f"{sum(row['drifted'] for row in drift['inputs'])} of {len(drift['inputs'])}"
        rates = (report["positive_rate"], report.get("override_rate"), report["auc"])
        table.add_row(
            f"{report['model']} {report['version']}",
            report["tenant"],
            f"{report.get('decisions', report.get('slides')):,}",
            *("" if rate is None else f"{rate['value']:.3f}" for rate in rates),
            drifted,
        )
    return table


def render_tree(node: TraceNode, parent: Tree | None = None) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    detail = ", ".join(f"{name} {value}" for name, value in node.detail.items() if value not in ("", None))
    line = Text.assemble((f"{node.kind} ", "dim"), (node.name, "red" if node.missing else "bold"), f"  {detail}")
    branch = Tree(line) if parent is None else parent.add(line)
    for child in node.links:
        render_tree(child, branch)
    return branch
