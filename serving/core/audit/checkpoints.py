"""Signs the log's checkpoints: after each, nobody can alter, drop or reorder an earlier leaf unseen.

Each note also goes to a file outside the store, so that a store put back to an earlier day is found out.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from serving.core.audit.log import MerkleTree, acquire_append_lock, log_size, store_nodes
from serving.core.audit.verify import VerificationError, key_id, verify_checkpoint
from serving.core.db.engine import StoreUnavailableError, read_connection, to_store_error, write_transaction
from serving.core.db.schema import LOG_CHECKPOINTS
from serving.core.identifiers import utc_now
from serving.core.security import keys

MAX_PENDING = 100  # checkpoints that wait for the store


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    size: int
    note: str


def sign_checkpoint(key: Ed25519PrivateKey, origin: str, size: int, root: bytes, timestamp: str) -> str:
    """A checkpoint as a signed note (C2SP)."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\nat {timestamp}\n"
    signature = key_id(origin, key.public_key()) + key.sign(text.encode())
    return f"{text}\n— {origin} {base64.b64encode(signature).decode()}\n"


class CheckpointSigner:
    """`note` from any thread."""

    def __init__(self, engine: sa.Engine, private_key_path: Path, file: Path, origin: str):
        """Raises KeyUnusable."""
        self.key, _ = keys.load_key_pair(private_key_path)
        self.engine, self.file, self.origin = engine, file, origin
        self._lock = threading.Lock()
        self._pending: list[dict[str, Any]] = []  # rows of checkpoints that are in the file and not yet in the store

    def latest(self) -> SignedCheckpoint | None:
        stmt = sa.select(LOG_CHECKPOINTS.c.size, LOG_CHECKPOINTS.c.note)
        with read_connection(self.engine) as connection:
            row = connection.execute(stmt.order_by(LOG_CHECKPOINTS.c.size.desc()).limit(1)).first()
        return None if row is None else SignedCheckpoint(row[0], row[1])

    def checkpoint(self, index: int | None = None) -> SignedCheckpoint:
        """The newest checkpoint, if it covers the leaf `index` (None: all there are now); else a new one over all.

        Raises StoreUnavailable, also where its file cannot be written.
        """
        with self._lock:
            latest = self.latest()
            if latest is not None and index is not None and index < latest.size:
                return latest
            try:
                with read_connection(self.engine) as connection:
                    count = log_size(connection)
                    if latest is not None and count <= latest.size:
                        return latest
                    tree = MerkleTree(connection)
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
            return SignedCheckpoint(count, note)

    def recover(self) -> str | None:
        """Store the file's last checkpoints, where a crash came between the two; what is wrong where the last is not of
        this log: the store was put back, or exchanged."""
        notes: deque[str] = deque(maxlen=MAX_PENDING)
        if self.file.exists():
            notes.extend(note for _, note in read_checkpoint_file(self.file) if note)
        if not notes:
            return None
        try:
            checkpoint = verify_checkpoint(notes[-1], self.key.public_key())
        except VerificationError as error:
            return f"{self.file}: {error}"
        latest = self.latest()
        stored_size = -1 if latest is None else latest.size
        with read_connection(self.engine) as connection:
            count = log_size(connection)
            if count < checkpoint.size:
                return f"the log has {count:,} leaves; {checkpoint.size:,} were signed at {checkpoint.timestamp}"
            if MerkleTree(connection).root(checkpoint.size) != checkpoint.root:
                return f"the log's first {checkpoint.size:,} leaves are not those that were signed at {checkpoint.timestamp}"
            self._pending = [*self._pending_rows(MerkleTree(connection), notes, stored_size)]
        self._store_pending({})
        return None

    def _pending_rows(self, tree: MerkleTree, notes: Iterable[str], after_size: int) -> Iterator[dict[str, Any]]:
        """Rows of those that the store lacks: more than one where it took none for a while before the crash."""
        for note in notes:
            try:
                checkpoint = verify_checkpoint(note, self.key.public_key())
            except VerificationError:
                continue  # the audit names it
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
        self._pending = []

    def _append_to_file(self, note: str) -> None:
        """As one more line of the file, a JSON string."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # another gateway may share the file
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                needs_newline = end > 0 and file.read(1) != b"\n"  # by a crash; nobody was given that note
                file.write((b"\n" if needs_newline else b"") + json.dumps(note, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnavailableError("full", f"the checkpoint cannot be kept: {error.strerror}") from error


def read_checkpoint_file(file: Path) -> Iterator[tuple[int, str | None]]:
    """(line, note) of each in a checkpoints file, in order; None for a line that is none."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                note = json.loads(line)
            except ValueError:
                note = None
            yield number, note if isinstance(note, str) else None
