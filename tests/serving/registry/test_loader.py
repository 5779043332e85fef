"""Loading champions: they are swapped without a pause, and never deployed unsigned or tampered with."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from models import bundle
from tests.serving.conftest import run_inside, settings_for

URL = "/v1/credit-limits"


async def until(client, condition, seconds: float = 30.0):
    """Readiness once `wanted` holds of it."""
    for _ in range(int(seconds / 0.05)):
        readiness = (await client.get("/healthz/ready")).json()
        if condition(readiness):
            return readiness
        await asyncio.sleep(0.05)
    raise AssertionError(readiness)


@pytest.fixture
def bundles(made, tmp_path):
    made.publish(tmp_path / "bundles", "1")
    return tmp_path / "bundles"


def test_the_champion_is_swapped_while_requests_are_answered(made, bundles, tmp_path, applicant):
    made.publish(bundles, "2", champion=False)

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
        bundle.set_alias(bundles / "credit_limit", "champion", "2")
        try:
            readiness = await until(client, lambda readiness: readiness["models"]["credit_limit"] == "2")
            await asyncio.wait_for(task, 30)
        finally:
            task.cancel()
        assert readiness["alarms"] == {}
        assert (versions[0], versions[-1]) == ("1", "2")
        metrics = (await client.get("/metrics")).text
        assert 'version="1"} 0.0' in metrics
        assert 'version="2"} 1.0' in metrics

    run_inside(settings_for(bundles, made, tmp_path), story)


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
def test_a_refused_bundle_leaves_the_old_one_deployed_and_raises_an_alarm(
    made, bundles, tmp_path, applicant, spoil, caplog
):
    folder = made.publish(bundles, "2", champion=False)

    async def story(client, gateway):
        bundle.set_alias(bundles / "credit_limit", "champion", "2")
        spoil(folder)
        readiness = await until(client, lambda readiness: readiness["alarms"])
        assert readiness["status"] == "ready"
        assert readiness["models"] == {"credit_limit": "1"}
        assert readiness["alarms"]["credit_limit"]["version"] == "2"
        answer = (await client.post(URL, json={"indicators": applicant})).json()
        assert answer["model"]["version"] == "1"
        assert 'yuheng_bundle_refused{model="credit_limit"} 1.0' in (await client.get("/metrics")).text
        assert "1 stays deployed" in caplog.text
        bundle.set_alias(bundles / "credit_limit", "champion", "1")
        await until(client, lambda readiness: not readiness["alarms"])

    run_inside(settings_for(bundles, made, tmp_path), story)


@pytest.mark.parametrize("spoil", [unsigned, one_bit, other_policy, one_file_more, nothing])
def test_a_deployed_bundle_that_is_changed_raises_an_alarm_and_stays_deployed(
    made, bundles, tmp_path, applicant, spoil
):
    folder = bundles / "credit_limit" / "1"
    shutil.copytree(folder, tmp_path / "kept")

    async def story(client, gateway):
        spoil(folder)
        readiness = await until(client, lambda readiness: readiness["alarms"])
        assert (readiness["status"], readiness["models"]) == ("ready", {"credit_limit": "1"})
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        [alarm] = (await client.get("/v1/alarms")).json()["alarms"]
        assert (alarm["what"], alarm["name"], alarm["version"]) == ("bundle", "credit_limit", "1")
        assert alarm["why"]
        assert alarm["why_zh"].startswith("模型包")
        assert 'yuheng_bundle_refused{model="credit_limit"} 1.0' in (await client.get("/metrics")).text
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", folder)
        await until(client, lambda readiness: not readiness["alarms"])
        assert (await client.get("/v1/alarms")).json() == {"alarms": []}

    run_inside(settings_for(bundles, made, tmp_path), story)


def test_a_refused_bundle_is_deployed_once_it_is_complete(made, bundles, tmp_path):
    folder = made.publish(bundles, "2", champion=False)
    signature = (folder / "model.sig").read_bytes()
    bundle.set_alias(bundles / "credit_limit", "champion", "2")
    (folder / "model.sig").unlink()

    async def story(client, gateway):
        readiness = await until(client, lambda readiness: readiness["alarms"])
        assert readiness["status"] == "not_ready"
        refused = await client.post(URL, json={"indicators": {}})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not_ready")
        (folder / "model.sig").write_bytes(signature)
        readiness = await until(client, lambda readiness: readiness["status"] == "ready")
        assert readiness["models"] == {"credit_limit": "2"}

    run_inside(settings_for(bundles, made, tmp_path), story)


def test_a_bundle_signed_with_another_key_is_refused(made, bundles, tmp_path):
    strange = settings_for(bundles, made, tmp_path)
    _, other = bundle.create_signing_keys(tmp_path / "other")
    strange = strange.model_copy(update={"paths": strange.paths.model_copy(update={"public_key": other})})

    async def story(client, gateway):
        readiness = (await client.get("/healthz/ready")).json()
        assert readiness["status"] == "not_ready"
        assert "signature" in readiness["alarms"]["credit_limit"]["why"]

    run_inside(strange, story)


def test_a_new_model_is_deployed_once_it_has_a_champion(made, bundles, tmp_path):
    async def story(client, gateway):
        made.publish(bundles, "1", model="credit_limit_new")
        await until(client, lambda readiness: "credit_limit_new" in readiness["models"])
        paths = (await client.get("/openapi.json")).json()
        assert "Indicators.credit_limit_new" in paths["components"]["schemas"]

    run_inside(settings_for(bundles, made, tmp_path), story)


@pytest.mark.parametrize("content", [b"\xff\n", b"\0\n", b"../1\n", b"x" * 5_000])
def test_a_pointer_that_cannot_be_a_version_is_the_alarm_of_its_model_and_stops_no_other(
    made, bundles, tmp_path, content
):
    made.publish(bundles, "1", model="credit_limit_second")

    async def story(client, gateway):
        pointer = bundles / "credit_limit" / "champion"
        pointer.write_bytes(content)
        refused = await until(client, lambda readiness: "credit_limit" in readiness["alarms"])
        made.publish(bundles, "2", model="credit_limit_second")
        await until(client, lambda readiness: readiness["models"]["credit_limit_second"] == "2")
        pointer.unlink()
        pointer.mkdir()
        await until(client, lambda readiness: "cannot be read" in readiness["alarms"]["credit_limit"]["why"])
        assert gateway.service.loop_failures == {}
        return refused

    assert run_inside(settings_for(bundles, made, tmp_path), story)["models"]["credit_limit"] == "1"
