"""Sign checkpoints of the log, after which any change to an earlier leaf is detected.

Every checkpoint is also appended to a file outside the store, which reveals a store that was restored from a backup.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from serving.core.audit.authenticator import authenticator_of
from serving.core.audit.entry_checks import LogRolledBackError, LogTamperedError, verify_new_entries
from serving.core.audit.log import MerkleTree, acquire_append_lock, log_size, store_nodes
from serving.core.audit.verify import Checkpoint, VerificationError, key_id, node_hash, verify_checkpoint
from serving.core.db.engine import read_connection, to_store_error, write_transaction
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.schema import LOG_CHECKPOINTS
from serving.core.identifiers import utc_now
from serving.core.security import keys

MAX_PENDING = 100  # checkpoints in the file that wait for the store
MAX_PROOF_HASHES = 130  # hashes of a consistency proof: more than twice the depth of any tree
MAX_NOTE_BYTES = 1_000  # of one checkpoint in the file


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    size: int
    note: str
    root: bytes
    timestamp: str


def sign_checkpoint(key: Ed25519PrivateKey, origin: str, size: int, root: bytes, timestamp: str) -> str:
    """A checkpoint as a signed note (C2SP tlog-checkpoint). `origin`: name of the log."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\nat {timestamp}\n"
    signature = key_id(origin, key.public_key()) + key.sign(text.encode())
    return f"{text}\n— {origin} {base64.b64encode(signature).decode()}\n"


