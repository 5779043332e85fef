"""Compute the shell columns of the register (空壳特征) from links and invoices.

Time and memory are linear in the edges of an ordinary register. If every company has six equal partners, the search
for loops grows with their fifth power, and a company with thousands of owners is joined with each of its buyers.

Graph algorithms are scipy's (scipy.sparse.csgraph): strong components of a million edges took .3 s, nine to ten times
as long in rustworkx and igraph (GPL), 80 times in networkx; a chain of a million nodes is no problem.

A park's address houses hundreds of honest start-ups and a fund owns as many, so the number of neighbours alone says
little. Therefore the share of them without insured staff is computed too, and crowded addresses and owners tie nobody.

A loop of invoices has at most `max_loop_length` companies, and each of its invoices is material (`material_share`) to
both its seller's sales and its buyer's purchases. Without these bounds the honest economy is one giant loop. A company
that invoices itself is a loop of one.

Unknown values are missing: a company without an address among the links has unknown neighbours, not zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class ShellFeatureRules:
    """material_share: minimum share of the seller's sales and of the buyer's purchases for an invoice in a loop.
    max_loop_length: companies in a loop. max_tie_companies: an address or owner of more companies ties nobody.
    min_electricity: assumed minimum use in MWh a year, so that the ratio of sales to electricity is finite.
    """

    material_share: float = 0.15
    max_loop_length: int = 6
    max_tie_companies: int = 30
    min_electricity: float = 0.1


def shell_feature_columns(
    companies: pl.DataFrame,
    links: pl.DataFrame | None,
    invoices: pl.DataFrame | None,
    electricity: pl.DataFrame | None = None,
    rules: ShellFeatureRules | None = None,
) -> pl.DataFrame:
    """company_id and the network columns, one row per company in the order of `companies` (company_id, insured_staff).

    electricity: company_id and MWh in 12 months. The columns of a file that is None are missing.
    """
    rules = rules or ShellFeatureRules()
    id_series = [companies["company_id"].cast(pl.String)]
    id_series += [links["company_id"], links.filter(pl.col("kind") == "owner")["party"]] if links is not None else []
    id_series += [invoices["seller"], invoices["buyer"]] if invoices is not None else []
    names = (
        pl.concat([ids.alias("name") for ids in id_series]).unique().sort()
    )  # so that the order of rows does not matter
    company_enum = pl.Enum(names)
    company_codes = id_series[0].cast(company_enum).to_physical().cast(pl.UInt32)
    features = pl.DataFrame({"company_id": id_series[0], "at": company_codes})
    staff = companies.select(pl.Series("at", company_codes), (pl.col("insured_staff") == 0).alias("empty")).drop_nulls()
    encoded_links = (
        None
        if links is None
        else links.select(pl.col("company_id").cast(company_enum).to_physical().cast(pl.UInt32), "kind", "party")
    )
    for kind in ("address", "officer"):
        features = features.join(
            _neighbour_features(encoded_links, kind, staff), on="at", how="left", maintain_order="left"
        )
    features = features.join(_ownership_cycles(links, company_enum), on="at", how="left", maintain_order="left")
    sales = _aggregate_sales(invoices, company_enum)
    features = features.join(
        _related_sales(sales, encoded_links, company_enum, rules), on="at", how="left", maintain_order="left"
    )
    features = features.join(_loop_features(sales, names, rules), on="at", how="left", maintain_order="left")
    electricity_use = (
        electricity if electricity is not None else pl.DataFrame(schema={"company_id": pl.String, "mwh": pl.Float64})
    )
    electricity_use = electricity_use.select("company_id", pl.col(electricity_use.columns[1]).alias("mwh"))
    has_sales = pl.col("sold").is_not_null()
    return features.join(electricity_use, on="company_id", how="left", maintain_order="left").select(
        "company_id",
        "address_companies",
        "address_empty_share",
        "officer_companies",
        "officer_empty_share",
        pl.when(has_sales).then(pl.col("invoice_loop_share").fill_null(0.0)),
        "invoice_related_share",
        (pl.col("sold") / pl.col("mwh").clip(lower_bound=rules.min_electricity)).alias("invoice_to_electricity")
        if electricity is not None
        else pl.lit(None, pl.Float64).alias("invoice_to_electricity"),
        "ownership_cycle",
        "loop_path",
    )


def _neighbour_features(encoded_links: pl.DataFrame | None, kind: str, staff: pl.DataFrame) -> pl.DataFrame:
    """The number of other companies at each company's most crowded address (or of its busiest officer), and the share
    of them without insured staff: 0 if there are none, missing if no company's staff is known.
    """
    count_column, share_column = f"{kind}_companies", f"{kind}_empty_share"
    schema = {"at": pl.UInt32, count_column: pl.Float64, share_column: pl.Float64}
    if encoded_links is None:
        return pl.DataFrame(schema=schema)
    memberships = (
        encoded_links.filter(pl.col("kind") == kind).select(pl.col("company_id").alias("at"), "party").unique()
    )
    memberships = memberships.join(staff, on="at", how="left")
    is_known, is_uninsured = pl.col("empty").is_not_null(), pl.col("empty").fill_null(False)
    totals = memberships.group_by("party").agg(
        pl.len().alias("all"), is_known.sum().alias("all_known"), is_uninsured.sum().alias("all_empty")
    )
    known_others = pl.col("all_known").cast(pl.Int64) - is_known.cast(pl.Int64)
    uninsured_others = pl.col("all_empty").cast(pl.Int64) - is_uninsured.cast(pl.Int64)
    return (
        memberships.join(totals, on="party")
        .select(
            "at",
            (pl.col("all").cast(pl.Int64) - 1).cast(pl.Float64).alias(count_column),
            pl.when(pl.col("all") == 1)
            .then(0.0)
            .when(known_others > 0)
            .then(uninsured_others / known_others)
            .cast(pl.Float64)
            .alias(share_column),
        )
        .sort("at", count_column, share_column, descending=[False, True, True], nulls_last=True)
        .unique("at", keep="first", maintain_order=True)
    )


def _ownership_cycles(links: pl.DataFrame | None, company_enum: pl.Enum) -> pl.DataFrame:
    """1 if a chain of owners leads back to the company. A person cannot be owned and so ends a chain."""
    if links is None:
        return pl.DataFrame(schema={"at": pl.UInt32, "ownership_cycle": pl.Float64})
    ownership = links.filter(pl.col("kind") == "owner").select(
        pl.col("company_id", "party").cast(company_enum).to_physical().cast(pl.UInt32)
    )
    company_ownership = ownership.filter(pl.col("party").is_in(ownership["company_id"].unique().implode()))
    circular = company_ownership.filter(
        _edges_in_cycles(company_ownership["company_id"].to_numpy(), company_ownership["party"].to_numpy())
    )["company_id"]
    return (
        ownership.select(pl.col("company_id").alias("at"))
        .unique()
        .with_columns(pl.col("at").is_in(circular.implode()).cast(pl.Float64).alias("ownership_cycle"))
    )


def _aggregate_sales(invoices: pl.DataFrame | None, company_enum: pl.Enum) -> pl.DataFrame:
    """One row per pair: seller, buyer, amount, and the totals of the seller (sold) and of the buyer (bought)."""
    if invoices is None:
        schema = {"seller": pl.UInt32, "buyer": pl.UInt32, "amount": pl.Float64}
        invoices, pairs = pl.DataFrame(schema=schema), pl.DataFrame(schema=schema)
    else:
        encoded_ends = [
            pl.col(column).cast(company_enum).to_physical().cast(pl.UInt64) for column in ("seller", "buyer")
        ]
        encoded_pairs = invoices.select((encoded_ends[0] * 2**32 + encoded_ends[1]).alias("pair"), "amount")
        pairs = encoded_pairs.sort("pair", "amount").group_by("pair", maintain_order=True).agg(pl.col("amount").sum())
        pairs = pairs.select(
            (pl.col("pair") // 2**32).cast(pl.UInt32).alias("seller"),
            (pl.col("pair") % 2**32).cast(pl.UInt32).alias("buyer"),
            "amount",
        )
    return pairs.with_columns(
        pl.col("amount").sum().over("seller").alias("sold"), pl.col("amount").sum().over("buyer").alias("bought")
    )


def _related_sales(
    sales: pl.DataFrame, encoded_links: pl.DataFrame | None, company_enum: pl.Enum, rules: ShellFeatureRules
) -> pl.DataFrame:
    """Each company's sales, and the share of them to companies with a common officer, owner or address."""
    sales_by_company = pl.concat(
        [
            sales.select(pl.col("seller").alias("at"), "sold"),
            sales.select(pl.col("buyer").alias("at"), pl.lit(0.0).alias("sold")),
        ]
    )
    sales_by_company = sales_by_company.group_by("at").agg(pl.col("sold").max())
    if encoded_links is None:
        return sales_by_company.with_columns(pl.lit(None, pl.Float64).alias("invoice_related_share"))
    memberships = encoded_links.select(pl.col("company_id").alias("at"), "kind", "party").unique()
    is_crowded = pl.len().over("kind", "party") > rules.max_tie_companies
    memberships = memberships.filter((pl.col("kind") == "officer") | ~is_crowded)
    owner_ids = memberships.filter(pl.col("kind") == "owner")["party"].unique()
    owners_as_members = pl.DataFrame({"party": owner_ids}).select(
        pl.col("party").cast(company_enum).to_physical().cast(pl.UInt32).alias("at"),
        pl.lit("owner").alias("kind"),
        "party",
    )
    memberships = pl.concat([memberships, owners_as_members]).unique()
    # A number for each officer, address and owner; a company's number as an owner ties it to its subsidiaries.
    memberships = memberships.select("at", pl.struct("kind", "party").rank("dense").alias("tie"))
    pairs = sales.filter(pl.col("seller") != pl.col("buyer")).select("seller", "buyer")
    tied_pairs = pairs.join(memberships, left_on="seller", right_on="at").join(
        memberships, left_on=["buyer", "tie"], right_on=["at", "tie"], how="semi"
    )
    self_pairs = sales.filter(pl.col("seller") == pl.col("buyer")).select("seller", "buyer")
    related = sales.join(
        pl.concat([tied_pairs.select("seller", "buyer"), self_pairs]), on=["seller", "buyer"], how="semi"
    )
    related = related.sort("seller", "buyer").group_by("seller", maintain_order=True).agg(pl.col("amount").sum())
    has_links = pl.col("at").is_in(encoded_links["company_id"].unique().implode())
    share = pl.when(pl.col("sold") > 0).then(pl.col("amount").fill_null(0.0) / pl.col("sold")).otherwise(0.0)
    return sales_by_company.join(related, left_on="at", right_on="seller", how="left").select(
        "at", "sold", pl.when(has_links).then(share.clip(0.0, 1.0)).alias("invoice_related_share")
    )


