"""Links and invoices made into the shell columns of the register (空壳特征).

Time and memory are linear in the edges of an ordinary register. Where every company has six equal partners the search
for loops grows with their fifth power, and a company of thousands of owners is joined with each of its buyers.

Graph algorithms are scipy's (scipy.sparse.csgraph): strong components of a million edges took .3 s, in rustworkx and
igraph (GPL) nine to ten times that, in networkx 80 times; a chain a million long is no trouble to it.

A park's address houses hundreds of honest start-ups and a fund owns as many, so a number of neighbours alone says
little: beside it stands the share of them that insures nobody, and a tie through a crowded address or owner is none.

A loop of invoices is one of at most `longest` companies whose every invoice is `material` both to its seller's sales
and to its buyer's purchases. Without that bound the honest economy is one giant loop: everyone buys from someone who
buys from someone. A company that invoices itself is a loop of one.

What is not known is missing: who has no address among the links has no known neighbours, which is not none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Rules:
    """material: share of the seller's sales and of the buyer's purchases that makes an invoice part of a loop;
    longest: companies in a loop; crowd: an address or owner of more companies ties nobody;
    least_electricity: MWh a year that a company is taken to use at least, so that sales without any are not infinite.
    """

    material: float = 0.15
    longest: int = 6
    crowd: int = 30
    least_electricity: float = 0.1


def columns(
    companies: pl.DataFrame,
    links: pl.DataFrame | None,
    invoices: pl.DataFrame | None,
    electricity: pl.DataFrame | None = None,
    rules: Rules | None = None,
) -> pl.DataFrame:
    """company_id and the network columns, one row a company in the order of `companies` (company_id, insured_staff).

    electricity: company_id and MWh in 12 months. A file that is None is not known: its columns are missing.
    """
    rules = rules or Rules()
    texts = [companies["company_id"].cast(pl.String)]
    texts += [links["company_id"], links.filter(pl.col("kind") == "owner")["party"]] if links is not None else []
    texts += [invoices["seller"], invoices["buyer"]] if invoices is not None else []
    names = pl.concat([text.alias("name") for text in texts]).unique().sort()  # so that no order of rows matters
    number = pl.Enum(names)
    at = texts[0].cast(number).to_physical().cast(pl.UInt32)
    made = pl.DataFrame({"company_id": texts[0], "at": at})
    staff = companies.select(pl.Series("at", at), (pl.col("insured_staff") == 0).alias("empty")).drop_nulls()
    held = (
        None
        if links is None
        else links.select(pl.col("company_id").cast(number).to_physical().cast(pl.UInt32), "kind", "party")
    )
    for kind in ("address", "officer"):
        made = made.join(_neighbours(held, kind, staff), on="at", how="left", maintain_order="left")
    made = made.join(_owners(links, number), on="at", how="left", maintain_order="left")
    sales = _sales(invoices, number)
    made = made.join(_trade(sales, held, number, rules), on="at", how="left", maintain_order="left")
    made = made.join(_loops(sales, names, rules), on="at", how="left", maintain_order="left")
    used = electricity if electricity is not None else pl.DataFrame(schema={"company_id": pl.String, "mwh": pl.Float64})
    used = used.select("company_id", pl.col(used.columns[1]).alias("mwh"))
    traded = pl.col("sold").is_not_null()
    return made.join(used, on="company_id", how="left", maintain_order="left").select(
        "company_id",
        "address_companies",
        "address_empty_share",
        "officer_companies",
        "officer_empty_share",
        pl.when(traded).then(pl.col("invoice_loop_share").fill_null(0.0)),
        "invoice_related_share",
        (pl.col("sold") / pl.col("mwh").clip(lower_bound=rules.least_electricity)).alias("invoice_to_electricity")
        if electricity is not None
        else pl.lit(None, pl.Float64).alias("invoice_to_electricity"),
        "ownership_cycle",
        "loop_path",
    )


def _neighbours(held: pl.DataFrame | None, kind: str, staff: pl.DataFrame) -> pl.DataFrame:
    """The other companies of each company's most crowded address, or busiest officer, and the share of them without
    insured staff: 0 where there are none, missing where nobody's staff is known."""
    others, share = f"{kind}_companies", f"{kind}_empty_share"
    schema = {"at": pl.UInt32, others: pl.Float64, share: pl.Float64}
    if held is None:
        return pl.DataFrame(schema=schema)
    seats = held.filter(pl.col("kind") == kind).select(pl.col("company_id").alias("at"), "party").unique()
    seats = seats.join(staff, on="at", how="left")
    known, empty = pl.col("empty").is_not_null(), pl.col("empty").fill_null(False)
    totals = seats.group_by("party").agg(
        pl.len().alias("all"), known.sum().alias("all_known"), empty.sum().alias("all_empty")
    )
    others_known = pl.col("all_known").cast(pl.Int64) - known.cast(pl.Int64)
    others_empty = pl.col("all_empty").cast(pl.Int64) - empty.cast(pl.Int64)
    return (
        seats.join(totals, on="party")
        .select(
            "at",
            (pl.col("all").cast(pl.Int64) - 1).cast(pl.Float64).alias(others),
            pl.when(pl.col("all") == 1)
            .then(0.0)
            .when(others_known > 0)
            .then(others_empty / others_known)
            .cast(pl.Float64)
            .alias(share),
        )
        .sort("at", others, share, descending=[False, True, True], nulls_last=True)
        .unique("at", keep="first", maintain_order=True)
    )


