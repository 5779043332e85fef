"""The audit log: an append-only Merkle tree (RFC 9162) whose leaves are written in the transaction that they tell of.

    first = append(connection, [Entry("decision", at, tenant, ref, body)])     # in the caller's transaction
    tree = Tree(connection); tree.root(size), tree.path(index, size)            # hashes for checkpoints and receipts

Subtrees of 256 leaves and more are kept in log_nodes, so that a proof reads two blocks of leaves and log(n) nodes;
whichever is not there yet is computed from the leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from serving.core.audit.verify import leaf_hash, node_hash
from serving.core.db.schema import GRANT_USES, LOG_LEAVES, LOG_NODES

APPEND_LOCK_ID = 7_195_002  # PostgreSQL's lock by which one transaction at a time appends
BLOCK_LEVEL = 8  # level of the smallest subtrees that are kept: 2**8 leaves
Node = tuple[int, int, bytes]  # level, place, hash
EMPTY_ROOT = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")  # of no leaves


class Entry(NamedTuple):
    """`ref` names the row that the leaf stands for; `body` is canonical JSON without personal data; `grants` are the
    authorisations that it names."""

    kind: str
    at: str
    tenant: str
    ref: str
    body: bytes
    grants: tuple[str, ...] = ()


def make_entry(kind: str, timestamp: str, tenant: str, ref: str, **fields: object) -> Entry:
    """Its body tells `told` and the rest: text, whole numbers, null, lists and dicts of them."""
    body = {"kind": kind, "at": timestamp, "tenant": tenant, "ref": ref, **fields}
    grants: Any = fields.get("authorisations") or ()
    return Entry(
        kind, timestamp, tenant, ref, orjson.dumps(body, option=orjson.OPT_SORT_KEYS), tuple(dict.fromkeys(grants))
    )


_MAX_INDEX = sa.select(sa.func.max(LOG_LEAVES.c.index))


def acquire_append_lock(connection: sa.Connection) -> None:
    """Until the transaction ends nobody else appends. On SQLite a transaction that writes has that lock anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(APPEND_LOCK_ID)))


def append(connection: sa.Connection, entries: Sequence[Entry]) -> int:
    """The index of the first of them. Commit soon."""
    acquire_append_lock(connection)
    first_index = log_size(connection)
    rows = [
        {
            "index": first_index + i,
            "kind": kind,
            "at": at,
            "tenant": tenant,
            "ref": ref,
            "body": body,
            "hash": leaf_hash(body),
        }
        for i, (kind, at, tenant, ref, body, _) in enumerate(entries)
    ]
    insert_rows(connection, LOG_LEAVES, rows)
    uses = [
        {"authorisation": grant, "leaf": first_index + i} for i, entry in enumerate(entries) for grant in entry.grants
    ]
    if uses:
        insert_rows(connection, GRANT_USES, uses)
    return first_index


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """All columns of each row; what a row does not tell is null. The statement is compiled once, by SQLAlchemy, whose
    own way through would cost as much again as SQLite does."""
    text, names = _compile_insert(table, connection.dialect)
    if names is None:
        connection.exec_driver_sql(text, [{name: row.get(name) for name in table.c.keys()} for row in rows])  # noqa: SIM118
    else:
        connection.exec_driver_sql(text, [tuple([row.get(name) for name in names]) for row in rows])


@lru_cache(maxsize=32)
def _compile_insert(table: sa.Table, dialect: sa.Dialect) -> tuple[str, list[str] | None]:
    """(text, names of its parameters where they are told by place)."""
    compiled: Any = sa.insert(table).compile(dialect=dialect)
    return str(compiled), compiled.positiontup


def log_size(connection: sa.Connection) -> int:
    last_index = connection.execute(_MAX_INDEX).scalar()
    return 0 if last_index is None else int(last_index) + 1


