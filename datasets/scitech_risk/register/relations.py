"""Draw the addresses, officers, owners and invoices of a simulated zone, with the shells hidden among them.

Parties are numbers within a block; simulator.py turns them into ids. `hiding`, 0 to 1, is how well the shells hide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.scitech_risk.register.causal_model import Companies
from datasets.simulation import Rng, sigmoid

OFFICER, ADDRESS, OWNER = range(3)
FIRST_OUTSIDE_ID = 1 << 24  # parties outside the zone are numbered from here
Edges = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class CompanyGroups:
    """Arrays (companies,)."""

    ring: np.ndarray  # number of its ring of shells, -1 for none
    group: np.ndarray  # number of its honest group, -1 for none
    next_member: np.ndarray  # position of the next member of its ring or group; its own if it is in neither
    parent: np.ndarray  # bool, the parent of its group
    vehicle: np.ndarray  # bool, holds the patents of its group without any staff
    hides: np.ndarray  # (3, companies) bool: address, officer, ownership


def draw_groups(rng: Rng, firms: Companies, hiding: float) -> CompanyGroups:
    """Draw rings of 3 to 7 shells, and groups of 2 to 5 honest companies that one parent owns."""
    n = len(firms.age)
    ring, group, next_member = np.full(n, -1), np.full(n, -1), np.arange(n)
    is_parent = np.zeros(n, dtype=bool)
    honest_members = rng.permutation(np.flatnonzero(~firms.shell))[: round(0.05 * n)]
    for membership, members, min_size, max_size in (
        (ring, np.flatnonzero(firms.shell), 3, 7),
        (group, honest_members, 2, 5),
    ):
        members = rng.permutation(members)
        members = members[np.argsort(firms.dormant[members], kind="stable")]  # dormant shells share rings
        sizes = rng.integers(min_size, max_size + 1, len(members))
        group_numbers = np.repeat(np.arange(len(sizes)), sizes)[: len(members)]
        membership[members] = group_numbers
        is_first = (
            np.r_[True, group_numbers[1:] != group_numbers[:-1]] if len(group_numbers) else np.zeros(0, dtype=bool)
        )
        is_last = np.r_[is_first[1:], True] if len(group_numbers) else is_first
        next_member[members[~is_last]] = members[1:][~is_last[:-1]] if len(members) > 1 else members[~is_last]
        next_member[members[is_last]] = members[is_first]
        if membership is group:
            is_parent[members[is_first]] = True
    is_vehicle = (group >= 0) & ~is_parent & (rng.random(n) < 0.3)
    return CompanyGroups(ring, group, next_member, is_parent, is_vehicle, rng.random((3, n)) < hiding)


def draw_links(rng: Rng, firms: Companies, groups: CompanyGroups) -> Edges:
    """Draw links: company, kind and party, (links,) each."""
    n = len(firms.age)
    index = np.arange(n)
    is_honest, mail_drop_count = ~firms.shell, max(1, int(groups.ring.max(initial=0)) // 4 + 1)
    # addresses: its own, an office building, an incubator, a mail drop; one million numbers for each kind
    address = index + 1_000_000
    in_office_building = rng.random(n) < 0.25
    address = np.where(in_office_building, 2_000_000 + rng.integers(0, max(1, n // 24), n), address)
    in_incubator = is_honest & (firms.size < 0.2) & (rng.random(n) < 0.32)
    incubator_address = 3_000_000 + np.floor(max(1, n // 600) * rng.random(n) ** 1.6).astype(np.int64)
    address = np.where(in_incubator, incubator_address, address)
    uses_mail_drop = is_honest & (firms.size < 0) & (rng.random(n) < 0.008)
    address = np.where(uses_mail_drop, 4_000_000 + rng.integers(0, mail_drop_count, n), address)
    hidden_address = np.where(rng.random(n) < 0.5, index + 1_000_000, incubator_address)
    address = np.where(firms.shell, np.where(groups.hides[0], hidden_address, 4_000_000 + groups.ring // 4), address)
    edges = [(index, np.full(n, ADDRESS), address)]

    # officers: its own, its group's, an agent who serves a dozen honest start-ups, a nominee
    own_officer = index + 1_000_000
    has_nominee = firms.shell & ~(groups.hides[1] & (rng.random(n) < 0.8))
    edges.append((index[~has_nominee], OFFICER + 0 * index[~has_nominee], own_officer[~has_nominee]))
    edges.append((index[has_nominee], OFFICER + 0 * index[has_nominee], 5_000_000 + groups.ring[has_nominee] // 2))
    has_second_officer = (rng.random(n) < 0.6) & is_honest
    edges.append(
        (
            index[has_second_officer],
            OFFICER + 0 * index[has_second_officer],
            own_officer[has_second_officer] + 1_000_000,
        )
    )
    in_group = groups.group >= 0
    edges.append((index[in_group], OFFICER + 0 * index[in_group], 3_000_000 + groups.group[in_group]))
    has_agent = is_honest & (firms.size < 0) & (rng.random(n) < 0.04)
    agents = 4_000_000 + rng.integers(0, max(1, n // 600), n)
    edges.append((index[has_agent], OFFICER + 0 * index[has_agent], agents[has_agent]))

    # owners: a person, a group's parent, a fund, the next member of the ring
    in_ownership_ring = firms.shell & (groups.ring % 6 == 0) & ~groups.hides[2]
    is_group_owned = in_group & ~groups.parent
    is_person_owned = ~is_group_owned & ~in_ownership_ring
    edges.append((index[is_person_owned], OWNER + 0 * index[is_person_owned], own_officer[is_person_owned]))
    parent_of_group = np.zeros(int(groups.group.max(initial=-1)) + 1, dtype=np.int64)
    parent_of_group[groups.group[groups.parent]] = index[groups.parent]
    edges.append(
        (index[is_group_owned], OWNER + 0 * index[is_group_owned], parent_of_group[groups.group[is_group_owned]])
    )
    is_cross_held = groups.parent & (rng.random(n) < 0.02) & (groups.next_member != index)  # an honest cross-holding
    edges.append((index[is_cross_held], OWNER + 0 * index[is_cross_held], groups.next_member[is_cross_held]))
    edges.append(
        (index[in_ownership_ring], OWNER + 0 * index[in_ownership_ring], groups.next_member[in_ownership_ring])
    )
    funds = 6_000_000 + rng.integers(0, max(1, n // 400), n)
    edges.append((index[firms.funded], OWNER + 0 * index[firms.funded], funds[firms.funded]))
    company, kind, party = (np.concatenate(arrays) for arrays in zip(*edges, strict=True))
    return company, kind, party


def draw_invoices(rng: Rng, firms: Companies, groups: CompanyGroups, sales: np.ndarray, hiding: float) -> Edges:
    """Draw invoices: seller, buyer and amount over 12 months, (invoices,) each.

    sales: (companies,) 10k RMB in 12 months.
    """
    n = len(firms.age)
    index = np.arange(n)
    invoiced_sales = sales * rng.uniform(0.88, 1.0, n)
    is_shell, is_active = firms.shell, sales > 0
    # sales inside a ring, a group or a pair, as a share of the seller's sales
    ring_share = 0.92 - 0.62 * hiding * rng.random(n)
    ring = np.maximum(groups.ring, 0)
    volume = np.bincount(ring, np.where(is_shell, invoiced_sales, 0.0)) / np.maximum(
        np.bincount(ring, is_shell & is_active), 1
    )
    ring_amount = volume[ring] * ring_share * rng.uniform(0.93, 1.07, n)
    sells_in_ring = is_shell & is_active & is_active[groups.next_member] & (groups.next_member != index)
    has_group_partner = (groups.group >= 0) & (groups.next_member != index)
    is_two_way = rng.random(int(groups.group.max(initial=-1)) + 1) < 0.3
    sells_in_group = has_group_partner & (
        ~groups.parent | is_two_way[np.maximum(groups.group, 0)] if len(is_two_way) else has_group_partner
    )
    is_captive = ~groups.parent & ((rng.random(n) < 0.3) | groups.vehicle)  # sells (almost) only to its group
    group_share = np.where(
        sells_in_group, np.where(is_captive, rng.uniform(0.5, 0.95, n), rng.uniform(0.05, 0.45, n)), 0.0
    )
    pairs = rng.permutation(np.flatnonzero(~is_shell))[: 2 * (n // 100)].reshape(2, -1)
    mutual_share = np.zeros(n)
    mutual_share[pairs.ravel()] = rng.uniform(0.03, 0.22, pairs.size)
    internal_edges: list[Edges] = [
        (index[sells_in_ring], groups.next_member[sells_in_ring], ring_amount[sells_in_ring]),
        (index[sells_in_group], groups.next_member[sells_in_group], (group_share * invoiced_sales)[sells_in_group]),
        (pairs[0], pairs[1], (mutual_share * invoiced_sales)[pairs[0]]),
        (pairs[1], pairs[0], (mutual_share * invoiced_sales)[pairs[1]]),
    ]
    external_sales = np.where(
        is_shell,
        np.where(sells_in_ring, ring_amount * (1 / ring_share - 1), invoiced_sales),
        invoiced_sales * np.maximum(1 - group_share - mutual_share, 0.02),
    )
    sales_edges = _allocate(rng, 2 + rng.poisson(np.exp(1.1 + 0.35 * firms.size)), external_sales, n, inside=0.25)
    purchase_share = np.where(is_shell, 0.9 * (1 - ring_share), rng.uniform(0.25, 0.6, n))
    purchase_edges = _allocate(rng, 1 + rng.poisson(2.0, n), invoiced_sales * purchase_share, n, inside=0.0)
    seller, buyer, amount = (
        np.concatenate(arrays)
        for arrays in zip(
            *internal_edges, sales_edges, (purchase_edges[1], purchase_edges[0], purchase_edges[2]), strict=True
        )
    )
    is_valid = (amount >= 0.005) & (seller != buyer)
    return seller[is_valid], buyer[is_valid], np.round(amount[is_valid], 2)


def _allocate(rng: Rng, partners: np.ndarray, total: np.ndarray, n: int, inside: float) -> Edges:
    """Divide each company's total unevenly among its partners; `inside` is the share of partners in the zone."""
    company = np.repeat(np.arange(len(partners)), partners)
    amounts = np.exp(1.1 * rng.standard_normal(len(company)))
    amounts /= np.bincount(company, amounts, len(partners))[company]
    outside = FIRST_OUTSIDE_ID + np.floor(4 * n * rng.random(len(company)) ** 1.8).astype(np.int64)
    partner = np.where(rng.random(len(company)) < inside, rng.integers(0, n, len(company)), outside)
    return company, partner, amounts * total[company]


def landlord_meter_probability(firms: Companies) -> np.ndarray:
    """The probability that a company's electricity is on its landlord's meter, (companies,)."""
    return sigmoid(-2.2 - 0.8 * firms.size)
