"""Links and invoices become the shell columns: what ties companies is counted, and honest crowds condemn nobody."""

import itertools
import random as randomness

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.scitech_risk import shell_features
from datasets.scitech_risk.register.schema import NETWORK_COLUMNS
from datasets.scitech_risk.shell_features import ShellFeatureRules

Link = tuple[str, str, str]
Invoice = tuple[str, str, float]


def made(
    staff: dict[str, int | None],
    links: list[Link] | None,
    invoices: list[Invoice] | None,
    rules: ShellFeatureRules | None = None,
    electricity: dict[str, float] | None = None,
) -> dict[str, dict[str, object]]:
    """Each company's network columns."""
    text = {"company_id": pl.String, "kind": pl.String, "party": pl.String}
    sold = {"seller": pl.String, "buyer": pl.String, "amount": pl.Float64}
    frame = shell_features.shell_feature_columns(
        pl.DataFrame({"company_id": list(staff), "insured_staff": pl.Series(list(staff.values()), dtype=pl.Float64)}),
        None if links is None else pl.DataFrame(links, schema=text, orient="row"),
        None if invoices is None else pl.DataFrame(invoices, schema=sold, orient="row"),
        None if electricity is None
        else pl.DataFrame({"company_id": list(electricity), "mwh": list(electricity.values())}),
        rules,
    )  # fmt: skip
    assert set(frame.columns) == {"company_id", *NETWORK_COLUMNS}
    assert frame["company_id"].to_list() == list(staff)
    return {row["company_id"]: row for row in frame.iter_rows(named=True)}


def test_neighbours_are_counted_without_the_company_itself():
    park = [(name, "address", "park") for name in "ABCD"]
    result = made(dict(A=0, B=0, C=5, D=None), park, None)
    assert [result[name]["address_companies"] for name in "ABCD"] == [3, 3, 3, 3]
    assert [result[name]["address_empty_share"] for name in "ABCD"] == [0.5, 0.5, 1.0, pytest.approx(2 / 3)]


def test_of_several_officers_the_one_with_most_companies_speaks():
    links = [("A", "officer", "p"), ("B", "officer", "p"), *((name, "officer", "q") for name in "ACD")]
    result = made(dict(A=1, B=0, C=1, D=1), links, None)
    assert (result["A"]["officer_companies"], result["A"]["officer_empty_share"]) == (2, 0)
    assert (result["B"]["officer_companies"], result["B"]["officer_empty_share"]) == (1, 0)


def test_a_company_alone_at_its_address_has_no_empty_neighbours_and_one_without_an_address_is_unknown():
    result = made(dict(A=0, B=0), [("A", "address", "mill")], None)
    assert (result["A"]["address_companies"], result["A"]["address_empty_share"]) == (0, 0)
    assert result["B"]["address_companies"] is None
    assert result["A"]["officer_companies"] is None
    assert result["A"]["ownership_cycle"] is None


def test_a_link_told_twice_counts_once():
    assert (
        made(dict(A=1, B=1), [("A", "officer", "p")] * 3 + [("B", "officer", "p")], None)["A"]["officer_companies"] == 1
    )


def test_three_that_invoice_in_a_circle_are_a_loop_and_its_path_is_spelled():
    ring = [("A", "B", 80.0), ("B", "C", 90.0), ("C", "A", 85.0), ("A", "X", 20.0)]
    result = made(dict(A=1, B=1, C=1, X=1), [], ring)
    assert result["A"]["loop_path"] == "A > B > C > A"
    assert result["B"]["loop_path"] == "B > C > A > B"
    assert result["A"]["invoice_loop_share"] == pytest.approx(0.8)
    assert (result["X"]["invoice_loop_share"], result["X"]["loop_path"]) == (0, None)


def test_of_two_loops_the_shortest_is_spelled_and_both_count():
    result = made(
        dict(A=1, B=1, C=1, D=1),
        [],
        [("A", "B", 50.0), ("B", "A", 60.0), ("A", "C", 30.0), ("C", "D", 30.0), ("D", "A", 30.0), ("A", "Z", 20.0)],
    )
    assert result["A"]["loop_path"] == "A > B > A"
    assert result["A"]["invoice_loop_share"] == pytest.approx(0.8)


@pytest.mark.parametrize(("companies", "loop"), [(2, True), (6, True), (7, False)])
def test_a_loop_has_at_most_six_companies(companies, loop):
    names = [f"C{number}" for number in range(companies)]
    ring = [(seller, names[(index + 1) % companies], 10.0) for index, seller in enumerate(names)]
    result = made(dict.fromkeys(names, 1), [], ring)
    assert all(bool(result[name]["loop_path"]) == loop for name in names)
    assert all(result[name]["invoice_loop_share"] == loop for name in names)


def test_the_honest_economy_is_no_loop_though_everyone_buys_from_someone_who_buys():
    """Each sells to twenty others: one strong component, none of whose invoices is material to both its sides."""
    rng = randomness.Random(3)
    names = [f"C{number:03}" for number in range(200)]
    invoices = [
        (seller, buyer, rng.uniform(1, 9)) for seller in names for buyer in rng.sample(names, 20) if buyer != seller
    ]
    assert all(row["invoice_loop_share"] == 0 for row in made(dict.fromkeys(names, 9), [], invoices).values())


