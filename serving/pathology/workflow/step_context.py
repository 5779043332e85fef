"""What every step of a slide's workflow needs: the store, the slides' folder, the tile runner, the worker's id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from datasets.slides.errors import SlideIssue, slide_issue
from serving.core.billing.prices import Prices
from serving.core.db.engine import read_connection
from serving.pathology.slides import storage, upload_store
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.store import Row
from serving.pathology.workflow.runner import TileOutputs, TileRequest
from serving.privacy.consent.rules import ConsentRules, allows, load_rules
from serving.settings import SLIDE_PRODUCT

InferTiles = Callable[[TileRequest], TileOutputs]


@dataclass(frozen=True, slots=True)
class StepContext:
    """slide_key: the key of the pseudonyms in a tenant's slides. worker_id: the worker in whose name slides change
    their state; "" for none. prefetch: starts a request whose outputs are needed next. prices: by which a reading is
    metered.
    """

    engine: sa.Engine
    slides_dir: Path
    infer: InferTiles
    slide_key: Callable[[str], bytes]
    worker_id: str = ""
    prefetch: Callable[[TileRequest], None] = lambda request: None
    prices: Prices | None = None

    def slide_dir(self, slide_id: str) -> Path:
        """The slide's folder."""
        return self.slides_dir / slide_id

    def load_row(self, slide_id: str) -> Row:
        """The slide's row, which must exist."""
        row = slide_store.get(self.engine, slide_id)
        assert row is not None, f"slide {slide_id} was taken from the store"
        return row

    def group_paths(self, slide_id: str) -> dict[str, str]:
        """Upload -> path of its file in the folder of a slide that has several; empty of a slide of one file."""
        uploads = upload_store.uploads_of_slide(self.engine, slide_id)
        return {upload["id"]: upload["path"] for upload in uploads if upload["path"] is not None}

    def deidentified_path(self, slide_id: str) -> Path:
        """The copy from which the slide is read."""
        path = storage.deidentified_path(self.slide_dir(slide_id))
        assert path is not None, f"slide {slide_id} was de-identified"
        return path

    def transition(
        self,
        slide_id: str,
        target: str,
        detail: Row | None = None,
        connection: sa.Connection | None = None,
        **columns: Any,
    ) -> bool:
        """As slide_store.transition, in the worker's name; by default a transaction of its own."""
        return slide_store.transition(
            connection or self.engine, slide_id, target, detail, worker_id=self.worker_id, prices=self.prices, **columns
        )

    def fail(self, slide_id: str, issues: Sequence[SlideIssue], state: str = "failed") -> bool:
        """End the slide with its issues as reasons; always False, the result of a step that ends a slide."""
        self.transition(slide_id, state, reasons=[asdict(issue) for issue in issues])
        return False

    def check_authorisation(self, row: Row) -> bool:
        """Whether the authorisation named by the request form, if any, is what the rules ask for, and still active; if
        not, the slide fails."""
        grant = (row["request"] or {}).get("authorisation")
        if grant is None:
            return True
        with read_connection(self.engine) as connection:
            if allows(connection, _consent_rules(), grant, SLIDE_PRODUCT, "slide", row["tenant"]):
                return True
        return self.fail(row["id"], [slide_issue("not_authorised", actual=grant)])


@cache
def _consent_rules() -> ConsentRules:
    return load_rules()