class CheckpointSigner:
    """Signs checkpoints; thread-safe."""

    def __init__(self, engine: sa.Engine, private_key_path: Path, file: Path, origin: str):
        """`file`: the checkpoints outside the store. Raises KeyFileError."""
        self.key, _ = keys.load_key_pair(private_key_path)
        self.engine, self.file, self.origin = engine, file, origin
        self.time_alarm: str | None = None  # the newest entry that is not dated after the one in front of it
        self._lock = threading.Lock()
        self._newest: SignedCheckpoint | None = None  # as last read from the store, and verified
        self._pending: list[dict[str, Any]] = []  # rows of the checkpoints that the file has and the store lacks

    def latest(self) -> SignedCheckpoint | None:
        """The newest checkpoint in the store. Raises LogTamperedError where this log's key did not sign it."""
        stmt = sa.select(LOG_CHECKPOINTS.c.size, LOG_CHECKPOINTS.c.note)
        with read_connection(self.engine) as connection:
            row = connection.execute(stmt.order_by(LOG_CHECKPOINTS.c.size.desc()).limit(1)).first()
        newest = self._newest
        if newest is not None and (row is None or row.size < newest.size):
            raise LogRolledBackError(f"log_checkpoints {newest.size} is gone; it was signed at {newest.timestamp}")
        if row is None:
            return None
        if newest is None or newest.note != row.note:
            self._newest = self._verify(row.size, row.note)
        return self._newest

    def _verify(self, size: int, note: str) -> SignedCheckpoint:
        try:
            checkpoint = verify_checkpoint(note, self.key.public_key())
        except VerificationError as error:
            raise LogTamperedError(f"log_checkpoints {size}: {error}") from error
        if checkpoint.size != size:
            raise LogTamperedError(f"log_checkpoints {size}: its note covers {checkpoint.size} entries")
        return SignedCheckpoint(size, note, checkpoint.root, checkpoint.timestamp)

    def checkpoint(self, index: int | None = None) -> SignedCheckpoint:
        """The newest checkpoint if it covers the leaf `index` (None: every leaf); else a new one over the whole log.

        Every entry since the checkpoint before is verified first. Raises StoreUnavailableError, also where the file
        cannot be written, and LogTamperedError where the log is not the one that the service wrote.
        """
        with self._lock:
            latest = self.latest()
            if latest is not None and index is not None and index < latest.size:
                return latest
            try:
                with read_connection(self.engine) as connection:
                    count = log_size(connection)
                    if latest is not None and count == latest.size:
                        return latest
                    tree = MerkleTree(connection)
                    self._verify_log(connection, tree, latest, count)
                    root = tree.root(count)
            except sa.exc.SQLAlchemyError as error:
                raise to_store_error(error) from error
            timestamp = utc_now()
            note = sign_checkpoint(self.key, self.origin, count, root, timestamp)
            self._append_to_file(note)
            self._pending = [
                *self._pending[1 - MAX_PENDING :],
                {"size": count, "root": root, "note": note, "at": timestamp},
            ]
            self._store_pending(tree.computed_nodes)
            return SignedCheckpoint(count, note, root, timestamp)

    def _verify_log(
        self, connection: sa.Connection, tree: MerkleTree, latest: SignedCheckpoint | None, count: int
    ) -> None:
        """Raises LogTamperedError unless the log continues the latest checkpoint with entries of the service's own."""
        authenticator = authenticator_of(connection)
        if count < authenticator.written_size:
            detail = f"the log has {count:,} entries; this service wrote {authenticator.written_size:,}"
            raise LogRolledBackError(detail)
        try:
            if latest is not None and tree.root(latest.size) != latest.root:
                detail = f"the first {latest.size:,} entries are not those signed at {latest.timestamp}"
                raise LogRolledBackError(detail)
        except LookupError as error:
            raise LogRolledBackError(str(error)) from error
        first_index, since = (0, "") if latest is None else (latest.size, latest.timestamp)
        self.time_alarm = verify_new_entries(connection, authenticator, first_index, count, since) or self.time_alarm

    def verify_entries(self) -> None:
        """Raises LogTamperedError unless every entry is the service's own, and the newest checkpoint in the store is of
        this log."""
        with read_connection(self.engine) as connection:
            count, latest = log_size(connection), self.latest()
            self._verify_log(connection, MerkleTree(connection), latest, count)
            verify_new_entries(connection, authenticator_of(connection), 0, count, "")

    def find_rollback(self) -> str | None:
        """What is wrong where the file's last checkpoint is not one of this log, which means that the store was
        restored from a backup or replaced; else None."""
        notes = last_notes(self.file)
        if not notes:
            return None
        try:
            checkpoint = verify_checkpoint(notes[-1], self.key.public_key())
            self.latest()
        except VerificationError as error:
            return f"{self.file}: {error}"
        except LogTamperedError as error:
            return str(error)
        with read_connection(self.engine) as connection:
            count = log_size(connection)
            if count < checkpoint.size:
                return f"the log has {count:,} leaves, but {checkpoint.size:,} were signed at {checkpoint.timestamp}"
            try:
                is_same = MerkleTree(connection).root(checkpoint.size) == checkpoint.root
            except LookupError as error:
                return str(error)
        if not is_same:
            return f"the first {checkpoint.size:,} leaves differ from those signed at {checkpoint.timestamp}"
        return None

    def recover(self) -> str | None:
        """Store the file's last checkpoints, in case of a crash between the two writes. Returns `find_rollback`."""
        if (rollback := self.find_rollback()) is not None:
            return rollback
        latest = self.latest()
        stored_size = -1 if latest is None else latest.size
        with read_connection(self.engine) as connection:
            self._pending = [*self._pending_rows(MerkleTree(connection), last_notes(self.file), stored_size)]
        if self._pending:
            self._store_pending({})
        return None

    def _pending_rows(self, tree: MerkleTree, notes: Iterable[str], after_size: int) -> Iterator[dict[str, Any]]:
        """Rows of the checkpoints that the store lacks: several where it was unavailable before the crash."""
        for note in notes:
            try:
                checkpoint = verify_checkpoint(note, self.key.public_key())
            except VerificationError:
                continue  # the audit reports it
            if checkpoint.size > after_size and tree.root(checkpoint.size) == checkpoint.root:
                yield {"size": checkpoint.size, "root": checkpoint.root, "note": note, "at": checkpoint.timestamp}

    def _store_pending(self, nodes: Mapping[tuple[int, int], bytes]) -> None:
        with write_transaction(self.engine) as connection:
            acquire_append_lock(connection)
            store_nodes(connection, nodes)
            for row in self._pending:
                existing = sa.select(LOG_CHECKPOINTS.c.size).where(LOG_CHECKPOINTS.c.size == row["size"])
                if connection.execute(existing).first() is None:
                    connection.execute(sa.insert(LOG_CHECKPOINTS).values(row))
        if self._pending:
            newest = self._pending[-1]
            self._newest = SignedCheckpoint(newest["size"], newest["note"], newest["root"], newest["at"])
        self._pending = []

    def _append_to_file(self, note: str) -> None:
        """Append the note to the file as one line, a JSON string."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # another process may share the file
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                needs_newline = end > 0 and file.read(1) != b"\n"  # after a crash; that note was never given out
                file.write((b"\n" if needs_newline else b"") + json.dumps(note, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            detail = f"the checkpoint cannot be written to {self.file}: {error.strerror}"
            raise StoreUnavailableError("full", detail) from error


def last_notes(file: Path) -> list[str]:
    """The last notes of a checkpoints file, at most MAX_PENDING, oldest first. Reads its end alone."""
    if not file.exists():
        return []
    with file.open("rb") as lines:
        end = lines.seek(0, os.SEEK_END)
        start = max(0, end - MAX_PENDING * MAX_NOTE_BYTES)
        lines.seek(start)
        if start:
            lines.readline()  # the rest of a line
        notes = [note for line in lines if (note := _parse_line(line)) is not None]
    return notes[-MAX_PENDING:]


def read_checkpoint_file(file: Path) -> Iterator[tuple[int, str | None]]:
    """(line number, note) of each line of a checkpoints file; the note is None where the line is not a JSON string."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            yield number, _parse_line(line)


