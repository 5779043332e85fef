"""A policy says every number, or says what is wrong with it."""

import pytest

from models.credit_limit.policy import Policy
from models.policy.config import PolicyError
from tests.paths import ROOT

FOLDER = ROOT / "configs" / "policies"
TEXT = (FOLDER / "credit_limit.toml").read_text()


def changed(*changes):
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text.encode()


def faults(*changes):
    with pytest.raises(PolicyError) as refused:
        Policy.load(changed(*changes))
    return refused.value.faults


@pytest.mark.parametrize("path", sorted(FOLDER.glob("credit_limit*.toml")), ids=lambda path: path.stem)
def test_every_policy_shipped_loads_from_its_path_and_from_its_bytes(path):
    assert Policy.load(path) == Policy.load(path.read_bytes())


def test_the_approval_line_is_the_greatest_pd_of_the_floor_grade():
    assert Policy.load(TEXT.encode()).approval_pd == 0.04


def test_an_unknown_key_is_told_with_the_nearest_known_one():
    assert faults(("term_months = 36", "term_months = 36\nannual_rat = 0.05")) == [
        "product.annual_rat is not a known key; did you mean 'annual_rate'?"
    ]


def test_an_unknown_key_deep_inside_is_told_by_its_place():
    result = faults(("loss_budget = 2_200", "loss_budget = 2_200\nbudget = 3"))
    assert result == ["risk.grades.2.budget is not a known key; did you mean 'loss_budget'?"]


def test_all_faults_are_told_together():
    result = faults(("cap = 300_000", 'cap = "much"'), ("lgd = 0.60", "lgd = true"), ("span = 30", ""))
    assert [fault.split()[0] for fault in result] == ["product.cap", "risk.lgd", "conduct.span"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("u = 0.20", "u = 0.51", "u is 0.51; it must be 0.50 or less"),
        ("self_weight = 0.05", "self_weight = 0.11", "self_weight is 0.11; it must be 0.10 or less"),
        ("min_raters = 5", "min_raters = 4", "min_raters is 4; it must be 5 or more"),
        ("factor = [1.00, 0.90, 0.70]", "factor = [1.00, 0.90, 0.95]", "must never rise"),
        ("loss_budget = 1_500", "loss_budget = 9_500", "must never rise as the grade gets worse"),
        ("legal_cap = 500_000", "legal_cap = 200_000", "cap 300000 must not be above legal_cap 200000"),
        ("min_age = 18", "min_age = 16", "min_age is 16; it must be 18 or more"),
        ("at_least = 60 ", "at_least = 120 ", "stops must refer days_past_due at_least 90, or less bad, to a person"),
        (
            'indicator = "identity_match"\nat_most = 0',
            'indicator = "identity_match"\nat_most = -1',
            "identity_match at_most 0",
        ),
        ("36_000, refers = true", "36_000", "unknown.declared_income must have refers = true"),
        ('[[raises]]\nindicator = "debts"', '[[raises]]\nindicator = "deposits"', "deposits must not be advised"),
    ],
)
def test_a_policy_that_breaks_a_rail_is_refused_but_can_be_shown_to_the_checker(old, new, message):
    (fault,) = faults((old, new))
    assert message in fault
    assert isinstance(Policy.load(changed((old, new)), enforce_guardrails=False), Policy)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('floor_grade = "C"', 'floor_grade = "F"', "floor_grade 'F' must be one of"),
        ("pd_up_to = 1.0", "pd_up_to = 0.9", "end at 1"),
        ("pd_up_to = 0.08", "pd_up_to = 0.03", "must rise from the best grade"),
        ("at = [0.30, 0.60, 0.90]", "at = [0.30, 0.60]", "each point needs one of both"),
        ("at = [0.30, 0.60, 0.90]", "at = [0.30, 0.30, 0.90]", "must rise"),
        ("minimum = 5_000", "minimum = 5_500", "must be a multiple of rounding"),
        ("step = 12", "step = 0", "step is 0"),
        ("declared_income = {", "declared = {", "unknown.declared_income is missing"),
        ("counts_as = 36_000", 'counts_as = "low"', "it must be a number"),
        ('indicator = "abnormal_list"', 'indicator = "abnormal"', "must be one of identity_match"),
        ('code = "enforcement"', 'code = "past_due"', "code 'past_due' occurs twice"),
        ("wanted = {", "none = {", "'none' says that no code was reported"),
        ("cap = 300_000", "cap = nan", "finite number"),
        ('currency = "CNY"', 'currency = "yuan"', "^[A-Z]{3}$"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_and_without_rails(old, new, message):
    (fault,) = faults((old, new))
    assert message in fault
    with pytest.raises(PolicyError):
        Policy.load(changed((old, new)), enforce_guardrails=False)


def test_an_asset_based_product_needs_its_haircuts():
    text = changed(("asset_based = false", "asset_based = true"), ("[haircuts]", "[unused]"))
    with pytest.raises(PolicyError, match="unused is not a known key; known keys are"):
        Policy.load(text)
    text = TEXT.replace("asset_based = false", "asset_based = true")
    start, end = text.index("[haircuts]"), text.index("[conduct]")
    with pytest.raises(PolicyError, match=r"\[haircuts\] must then give the share of each asset"):
        Policy.load((text[:start] + text[end:]).encode())


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name = ", b"[product", "name = '中文".encode("gbk")])
def test_what_is_no_toml_in_utf8_is_refused_in_a_sentence(content):
    with pytest.raises(PolicyError, match=r"is not a TOML file in UTF-8: .*Correct the file\."):
        Policy.load(content)


def test_a_policy_that_is_not_there_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(PolicyError, match="there is no such file"):
        Policy.load(tmp_path / "none.toml")


def test_a_policy_cannot_be_changed_once_loaded():
    with pytest.raises(Exception, match="frozen"):
        Policy.load(TEXT.encode()).min_age = 17
