import base64
import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest

from models.scitech_risk.messages import REFERRALS
from tests.paths import ROOT
from tests.training.portfolio.portfolio_fixtures import answers, portfolio_data
from training.portfolio import labels, report
from training.portfolio.aggregates import LIMIT_EXPR
from training.portfolio.stress import CONFIG, load_shocks
from training.portfolio.summary import compute_figures

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
SECTIONS = {"headline", "grades", "migration", "exposure", "concentration", "gate", "warnings", "stress", "person",
            "quality", "about"}  # fmt: skip
ABOUT = {
    "model": "scitech_risk", "version": "2", "bundle": "ab" * 32, "policy_version": "2026.1", "month": "2026-10",
    "simulated": True, "simulated_register": True,
    "created": "2026-11-01 00:00 UTC", "trained": "2026-10-10T00:00:00Z", "purpose": "tests",
    "not_for": "anything else.", "judged": "AUC 0.8", "trained_on": "", "lgd": 0.6, "ccf": 0.75, "floor": "B",
    "first_below": "CCC", "run": "abc", "git_commit": "", "remarks": [(HOSTILE, "缺少 invoices 文件。")],
    "inputs": [{"name": "companies.parquet", "rows": 300, "sha256": "0" * 64}],
}  # fmt: skip

SHOCKS = load_shocks(ROOT / CONFIG).shocks


class Page(HTMLParser):
    """The tags, links, sections and event handlers of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.sections, self.handlers = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        self.handlers += [name for name in attributes if name.startswith("on")]
        self.sections += [attributes["data-section"]] if "data-section" in attributes else []


def render(current, previous=None, shocks=SHOCKS, **about):
    """The page and its figures."""
    stressed = [(shock, answers(current.height, 5, "2026-10", 40, 0.8)) for shock in shocks]
    figures = compute_figures(portfolio_data(current, previous, stressed))
    limits = current.select(LIMIT_EXPR).to_series().to_list()
    return report.render(figures, ABOUT | about, limits, {}, "1"), figures


@pytest.fixture(scope="module")
def current():
    hostile = pl.when(pl.col("row") == 5).then(pl.lit(HOSTILE)).otherwise(pl.col("company_id"))
    largest = pl.when(pl.col("row") == 5).then(90_000_000).otherwise(pl.col("limit"))
    return answers(300, 2, "2026-10", 40).with_columns(company_id=hostile, limit=largest)


def test_the_page_has_every_section_with_and_without_a_previous_run(current):
    assert set(Page(render(current, answers(300))[0]).sections) == SECTIONS
    assert set(Page(render(current, shocks=())[0]).sections) == SECTIONS


def test_a_hostile_company_id_is_escaped(current):
    text, _ = render(current, answers(300))
    parsed = Page(text)
    assert "script" not in parsed.tags
    assert not parsed.handlers
    assert "<script" not in text
    assert "&lt;script&gt;alert" in text
    assert "{{ 7 * 7 }}" in text


def test_the_page_loads_nothing(current):
    text, _ = render(current, answers(300))
    parsed = Page(text)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
    assert all(link.startswith(("data:image/svg+xml;base64,", "#")) for link in parsed.links)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text)
    for link in parsed.links:
        if link.startswith("data:"):
            assert "<script" not in base64.b64decode(link.split(",")[1]).decode()


def test_a_simulated_register_is_marked_as_simulated_and_a_real_one_is_not(current):
    assert 'class="simulated"' in render(current)[0]
    assert 'class="simulated"' not in render(current, simulated=False, simulated_register=False)[0]


def test_every_reason_for_a_referral_has_a_label():
    codes = set(REFERRALS) - {"person_asked_for"}  # nobody requests a person in a register
    assert codes == set(labels.REFERRALS)


def test_the_totals_are_those_of_the_answers(current):
    text, figures = render(current, answers(300))
    limit, loss = current["limit"].sum(), current["expected_loss"].sum()
    assert f"RMB {report.money_en(limit)}" in text
    assert f"<td>{report.format_millions(limit)}</td><td>{report.format_thousands(loss)}</td>" in text
    assert figures["stress"][0]["limit"] == limit


def test_the_text_is_in_english_and_chinese_side_by_side(current):
    text, _ = render(current, answers(300))
    pairs = re.findall(r'<div class="both"><p>(.*?)</p><p lang="zh-CN">(.*?)</p></div>', text, re.S)
    assert len(pairs) > 15
    assert all(re.search(r"[A-Za-z]", en) and re.search(r"[\u4e00-\u9fff]", zh) for en, zh in pairs)


def test_the_assumptions_of_every_shock_are_stated(current):
    text, _ = render(current)
    for shock in load_shocks(ROOT / CONFIG).shocks:
        assert shock.why_zh in text
        assert all(effect.describe() in text for effect in shock.effects)


def test_a_register_of_one_blocked_company_has_a_report(current):
    company = current.filter(pl.col("gate") == "block").head(1)
    text, figures = render(company, shocks=())
    assert set(Page(text).sections) == SECTIONS
    assert json.dumps(figures, allow_nan=False)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower()


@pytest.mark.parametrize(
    ("value", "en", "zh"),
    [(1_234_567_890, "1.23 bn", "12.35 亿"), (45_600_000, "45.6 m", "4,560.0 万"), (7_800, "7.8 k", "7,800 ")],
)
def test_money_is_formatted_as_each_language_counts_it(value, en, zh):
    assert (report.money_en(value), report.money_zh(value)) == (en, zh)
