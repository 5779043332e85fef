"""Epochs of the log: an operator accepts a store that was restored from a backup, and the log says so for ever.

    start_epoch(engine, settings, by, reason)

A log that does not continue its last checkpoint is refused by the service. A new epoch appends an entry that names that
checkpoint, and begins a new file of checkpoints; the earlier file stays beside it, under the id of the epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serving.core.audit import log
from serving.core.audit.checkpoints import CheckpointSigner, last_notes, read_checkpoint_file
from serving.core.audit.events import new_event, record_events
from serving.core.audit.log import MerkleTree, log_size, make_entry
from serving.core.audit.verify import VerificationError, parse_note, verify_checkpoint
from serving.core.db.engine import read_connection, write_transaction
from serving.core.db.errors import StoreUnavailableError
from serving.core.identifiers import new_id, utc_now
from serving.settings import Settings


class NoRollbackError(Exception):
    """The log continues its last checkpoint, so there is nothing to accept."""


def check_log(engine: sa.Engine, settings: Settings) -> None:
    """Raises StoreUnavailableError where the log does not continue its last checkpoint, and KeyFileError."""
    paths = settings.paths
    rollback = CheckpointSigner(engine, paths.log_key, paths.checkpoints, settings.log.origin).find_rollback()
    if rollback is not None:
        raise StoreUnavailableError("failed", rollback_message(rollback))


def rollback_message(rollback: str) -> str:
    return (
        f"the audit log does not continue from its last checkpoint: {rollback}. Restore the store that was signed; or, "
        "where that one is lost, stop the service and accept this one: python -m serving audit new-epoch"
    )


def start_epoch(engine: sa.Engine, settings: Settings, by: str, reason: str) -> dict[str, Any]:
    """Accept the log as it is and sign it; return the fields of the epoch's entry. The service must not be running.

    Raises NoRollbackError, StoreUnavailableError, KeyFileError and VerificationError; LogTamperedError where an entry
    is not the service's own: a log that was changed is never accepted.
    """
    file = settings.paths.checkpoints
    signer = CheckpointSigner(engine, settings.paths.log_key, file, settings.log.origin)
    if signer.find_rollback() is None:
        raise NoRollbackError("The log continues its last checkpoint; there is nothing to accept.")
    signer.verify_entries()
    previous, _, _ = parse_note(last_notes(file)[-1])
    epoch_id, continued = new_id(), _continued_notes(engine, signer, file)
    fields = {
        "previous": {"size": previous.size, "root": previous.root.hex(), "at": previous.timestamp},
        "file": hashlib.sha256(file.read_bytes()).hexdigest(),
        "continued": len(continued),
    }
    with write_transaction(engine) as connection:
        log.append(connection, [make_entry("epoch", utc_now(), "", epoch_id, **fields)])
        record_events(connection, [new_event("epoch", "", by, epoch_id, "audit new-epoch", reason)])
    _begin_file(file, epoch_id, continued)
    checkpoint = signer.checkpoint()
    return {"epoch": epoch_id, **fields, "checkpoint": checkpoint.note}


def _continued_notes(engine: sa.Engine, signer: CheckpointSigner, file: Path) -> list[str]:
    """The checkpoints of the file that this log still continues."""
    notes = []
    with read_connection(engine) as connection:
        tree, count = MerkleTree(connection), log_size(connection)
        for _, note in read_checkpoint_file(file):
            try:
                checkpoint = verify_checkpoint(note or "", signer.key.public_key())
            except VerificationError:
                continue
            if checkpoint.size <= count and tree.root(checkpoint.size) == checkpoint.root:
                notes.append(note or "")
    return notes


def _begin_file(file: Path, epoch_id: str, notes: list[str]) -> None:
    """Put the earlier file beside, and write a new one with these notes."""
    earlier_file, new = file.with_name(f"{file.name}.{epoch_id}"), file.with_name(f"{file.name}.new")
    with new.open("wb") as out:
        out.writelines(json.dumps(note, ensure_ascii=False).encode() + b"\n" for note in notes)
        out.flush()
        os.fsync(out.fileno())
    os.link(file, earlier_file)
    os.replace(new, file)
