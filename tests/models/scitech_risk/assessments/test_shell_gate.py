"""The shipped gate on a simulated zone that its points were not chosen on."""

import numpy as np
import polars as pl
import pytest

from datasets.scitech_risk.register.reader import build_register
from datasets.scitech_risk.register.simulator import simulate_zone
from models.policy.arithmetic import ArrayOps
from models.scitech_risk.assessments.shell_gate import ShellGate
from models.scitech_risk.limit_formula import INDICATORS
from tests.models.scitech_risk.company_fixtures import POLICY

HIDING = (0.0, 0.6)


@pytest.fixture(scope="module")
def result():
    """hiding -> (is a shell, blocked, looked at), each (companies,)."""
    output = {}
    for hiding in HIDING:
        frame = build_register(dict(simulate_zone(4_000, 5, hiding)), simulated=True).frame
        numbers = {name: frame[name].cast(pl.Float64).to_numpy() for name in INDICATORS}
        with np.errstate(invalid="ignore"):
            gated = ShellGate(POLICY.gate, ArrayOps).evaluate(numbers)
        output[hiding] = frame["is_shell"].to_numpy() == 1, gated.block, gated.review
    return output


@pytest.mark.parametrize("hiding", HIDING)
def test_hardly_any_honest_company_is_blocked_and_few_are_looked_at(result, hiding):
    shell, blocked, looked = result[hiding]
    assert blocked[~shell].mean() < 0.002
    assert looked[~shell].mean() < 0.03


def test_shells_that_hide_nothing_are_blocked(result):
    shell, blocked, _ = result[0.0]
    assert blocked[shell].mean() > 0.95


def test_most_shells_that_hide_their_marks_are_still_looked_at(result):
    shell, blocked, looked = result[0.6]
    assert 0.1 < blocked[shell].mean() < 0.9
    assert looked[shell].mean() > 0.7
