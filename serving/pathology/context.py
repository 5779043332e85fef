"""What the slides' routes share: the store from the event loop, requests done once, who signs, who is audited."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from serving.core.billing.quotas import Quota
from serving.core.db.store import Store
from serving.core.http import idempotency
from serving.core.http.principal import Caller
from serving.core.http.problems import Problem
from serving.core.http.request import Call
from serving.core.http.validation import json_object
from serving.pathology.slides import storage
from serving.pathology.slides import store as slides
from serving.pathology.slides.states import STATES, UnknownSlide, WrongMove
from serving.settings import Settings

T = TypeVar("T")
Row = dict[str, Any]
ID = re.compile(r"[0-9a-f]{32}")
AUDIT_KEY = "audit.key"


class Desk:
    """What every route about slides needs: the store, the quota, whose slide it is and who signs."""

    def __init__(self, settings: Settings, store: Store, quota: Quota):
        self.settings, self.store, self.quota = settings, store, quota
        self.slides = settings.paths.slides
        self._audit_key = b""

    def inbox(self, tenant: str) -> Path:
        """The folder of which the tenant may name files."""
        return self.settings.paths.slide_inbox / tenant

    # --- the store

    async def read(self, query: Callable[..., T], *args: Any, **options: Any) -> T:
        """`query(engine, ...)` in a thread. Raises StoreUnavailable."""
        return await self.store.read(query, *args, **options)

    async def write(self, transaction: Callable[[sa.Connection], T]) -> T:
        """Raises StoreUnavailable, and Problem where the slide's state does not allow it."""
        with state_problems():
            return await self.store.write(transaction)

    async def once(
        self, call: Call, scope: str, digest: str, transaction: Callable[[sa.Connection], Row]
    ) -> tuple[Row, bool]:
        """As idempotency.run_once; Problem too where the slide's state does not allow it."""
        with state_problems():
            return await idempotency.run_once(self.store, call, scope, digest, transaction)

    async def before(self, call: Call, scope: str, digest: str) -> Row | None:
        return await idempotency.earlier_response(self.store, call, scope, digest)

    async def slide(self, call: Call) -> Row:
        """That of the address, where it is the caller's tenant's. Raises Problem."""
        wanted = call.path[0]
        found = await self.read(slides.get, wanted, call.caller.tenant) if ID.fullmatch(wanted) else None
        if found is None:
            raise Problem("unknown_slide", found=repr(wanted[:80]))
        return found

    # --- the request

    async def body(self, call: Call) -> tuple[Row, str]:
        return await json_object(call, self.settings.limits)

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


@contextmanager
def state_problems() -> Iterator[None]:
    """A transition that the slide's state does not allow, and a slide that is not there, as Problem."""
    try:
        yield
    except WrongMove as error:
        raise state_problem(error.found, error.to) from error
    except UnknownSlide as error:
        raise Problem("unknown_slide", found=repr(error.slide[:80])) from error


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