def _loop_features(sales: pl.DataFrame, names: pl.Series, rules: ShellFeatureRules) -> pl.DataFrame:
    """For each company in a loop: the share of its sales within loops, and the names along its shortest loop."""
    is_material = (
        (pl.col("amount") > 0)
        & (pl.col("amount") >= rules.material_share * pl.col("sold"))
        & (pl.col("amount") >= rules.material_share * pl.col("bought"))
    )
    self_invoices = sales.filter((pl.col("seller") == pl.col("buyer")) & (pl.col("amount") > 0))
    material_edges = sales.filter(is_material & (pl.col("seller") != pl.col("buyer"))).sort("seller", "buyer")
    material_edges = material_edges.filter(
        _edges_in_cycles(material_edges["seller"].to_numpy(), material_edges["buyer"].to_numpy())
    )
    sellers: dict[int, list[int]] = {}
    buyers: dict[int, list[tuple[int, float]]] = {}
    for seller, buyer, share in material_edges.select("seller", "buyer", pl.col("amount") / pl.col("sold")).iter_rows():
        sellers.setdefault(buyer, []).append(seller)
        buyers.setdefault(seller, []).append((buyer, share))
    loops: dict[int, tuple[float, list[int]]] = {}
    for company, buyer_shares in buyers.items():
        next_hops = _next_hops(company, sellers, rules.max_loop_length)
        closing_buyers = [(buyer, share) for buyer, share in buyer_shares if buyer in next_hops]
        if closing_buyers:
            loops[company] = (
                sum(share for _, share in closing_buyers),
                _shortest_loop(company, [company_code for company_code, _ in closing_buyers], next_hops),
            )
    for company, share in self_invoices.select("seller", pl.col("amount") / pl.col("sold")).iter_rows():
        loops[company] = (loops.get(company, (0.0, []))[0] + share, [company, company])
    company_names = names.to_list() if loops else []
    return pl.DataFrame(
        [
            (company_index, min(share, 1.0), " > ".join(company_names[company_code] for company_code in path))
            for company_index, (share, path) in loops.items()
        ],
        schema={"at": pl.UInt32, "invoice_loop_share": pl.Float64, "loop_path": pl.String},
        orient="row",
    )


