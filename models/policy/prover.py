"""Prove each guard rail of a policy over the whole input space, or find an applicant for whom it fails.

for result in prove_all(policy, domain): print(result)

z3 proves the formula that runs, on reals and part by part: each method that a rail does not unfold is replaced by an
unknown. Only two facts are assumed of the unknown, both proved of the method first: its lower bound, and whose value
is the larger of the two applicants'. Rounding is a rail of its own (down, and order-preserving), so the other rails are
proved before rounding. A counterexample is evaluated again with floats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]  # a requirement of training; serving never imports this module

from models.policy.arithmetic import ScalarOps
from models.policy.guardrails import Guardrail, Scenario, format_value

PROOF_TIMEOUT_MS, LEMMA_TIMEOUT_MS = 20_000, 5_000  # for a proof and for one of its steps; the slowest takes under 1 s
ATTEMPT_TIMEOUT_MS, SEARCH_BUDGET_S = 2_000, 30  # for one attempt at a readable counterexample, and for all of them
HIDDEN_SUFFIX = "~"  # marks a field that the variant may leave out

Applicant = Mapping[str, float | None]  # None is missing


@dataclass(frozen=True)
class ProofDomain:
    """A product's formula and its possible applicants.

    formula: takes (policy, operations); `evaluate` takes the numbers in `input_names` by name.
    reference_applicants: a counterexample differs from one of them as little as possible; the plainest comes first.
    lemmas: methods of the formula that a proof may replace by an unknown, each with a function from the method's
        arguments to its lower bound (None: no bound). Calls of one method are told apart by their texts and integers.
    signed_inputs: fields that may be below 0.
    max_values, step_sizes: a readable counterexample has no larger value, and a multiple of the step (1 by default).
    """

    formula: Any
    guardrails: tuple[Guardrail, ...]
    input_names: tuple[str, ...]
    reference_applicants: tuple[Applicant, ...]
    lemmas: Mapping[str, Callable[..., Any] | None]
    signed_inputs: tuple[str, ...] = ()
    always_known: tuple[str, ...] = ()
    share_inputs: tuple[str, ...] = ()  # from 0 to 1
    max_values: Mapping[str, float] = field(default_factory=dict)
    step_sizes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ProofResult:
    """One rail under one policy. `proved` is None if the solver can neither prove nor refute it: a failure."""

    guardrail: Guardrail
    proved: bool | None
    seconds: float
    counterexample: Counterexample | None = None

    def __str__(self) -> str:
        if self.proved:
            return f"{self.guardrail.name}: proved in {self.seconds:.2f} s"
        if self.counterexample is None:
            return f"{self.guardrail.name}: neither proved nor refuted in {self.seconds:.1f} s"
        return f"{self.guardrail.name}: FAILS: {self.counterexample.en}"


@dataclass(frozen=True)
class Counterexample:
    """An applicant (and its variant) for whom the float formula violates the rail."""

    baseline_inputs: dict[str, float]
    variant_inputs: dict[str, float]
    en: str


def prove_all(policy: Any, domain: ProofDomain) -> list[ProofResult]:
    """The result of each rail that applies to the policy, in the order of the domain's rails."""
    return [prove(guardrail, policy, domain) for guardrail in domain.guardrails if guardrail.applies_to(policy)]


def prove(guardrail: Guardrail, policy: Any, domain: ProofDomain) -> ProofResult:
    """Prove one rail, or refute it with a counterexample."""
    if not guardrail.one_at_a_time:
        return _prove_once(guardrail, policy, domain)
    seconds = 0.0
    for name in guardrail.hidden_fields:
        result = _prove_once(replace(guardrail, hidden_fields=(name,)), policy, domain)
        seconds += result.seconds
        if not result.proved:
            return replace(result, guardrail=guardrail, seconds=seconds)
    return ProofResult(guardrail, True, seconds)


def _prove_once(guardrail: Guardrail, policy: Any, domain: ProofDomain) -> ProofResult:
    start = time.perf_counter()
    baseline, variant = _symbolic_applicants(guardrail, domain)
    constraints = _input_constraints(baseline, variant, guardrail, policy, domain)
    abstracted = _abstracted_formula(domain)(policy, _real_ops(), guardrail, constraints)
    violation = guardrail.is_violated(Scenario(abstracted, baseline, variant), 0.0)  # collects candidates on the way
    counterexample, proved = None, _is_unsatisfiable([*constraints, violation], LEMMA_TIMEOUT_MS)  # often a referral
    if not proved:
        proved = _is_unsatisfiable([*abstracted.derive_facts(), violation])
    if not proved:
        counterexample = next(_search_counterexamples(guardrail, policy, domain, baseline, variant), None)
    if not proved and counterexample is None:  # the unknowns may allow what the formula excludes
        full_violation = guardrail.is_violated(Scenario(domain.formula(policy, _real_ops()), baseline, variant), 0.0)
        proved = _is_unsatisfiable([*constraints, full_violation])
    return ProofResult(
        guardrail, proved if proved or counterexample else None, time.perf_counter() - start, counterexample
    )


