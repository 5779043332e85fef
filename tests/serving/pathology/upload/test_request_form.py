"""The request form: all that is wrong with one is told together, in both languages."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.pathology import patient_risk
from models.pathology.policy import ReadingPolicy
from serving.pathology.upload import request_form
from tests.serving.conftest import ROOT
from tests.serving.pathology.conftest import FORM

CHINESE = re.compile(r"[\u4e00-\u9fff]")
BLEEDING = {"name": "bleeding", "value": True, "source": "clinic record 2026-10-02", "authorisation": "A-77"}
WHOLE = FORM | {
    "age": 57,
    "hpv_result": "positive",
    "hpv_genotype": ["16", "52"],
    "previous_result": "ASC-US",
    "menopause": "after",
    "context": [BLEEDING],
    "mpp": 0.25,
}


def faults(changed) -> dict[str, str]:
    read, found = request_form.validate(FORM | changed)
    assert (read is None) == bool(found)
    for fault in found:
        assert fault.expected
        assert CHINESE.search(fault.expected_zh), fault
    return {fault.field: fault.actual for fault in found}


def test_a_whole_form_is_read_and_the_scale_stands_apart():
    read, found = request_form.validate(WHOLE)
    assert not found
    assert read.mpp == 0.25
    assert read.request == {name: value for name, value in WHOLE.items() if name != "mpp"}
    assert read.columns()["specimen"] == "cervical_cytology"


def test_what_is_null_is_unknown():
    read, found = request_form.validate(FORM | {"age": None, "context": None, "mpp": None})
    assert not found
    assert read.request == FORM
    assert read.mpp is None


@pytest.mark.parametrize(
    "changed",
    [
        {"accession": ""},
        {"accession": " C1"},
        {"accession": "C\n1"},
        {"accession": "C\u202e1"},  # turns the direction of writing
        {"accession": "x" * 65},
        {"accession": 5},
        {"specimen": "liver"},
        {"stain": "blue"},
        {"preparation": ["liquid_based"]},
        {"age": -1},
        {"age": 121},
        {"age": 33.5},
        {"age": "33"},
        {"age": True},
        {"hpv_result": "yes"},
        {"hpv_result": "positive", "hpv_genotype": "16"},
        {"hpv_result": "positive", "hpv_genotype": ["sixteen"]},
        {"hpv_result": "negative", "hpv_genotype": ["16"]},
        {"previous_result": "fine"},
        {"menopause": "soon"},
        {"mpp": 0},
        {"mpp": 352.8},
        {"mpp": "0.25"},
        {"mpp": float("nan")},
        {"context": {}},
        {"context": [5]},
        {"context": [BLEEDING | {"source": ""}]},
        {"context": [{"name": "bleeding", "value": True}]},
        {"context": [BLEEDING | {"name": "Bleeding!"}]},
        {"context": [BLEEDING | {"value": [1]}]},
        {"context": [BLEEDING | {"sauce": "x"}]},
        {"hpv": "positive"},
    ],
)
def test_a_wrong_field_is_named(changed):
    found = faults(changed)
    assert found
    assert all(name.split("[")[0].split(".")[0] in changed for name in found)


def test_all_faults_are_told_together():
    found = request_form.validate({"stain": "blue", "age": -1, "acession": "C1", "context": [{"name": "x"}]})[1]
    told = {fault.field for fault in found}
    assert told >= {"accession", "specimen", "preparation", "stain", "age", "acession"}
    assert told >= {"context[0].value", "context[0].source", "context[0].authorisation"}
    assert any("did you mean 'accession'?" in fault.expected for fault in found)


def test_a_context_value_may_be_unknown_and_still_names_its_source():
    assert not faults({"context": [BLEEDING | {"value": None}]})


def test_what_the_form_allows_the_patients_risk_understands():
    policy = ReadingPolicy.load(ROOT / "configs/policies/pathology.toml")
    risk = patient_risk.assess_risk(request_form.validate(WHOLE)[0].request, policy.patient)
    assert {reason.code for reason in risk.reasons} == {
        *("hpv_16", "hpv_other", "previous_low", "bleeding_after_menopause"),
    }
    assert set(patient_risk.RISK_FIELDS) <= set(request_form.FormFields.model_fields)
    assert {*patient_risk.HIGH_GRADE_RESULTS, *patient_risk.LOW_GRADE_RESULTS} <= set(request_form.PREVIOUS_RESULTS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the form
@given(st.dictionaries(st.sampled_from([*request_form.FormFields.model_fields, "other"]), JSON, max_size=11))
def test_whatever_comes_is_read_or_refused_and_never_a_crash(found):
    read, wrong = request_form.validate(found)
    assert (read is None) == bool(wrong)
