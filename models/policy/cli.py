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

from datasets.schema import ColumnSchema
from models.policy.config import PolicyError

if TYPE_CHECKING:
    from models.policy.prover import ProofDomain, ProofResult


@dataclass(frozen=True)
class PolicyCli:
    """A product's part in the command.

    load_policy: its Policy.load.
    build_domain: gives the domain of its proofs; called where z3 is at hand.
    find_forbidden_inputs: inputs of a model that its PD may not have, and what to say of them, of none, and without a card.
    """

    load_policy: Callable[..., Any]
    build_domain: Callable[[], ProofDomain]
    find_forbidden_inputs: Callable[[Sequence[ColumnSchema]], list[str]]
    forbidden_text: str
    none_forbidden_text: str
    card_needed_text: str


def build_app(help_text: str, product: PolicyCli) -> typer.Typer:
    """The product's commands; `help_text` heads their help."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, help=help_text)

    @app.callback()
    def commands() -> None:
        pass

    @app.command()
    def check(
        policy: Annotated[Path, typer.Argument(help="A policy's TOML file.")],
        card: Annotated[Path | None, typer.Option(help="A model's card.json, to check its inputs.")] = None,
    ) -> None:
        """Prove each guard rail over the whole input space, or print whom it fails; exit 1 on any failure."""
        if not _run_check(product, policy, card, Console()):
            raise typer.Exit(1)

    return app


def _run_check(product: PolicyCli, path: Path, card: Path | None, console: Console) -> bool:
    load_faults = _load_faults(product, path)
    table = Table(box=box.SIMPLE, title=str(path))
    table.add_column("result", no_wrap=True)
    table.add_column("s", justify="right")
    table.add_column("guard rail", overflow="fold")
    for fault in load_faults:
        table.add_row("[red]refused", "", escape(fault))
    policy = _load_unenforced(product, path)
    results = [] if policy is None else _prove_guardrails(product, policy, console)
    for result in results:
        table.add_row(
            _format_status(result), f"{result.seconds:.2f}", f"{result.guardrail.en} [dim]{result.guardrail.zh}"
        )
    forbidden = _find_forbidden_inputs(product, card) if card else None
    if forbidden is not None:
        summary = f"{product.forbidden_text}: {', '.join(forbidden)}" if forbidden else product.none_forbidden_text
        table.add_row("[red]fails" if forbidden else "[green]holds", "", summary)
    console.print(table)
    for result in results:
        if result.counterexample is not None:
            console.print(f"[red]{result.guardrail.name}[/]: {escape(result.counterexample.en)}.\n", soft_wrap=True)
    seconds = sum(result.seconds for result in results)
    proof_summary = f"{sum(bool(v.proved) for v in results)} of {len(results)} rails proved in {seconds:.1f} s"
    console.print(f"{proof_summary}; {len(load_faults)} faults at loading" if load_faults else proof_summary)
    if card is None:
        console.print(product.card_needed_text)
    return not load_faults and not forbidden and all(result.proved for result in results)


def _load_faults(product: PolicyCli, path: Path) -> list[str]:
    """Why the service would not load this policy."""
    try:
        product.load_policy(path)
    except PolicyError as error:
        return error.faults
    return []


def _load_unenforced(product: PolicyCli, path: Path) -> Any:
    """The policy with its rails down, so that the solver can show whom it would fail; None where it is no policy."""
    try:
        return product.load_policy(path, enforce_guardrails=False)
    except PolicyError:
        return None  # every fault is told already


def _prove_guardrails(product: PolicyCli, policy: Any, console: Console) -> list[ProofResult]:
    try:
        from models.policy.prover import prove
    except ModuleNotFoundError as error:
        console.print(f"[red]{error.name} is not installed. Proofs need it: pip install -r configs/locks/training.txt")
        raise typer.Exit(1) from error
    domain = product.build_domain()
    applicable = [guardrail for guardrail in domain.guardrails if guardrail.applies_to(policy)]
    with Progress(console=console, transient=True) as progress:
        return [prove(guardrail, policy, domain) for guardrail in progress.track(applicable, description="proving")]


def _format_status(result: ProofResult) -> str:
    if result.proved:
        return "[green]proved"
    return "[red]fails" if result.counterexample else "[red]unproved"


def _find_forbidden_inputs(product: PolicyCli, card: Path) -> list[str]:
    from models.card import Card

    return product.find_forbidden_inputs(Card.model_validate_json(card.read_bytes()).inputs)
