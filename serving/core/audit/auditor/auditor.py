"""Audit a store offline: compare its rows with the log, and the log with the signed checkpoints.

Every row that was edited, deleted, reordered, added or rolled back is reported. One pass, bounded memory, no writes.

    report = audit_store(engine, public_key, checkpoints_file, authenticator)
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from serving.core.audit.auditor.comparison import RowChecks
from serving.core.audit.auditor.entry_shapes import is_well_formed
from serving.core.audit.auditor.findings import MAX_FINDINGS, AuditReport, Body
from serving.core.audit.authenticator import EntryAuthenticator
from serving.core.audit.checkpoints import read_checkpoint_file
from serving.core.audit.entry_checks import PAGE_SIZE, StoredEntry, TimeOrder, read_entries
from serving.core.audit.log import BLOCK_LEVEL, MerkleFrontier, MerkleTree
from serving.core.audit.verify import Checkpoint, VerificationError, verify_checkpoint
from serving.core.db.engine import to_store_error
from serving.core.db.schema import LOG_CHECKPOINTS, LOG_NODES

MAX_OUT_OF_ORDER = 10_000  # checkpoints out of order in the file, as two gateways leave that sign at the same time
CheckpointSource = tuple[Checkpoint, str]  # a checkpoint, and "store" or "file"


def audit_store(
    engine: sa.Engine,
    key: Ed25519PublicKey,
    checkpoints: Path | None,
    authenticator: EntryAuthenticator | None = None,
) -> AuditReport:
    """Audit one snapshot of the store. Raises StoreUnavailableError.

    key: of the log. checkpoints: the file of checkpoints outside the store; None to audit the store alone.
    authenticator: with the key of the entries; without it, whoever wrote an entry is certain only where a checkpoint
    covers it, since the service signs none over an entry that is not its own.
    """
    try:
        with _snapshot_engine(engine).connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # one snapshot, while the service may continue to write
            return Auditor(connection, key, checkpoints, authenticator).run()
    except sa.exc.SQLAlchemyError as error:
        raise to_store_error(error) from error


def _snapshot_engine(engine: sa.Engine) -> sa.Engine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(reading=True)
    return engine.execution_options(isolation_level="REPEATABLE READ")


class Auditor:
    """Audits the snapshot that a connection sees. `file`: the checkpoints outside the store, or None."""

    def __init__(
        self,
        connection: sa.Connection,
        key: Ed25519PublicKey,
        file: Path | None,
        authenticator: EntryAuthenticator | None = None,
    ):
        self.connection, self.key, self.file, self.authenticator = connection, key, file, authenticator
        self.report = AuditReport()
        self.checks = RowChecks(connection, self.report, key)
        self.out_of_order_sizes: set[int] = set()  # sizes of checkpoints that stand out of order in the file

    def run(self) -> AuditReport:
        frontier, checkpoints, times = MerkleFrontier(), self._all_checkpoints(), TimeOrder()
        next_checkpoint, verified_size, root_mismatch = next(checkpoints, None), 0, False
        for page in self._entries():
            nodes: dict[tuple[int, int], bytes] = {}
            for entry in page:
                latest = "" if next_checkpoint is None else next_checkpoint.timestamp
                if mismatch := times.mismatch(entry.timestamp, latest):
                    self.report.add("backdated", f"log_leaves {entry.index}", mismatch)
                for level, position, digest in frontier.add(entry.hash):
                    if level >= BLOCK_LEVEL:
                        nodes[level, position] = digest
                while next_checkpoint is not None and next_checkpoint.size <= frontier.size:
                    if next_checkpoint.size == frontier.size:
                        if frontier.root() == next_checkpoint.root:
                            verified_size = next_checkpoint.size
                        elif not root_mismatch:
                            root_mismatch = True
                            leaf_range = f"leaves {verified_size} to {next_checkpoint.size - 1}"
                            detail = f"the checkpoint signed at {next_checkpoint.timestamp} has another root"
                            self.report.add("edited", f"log_leaves, {leaf_range}", detail)
                    times.start_after(next_checkpoint.timestamp)
                    next_checkpoint = next(checkpoints, None)
            self._check_nodes(nodes)
        while next_checkpoint is not None:
            signed = f"the checkpoint signed at {next_checkpoint.timestamp} covers {next_checkpoint.size} leaves"
            self.report.add("rolled back", "log_leaves", f"{signed}; the log has {frontier.size}")
            next_checkpoint = next(checkpoints, None)
        self.checks.finish()
        self.report.leaves, self.report.covered = frontier.size, verified_size
        return self.report

    # --- the log

    def _entries(self) -> Iterator[list[StoredEntry]]:
        """All entries, page by page, each compared with the row that it records."""
        expected_index, report = 0, self.report
        for page in read_entries(self.connection, self.authenticator):
            well_formed: list[tuple[int, Body]] = []
            for entry in page:
                location = f"log_leaves {entry.index}"
                if entry.index != expected_index:
                    report.add("deleted", f"log_leaves {expected_index}", f"the next one is {entry.index}")
                expected_index = entry.index + 1
                if not entry.has_own_hash:
                    report.add("edited", location, "its hash is not that of its body")
                if not entry.has_own_columns:
                    report.add("edited", location, "its columns differ from its body")
                if entry.is_authentic is False:
                    report.add("not signed", location, "its tag is not the one that the service computes")
                if entry.parsed is not None and is_well_formed(entry.parsed):
                    well_formed.append((entry.index, entry.parsed))
                else:
                    report.add("edited", location, "it lacks fields of its kind")
            self.checks.compare(well_formed)
            yield page

    def _check_nodes(self, nodes: dict[tuple[int, int], bytes]) -> None:
        for level in {level for level, _ in nodes}:
            positions = [position for node_level, position in nodes if node_level == level]
            stmt = sa.select(LOG_NODES.c.index, LOG_NODES.c.hash).where(LOG_NODES.c.level == level)
            for position, digest in self.connection.execute(
                stmt.where(LOG_NODES.c.index.between(min(positions), max(positions)))
            ):
                if nodes.get((level, position), digest) != digest:
                    self.report.add("edited", f"log_nodes {level}, {position}", "it is not the hash of its leaves")

    # --- checkpoints

    def _verify_note(self, note: str, location: str) -> Checkpoint | None:
        try:
            return verify_checkpoint(str(note), self.key)
        except VerificationError as error:
            self.report.add("not signed", location, str(error))
            return None

    def _stored_checkpoints(self) -> Iterator[CheckpointSource]:
        """The checkpoints in the store, smallest first."""
        table, last_size = LOG_CHECKPOINTS.c, -1
        while True:
            page_stmt = sa.select(table.size, table.root, table.note, table.at).where(table.size > last_size)
            rows = self.connection.execute(page_stmt.order_by(table.size).limit(PAGE_SIZE)).all()
            for size, root, note, timestamp in rows:
                last_size, location = size, f"log_checkpoints {size}"
                checkpoint = self._verify_note(note, location)
                if checkpoint is None:
                    continue
                self.report.checkpoints += 1
                if (checkpoint.size, checkpoint.root, checkpoint.timestamp) != (size, root, timestamp):
                    self.report.add("edited", location, "its columns differ from its note")
                yield checkpoint, "store"
            if not rows:
                return

    def _all_checkpoints(self) -> Iterator[Checkpoint]:
        """The checkpoints of the store and the file, smallest first; one that either lacks is reported.

        The file is written first, so after a crash its newest checkpoints may be missing in the store until the next
        start.
        """
        file_checkpoints = None if self.file is None else self._file_checkpoints(self.file)
        merged = merge(self._stored_checkpoints(), file_checkpoints or iter(()), key=lambda pair: pair[0].size)
        missing_in_file: list[int] = []
        missing_in_store: list[int] = []  # since the last one in the store
        for size, group in groupby(merged, key=lambda pair: pair[0].size):
            sources = set()
            for checkpoint, source in group:
                sources.add(source)
                yield checkpoint
            if "store" not in sources:
                missing_in_store += [size] if len(missing_in_store) < MAX_FINDINGS else []
                continue
            for missing_size in missing_in_store:
                self.report.add("deleted", f"log_checkpoints {missing_size}", f"{self.file} has it")
            missing_in_store.clear()
            if file_checkpoints is not None and "file" not in sources and len(missing_in_file) < MAX_FINDINGS:
                missing_in_file.append(size)
        for size in missing_in_file:
            if size not in self.out_of_order_sizes:
                self.report.add("deleted", f"{self.file}, the checkpoint of size {size}", "log_checkpoints has it")

    def _file_checkpoints(self, file: Path) -> Iterator[CheckpointSource]:
        last_size = -1
        if not file.exists():
            if self.connection.execute(sa.select(LOG_CHECKPOINTS.c.size).limit(1)).first() is not None:
                self.report.add("deleted", str(file), "the file does not exist")
            return
        for line, note in read_checkpoint_file(file):
            location = f"{file}, line {line}"
            checkpoint = None if note is None else self._verify_note(note, location)
            if note is None:
                self.report.add("edited", location, "it is not a checkpoint")
            if checkpoint is None:
                continue
            if checkpoint.size > last_size:
                last_size = checkpoint.size
                yield checkpoint, "file"
                continue
            if len(self.out_of_order_sizes) < MAX_OUT_OF_ORDER:
                self.out_of_order_sizes.add(checkpoint.size)
            if not self._root_matches(checkpoint):
                signed = f"the checkpoint signed at {checkpoint.timestamp} covers {checkpoint.size} leaves"
                detail = f"{signed} with another root, after one over {last_size} leaves"
                self.report.add("rolled back", location, detail)

    def _root_matches(self, checkpoint: Checkpoint) -> bool:
        try:
            return MerkleTree(self.connection).root(checkpoint.size) == checkpoint.root
        except LookupError:
            return False
