"""The answers of a month are counted in the store and refused above the tenant's quota."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from serving.core.billing import quotas
from serving.core.billing.quotas import used
from tests.serving.conftest import bearer_of, run_inside, settings_for
from tests.serving.core.security.test_rate_limits import limited


@pytest.fixture
def guarded_settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true")


@pytest.fixture
def month(monkeypatch):
    """Stop the clock: a month that ended during a test would start a new count."""

    class FixedTime(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 25, 12, tzinfo=tz)

    monkeypatch.setattr(quotas, "datetime", FixedTime)
    return f"{FixedTime.now(UTC):%Y-%m}"


def test_answers_of_a_month_are_counted_across_restarts_and_refused_above_the_quota(
    guarded_settings, applicant, people, made, month
):
    settings, body = limited(guarded_settings, monthly=4), {"indicators": applicant}

    async def first(client, gateway):
        bank = bearer_of(gateway.settings, "bank", tenant="east")
        for key in ("a", "b", "b"):  # the second "b" repeats a request
            response = await client.post("/v1/credit-limits", json=body, headers=bank | {"Idempotency-Key": key})
            assert response.status_code == 200
        invalid = await client.post("/v1/credit-limits", json={"indicators": {"x": 1}}, headers=bank)
        assert invalid.status_code == 422

    async def second(client, gateway):
        bank = bearer_of(gateway.settings, "bank", tenant="east")
        assert used(gateway.service.store.reader, "east", month) == 2
        columns = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
        csv = people.head(2).select(columns).write_csv().encode()
        headers = bank | {"Content-Type": "text/csv"}
        assert (await client.post("/v1/credit-limits/batch", content=csv, headers=headers)).status_code == 200
        await asyncio.sleep(0)
        for path, request in (("", {"json": body, "headers": bank}), ("/batch", {"content": csv, "headers": headers})):
            refused = await client.post("/v1/credit-limits" + path, **request)
            assert (refused.status_code, refused.json()["type"]) == (429, "/problems/quota_used")
            assert 1 <= int(refused.headers["retry-after"]) <= 31 * 86_400
        again = await client.post("/v1/credit-limits", json=body, headers=bank | {"Idempotency-Key": "a"})
        assert again.status_code == 200  # a repeated request costs nothing
        other = bearer_of(gateway.settings, "bank", tenant="west")
        assert (await client.post("/v1/credit-limits", json=body, headers=other)).status_code == 200

    run_inside(settings, first)
    run_inside(settings, second)


def test_counts_are_flushed_while_the_service_runs(guarded_settings, applicant, monkeypatch, month):
    monkeypatch.setattr(quotas, "FLUSH_SECONDS", 0.05)

    async def story(client, gateway):
        bank = bearer_of(gateway.settings, "bank", tenant="east")
        for _ in range(3):
            await client.post("/v1/credit-limits", json={"indicators": applicant}, headers=bank)
        async with asyncio.timeout(20):
            while used(gateway.service.store.reader, "east", month) < 3:
                await asyncio.sleep(0.02)
        assert used(gateway.service.store.reader, "east", month) == 3
        assert not gateway.service.quota._unsaved

    run_inside(limited(guarded_settings, monthly=100), story)
