"""Read a register folder and add the columns made from its months and its network.

register = read("var/zone")     # companies, history, links and invoices, each .parquet or .csv
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from datasets import validation
from datasets.errors import DataError, FieldError, InvalidTableError
from datasets.files.external_files import file_sha256
from datasets.scitech_risk import monthly_history, shell_features
from datasets.scitech_risk.register.schema import (
    FILES,
    HISTORY,
    INVOICE_COLUMNS,
    LINK_COLUMNS,
    MONTHLY_COLUMNS,
    TABLE,
    Register,
    Remark,
)
from datasets.scitech_risk.register.simulator import simulate_zone
from datasets.simulation import is_marked_simulated

__all__ = ["TABLE", "build_register", "read", "read_files", "register_digest", "sample"]


def read(folder: Path | str) -> Register:
    """Read the register in a folder.

    Without a history, links or invoices, the columns made from them are missing and a remark says so. Raises
    InvalidTableError with the errors of all files together, DataError if there is no companies file.
    """
    return build_register(*read_files(folder))


def read_files(folder: Path | str) -> tuple[dict[str, pl.DataFrame | None], dict[str, str], bool]:
    """Read a register folder's files without validating them.

    Returns the frames by the names of FILES, the files' own names, and whether any file says that it is simulated.
    """
    folder = Path(folder)
    files = {name: _find_file(folder, name) for name in FILES}
    if files["companies"] is None:
        raise DataError(
            f"{folder}: there is no companies.parquet or companies.csv, which a register needs. Simulate one: "
            f"python -m datasets simulate register --companies 20000 --seed 7 --out {folder}"
        )
    frames = {name: None if path is None else validation.read_raw(path) for name, path in files.items()}
    file_names = {name: path.name for name, path in files.items() if path is not None}
    return frames, file_names, any(_is_file_simulated(path) for path in files.values() if path)


def build_register(
    frames: Mapping[str, pl.DataFrame | None], file_names: dict[str, str] | None = None, simulated: bool = False
) -> Register:
    """Validate the frames, given by the names of FILES, and build a register from them.

    file_names: what an error message calls each of them. Raises InvalidTableError with the errors of all frames.
    """
    file_names = file_names or {}
    errors: list[FieldError] = []
    total = 0
    validated: dict[str, pl.DataFrame | None] = dict.fromkeys(FILES)
    for name, contract in FILES.items():
        frame_of_file = frames.get(name)
        if frame_of_file is not None:
            validated[name], found_errors, error_count = validation.validate(
                frame_of_file, contract, file_names.get(name, name)
            )
            errors, total = errors + found_errors, total + error_count
    companies, history, links, invoices = (validated[name] for name in FILES)
    if companies is None:
        raise DataError("register: there is no companies table; a register needs one. Add it.")
    found_errors, month = _validate_companies(companies, file_names.get("companies", "companies"))
    if history is not None and month:
        found_errors += monthly_history.find_history_errors(
            history, companies["company_id"], month, file_names.get("history", "history")
        )
    if errors or found_errors:
        raise InvalidTableError([*errors, *found_errors][: validation.MAX_ERRORS], total + len(found_errors))
    past_months = validation.validate_or_raise(
        pl.DataFrame(schema={"company_id": pl.String, "month": pl.String}), HISTORY
    )
    past_months = past_months if history is None else monthly_history.sort_history(history)
    electricity_use = None if history is None else monthly_history.last_year_total(past_months, "electricity", month)
    features = companies.join(
        monthly_history.early_warning_columns(past_months, month), on="company_id", how="left", maintain_order="left"
    )
    staff = companies.select("company_id", "insured_staff")
    features = features.join(
        shell_features.shell_feature_columns(staff, links, invoices, electricity_use),
        on="company_id",
        how="left",
        maintain_order="left",
    )
    frame = features.select(column.name for column in TABLE.columns)
    return Register(frame, past_months, month, _make_remarks(companies, validated), simulated, links, invoices)


def sample(rows: int = 300, seed: int = 0) -> Register:
    """Simulate a small zone."""
    return build_register(simulate_zone(rows, seed), simulated=True)


def register_digest(folder: Path | str) -> str:
    """SHA-256 over the names and digests of a register's files."""
    files = [path for path in (_find_file(Path(folder), name) for name in FILES) if path]
    return hashlib.sha256("\n".join(f"{path.name} {file_sha256(path)}" for path in files).encode()).hexdigest()