def _parse_line(line: bytes) -> str | None:
    try:
        note = json.loads(line)
    except ValueError:
        return None
    return note if isinstance(note, str) else None


# --- whether a later checkpoint continues an earlier one


def roots_from_consistency_proof(
    first: int, second: int, first_root: bytes, path: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """The roots over `first` and `second` leaves that follow from a consistency proof (RFC 9162, 2.1.4.2). Raises
    VerificationError."""
    if not 0 < first <= second:
        raise VerificationError(f"a log of {second} entries cannot continue one of {first}")
    if first == second:
        if path:
            raise VerificationError("the consistency proof is too long")
        return first_root, first_root
    hashes = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not path:
        raise VerificationError("the consistency proof is too short")
    position, last_position = first - 1, second - 1
    while position & 1:
        position, last_position = position >> 1, last_position >> 1
    old_root = new_root = hashes[0]
    for sibling in hashes[1:]:
        if last_position == 0:
            raise VerificationError("the consistency proof is too long")
        if position & 1 or position == last_position:
            old_root, new_root = node_hash(sibling, old_root), node_hash(sibling, new_root)
            while not position & 1 and position:
                position, last_position = position >> 1, last_position >> 1
        else:
            new_root = node_hash(new_root, sibling)
        position, last_position = position >> 1, last_position >> 1
    if last_position:
        raise VerificationError("the consistency proof is too short")
    return old_root, new_root


def verify_consistency(earlier: str, proof: Mapping[str, Any], key: Ed25519PublicKey) -> tuple[Checkpoint, Checkpoint]:
    """(earlier checkpoint, later checkpoint). `earlier`: a note that somebody kept; `proof`: as the service answers it.

    Raises VerificationError where the key did not sign both, or the later one does not continue the earlier one.
    """
    try:
        note, hashes = proof["checkpoint"], proof["proof"]
        if not isinstance(note, str) or not isinstance(hashes, list) or len(hashes) > MAX_PROOF_HASHES:
            raise ValueError("expected checkpoint, a note, and proof, a list of hashes")
        path = [bytes.fromhex(item) for item in hashes]
        if any(len(item) != 32 for item in path):
            raise ValueError("expected hashes of 32 bytes")
    except (KeyError, TypeError, ValueError) as error:
        raise VerificationError(f"the consistency proof cannot be read: {error}") from error
    first, second = verify_checkpoint(earlier, key), verify_checkpoint(note, key)
    if first.origin != second.origin:
        raise VerificationError(f"the checkpoints are of two logs, {first.origin!r} and {second.origin!r}")
    roots = roots_from_consistency_proof(first.size, second.size, first.root, path)
    if roots != (first.root, second.root):
        raise VerificationError(
            f"the log of {second.size} entries, signed at {second.timestamp}, does not continue the one of "
            f"{first.size}, signed at {first.timestamp}: entries were changed or removed"
        )
    return first, second
