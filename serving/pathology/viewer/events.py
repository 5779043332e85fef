"""Stream a slide's events from the store as server-sent events, resumable by Last-Event-ID."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import suppress

import orjson

from serving.core.db.errors import StoreUnavailableError
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response, StreamingResponse
from serving.core.security.admission import TenantPlaces, tenant_share
from serving.pathology.context import Row, SlideContext
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import STATES, TERMINAL_STATES

MEDIA_TYPE = "text/event-stream"
PLACES = "event streams are open: no more", "个事件流连接"  # after a number, for messages
EVENT_ID_PATTERN = re.compile(r"[0-9]{1,18}", re.ASCII)


def accepts_event_stream(request: Request) -> bool:
    """Whether Accept names text/event-stream before JSON."""
    accepted = [item.partition(";")[0].strip().lower() for item in (request.headers.get("accept") or "").split(",")]
    first = next((media_type for media_type in accepted if media_type in (MEDIA_TYPE, "application/json", "*/*")), "")
    return first == MEDIA_TYPE


def parse_last_event_id(request: Request) -> int:
    """The Last-Event-ID header; 0 if there is none. Raises ProblemError."""
    header = request.headers.get("last-event-id")
    if header is not None and not EVENT_ID_PATTERN.fullmatch(header):
        raise ProblemError(
            "bad_header",
            actual=f"Last-Event-ID is {header[:40]!r}",
            actual_zh=f"Last-Event-ID 为 {header[:40]!r}",
            expected="the id of an event",
            expected_zh="事件编号",
        )
    return int(header or 0)


class EventStream:
    """Refuses listeners beyond `max_event_streams`, and beyond a share of them for one tenant."""

    def __init__(self, context: SlideContext):
        self.context, self.settings = context, context.settings.slides
        limit = self.settings.max_event_streams
        self.places = TenantPlaces(limit, tenant_share(limit), PLACES)

    async def open_stream(self, request: Request, slide: Row, after_event_id: int) -> Response:
        """Stream the events after `after_event_id`; 204 if the slide is done and there are none, so that browsers stop
        reconnecting. Raises ProblemError."""
        if slide["state"] in TERMINAL_STATES and not await self.context.read(
            slide_store.events_after, slide["id"], after_event_id, 1
        ):
            return Response(status_code=204)
        self.places.check(slide["tenant"])
        events = self._stream_events(request, slide["tenant"], slide["id"], after_event_id)
        return StreamingResponse(events, media_type=MEDIA_TYPE)

    async def _stream_events(
        self, request: Request, tenant: str, slide_id: str, after_event_id: int
    ) -> AsyncGenerator[bytes, None]:
        self.places.take(tenant)
        disconnect_task = asyncio.get_running_loop().create_task(_wait_for_disconnect(request))
        try:
            yield b"retry: 2000\n\n"
            last_sent = time.monotonic()
            while not disconnect_task.done():
                try:
                    events = await self.context.read(slide_store.events_after, slide_id, after_event_id)
                    finished = not events and await self._is_finished(slide_id)
                except StoreUnavailableError:
                    events, finished = [], False  # polled again soon; comments keep the connection open
                for event in events:
                    after_event_id = event["id"]
                    yield encode_event(event)
                    last_sent = time.monotonic()
                if events:
                    continue  # there may be more already
                if finished:
                    return
                if time.monotonic() - last_sent >= self.settings.heartbeat_seconds:
                    yield b": still here\n\n"
                    last_sent = time.monotonic()
                await asyncio.wait([disconnect_task], timeout=self.settings.poll_seconds)
        finally:
            self.places.give_back(tenant)
            disconnect_task.cancel()
            with suppress(asyncio.CancelledError):
                await disconnect_task

    async def _is_finished(self, slide_id: str) -> bool:
        row = await self.context.read(slide_store.get, slide_id)
        return row is None or row["state"] in TERMINAL_STATES


def encode_event(event: Row) -> bytes:
    """One event in the text/event-stream format."""
    state = STATES[event["state"]]
    payload = {
        "slide_id": event["slide"],
        "at": event["at"],
        "state": event["state"],
        "state_en": state.en,
        "state_zh": state.zh,
        "detail": event["detail"],
    }
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event["id"], event["kind"].encode(), orjson.dumps(payload))


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
