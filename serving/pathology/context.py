"""What the slides' routes share: the store from the event loop, requests done once, who signs, who is audited."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa

from serving.core.http.principal import Caller
from serving.core.http.problems import Problem
from serving.core.http.request import JSON, Call, idempotency_key, read_body
from serving.decisions.request import parse_json
from serving.decisions.service import Runtime
from serving.pathology.slides import storage
from serving.pathology.slides import store as slides
from serving.pathology.slides.states import STATES, UnknownSlide, WrongMove
from serving.settings import Settings

T = TypeVar("T")
Row = dict[str, Any]
ID = re.compile(r"[0-9a-f]{32}")
AUDIT_KEY = "audit.key"


class Desk:
    """`runtime` is asked for at each call, as the gateway is made before it starts."""

    def __init__(self, settings: Settings, runtime: Callable[[], Runtime]):
        self.settings, self.runtime = settings, runtime
        self.slides = settings.paths.slides
        self._audit_key = b""

    def inbox(self, tenant: str) -> Path:
        """The folder of which the tenant may name files."""
        return self.settings.paths.slide_inbox / tenant

    # --- the store

    async def read(self, do: Callable[..., T], *args: Any, **named: Any) -> T:
        """`do(engine, ...)` in a thread. Raises StoreUnavailable."""
        runtime = self.runtime()
        _ = runtime.reader  # opens the store where it was not to be had at the start
        assert runtime.engine is not None
        return await asyncio.to_thread(do, runtime.engine, *args, **named)

    async def write(self, do: Callable[[sa.Connection], T]) -> T:
        """`do` in a transaction of the one thread that writes; it goes on where its caller is gone. Raises
        StoreUnavailable, and Problem where the slide's state does not allow it."""
        try:
            return await asyncio.shield(asyncio.wrap_future(self.runtime().writer.work(do)))
        except WrongMove as error:
            raise state_problem(error.found, error.to) from error
        except UnknownSlide as error:
            raise Problem("unknown_slide", found=repr(error.slide[:80])) from error

    async def once(self, call: Call, scope: str, digest: str, do: Callable[[sa.Connection], Row]) -> tuple[Row, bool]:
        """(what `do` says, or said before under this Idempotency-Key; whether it was before). Raises Problem."""
        key, tenant = idempotency_key(call), call.caller.tenant

        def work(connection: sa.Connection) -> tuple[Row, bool]:
            if (
                key is not None
                and (earlier := _same(slides.kept(connection, tenant, scope, key), digest, key)) is not None
            ):
                return earlier, True
            said = do(connection)
            if key is not None:
                slides.keep(connection, tenant, scope, key, digest, orjson.dumps(said))
            return said, False

        return await self.write(work)

    async def before(self, call: Call, scope: str, digest: str) -> Row | None:
        """What was said under the request's Idempotency-Key, for what is dear to make. Raises Problem."""
        key = idempotency_key(call)
        if key is None:
            return None
        return _same(await self.read(slides.kept, call.caller.tenant, scope, key), digest, key)

    async def slide(self, call: Call) -> Row:
        """That of the address, where it is the caller's tenant's. Raises Problem."""
        wanted = call.path[0]
        found = await self.read(slides.get, wanted, call.caller.tenant) if ID.fullmatch(wanted) else None
        if found is None:
            raise Problem("unknown_slide", found=repr(wanted[:80]))
        return found

    # --- the request

    async def body(self, call: Call) -> tuple[Row, str]:
        """(the JSON object that came, SHA-256 of its bytes). Raises Problem."""
        media_type = call.media_type()
        if media_type != JSON:
            raise Problem("unsupported_media_type", found=repr(media_type) if media_type else "not given", needed=JSON)
        limits = self.settings.limits
        body = await read_body(call, limits.body, limits.body_seconds)
        if not body.strip():
            raise Problem("empty_body", needed="a JSON object", needed_zh="JSON 对象")
        found = parse_json(body)
        if not isinstance(found, dict):
            raise Problem("malformed_json", found="Found no object", found_zh="不是 JSON 对象")
        return found, hashlib.sha256(body).hexdigest()

    def pathologist(self, call: Call) -> Caller:
        """Who signs, by the name and licence of their token. Raises Problem."""
        if call.caller.licence:
            return call.caller
        raise Problem("not_a_pathologist", found="The caller has no licence", found_zh="请求方没有执业证号")

    # --- the audit of negatives

    def audited(self, slide: str) -> bool:
        """Whether this slide is drawn for audit: always the same answer, which nobody can work out without the key."""
        if not self._audit_key:
            self._audit_key = _audit_key(self.slides / AUDIT_KEY)
        drawn = hmac.digest(self._audit_key, slide.encode(), "sha256")[:8]
        return int.from_bytes(drawn) < self.settings.slides.audit_share * 2**64


def _audit_key(file: Path) -> bytes:
    """Made once; two gateways that start together agree on the one that was first."""
    import os

    if not file.exists():
        scratch = storage.write_whole(file, os.urandom(32))
        try:
            os.link(scratch, file)
        except FileExistsError:
            pass  # another was first, and its key counts
        finally:
            scratch.unlink()
        storage.sync_folder(file.parent)
    return file.read_bytes()


def _same(kept: tuple[str, bytes] | None, digest: str, key: str) -> Row | None:
    if kept is None:
        return None
    if kept[0] != digest:
        raise Problem("key_reused", found=repr(key))
    said: Row = orjson.loads(kept[1])
    return said


def state_problem(found: str, to: str) -> Problem:
    """A slide that is `found` cannot go `to`."""
    before = [name for name, state in STATES.items() if to in state.next]
    return Problem(
        "slide_state",
        found=f"{found} ({STATES[found].en})",
        found_zh=f"{STATES[found].zh}（{found}）",
        needed=" or ".join(before) or "nothing",
        needed_zh="、".join(f"{STATES[name].zh}（{name}）" for name in before) or "无",
    )
