"""A loop in the background that ends is seen, and runs again."""

from __future__ import annotations

import asyncio

from serving.core import process


def test_a_loop_that_fails_or_returns_runs_again_and_says_why(monkeypatch):
    monkeypatch.setattr(process, "RESTART_SECONDS", 0.0)
    monkeypatch.setattr(process, "QUIET_SECONDS", 0.05)
    runs: list[str] = []
    failures: dict[str, str] = {}

    async def loop() -> None:
        runs.append(failures.get("poll", ""))
        if len(runs) == 1:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        if len(runs) == 3:
            await asyncio.sleep(60)

    async def story() -> tuple[str, dict[str, str]]:
        task = asyncio.create_task(process.keep_running("poll", loop, failures))
        while len(runs) < 3:
            await asyncio.sleep(0)
        newest = failures["poll"]
        await asyncio.sleep(0.1)
        task.cancel()
        return newest, failures

    newest, afterwards = asyncio.run(story())
    assert runs[0] == ""
    assert "UnicodeDecodeError" in runs[1]
    assert newest == "the loop 'poll' ended and was started again: it returned"
    assert afterwards == {}
