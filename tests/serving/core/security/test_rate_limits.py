"""How much a tenant may ask: beyond it 429 with the seconds to wait, and no other tenant feels it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.billing.quotas import used
from serving.core.http.problems import ProblemError
from serving.core.security import rate_limits
from serving.settings import DEFAULT_FILE, RateLimitSettings, TenantLimit, load_settings
from tests.serving.conftest import bearer_of, run_inside, settings_for

FEW = {"YUHENG_ACCESS_REQUIRED": "true"}


def limited(settings, **changed):
    told = {"per_second": 0.0, "burst": 1.0, "monthly": 0} | changed
    tenants = told.pop("tenants", {})
    return settings.model_copy(
        update={
            "rate": RateLimitSettings(**told, tenants={name: TenantLimit(**most) for name, most in tenants.items()})
        }
    )


@pytest.fixture
def asked_for(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, **FEW)


def test_who_asks_too_fast_waits_and_nobody_else_does(asked_for):
    async def story(client, gateway):
        east, west = (bearer_of(gateway.settings, "bank", tenant=tenant) for tenant in ("east", "west"))
        statuses = [(await client.get("/v1/models", headers=east)).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = await client.get("/v1/models", headers=east)
        assert refused.json()["type"] == "/problems/rate_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert (await client.get("/v1/models", headers=west)).status_code == 200
        assert (await client.get("/healthz/live")).status_code == 200
        gateway.authenticator.rate_limiter._buckets["east"] = (
            0.0,
            gateway.authenticator.rate_limiter._buckets["east"][1] - 10,
        )  # ten seconds later
        assert (await client.get("/v1/models", headers=east)).status_code == 200

    run_inside(limited(asked_for, per_second=0.1, burst=3), story)


def test_a_tenant_may_be_given_more_than_the_others(asked_for):
    more = {"east": {"per_second": 0.001, "burst": 20.0, "monthly": 0}}

    async def story(client, gateway):
        for tenant, fine in (("east", 20), ("west", 2)):
            headers = bearer_of(gateway.settings, "bank", tenant=tenant)
            statuses = [(await client.get("/v1/models", headers=headers)).status_code for _ in range(25)]
            assert statuses.count(200) == fine

    run_inside(limited(asked_for, per_second=0.001, burst=2, tenants=more), story)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.integers(1, 5), st.floats(0.5, 20))
def test_no_more_is_let_through_than_the_bucket_and_what_flows_into_it(waits, burst, per_second):
    bucket, at, passed = (
        rate_limits.RateLimiter(RateLimitSettings(per_second=per_second, burst=burst, monthly=0)),
        [0.0],
        0,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rate_limits.time, "monotonic", lambda: at[0])
        for wait in waits:
            at[0] += wait
            with suppress(ProblemError):
                bucket.acquire("east")
                passed += 1
    assert 1 <= passed <= burst + at[0] * per_second + 1e-6


def test_the_buckets_held_are_bounded(monkeypatch):
    monkeypatch.setattr(rate_limits, "MAX_BUCKETS", 10)
    bucket = rate_limits.RateLimiter(RateLimitSettings(per_second=1, burst=2, monthly=0))
    for i in range(100):
        bucket.acquire(str(i))
    assert len(bucket._buckets) == 10


@pytest.fixture
def one_month(monkeypatch):
    """Answers are counted by month: one that ended in the midst of a test would begin its count anew."""

    class Still(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 25, 12, tzinfo=tz)

    monkeypatch.setattr(rate_limits, "datetime", Still)
    return f"{Still.now(UTC):%Y-%m}"


def test_a_months_answers_are_counted_kept_over_a_restart_and_refused_beyond(
    asked_for, applicant, people, made, one_month
):
    settings, body = limited(asked_for, monthly=4), {"indicators": applicant}

    async def first(client, gateway):
        bank = bearer_of(gateway.settings, "bank", tenant="east")
        for key in ("a", "b", "b"):  # the same request again is no new answer
            found = await client.post("/v1/credit-limits", json=body, headers=bank | {"Idempotency-Key": key})
            assert found.status_code == 200
        wrong = await client.post("/v1/credit-limits", json={"indicators": {"x": 1}}, headers=bank)
        assert wrong.status_code == 422

    async def then(client, gateway):
        bank = bearer_of(gateway.settings, "bank", tenant="east")
        assert used(gateway.service.store.reader, "east", one_month) == 2
        columns = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
        csv = people.head(2).select(columns).write_csv().encode()
        sent = bank | {"Content-Type": "text/csv"}
        assert (await client.post("/v1/credit-limits/batch", content=csv, headers=sent)).status_code == 200
        await asyncio.sleep(0)
        for place, more in (("", {"json": body, "headers": bank}), ("/batch", {"content": csv, "headers": sent})):
            refused = await client.post("/v1/credit-limits" + place, **more)
            assert (refused.status_code, refused.json()["type"]) == (429, "/problems/quota_used")
            assert 1 <= int(refused.headers["retry-after"]) <= 31 * 86_400
        again = await client.post("/v1/credit-limits", json=body, headers=bank | {"Idempotency-Key": "a"})
        assert again.status_code == 200  # what was answered before costs nothing
        other = bearer_of(gateway.settings, "bank", tenant="west")
        assert (await client.post("/v1/credit-limits", json=body, headers=other)).status_code == 200

    run_inside(settings, first)
    run_inside(settings, then)


def test_answers_are_added_to_the_store_while_the_service_runs(asked_for, applicant, monkeypatch, one_month):
    monkeypatch.setattr(rate_limits, "EVERY", 0.05)

    async def story(client, gateway):
        bank = bearer_of(gateway.settings, "bank", tenant="east")
        for _ in range(3):
            await client.post("/v1/credit-limits", json={"indicators": applicant}, headers=bank)
        async with asyncio.timeout(20):
            while used(gateway.service.store.reader, "east", one_month) < 3:
                await asyncio.sleep(0.02)
        assert used(gateway.service.store.reader, "east", one_month) == 3
        assert not gateway.service.quota._unsaved

    run_inside(limited(asked_for, monthly=100), story)


def test_the_settings_take_a_tenants_own_bounds(tmp_path):
    file = tmp_path / "serving.toml"
    whole = DEFAULT_FILE.read_text()
    file.write_text(whole.replace("[tls]", "[rate.tenants.east]\nper_second = 5\nburst = 9\nmonthly = 7\n\n[tls]", 1))
    found = load_settings(file, environ={}).rate
    assert (found.limit_for("east").monthly, found.limit_for("west").monthly) == (7, 0)
