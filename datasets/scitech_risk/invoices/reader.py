"""Read invoices from tables of any format: headings are recognised in English and Chinese, or named by a config.

invoices = read_invoices([Path("进项发票.xlsx"), Path("销项发票.xlsx")])      # invoices.frame, invoices.remarks

A table of purchases alone or of sales alone needs no column of directions: its heading for the other party tells
which it is (销方 sells, 购方 buys). A row that cannot be used is left out and named. A repeated row with an
invoice number counts once; without numbers, equal rows are different invoices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from datasets.errors import FieldError, InvalidTableError, UnreadableFileError, did_you_mean
from datasets.tables.reader import read_raw
from datasets.tables.values.dates import infer_date_form, parse_mixed
from datasets.tables.values.marks import MISSING_MARKS, NONE_WORDS, missing_mask, strip_blanks
from datasets.tables.values.numbers import infer_format, parse_numbers

SELLER_HEADINGS = ("seller", "supplier", "销方单位代号", "销方", "销方名称", "销售方", "销售方名称", "供应商")
BUYER_HEADINGS = ("buyer", "customer", "购方单位代号", "购方", "购方名称", "购买方", "购买方名称", "客户")
HEADINGS = {
    "company": ("company", "company_id", "企业代号", "企业代码", "企业编号", "统一社会信用代码", "纳税人识别号"),
    "number": ("invoice_no", "invoice_number", "number", "发票号码", "发票号"),
    "date": ("date", "invoice_date", "开票日期", "日期"),
    "counterparty": ("counterparty", "对方代号", "对方名称", "交易对方", *SELLER_HEADINGS, *BUYER_HEADINGS),
    "amount": ("amount", "net_amount", "金额", "不含税金额"),
    "tax": ("tax", "vat", "税额"),
    "state": ("state", "status", "invoice_status", "发票状态", "状态"),
    "direction": ("direction", "进销项", "进销方向", "方向"),
}
OPTIONAL = ("number", "tax", "state", "direction")
VALID_WORDS = ("valid", "normal", "有效", "有效发票", "正常", "正常发票")
VOID_WORDS = ("void", "voided", "cancelled", "canceled", "作废", "作废发票", "已作废")
IN_WORDS = ("in", "purchase", "input", "进", "进项", "进项发票", "采购")
OUT_WORDS = ("out", "sale", "output", "销", "销项", "销项发票", "销售")
MAX_UNUSABLE_SHARE = 0.05  # of the rows; with more, the table is refused
EXPECTED = {
    "company": ("a company", "企业代号"),
    "date": ("a date", "日期"),
    "counterparty": ("the other party", "交易对方"),
    "amount": ("a number", "数值"),
    "tax": ("a number or no value", "数值或空值"),
    "state": (f"{', '.join(VALID_WORDS)}, or {', '.join(VOID_WORDS)}", "“有效”或“作废”"),
    "direction": (f"{', '.join(IN_WORDS)}, or {', '.join(OUT_WORDS)}", "“进项”或“销项”"),
}
FRAME = pl.Schema(
    {
        "company": pl.String, "number": pl.String, "date": pl.Date, "counterparty": pl.String, "amount": pl.Float64,
        "tax": pl.Float64, "void": pl.Boolean, "sale": pl.Boolean,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Invoices:
    """Invoices, one a row, with the columns of FRAME. remarks: what was left out, a sentence each."""

    frame: pl.DataFrame
    remarks: tuple[str, ...] = ()
    faults: tuple[FieldError, ...] = ()


def read_invoices(paths: Sequence[Path], headings: Mapping[str, str] | None = None) -> Invoices:
    """All invoices of one or several tables. headings: column -> heading, where it is none of HEADINGS.

    Raises UnreadableFileError where a column is missing, InvalidTableError where too many rows cannot be used.
    """
    headings = headings or {}
    if unknown := [name for name in headings if name not in HEADINGS]:
        hint = did_you_mean(unknown[0], [*HEADINGS])
        raise UnreadableFileError(
            f"{unknown[0]!r} is no column of an invoice; these are: {', '.join(HEADINGS)}{hint}.",
            f"发票没有“{unknown[0]}”这一列；可用的列为：{'、'.join(HEADINGS)}。",
        )
    tables = [_read_table(path, headings) for path in paths]
    frame = pl.concat([table.frame for table in tables])
    is_repeated = frame["number"].is_not_null() & ~frame.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    distinct = frame.filter(~is_repeated)
    remarks = [remark for table in tables for remark in table.remarks]
    if repeated := frame.height - distinct.height:
        remarks.append(f"{repeated:,} repeated {'row is' if repeated == 1 else 'rows are'} left out.")
    return Invoices(distinct, tuple(remarks), tuple(fault for table in tables for fault in table.faults))


def _read_table(path: Path, headings: Mapping[str, str]) -> Invoices:
    known = [heading for names in HEADINGS.values() for heading in names]
    raw = read_raw(path, known_names=[*known, *headings.values()])
    columns = _find_columns(raw.frame.columns, headings, path)
    party = columns["counterparty"]
    texts = {name: _as_text(raw.frame[heading]) for name, heading in columns.items()}
    rows = raw.frame.height
    read: dict[str, pl.Series] = {name: texts[name] for name in ("company", "counterparty")}
    read["number"] = texts.get("number", pl.repeat(None, rows, dtype=pl.String, eager=True))
    read["date"] = _read_dates(raw.frame[columns["date"]], texts["date"])
    for name in ("amount", "tax"):
        read[name] = (
            _read_numbers(raw.frame[columns[name]], texts[name])
            if name in columns
            else pl.repeat(None, rows, dtype=pl.Float64, eager=True)
        )
    read["void"] = (
        _read_words(texts["state"], VOID_WORDS, VALID_WORDS)
        if "state" in columns
        else pl.repeat(False, rows, dtype=pl.Boolean, eager=True)
    )
    read["sale"] = (
        _read_words(texts["direction"], OUT_WORDS, IN_WORDS)
        if "direction" in columns
        else pl.repeat(party.lower() in BUYER_HEADINGS, rows, dtype=pl.Boolean, eager=True)
    )
    unusable = {
        "company": read["company"].is_null(), "date": read["date"].is_null(),
        "counterparty": read["counterparty"].is_null(), "amount": read["amount"].is_null(),
        "tax": read["tax"].is_null() & texts["tax"].is_not_null() if "tax" in texts else None,
        "state": read["void"].is_null(), "direction": read["sale"].is_null(),
    }  # fmt: skip
    faults, is_unusable = list(raw.faults), pl.repeat(False, rows, dtype=pl.Boolean, eager=True)
    for name, mask in unusable.items():
        if mask is None or not mask.any():
            continue
        is_unusable |= mask
        for index in mask.arg_true().to_list():
            value = raw.frame[columns[name]][index]
            actual = "empty" if value is None else repr(value)
            faults.append(raw.locate(FieldError(columns[name], actual, *EXPECTED[name], index + 1, path.name)))
    count = int(is_unusable.sum()) + len(raw.faults)
    if count > MAX_UNUSABLE_SHARE * (rows + len(raw.faults)):
        raise InvalidTableError(faults)
    frame = pl.DataFrame({name: read[name].rename(name) for name in FRAME}, schema=FRAME).filter(~is_unusable)
    remarks = [f"{path.name}: {remark}" for remark in raw.remarks]
    if count:
        verb = "row is" if count == 1 else "rows are"
        remarks.append(f"{path.name}: {count:,} {verb} left out, because a value cannot be used.")
    return Invoices(frame, tuple(remarks), tuple(faults))


def _find_columns(names: Sequence[str], headings: Mapping[str, str], path: Path) -> dict[str, str]:
    """Column of an invoice -> heading in the table."""
    by_lower = {name.strip().lower(): name for name in names}
    columns = {}
    missing = []
    for name, recognised in HEADINGS.items():
        candidates = (headings[name],) if name in headings else recognised
        matches = [by_lower[heading.lower()] for heading in candidates if heading.lower() in by_lower]
        if matches:
            columns[name] = matches[0]
        elif name not in OPTIONAL or name in headings:
            missing.append((name, candidates))
    if missing:
        listed = "; ".join(f"{name} ({', '.join(candidates[:6])})" for name, candidates in missing)
        raise UnreadableFileError(
            f"{path}: no heading is recognised for {listed}. Its headings are {', '.join(names)}. Rename them, or name "
            'them in a TOML file: company = "...", and give it by --columns.',
            f"{path}：未识别出以下各列的表头：{listed}。现有表头：{'、'.join(names)}。"
            "请修改表头，或在 TOML 文件中指定（company = “……”），并用 --columns 传入。",
        )
    party = columns["counterparty"].lower()
    parties = [heading for heading in (*SELLER_HEADINGS, *BUYER_HEADINGS) if heading in by_lower]
    if "counterparty" not in headings and {*parties} & {*SELLER_HEADINGS} and {*parties} & {*BUYER_HEADINGS}:
        raise UnreadableFileError(
            f"{path}: it names sellers and buyers ({', '.join(parties)}), so which of them is the other party is not "
            "stated. Split it into purchases and sales, and leave out the company's own column.",
            f"{path}：表中同时有销方与购方（{'、'.join(parties)}），无法判断交易对方。请按进项、销项分成两表，并去掉本企业所在的一列。",
        )
    if "direction" not in columns and party not in (*SELLER_HEADINGS, *BUYER_HEADINGS):
        raise UnreadableFileError(
            f"{path}: whether an invoice is a purchase or a sale is not stated. Add a column 'direction' with 'in' or "
            f"'out', or name the other party {SELLER_HEADINGS[0]!r} or {BUYER_HEADINGS[0]!r}.",
            f"{path}：未说明发票为进项或销项。请增加“进销项”一列，或将交易对方的表头写为“销方”或“购方”。",
        )
    return columns


def _as_text(values: pl.Series) -> pl.Series:
    """The values as text without blanks around them; null for a mark of a missing value."""
    text = strip_blanks(values.cast(pl.String))
    is_missing = missing_mask(text, (*MISSING_MARKS, *NONE_WORDS))
    return text.set(is_missing, None) if is_missing.any() else text


def _read_dates(values: pl.Series, text: pl.Series) -> pl.Series:
    if values.dtype.is_temporal():
        return values.cast(pl.Date)
    form = infer_date_form(text, values.name).form
    return parse_mixed(text, form) if form else pl.repeat(None, len(text), dtype=pl.Date, eager=True)


def _read_numbers(values: pl.Series, text: pl.Series) -> pl.Series:
    if values.dtype.is_numeric():
        numbers = values.cast(pl.Float64)
        return numbers.set(~numbers.is_finite().fill_null(True), None)
    return parse_numbers(text, infer_format(text).format)


def _read_words(text: pl.Series, yes: Sequence[str], no: Sequence[str]) -> pl.Series:
    lower = text.str.to_lowercase()
    return lower.replace_strict(
        {**dict.fromkeys(yes, True), **dict.fromkeys(no, False)}, default=None, return_dtype=pl.Boolean
    )
