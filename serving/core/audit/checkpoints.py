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

from serving.core.audit.log import Tree, keep_nodes, lock, size
from serving.core.audit.verify import NotProved, key_id, open_note
from serving.core.db.engine import StoreUnavailable, reading, unavailable, writing
from serving.core.db.schema import LOG_CHECKPOINTS
from serving.core.identifiers import now
from serving.core.security import keys

OWED = 100  # checkpoints that wait for the store


@dataclass(frozen=True, slots=True)
class Signed:
    size: int
    note: str


def sign(key: Ed25519PrivateKey, origin: str, size: int, root: bytes, at: str) -> str:
    """A checkpoint as a signed note (C2SP)."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\nat {at}\n"
    signature = key_id(origin, key.public_key()) + key.sign(text.encode())
    return f"{text}\n— {origin} {base64.b64encode(signature).decode()}\n"


class Notary:
    """`note` from any thread."""

    def __init__(self, engine: sa.Engine, private: Path, file: Path, origin: str):
        """Raises KeyUnusable."""
        self.key, _ = keys.pair(private)
        self.engine, self.file, self.origin = engine, file, origin
        self._lock = threading.Lock()
        self._owed: list[dict[str, Any]] = []  # rows of checkpoints that are in the file and not yet in the store

    def newest(self) -> Signed | None:
        chosen = sa.select(LOG_CHECKPOINTS.c.size, LOG_CHECKPOINTS.c.note)
        with reading(self.engine) as connection:
            found = connection.execute(chosen.order_by(LOG_CHECKPOINTS.c.size.desc()).limit(1)).first()
        return None if found is None else Signed(found[0], found[1])

    def note(self, index: int | None = None) -> Signed:
        """The newest checkpoint, if it covers the leaf `index` (None: all there are now); else a new one over all.

        Raises StoreUnavailable, also where its file cannot be written.
        """
        with self._lock:
            newest = self.newest()
            if newest is not None and index is not None and index < newest.size:
                return newest
            try:
                with reading(self.engine) as connection:
                    count = size(connection)
                    if newest is not None and count <= newest.size:
                        return newest
                    tree = Tree(connection)
                    root = tree.root(count)
            except sa.exc.SQLAlchemyError as error:
                raise unavailable(error) from error
            at = now()
            note = sign(self.key, self.origin, count, root, at)
            self._keep(note)
            self._owed = [*self._owed[1 - OWED :], {"size": count, "root": root, "note": note, "at": at}]
            self._store(tree.made)
            return Signed(count, note)

    def take_up(self) -> str | None:
        """Store the file's last checkpoints, where a crash came between the two; what is wrong where the last is not of
        this log: the store was put back, or exchanged."""
        notes: deque[str] = deque(maxlen=OWED)
        if self.file.exists():
            notes.extend(note for _, note in read_notes(self.file) if note)
        if not notes:
            return None
        try:
            signed = open_note(notes[-1], self.key.public_key())
        except NotProved as error:
            return f"{self.file}: {error}"
        newest = self.newest()
        stored = -1 if newest is None else newest.size
        with reading(self.engine) as connection:
            count = size(connection)
            if count < signed.size:
                return f"the log has {count:,} leaves; {signed.size:,} were signed at {signed.at}"
            if Tree(connection).root(signed.size) != signed.root:
                return f"the log's first {signed.size:,} leaves are not those that were signed at {signed.at}"
            self._owed = [*self._unstored(Tree(connection), notes, stored)]
        self._store({})
        return None

    def _unstored(self, tree: Tree, notes: Iterable[str], after: int) -> Iterator[dict[str, Any]]:
        """Rows of those that the store lacks: more than one where it took none for a while before the crash."""
        for note in notes:
            try:
                one = open_note(note, self.key.public_key())
            except NotProved:
                continue  # the audit names it
            if one.size > after and tree.root(one.size) == one.root:
                yield {"size": one.size, "root": one.root, "note": note, "at": one.at}

    def _store(self, nodes: Mapping[tuple[int, int], bytes]) -> None:
        with writing(self.engine) as connection:
            lock(connection)
            keep_nodes(connection, nodes)
            for row in self._owed:
                there = sa.select(LOG_CHECKPOINTS.c.size).where(LOG_CHECKPOINTS.c.size == row["size"])
                if connection.execute(there).first() is None:
                    connection.execute(sa.insert(LOG_CHECKPOINTS).values(row))
        self._owed = []

    def _keep(self, note: str) -> None:
        """As one more line of the file, a JSON string."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # another gateway may share the file
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                torn = end > 0 and file.read(1) != b"\n"  # by a crash; nobody was given that note
                file.write((b"\n" if torn else b"") + json.dumps(note, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnavailable("full", f"the checkpoint cannot be kept: {error.strerror}") from error


def read_notes(file: Path) -> Iterator[tuple[int, str | None]]:
    """(line, note) of each in a checkpoints file, in order; None for a line that is none."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            yield number, found if isinstance(found, str) else None
