"""Proves each guard rail of a policy over the whole input space, or finds an applicant for whom it fails.

for verdict in check(policy, domain): print(verdict)

z3 proves the very formula that runs, on reals, part by part: each part that a rail does not open is replaced by an
unknown, of which only that is assumed which was proved of the part before: its least value, and which of the two
applicants' is the greater. Rounding is a rail of its own (downward, and order-preserving), so the others are proved
before it. A counterexample is worked out again with floats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]  # of training's requirements; serving never imports this module

from models.policy.arithmetic import Floats
from models.policy.guardrails import Case, Rail, show

TIMEOUT_MS, LEMMA_MS = 20_000, 5_000  # for a proof, and for one of its steps; the slowest takes under a second
SEARCH_MS, SEARCH_S = 2_000, 30  # for one try at a readable counterexample, and for all of them
HIDDEN = "~"  # marks what the second applicant may leave out

Applicant = Mapping[str, float | None]  # None is missing


@dataclass(frozen=True)
class Domain:
    """A product's formula, and the applicants there can be.

    formula:  takes (policy, operations); `work` takes the numbers in `reads` by name.
    ordinary: applicants from whom a counterexample departs as little as it can, the plainest first.
    parts:    methods of the formula that a proof may close, each with what gives its least value of the method's own
              arguments (None: it has none). Texts and whole numbers among the arguments tell parts of a name apart.
    signed:   fields that may be below 0.
    most, steps: where a counterexample is readable: no higher than `most`, and a multiple of its step (1 unless told).
    """

    formula: Any
    rails: tuple[Rail, ...]
    reads: tuple[str, ...]
    ordinary: tuple[Applicant, ...]
    parts: Mapping[str, Callable[..., Any] | None]
    signed: tuple[str, ...] = ()
    always_known: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()  # from 0 to 1
    most: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One rail under one policy. `proved` is None where the solver can tell neither way: a failure."""

    rail: Rail
    proved: bool | None
    seconds: float
    counterexample: Counterexample | None = None

    def __str__(self) -> str:
        if self.proved:
            return f"{self.rail.name}: proved in {self.seconds:.2f} s"
        if self.counterexample is None:
            return f"{self.rail.name}: neither proved nor refuted in {self.seconds:.1f} s"
        return f"{self.rail.name}: FAILS: {self.counterexample.en}"


@dataclass(frozen=True)
class Counterexample:
    """An applicant (and, for an order, the same with something changed) for whom the float formula breaks the rail."""

    first: dict[str, float]
    second: dict[str, float]
    en: str


def check(policy: Any, domain: Domain) -> list[Verdict]:
    """The verdict of each rail that concerns the policy, in their order."""
    return [prove(rail, policy, domain) for rail in domain.rails if rail.concerns(policy)]


def prove(rail: Rail, policy: Any, domain: Domain) -> Verdict:
    started = time.perf_counter()
    first, second = _applicants(rail, domain)
    opened = _opened(domain)(policy, _reals(), rail, _space(first, second, rail, domain))
    broken = rail.broken(Case(opened, first, second), 0.0)  # finds the facts on the way
    found, proved = None, _impossible([*opened.facts, broken])
    if not proved:
        found = next(_search(rail, policy, domain, first, second), None)
    if not proved and found is None:  # the unknowns allowed what the formula as a whole may not
        whole = rail.broken(Case(domain.formula(policy, _reals()), first, second), 0.0)
        proved = _impossible([*_space(first, second, rail, domain), whole])
    return Verdict(rail, proved if proved or found else None, time.perf_counter() - started, found)


def _impossible(claims: list[Any], timeout_ms: int = TIMEOUT_MS) -> bool:
    solver = z3.Solver()
    solver.set("timeout", timeout_ms)
    solver.add(*claims)
    return bool(solver.check() == z3.unsat)


def _applicants(rail: Rail, domain: Domain) -> tuple[dict[str, Any], dict[str, Any]]:
    """The second differs from the first in what the rail varies or hides."""
    first = {name: z3.Real(name) for name in domain.reads}
    second = first | {name: z3.Real(f"{name}'") for name in rail.varies}
    return first, second | {name: z3.Real(f"{name}{HIDDEN}") for name in rail.hides}


def _known(value: Any) -> Any:
    """Of both applicants alike, but for what the second may hide."""
    return z3.Bool(f"{value.decl().name().rstrip(chr(39))} is known")


def _space(first: Mapping[str, Any], second: Mapping[str, Any], rail: Rail, domain: Domain) -> list[Any]:
    """Every applicant there can be, what varies going upward, and nothing known to the second alone."""
    both = [(name, value) for a in (first, second) for name, value in a.items()]
    return [
        *(value >= 0 for name, value in both if name not in domain.signed),
        *(value <= 1 for name, value in both if name in domain.shares),
        *(second[name] >= first[name] for name in rail.varies),
        *(second[name] == first[name] for name in rail.hides),
        *(z3.Implies(_known(second[name]), _known(first[name])) for name in rail.hides),
    ]


def _reals() -> Any:
    """The operations of operations.py on z3's reals; numbers are taken exactly as the floats have them."""

    def number(value: float) -> Any:
        return z3.Q(*Fraction(value).as_integer_ratio())

    return SimpleNamespace(
        number=number,
        known=_known,
        where=z3.If,
        least=lambda a, b: z3.If(a <= b, a, b),
        most=lambda a, b: z3.If(a >= b, a, b),
        both=z3.And,
        either=z3.Or,
        negate=z3.Not,
        floor_to=lambda value, step: number(step) * z3.ToReal(z3.ToInt(value / number(step))),
    )


