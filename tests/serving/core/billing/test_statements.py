"""Each answer is charged once at the price of its day, and each line of a statement has a receipt."""

from __future__ import annotations

import csv
import io
import json

import pytest

from serving.core.audit.verify import ReceiptVerifier, load_public_key
from serving.core.billing.prices import Prices, PricesError
from serving.core.billing.statements import month_bounds
from tests.serving.conftest import ROOT, run_inside

PRICES = """
[[versions]]
version = "2026-11"
from = "2026-11-01T00:00:00.000Z"
[versions.products]
credit_limit = { rule = "free" }
scitech_risk = { rule = "market", fen = 300, agreed = { local = 180 } }
pathology = { rule = "set", fen = 1500 }
"""


@pytest.fixture
def priced(settings, tmp_path):
    (tmp_path / "prices.toml").write_text(PRICES)
    paths = settings.paths.model_copy(update={"prices": tmp_path / "prices.toml"})
    return settings.model_copy(update={"paths": paths})


def test_a_statement_has_one_line_per_use_with_its_receipt(priced, applicant, company):
    async def story(client, gateway):
        for _ in range(2):
            await client.post("/v1/credit-limits", json={"indicators": applicant})
        request = {"json": {"indicators": company}, "headers": {"Idempotency-Key": "once"}}
        answers = [(await client.post("/v1/scitech-risks", **request)).json() for _ in range(3)]
        batch = {"content": b"declared_income\n5\n-6\n7\n", "headers": {"Content-Type": "text/csv"}}
        await client.post("/v1/credit-limits/batch", **batch)
        month = answers[0]["created"][:7]
        statement = (await client.get(f"/v1/statements/{month}")).json()
        text = (await client.get(f"/v1/statements/{month}?format=csv")).text
        ndjson = (await client.get(f"/v1/statements/{month}?format=ndjson")).text
        other = (await client.get("/v1/statements/1999-12")).json()
        verifier = ReceiptVerifier(load_public_key(gateway.settings.paths.log_key.with_suffix(".pub.pem").read_bytes()))
        for line in statement["lines"]:
            receipt = (await client.get(line["receipt"])).json()
            verifier.verify(receipt)
            assert receipt["index"] == line["leaf"]
            price = {name: line[name] for name in ("rules", "rule", "fen", "units")}
            assert receipt["leaf"]["price"].items() >= price.items()
        return statement, text, ndjson, other

    statement, text, ndjson, other = run_inside(priced, story)
    assert [line["units"] for line in statement["lines"]] == [1, 1, 1, 2]
    assert statement["totals"] == [
        {"product": "credit_limit", "rules": "2026-11", "rule": "free", "lines": 3, "units": 4, "fen": 0},
        {"product": "scitech_risk", "rules": "2026-11", "rule": "market", "lines": 1, "units": 1, "fen": 180},
    ]
    assert statement["fen"] == 180
    assert [json.loads(line) for line in ndjson.splitlines()] == statement["lines"]
    assert [int(line["leaf"]) for line in csv.DictReader(io.StringIO(text))] == [
        line["leaf"] for line in statement["lines"]
    ]
    assert (other["lines"], other["totals"], other["fen"]) == ([], [], 0)


def test_an_invalid_month_or_format_is_refused(inside):
    async def story(client, gateway):
        response = await client.get("/v1/statements/2026-13?format=pdf")
        assert response.status_code == 422
        assert {fault["field"] for fault in response.json()["errors"]} == {"month", "format"}

    inside(story)


def test_a_month_ends_where_the_next_begins():
    assert month_bounds("2026-12") == ("2026-12", "2027-01")
    assert month_bounds("2026-09") == ("2026-09", "2026-10")


def test_a_price_applies_from_its_start(tmp_path):
    later = PRICES.replace("2026-11", "2027-01").replace('"free"', '"set", fen = 50')
    (tmp_path / "prices.toml").write_text(PRICES + later)
    prices = Prices.load(tmp_path / "prices.toml")
    assert prices.price_for("credit_limit", "t", "2026-12-31T23:59:59.999Z").fen == 0
    assert prices.price_for("credit_limit", "t", "2027-01-01T00:00:00.000Z").fen == 50
    assert prices.price_for("scitech_risk", "t", "2026-12").fen == 300


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"free"', '"free", fen = 3'),
        ('rule = "set"', 'rule = "set", agreed = { local = 1 }'),
        ("fen = 300", "fen = -1"),
        ("fen = 300", "fen = 1.5"),
        ('pathology = { rule = "set", fen = 1500 }', ""),
        ("[[versions]]", "[[version]]"),
    ],
)
def test_invalid_prices_are_refused(tmp_path, old, new):
    (tmp_path / "prices.toml").write_text(PRICES.replace(old, new))
    with pytest.raises(PricesError, match="no request is answered without a price"):
        Prices.load(tmp_path / "prices.toml")


def test_the_shipped_prices_load():
    assert Prices.load(ROOT / "configs/prices.toml").price_for("credit_limit", "t", "2026-11-25").rule == "free"
