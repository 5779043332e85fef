"""Which bundle serves: the champion's, swapped without a pause; never one that is unsigned or changed."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from models import bundle
from tests.serving.conftest import run_inside, settings_for

URL = "/v1/credit-limits"


async def until(client, wanted, seconds: float = 30.0):
    """Readiness once `wanted` holds of it."""
    for _ in range(int(seconds / 0.05)):
        told = (await client.get("/healthz/ready")).json()
        if wanted(told):
            return told
        await asyncio.sleep(0.05)
    raise AssertionError(told)


@pytest.fixture
def place(made, tmp_path):
    made.publish(tmp_path / "bundles", "1")
    return tmp_path / "bundles"


def test_the_champion_is_swapped_while_requests_go_on(made, place, tmp_path, applicant):
    made.publish(place, "2", champion=False)

    async def story(client, gateway):
        versions = []

        async def asking():
            while versions[-1:] != ["2"]:  # however many it takes: a fast caller asks 400 before a slow swap
                answer = await client.post(URL, json={"indicators": applicant})
                assert answer.status_code == 200
                versions.append(answer.json()["model"]["version"])

        task = asyncio.create_task(asking())
        while not versions and not task.done():
            await asyncio.sleep(0.01)
        bundle.set_alias(place / "credit_limit", "champion", "2")
        try:
            told = await until(client, lambda told: told["models"]["credit_limit"] == "2")
            await asyncio.wait_for(task, 30)
        finally:
            task.cancel()
        assert told["alarms"] == {}
        assert (versions[0], versions[-1]) == ("1", "2")
        metrics = (await client.get("/metrics")).text
        assert 'version="1"} 0.0' in metrics
        assert 'version="2"} 1.0' in metrics

    run_inside(settings_for(place, made, tmp_path), story)


def unsigned(folder):
    (folder / "model.sig").unlink()


def one_bit(folder):
    graph = bytearray((folder / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (folder / "model.onnx").write_bytes(graph)


def other_policy(folder):
    (folder / "policy.toml").write_bytes(
        (folder / "policy.toml").read_bytes().replace(b"max_dsr = 0.50", b"max_dsr = 0.90")
    )


def one_file_more(folder):
    (folder / "extra.pkl").write_bytes(b"\x80\x04.")


def another_name(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "1", folder)


def nothing(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize("spoil", [unsigned, one_bit, other_policy, one_file_more, another_name, nothing])
def test_a_bundle_that_is_refused_leaves_the_old_one_serving_and_raises_an_alarm(
    made, place, tmp_path, applicant, spoil, caplog
):
    folder = made.publish(place, "2", champion=False)

    async def story(client, gateway):
        bundle.set_alias(place / "credit_limit", "champion", "2")
        spoil(folder)
        told = await until(client, lambda told: told["alarms"])
        assert told["status"] == "ready"
        assert told["models"] == {"credit_limit": "1"}
        assert told["alarms"]["credit_limit"]["version"] == "2"
        answer = (await client.post(URL, json={"indicators": applicant})).json()
        assert answer["model"]["version"] == "1"
        assert 'yuheng_bundle_refused{model="credit_limit"} 1.0' in (await client.get("/metrics")).text
        assert "1 stays deployed" in caplog.text
        bundle.set_alias(place / "credit_limit", "champion", "1")
        await until(client, lambda told: not told["alarms"])

    run_inside(settings_for(place, made, tmp_path), story)


@pytest.mark.parametrize("spoil", [unsigned, one_bit, other_policy, one_file_more, nothing])
def test_a_bundle_that_is_changed_while_it_serves_raises_an_alarm_and_serves_on(
    made, place, tmp_path, applicant, spoil
):
    folder = place / "credit_limit" / "1"
    shutil.copytree(folder, tmp_path / "kept")

    async def story(client, gateway):
        spoil(folder)
        told = await until(client, lambda told: told["alarms"])
        assert (told["status"], told["models"]) == ("ready", {"credit_limit": "1"})
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        [alarm] = (await client.get("/v1/alarms")).json()["alarms"]
        assert (alarm["what"], alarm["name"], alarm["version"]) == ("bundle", "credit_limit", "1")
        assert alarm["why"]
        assert alarm["why_zh"].startswith("模型包")
        assert 'yuheng_bundle_refused{model="credit_limit"} 1.0' in (await client.get("/metrics")).text
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", folder)
        await until(client, lambda told: not told["alarms"])
        assert (await client.get("/v1/alarms")).json() == {"alarms": []}

    run_inside(settings_for(place, made, tmp_path), story)


def test_a_refused_bundle_serves_once_it_is_whole(made, place, tmp_path):
    folder = made.publish(place, "2", champion=False)
    kept = (folder / "model.sig").read_bytes()
    bundle.set_alias(place / "credit_limit", "champion", "2")
    (folder / "model.sig").unlink()

    async def story(client, gateway):
        told = await until(client, lambda told: told["alarms"])
        assert told["status"] == "not_ready"
        refused = await client.post(URL, json={"indicators": {}})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not_ready")
        (folder / "model.sig").write_bytes(kept)
        told = await until(client, lambda told: told["status"] == "ready")
        assert told["models"] == {"credit_limit": "2"}

    run_inside(settings_for(place, made, tmp_path), story)


def test_a_bundle_signed_with_another_key_is_refused(made, place, tmp_path):
    strange = settings_for(place, made, tmp_path)
    _, other = bundle.create_signing_keys(tmp_path / "other")
    strange = strange.model_copy(update={"paths": strange.paths.model_copy(update={"public_key": other})})

    async def story(client, gateway):
        told = (await client.get("/healthz/ready")).json()
        assert told["status"] == "not_ready"
        assert "signature" in told["alarms"]["credit_limit"]["why"]

    run_inside(strange, story)


def test_a_new_model_is_served_from_the_moment_it_has_a_champion(made, place, tmp_path):
    async def story(client, gateway):
        made.publish(place, "1", model="credit_limit_new")
        await until(client, lambda told: "credit_limit_new" in told["models"])
        paths = (await client.get("/openapi.json")).json()
        assert "Indicators.credit_limit_new" in paths["components"]["schemas"]

    run_inside(settings_for(place, made, tmp_path), story)
