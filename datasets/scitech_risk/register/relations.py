"""Who sits where, who leads and owns whom, and who invoices whom in a simulated zone; shells hide among it.

Parties are numbers within a block; zone.py makes names of them. `hiding` is how well the shells hide, 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.credit_limit.county.causal_model import Rng, sigmoid
from datasets.scitech_risk.register.causal_model import Companies

OFFICER, ADDRESS, OWNER = range(3)
OUTSIDE = 1 << 24  # numbers from here on are parties outside the zone
Edges = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Groups:
    """Arrays (companies,): number of the ring of shells or the honest group it belongs to, -1 for none; the next
    member of it, itself for none; whether it is a group's parent, or (vehicle) holds its patents without any staff."""

    ring: np.ndarray
    group: np.ndarray
    next: np.ndarray
    parent: np.ndarray
    vehicle: np.ndarray
    hides: np.ndarray  # (3, companies) bool: address, officer, ownership


def groups(rng: Rng, firms: Companies, hiding: float) -> Groups:
    """Rings of 3 to 7 shells; groups of 2 to 5 honest companies that one parent owns."""
    n = len(firms.age)
    ring, group, following = np.full(n, -1), np.full(n, -1), np.arange(n)
    parent = np.zeros(n, dtype=bool)
    honest = rng.permutation(np.flatnonzero(~firms.shell))[: round(0.05 * n)]
    for label, members, least, most in ((ring, np.flatnonzero(firms.shell), 3, 7), (group, honest, 2, 5)):
        members = rng.permutation(members)
        members = members[np.argsort(firms.dormant[members], kind="stable")]  # the dormant among themselves
        sizes = rng.integers(least, most + 1, len(members))
        number = np.repeat(np.arange(len(sizes)), sizes)[: len(members)]
        label[members] = number
        first = np.r_[True, number[1:] != number[:-1]] if len(number) else np.zeros(0, dtype=bool)
        last = np.r_[first[1:], True] if len(number) else first
        following[members[~last]] = members[1:][~last[:-1]] if len(members) > 1 else members[~last]
        following[members[last]] = members[first]
        if label is group:
            parent[members[first]] = True
    vehicle = (group >= 0) & ~parent & (rng.random(n) < 0.3)
    return Groups(ring, group, following, parent, vehicle, rng.random((3, n)) < hiding)


