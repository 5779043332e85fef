"""Draw the negatives that a pathologist re-reads blind, without knowing what the AI said of them."""

from __future__ import annotations

import hmac
import os
from functools import cached_property
from pathlib import Path

from serving.pathology.slides import storage

KEY_FILE = "audit.key"


class BlindedRereads:
    """rate: the share of slides that are drawn. The key that decides the draw lies in `folder`."""

    def __init__(self, folder: Path, rate: float):
        self.folder, self.rate = folder, rate

    def includes(self, slide_id: str) -> bool:
        """Whether the slide is re-read if the AI reads it as negative.

        The answer for a slide never changes, and nobody can predict it without the key.
        """
        draw = hmac.digest(self._key, slide_id.encode(), "sha256")[:8]
        return int.from_bytes(draw) < self.rate * 2**64

    @cached_property
    def _key(self) -> bytes:
        return _load_or_create_key(self.folder / KEY_FILE)


def _load_or_create_key(path: Path) -> bytes:
    """The key file's content. If two gateways create it at the same time, both use the one that was created first."""
    if not path.exists():
        temp_path = storage.write_temp(path, os.urandom(32))
        try:
            os.link(temp_path, path)
        except FileExistsError:
            pass  # another gateway was first, and its key counts
        finally:
            temp_path.unlink()
        storage.sync_dir(path.parent)
    return path.read_bytes()
