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

MAX_NODES = 60  # nodes, the company's own among them
MAX_TIES = 20  # addresses, officers and owners shown of the company's own
MAX_COMPANIES_PER_TIE = 24  # companies shown of those that share one address, officer or owner
TIE_KINDS = ("officer", "address", "owner")
TIE_CACHE_SIZE = 256  # sets of ties whose companies are kept while the register is loaded
MAX_PARTNERS = 8  # buyers shown of a company, and sellers: those with the largest sums

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
class Neighbourhood:
    """The company is the first node. left_out: companies that share something or trade with it, and are not shown."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    omitted_count: int = 0


class NetworkIndex:
    """A register's links and invoices by company. known: whether it has either."""

    def __init__(self, register: Register):
        frame, links, invoices = register.frame, register.links, register.invoices
        self.has_network = any(
            frame_or_none is not None and frame_or_none.height for frame_or_none in (links, invoices)
        )
        ids = set(frame["company_id"])
        self.is_uninsured = dict(frame.select("company_id", pl.col("insured_staff") == 0).iter_rows())
        self.ties_by_company: dict[str, list[Tie]] = {}
        self.companies_by_tie: dict[Tie, list[str]] = {}
        self.owners: dict[str, dict[str, None]] = {}  # company -> companies that own it
        self.subsidiaries: dict[str, dict[str, None]] = {}
        self.buyers: dict[str, dict[str, None]] = {}  # the largest first
        self.sellers: dict[str, dict[str, None]] = {}
        self.companies_sharing = lru_cache(TIE_CACHE_SIZE)(self._companies_sharing)
        loops = frame.select("company_id", "loop_path").drop_nulls()
        self.loops = {company: path.split(" > ") for company, path in loops.iter_rows()}
        for company, kind, party in () if links is None else links.unique().sort(links.columns).iter_rows():
            if kind == "owner" and party in ids:
                self.owners.setdefault(company, {})[party] = None
                self.subsidiaries.setdefault(party, {})[company] = None
            elif company in ids:
                self.ties_by_company.setdefault(company, []).append((kind, party))
                self.companies_by_tie.setdefault((kind, party), []).append(company)
        for seller, buyer in () if invoices is None else _trading_pairs(invoices, frame["company_id"]):
            self.buyers.setdefault(seller, {})[buyer] = None
            self.sellers.setdefault(buyer, {})[seller] = None
        for companies in self.companies_by_tie.values():
            companies.sort(key=lambda one: not self.is_uninsured.get(one))

    def neighbourhood(self, company: str) -> Neighbourhood:
        """Within two steps; what is nearer, and what insures nobody, first."""
        included = dict.fromkeys((company, *self.loops.get(company, ())[: MAX_NODES - MAX_TIES]))
        all_ties = [
            tie for tie in dict.fromkeys(self.ties_by_company.get(company, ())) if len(self.companies_by_tie[tie]) > 1
        ]
        ties = dict.fromkeys(
            sorted(all_ties, key=lambda tie: len(self.companies_by_tie[tie]))[:MAX_TIES]
        )  # what few share says most
        candidates = [neighbour for tie in ties for neighbour in self.companies_by_tie[tie][:MAX_COMPANIES_PER_TIE]]
        crowded = self.companies_sharing(
            tuple(tie for tie in all_ties if len(self.companies_by_tie[tie]) > MAX_COMPANIES_PER_TIE)
        )
        uncrowded = {
            neighbour
            for tie in all_ties
            if len(self.companies_by_tie[tie]) <= MAX_COMPANIES_PER_TIE
            for neighbour in self.companies_by_tie[tie]
        }
        for partners in (self.owners, self.subsidiaries, self.buyers, self.sellers):
            partner_ids = partners.get(company, {})
            candidates += islice(partner_ids, MAX_PARTNERS)
            uncrowded.update(partner_ids)
        _add_up_to(included, candidates, MAX_NODES - len(ties))
        second_step: list[str] = []
        for one in list(included)[1:]:
            for partners in (self.owners, self.subsidiaries, self.buyers, self.sellers):
                second_step += islice(partners.get(one, {}), MAX_PARTNERS)
        shared_partners = (
            one for one, occurrences in Counter(second_step).items() if occurrences > 1
        )  # they tie what is shown together
        _add_up_to(included, [*shared_partners, *second_step], MAX_NODES - len(ties))
        shared = Counter(tie for one in included for tie in self.ties_by_company.get(one, ()))
        extra_ties = [tie for tie, companies in shared.most_common() if companies > 1]
        _add_up_to(ties, extra_ties, MAX_NODES - len(included))
        reachable_count = len(crowded) + len(uncrowded - crowded)
        return Neighbourhood(
            *self._build_graph(included, ties),
            omitted_count=reachable_count - sum(one in crowded or one in uncrowded for one in included),
        )

    def _companies_sharing(self, ties: tuple[Tie, ...]) -> set[str]:
        """Kept, as those of one address mostly share the others too: made for each anew, a register of n companies at
        one address costs n times n."""
        return {company for tie in ties for company in self.companies_by_tie[tie]}

    def _build_graph(self, included: Iterable[str], ties: Iterable[Tie]) -> tuple[list[Node], list[Edge]]:
        nodes = [Node("company", company) for company in included]
        index_by_company = {company: index for index, company in enumerate(included)}
        loop_edges = dict.fromkeys(
            loop_edge for one in index_by_company for loop_edge in pairwise(self.loops.get(one, ()))
        )
        edges = [
            Edge(index_by_company[seller], index_by_company[buyer], "invoice", loop=True)
            for seller, buyer in loop_edges
            if seller in index_by_company and buyer in index_by_company
        ]
        edges += [
            Edge(index, index_by_company[partner], kind)
            for one, index in index_by_company.items()
            for kind, partners in (("owner", self.owners), ("invoice", self.buyers))
            for partner in _common_keys(partners.get(one, {}), index_by_company)
            if kind == "owner" or (one, partner) not in loop_edges
        ]
        index_by_tie = {tie: len(nodes) + place for place, tie in enumerate(ties)}
        nodes += [Node(tie[0], companies=len(self.companies_by_tie[tie])) for tie in ties]
        memberships = (
            (place, tie) for one, place in index_by_company.items() for tie in self.ties_by_company.get(one, ())
        )
        edges += [Edge(place, index_by_tie[tie], tie[0]) for place, tie in memberships if tie in index_by_tie]
        return nodes, edges


def _trading_pairs(invoices: pl.DataFrame, company_ids: pl.Series) -> list[tuple[str, str]]:
    """(seller, buyer), both of the register and each other's partner, the largest sums first."""
    both_known = (pl.col(column).is_in(company_ids.implode()) for column in ("seller", "buyer"))
    inner_invoices = invoices.filter(*both_known, pl.col("seller") != pl.col("buyer"))
    pairs = inner_invoices.group_by("seller", "buyer").agg(pl.col("amount").sum())
    ordered = pairs.sort("amount", "seller", "buyer", descending=[True, False, False])
    return list(ordered.select("seller", "buyer").iter_rows())


def _common_keys(left: Mapping[str, object], right: Mapping[str, object]) -> Iterator[str]:
    """What is in both, at the cost of the smaller."""
    smaller, larger = (left, right) if len(left) <= len(right) else (right, left)
    return (key for key in smaller if key in larger)


def _add_up_to(target: dict[T, None], items: Iterable[T], limit: int) -> None:
    for item in items:
        if len(target) >= limit:
            return
        target.setdefault(item)
