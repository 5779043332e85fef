"""Build the ego network of a company: companies that share its officers, addresses or owners, or trade with it.

    neighbourhood = NetworkIndex(register).neighbourhood("C00000258")
    neighbourhood.nodes, neighbourhood.edges

People and addresses appear by their kind and the number of companies they connect, never by name.
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

MAX_NODES = 60  # nodes, including the company itself
MAX_TIES = 20  # addresses, officers and owners of the company that are shown
MAX_COMPANIES_PER_TIE = 24  # companies shown for each shared address, officer or owner
TIE_KINDS = ("officer", "address", "owner")
TIE_CACHE_SIZE = 256  # sets of ties whose companies are kept while the register is loaded
MAX_PARTNERS = 8  # buyers shown of a company, and sellers: those with the largest sums

T = TypeVar("T")
Tie = tuple[str, str]  # kind and party; the party is not a company


@dataclass(frozen=True, slots=True)
class Node:
    """A company (in the register, or in a loop with one that is), or an officer, address or owner.

    companies: number of companies that it connects, shown or not.
    """

    kind: str
    company: str | None = None
    companies: int = 0


@dataclass(frozen=True, slots=True)
class Edge:
    """start, end: positions of nodes. Invoices run from seller to buyer, ownership from the owned company to the
    owner.
    """

    start: int
    end: int
    kind: str
    loop: bool = False  # part of a loop of invoices


@dataclass(slots=True)
class Neighbourhood:
    """The company is the first node. omitted_count: companies that share something or trade with it and are not
    shown.
    """

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    omitted_count: int = 0


class NetworkIndex:
    """A register's links and invoices by company. has_network: whether it has any of either."""

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
            companies.sort(key=lambda company_id: not self.is_uninsured.get(company_id))

    def neighbourhood(self, company: str) -> Neighbourhood:
        """The network within two steps; nearer companies, and companies without insured staff, come first."""
        included = dict.fromkeys((company, *self.loops.get(company, ())[: MAX_NODES - MAX_TIES]))
        all_ties = [
            tie for tie in dict.fromkeys(self.ties_by_company.get(company, ())) if len(self.companies_by_tie[tie]) > 1
        ]
        # a tie that few companies share is the most informative
        ties = dict.fromkeys(sorted(all_ties, key=lambda tie: len(self.companies_by_tie[tie]))[:MAX_TIES])
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
        for neighbour in list(included)[1:]:
            for partners in (self.owners, self.subsidiaries, self.buyers, self.sellers):
                second_step += islice(partners.get(neighbour, {}), MAX_PARTNERS)
        # they connect companies that are shown
        shared_partners = (partner for partner, occurrences in Counter(second_step).items() if occurrences > 1)
        _add_up_to(included, [*shared_partners, *second_step], MAX_NODES - len(ties))
        shared = Counter(tie for member in included for tie in self.ties_by_company.get(member, ()))
        extra_ties = [tie for tie, companies in shared.most_common() if companies > 1]
        _add_up_to(ties, extra_ties, MAX_NODES - len(included))
        reachable_count = len(crowded) + len(uncrowded - crowded)
        return Neighbourhood(
            *self._build_graph(included, ties),
            omitted_count=reachable_count - sum(member in crowded or member in uncrowded for member in included),
        )

    def _companies_sharing(self, ties: tuple[Tie, ...]) -> set[str]:
        """Companies that share any of the ties. Cached, as companies at one address mostly share their other ties too;
        otherwise n companies at one address would cost n squared.
        """
        return {company for tie in ties for company in self.companies_by_tie[tie]}

    def _build_graph(self, included: Iterable[str], ties: Iterable[Tie]) -> tuple[list[Node], list[Edge]]:
        nodes = [Node("company", company) for company in included]
        index_by_company = {company: index for index, company in enumerate(included)}
        loop_edges = dict.fromkeys(
            loop_edge for member in index_by_company for loop_edge in pairwise(self.loops.get(member, ()))
        )
        edges = [
            Edge(index_by_company[seller], index_by_company[buyer], "invoice", loop=True)
            for seller, buyer in loop_edges
            if seller in index_by_company and buyer in index_by_company
        ]
        edges += [
            Edge(index, index_by_company[partner], kind)
            for member, index in index_by_company.items()
            for kind, partners in (("owner", self.owners), ("invoice", self.buyers))
            for partner in _common_keys(partners.get(member, {}), index_by_company)
            if kind == "owner" or (member, partner) not in loop_edges
        ]
        index_by_tie = {tie: len(nodes) + index for index, tie in enumerate(ties)}
        nodes += [Node(tie[0], companies=len(self.companies_by_tie[tie])) for tie in ties]
        memberships = (
            (index, tie) for member, index in index_by_company.items() for tie in self.ties_by_company.get(member, ())
        )
        edges += [Edge(index, index_by_tie[tie], tie[0]) for index, tie in memberships if tie in index_by_tie]
        return nodes, edges


def _trading_pairs(invoices: pl.DataFrame, company_ids: pl.Series) -> list[tuple[str, str]]:
    """Pairs (seller, buyer) of different companies of the register, the largest amounts first."""
    both_known = (pl.col(column).is_in(company_ids.implode()) for column in ("seller", "buyer"))
    inner_invoices = invoices.filter(*both_known, pl.col("seller") != pl.col("buyer"))
    pairs = inner_invoices.group_by("seller", "buyer").agg(pl.col("amount").sum())
    ordered = pairs.sort("amount", "seller", "buyer", descending=[True, False, False])
    return list(ordered.select("seller", "buyer").iter_rows())


def _common_keys(left: Mapping[str, object], right: Mapping[str, object]) -> Iterator[str]:
    """Keys of both mappings, at the cost of the smaller one."""
    smaller, larger = (left, right) if len(left) <= len(right) else (right, left)
    return (key for key in smaller if key in larger)


def _add_up_to(target: dict[T, None], items: Iterable[T], limit: int) -> None:
    for item in items:
        if len(target) >= limit:
            return
        target.setdefault(item)
