"""The errors of the store.

StoreUnavailableError    nothing can be recorded or read now; retry later
  SchemaVersionError     the store belongs to another release; an operator has to act
QueueFullError           too many records wait for their commit; retry later
"""

from __future__ import annotations


class StoreUnavailableError(Exception):
    """The store cannot record or return anything now, so no request is answered.

    `reason` is `locked`, `full` or `failed`.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class SchemaVersionError(StoreUnavailableError):
    """The store was written by another release, whose schema this one does not know."""

    def __init__(self, actual: str, expected: str):
        super().__init__(
            "failed",
            f"the store has the schema {actual!r}; this release reads {expected!r} and cannot convert the other. "
            "Start the release that wrote the store, or name an empty store in [store] url or YUHENG_STORE",
        )


class QueueFullError(Exception):
    """As many records wait for their commit as the settings allow."""
