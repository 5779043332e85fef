"""A sci-tech policy says every number, or says what is wrong with it."""

import pytest

from models.policy.config import PolicyError
from models.scitech_risk.policy import Policy
from tests.models.scitech_risk.company_fixtures import FOLDER, POLICY, changed


def faults(*changes):
    with pytest.raises(PolicyError) as refused:
        Policy.load(changed(*changes))
    return refused.value.faults


@pytest.mark.parametrize("path", sorted(FOLDER.glob("scitech_risk*.toml")), ids=lambda path: path.stem)
def test_every_policy_shipped_loads_from_its_path_and_from_its_bytes(path):
    assert Policy.load(path) == Policy.load(path.read_bytes())


def test_the_approval_line_is_the_greatest_pd_of_the_floor_grade():
    assert POLICY.approval_pd == 0.03
    assert [grade.name for grade in POLICY.risk.grades] == ["AAA", "AA", "A", "BBB", "BB", "B", "CCC", "CC", "C"]


def test_the_signals_that_ask_for_an_act_are_told():
    codes = {signal.code for signal in POLICY.act_signals}
    assert {"overdue_30_days", "staff_collapses"} <= codes
    assert not {"overdue", "enforcement"} & codes  # an enforcement stops already


def test_an_unknown_key_is_told_with_the_nearest_known_one():
    assert faults(("points = 15", "points = 15\nsorce = 3")) == [
        "gate.evidence.0.sorce is not a known key; did you mean 'source'?"
    ]


def test_all_faults_are_told_together():
    result = faults(("cap = 30_000_000", 'cap = "much"'), ("lgd = 0.60", "lgd = true"), ("least_cover = 1.30", ""))
    assert [fault.split()[0] for fault in result] == ["product.cap", "risk.lgd", "bounds.least_cover"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("innovation_uplift = 0.50", "innovation_uplift = -0.10", "innovation may only raise"),
        ("loss_budget = 30_000", "loss_budget = 600_000", "must never rise as the grade gets worse"),
        ("legal_cap = 50_000_000", "legal_cap = 20_000_000", "cap 3e+07 must not be above legal_cap 2e+07"),
        ("sources = 2", "sources = 1", "it must be 2 or more: a block needs independent sources"),
        (
            "reviews = true        # who owns",
            "reviews = false       # who owns",
            "the owner of the company cannot be determined",
        ),
        ("floor = 0.02\nfull = 0.15", "floor = 0.15\nfull = 0.02", "a higher value never scores less"),
        ("multiple = 0.20", "multiple = -0.20", "revenue never lowers a limit"),
        ("at_most = 0\n", "at_least = 50\n", "the opposite is no evidence of a shell"),
        ("at_least = 1.0", "at_least = 1.1", "stops must refer debt_ratio at_least 1, or less bad, to a person"),
        (
            "debt_service = { counts_as = 140, refers = true }",
            "debt_service = { counts_as = 140 }",
            "must have refers = true",
        ),
        (
            'at_most = 0.10\nseverity = "watch"',
            'at_most = 0.10\nseverity = "act"',
            "cash_ratio must have the severity watch",
        ),
    ],
)
def test_a_policy_that_breaks_a_rail_is_refused_but_can_be_shown_to_the_checker(old, new, message):
    (fault,) = faults((old, new))
    assert message in fault
    assert isinstance(Policy.load(changed((old, new)), enforce_guardrails=False), Policy)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('floor_grade = "BBB"', 'floor_grade = "C"', "floor_grade 'C' must be one of"),
        ("pd_up_to = 0.06", "pd_up_to = 0.01", "must rise from the best grade"),
        (
            "revenue_up_to = 5_000_000",
            "revenue_up_to = 50_000_000",
            "it must rise, and only the last stage must have none",
        ),
        ('name = "early"', 'name = "start_up"', "name 'start_up' occurs twice"),
        ("technology = 60, ", "", "they must name technology, growth, auxiliary"),
        ('indicator = "rd_growth"', 'indicator = "rd_grow"', "did you mean 'rd_growth'"),
        ('indicator = "rd_growth"', 'indicator = "rd_expense"', "rd_expense occurs twice"),
        ('indicator = "zero_filing_months"', 'indicator = "zero_filings"', "did you mean 'zero_filing_months'"),
        ("block = 60", "block = 20", "block 20 must not be below review 30"),
        ("at_most = 0\n", "", "give exactly one of at_least and at_most"),
        ("{value} of its invoiced sales run", "{amount} of its invoiced sales run", "only {value} are allowed"),
        ('instead_of = "overdue"', 'instead_of = "overdu"', "did you mean 'overdue'"),
        ("cap = 30_000_000", "cap = nan", "finite number"),
        ("minimum = 50_000", "minimum = 55_500", "must be a multiple of rounding"),
        ('source = "owners"', 'source = "gossip"', "'gossip'"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_and_without_rails(old, new, message):
    (fault,) = faults((old, new))
    assert message in fault
    with pytest.raises(PolicyError):
        Policy.load(changed((old, new)), enforce_guardrails=False)