def test_two_way_trade_that_is_small_to_one_side_is_no_loop():
    trade = [("A", "B", 10.0), ("B", "A", 50.0), ("A", "X", 900.0), ("Y", "A", 900.0), ("Y", "B", 5.0)]
    assert made(dict(A=9, B=9), [], trade)["A"]["invoice_loop_share"] == 0


def test_a_company_that_invoices_itself_is_a_loop_of_one():
    result = made(dict(A=1), [("A", "officer", "p")], [("A", "A", 30.0), ("A", "B", 70.0)])["A"]
    assert (result["invoice_loop_share"], result["loop_path"]) == (pytest.approx(0.3), "A > A")
    assert result["invoice_related_share"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "links",
    [
        [("A", "officer", "p"), ("B", "officer", "p")],
        [("A", "owner", "B")],
        [("A", "owner", "q"), ("B", "owner", "A")],
        [("A", "owner", "q"), ("B", "owner", "q")],
        [("A", "address", "mill"), ("B", "address", "mill")],
    ],
)
def test_sales_to_whoever_shares_an_officer_an_owner_or_an_address_are_related(links):
    result = made(dict(A=1, B=1, C=1), links, [("A", "B", 30.0), ("A", "C", 70.0)])
    assert result["A"]["invoice_related_share"] == pytest.approx(0.3)


def test_the_same_text_as_an_officer_and_as_an_address_is_no_tie():
    result = made(dict(A=1, B=1), [("A", "officer", "x"), ("B", "address", "x")], [("A", "B", 1.0)])
    assert result["A"]["invoice_related_share"] == 0


@pytest.mark.parametrize("kind", ["address", "owner"])
def test_a_crowded_address_or_owner_ties_nobody(kind):
    names = [f"C{number}" for number in range(40)]
    links = [(name, kind, "incubator") for name in names]
    result = made(dict.fromkeys(names, 3), links, [("C0", "C1", 9.0)])
    assert result["C0"]["invoice_related_share"] == 0
    assert (
        made(dict.fromkeys(names, 3), links, [("C0", "C1", 9.0)], ShellFeatureRules(max_tie_companies=40))["C0"][
            "invoice_related_share"
        ]
        == 1
    )


def test_a_cycle_of_owners_is_found_and_those_who_hang_on_it_are_not_in_it():
    owned = [("A", "owner", "B"), ("B", "owner", "C"), ("C", "owner", "A"), ("D", "owner", "A"), ("A", "owner", "p")]
    result = made(dict(A=1, B=1, C=1, D=1), owned, None)
    assert [result[name]["ownership_cycle"] for name in "ABCD"] == [1, 1, 1, 0]


def test_a_company_that_owns_itself_is_a_cycle():
    assert made(dict(A=1, B=1), [("A", "owner", "A"), ("B", "owner", "A")], None)["A"]["ownership_cycle"] == 1


def test_sales_without_electricity_are_high_and_not_infinite():
    invoices = [("A", "B", 30.0), ("C", "B", 30.0), ("E", "B", 30.0)]
    result = made(dict(A=1, B=1, C=1, D=1, E=1), [], invoices, electricity={"A": 0.0, "B": 1.0, "C": 60.0})
    assert result["A"]["invoice_to_electricity"] == pytest.approx(300)
    assert result["B"]["invoice_to_electricity"] == 0
    assert result["C"]["invoice_to_electricity"] == pytest.approx(0.5)
    assert result["D"]["invoice_to_electricity"] is None  # no sales known
    assert result["E"]["invoice_to_electricity"] is None  # no meter known


def test_what_is_not_known_is_missing():
    assert all(value is None for key, value in made(dict(A=1), None, None)["A"].items() if key != "company_id")
    empty = made(dict(A=1), [], [], electricity={"A": 1.0})["A"]
    assert all(value is None for key, value in empty.items() if key != "company_id")


def test_no_companies_give_no_rows():
    assert made({}, [], []) == {}


def test_a_chain_of_owners_of_any_length_is_walked():
    names = [f"C{number:06}" for number in range(100_000)]
    chain = [(seller, "owner", owner) for seller, owner in itertools.pairwise(names)] + [(names[-1], "owner", names[0])]
    assert all(row["ownership_cycle"] == 1 for row in made(dict.fromkeys(names, 1), chain, None).values())


# A slow reference in plain Python, on small graphs.
NAMES = ["A", "B", "C", "D", "E", "F"]
STAFF = st.fixed_dictionaries({name: st.none() | st.integers(0, 2) for name in NAMES})
LINKS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["officer", "address"]), st.sampled_from("pqr"))
    | st.tuples(st.sampled_from(NAMES), st.just("owner"), st.sampled_from([*NAMES, "p", "q"])),
    max_size=12,
)
INVOICES = st.lists(
    st.tuples(st.sampled_from([*NAMES, "X"]), st.sampled_from([*NAMES, "X"]), st.integers(0, 9).map(float)), max_size=16
)
RULES = st.builds(
    ShellFeatureRules,
    material_share=st.sampled_from([0.05, 0.15, 0.4]),
    max_loop_length=st.integers(2, 6),
    max_tie_companies=st.integers(1, 3),
)


