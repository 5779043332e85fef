"""What `python -m models.PRODUCT check POLICY` does, for every product whose policies can be proved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from datasets.schema import Column
from models.policy.config import PolicyRefused

if TYPE_CHECKING:
    from models.policy.prover import Domain, Verdict


@dataclass(frozen=True)
class Checked:
    """A product's part in the command.

    load:      its Policy.load.
    domain:    gives the domain of its proofs; called where z3 is at hand.
    misplaced: inputs of a model that its PD may not have, and what to say of them, of none, and without a card.
    """

    load: Callable[..., Any]
    domain: Callable[[], Domain]
    misplaced: Callable[[Sequence[Column]], list[str]]
    found: str
    none: str
    untold: str


def command(about: str, product: Checked) -> typer.Typer:
    """The product's commands; `about` heads their help."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, help=about)

    @app.callback()
    def commands() -> None:
        pass

    @app.command()
    def check(
        policy: Annotated[Path, typer.Argument(help="A policy's TOML file.")],
        card: Annotated[Path | None, typer.Option(help="A model's card.json, to check its inputs.")] = None,
    ) -> None:
        """Prove each guard rail over the whole input space, or print whom it fails; exit 1 on any failure."""
        if not _check(product, policy, card, Console()):
            raise typer.Exit(1)

    return app


def _check(product: Checked, path: Path, card: Path | None, console: Console) -> bool:
    refused = _refused(product, path)
    table = Table(box=box.SIMPLE, title=str(path))
    table.add_column("result", no_wrap=True)
    table.add_column("s", justify="right")
    table.add_column("guard rail", overflow="fold")
    for fault in refused:
        table.add_row("[red]refused", "", escape(fault))
    found = _loaded(product, path)
    verdicts = [] if found is None else _verdicts(product, found, console)
    for verdict in verdicts:
        table.add_row(_result(verdict), f"{verdict.seconds:.2f}", f"{verdict.rail.en} [dim]{verdict.rail.zh}")
    misplaced = _misplaced(product, card) if card else None
    if misplaced is not None:
        said = f"{product.found}: {', '.join(misplaced)}" if misplaced else product.none
        table.add_row("[red]fails" if misplaced else "[green]holds", "", said)
    console.print(table)
    for verdict in verdicts:
        if verdict.counterexample is not None:
            console.print(f"[red]{verdict.rail.name}[/]: {escape(verdict.counterexample.en)}.\n", soft_wrap=True)
    seconds = sum(verdict.seconds for verdict in verdicts)
    proved = f"{sum(bool(v.proved) for v in verdicts)} of {len(verdicts)} rails proved in {seconds:.1f} s"
    console.print(f"{proved}; {len(refused)} faults at loading" if refused else proved)
    if card is None:
        console.print(product.untold)
    return not refused and not misplaced and all(verdict.proved for verdict in verdicts)


def _refused(product: Checked, path: Path) -> list[str]:
    """Why the service would not load this policy."""
    try:
        product.load(path)
    except PolicyRefused as error:
        return error.faults
    return []


def _loaded(product: Checked, path: Path) -> Any:
    """The policy with its rails down, so that the solver can show whom it would fail; None where it is no policy."""
    try:
        return product.load(path, rails=False)
    except PolicyRefused:
        return None  # every fault is told already


def _verdicts(product: Checked, policy: Any, console: Console) -> list[Verdict]:
    try:
        from models.policy.prover import prove
    except ModuleNotFoundError as error:
        console.print(f"[red]{error.name} is not installed. Proofs need it: pip install -r configs/locks/training.txt")
        raise typer.Exit(1) from error
    domain = product.domain()
    concerned = [rail for rail in domain.rails if rail.concerns(policy)]
    with Progress(console=console, transient=True) as progress:
        return [prove(rail, policy, domain) for rail in progress.track(concerned, description="proving")]


def _result(verdict: Verdict) -> str:
    if verdict.proved:
        return "[green]proved"
    return "[red]fails" if verdict.counterexample else "[red]unproved"


def _misplaced(product: Checked, card: Path) -> list[str]:
    from models.card import Card

    return product.misplaced(Card.model_validate_json(card.read_bytes()).inputs)
