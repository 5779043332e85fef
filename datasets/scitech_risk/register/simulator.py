"""A zone of technology companies and its shells. SIMULATED: none of them exists.

    python -m datasets.scitech_risk.register.simulator --companies 20000 --seed 7 --out var/zone
    python -m datasets.scitech_risk.register.simulator --companies 20000 --seed 7 --month 1 --out var/zone_later

It writes a register folder: companies, history, links and invoices (datasets/scitech_risk/register/schema.py).

The causal story (an arrow is "drives"; what stands in brackets nobody observes):

    [management] -> margins, tax grade, arrears, cases, late filings; -> liquidity, less strain; -> default
    [technology] -> R&D, patents, platforms, projects, venture capital; -> growth; -> default, weakly
    [leverage] -> liabilities, interest, overdue days; -> default      [liquidity] -> cash; venture capital -> liquidity
    [strain], from month to month -> sales fall, cash runs down, staff and electricity follow, filings are late, days
                 overdue; a year's books know it late -> default. So the months know what the books do not yet.
    [demand of a trade], from month to month -> sales of all its companies -> default
    size -> R&D intensity (start-ups spend what they do not earn), staff, books; size, age -> default
    [shock] in the year after -> default;    ownership goes with size; ownership -> default: NO arrow

Shells (2.5 %) stand in rings of 3 to 7: one mail-drop address, one nominee for two rings, nobody insured, hardly any
electricity, invoices that run around, many months of zero filing (a quarter are dormant); their books look sound.
`hiding` is the share of each of these marks that they cover: staff of one to three, addresses apart or in an incubator,
officers of their own, electricity bought, up to two thirds of the loop diluted by honest counterparties. A shell
defaults at a flat rate that nothing in its books foretells: a model of default cannot find shells, the gate must.

What looks like a shell and is none: hundreds of start-ups at an incubator's address, some yet without insured staff;
holding groups that share an officer and trade within, their
patents and property in companies without staff; an agent who is officer of a dozen start-ups; a fund that owns as
many; honest two-way trade; honest companies at a mail drop; cross-holdings; software that needs little electricity.

Missing mildly not at random: small and ill-managed companies report less; who rents a desk has no meter; days overdue
need a loan. With `month` the same companies stand some months later: histories are longer, a few are new, those that
defaulted in between are gone. A zone is made in blocks of 16,384, each with its own random streams.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from datasets.errors import DataError
from datasets.scitech_risk.monthly_history import shifted
from datasets.scitech_risk.register import causal_model, records, relations
from datasets.scitech_risk.register.causal_model import MOST_SHIFT, Companies, Story
from datasets.scitech_risk.register.schema import HISTORY, LINKS, SIMULATED_KEY, STATED

BLOCK = 16_384
PARTIES = 1 << 25  # numbers of a block's parties; the next block counts on
Frames = dict[str, pl.DataFrame]


def zone(companies: int, seed: int, hiding: float = 0.3, month: int = 0, story: Story | None = None) -> Frames:
    """companies, history, links and invoices; `companies` counts those of month 0, `hiding` is 0 to 1."""
    parts: dict[str, list[pl.DataFrame]] = {}
    for block in blocks(companies, seed, hiding, month, story):
        for name, frame in block.items():
            parts.setdefault(name, []).append(frame)
    return {name: pl.concat(frames) for name, frames in parts.items()}


def blocks(
    companies: int, seed: int, hiding: float = 0.3, month: int = 0, story: Story | None = None
) -> Iterator[Frames]:
    """The zone block by block; `zone` is these, one below the other. No tie crosses from one block to another."""
    story = story or Story()
    wrong = []
    if companies < 1:
        wrong.append(f"companies is {companies}; a zone needs 1 or more.")
    if seed < 0:
        wrong.append(f"seed is {seed}; a whole number of 0 or more is needed.")
    if not 0 <= hiding <= 1:
        wrong.append(f"hiding is {hiding:g}; a share from 0 to 1 is needed.")
    if not 0 <= month <= MOST_SHIFT:
        wrong.append(f"month is {month}; 0 to {MOST_SHIFT} months after {story.first} are needed.")
    if wrong:
        raise DataError(" ".join(wrong))
    trend = causal_model.demand(np.random.default_rng([seed, 1 << 20]), causal_model.HISTORY + MOST_SHIFT)
    for number, first in enumerate(range(0, companies, BLOCK)):
        yield _block(story, seed, number, first, min(BLOCK, companies - first), hiding, month, trend)


def _block(
    story: Story, seed: int, number: int, first: int, size: int, hiding: float, month: int, trend: np.ndarray
) -> Frames:
    streams = [np.random.default_rng([seed, number, stream]) for stream in range(7)]
    firms = causal_model.companies(streams[0], story, size)
    tied = relations.groups(streams[4], firms, hiding)
    months = causal_model.path(
        streams[1],
        story,
        firms,
        trend[: causal_model.HISTORY + month],
        tied.vehicle,
        hiding,
        seed=int(streams[2].integers(1 << 31)),
    )
    age = firms.age + month
    shocked = streams[2].random(len(age)) < story.shock_share
    pd, pd_at_first = (causal_model.true_pd(story, firms, months, shocked, shift) for shift in (month, 0))
    luck, when = streams[2].random(len(age)), streams[2].integers(1, 13, len(age))
    values = records.books(streams[3], story, firms, months, age)
    failing = (luck < pd_at_first) & (firms.age >= 0)  # in the month `when` after the first register, and then gone
    alive = (age >= 0) & ~(failing & (month >= when))
    ids = _names("C", first + np.arange(size), number * PARTIES + np.arange(len(age) - size))
    listed = streams[5].random(len(age)) < np.where(firms.shell, 0.35 * (1 - 0.8 * hiding), 0.008)
    defaulted = (luck < pd) | failing
    values |= {
        "abnormal_list": listed,
        "true_pd": pd,
        "is_shell": firms.shell,
        "default_12m": defaulted,
        "months_in_arrears_after": np.where(defaulted, 3 + when % 10, (luck > 0.95) * (1 + when % 2)),
    }
    companies = _companies(values, firms, ids, shifted(story.first, month), records.absences(streams[5], firms))
    sales = np.where(alive, np.nansum(months.revenue[-12:], axis=0), 0.0)
    sold = relations.invoices(streams[6], firms, tied, sales, hiding)
    return {
        "companies": companies.filter(pl.Series(alive)),
        "history": _history(story, firms, months, ids, alive, streams[4]),
        "links": _links(relations.links(streams[4], firms, tied), ids, alive, number),
        "invoices": _invoices(sold, ids, alive, number),
    }


def _names(letter: str, numbers: np.ndarray, later: np.ndarray) -> pl.Series:
    """Ids of those there from the beginning, then of newcomers, whose numbers lie apart."""
    here = letter + pl.Series("", numbers, dtype=pl.Int64).cast(pl.String).str.zfill(8)
    new = f"{letter}N" + pl.Series("", later, dtype=pl.Int64).cast(pl.String).str.zfill(8)
    return pl.concat([here, new])


def _companies(
    values: dict[str, np.ndarray], firms: Companies, ids: pl.Series, as_of: str, missing: dict[str, np.ndarray]
) -> pl.DataFrame:
    named: dict[str, pl.Series] = {
        name: pl.Series(array.astype(np.float64), nan_to_null=True) for name, array in values.items()
    }
    for name, positions in {
        "trade": firms.trade, "tax_grade": values["tax_grade"], "ownership": values["ownership"]
    }.items():  # fmt: skip
        named[name] = pl.Series(STATED[name].levels).gather(positions.astype(np.int64))
    named |= {"company_id": ids, "as_of": pl.repeat(as_of, len(ids), eager=True)}
    for name, where in missing.items():
        named[name] = named[name].set(pl.Series(where), None)
    return pl.DataFrame({column.name: named[column.name] for column in STATED.columns if column.derived is None})


def _history(
    story: Story,
    firms: Companies,
    months: causal_model.Path,
    ids: pl.Series,
    alive: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    length, n = months.revenue.shape
    there = (~np.isnan(months.revenue) & alive).T.ravel()  # company by company
    metered = rng.random(n) >= relations.landlords(firms)
    called = pl.Series([shifted(story.first, at - causal_model.HISTORY + 1) for at in range(length)])
    columns = {
        "revenue": np.round(months.revenue, 2),
        "insured_staff": months.staff,
        "zero_filing": months.zero,
        "late_filing": months.late,
        "electricity": np.where(metered, np.round(months.electricity, 3), np.nan),
        "cash": np.round(months.cash, 1),
        "overdue_days": np.where(firms.indebted, months.overdue, np.nan),
    }
    assert set(columns) | {"company_id", "month"} == {column.name for column in HISTORY.columns}
    rows = np.flatnonzero(there)
    return pl.DataFrame(
        {
            "company_id": ids.gather(rows // length),
            "month": called.gather(rows % length),
            **{name: pl.Series(array.T.ravel()[rows], nan_to_null=True) for name, array in columns.items()},
        }
    )


def _links(found: relations.Edges, ids: pl.Series, alive: np.ndarray, block: int) -> pl.DataFrame:
    company, kind, party = found
    # an owner below a million is a company of the zone; every other party is a number of its kind
    firm = (kind == relations.OWNER) & (party < len(ids))
    kept = alive[company] & (~firm | alive[np.where(firm, party, 0)])
    company, kind, party, firm = company[kept], kind[kept], party[kept], firm[kept]
    letters = pl.Series(["P", "A", "P"]).gather(kind)
    other = letters + pl.Series("", party + block * PARTIES, dtype=pl.Int64).cast(pl.String)
    return pl.DataFrame(
        {
            "company_id": ids.gather(company),
            "kind": pl.Series(LINKS["kind"].levels).gather(kind),
            "party": other.zip_with(pl.Series(~firm), ids.gather(np.where(firm, party, 0))),
        }
    )


def _invoices(found: relations.Edges, ids: pl.Series, alive: np.ndarray, block: int) -> pl.DataFrame:
    seller, buyer, amount = found
    ends = []
    kept = np.ones(len(seller), dtype=bool)
    for end in (seller, buyer):
        firm = end < relations.OUTSIDE
        kept &= ~firm | alive[np.where(firm, end, 0)]
        outside = "X" + pl.Series("", end + block * PARTIES, dtype=pl.Int64).cast(pl.String)
        ends.append(outside.zip_with(pl.Series(~firm), ids.gather(np.where(firm, end, 0))))
    return pl.DataFrame({"seller": ends[0], "buyer": ends[1], "amount": amount}).filter(pl.Series(kept))


def write(
    folder: Path | str, companies: int, seed: int, hiding: float = 0.3, month: int = 0, progress: bool = False
) -> dict[str, float]:
    """The register folder as Parquet whose metadata says that it is simulated; returns rows of each file, and the rates
    of default and of shells. A file appears under its name when it is whole."""
    from rich.console import Console
    from rich.progress import track

    made = blocks(companies, seed, hiding, month)
    first = next(made)  # wrong numbers are refused before a folder is made
    parts: dict[str, list[pl.DataFrame]] = {name: [frame] for name, frame in first.items()}
    total = -(-companies // BLOCK) - 1
    for block in track(made, "simulated companies", total, console=Console(stderr=True), disable=not progress):
        for name, frame in block.items():
            parts[name].append(frame)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    told = {SIMULATED_KEY: "true", "yuheng.seed": str(seed), "yuheng.hiding": f"{hiding:g}"}
    done: dict[str, float] = {}
    for name in list(parts):
        frame = pl.concat(parts.pop(name))
        partial = folder / f".{name}.partial"
        try:
            frame.write_parquet(partial, metadata=told)
            os.replace(partial, folder / f"{name}.parquet")
        finally:
            partial.unlink(missing_ok=True)
        done[name] = frame.height
        if name == "companies":
            done["default_rate"] = float(frame.select(pl.col("default_12m").mean()).item())
            done["shell_rate"] = float(frame.select(pl.col("is_shell").mean()).item())
    return done


def main() -> None:
    import argparse

    words = argparse.ArgumentParser(
        prog="python -m datasets.scitech_risk.register.simulator",
        description="Write the register of a SIMULATED zone as Parquet.",
    )
    words.add_argument("--companies", type=int, default=20_000)
    words.add_argument("--seed", type=int, default=7)
    words.add_argument("--hiding", type=float, default=0.3, help="0 to 1: how well its shells hide")
    words.add_argument("--month", type=int, default=0, help="the same companies so many months later")
    words.add_argument("--out", type=Path, default=Path("var/zone"))
    asked = words.parse_args()
    try:
        done = write(asked.out, asked.companies, asked.seed, asked.hiding, asked.month, progress=True)
    except DataError as error:
        raise SystemExit(str(error)) from error
    print(
        f"SIMULATED, none of them exists: {done['companies']:,.0f} companies, {done['history']:,.0f} months, "
        f"{done['links']:,.0f} links, {done['invoices']:,.0f} invoices, default rate {done['default_rate']:.3f}, "
        f"shells {done['shell_rate']:.3f}, seed {asked.seed}: {asked.out}"
    )


if __name__ == "__main__":
    main()