def _is_unsatisfiable(constraints: list[Any], timeout_ms: int = PROOF_TIMEOUT_MS) -> bool:
    solver = z3.Solver()
    solver.set("timeout", timeout_ms)
    solver.add(*constraints)
    return bool(solver.check() == z3.unsat)


def _symbolic_applicants(guardrail: Guardrail, domain: ProofDomain) -> tuple[dict[str, Any], dict[str, Any]]:
    """Baseline and variant, which differ in the fields that the rail varies or hides."""
    baseline = {name: z3.Real(name) for name in domain.input_names}
    variant = baseline | {name: z3.Real(f"{name}'") for name in guardrail.varied_fields}
    return baseline, variant | {name: z3.Real(f"{name}{HIDDEN_SUFFIX}") for name in guardrail.hidden_fields}


def _is_known(value: Any) -> Any:
    """One flag for both applicants, except in fields that the variant may leave out."""
    return z3.Bool(f"{value.decl().name().rstrip(chr(39))} is known")


def _input_constraints(
    baseline: Mapping[str, Any], variant: Mapping[str, Any], guardrail: Guardrail, policy: Any, domain: ProofDomain
) -> list[Any]:
    """All possible applicants; varied fields only rise, and nothing is known of the variant alone."""
    ops, premise = _real_ops(), guardrail.premise
    premises = [] if premise is None else [premise(policy, ops, baseline, variant, n) for n in guardrail.hidden_fields]
    named_values = [(name, value) for a in (baseline, variant) for name, value in a.items()]
    return [
        *(value >= 0 for name, value in named_values if name not in domain.signed_inputs),
        *(value <= 1 for name, value in named_values if name in domain.share_inputs),
        *(variant[name] >= baseline[name] for name in guardrail.varied_fields),
        *(variant[name] == baseline[name] for name in guardrail.hidden_fields),
        *(z3.Implies(_is_known(variant[name]), _is_known(baseline[name])) for name in guardrail.hidden_fields),
        *(z3.Not(_is_known(variant[name])) for name in guardrail.hidden_fields if guardrail.one_at_a_time),
        *premises,
    ]


def _real_ops() -> Any:
    """The operations of arithmetic.py on z3's reals; numbers are the exact values of the floats."""

    def number(value: float) -> Any:
        return z3.Q(*Fraction(value).as_integer_ratio())

    return SimpleNamespace(
        number=number,
        is_known=_is_known,
        where=z3.If,
        minimum=lambda a, b: z3.If(a <= b, a, b),
        maximum=lambda a, b: z3.If(a >= b, a, b),
        logical_and=z3.And,
        logical_or=z3.Or,
        logical_not=z3.Not,
        floor_to=lambda value, step: number(step) * z3.ToReal(z3.ToInt(value / number(step))),
    )


def _abstracted_formula(domain: ProofDomain) -> Any:
    """The formula with the methods that have lemmas replaced by unknowns, except those that the rail unfolds."""

    class AbstractedFormula(domain.formula):  # type: ignore[misc, name-defined]
        def __init__(self, policy: Any, ops: Any, guardrail: Guardrail, constraints: list[Any]):
            self.guardrail = guardrail
            self.constraints = constraints
            self.candidates: list[
                tuple[Any, Any]
            ] = []  # (contrary, fact): the fact holds if the contrary is impossible
            self.unknowns: dict[str, list[tuple[Any, Any]]] = {}  # name -> one or two of (term, its unknown)
            super().__init__(policy, ops)

        def _abstract(self, name: str, term: Any, lower_bound: Any = None) -> Any:
            """Replace a term by an unknown; the same term always becomes the same unknown, so proofs carry over."""
            existing = self.unknowns.setdefault(name, [])
            for known_term, unknown in existing:
                if known_term.eq(term):
                    return unknown
            unknown = z3.Real(f"{name} of applicant {len(existing) + 1}")
            if lower_bound is not None:
                self.candidates.append((term < lower_bound, unknown >= lower_bound))
            for known_term, earlier in existing:
                self.candidates += [(term < known_term, unknown >= earlier), (term > known_term, unknown <= earlier)]
            existing.append((term, unknown))
            return unknown

        def derive_facts(self) -> list[Any]:
            """The constraints, and the facts about the unknowns that follow, each with the help of those before it."""
            facts = list(self.constraints)
            for contrary, fact in self.candidates:
                if _is_unsatisfiable([*facts, contrary], LEMMA_TIMEOUT_MS):
                    facts.append(fact)
            return facts

    for name, lower_bound in domain.lemmas.items():
        setattr(AbstractedFormula, name, _abstracted_method(AbstractedFormula, name, lower_bound))
    return AbstractedFormula


def _abstracted_method(formula_type: Any, name: str, lower_bound: Callable[..., Any] | None) -> Callable[..., Any]:
    def method(self: Any, *args: Any) -> Any:
        term = getattr(super(formula_type, self), name)(*args)
        if name in self.guardrail.unfolds:
            return term
        unknown_name = " ".join([name, *(str(arg) for arg in args if isinstance(arg, str | int))])
        return self._abstract(unknown_name, term, None if lower_bound is None else lower_bound(*args))

    return method