def _owners(links: pl.DataFrame | None, number: pl.Enum) -> pl.DataFrame:
    """1 where a chain of owners comes back to the company. A person owns and is not owned, so ends a chain."""
    if links is None:
        return pl.DataFrame(schema={"at": pl.UInt32, "ownership_cycle": pl.Float64})
    owned = links.filter(pl.col("kind") == "owner").select(
        pl.col("company_id", "party").cast(number).to_physical().cast(pl.UInt32)
    )
    chain = owned.filter(pl.col("party").is_in(owned["company_id"].unique().implode()))
    circular = chain.filter(_circular(chain["company_id"].to_numpy(), chain["party"].to_numpy()))["company_id"]
    return (
        owned.select(pl.col("company_id").alias("at"))
        .unique()
        .with_columns(pl.col("at").is_in(circular.implode()).cast(pl.Float64).alias("ownership_cycle"))
    )


def _sales(invoices: pl.DataFrame | None, number: pl.Enum) -> pl.DataFrame:
    """One row a pair: seller, buyer, amount, and the seller's and the buyer's totals, sold and bought."""
    if invoices is None:
        schema = {"seller": pl.UInt32, "buyer": pl.UInt32, "amount": pl.Float64}
        invoices, pairs = pl.DataFrame(schema=schema), pl.DataFrame(schema=schema)
    else:
        ends = [pl.col(end).cast(number).to_physical().cast(pl.UInt64) for end in ("seller", "buyer")]
        coded = invoices.select((ends[0] * 2**32 + ends[1]).alias("pair"), "amount")
        pairs = coded.sort("pair", "amount").group_by("pair", maintain_order=True).agg(pl.col("amount").sum())
        pairs = pairs.select(
            (pl.col("pair") // 2**32).cast(pl.UInt32).alias("seller"),
            (pl.col("pair") % 2**32).cast(pl.UInt32).alias("buyer"),
            "amount",
        )
    return pairs.with_columns(
        pl.col("amount").sum().over("seller").alias("sold"), pl.col("amount").sum().over("buyer").alias("bought")
    )


def _trade(sales: pl.DataFrame, held: pl.DataFrame | None, number: pl.Enum, rules: Rules) -> pl.DataFrame:
    """Each company's sales, and the share of them that goes to companies tied to it by officer, owner or address."""
    sold = pl.concat(
        [
            sales.select(pl.col("seller").alias("at"), "sold"),
            sales.select(pl.col("buyer").alias("at"), pl.lit(0.0).alias("sold")),
        ]
    )
    sold = sold.group_by("at").agg(pl.col("sold").max())
    if held is None:
        return sold.with_columns(pl.lit(None, pl.Float64).alias("invoice_related_share"))
    seats = held.select(pl.col("company_id").alias("at"), "kind", "party").unique()
    crowd = pl.len().over("kind", "party") > rules.crowd
    seats = seats.filter((pl.col("kind") == "officer") | ~crowd)
    parents = seats.filter(pl.col("kind") == "owner")["party"].unique()
    themselves = pl.DataFrame({"party": parents}).select(
        pl.col("party").cast(number).to_physical().cast(pl.UInt32).alias("at"), pl.lit("owner").alias("kind"), "party"
    )
    seats = pl.concat([seats, themselves]).unique()
    # A number for each officer, address and owner; a company's own number as an owner ties it to what it owns.
    seats = seats.select("at", pl.struct("kind", "party").rank("dense").alias("tie"))
    pairs = sales.filter(pl.col("seller") != pl.col("buyer")).select("seller", "buyer")
    tied = pairs.join(seats, left_on="seller", right_on="at").join(
        seats, left_on=["buyer", "tie"], right_on=["at", "tie"], how="semi"
    )
    itself = sales.filter(pl.col("seller") == pl.col("buyer")).select("seller", "buyer")
    related = sales.join(pl.concat([tied.select("seller", "buyer"), itself]), on=["seller", "buyer"], how="semi")
    related = related.sort("seller", "buyer").group_by("seller", maintain_order=True).agg(pl.col("amount").sum())
    known = pl.col("at").is_in(held["company_id"].unique().implode())
    share = pl.when(pl.col("sold") > 0).then(pl.col("amount").fill_null(0.0) / pl.col("sold")).otherwise(0.0)
    return sold.join(related, left_on="at", right_on="seller", how="left").select(
        "at", "sold", pl.when(known).then(share.clip(0.0, 1.0)).alias("invoice_related_share")
    )


def _loops(sales: pl.DataFrame, names: pl.Series, rules: Rules) -> pl.DataFrame:
    """Of each company in a loop: the share of its sales that runs there, and the names of its shortest loop."""
    material = (
        (pl.col("amount") > 0)
        & (pl.col("amount") >= rules.material * pl.col("sold"))
        & (pl.col("amount") >= rules.material * pl.col("bought"))
    )
    oneself = sales.filter((pl.col("seller") == pl.col("buyer")) & (pl.col("amount") > 0))
    heavy = sales.filter(material & (pl.col("seller") != pl.col("buyer"))).sort("seller", "buyer")
    heavy = heavy.filter(_circular(heavy["seller"].to_numpy(), heavy["buyer"].to_numpy()))
    sellers: dict[int, list[int]] = {}
    buyers: dict[int, list[tuple[int, float]]] = {}
    for seller, buyer, share in heavy.select("seller", "buyer", pl.col("amount") / pl.col("sold")).iter_rows():
        sellers.setdefault(buyer, []).append(seller)
        buyers.setdefault(seller, []).append((buyer, share))
    found: dict[int, tuple[float, list[int]]] = {}
    for company, sold_to in buyers.items():
        onward = _onward(company, sellers, rules.longest)
        back = [(buyer, share) for buyer, share in sold_to if buyer in onward]
        if back:
            found[company] = (sum(share for _, share in back), _shortest(company, [one for one, _ in back], onward))
    for company, share in oneself.select("seller", pl.col("amount") / pl.col("sold")).iter_rows():
        found[company] = (found.get(company, (0.0, []))[0] + share, [company, company])
    called = names.to_list() if found else []
    return pl.DataFrame(
        [(at, min(share, 1.0), " > ".join(called[one] for one in path)) for at, (share, path) in found.items()],
        schema={"at": pl.UInt32, "invoice_loop_share": pl.Float64, "loop_path": pl.String},
        orient="row",
    )


def _onward(company: int, sellers: dict[int, list[int]], longest: int) -> dict[int, int]:
    """Whoever sells to the company through fewer than `longest` hands -> the next hand, along a shortest way; of equal
    ways the one whose names come first. An invoice is material to both sides, so there are few hands to look at."""
    onward: dict[int, int] = {}
    ring = [company]
    for _ in range(longest - 1):
        nearer: dict[int, int] = {}
        for one in ring:
            for seller in sellers.get(one, ()):
                if seller != company and seller not in onward:
                    nearer[seller] = min(one, nearer.get(seller, one))
        onward |= nearer
        ring = sorted(nearer)
    return onward


def _shortest(company: int, buyers: list[int], onward: dict[int, int]) -> list[int]:
    """The company, its loop, and the company again."""
    loops = []
    for buyer in buyers:
        path = [company, buyer]
        while path[-1] != company:
            path.append(onward[path[-1]])
        loops.append((len(path), path))
    return min(loops)[1]


def _circular(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(edges,) bool: whether an edge runs within a strong component, so that a way leads back to where it starts."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, at = np.unique(np.concatenate([start, end]), return_inverse=True)
    start, end = at[: len(start)], at[len(start) :]
    if not len(nodes):
        return np.zeros(0, dtype=bool)
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, connection="strong")
    inside: np.ndarray = component[start] == component[end]
    return inside