def links(rng: Rng, firms: Companies, tied: Groups) -> Edges:
    """company, kind, party: (links,) each."""
    n = len(firms.age)
    at = np.arange(n)
    honest, drops = ~firms.shell, max(1, int(tied.ring.max(initial=0)) // 4 + 1)
    # addresses: one's own, an office building, an incubator, a mail drop; numbers apart by a million
    address = at + 1_000_000
    building = rng.random(n) < 0.25
    address = np.where(building, 2_000_000 + rng.integers(0, max(1, n // 24), n), address)
    hatched = honest & (firms.size < 0.2) & (rng.random(n) < 0.32)
    incubators = 3_000_000 + np.floor(max(1, n // 600) * rng.random(n) ** 1.6).astype(np.int64)
    address = np.where(hatched, incubators, address)
    mail = honest & (firms.size < 0) & (rng.random(n) < 0.008)
    address = np.where(mail, 4_000_000 + rng.integers(0, drops, n), address)
    dropped = np.where(rng.random(n) < 0.5, at + 1_000_000, incubators)
    address = np.where(firms.shell, np.where(tied.hides[0], dropped, 4_000_000 + tied.ring // 4), address)
    found = [(at, np.full(n, ADDRESS), address)]

    # officers: one's own, a group's, an agent's who sits in a dozen honest start-ups, a nominee's
    own = at + 1_000_000
    nominee = firms.shell & ~(tied.hides[1] & (rng.random(n) < 0.8))
    found.append((at[~nominee], OFFICER + 0 * at[~nominee], own[~nominee]))
    found.append((at[nominee], OFFICER + 0 * at[nominee], 5_000_000 + tied.ring[nominee] // 2))
    second = (rng.random(n) < 0.6) & honest
    found.append((at[second], OFFICER + 0 * at[second], own[second] + 1_000_000))
    grouped = tied.group >= 0
    found.append((at[grouped], OFFICER + 0 * at[grouped], 3_000_000 + tied.group[grouped]))
    served = honest & (firms.size < 0) & (rng.random(n) < 0.04)
    agents = 4_000_000 + rng.integers(0, max(1, n // 600), n)
    found.append((at[served], OFFICER + 0 * at[served], agents[served]))

    # owners: a person, a group's parent, a fund, the next of the ring
    circular = firms.shell & (tied.ring % 6 == 0) & ~tied.hides[2]
    owned = grouped & ~tied.parent
    person = ~owned & ~circular
    found.append((at[person], OWNER + 0 * at[person], own[person]))
    first = np.zeros(int(tied.group.max(initial=-1)) + 1, dtype=np.int64)
    first[tied.group[tied.parent]] = at[tied.parent]
    found.append((at[owned], OWNER + 0 * at[owned], first[tied.group[owned]]))
    crossed = tied.parent & (rng.random(n) < 0.02) & (tied.next != at)  # an honest cross-holding
    found.append((at[crossed], OWNER + 0 * at[crossed], tied.next[crossed]))
    found.append((at[circular], OWNER + 0 * at[circular], tied.next[circular]))
    funds = 6_000_000 + rng.integers(0, max(1, n // 400), n)
    found.append((at[firms.funded], OWNER + 0 * at[firms.funded], funds[firms.funded]))
    company, kind, party = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return company, kind, party


def invoices(rng: Rng, firms: Companies, tied: Groups, sales: np.ndarray, hiding: float) -> Edges:
    """seller, buyer, amount over 12 months: (invoices,) each. `sales`: (companies,) 10k RMB in 12 months."""
    n = len(firms.age)
    at = np.arange(n)
    invoiced = sales * rng.uniform(0.88, 1.0, n)
    shell, active = firms.shell, sales > 0
    # what runs inside a ring, a group or a pair, as a share of the seller's sales
    circular = 0.92 - 0.62 * hiding * rng.random(n)
    ring = np.maximum(tied.ring, 0)
    volume = np.bincount(ring, np.where(shell, invoiced, 0.0)) / np.maximum(np.bincount(ring, shell & active), 1)
    around = volume[ring] * circular * rng.uniform(0.93, 1.07, n)
    turn = shell & active & active[tied.next] & (tied.next != at)
    within = (tied.group >= 0) & (tied.next != at)
    two_way = rng.random(int(tied.group.max(initial=-1)) + 1) < 0.3
    inner = within & (~tied.parent | two_way[np.maximum(tied.group, 0)] if len(two_way) else within)
    captive = ~tied.parent & ((rng.random(n) < 0.3) | tied.vehicle)  # works for its group alone, or nearly
    part = np.where(inner, np.where(captive, rng.uniform(0.5, 0.95, n), rng.uniform(0.05, 0.45, n)), 0.0)
    pairs = rng.permutation(np.flatnonzero(~shell))[: 2 * (n // 100)].reshape(2, -1)
    mutual = np.zeros(n)
    mutual[pairs.ravel()] = rng.uniform(0.03, 0.22, pairs.size)
    special: list[Edges] = [
        (at[turn], tied.next[turn], around[turn]),
        (at[inner], tied.next[inner], (part * invoiced)[inner]),
        (pairs[0], pairs[1], (mutual * invoiced)[pairs[0]]),
        (pairs[1], pairs[0], (mutual * invoiced)[pairs[1]]),
    ]
    rest = np.where(
        shell, np.where(turn, around * (1 / circular - 1), invoiced), invoiced * np.maximum(1 - part - mutual, 0.02)
    )
    sold = _spread(rng, 2 + rng.poisson(np.exp(1.1 + 0.35 * firms.size)), rest, n, inside=0.25)
    bought_share = np.where(shell, 0.9 * (1 - circular), rng.uniform(0.25, 0.6, n))
    bought = _spread(rng, 1 + rng.poisson(2.0, n), invoiced * bought_share, n, inside=0.0)
    seller, buyer, amount = (
        np.concatenate(parts) for parts in zip(*special, sold, (bought[1], bought[0], bought[2]), strict=True)
    )
    kept = (amount >= 0.005) & (seller != buyer)
    return seller[kept], buyer[kept], np.round(amount[kept], 2)


def _spread(rng: Rng, partners: np.ndarray, total: np.ndarray, n: int, inside: float) -> Edges:
    """Each company's total over its partners in uneven parts; a partner is inside the zone with this probability."""
    one = np.repeat(np.arange(len(partners)), partners)
    parts = np.exp(1.1 * rng.standard_normal(len(one)))
    parts /= np.bincount(one, parts, len(partners))[one]
    outside = OUTSIDE + np.floor(4 * n * rng.random(len(one)) ** 1.8).astype(np.int64)
    other = np.where(rng.random(len(one)) < inside, rng.integers(0, n, len(one)), outside)
    return one, other, parts * total[one]


def landlords(firms: Companies) -> np.ndarray:
    """How likely a company's electricity is on its landlord's meter."""
    return sigmoid(-2.2 - 0.8 * firms.size)