def slow(
    staff: dict, links: list[Link], invoices: list[Invoice], rules: ShellFeatureRules
) -> dict[str, dict[str, object]]:
    sold: dict[str, float] = {}
    bought: dict[str, float] = {}
    pairs: dict[tuple[str, str], float] = {}
    for seller, buyer, amount in invoices:
        sold[seller] = sold.get(seller, 0) + amount
        bought[buyer] = bought.get(buyer, 0) + amount
        pairs[seller, buyer] = pairs.get((seller, buyer), 0) + amount
    heavy = {
        (a, b): x for (a, b), x in pairs.items()
        if a != b and x > 0 and x >= rules.material_share * sold[a] and x >= rules.material_share * bought[b]
    }  # fmt: skip
    owners = {(a, party) for a, kind, party in links if kind == "owner"}
    result = {}
    for name in staff:
        row: dict[str, object] = {}
        for kind in ("address", "officer"):
            seen = []
            for party in {party for a, k, party in links if (a, k) == (name, kind)}:
                others = {a for a, k, p in links if (k, p) == (kind, party)} - {name}
                known = [staff[company] == 0 for company in others if staff[company] is not None]
                share = 0.0 if not others else sum(known) / len(known) if known else None
                seen.append((len(others), -1 if share is None else share, share))
            count, _, share = max(seen, default=(None, None, None))
            row |= {f"{kind}_companies": count, f"{kind}_empty_share": share}
        loops = [
            path
            for length in range(2, rules.max_loop_length + 1)
            for path in itertools.permutations([*NAMES, "X"], length)
            if path[0] == name and all(step in heavy for step in zip(path, (*path[1:], name), strict=True))
        ]
        inside = sum(heavy[name, buyer] for buyer in {path[1] for path in loops}) + pairs.get((name, name), 0)
        best = [name, name] if pairs.get((name, name)) else [*loops[0], name] if loops else None
        row["loop_path"] = len(best) if best else None
        ties = {party: [a for a, k, p in links if (k, p) == party] for party in {(k, p) for _, k, p in links}}
        real = {p: set(c) for p, c in ties.items() if p[0] == "officer" or len(set(c)) <= rules.max_tie_companies}
        tied = {b for p, c in real.items() for b in c | ({p[1]} if p[0] == "owner" else set())
                if name in c | ({p[1]} if p[0] == "owner" else set())}  # fmt: skip
        related = sum(x for (a, b), x in pairs.items() if a == name and (b in tied or b == name))
        total = sold.get(name, 0.0)
        traded = name in sold or name in bought
        row["invoice_loop_share"] = (inside / total if total else 0.0) if traded else None
        linked = any(a == name for a, _, _ in links)
        row["invoice_related_share"] = (related / total if total else 0.0) if traded and linked else None
        reach = {b for a, b in owners if a == name}
        while (more := reach | {b for a, b in owners if a in reach}) != reach:
            reach = more
        row["ownership_cycle"] = float(name in reach) if any(a == name for a, _ in owners) else None
        result[name] = row
    return result


def plain(result: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """Without what the reference leaves out; of a path its length alone, since equal ways differ in names."""
    path = {name: row["loop_path"] and len(str(row["loop_path"]).split(" > ")) for name, row in result.items()}
    skip = ("company_id", "invoice_to_electricity")
    return {
        name: {key: value for key, value in row.items() if key not in skip} | {"loop_path": path[name]}
        for name, row in result.items()
    }


@settings(max_examples=150)
@given(STAFF, LINKS, INVOICES, RULES)
def test_it_equals_a_slow_reference_on_small_graphs(staff, links, invoices, rules):
    result, reference = plain(made(staff, links, invoices, rules)), slow(staff, links, invoices, rules)
    for name in NAMES:
        assert result[name] == pytest.approx(reference[name]), name


@settings(max_examples=60)
@given(STAFF, LINKS, INVOICES, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(staff, links, invoices, random):
    first = made(staff, links, invoices)
    names = list(staff)
    for rows in (links, invoices, names):
        random.shuffle(rows)
    assert made({name: staff[name] for name in names}, links, invoices) == first


@settings(max_examples=60)
@given(STAFF, LINKS, INVOICES, LINKS, INVOICES)
def test_what_others_do_elsewhere_changes_nothing(staff, links, invoices, more_links, more_invoices):
    alone = made(staff, links, invoices)
    elsewhere = [(f"{a}2", kind, f"{party}2") for a, kind, party in more_links]
    trade = [(f"{a}2", f"{b}2", amount) for a, b, amount in more_invoices]
    extra = made(staff | {f"{name}2": 1 for name in NAMES}, links + elsewhere, invoices + trade)
    assert {name: extra[name] for name in staff} == alone
