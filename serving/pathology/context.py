"""What the slides' routes share: access to the store, idempotent requests, the signer, the draw of blinded re-reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from serving.core.billing.quotas import Quota
from serving.core.db.store import Store
from serving.core.http import idempotency
from serving.core.http.principal import Principal
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request
from serving.core.http.validation import json_object
from serving.pathology.blinded_rereads import BlindedRereads
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import STATES, InvalidTransitionError, SlideNotFoundError
from serving.privacy.subjects.vault import Vault, open_vault
from serving.settings import Settings

T = TypeVar("T")
Row = dict[str, Any]
ID_PATTERN = re.compile(r"[0-9a-f]{32}")


class SlideContext:
    """Access to slides from the event loop, in the name of the caller."""

    def __init__(self, settings: Settings, store: Store, quota: Quota):
        self.settings, self.store, self.quota = settings, store, quota
        self.slides_dir = settings.paths.slides
        self.blinded_rereads = BlindedRereads(self.slides_dir, settings.slides.negative_audit_rate)

    def inbox(self, tenant: str) -> Path:
        """The folder whose files the tenant may submit by name."""
        return self.settings.paths.slide_inbox / tenant

    @cached_property
    def vault(self) -> Vault:
        """For keyed digests of names that clients give. Raises VaultKeyError."""
        return open_vault(self.settings)

    # --- the store

    async def read(self, query: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run `query(engine, ...)` in a thread. Raises StoreUnavailableError."""
        return await self.store.read(query, *args, **options)

    async def write(self, transaction: Callable[[sa.Connection], T]) -> T:
        """Run a transaction. Raises StoreUnavailableError, and ProblemError if the slide's state forbids it."""
        with state_problems():
            return await self.store.write(transaction)

    async def run_once(
        self, request: Request, scope: str, digest: str, transaction: Callable[[sa.Connection], Row]
    ) -> tuple[Row, bool]:
        """As idempotency.run_once; raises ProblemError too if the slide's state forbids the transaction."""
        with state_problems():
            return await idempotency.run_once(self.store, request, scope, digest, transaction, self._conceal)

    async def earlier_response(self, request: Request, scope: str, digest: str) -> Row | None:
        """As idempotency.earlier_response."""
        return await idempotency.earlier_response(self.store, request, scope, digest, self._conceal)

    def _conceal(self, content: bytes) -> str:
        return self.vault.digest(content)

    async def load_slide(self, request: Request) -> Row:
        """The slide named by the path, if it belongs to the caller's tenant. Raises ProblemError."""
        slide_id = request.path_params["id"]
        row = (
            await self.read(slide_store.get, slide_id, request.principal.tenant)
            if ID_PATTERN.fullmatch(slide_id)
            else None
        )
        if row is None:
            raise ProblemError("unknown_slide", actual=repr(slide_id[:80]))
        return row

    # --- the request

    async def parse_body(self, request: Request) -> tuple[Row, str]:
        """The JSON object of the body, and the body's digest. Raises ProblemError."""
        return await json_object(request, self.settings.limits)

    def require_pathologist(self, request: Request) -> Principal:
        """The caller, if their token names a pathologist's licence. Raises ProblemError."""
        if request.principal.licence:
            return request.principal
        raise ProblemError("not_a_pathologist", actual="The caller has no licence", actual_zh="请求方没有执业证号")


@contextmanager
def state_problems() -> Iterator[None]:
    """Raise InvalidTransitionError and SlideNotFoundError as ProblemError."""
    try:
        yield
    except InvalidTransitionError as error:
        raise state_problem(error.current, error.target) from error
    except SlideNotFoundError as error:
        raise ProblemError("unknown_slide", actual=repr(error.slide_id[:80])) from error


def state_problem(current: str, target: str) -> ProblemError:
    """The problem that a slide in state `current` cannot change to `target`."""
    predecessors = [name for name, state in STATES.items() if target in state.next]
    return ProblemError(
        "slide_state",
        actual=f"{current} ({STATES[current].en})",
        actual_zh=f"{STATES[current].zh}（{current}）",
        expected=" or ".join(predecessors) or "nothing",
        expected_zh="、".join(f"{STATES[name].zh}（{name}）" for name in predecessors) or "无",
    )
