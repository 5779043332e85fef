"""The data scientist's pages: deployed models, two versions side by side, the gate, promotion and rollback."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from models import bundle
from models.evaluation_summary import CheckResult, FairnessRow, GateVerdict, Importance, MetricInterval, PlotData
from models.feature_encoder import encode
from models.metrics import calibration_bins
from models.trees.onnx_session import TabularSession
from tests.browser.conftest import screenshot
from tests.browser.console.conftest import axe
from tests.serving.conftest import bearer_of, indicators
from training.evaluation.metrics import BootstrapSamples, compute_intervals
from training.reporting.plot_data import build_curve, build_histogram, build_reliability, build_roc, to_metric_interval

PASSED = (
    CheckResult(
        name="discrimination", passed=True, found="AUC 0.7931 [0.7702, 0.8144]", needed="all of the interval over 0.5"
    ),
    CheckResult(
        name="policy",
        passed=True,
        found="every guard rail holds",
        needed="every guard rail proved",
        found_zh="全部护栏成立",
        needed_zh="全部护栏得到证明",
    ),
    CheckResult(
        name="better than the champion 1", passed=True, found="AUC differs by +0.0123 [+0.0031, +0.0214]", needed=""
    ),
)
FAILED = (*PASSED[:2], CheckResult(
    name="calibration slope", passed=False, found="0.7012 [0.6620, 0.7433]",
    needed="within 0.8 to 1.25, the interval too unless it holds 1", found_zh="0.7012 [0.6620, 0.7433]",
    needed_zh="在 0.8 至 1.25 之间，区间亦然（含 1 者除外）",
))  # fmt: skip


def evaluated_bundle(made, people, rows, checks):
    """The model with its evaluation on some households in its card, as training writes it."""
    frame = people[rows]
    scores = TabularSession(made.graph).run(encode(frame, made.card.inputs), reasons=True)
    y = frame[made.card.target].to_numpy().astype(float)
    intervals = compute_intervals(y, scores.pd, BootstrapSamples(len(y), 60))
    thresholds = np.linspace(0, 0.6, 61)
    profits = np.array(
        [np.where(scores.pd <= threshold, np.where(y == 1, -9_000, 1_400), 0).mean() for threshold in thresholds]
    )
    weights = np.abs(scores.contributions).mean(axis=0) * 29
    top = np.argsort(-weights)[:10]
    inputs = made.card.inputs
    groups = [("sex", "female", 0.97), ("sex", "male", 1.0), ("age", "18 to 34", 0.74), ("age", "35 to 59", 1.0)]
    plots = PlotData(
        unit="rows",
        rows=len(y),
        roc=(build_roc("model", y, scores.pd, intervals["auc"]),),
        reliability=build_reliability(calibration_bins(scores.pd, y == 1, 10)),
        spread=build_histogram("score", scores.points, y, 560.0),
        line=0.1,
        profit=build_curve("profit", thresholds, profits),
        currency="CNY",
        fairness=tuple(
            FairnessRow(
                attribute=name,
                value=value,
                rows=400,
                approval=MetricInterval(value=r, low=r - 0.03, high=r + 0.02),
                limit=MetricInterval(),
            )
            for name, value, r in groups
        ),
        weights=tuple(
            Importance(name=inputs[i].name, en=inputs[i].label, zh=inputs[i].label_zh, points=float(weights[i]))
            for i in top
        ),
    )
    card_fields = {
        "metrics": {"rows": len(y)}
        | {name: to_metric_interval(value).model_dump() for name, value in intervals.items()}
    }
    card_fields |= {"purpose_zh": "测算额度", "not_for_zh": "拒绝任何人"}
    card_fields |= {"plots": plots, "verdict": GateVerdict(passed=all(check.passed for check in checks), checks=checks)}
    return replace(made, card=made.card.model_copy(update=card_fields))


@pytest.fixture(scope="module")
def versions(console, made, people):
    """Version 1 serves and has no plots, 2 passed its gate and challenges it, 3 failed; 60 decisions have outcomes."""
    bundles = console.gateway.settings.paths.bundles
    evaluated_bundle(made, people, slice(0, 1_500), PASSED).publish(bundles, "2", champion=False)
    evaluated_bundle(made, people, slice(1_500, 3_000), FAILED).publish(bundles, "3", champion=False)
    bundle.set_alias(bundles / "credit_limit", "challenger", "2")
    headers = bearer_of(console.gateway.settings, "bank", tenant="demo")
    outcomes = []
    for i in range(60):
        body = {"indicators": indicators(people, made.card, i)}
        response = httpx.post(f"{console.address}/v1/credit-limits", json=body, headers=headers).json()
        outcome = "defaulted" if people["default_12m"][i] else "repaid"
        outcomes.append(
            {"decision_id": response["decision_id"], "outcome": outcome, "at": "2026-01-01", "source": "core"}
        )
    assert httpx.post(f"{console.address}/v1/outcomes", json={"outcomes": outcomes}, headers=headers).status_code == 200
    return bundles / "credit_limit"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_scientist_compares_versions_reads_the_gate_promotes_and_rolls_back(open_page, versions, language):
    bundle.set_alias(versions, "challenger", "2")
    page = open_page("scientist", language=language)
    page.wait_for_selector(".model-card")
    assert page.locator(".model-card").count() == 3
    assert axe(page) == []
    screenshot(page, f"models_{language}")
    page.click(".model-card a >> text=credit_limit")
    page.wait_for_selector(".checks li")
    page.wait_for_selector(".plots.three .plot")
    empty = {"en": "has no plot data", "zh": "不含绘图数据"}[language]
    assert page.locator(".empty", has_text=empty).count() == 1, "the champion's card has no plots"
    page.check('input[name="first"][value="3"]')
    page.wait_for_selector(".checks .bad")
    purpose = page.locator(".page-head").inner_text()
    assert {"en": "Not for:", "zh": "不适用于："}[language] in purpose
    checks = page.locator(".checks", has=page.locator(".bad")).inner_text()
    assert {"en": "every guard rail holds", "zh": "全部护栏成立"}[language] in checks
    assert {"en": "Required: within 0.8 to 1.25", "zh": "要求：在 0.8 至 1.25 之间"}[language] in checks
    assert checks.count("0.7012") == 1
    assert page.locator(".plots:not(.three) .card").count() >= 7
    refusal = {"en": "It cannot be promoted", "zh": "不得上线"}[language]
    assert page.locator(".card", has_text=refusal).count() == 1
    assert axe(page) == []
    screenshot(page, f"versions_{language}")
    first, verb = ("Promote this version", "Promote") if language == "en" else ("回退到该版本", "确认回退")
    page.click(f"button >> text={first}")
    promotion_reason, rollback_reason = f"it ranks better ({language})", f"too many complaints ({language})"
    page.fill(".promotion-form input", promotion_reason)
    page.click(f".promotion-form button >> text={verb}")
    page.wait_for_selector(f"td >> text={promotion_reason}")
    assert bundle.read_alias(versions) == "2"
    page.wait_for_selector(f".page-head >> text={'anything else' if language == 'en' else '拒绝任何人'}")
    page.check('input[name="first"][value="1"]')
    page.click(f"button >> text={'Roll back to this version' if language == 'en' else '回退到该版本'}")
    page.fill(".promotion-form input", rollback_reason)
    page.click(f".promotion-form button >> text={'Roll back' if language == 'en' else '确认回退'}")
    page.wait_for_selector(f"td >> text={rollback_reason}")
    assert bundle.read_alias(versions) == "1"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_version_forced_past_its_gate_is_marked_on_every_page_and_offered_for_no_rollback(
    open_page, console, versions, people, made, language
):
    address = f"{console.address}/v1/models/credit_limit"
    body = {"version": "3", "reason": f"agreed by the committee ({language})", "force": True}
    for name in ("chen.lan", "li.wei"):
        headers = bearer_of(console.gateway.settings, "scientist", tenant="demo", subject=name)
        assert httpx.post(f"{address}/champion", json=body, headers=headers).status_code in (200, 202)
    wait_until_serving(address, headers, "3")
    case = {"indicators": indicators(people, made.card, 0)}
    bank = bearer_of(console.gateway.settings, "bank", tenant="demo")
    decision_id = httpx.post(f"{console.address}/v1/credit-limits", json=case, headers=bank).json()["decision_id"]
    chip = {"en": "forced past its gate", "zh": "强制上线"}[language]
    try:
        scientist = open_page("scientist", language=language)
        for path, selectors in (
            ("/console/models", (".model-card .chip.bad", ".model-card .refusal")),
            ("/console/models/credit_limit", ("table .chip.bad", ".card > .refusal")),
        ):
            scientist.goto(path)
            for selector in selectors:
                expect(
                    scientist.locator(selector, has_text=chip if "chip" in selector else body["reason"]).first
                ).to_be_visible()
            assert axe(scientist) == []
        history = scientist.locator("tr", has_text=body["reason"]).first
        expect(history).to_contain_text("chen.lan, li.wei")
        operator = open_page("operator", language=language)
        expect(operator.locator(".forced-promotions tr", has_text=body["reason"])).to_contain_text("li.wei")
        expect(operator.locator("td .chip.bad", has_text=chip)).to_have_count(1)
        assert axe(operator) == []
        screenshot(operator, f"operator_forced_{language}")
        auditor = open_page("auditor", language=language, width=820)
        row = auditor.locator("tr", has=auditor.locator(f"a[href$='{decision_id}']"))
        expect(row.locator(".chip.bad")).to_have_text(chip)
        assert axe(auditor) == []
        auditor.goto(f"/console/audit/decisions/{decision_id}")
        expect(auditor.locator(".refusal")).to_contain_text(body["reason"])
        screenshot(auditor, f"audit_forced_{language}")
    finally:
        httpx.post(f"{address}/champion", json={"version": "1", "reason": "back"}, headers=headers)
        wait_until_serving(address, headers, "1")
    bundle.set_alias(versions, "challenger", "2")  # so that 3 is not on the right already
    scientist.reload()
    scientist.check('input[name="first"][value="3"]')
    gate = scientist.locator(".card", has=scientist.locator(".checks .bad"))
    expect(gate).to_contain_text({"en": "It cannot be promoted", "zh": "不得上线"}[language])
    assert gate.locator("button").count() == 0


def wait_until_serving(address, headers, version):
    for _ in range(200):
        if httpx.get(f"{address}/versions/{version}", headers=headers).json()["serving"]:
            return
        time.sleep(0.1)
    raise AssertionError(f"{version} does not serve")


def test_versions_can_be_compared_on_a_tablet_by_keyboard(open_page, versions):
    page = open_page("scientist", width=820, height=1180, path="/console/models/credit_limit")
    page.wait_for_selector(".checks li")
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "nothing is cut off on the right"
    page.focus('input[name="second"]:checked')
    page.keyboard.press("ArrowDown")
    page.wait_for_selector('input[name="second"]:checked')
    assert axe(page) == []
    screenshot(page, "versions_tablet")


def test_an_unknown_model_has_an_error_message(open_page, versions):
    page = open_page("scientist", path="/console/models/none")
    page.wait_for_selector(".refusal")
    page.errors[:] = [error for error in page.errors if "404" not in error]


def test_a_card_with_plots_stays_small(versions):
    assert len(json.dumps(json.loads((versions / "2/card.json").read_text())["plots"])) < 40_000
