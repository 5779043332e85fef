import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.scitech_risk.register.schema import TABLE
from datasets.validation import validate
from models.card import ScoreHead
from models.scitech_risk.policy import Policy
from models.scitech_risk.stress import (
    Shock,
    ShockEffect,
    add_rate,
    apply_shock,
    resolve_trade,
    scale_shock,
    shift_log_odds,
)
from models.scorecard.scaling import ScoreScale
from models.trees.onnx_session import Scores
from tests.paths import ROOT
from training.config import ConfigError
from training.portfolio import stress

STATED = {
    "company_id": ["a", "b", "c"],
    "trade": ["software", "machinery", None],
    "revenue": [1_000.0, 2_000.0, None],
    "high_tech_revenue": [600.0, None, 10.0],
    "revenue_growth": [0.1, -0.5, None],
    "operating_cash_flow": [300.0, -50.0, 80.0],
    "net_profit": [100.0, 20.0, None],
    "total_assets": [3_000.0, 2_000.0, 500.0],
    "total_liabilities": [1_000.0, 1_500.0, None],
    "interest_expense": [50.0, 60.0, 0.0],
    "debt_service": [200.0, 100.0, 40.0],
    "rd_expense": [100.0, 100.0, 5.0],
    "insured_staff": [20, 3, 1],
}


@pytest.fixture(scope="module")
def frame():
    validated, errors, _ = validate(pl.DataFrame(STATED), TABLE)
    assert not errors
    return validated


@pytest.fixture(scope="module")
def shocks():
    return {shock.code: shock for shock in stress.load_shocks(ROOT / stress.CONFIG).shocks}


def revalidate(frame):
    """The stated values validated again, which recomputes the derived ones."""
    return validate(frame.select(c.name for c in TABLE.columns if c.derived is None), TABLE)[0]


def test_the_shipped_shocks_fit_the_register(shocks):
    stress.verify_shocks(stress.load_shocks(ROOT / stress.CONFIG), TABLE, "stress.toml")
    assert set(shocks) == {"revenue_down", "rate_up", "trade_shock"}


@pytest.mark.parametrize("code", ["revenue_down", "rate_up", "trade_shock"])
def test_derived_columns_are_recomputed_after_a_shock(frame, shocks, code):
    stressed = apply_shock(frame, resolve_trade(shocks[code], "software"), TABLE)
    assert stressed.schema == frame.schema
    assert stressed.equals(revalidate(stressed))


def test_lower_revenue_lowers_cash_flow_and_profit_by_their_share(frame, shocks):
    stressed = apply_shock(frame, shocks["revenue_down"], TABLE)
    assert stressed["revenue"].to_list() == [800.0, 1_600.0, None]
    assert stressed["operating_cash_flow"].to_list() == [240.0, -170.0, 80.0]  # without a revenue nothing follows
    assert stressed["net_profit"].to_list() == [49.0, -82.0, None]
    assert stressed["revenue_growth"].to_list() == pytest.approx([-0.12, -0.6, None])


def test_a_higher_rate_raises_the_cost_of_the_liabilities(frame, shocks):
    stressed = apply_shock(frame, shocks["rate_up"], TABLE)
    assert stressed["interest_expense"].to_list() == [70.0, 90.0, 0.0]
    assert stressed["debt_service"].to_list() == [220.0, 130.0, 40.0]
    assert stressed["revenue"].equals(frame["revenue"])


def test_a_shock_to_one_trade_does_not_change_the_others(frame, shocks):
    stressed = apply_shock(frame, resolve_trade(shocks["trade_shock"], "software"), TABLE)
    assert stressed["revenue"].to_list() == [700.0, 2_000.0, None]
    assert stressed[1:].equals(frame[1:])


def test_values_stay_within_their_bounds_and_integers_stay_integers(frame):
    effects = (ShockEffect(column="revenue", times=-1), ShockEffect(column="insured_staff", times=0.51))
    stressed = apply_shock(frame, Shock(code="x", en="x", zh="x", effects=effects), TABLE)
    assert stressed["revenue"].to_list() == [0.0, 0.0, None]
    assert stressed["insured_staff"].to_list() == [10.0, 2.0, 1.0]
    assert stressed.equals(revalidate(stressed))


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0, 5))
def test_a_shift_in_log_odds_changes_pd_and_points_consistently(pd, step):
    head, scale = ScoreHead(slope=1.0, intercept=0.0, bias=0.0), ScoreScale()
    points = scale.points(np.log(pd / (1 - pd)))
    shock = Shock(code="x", en="x", zh="x", log_odds=step)
    rows = pl.DataFrame({"trade": ["other"]})
    shifted = shift_log_odds(Scores(np.array([pd]), np.array([points]), np.zeros(1), None), rows, shock, head)
    assert shifted.pd[0] >= pd * (1 - 1e-12)
    assert shifted.pd[0] / (1 - shifted.pd[0]) == pytest.approx(pd / (1 - pd) * np.exp(step), rel=1e-6)
    assert shifted.points[0] == pytest.approx(float(scale.points(np.log(pd / (1 - pd)) + step)))


def test_a_rate_shock_changes_the_policys_rate():
    policy = Policy.load(ROOT / "configs/policies/scitech_risk.toml")
    shocked = add_rate(policy, 0.02)
    assert shocked.product.annual_rate == pytest.approx(policy.product.annual_rate + 0.02)
    assert policy.model_copy(update={"product": shocked.product}) == shocked
    assert add_rate(policy, 0.0) is policy


def error_of(tmp_path, text):
    path = tmp_path / "stress.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        stress.verify_shocks(stress.load_shocks(path), TABLE, str(path))
    return str(error.value)


def test_an_unknown_name_is_refused_with_the_nearest_known_one(tmp_path):
    head = '[[shocks]]\ncode = "a"\nen = "a"\nzh = "a"\n'
    assert "did you mean 'log_odds'" in error_of(tmp_path, head + "log_odd = 1.0\n")
    assert "did you mean 'revenue'" in error_of(tmp_path, head + '[[shocks.effects]]\ncolumn = "revenu"\n')
    assert "'margin' is not a numeric input" in error_of(tmp_path, head + '[[shocks.effects]]\ncolumn = "margin"\n')
    assert "did you mean 'software'" in error_of(tmp_path, head + 'trade = "softwares"\n')
    assert "share needs exactly one of" in error_of(
        tmp_path, head + '[[shocks.effects]]\ncolumn = "revenue"\nshare = 0.1\n'
    )
    assert "each code must be unique" in error_of(tmp_path, head + head)


def test_a_shock_scaled_by_two_has_twice_the_effect(frame, shocks):
    doubled = apply_shock(frame, scale_shock(shocks["revenue_down"], 2), TABLE)
    assert doubled["revenue"].to_list()[:2] == pytest.approx([600.0, 1_200.0])
    assert doubled["revenue_growth"].to_list()[0] == pytest.approx(1.1 * 0.6 - 1)
    assert doubled["operating_cash_flow"].to_list()[0] == pytest.approx(300 - 0.3 * 400)
    assert scale_shock(shocks["rate_up"], 1.5).rate == pytest.approx(0.03)
    rates = apply_shock(frame, scale_shock(shocks["rate_up"], 2), TABLE)
    assert rates["interest_expense"].to_list()[0] == pytest.approx(50 + 0.04 * 1_000)
    assert scale_shock(shocks["trade_shock"], 1) == shocks["trade_shock"]
