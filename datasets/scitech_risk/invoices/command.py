"""Compute the indicators of companies from tables of invoices, and write them as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from datasets.errors import MAX_LISTED_ERRORS, UnreadableFileError
from datasets.files.config_file import ConfigFileError, read_toml
from datasets.scitech_risk.invoices.features import COLUMNS, compute_features
from datasets.scitech_risk.invoices.reader import read_invoices

SUFFIXES = (".parquet", ".csv")


def run(files: Sequence[Path], out: Path, columns: Path | None = None, as_of: str | None = None) -> str:
    """Write the table of companies; return what was read, left out and written. Raises DataError."""
    if out.suffix.lower() not in SUFFIXES:
        raise UnreadableFileError(
            f"{out}: a table of companies is written as {' or '.join(SUFFIXES)}.",
            f"{out}：企业指标表只能写为 {'、'.join(SUFFIXES)}。",
        )
    invoices = read_invoices(files, _read_headings(columns) if columns else None)
    if invoices.frame.is_empty():
        raise UnreadableFileError("The tables have no invoice.", "数据表中没有发票。")
    features = compute_features(invoices.frame, _read_day(as_of) if as_of else None)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    try:
        if out.suffix.lower() == ".csv":
            features.write_csv(partial)
        else:
            features.write_parquet(partial)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    faults = [str(fault) for fault in invoices.faults[:MAX_LISTED_ERRORS]]
    if len(invoices.faults) > len(faults):
        faults.append(f"... and {len(invoices.faults) - len(faults):,} more.")
    written = (
        f"{invoices.frame.height:,} invoices of {features.height:,} companies: {len(COLUMNS)} indicators each, in {out}"
    )
    return "\n".join([*invoices.remarks, *faults, written])


def _read_headings(path: Path) -> dict[str, str]:
    try:
        headings = read_toml(path)
    except ConfigFileError as error:
        raise UnreadableFileError(str(error)) from error
    if wrong := [name for name, heading in headings.items() if not isinstance(heading, str)]:
        raise UnreadableFileError(
            f"{path}: {wrong[0]} must be a heading in quotes, such as {wrong[0]} = '企业代号'.",
            f"{path}：{wrong[0]} 应为加引号的表头，如 {wrong[0]} = '企业代号'。",
        )
    return headings


def _read_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UnreadableFileError(
            f"--as-of is {text!r}; it must be a day such as 2024-12-31.",
            f"--as-of 为 {text!r}；应为日期，如 2024-12-31。",
        ) from error
