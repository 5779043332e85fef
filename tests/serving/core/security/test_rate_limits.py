"""How much a tenant may ask: beyond it 429 with the seconds to wait, and no other tenant feels it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.http.problems import ProblemError
from serving.core.security import rate_limits
from serving.settings import DEFAULT_FILE, RateLimitSettings, TenantLimit, load_settings
from tests.serving.conftest import bearer_of, run_inside, settings_for


def limited(settings, **limits):
    """The settings with other rate limits; by default none."""
    limits = {"per_second": 0.0, "burst": 1.0, "monthly": 0} | limits
    tenants = {name: TenantLimit(**limit) for name, limit in limits.pop("tenants", {}).items()}
    return settings.model_copy(update={"rate": RateLimitSettings(**limits, tenants=tenants)})


@pytest.fixture
def guarded_settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true")


def test_a_tenant_above_its_rate_is_refused_and_no_other(guarded_settings):
    async def story(client, gateway):
        east, west = (bearer_of(gateway.settings, "bank", tenant=tenant) for tenant in ("east", "west"))
        statuses = [(await client.get("/v1/models", headers=east)).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = await client.get("/v1/models", headers=east)
        assert refused.json()["type"] == "/problems/rate_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert (await client.get("/v1/models", headers=west)).status_code == 200
        assert (await client.get("/healthz/live")).status_code == 200
        buckets = gateway.authenticator.rate_limiter._buckets
        buckets["east"] = (0.0, buckets["east"][1] - 10)  # ten seconds later
        assert (await client.get("/v1/models", headers=east)).status_code == 200

    run_inside(limited(guarded_settings, per_second=0.1, burst=3), story)


def test_a_tenant_can_have_its_own_limit(guarded_settings):
    own_limit = {"east": {"per_second": 0.001, "burst": 20.0, "monthly": 0}}

    async def story(client, gateway):
        for tenant, allowed in (("east", 20), ("west", 2)):
            headers = bearer_of(gateway.settings, "bank", tenant=tenant)
            statuses = [(await client.get("/v1/models", headers=headers)).status_code for _ in range(25)]
            assert statuses.count(200) == allowed

    run_inside(limited(guarded_settings, per_second=0.001, burst=2, tenants=own_limit), story)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.integers(1, 5), st.floats(0.5, 20))
def test_no_more_requests_pass_than_the_burst_and_the_refill_allow(waits, burst, per_second):
    limiter = rate_limits.RateLimiter(RateLimitSettings(per_second=per_second, burst=burst, monthly=0))
    now, passed = 0.0, 0
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(rate_limits.time, "monotonic", lambda: now)
        for wait in waits:
            now += wait
            with suppress(ProblemError):
                limiter.acquire("east")
                passed += 1
    assert 1 <= passed <= burst + now * per_second + 1e-6


def test_the_number_of_buckets_is_bounded(monkeypatch):
    monkeypatch.setattr(rate_limits, "MAX_BUCKETS", 10)
    limiter = rate_limits.RateLimiter(RateLimitSettings(per_second=1, burst=2, monthly=0))
    for i in range(100):
        limiter.acquire(str(i))
    assert len(limiter._buckets) == 10


def test_the_settings_accept_limits_per_tenant(tmp_path):
    file = tmp_path / "serving.toml"
    default = DEFAULT_FILE.read_text()
    file.write_text(default.replace("[tls]", "[rate.tenants.east]\nper_second = 5\nburst = 9\nmonthly = 7\n\n[tls]", 1))
    limits = load_settings(file, environ={}).rate
    assert (limits.limit_for("east").monthly, limits.limit_for("west").monthly) == (7, 0)
