"""Check entries of the log as the store returns them: before a checkpoint is signed over them, and in an audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit.authenticator import EntryAuthenticator
from serving.core.audit.verify import MAX_CLOCK_SKEW_SECONDS, TIME_PATTERN, leaf_hash, seconds_between
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.schema import LOG_LEAVES

PAGE_SIZE = 2_000  # entries in memory at a time
_COLUMNS = tuple(LOG_LEAVES.c[name] for name in ("index", "body", "hash", "tag", "kind", "at", "tenant", "ref"))
_PAGE = (
    sa.select(*_COLUMNS)
    .where(LOG_LEAVES.c.index >= sa.bindparam("first"))
    .order_by(LOG_LEAVES.c.index)
    .limit(PAGE_SIZE)
)


class LogTamperedError(StoreUnavailableError):
    """The log is not the one that the service wrote, so nothing is signed over it. The message names the entry."""

    def __init__(self, detail: str):
        super().__init__("failed", detail)


class LogRolledBackError(LogTamperedError):
    """The log does not continue what was signed or written before: it was rolled back, or forked."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as the store holds it. `parsed`: None where the body is not the JSON of an entry."""

    index: int
    body: bytes
    hash: bytes
    timestamp: str
    parsed: dict[str, Any] | None
    has_own_hash: bool  # that of its body
    has_own_columns: bool  # those that its body states
    is_authentic: bool | None  # whether its tag is the service's; None without the key


def read_entries(
    connection: sa.Connection, authenticator: EntryAuthenticator | None, first_index: int = 0
) -> Iterator[list[StoredEntry]]:
    """The entries from `first_index` on, page by page."""
    while rows := connection.execute(_PAGE, {"first": first_index}).all():
        yield [_check(authenticator, *row) for row in rows]
        first_index = rows[-1][0] + 1


def _check(
    authenticator: EntryAuthenticator | None,
    index: int, stored_body: Any, digest: Any, tag: Any, kind: Any, timestamp: Any, tenant: Any, ref: Any,
) -> StoredEntry:  # fmt: skip
    body = to_bytes(stored_body)
    try:
        parsed = orjson.loads(body)
        columns = parsed["kind"], parsed["at"], parsed["tenant"], parsed["ref"]
        is_entry = all(isinstance(value, str) for value in columns)
    except (ValueError, KeyError, TypeError):
        parsed, columns, is_entry = None, None, False
    actual_digest = leaf_hash(body)
    return StoredEntry(
        index,
        body,
        actual_digest,
        str(timestamp),
        parsed if is_entry else None,
        has_own_hash=actual_digest == digest,
        has_own_columns=columns == (kind, timestamp, tenant, ref),
        is_authentic=None if authenticator is None else authenticator.is_authentic(index, actual_digest, tag),
    )


class TimeOrder:
    """Checks that entries are dated after each other, but for what two clocks may differ."""

    def __init__(self, earliest: str = ""):
        self._previous, self._earliest = "", earliest

    def start_after(self, checkpoint_timestamp: str) -> None:
        """The entries to come were appended after this checkpoint was signed."""
        self._earliest = checkpoint_timestamp

    def mismatch(self, timestamp: str, latest: str = "") -> str | None:
        """What is wrong with the time of the next entry. `latest`: of the checkpoint that covers it."""
        previous, self._previous = self._previous, timestamp
        if not TIME_PATTERN.fullmatch(timestamp):
            return f"its time is {timestamp[:40]!r}; expected one such as 2026-11-25T08:00:00.000Z"
        try:
            if previous and timestamp < previous and seconds_between(timestamp, previous) > MAX_CLOCK_SKEW_SECONDS:
                return f"it is dated {timestamp}, before the entry in front of it, {previous}"
            earliest = self._earliest
            if earliest and timestamp < earliest and seconds_between(timestamp, earliest) > MAX_CLOCK_SKEW_SECONDS:
                return f"it is dated {timestamp}, before the checkpoint of {earliest}, which does not cover it"
            if latest and timestamp > latest and seconds_between(latest, timestamp) > MAX_CLOCK_SKEW_SECONDS:
                return f"it is dated {timestamp}, after the checkpoint of {latest}, which covers it"
        except ValueError:
            return f"its time is {timestamp!r} after {previous!r}; one of them is no date"
        return None


def verify_new_entries(
    connection: sa.Connection, authenticator: EntryAuthenticator, first_index: int, size: int, since: str
) -> str | None:
    """Check the entries from `first_index` up to a size before they are signed. Returns what is wrong with their times.

    since: time of the checkpoint over those before. Raises LogTamperedError.
    """
    expected_index, times, time_mismatch = first_index, TimeOrder(since), None
    for page in read_entries(connection, authenticator, first_index):
        for entry in page:
            if expected_index == size:
                return time_mismatch
            if entry.index != expected_index:
                raise LogTamperedError(f"the log has no entry {expected_index}, but has entry {entry.index}")
            if not entry.is_authentic:
                raise LogTamperedError(f"log entry {entry.index} was not written by this service, or was changed")
            if not (entry.has_own_hash and entry.has_own_columns):
                raise LogTamperedError(f"the hash or the columns of log entry {entry.index} are not those of its body")
            if mismatch := times.mismatch(entry.timestamp):
                time_mismatch = f"log entry {entry.index}: {mismatch}"
            expected_index += 1
    if expected_index < size:
        raise LogTamperedError(f"the log ends before entry {expected_index}; it had {size} entries")
    return time_mismatch


def to_bytes(stored: Any) -> bytes:
    """The content of a binary column. SQLite accepts text there; its bytes then match no digest."""
    return stored if isinstance(stored, bytes) else repr(stored).encode()
