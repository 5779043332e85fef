"""The audit log is the Merkle tree of RFC 9162, however its hashes are computed."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

import orjson
import pytest
import rfc8785
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.core.audit import log
from serving.core.audit.authenticator import EntryAuthenticator, attach
from serving.core.audit.checkpoints import sign_checkpoint
from serving.core.audit.log import MerkleFrontier, MerkleTree, append, make_entry, merkle_levels, store_nodes
from serving.core.audit.verify import (
    VerificationError,
    canonical_indicators,
    canonical_json,
    leaf_hash,
    node_hash,
    root_from_inclusion_proof,
    verify_checkpoint,
)
from serving.core.db.engine import open_store
from serving.core.db.schema import LOG_LEAVES, LOG_NODES
from serving.core.security import keys
from serving.core.security.errors import KeyFileError


def reference_root(leaves: list[bytes]) -> bytes:
    """MTH as defined in RFC 9162, 2.1.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(reference_root(leaves[:k]), reference_root(leaves[k:]))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A log of 700 leaves, with the stored nodes of the first 512."""
    engine = open_store(tmp_path_factory.mktemp("log") / "store.db", 5.0)
    attach(engine, EntryAuthenticator(b"k" * 32, "test"))
    with engine.begin() as connection:
        append(connection, [make_entry("test", "now", "t", str(i), fields=i) for i in range(1, 600)])
        append(connection, [make_entry("test", "now", "t", str(i), fields=i) for i in range(600, 700)])
        tree = MerkleTree(connection)
        tree.root(512)
        store_nodes(connection, tree.computed_nodes)
        store_nodes(connection, tree.computed_nodes)  # storing them twice changes nothing
        assert connection.scalar(sa.select(sa.func.count()).select_from(LOG_NODES)) == 3
    with engine.connect() as connection:
        hashes = list(connection.execute(sa.select(LOG_LEAVES.c.hash).order_by(LOG_LEAVES.c.index)).scalars())
        yield connection, hashes


@settings(max_examples=60)
@given(data=st.data())
def test_every_leaf_has_a_proof_in_every_tree_that_contains_it(store, data):
    connection, hashes = store
    size = data.draw(st.integers(1, len(hashes)))
    index = data.draw(st.integers(0, size - 1))
    tree = MerkleTree(connection)
    root = tree.root(size)
    assert root == reference_root(hashes[:size])
    path = tree.inclusion_path(index, size)
    assert root_from_inclusion_proof(index, size, hashes[index], path) == root
    if size > 1:
        other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index))
        with suppress(VerificationError):
            assert root_from_inclusion_proof(other, size, hashes[index], path) != root


@given(st.integers(1, 300))
def test_a_stream_of_leaves_has_the_same_root(count):
    leaves = [leaf_hash(bytes([i % 256, i // 256])) for i in range(count)]
    frontier = MerkleFrontier()
    for leaf in leaves:
        frontier.add(leaf)
    assert frontier.root() == reference_root(leaves) == list(merkle_levels(leaves))[-1][0]


def test_an_entry_is_encoded_according_to_rfc_8785():
    entry = make_entry("decision", "2026", "行", "r", price={"fen": 3, "b": None, "a": ["é", 2]}, authorisations=[])
    value = orjson.loads(entry.body)
    assert entry.body == rfc8785.dumps(value) == canonical_json(value)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
VALUES = st.dictionaries(st.text(max_size=8), NUMBERS | st.text(max_size=8) | st.booleans() | st.none(), max_size=8)


@settings(max_examples=500)
@given(VALUES)
@example({"a": 1e-5, "b": -5.93e-5, "c": 1e16, "d": 1.5e-7, "e": 1.0, "f": 0.0001})
def test_service_and_verifier_encode_the_inputs_alike(values):
    body = orjson.dumps(values)
    assert canonical_indicators(json.loads(body)) == orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)


def test_a_key_that_others_may_read_or_with_another_public_key_is_refused(tmp_path):
    key, public = keys.load_key_pair(tmp_path / "log.pem")
    public.write_bytes(keys.encode_pem(keys.load_private_key(tmp_path / "other.pem").public_key()))
    with pytest.raises(KeyFileError, match="is not the public key"):
        keys.load_key_pair(tmp_path / "log.pem")
    public.write_bytes(keys.encode_pem(key.public_key()))
    (tmp_path / "log.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 0644"):
        keys.load_key_pair(tmp_path / "log.pem")


def test_a_checkpoint_is_a_signed_note_that_only_its_key_verifies(tmp_path):
    key = keys.load_private_key(tmp_path / "log.pem")
    assert (tmp_path / "log.pem").stat().st_mode & 0o777 == 0o600
    note = sign_checkpoint(key, "test.example/log", 7, b"\1" * 32, "2026-11-25T00:00:00.000Z")
    checkpoint = verify_checkpoint(note, key.public_key())
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == ("test.example/log", 7, b"\1" * 32)
    other = keys.load_private_key(tmp_path / "other.pem").public_key()
    for changed, public_key in (
        (note, other),
        (note.replace("\n7\n", "\n8\n"), key.public_key()),
        (note.replace("test.example", "best.example", 1), key.public_key()),
        (note.replace("2026-11", "2025-11"), key.public_key()),
        (note.partition("— ")[0], key.public_key()),
    ):
        with pytest.raises(VerificationError):
            verify_checkpoint(changed, public_key)


def test_two_appends_have_different_indices(tmp_path):
    engine = open_store(tmp_path / "store.db", 5.0)
    attach(engine, EntryAuthenticator(b"k" * 32, "test"))
    with engine.begin() as connection:
        assert append(connection, [make_entry("test", "", "t", "a")]) == 1  # after the start entry
        assert append(connection, [make_entry("test", "", "t", "b")]) == 2
        assert log.log_size(connection) == 3
