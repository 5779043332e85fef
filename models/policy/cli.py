"""The command `python -m models.PRODUCT check POLICY`, for every product whose policies can be proved."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from models.policy.config import PolicyError

if TYPE_CHECKING:
    from models.policy.prover import ProofResult


@dataclass(frozen=True)
class PolicyCli:
    """A product in the command: its package below models/, and the sentences about inputs that its PD may not read."""

    package: str
    help: str
    forbidden_text: str
    none_forbidden_text: str
    card_needed_text: str

    def module(self, name: str) -> Any:
        """A module of the product; guardrail_domain imports z3, so it is imported only when needed."""
        return importlib.import_module(f"models.{self.package}.{name}")


CREDIT_LIMIT = PolicyCli(
    "credit_limit",
    help="Check credit-limit policies.",
    forbidden_text="These inputs of the PD count in the uplift too",
    none_forbidden_text="No input of the PD counts in the uplift too.",
    card_needed_text="Give --card CARD to check that no input of the PD counts in the uplift too.",
)
SCITECH_RISK = PolicyCli(
    "scitech_risk",
    help="Check the policies of sci-tech finance risk.",
    forbidden_text="The gate or the limit counts these inputs of the PD too",
    none_forbidden_text="Neither the gate nor the limit counts an input of the PD.",
    card_needed_text="Give --card CARD to check that the PD reads neither shell flags nor what supports the limit.",
)


def build_app(product: PolicyCli) -> typer.Typer:
    """The commands of one product."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, help=product.help)

    @app.callback()
    def commands() -> None:
        pass

    @app.command()
    def check(
        policy: Annotated[Path, typer.Argument(help="The TOML file of a policy.")],
        card: Annotated[Path | None, typer.Option(help="The card.json of a model, to check its inputs.")] = None,
    ) -> None:
        """Prove each guard rail over the whole input space, or print an applicant for whom it fails; then exit with
        1.
        """
        if not _run_check(product, policy, card, Console()):
            raise typer.Exit(1)

    return app


def _run_check(product: PolicyCli, path: Path, card: Path | None, console: Console) -> bool:
    policy_type = product.module("policy").Policy
    load_faults = _load_faults(policy_type, path)
    table = Table(box=box.SIMPLE, title=str(path))
    table.add_column("result", no_wrap=True)
    table.add_column("s", justify="right")
    table.add_column("guard rail", overflow="fold")
    for fault in load_faults:
        table.add_row("[red]refused", "", escape(fault))
    policy = _load_unenforced(policy_type, path)
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
    proof_summary = f"{sum(bool(v.proved) for v in results)} of {len(results)} guard rails proved in {seconds:.1f} s"
    console.print(f"{proof_summary}; {len(load_faults)} faults in the file" if load_faults else proof_summary)
    if card is None:
        console.print(product.card_needed_text)
    return not load_faults and not forbidden and all(result.proved for result in results)


def _load_faults(policy_type: Any, path: Path) -> list[str]:
    """The reasons why a service would refuse this policy."""
    try:
        policy_type.load(path)
    except PolicyError as error:
        return error.faults
    return []


def _load_unenforced(policy_type: Any, path: Path) -> Any:
    """The policy without its guard rails enforced, so that the solver can refute them; None if it cannot be read."""
    try:
        return policy_type.load(path, enforce_guardrails=False)
    except PolicyError:
        return None  # its faults are in the table already


def _prove_guardrails(product: PolicyCli, policy: Any, console: Console) -> list[ProofResult]:
    try:
        from models.policy.prover import prove
    except ModuleNotFoundError as error:
        console.print(f"[red]{error.name} is not installed. Proofs need it: pip install -r configs/locks/training.txt")
        raise typer.Exit(1) from error
    domain = product.module("guardrail_domain").build_domain()
    applicable = [guardrail for guardrail in domain.guardrails if guardrail.applies_to(policy)]
    with Progress(console=console, transient=True) as progress:
        return [prove(guardrail, policy, domain) for guardrail in progress.track(applicable, description="proving")]


def _format_status(result: ProofResult) -> str:
    if result.proved:
        return "[green]proved"
    return "[red]fails" if result.counterexample else "[red]unproved"


def _find_forbidden_inputs(product: PolicyCli, card: Path) -> list[str]:
    from models.card import Card

    inputs = Card.model_validate_json(card.read_bytes()).inputs
    forbidden: list[str] = product.module("guardrail_domain").find_forbidden_inputs(inputs)
    return forbidden