class MerkleTree:
    """Hashes of the tree over the leaves that a connection sees. For one use: what was read is kept."""

    def __init__(self, connection: sa.Connection):
        self.connection = connection
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._blocks: set[int] = set()
        self.computed_nodes: dict[tuple[int, int], bytes] = {}  # those of log_nodes that had to be computed

    def root(self, size: int) -> bytes:
        return self._range_hash(0, size) if size else EMPTY_ROOT

    def inclusion_path(self, index: int, size: int) -> list[bytes]:
        """The inclusion path of a leaf in the tree over the first `size`, its sibling first."""
        low, high, path = 0, size, []
        while high - low > 1:
            middle = low + _split_point(high - low)
            if index < middle:
                path.append(self._range_hash(middle, high))
                high = middle
            else:
                path.append(self._range_hash(low, middle))
                low = middle
        return path[::-1]

    def _range_hash(self, low: int, high: int) -> bytes:
        """The hash over leaves low to high, of which low is a multiple of the power of two that spans them."""
        if (high - low) & (high - low - 1) == 0:
            level = (high - low).bit_length() - 1
            return self._node_hash(level, low >> level)
        middle = low + _split_point(high - low)
        return node_hash(self._range_hash(low, middle), self._range_hash(middle, high))

    def _node_hash(self, level: int, position: int) -> bytes:
        """A whole subtree's hash."""
        digest = self._nodes.get((level, position))
        if digest is None and level >= BLOCK_LEVEL:
            stmt = sa.select(LOG_NODES.c.hash).where(LOG_NODES.c.level == level, LOG_NODES.c.index == position)
            digest = self.connection.execute(stmt).scalar()
        elif digest is None and level == 0:
            self._load_block(position >> BLOCK_LEVEL)
            digest = self._nodes.get((0, position))
            if digest is None:
                raise LookupError(f"the log has no leaf {position}")
        if digest is None:
            digest = node_hash(self._node_hash(level - 1, 2 * position), self._node_hash(level - 1, 2 * position + 1))
            if level >= BLOCK_LEVEL:
                self.computed_nodes[level, position] = digest
        self._nodes[level, position] = digest
        return digest

    def _load_block(self, block: int) -> None:
        if block in self._blocks:
            return
        self._blocks.add(block)
        first = block << BLOCK_LEVEL
        stmt = sa.select(LOG_LEAVES.c.index, LOG_LEAVES.c.hash).where(
            LOG_LEAVES.c.index >= first, LOG_LEAVES.c.index < first + (1 << BLOCK_LEVEL)
        )
        for index, digest in self.connection.execute(stmt):
            self._nodes[0, index] = digest


def store_nodes(connection: sa.Connection, nodes: Mapping[tuple[int, int], bytes]) -> None:
    """Into log_nodes, but for those that are there."""
    if not nodes:
        return
    levels = sorted({level for level, _ in nodes})
    low, high = min(position for _, position in nodes), max(position for _, position in nodes)
    stmt = sa.select(LOG_NODES.c.level, LOG_NODES.c.index).where(
        LOG_NODES.c.level.in_(levels), LOG_NODES.c.index.between(low, high)
    )
    existing = {(level, place) for level, place in connection.execute(stmt)}
    rows = [{"level": k, "index": i, "hash": h} for (k, i), h in nodes.items() if (k, i) not in existing]
    if rows:
        connection.execute(sa.insert(LOG_NODES), rows)


class MerkleFrontier:
    """The tree over leaves that come one after the other, in memory of log(n)."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # whole subtrees, the largest first: one for each bit of the size

    def add(self, leaf: bytes) -> Sequence[Node]:
        """The whole subtrees that it completes."""
        position, level, completed = self.size, 0, []
        self.size += 1
        while position & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            position, level = position >> 1, level + 1
            completed.append((level, position, leaf))
        self._peaks.append(leaf)
        return completed

    def root(self) -> bytes:
        if not self._peaks:
            return EMPTY_ROOT
        digest = self._peaks[-1]
        for peak in self._peaks[-2::-1]:
            digest = node_hash(peak, digest)
        return digest


def _split_point(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def merkle_levels(leaves: list[bytes]) -> Iterator[list[bytes]]:
    """Each level of the tree over these leaf hashes, the leaves first, the root last."""
    yield leaves
    while len(leaves) > 1:
        pairs = [node_hash(leaves[i], leaves[i + 1]) for i in range(0, len(leaves) - 1, 2)]
        leaves = pairs + leaves[len(leaves) & ~1 :]
        yield leaves