def _search_counterexamples(
    guardrail: Guardrail, policy: Any, domain: ProofDomain, baseline: dict[str, Any], variant: dict[str, Any]
) -> Iterator[Counterexample]:
    """Counterexamples to the complete formula, the most readable first.

    Readable means one change, few differences from a reference applicant, round numbers, and a difference that is still
    there after the limit is rounded.
    """
    scenario = Scenario(domain.formula(policy, _real_ops()), baseline, variant)
    step = policy.product.rounding
    deadline = time.perf_counter() + SEARCH_BUDGET_S
    changed_fields = (*guardrail.varied_fields, *guardrail.hidden_fields)
    single_changes = [(name,) for name in changed_fields] if len(changed_fields) > 1 else []
    freed_choices: list[tuple[str, ...]] = [(), *((name,) for name in domain.input_names if name not in changed_fields)]
    attempts: list[tuple[Applicant, tuple[str, ...], tuple[str, ...]]]
    attempts = [(reference, name, ()) for name in single_changes for reference in domain.reference_applicants]
    attempts += [
        (reference, changed_fields, freed_fields)
        for freed_fields in freed_choices
        for reference in domain.reference_applicants
    ]
    attempts.append((domain.reference_applicants[0], changed_fields, domain.input_names))
    for slack, readable in ((step, True), (0.0, True), (step, False), (0.0, False)):
        for reference, moving_fields, freed_fields in attempts:
            if time.perf_counter() > deadline:
                return
            solver = z3.Solver()
            solver.set("timeout", ATTEMPT_TIMEOUT_MS)
            free_fields = {*moving_fields, *freed_fields}
            solver.add(
                *_input_constraints(baseline, variant, guardrail, policy, domain),
                guardrail.is_violated(scenario, slack),
            )
            solver.add(
                *_pin_to_reference(baseline, reference, free_fields, domain),
                *_fields_equal(baseline, variant, {*changed_fields} - {*moving_fields}),
            )
            solver.add(*(_readability_constraints(baseline, variant, free_fields, domain) if readable else ()))
            if solver.check() == z3.sat:
                counterexample = _to_counterexample(guardrail, policy, domain, solver.model(), baseline, variant)
                if counterexample is not None:
                    yield counterexample


def _fields_equal(baseline: Mapping[str, Any], variant: Mapping[str, Any], fields: set[str]) -> Iterator[Any]:
    for name in fields:
        yield variant[name] == baseline[name]
        yield _is_known(variant[name]) == _is_known(baseline[name])


def _pin_to_reference(
    baseline: Mapping[str, Any], reference: Applicant, free_fields: set[str], domain: ProofDomain
) -> Iterator[Any]:
    """Every field that is not free has the value of the reference applicant."""
    for name, value in reference.items():
        known = _is_known(baseline[name])
        if name in free_fields:
            if len(free_fields) < len(domain.input_names) or name in domain.always_known:
                yield known
        elif value is None:
            yield z3.Not(known)
            yield baseline[name] == 0  # not read
        else:
            yield known
            yield baseline[name] == value


def _readability_constraints(
    baseline: Mapping[str, Any], variant: Mapping[str, Any], free_fields: set[str], domain: ProofDomain
) -> Iterator[Any]:
    for name in sorted(free_fields):
        for value in {baseline[name], variant[name]}:
            step = Fraction(str(domain.step_sizes.get(name, 1)))
            if name in domain.max_values:
                yield value <= domain.max_values[name]
            yield value == z3.Q(step.numerator, step.denominator) * z3.ToReal(z3.Int(f"steps of {value}"))


def _to_counterexample(
    guardrail: Guardrail,
    policy: Any,
    domain: ProofDomain,
    model: Any,
    baseline: Mapping[str, Any],
    variant: Mapping[str, Any],
) -> Counterexample | None:
    """The applicants of z3's model as floats, if the float formula violates the rail for them too."""
    baseline_inputs, variant_inputs = (_to_floats(model, applicant) for applicant in (baseline, variant))
    scenario = Scenario(domain.formula(policy, ScalarOps), baseline_inputs, variant_inputs)
    if not guardrail.is_violated(scenario, 0.0):
        return None
    descriptions = (
        f"{name} {format_value(baseline_inputs[name])}"
        for name in domain.input_names
        if name not in guardrail.varied_fields and baseline_inputs[name] == baseline_inputs[name]
    )
    return Counterexample(
        baseline_inputs, variant_inputs, f"{guardrail.describe(scenario)}; {', '.join(descriptions)}, the rest missing"
    )


def _to_floats(model: Any, applicant: Mapping[str, Any]) -> dict[str, float]:
    values = {}
    for name, term in applicant.items():
        known = z3.is_true(model.eval(_is_known(term), model_completion=True))
        value = model.eval(term, model_completion=True)
        if z3.is_algebraic_value(value):
            value = value.approx(20)
        values[name] = float(value.as_fraction()) if known else float("nan")
    return values