def _next_hops(company: int, sellers: dict[int, list[int]], max_loop_length: int) -> dict[int, int]:
    """Companies that reach `company` by fewer than `max_loop_length` invoices -> the next company on a shortest path.

    Among equally short paths the one whose names come first is taken. Invoices are material to both sides, so there are
    few companies to visit.
    """
    next_hops: dict[int, int] = {}
    frontier = [company]
    for _ in range(max_loop_length - 1):
        next_frontier: dict[int, int] = {}
        for member in frontier:
            for seller in sellers.get(member, ()):
                if seller != company and seller not in next_hops:
                    next_frontier[seller] = min(member, next_frontier.get(seller, member))
        next_hops |= next_frontier
        frontier = sorted(next_frontier)
    return next_hops


def _shortest_loop(company: int, buyers: list[int], next_hops: dict[int, int]) -> list[int]:
    """The shortest loop from the company back to it, with the company at both ends."""
    loops = []
    for buyer in buyers:
        path = [company, buyer]
        while path[-1] != company:
            path.append(next_hops[path[-1]])
        loops.append((len(path), path))
    return min(loops)[1]


def _edges_in_cycles(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Whether each edge lies within a strong component and so on a cycle, (edges,) bool."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, node_index = np.unique(np.concatenate([start, end]), return_inverse=True)
    start, end = node_index[: len(start)], node_index[len(start) :]
    if not len(nodes):
        return np.zeros(0, dtype=bool)
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, connection="strong")
    is_within_component: np.ndarray = component[start] == component[end]
    return is_within_component