def _opened(domain: Domain) -> Any:
    """The formula with its parts replaced by unknowns, except those that the rail opens."""

    class Opened(domain.formula):  # type: ignore[misc, name-defined]
        def __init__(self, policy: Any, ops: Any, rail: Rail, given: list[Any]):
            self.rail = rail
            self.facts = list(given)
            self.parts: dict[str, list[tuple[Any, Any]]] = {}  # name -> [(term, the unknown in its place)], one or two
            super().__init__(policy, ops)

        def _part(self, name: str, term: Any, least: Any = None) -> Any:
            """The same term always becomes the same unknown: what is proved of that is proved of the term."""
            standing = self.parts.setdefault(name, [])
            for other, unknown in standing:
                if other.eq(term):
                    return unknown
            unknown = z3.Real(f"{name} of applicant {len(standing) + 1}")
            lent = [] if least is None else [(term < least, unknown >= least)]
            for other, earlier in standing:
                lent += [(term < other, unknown >= earlier), (term > other, unknown <= earlier)]
            self.facts += [fact for contrary, fact in lent if _impossible([*self.facts, contrary], LEMMA_MS)]
            standing.append((term, unknown))
            return unknown

    for name, least in domain.parts.items():
        setattr(Opened, name, _closed(Opened, name, least))
    return Opened


def _closed(opened: Any, name: str, least: Callable[..., Any] | None) -> Callable[..., Any]:
    def part(self: Any, *args: Any) -> Any:
        term = getattr(super(opened, self), name)(*args)
        if name in self.rail.opens:
            return term
        told = " ".join([name, *(str(arg) for arg in args if isinstance(arg, str | int))])
        return self._part(told, term, None if least is None else least(*args))

    return part


def _search(
    rail: Rail, policy: Any, domain: Domain, first: dict[str, Any], second: dict[str, Any]
) -> Iterator[Counterexample]:
    """Counterexamples to the whole formula, the most readable first: one change, few departures from an ordinary
    applicant, round numbers, and a difference that survives the rounding of the limit."""
    case = Case(domain.formula(policy, _reals()), first, second)
    step = policy.product.rounding
    deadline = time.perf_counter() + SEARCH_S
    changed = (*rail.varies, *rail.hides)
    alone = [(name,) for name in changed] if len(changed) > 1 else []
    narrow: list[tuple[str, ...]] = [(), *((name,) for name in domain.reads if name not in changed)]
    tries: list[tuple[Applicant, tuple[str, ...], tuple[str, ...]]]
    tries = [(ordinary, name, ()) for name in alone for ordinary in domain.ordinary]
    tries += [(ordinary, changed, freed) for freed in narrow for ordinary in domain.ordinary]
    tries.append((domain.ordinary[0], changed, domain.reads))
    for slack, readable in ((step, True), (0.0, True), (step, False), (0.0, False)):
        for ordinary, moving, freed in tries:
            if time.perf_counter() > deadline:
                return
            solver = z3.Solver()
            solver.set("timeout", SEARCH_MS)
            free = {*moving, *freed}
            solver.add(*_space(first, second, rail, domain), rail.broken(case, slack))
            solver.add(*_pinned(first, ordinary, free, domain), *_alike(first, second, {*changed} - {*moving}))
            solver.add(*(_readable(first, second, free, domain) if readable else ()))
            if solver.check() == z3.sat:
                found = _told(rail, policy, domain, solver.model(), first, second)
                if found is not None:
                    yield found


def _alike(first: Mapping[str, Any], second: Mapping[str, Any], still: set[str]) -> Iterator[Any]:
    for name in still:
        yield second[name] == first[name]
        yield _known(second[name]) == _known(first[name])


def _pinned(first: Mapping[str, Any], ordinary: Applicant, free: set[str], domain: Domain) -> Iterator[Any]:
    """Everything but what is free stands as the ordinary applicant has it."""
    for name, value in ordinary.items():
        known = _known(first[name])
        if name in free:
            if len(free) < len(domain.reads) or name in domain.always_known:
                yield known
        elif value is None:
            yield z3.Not(known)
            yield first[name] == 0  # unread
        else:
            yield known
            yield first[name] == value


def _readable(first: Mapping[str, Any], second: Mapping[str, Any], free: set[str], domain: Domain) -> Iterator[Any]:
    for name in sorted(free):
        for value in {first[name], second[name]}:
            step = Fraction(str(domain.steps.get(name, 1)))
            if name in domain.most:
                yield value <= domain.most[name]
            yield value == z3.Q(step.numerator, step.denominator) * z3.ToReal(z3.Int(f"steps of {value}"))


def _told(
    rail: Rail, policy: Any, domain: Domain, model: Any, first: Mapping[str, Any], second: Mapping[str, Any]
) -> Counterexample | None:
    """The model's applicants as floats, if the float formula breaks the rail for them too."""
    a, b = (_floats(model, applicant) for applicant in (first, second))
    case = Case(domain.formula(policy, Floats), a, b)
    if not rail.broken(case, 0.0):
        return None
    told = (f"{name} {show(a[name])}" for name in domain.reads if name not in rail.varies and a[name] == a[name])
    return Counterexample(a, b, f"{rail.tell(case)}; {', '.join(told)}, the rest missing")


def _floats(model: Any, applicant: Mapping[str, Any]) -> dict[str, float]:
    values = {}
    for name, term in applicant.items():
        known = z3.is_true(model.eval(_known(term), model_completion=True))
        value = model.eval(term, model_completion=True)
        if z3.is_algebraic_value(value):
            value = value.approx(20)
        values[name] = float(value.as_fraction()) if known else float("nan")
    return values
