"""The access log: who signed in and out, and who read personal data about whom, as events in the audit log.

Reads are recorded together once a second; where they cannot be recorded for long, no more personal data is sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import sqlalchemy as sa

from serving.core.audit.events import new_event, record_events
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.store import Store
from serving.core.db.tables.audit import UnloggedEventRow
from serving.core.http.request import Request, Response
from serving.decisions.products.scitech_risk import PRODUCT as COMPANIES
from serving.privacy.subjects.vault import Vault
from serving.settings import PRODUCTS

log = logging.getLogger("yuheng.access")

FLUSH_SECONDS = 1.0
REPEAT_SECONDS = 60.0  # within which the same read by the same person is one event
MAX_WAITING = 20_000  # events; beyond them personal data is refused
MAX_REMEMBERED = 50_000  # recent reads
REASON_HEADER = "access-reason"  # why the caller reads, as free text

RECORD_READS = frozenset(  # GET routes whose {id} names a record about a person
    {
        "/v1/decisions/{id}",
        "/v1/decisions/{id}/receipt",
        "/v1/decisions/{id}/trace",
        "/v1/batches/{id}",
        "/v1/batches/{id}/rows",
        "/v1/authorisations/{id}/uses",
        "/v1/slides/{id}",
        "/v1/slides/{id}/report",
        "/v1/slides/{id}/image.dzi",
        "/v1/slides/{id}/image_files/{level}/{tile}",
        "/v1/slides/{id}/heatmap.dzi",
        "/v1/slides/{id}/heatmap_files/{level}/{tile}",
        "/v1/slides/{id}/annotations.geojson",
    }
)
COMPANY_READS = frozenset({"/v1/companies/{id}/history", "/v1/companies/{id}/network"})
LIST_READS = frozenset(
    {
        *("/v1/decisions", "/v1/batches", "/v1/slides", "/v1/slides/turnaround", "/v1/authorisations"),
        *("/v1/statements/{month}", "/v1/scitech-risks/stress"),
    }
)
SUBJECT_TRACE, SESSION = "/v1/subjects/{id}/trace", "/v1/session"


class AccessLog:
    """`observe` is called in the event loop for each response; `watch` runs until cancelled."""

    def __init__(self, store: Store, vault: Callable[[], Vault]):
        self.store, self.vault = store, vault
        self._waiting: list[UnloggedEventRow] = []
        self._refused_sign_ins = 0  # since the last flush
        self._recent: dict[tuple[str | None, ...], float] = {}  # who, what and about whom -> monotonic seconds

    def observe(self, route: str, request: Request, response: Response) -> None:
        """Raises StoreUnavailableError where too many events wait to be recorded."""
        if response.status_code >= 400:
            self._refused_sign_ins += route == SESSION and request.method == "POST" and response.status_code == 401
            return
        event = self._session_event(route, request) or self._read_event(route, request)
        if event is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailableError("failed", f"{len(self._waiting):,} reads wait to be recorded")
        self._waiting.append(event)

    def _session_event(self, route: str, request: Request) -> UnloggedEventRow | None:
        kind = {"POST": "sign_in", "DELETE": "sign_out"}.get(request.method) if route == SESSION else None
        principal = request.principal
        if kind is None or not principal.subject:
            return None
        return new_event(kind, principal.tenant, principal.subject, what=f"{request.method} {SESSION}")

    def _read_event(self, route: str, request: Request) -> UnloggedEventRow | None:
        principal, record_id = request.principal, request.path_params.get("id")
        about: str | None = None
        if request.method not in ("GET", "HEAD"):
            return None
        if route in RECORD_READS:
            about = record_id
        elif route in COMPANY_READS:
            about = self.vault().pseudonym(COMPANIES.name, str(record_id))
        elif route == SUBJECT_TRACE:
            product = request.query_params.get("product", "credit_limit")
            about = self.vault().pseudonym(product, str(record_id)) if product in PRODUCTS else record_id
        elif route not in LIST_READS:
            return None
        route = route.partition("_files/")[0]  # a tile is a read of its picture
        reason, now = request.headers.get(REASON_HEADER, ""), time.monotonic()
        key = principal.tenant, principal.subject, route, about, reason
        if now - self._recent.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return None
        if len(self._recent) >= MAX_REMEMBERED:
            self._recent.clear()
        self._recent[key] = now
        return new_event("read", principal.tenant, principal.subject, about, f"GET {route}", reason)

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Record what waits; where the store takes no records, it waits on."""
        events, self._waiting = [*self._waiting, *self._refusals()], []
        if not events:
            return
        try:
            await self.store.write(lambda connection: record_events(connection, events))
        except StoreUnavailableError:
            self._waiting = events + self._waiting
            raise

    def _refusals(self) -> list[UnloggedEventRow]:
        """One event for all sign-ins that were refused since the last one."""
        count, self._refused_sign_ins = self._refused_sign_ins, 0
        return [new_event("sign_in_refused", "", "", what=f"POST {SESSION}, {count} times")] if count else []

    def finish(self, engine: sa.Engine) -> None:
        """Record the last events, once nothing else writes."""
        try:
            with engine.begin() as connection:
                record_events(connection, [*self._waiting, *self._refusals()])
        except sa.exc.SQLAlchemyError:
            log.exception("%d events of the access log could not be recorded", len(self._waiting))
