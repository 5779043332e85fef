"""Carry out a request once for each Idempotency-Key of a tenant and a scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.db.engine import EngineOrConnection, read_connection
from serving.core.db.schema import SLIDE_KEYS
from serving.core.db.store import Store
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, idempotency_key
from serving.core.identifiers import utc_now

Row = dict[str, Any]
Conceal = Callable[[bytes], str]  # a keyed digest; where it is given, keys and digests are stored by it alone


async def run_once(
    store: Store,
    request: Request,
    scope: str,
    digest: str,
    transaction: Callable[[sa.Connection], Row],
    conceal: Conceal | None = None,
) -> tuple[Row, bool]:
    """Run a transaction, or return what it returned before under the request's key.

    Returns (response, whether it is replayed). Raises ProblemError where the key belongs to a request with another
    `digest`.
    """
    key, tenant = idempotency_key(request), request.principal.tenant

    def write(connection: sa.Connection) -> tuple[Row, bool]:
        if key is None:
            return transaction(connection), False
        stored_key, stored_digest = _concealed(key, digest, conceal)
        earlier = _matching(_stored(connection, tenant, scope, stored_key), stored_digest, key)
        if earlier is not None:
            return earlier, True
        response = transaction(connection)
        row = {"tenant": tenant, "scope": scope, "key": stored_key, "request_sha256": stored_digest, "at": utc_now()}
        connection.execute(sa.insert(SLIDE_KEYS).values(row | {"answer": orjson.dumps(response)}))
        return response, False

    return await store.write(write)


async def earlier_response(
    store: Store, request: Request, scope: str, digest: str, conceal: Conceal | None = None
) -> Row | None:
    """The response stored under the request's key, to save making an expensive one. Raises ProblemError."""
    key = idempotency_key(request)
    if key is None:
        return None
    stored_key, stored_digest = _concealed(key, digest, conceal)
    return _matching(await store.read(_stored, request.principal.tenant, scope, stored_key), stored_digest, key)


def _concealed(key: str, digest: str, conceal: Conceal | None) -> tuple[str, str]:
    """Key and digest as they are stored. A client may make the name of a file part of both, and a name is guessable."""
    return (key, digest) if conceal is None else (conceal(f"key {key}".encode()), conceal(f"request {digest}".encode()))


def _stored(where: EngineOrConnection, tenant: str, scope: str, key: str) -> tuple[str, bytes] | None:
    """(SHA-256 of the request, its response as JSON)."""
    statement = sa.select(SLIDE_KEYS.c.request_sha256, SLIDE_KEYS.c.answer).where(SLIDE_KEYS.c.tenant == tenant)
    with read_connection(where) as connection:
        row = connection.execute(statement.where(SLIDE_KEYS.c.scope == scope, SLIDE_KEYS.c.key == key)).first()
        return None if row is None else (row[0], row[1])


def _matching(stored: tuple[str, bytes] | None, digest: str, key: str) -> Row | None:
    if stored is None:
        return None
    if stored[0] != digest:
        raise ProblemError("key_reused", actual=repr(key))
    response: Row = orjson.loads(stored[1])
    return response
