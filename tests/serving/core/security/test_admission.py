"""One tenant among many: none takes all places, all threads or the whole disk."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.core.http.problems import ProblemError
from serving.core.security import admission
from serving.core.security.admission import DiskSpace, FairExecutor, TenantPlaces, UploadPace, tenant_share

NAME = "things", "件"


def test_a_tenant_never_has_all_places():
    places = TenantPlaces(4, 2, NAME)
    places.take("evil")
    places.take("evil")
    with pytest.raises(ProblemError, match="overloaded"):
        places.take("evil")
    places.take("honest")
    places.take("another")
    with pytest.raises(ProblemError, match="overloaded"):
        places.take("late")
    places.give_back("evil")
    places.take("late")
    assert places.taken == 4


@pytest.mark.parametrize(("limit", "share"), [(1, 1), (2, 1), (4, 3), (100, 75)])
def test_a_share_leaves_places_to_others(limit, share):
    assert tenant_share(limit) == share


def run(story):
    async def timed():
        async with asyncio.timeout(30):
            await story()

    asyncio.run(timed())


def test_tenants_take_turns_whatever_one_of_them_has_waiting():
    order = []

    async def story():
        with ThreadPoolExecutor(1) as pool:
            executor, gate = FairExecutor(pool, 1, 1), threading.Event()
            first = asyncio.create_task(executor.run("evil", gate.wait))
            await asyncio.sleep(0.05)
            large = [asyncio.create_task(executor.run("evil", order.append, "evil")) for _ in range(50)]
            await asyncio.sleep(0)
            small = [asyncio.create_task(executor.run("honest", order.append, "honest")) for _ in range(2)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(first, *large, *small)

    run(story)
    assert len(order) == 52
    assert [index for index, name in enumerate(order) if name == "honest"] in ([0, 2], [1, 3])


def test_a_tenant_whose_work_never_ends_leaves_a_thread_to_others():
    async def story():
        gate = threading.Event()
        with ThreadPoolExecutor(3) as pool:
            executor = FairExecutor(pool, 3, 2)
            stuck = [asyncio.create_task(executor.run("evil", gate.wait)) for _ in range(10)]
            await asyncio.sleep(0.05)
            assert await executor.run("honest", lambda: "answered") == "answered"
            gate.set()
            await asyncio.gather(*stuck)

    run(story)


def test_cancelled_work_neither_keeps_a_turn_nor_loses_one():
    async def story():
        with ThreadPoolExecutor(1) as pool:
            executor, gate = FairExecutor(pool, 1, 1), threading.Event()
            running = asyncio.create_task(executor.run("a", gate.wait))
            await asyncio.sleep(0.05)
            waiting = [asyncio.create_task(executor.run(tenant, int)) for tenant in "aabbc"]
            await asyncio.sleep(0)
            for task in (running, *waiting[:3]):
                task.cancel()
            await asyncio.sleep(0.05)
            blocked = asyncio.create_task(executor.run("d", int))
            await asyncio.sleep(0.05)
            assert not blocked.done(), "the cancelled work still has the only thread"
            gate.set()
            assert await blocked == 0
            assert await asyncio.gather(*waiting[3:]) == [0, 0]
            assert await executor.run("a", int) == 0

    run(story)


def test_work_that_fails_gives_its_turn_back():
    async def story():
        with ThreadPoolExecutor(1) as pool:
            executor = FairExecutor(pool, 1, 1)
            for _ in range(3):
                with pytest.raises(ZeroDivisionError):
                    await executor.run("a", lambda: 1 // 0)
            assert await executor.run("b", int) == 0

    run(story)


def test_a_byte_now_and_then_is_too_slow_and_a_pause_is_not(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    pace = UploadPace(min_bytes_per_second=1_000, grace_seconds=60)
    now[0] = 60.0
    assert pace.fault(0) is None
    now[0] = 70.0
    assert pace.fault(10_000) is None
    too_slow = pace.fault(70)
    assert too_slow is not None
    assert too_slow.status_code == 408


def test_room_is_kept_for_the_store(tmp_path):
    free = DiskSpace(tmp_path, 0).available()
    assert free > 0
    assert DiskSpace(tmp_path / "new", free + 10**12).available() == 0
