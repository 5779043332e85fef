"""A monthly history becomes the early-warning columns, and a wrong month is told, not guessed."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import validation
from datasets.scitech_risk import monthly_history
from datasets.scitech_risk.register.schema import HISTORY, MONTHLY_COLUMNS, TABLE

NOW = "2026-06"
VALUES = ("revenue", "insured_staff", "zero_filing", "late_filing", "electricity", "cash", "overdue_days")


def history(length: int, company: str = "A", **values: object) -> pl.DataFrame:
    """`length` months of one company up to NOW; a value not named is 1 throughout."""
    rows = {name: values.get(name, [1.0] * length) for name in VALUES}
    frame = pl.DataFrame(
        {
            "company_id": [company] * length,
            "month": [monthly_history.add_months(NOW, index - length + 1) for index in range(length)],
            **{name: pl.Series(list(value), dtype=pl.Float64) for name, value in rows.items()},
        }
    )
    return validation.validate_or_raise(frame, HISTORY)


def output(frame: pl.DataFrame, name: str) -> float | None:
    return monthly_history.early_warning_columns(frame, NOW)[name][0]


def faults(frame: pl.DataFrame, *companies: str) -> list[str]:
    return [str(fault) for fault in monthly_history.find_history_errors(frame, pl.Series(companies or ["A"]), NOW)]


def test_revenue_halved_is_a_change_of_minus_one_half():
    assert output(history(36, revenue=[10.0] * 30 + [5.0] * 6), "revenue_change_6m") == pytest.approx(-0.5)


@pytest.mark.parametrize("length", [1, 2, 6, 11])
def test_a_company_younger_than_a_year_has_no_change_but_its_worst_days(length):
    young = history(length, overdue_days=range(length))
    assert output(young, "revenue_change_6m") is None
    assert output(young, "overdue_days_6m") == length - 1


def test_from_nothing_there_is_no_share():
    assert output(history(36, cash=[0.0] * 30 + [9.0] * 6), "cash_change_6m") is None


def test_a_change_beyond_the_contract_is_cut_to_it():
    assert output(history(36, cash=[1e-6] * 30 + [9e6] * 6), "cash_change_6m") == TABLE["cash_change_6m"].high


def test_two_months_unknown_of_six_are_bridged_and_three_are_not():
    assert output(history(12, revenue=[4.0] * 6 + [None, None] + [2.0] * 4), "revenue_change_6m") == pytest.approx(-0.5)
    assert output(history(12, revenue=[4.0] * 6 + [None] * 3 + [2.0] * 3), "revenue_change_6m") is None


def test_counts_look_back_as_far_as_they_say():
    frame = history(36, late_filing=[1] * 30 + [0, 0, 0, 1, 1, 0], zero_filing=[1] * 12 + [0] * 23 + [1])
    assert output(frame, "late_filings_6m") == 2
    assert output(frame, "zero_filing_months") == 1


def test_the_worst_fall_is_from_a_peak_to_a_later_trough_within_the_year():
    risen_and_fallen = [1.0] * 24 + [2.0] * 3 + [8.0] * 3 + [2.0] * 3 + [4.0] * 3
    assert output(history(36, revenue=risen_and_fallen), "revenue_drop_12m") == pytest.approx(0.75)
    assert output(history(36, revenue=range(1, 37)), "revenue_drop_12m") == 0
    assert output(history(36, revenue=[9.0] * 20 + [1.0] * 16), "revenue_drop_12m") == 0  # longer ago than a year


def test_a_column_that_nobody_reported_is_missing_throughout():
    frame = history(36, **{name: [None] * 36 for name in VALUES})
    assert all(value is None for value in monthly_history.early_warning_columns(frame, NOW).drop("company_id").row(0))


def test_a_year_of_electricity_counts_an_unknown_month_as_the_mean_of_the_known():
    frame = history(36, electricity=[99.0] * 24 + [2.0] * 8 + [None] * 4)
    assert monthly_history.last_year_total(frame, "electricity", NOW)["electricity"].to_list() == [24.0]
    assert monthly_history.last_year_total(history(3), "electricity", NOW)["electricity"].to_list() == [3.0]


def slow(values: dict[str, list[float | None]]) -> dict[str, float | None]:
    """The columns at the last month, as one would work them out by hand."""

    def mean(chunk: list[float | None], of: int) -> float | None:
        known = [value for value in chunk if value is not None]
        return sum(known) / len(known) if len(chunk) == of and 3 * len(known) >= 2 * of else None

    def window(name: str, length: int) -> list[float]:
        return [value for value in values[name][-length:] if value is not None]

    result: dict[str, float | None] = {}
    for name, source in monthly_history.CHANGE_COLUMNS.items():
        now, before = mean(values[source][-6:], 6), mean(values[source][-12:-6], 6)
        result[name] = min(now / before - 1, 1_000) if now is not None and before else None
    result["overdue_days_6m"] = max(window("overdue_days", 6), default=None)
    result["late_filings_6m"] = sum(window("late_filing", 6)) if window("late_filing", 6) else None
    result["zero_filing_months"] = sum(window("zero_filing", 24)) if window("zero_filing", 24) else None
    revenue = values["revenue"]
    ends = range(max(len(revenue) - 9, 3), len(revenue) + 1)
    means = [value for value in (mean(revenue[end - 3 : end], 3) for end in ends) if value is not None]
    falls = [
        0.0 if high == 0 else max(0.0, 1 - low / high) for index, high in enumerate(means) for low in means[index + 1 :]
    ]
    result["revenue_drop_12m"] = max(falls, default=None)
    return result


COMPANY = st.integers(1, 36).flatmap(
    lambda length: st.fixed_dictionaries(
        {
            name: st.lists(
                st.none() | st.integers(0, 1 if name.endswith("filing") else 9).map(float),
                min_size=length,
                max_size=length,
            )
            for name in VALUES
        }
    )
)


@settings(max_examples=60)
@given(st.lists(COMPANY, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_it_equals_what_one_works_out_by_hand_in_any_order_of_the_rows(companies, random):
    frames = [history(len(values["cash"]), f"C{number}", **values) for number, values in enumerate(companies)]
    frame = pl.concat(frames)
    order = list(range(frame.height))
    random.shuffle(order)
    result = monthly_history.early_warning_columns(frame[order], NOW)
    assert set(result.columns) == {"company_id", *MONTHLY_COLUMNS}
    for number, values in enumerate(companies):
        row = result.row(by_predicate=pl.col("company_id") == f"C{number}", named=True)
        assert {k: v for k, v in row.items() if k != "company_id"} == pytest.approx(slow(values), nan_ok=False)


@settings(max_examples=25)
@given(COMPANY)
def test_the_rolling_columns_at_a_month_are_those_of_a_history_that_ends_there(values):
    frame = history(len(values["cash"]), **values)
    every = monthly_history.rolling_early_warnings(frame)
    assert every.height == frame.height
    for month in frame["month"]:
        then = frame.filter(pl.col("month") <= month)
        assert monthly_history.early_warning_columns(then, month).equals(
            every.filter(pl.col("month") == month).drop("month")
        )


def test_an_empty_history_gives_no_rows():
    assert monthly_history.rolling_early_warnings(history(0)).height == 0
    assert monthly_history.early_warning_columns(history(0), NOW).height == 0
    assert faults(history(0)) == []


def test_a_sound_history_has_no_faults():
    assert faults(pl.concat([history(36), history(1, "B")]), "A", "B") == []


def test_wrong_months_are_told_together():
    wrong = pl.concat(
        [
            history(3),
            history(2)[[1]],  # told twice
            history(8, "B")[[0, 1, 4, 5, 6, 7]],
            history(4, "C")[:2],
            history(1, "D").with_columns(month=pl.lit("2026-07")),
            history(2, "E").with_columns(month=pl.lit("06/2026")),
            history(3, "Z"),
        ]
    )
    message = faults(wrong, "A", "B", "C", "D", "E")
    assert any("'A', which another row has too" in line for line in message)
    assert any("'B' after a gap of 2" in line for line in message)
    assert any("the last month of 'C'" in line and "followed by every month up to 2026-06" in line for line in message)
    assert any("2026-07 of 'D'" in line and "no later than the register's month, 2026-06" in line for line in message)
    assert sum("'06/2026'" in line for line in message) == 2
    assert sum("'Z'" in line for line in message) == 1  # once a company
    assert len(message) == 7
    assert all(line.startswith("history, row ") for line in message)


@pytest.mark.parametrize("month", ["2026-00", "2026-13", "26-06", "2026-6", "2026-06-30", ""])
def test_what_is_no_month_is_a_fault(month):
    assert len(faults(history(1).with_columns(month=pl.lit(month)))) == 1


def test_months_are_counted_over_the_turn_of_a_year():
    assert monthly_history.add_months("2026-01", -1) == "2025-12"
    assert monthly_history.add_months("2025-12", 13) == "2027-01"
    turn = pl.DataFrame({"month": ["2025-12", "2026-01"]}).select(monthly_history.month_index("month")).to_series()
    assert turn[1] - turn[0] == 1
