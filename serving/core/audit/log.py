"""The audit log: an append-only Merkle tree (RFC 9162). Each entry is written in the transaction that it records.

    first = append(connection, [make_entry("decision", timestamp, tenant, ref, ...)])    # in the caller's transaction
    tree = MerkleTree(connection)
    tree.root(size), tree.inclusion_path(index, size)               # hashes for checkpoints and receipts
    tree.consistency_path(first, second)                            # that a later checkpoint continues an earlier one

The hashes of subtrees of 256 leaves and more are stored in log_nodes, so that a proof reads two blocks of leaves and
log(n) nodes. A missing node is computed from the leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from serving.core.audit.authenticator import authenticator_of
from serving.core.audit.verify import leaf_hash, node_hash
from serving.core.db.schema import GRANT_USES, LOG_LEAVES, LOG_NODES

APPEND_LOCK_ID = 7_195_002  # PostgreSQL advisory lock: one transaction at a time appends
BLOCK_LEVEL = 8  # level of the smallest stored subtrees: 2**8 leaves
Node = tuple[int, int, bytes]  # level, position, hash
EMPTY_ROOT = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")  # SHA-256 of nothing


class Entry(NamedTuple):
    """A leaf of the log. `ref`: id of the row that it records; `body`: canonical JSON without personal data; `grants`:
    the authorisations that it names."""

    kind: str
    at: str
    tenant: str
    ref: str
    body: bytes
    grants: tuple[str, ...] = ()


def make_entry(kind: str, timestamp: str, tenant: str, ref: str, **fields: object) -> Entry:
    """An entry whose body holds the parameters and `fields`: text, integers, null, and lists and dicts of them."""
    body = {"kind": kind, "at": timestamp, "tenant": tenant, "ref": ref, **fields}
    grants: Any = fields.get("authorisations") or ()
    return Entry(
        kind, timestamp, tenant, ref, orjson.dumps(body, option=orjson.OPT_SORT_KEYS), tuple(dict.fromkeys(grants))
    )


_MAX_INDEX = sa.select(sa.func.max(LOG_LEAVES.c.index))


def acquire_append_lock(connection: sa.Connection) -> None:
    """Keep others from appending until the transaction ends. On SQLite every writing transaction holds that lock."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(APPEND_LOCK_ID)))


def append(connection: sa.Connection, entries: Sequence[Entry]) -> int:
    """Append entries and return the index of the first. The append lock is held until the commit, so commit soon."""
    acquire_append_lock(connection)
    authenticator, first_index = authenticator_of(connection), log_size(connection)
    digests = [leaf_hash(entry.body) for entry in entries]
    rows = [
        {
            "index": first_index + i,
            "kind": kind,
            "at": at,
            "tenant": tenant,
            "ref": ref,
            "body": body,
            "hash": digest,
            "tag": authenticator.tag(first_index + i, digest),
        }
        for i, ((kind, at, tenant, ref, body, _), digest) in enumerate(zip(entries, digests, strict=True))
    ]
    insert_rows(connection, LOG_LEAVES, rows)
    uses = [
        {"authorisation": grant, "leaf": first_index + i} for i, entry in enumerate(entries) for grant in entry.grants
    ]
    if uses:
        insert_rows(connection, GRANT_USES, uses)
    return first_index


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, with null for the columns that a row lacks.

    The statement is compiled once: SQLAlchemy's own processing of each insert takes as long as SQLite's.
    """
    text, names = _compile_insert(table, connection.dialect)
    if names is None:
        connection.exec_driver_sql(text, [{name: row.get(name) for name in table.c.keys()} for row in rows])  # noqa: SIM118
    else:
        connection.exec_driver_sql(text, [tuple([row.get(name) for name in names]) for row in rows])


@lru_cache(maxsize=32)
def _compile_insert(table: sa.Table, dialect: sa.Dialect) -> tuple[str, list[str] | None]:
    """(SQL text, the columns in the order of its parameters; None where parameters have names)."""
    compiled: Any = sa.insert(table).compile(dialect=dialect)
    return str(compiled), compiled.positiontup


def log_size(connection: sa.Connection) -> int:
    """The number of leaves."""
    last_index = connection.execute(_MAX_INDEX).scalar()
    return 0 if last_index is None else int(last_index) + 1


class MerkleTree:
    """Hashes of the tree over the leaves that a connection sees. For one use, since it caches what it reads."""

    def __init__(self, connection: sa.Connection):
        self.connection = connection
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._blocks: set[int] = set()
        self.computed_nodes: dict[tuple[int, int], bytes] = {}  # nodes missing in log_nodes

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves. Raises LookupError where the log has fewer."""
        return self._range_hash(0, size) if size else EMPTY_ROOT

    def inclusion_path(self, index: int, size: int) -> list[bytes]:
        """The inclusion path of a leaf in the tree over the first `size`, its sibling first (RFC 9162, 2.1.3)."""
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

    def consistency_path(self, first: int, second: int) -> list[bytes]:
        """The proof that the tree over `second` leaves continues the one over `first`, 0 < first <= second (RFC 9162,
        2.1.4.1). Raises LookupError where the log has fewer."""
        low, high, is_left_edge, path = 0, second, True, []
        while first != high:  # the hashes right of the old tree's last leaf, and those that complete its root
            middle = low + _split_point(high - low)
            if first <= middle:
                path.append(self._range_hash(middle, high))
                high = middle
            else:
                path.append(self._range_hash(low, middle))
                low, is_left_edge = middle, False
        if not is_left_edge:
            path.append(self._range_hash(low, high))
        return path[::-1]

    def _range_hash(self, low: int, high: int) -> bytes:
        """The hash of the leaves from low to high, exclusive; low is a multiple of the power of two that spans them."""
        if (high - low) & (high - low - 1) == 0:
            level = (high - low).bit_length() - 1
            return self._node_hash(level, low >> level)
        middle = low + _split_point(high - low)
        return node_hash(self._range_hash(low, middle), self._range_hash(middle, high))

    def _node_hash(self, level: int, position: int) -> bytes:
        """The hash of a complete subtree."""
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
    """Insert the nodes that log_nodes does not have yet."""
    if not nodes:
        return
    levels = sorted({level for level, _ in nodes})
    low, high = min(position for _, position in nodes), max(position for _, position in nodes)
    stmt = sa.select(LOG_NODES.c.level, LOG_NODES.c.index).where(
        LOG_NODES.c.level.in_(levels), LOG_NODES.c.index.between(low, high)
    )
    existing = {(level, position) for level, position in connection.execute(stmt)}
    rows = [{"level": k, "index": i, "hash": h} for (k, i), h in nodes.items() if (k, i) not in existing]
    if rows:
        connection.execute(sa.insert(LOG_NODES), rows)


class MerkleFrontier:
    """The tree over a sequence of leaves, in memory of O(log n)."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # complete subtrees, largest first: one for each 1 bit of the size

    def add(self, leaf: bytes) -> Sequence[Node]:
        """Add a leaf hash and return the subtrees that it completes."""
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
    """The largest power of two below `count` (RFC 9162, 2.1.1)."""
    return 1 << ((count - 1).bit_length() - 1)


def merkle_levels(leaves: list[bytes]) -> Iterator[list[bytes]]:
    """The levels of the tree over these leaf hashes, from the leaves to the root."""
    yield leaves
    while len(leaves) > 1:
        pairs = [node_hash(leaves[i], leaves[i + 1]) for i in range(0, len(leaves) - 1, 2)]
        leaves = pairs + leaves[len(leaves) & ~1 :]
        yield leaves
