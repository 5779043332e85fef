"""Names and parameters as MLflow accepts them."""

from __future__ import annotations

from training.tracking.mlflow_registry import flatten, git_commit, sanitize_name


def test_a_metric_name_keeps_letters_of_any_script_and_loses_other_signs():
    assert sanitize_name("psi/月收入 (€)") == "psi/月收入 ___"


def test_nested_parameters_become_dotted_names():
    assert flatten({"a": {"b": 1}, "c": 2}) == {"a.b": 1, "c": 2}


def test_a_commit_is_forty_digits_or_absent():
    assert len(git_commit().rstrip("+")) in (0, 40)
