"""Simulate a zone of technology companies and its shells. SIMULATED: none of them exists.

    python -m datasets simulate register --companies 20000 --seed 7 --out var/zone
    python -m datasets simulate register --companies 20000 --seed 7 --month 1 --out var/zone_later

Each command writes a register folder: companies, history, links and invoices (schema.py).

The causal model (an arrow reads "drives"; quantities in brackets are never observed):

    [management] -> margins, tax grade, arrears, cases, late filings; -> liquidity, less strain; -> default
    [technology] -> R&D, patents, platforms, projects, venture capital; -> growth; -> default, weakly
    [leverage] -> liabilities, interest, overdue days; -> default      [liquidity] -> cash; venture capital -> liquidity
    [strain], from month to month -> sales fall, cash runs down, staff and electricity follow, filings are late, days
                 overdue; annual accounts show it late -> default. So the months carry news that the accounts lack.
    [demand of a trade], from month to month -> sales of all its companies -> default
    size -> R&D intensity (start-ups spend more than they earn), staff, accounts; size, age -> default
    [shock] in the following year -> default;    ownership depends on size; ownership -> default: NO arrow

Shells (2.5 %) form rings of 3 to 7: one mail-drop address, one nominee for two rings, no insured staff, hardly any
electricity, circular invoices, many months of zero filing (a quarter are dormant); their accounts look sound.
`hiding` is the share of each of these signs that they conceal: staff of one to three, separate addresses or an
incubator, officers of their own, electricity bought, up to two thirds of the loop diluted by honest counterparties. A
shell defaults at a flat rate that nothing in its accounts predicts: a model of default cannot find shells, the gate
must.

Some honest companies look like shells: hundreds of start-ups at an incubator's address, some without insured staff yet;
holding groups that share an officer and trade internally, with their patents and property in companies without staff;
an agent who is an officer of a dozen start-ups; a fund that owns as many; honest two-way trade; honest companies at a
mail drop; cross-holdings; software that needs little electricity.

Values are missing mildly not at random: small and badly managed companies report less; a company that rents a desk has
no meter; days overdue need a loan. With `month` the same companies are seen that many months later: histories are
longer, a few companies are new, and those that defaulted in between are gone. A zone is simulated in blocks of 16,384,
each with its own random streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from datasets.errors import DataError
from datasets.scitech_risk.monthly_history import add_months
from datasets.scitech_risk.register import causal_model, records, relations
from datasets.scitech_risk.register.causal_model import MAX_SHIFT, Companies, ZoneCausalParameters
from datasets.scitech_risk.register.schema import COMPANIES, HISTORY, LINKS
from datasets.simulation import SIMULATED_KEY, complete_file

BLOCK_SIZE = 16_384
PARTIES_PER_BLOCK = 1 << 25  # numbers reserved for the parties of one block
Frames = dict[str, pl.DataFrame]


def simulate_zone(
    companies: int, seed: int, hiding: float = 0.3, month: int = 0, params: ZoneCausalParameters | None = None
) -> Frames:
    """Simulate a whole zone: the frames companies, history, links and invoices.

    companies: their number at month 0. hiding: 0 to 1. month: 0 to MAX_SHIFT. Raises DataError.
    """
    frames_by_file: dict[str, list[pl.DataFrame]] = {}
    for block in simulate_blocks(companies, seed, hiding, month, params):
        for name, frame in block.items():
            frames_by_file.setdefault(name, []).append(frame)
    return {name: pl.concat(frames) for name, frames in frames_by_file.items()}


def simulate_blocks(
    companies: int, seed: int, hiding: float = 0.3, month: int = 0, params: ZoneCausalParameters | None = None
) -> Iterator[Frames]:
    """Simulate the zone block by block; `simulate_zone` concatenates them. No link or invoice crosses blocks.

    Raises DataError that names every argument out of range.
    """
    params = params or ZoneCausalParameters()
    problems = []
    if companies < 1:
        problems.append(f"companies is {companies}; it must be 1 or more.")
    if seed < 0:
        problems.append(f"seed is {seed}; it must be 0 or more.")
    if not 0 <= hiding <= 1:
        problems.append(f"hiding is {hiding:g}; it must be from 0 to 1.")
    if not 0 <= month <= MAX_SHIFT:
        problems.append(f"month is {month}; it must be from 0 to {MAX_SHIFT}, counted from {params.first_month}.")
    if problems:
        raise DataError(" ".join(problems))
    trend = causal_model.draw_demand(np.random.default_rng([seed, 1 << 20]), causal_model.HISTORY_MONTHS + MAX_SHIFT)
    for block_number, first_company in enumerate(range(0, companies, BLOCK_SIZE)):
        yield _simulate_block(
            params, seed, block_number, first_company, min(BLOCK_SIZE, companies - first_company), hiding, month, trend
        )


def _simulate_block(
    params: ZoneCausalParameters,
    seed: int,
    block_number: int,
    first_company: int,
    size: int,
    hiding: float,
    month: int,
    trend: np.ndarray,
) -> Frames:
    streams = [np.random.default_rng([seed, block_number, stream]) for stream in range(8)]
    firms = causal_model.draw_companies(streams[0], params, size)
    groups = relations.draw_groups(streams[4], firms, hiding)
    path = causal_model.simulate_path(
        streams[1],
        params,
        firms,
        trend[: causal_model.HISTORY_MONTHS + month],
        groups.vehicle,
        hiding,
        seed=int(streams[2].integers(1 << 31)),
    )
    age = firms.age + month
    has_shock = streams[2].random(len(age)) < params.shock_share
    default_probability, first_default_probability = (
        causal_model.compute_true_pd(params, firms, path, has_shock, shift) for shift in (month, 0)
    )
    default_draw, default_month = streams[2].random(len(age)), streams[2].integers(1, 13, len(age))
    values = records.observe_companies(streams[3], params, firms, path, age)
    # in month `default_month` after the first register, and gone from then on
    defaults_early = (default_draw < first_default_probability) & (firms.age >= 0)
    is_active = (age >= 0) & ~(defaults_early & (month >= default_month))
    ids = _format_ids(
        "C", first_company + np.arange(size), block_number * PARTIES_PER_BLOCK + np.arange(len(age) - size)
    )
    is_listed = streams[5].random(len(age)) < np.where(firms.shell, 0.35 * (1 - 0.8 * hiding), 0.008)
    has_defaulted = (default_draw < default_probability) | defaults_early
    values |= records.observe_standing(streams[7], firms) | {
        "abnormal_list": is_listed,
        "true_pd": default_probability,
        "is_shell": firms.shell,
        "default_12m": has_defaulted,
        "months_in_arrears_after": np.where(
            has_defaulted, 3 + default_month % 10, (default_draw > 0.95) * (1 + default_month % 2)
        ),
    }
    companies = _companies_frame(
        values, firms, ids, add_months(params.first_month, month), records.draw_missing_masks(streams[5], firms)
    )
    sales = np.where(is_active, np.nansum(path.revenue[-12:], axis=0), 0.0)
    sales_invoices = relations.draw_invoices(streams[6], firms, groups, sales, hiding)
    return {
        "companies": companies.filter(pl.Series(is_active)),
        "history": _history_frame(params, firms, path, ids, is_active, streams[4]),
        "links": _links_frame(relations.draw_links(streams[4], firms, groups), ids, is_active, block_number),
        "invoices": _invoices_frame(sales_invoices, ids, is_active, block_number),
    }


def _format_ids(prefix: str, numbers: np.ndarray, newcomer_numbers: np.ndarray) -> pl.Series:
    """Ids of the initial companies, then of newcomers, which are numbered separately."""
    initial_ids = prefix + pl.Series("", numbers, dtype=pl.Int64).cast(pl.String).str.zfill(8)
    newcomer_ids = f"{prefix}N" + pl.Series("", newcomer_numbers, dtype=pl.Int64).cast(pl.String).str.zfill(8)
    return pl.concat([initial_ids, newcomer_ids])


def _companies_frame(
    values: dict[str, np.ndarray], firms: Companies, ids: pl.Series, as_of: str, masks: dict[str, np.ndarray]
) -> pl.DataFrame:
    columns: dict[str, pl.Series] = {
        name: pl.Series(array.astype(np.float64), nan_to_null=True) for name, array in values.items()
    }
    for name, positions in {
        "trade": firms.trade, "tax_grade": values["tax_grade"], "ownership": values["ownership"]
    }.items():  # fmt: skip
        columns[name] = pl.Series(COMPANIES[name].levels).gather(positions.astype(np.int64))
    columns |= {"company_id": ids, "as_of": pl.repeat(as_of, len(ids), eager=True)}
    for name, mask in masks.items():
        columns[name] = columns[name].set(pl.Series(mask), None)
    return pl.DataFrame({column.name: columns[column.name] for column in COMPANIES.columns if column.derived is None})


def _history_frame(
    params: ZoneCausalParameters,
    firms: Companies,
    path: causal_model.MonthlyPath,
    ids: pl.Series,
    is_active: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    length, n = path.revenue.shape
    is_present = (~np.isnan(path.revenue) & is_active).T.ravel()  # company by company
    has_meter = rng.random(n) >= relations.landlord_meter_probability(firms)
    month_labels = pl.Series(
        [
            add_months(params.first_month, month_number - causal_model.HISTORY_MONTHS + 1)
            for month_number in range(length)
        ]
    )
    columns = {
        "revenue": np.round(path.revenue, 2),
        "insured_staff": path.staff,
        "zero_filing": path.zero,
        "late_filing": path.late,
        "electricity": np.where(has_meter, np.round(path.electricity, 3), np.nan),
        "cash": np.round(path.cash, 1),
        "overdue_days": np.where(firms.indebted, path.overdue, np.where(np.isnan(path.overdue), np.nan, 0.0)),
    }
    assert set(columns) | {"company_id", "month"} == {column.name for column in HISTORY.columns}
    rows = np.flatnonzero(is_present)
    return pl.DataFrame(
        {
            "company_id": ids.gather(rows // length),
            "month": month_labels.gather(rows % length),
            **{name: pl.Series(array.T.ravel()[rows], nan_to_null=True) for name, array in columns.items()},
        }
    )


def _links_frame(edges: relations.Edges, ids: pl.Series, is_active: np.ndarray, block_number: int) -> pl.DataFrame:
    company, kind, party = edges
    # an owner with a number below len(ids) is a company of the zone; every other party is a number of its kind
    is_company = (kind == relations.OWNER) & (party < len(ids))
    is_kept_edge = is_active[company] & (~is_company | is_active[np.where(is_company, party, 0)])
    company, kind, party, is_company = (
        company[is_kept_edge],
        kind[is_kept_edge],
        party[is_kept_edge],
        is_company[is_kept_edge],
    )
    prefixes = pl.Series(["P", "A", "P"]).gather(kind)
    party_ids = prefixes + pl.Series("", party + block_number * PARTIES_PER_BLOCK, dtype=pl.Int64).cast(pl.String)
    return pl.DataFrame(
        {
            "company_id": ids.gather(company),
            "kind": pl.Series(LINKS["kind"].levels).gather(kind),
            "party": party_ids.zip_with(pl.Series(~is_company), ids.gather(np.where(is_company, party, 0))),
        }
    )


def _invoices_frame(edges: relations.Edges, ids: pl.Series, is_active: np.ndarray, block_number: int) -> pl.DataFrame:
    seller, buyer, amount = edges
    end_ids = []
    is_kept_edge = np.ones(len(seller), dtype=bool)
    for party in (seller, buyer):
        is_company = party < relations.FIRST_OUTSIDE_ID
        is_kept_edge &= ~is_company | is_active[np.where(is_company, party, 0)]
        outside_ids = "X" + pl.Series("", party + block_number * PARTIES_PER_BLOCK, dtype=pl.Int64).cast(pl.String)
        end_ids.append(outside_ids.zip_with(pl.Series(~is_company), ids.gather(np.where(is_company, party, 0))))
    return pl.DataFrame({"seller": end_ids[0], "buyer": end_ids[1], "amount": amount}).filter(pl.Series(is_kept_edge))


def write(
    folder: Path | str, companies: int, seed: int, hiding: float = 0.3, month: int = 0, progress: bool = False
) -> dict[str, float]:
    """Write a register folder of Parquet files whose metadata say that they are simulated.

    Returns the number of rows of each file, default_rate and shell_rate. A file appears under its name once it is
    complete. Raises DataError as `simulate_blocks` does.
    """
    from rich.console import Console
    from rich.progress import track

    blocks = simulate_blocks(companies, seed, hiding, month)
    first_block = next(blocks)  # wrong arguments are refused before a folder is created
    frames_by_file: dict[str, list[pl.DataFrame]] = {name: [frame] for name, frame in first_block.items()}
    total = -(-companies // BLOCK_SIZE) - 1
    for block in track(blocks, "simulated companies", total, console=Console(stderr=True), disable=not progress):
        for name, frame in block.items():
            frames_by_file[name].append(frame)
    metadata = {SIMULATED_KEY: "true", "yuheng.seed": str(seed), "yuheng.hiding": f"{hiding:g}"}
    summary: dict[str, float] = {}
    for name in list(frames_by_file):
        frame = pl.concat(frames_by_file.pop(name))
        with complete_file(Path(folder) / f"{name}.parquet") as partial_path:
            frame.write_parquet(partial_path, metadata=metadata)
        summary[name] = frame.height
        if name == "companies":
            summary["default_rate"] = float(frame.select(pl.col("default_12m").mean()).item())
            summary["shell_rate"] = float(frame.select(pl.col("is_shell").mean()).item())
    return summary
