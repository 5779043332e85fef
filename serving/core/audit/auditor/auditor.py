"""Compares the store with its log, and the log with what was signed: any row edited, deleted, reordered, added or put
back is found and named. Reads in one pass and bounded memory, writes nothing.

    found = audit(engine, public_key, checkpoints_file)
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from pathlib import Path

import orjson
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from serving.core.audit.auditor.decisions import Rows, whole
from serving.core.audit.auditor.findings import MOST, Body, Report, raw
from serving.core.audit.checkpoints import read_notes
from serving.core.audit.log import BLOCK, Peaks, Tree
from serving.core.audit.verify import Checkpoint, NotProved, leaf_hash, open_note
from serving.core.db.engine import unavailable
from serving.core.db.schema import LOG_CHECKPOINTS, LOG_LEAVES, LOG_NODES

PART = 2_000  # leaves in memory together
LATE = 10_000  # checkpoints out of their order, as of two gateways that signed at once
Source = tuple[Checkpoint, str]  # "store" or "file"


def audit(engine: sa.Engine, key: Ed25519PublicKey, checkpoints: Path | None) -> Report:
    """`checkpoints`: the file outside the store; None where only the store is looked at. Raises StoreUnavailable."""
    try:
        with _snapshot(engine).connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # one state of the store, while the service may go on
            return _Audit(connection, key, checkpoints).run()
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error


def _snapshot(engine: sa.Engine) -> sa.Engine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(reading=True)
    return engine.execution_options(isolation_level="REPEATABLE READ")


class _Audit:
    def __init__(self, connection: sa.Connection, key: Ed25519PublicKey, file: Path | None):
        self.connection, self.key, self.file = connection, key, file
        self.report = Report()
        self.rows = Rows(connection, self.report)
        self.late: set[int] = set()  # sizes that the file tells out of order

    def run(self) -> Report:
        peaks, signed = Peaks(), self._signed()
        due, good, differs = next(signed, None), 0, False
        for part in self._leaves():
            nodes: dict[tuple[int, int], bytes] = {}
            for body in part:
                for level, place, found in peaks.add(leaf_hash(body)):
                    if level >= BLOCK:
                        nodes[level, place] = found
                while due is not None and due.size <= peaks.size:
                    if due.size == peaks.size:
                        if peaks.root() == due.root:
                            good = due.size
                        elif not differs:
                            differs = True
                            between = f"leaves {good} to {due.size - 1}"
                            self.report.add("edited", f"log_leaves, {between}", f"another root was signed at {due.at}")
                    due = next(signed, None)
            self._nodes(nodes)
        while due is not None:
            told = f"{due.size} leaves were signed at {due.at}; the log has {peaks.size}"
            self.report.add("rolled back", "log_leaves", told)
            due = next(signed, None)
        self.rows.finish()
        self.report.leaves = peaks.size
        return self.report

    # --- the log

    def _leaves(self) -> Iterator[list[bytes]]:
        """The bodies of all leaves, in parts, each compared with what it stands for."""
        after, wanted = -1, 0
        table = LOG_LEAVES.c
        chosen = sa.select(table.index, table.body, table.hash, table.kind, table.at, table.tenant, table.ref)
        while True:
            step = chosen.where(table.index > after).order_by(table.index).limit(PART)
            rows = self.connection.execute(step).all()
            if not rows:
                return
            told: list[tuple[int, Body]] = []
            bodies: list[bytes] = []
            for index, stored, digest, kind, at, tenant, ref in rows:
                body = raw(stored)
                bodies.append(body)
                if index != wanted:
                    self.report.add("deleted", f"log_leaves {wanted}", f"the next that is there is {index}")
                wanted = index + 1
                if leaf_hash(body) != digest:
                    self.report.add("edited", f"log_leaves {index}", "its body does not have its hash")
                try:
                    said = orjson.loads(body)
                    same = (said["kind"], said["at"], said["tenant"], said["ref"]) == (kind, at, tenant, ref)
                except (ValueError, KeyError, TypeError):
                    said, same = {"kind": ""}, False
                if not same:
                    self.report.add("edited", f"log_leaves {index}", "its columns are not those of its body")
                if whole(said):
                    told.append((index, said))
                else:
                    self.report.add("edited", f"log_leaves {index}", "it does not tell what a leaf of its kind tells")
            after = rows[-1][0]
            self.rows.compare(told)
            yield bodies

    def _nodes(self, nodes: dict[tuple[int, int], bytes]) -> None:
        for level in {level for level, _ in nodes}:
            places = [place for at, place in nodes if at == level]
            chosen = sa.select(LOG_NODES.c.index, LOG_NODES.c.hash).where(LOG_NODES.c.level == level)
            for place, found in self.connection.execute(
                chosen.where(LOG_NODES.c.index.between(min(places), max(places)))
            ):
                if nodes.get((level, place), found) != found:
                    self.report.add("edited", f"log_nodes {level}, {place}", "it is not the hash over its leaves")

    # --- what was signed

    def _opened(self, note: str, where: str) -> Checkpoint | None:
        try:
            return open_note(str(note), self.key)
        except NotProved as error:
            self.report.add("not signed", where, str(error))
            return None

    def _kept(self) -> Iterator[Source]:
        """The store's, the smallest first."""
        table, after = LOG_CHECKPOINTS.c, -1
        while True:
            step = sa.select(table.size, table.root, table.note, table.at).where(table.size > after)
            rows = self.connection.execute(step.order_by(table.size).limit(PART)).all()
            for size, root, note, at in rows:
                after, where = size, f"log_checkpoints {size}"
                found = self._opened(note, where)
                if found is None:
                    continue
                self.report.checkpoints += 1
                if (found.size, found.root, found.at) != (size, root, at):
                    self.report.add("edited", where, "its columns are not those of its note")
                yield found, "store"
            if not rows:
                return

    def _signed(self) -> Iterator[Checkpoint]:
        """The store's and the file's, the smallest first. What one of the two lacks is found; but the file is written
        first, and after a crash its newest may be there alone until the next start."""
        filed = None if self.file is None else self._in_file(self.file)
        both = merge(self._kept(), filed or iter(()), key=lambda one: one[0].size)
        missing: list[int] = []
        unkept: list[int] = []  # since the last one that the store has
        for size, same in groupby(both, key=lambda one: one[0].size):
            sources = set()
            for checkpoint, source in same:
                sources.add(source)
                yield checkpoint
            if "store" not in sources:
                unkept += [size] if len(unkept) < MOST else []
                continue
            for lost in unkept:
                self.report.add("deleted", f"log_checkpoints {lost}", f"it stands in {self.file}")
            unkept.clear()
            if filed is not None and "file" not in sources and len(missing) < MOST:
                missing.append(size)
        for size in missing:
            if size not in self.late:
                self.report.add(
                    "deleted", f"{self.file}, the checkpoint of size {size}", "it stands in log_checkpoints"
                )

    def _in_file(self, file: Path) -> Iterator[Source]:
        last = -1
        if not file.exists():
            if self.connection.execute(sa.select(LOG_CHECKPOINTS.c.size).limit(1)).first() is not None:
                self.report.add("deleted", str(file), "there is no such file")
            return
        for line, note in read_notes(file):
            where = f"{file}, line {line}"
            found = None if note is None else self._opened(note, where)
            if note is None:
                self.report.add("edited", where, "it is no checkpoint")
            if found is None:
                continue
            if found.size > last:
                last = found.size
                yield found, "file"
                continue
            if len(self.late) < LATE:
                self.late.add(found.size)
            if not self._holds(found):
                told = f"{found.size} leaves were signed at {found.at} after {last} had been, with another root"
                self.report.add("rolled back", where, told)

    def _holds(self, signed: Checkpoint) -> bool:
        try:
            return Tree(self.connection).root(signed.size) == signed.root
        except LookupError:
            return False