def _find_file(folder: Path, name: str) -> Path | None:
    candidates = [
        folder / f"{name}{suffix}" for suffix in (".parquet", ".csv") if (folder / f"{name}{suffix}").is_file()
    ]
    if len(candidates) > 1:
        raise DataError(f"{folder}: contains both {candidates[0].name} and {candidates[1].name}. Keep one of them.")
    return candidates[0] if candidates else None


def _is_file_simulated(path: Path) -> bool:
    """Parquet says so in its metadata, a CSV in the name of its folder."""
    return is_marked_simulated(path) if path.suffix == ".parquet" else "simulated" in path.parent.name


def _validate_companies(companies: pl.DataFrame, file: str) -> tuple[list[FieldError], str]:
    """Check ids and months; return the errors and the month that most rows name ('' if none does)."""
    rows = companies.select("company_id", "as_of").with_row_index("row", 1)
    if not rows.height:
        return [FieldError("company_id", "absent", "present in one row per company", "每家企业一行", None, file)], ""
    errors = [
        FieldError("company_id", f"{company!r}, which another row has too", "unique", "每家企业一行", row, file)
        for row, company, _ in rows.drop_nulls("company_id").filter(pl.col("company_id").is_duplicated()
        & ~pl.col("company_id").is_first_distinct()).iter_rows()
    ]  # fmt: skip
    numbered_rows = rows.with_columns(monthly_history.month_index("as_of").alias("at"))
    month_counts = (
        numbered_rows.drop_nulls("at")["as_of"].value_counts(sort=True).sort("count", "as_of", descending=[True, False])
    )
    month = month_counts["as_of"][0] if month_counts.height else ""
    expected = (
        (f"{month}, the month of the register", f"名录月份 {month}") if month else ("a month, YYYY-MM", "YYYY-MM")
    )
    errors += [
        FieldError("as_of", "missing" if actual is None else repr(actual), *expected, row, file)
        for row, _, actual in rows.filter(pl.col("as_of").ne_missing(pl.lit(month))).iter_rows()
    ]
    return errors, month


def _make_remarks(companies: pl.DataFrame, frames: Mapping[str, pl.DataFrame | None]) -> tuple[Remark, ...]:
    """Say which columns are missing and why, and which rows of links and invoices name no company of the register."""
    columns_by_file = {"history": MONTHLY_COLUMNS, "links": LINK_COLUMNS, "invoices": INVOICE_COLUMNS}
    remarks = [
        Remark(f"no_{name}", f"The {name} file is absent or empty; missing columns: {', '.join(missing_columns)}.",
               f"缺少 {name} 文件或文件为空，以下指标缺失：{'、'.join(missing_columns)}。")
        for name, missing_columns in columns_by_file.items() if (frame := frames[name]) is None or not frame.height
    ]  # fmt: skip
    history = frames["history"]
    if history is not None:
        unmatched_count = companies.height - companies.join(history, on="company_id", how="semi").height
        if unmatched_count:
            en = f"Companies without a monthly history: {unmatched_count:,}; their monthly indicators are missing."
            remarks.append(Remark("without_history", en, f"{unmatched_count:,} 家企业没有月度历史，其月度指标缺失。"))
    for name, id_columns in (("links", ["company_id"]), ("invoices", ["seller", "buyer"])):
        frame = frames[name]
        company_ids = companies["company_id"].implode()
        is_known = pl.any_horizontal(pl.col(id_column).is_in(company_ids) for id_column in id_columns)
        unknown_count = 0 if frame is None else frame.filter(~is_known).height
        if frame is not None and unknown_count:
            share = f"{unknown_count:,} of {frame.height:,}"
            en = f"Rows of {name} that name no company of the register: {share}. Check how ids are written."
            zh = f"{name} 中有 {unknown_count:,} 行（共 {frame.height:,} 行）不涉及名录内企业，请核对编号写法。"
            remarks.append(Remark(f"{name}_of_strangers", en, zh))
    return tuple(remarks)
