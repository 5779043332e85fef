"""Idempotent requests: requests with the same key share one decision, while it is being recorded and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.core.db.store import Store
from serving.core.http.problems import ProblemError
from serving.decisions.inputs import to_problem
from serving.decisions.records import StoredAnswer, by_idempotency_key
from serving.privacy.consent.rules import ConsentRevokedError
from serving.privacy.subjects.errors import SubjectErasedError

Key = tuple[str, str, str]  # tenant, scope, idempotency key
Commit = asyncio.Future[StoredAnswer | None]  # None: recorded; else what the key already stood for


@dataclass(frozen=True, slots=True, eq=False)
class InflightDecision:
    """A decision that is not on disk yet; `response` resolves to its body once it is."""

    request_sha256: str
    response: asyncio.Future[bytes]


class InflightDecisions:
    """Used from the event loop that serves."""

    def __init__(self, store: Store):
        self.store = store
        self._by_key: dict[Key, InflightDecision] = {}

    async def find_response(self, key: Key, digest: str) -> bytes | None:
        """Return the body of the first response under this key, once it is recorded; None for a new key.

        digest: of the request. Raises ProblemError where the key belongs to another request, or where recording the
        first one fails.
        """
        stored: StoredAnswer | None = None
        if key not in self._by_key:
            reader = self.store.reader
            stored = await self.store.run_blocking(
                lambda: reader.run(lambda connection: by_idempotency_key(connection, *key))
            )
        if stored is not None:
            _require_same_request(stored.request_sha256, digest, key[2])
            return stored.answer
        inflight = self._by_key.get(key)  # looked up again: another may have started while the store was read
        if inflight is None:
            return None
        _require_same_request(inflight.request_sha256, digest, key[2])
        return await asyncio.shield(inflight.response)

    def share(self, row: Mapping[str, Any], commit: Commit) -> Commit:
        """Pass the outcome of `commit` on to requests with the same key that arrive before it is done.

        row: the decision's row of DECISIONS, with its idempotency key. The returned future may be cancelled; `commit`
        goes on, and its outcome still reaches the others.
        """
        response: asyncio.Future[bytes] = self.store.loop.create_future()
        response.add_done_callback(lambda done: done.exception())  # mark it retrieved: perhaps nobody awaits it
        key = row["tenant"], row["scope"], row["idempotency_key"]
        inflight = self._by_key[key] = InflightDecision(row["request_sha256"], response)
        commit.add_done_callback(lambda done: self._resolve(key, inflight, row["answer"], done))
        return asyncio.shield(commit)

    def _resolve(self, key: Key, inflight: InflightDecision, answer: bytes, commit: Commit) -> None:
        if self._by_key.get(key) is inflight:  # else a later request read the store just before this one was in it
            del self._by_key[key]
        if (error := commit.exception()) is not None:
            if isinstance(error, ConsentRevokedError | SubjectErasedError):
                error = to_problem(error)
            inflight.response.set_exception(error)
            return
        stored = commit.result()
        if stored is not None and stored.request_sha256 != inflight.request_sha256:
            inflight.response.set_exception(ProblemError("key_reused", actual=repr(key[2])))
        else:
            inflight.response.set_result(answer if stored is None else stored.answer)


def _require_same_request(first_digest: str, digest: str, idempotency_key: str) -> None:
    if first_digest != digest:
        raise ProblemError("key_reused", actual=repr(idempotency_key))
