"""What lies around a company of a register: who shares its officers, addresses and owners, and who trades with it.

    near = Around(register).of("C00000258")
    near.nodes, near.edges

People and places stand there by their kind and by how many companies they tie, never by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, pairwise
from typing import TypeVar

import polars as pl

from datasets.scitech_risk.register.schema import Register

MOST = 60  # nodes, the company's own among them
TIES = 20  # addresses, officers and owners shown of the company's own
PER_TIE = 24  # companies shown of those that share one address, officer or owner
KINDS = ("officer", "address", "owner")
UNIONS = 256  # sets of ties whose companies are kept while the register is loaded
PARTNERS = 8  # buyers shown of a company, and sellers: those with the largest sums

T = TypeVar("T")
Tie = tuple[str, str]  # kind and party, which is no company


@dataclass(frozen=True, slots=True)
class Node:
    """A company by its id, of the register or in a loop with one that is; or an officer, address or owner by its kind.
    companies: that it ties, shown or not."""

    kind: str
    company: str | None = None
    companies: int = 0


@dataclass(frozen=True, slots=True)
class Edge:
    """Between places among the nodes. An invoice runs from its seller, an owner's tie from what is owned."""

    start: int
    end: int
    kind: str
    loop: bool = False  # of a loop of invoices


@dataclass(slots=True)
class Near:
    """The company is the first node. left_out: companies that share something or trade with it, and are not shown."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    left_out: int = 0


class Around:
    """A register's links and invoices by company. known: whether it has either."""

    def __init__(self, register: Register):
        frame, links, invoices = register.frame, register.links, register.invoices
        self.known = any(part is not None and part.height for part in (links, invoices))
        ids = set(frame["company_id"])
        self.empty = dict(frame.select("company_id", pl.col("insured_staff") == 0).iter_rows())
        self.ties: dict[str, list[Tie]] = {}
        self.tied: dict[Tie, list[str]] = {}
        self.owners: dict[str, dict[str, None]] = {}  # company -> companies that own it
        self.owned: dict[str, dict[str, None]] = {}
        self.buyers: dict[str, dict[str, None]] = {}  # the largest first
        self.sellers: dict[str, dict[str, None]] = {}
        self.tied_by = lru_cache(UNIONS)(self._tied_by)
        loops = frame.select("company_id", "loop_path").drop_nulls()
        self.loops = {company: path.split(" > ") for company, path in loops.iter_rows()}
        for company, kind, party in () if links is None else links.unique().sort(links.columns).iter_rows():
            if kind == "owner" and party in ids:
                self.owners.setdefault(company, {})[party] = None
                self.owned.setdefault(party, {})[company] = None
            elif company in ids:
                self.ties.setdefault(company, []).append((kind, party))
                self.tied.setdefault((kind, party), []).append(company)
        for seller, buyer in () if invoices is None else _pairs(invoices, frame["company_id"]):
            self.buyers.setdefault(seller, {})[buyer] = None
            self.sellers.setdefault(buyer, {})[seller] = None
        for companies in self.tied.values():
            companies.sort(key=lambda one: not self.empty.get(one))

    def of(self, company: str) -> Near:
        """Within two steps; what is nearer, and what insures nobody, first."""
        shown = dict.fromkeys((company, *self.loops.get(company, ())[: MOST - TIES]))
        every = [tie for tie in dict.fromkeys(self.ties.get(company, ())) if len(self.tied[tie]) > 1]
        ties = dict.fromkeys(sorted(every, key=lambda tie: len(self.tied[tie]))[:TIES])  # what few share says most
        first = [one for tie in ties for one in self.tied[tie][:PER_TIE]]
        many = self.tied_by(tuple(tie for tie in every if len(self.tied[tie]) > PER_TIE))
        few = {one for tie in every if len(self.tied[tie]) <= PER_TIE for one in self.tied[tie]}
        for partners in (self.owners, self.owned, self.buyers, self.sellers):
            found = partners.get(company, {})
            first += islice(found, PARTNERS)
            few.update(found)
        _add(shown, first, MOST - len(ties))
        second: list[str] = []
        for one in list(shown)[1:]:
            for partners in (self.owners, self.owned, self.buyers, self.sellers):
                second += islice(partners.get(one, {}), PARTNERS)
        twice = (one for one, times in Counter(second).items() if times > 1)  # they tie what is shown together
        _add(shown, [*twice, *second], MOST - len(ties))
        shared = Counter(tie for one in shown for tie in self.ties.get(one, ()))
        more = [tie for tie, companies in shared.most_common() if companies > 1]
        _add(ties, more, MOST - len(shown))
        reached = len(many) + len(few - many)
        return Near(*self._drawn(shown, ties), left_out=reached - sum(one in many or one in few for one in shown))

    def _tied_by(self, ties: tuple[Tie, ...]) -> set[str]:
        """Kept, as those of one address mostly share the others too: made for each anew, a register of n companies at
        one address costs n times n."""
        return {one for tie in ties for one in self.tied[tie]}

    def _drawn(self, shown: Iterable[str], ties: Iterable[Tie]) -> tuple[list[Node], list[Edge]]:
        nodes = [Node("company", one) for one in shown]
        at = {one: place for place, one in enumerate(shown)}
        turns = dict.fromkeys(turn for one in at for turn in pairwise(self.loops.get(one, ())))
        edges = [Edge(at[a], at[b], "invoice", loop=True) for a, b in turns if a in at and b in at]
        edges += [
            Edge(place, at[other], kind)
            for one, place in at.items()
            for kind, others in (("owner", self.owners), ("invoice", self.buyers))
            for other in _both(others.get(one, {}), at)
            if kind == "owner" or (one, other) not in turns
        ]
        places = {tie: len(nodes) + place for place, tie in enumerate(ties)}
        nodes += [Node(tie[0], companies=len(self.tied[tie])) for tie in ties]
        held = ((place, tie) for one, place in at.items() for tie in self.ties.get(one, ()))
        edges += [Edge(place, places[tie], tie[0]) for place, tie in held if tie in places]
        return nodes, edges


def _pairs(invoices: pl.DataFrame, known: pl.Series) -> list[tuple[str, str]]:
    """(seller, buyer), both of the register and each other's partner, the largest sums first."""
    ours = (pl.col(end).is_in(known.implode()) for end in ("seller", "buyer"))
    kept = invoices.filter(*ours, pl.col("seller") != pl.col("buyer"))
    pairs = kept.group_by("seller", "buyer").agg(pl.col("amount").sum())
    ordered = pairs.sort("amount", "seller", "buyer", descending=[True, False, False])
    return list(ordered.select("seller", "buyer").iter_rows())


def _both(one: Mapping[str, object], other: Mapping[str, object]) -> Iterator[str]:
    """What is in both, at the cost of the smaller."""
    few, many = (one, other) if len(one) <= len(other) else (other, one)
    return (each for each in few if each in many)


def _add(to: dict[T, None], what: Iterable[T], most: int) -> None:
    for one in what:
        if len(to) >= most:
            return
        to.setdefault(one)
