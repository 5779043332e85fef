"""Batches of many tenants: one that holds its connection open, or has much to do, keeps nobody else waiting."""

import asyncio

import pytest

from serving.core.billing.quotas import used
from tests.serving.conftest import bearer_of, run_inside, settings_for

URL = "/v1/credit-limits/batch"
ROW = b"declared_income\n50000\n"


@pytest.fixture
def guarded_settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true")


def tenant(gateway, name):
    return bearer_of(gateway.settings, "bank", tenant=name) | {"Content-Type": "text/csv"}


def limited(settings, **limits):
    return settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})


async def trickle(end):
    """A body that begins and then waits."""
    yield b"declared_income\n"
    await end.wait()
    yield b"50000\n"


def test_a_slow_upload_of_one_bank_keeps_no_other_bank_out(guarded_settings):
    async def story(client, gateway):
        end = asyncio.Event()
        evil, honest = tenant(gateway, "evil"), tenant(gateway, "honest")
        slow = [asyncio.create_task(client.post(URL, content=trickle(end), headers=evil)) for _ in range(2)]
        async with asyncio.timeout(60):
            while gateway.decisions.batches.places.taken < 2:
                await asyncio.sleep(0.01)
        refused = await client.post(URL, content=ROW, headers=evil)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
        assert "2 batches under way" in refused.json()["detail"]
        for _ in range(3):
            answer = await client.post(URL, content=ROW, headers=honest)
            assert answer.status_code == 200, answer.text
        end.set()
        assert [response.status_code for response in await asyncio.gather(*slow)] == [200, 200]
        assert gateway.decisions.batches.places.taken == 0

    run_inside(limited(guarded_settings, max_open_batches_per_tenant=2), story)


def test_a_byte_now_and_then_ends_the_upload(guarded_settings):
    async def story(client, gateway):
        async def bytes_now_and_then():
            yield b"declared_income\n"
            for _ in range(1_000):
                await asyncio.sleep(0.05)
                yield b"1"

        answer = await client.post(URL, content=bytes_now_and_then(), headers=tenant(gateway, "evil"))
        assert (answer.status_code, answer.json()["type"]) == (408, "/problems/slow_request")
        assert gateway.decisions.batches.places.taken == 0
        assert not list(gateway.settings.paths.spool.iterdir())

    run_inside(limited(guarded_settings, upload_idle_timeout_seconds=0.5), story)


def test_a_small_batch_is_answered_while_a_large_one_of_another_bank_is_scored(guarded_settings):
    settings = guarded_settings.model_copy(
        update={"batch": guarded_settings.batch.model_copy(update={"chunk_rows": 100})}
    )

    async def story(client, gateway):
        large, order = b"declared_income\n" + b"50000\n" * 20_000, []

        async def post(name, body):
            answer = await client.post(URL, content=body, headers=tenant(gateway, name))
            order.append(name)
            return answer.status_code

        first = asyncio.create_task(post("evil", large))
        async with asyncio.timeout(60):
            while not gateway.decisions.batches.executor._running:
                await asyncio.sleep(0.01)
        assert await post("honest", ROW) == 200
        assert await first == 200
        assert order == ["honest", "evil"]

    run_inside(settings, story)


def test_a_batch_gets_no_answer_beyond_the_quota(guarded_settings):
    rate = guarded_settings.rate.model_copy(update={"monthly": 10})

    async def story(client, gateway):
        bank, body = tenant(gateway, "east"), b"declared_income\n" + b"50000\n" * 9
        with_fault = b"declared_income\n" + b"50000\n" * 8 + b"-1\n"
        assert (await client.post(URL, content=with_fault, headers=bank)).status_code == 200  # 8 answers, 1 fault
        refused = await client.post(URL, content=body, headers=bank)
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/quota_used")
        assert (await client.post(URL, content=b"declared_income\n1\n2\n", headers=bank)).status_code == 200
        assert (await client.post(URL, content=ROW, headers=bank)).status_code == 429
        assert (await client.post(URL, content=ROW, headers=tenant(gateway, "west"))).status_code == 200

    async def later(client, gateway):
        await client.post(URL, content=ROW, headers=tenant(gateway, "east"))
        month = gateway.service.quota._usage["east"][0]
        assert used(gateway.service.store.reader, "east", month) == 10

    settings = guarded_settings.model_copy(update={"rate": rate})
    run_inside(settings, story)
    run_inside(settings, later)


@pytest.mark.parametrize("announces", [True, False])
def test_an_upload_leaves_room_on_the_disk_for_the_store(guarded_settings, announces):
    async def chunks():
        yield ROW

    async def story(client, gateway):
        body = ROW if announces else chunks()
        refused = await client.post(URL, content=body, headers=tenant(gateway, "evil"))
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store_full")

    run_inside(limited(guarded_settings, min_free_disk_bytes=10**15), story)
