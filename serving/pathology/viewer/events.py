"""A slide's life as it happens: server-sent events out of the store, resumed after the last one that a listener saw."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import suppress

import orjson

from serving.core.db.engine import StoreUnavailable
from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply
from serving.pathology.context import Desk, Row
from serving.pathology.slides import store as slides
from serving.pathology.slides.states import RESTING, STATES

MEDIA_TYPE = "text/event-stream"
EVENT = re.compile(r"[0-9]{1,18}", re.ASCII)


def wants_events(call: Call) -> bool:
    """Whether Accept names the stream, before or without JSON."""
    asked = [item.partition(";")[0].strip().lower() for item in (call.header(b"accept") or "").split(",")]
    first = next((media for media in asked if media in (MEDIA_TYPE, "application/json", "*/*")), "")
    return first == MEDIA_TYPE


def last_seen(call: Call) -> int:
    """Last-Event-ID; 0 where none is told. Raises Problem."""
    told = call.header(b"last-event-id")
    if told is not None and not EVENT.fullmatch(told):
        raise Problem(
            "bad_header",
            found=f"Last-Event-ID is {told[:40]!r}",
            found_zh=f"Last-Event-ID 为 {told[:40]!r}",
            needed="the id of an event",
            needed_zh="事件编号",
        )
    return int(told or 0)


class Events:
    def __init__(self, desk: Desk):
        self.desk, self.settings = desk, desk.settings.slides
        self.listeners = 0

    async def reply(self, call: Call, slide: Row, after: int) -> Reply:
        """What came after the event `after`; 204 where nothing is left to tell, so that browsers stop asking. Raises
        Problem."""
        if slide["state"] in RESTING and not await self.desk.read(slides.events_after, slide["id"], after, 1):
            return Reply(b"", 204)
        if self.listeners >= self.settings.listeners:
            raise Problem(
                "overloaded",
                found=f"{self.listeners} listeners are there, and no more may be",
                found_zh=f"已有 {self.listeners} 个监听连接，不能再增加",
            )
        return Reply(self._stream(call, slide["id"], after), media_type=MEDIA_TYPE)

    async def _stream(self, call: Call, slide: str, after: int) -> AsyncGenerator[bytes, None]:
        self.listeners += 1
        gone = asyncio.get_running_loop().create_task(_disconnected(call))
        try:
            yield b"retry: 2000\n\n"
            spoke = time.monotonic()
            while not gone.done():
                try:
                    found = await self.desk.read(slides.events_after, slide, after)
                    resting = not found and await self._resting(slide)
                except StoreUnavailable:
                    found, resting = [], False  # asked again soon; the line is kept by comments
                for event in found:
                    after = event["id"]
                    yield message(event)
                    spoke = time.monotonic()
                if found:
                    continue  # there may be more at once
                if resting:
                    return
                if time.monotonic() - spoke >= self.settings.heartbeat_seconds:
                    yield b": still here\n\n"
                    spoke = time.monotonic()
                await asyncio.wait([gone], timeout=self.settings.poll_seconds)
        finally:
            self.listeners -= 1
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _resting(self, slide: str) -> bool:
        found = await self.desk.read(slides.get, slide)
        return found is None or found["state"] in RESTING


def message(event: Row) -> bytes:
    """One event of the store, as it goes over the line."""
    state = STATES[event["state"]]
    told = {
        "slide_id": event["slide"],
        "at": event["at"],
        "state": event["state"],
        "state_en": state.en,
        "state_zh": state.zh,
        "detail": event["detail"],
    }
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event["id"], event["kind"].encode(), orjson.dumps(told))


async def _disconnected(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass
