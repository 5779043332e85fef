"""What a person may decide instead of a model: amounts by role, and the reasons to choose from."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datasets.errors import DataError

CONFIG_FILE = Path(__file__).parents[3] / "configs" / "authority.toml"
NO_REASON = "unstated"  # of overrides from before reasons had codes

PersonDecision = Literal["approve", "decline"]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _AuthoritySection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OverrideReason(_AuthoritySection):
    """A reason to choose from, with the sentence that the letter prints."""

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,40}$")]
    decision: PersonDecision
    en: Annotated[str, Field(min_length=1)]
    zh: Annotated[str, Field(min_length=1)]


class Authority(_AuthoritySection):
    """configs/authority.toml.

    limits: product -> role -> what one person of that role approves alone; who is not listed approves nothing.
    """

    min_text: Annotated[int, Field(ge=1, le=200)]
    confirm_hours: Annotated[float, Field(gt=0)]
    limits: dict[str, dict[str, Amount]]
    reasons: tuple[OverrideReason, ...]

    def limit(self, product: str, roles: Collection[str]) -> float:
        """The largest amount that a person with these roles approves alone."""
        return max((amount for role, amount in self.limits.get(product, {}).items() if role in roles), default=0.0)

    def codes(self, decision: str) -> list[str]:
        return [reason.code for reason in self.reasons if reason.decision == decision]

    def find_reason(self, code: str) -> OverrideReason | None:
        return next((reason for reason in self.reasons if reason.code == code), None)


def load_authority(file: Path = CONFIG_FILE) -> Authority:
    """Read the file. Raises DataError."""
    try:
        return Authority.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise DataError(f"{file}: {error}. Correct it, or restore configs/authority.toml.") from error


def product_cap(answer: dict[str, Any]) -> float | None:
    """The product's cap as the ledger of an answer, or of a row of a batch, states it."""
    if "bound_product_cap" in answer:
        return float(answer["bound_product_cap"])
    bounds = (answer.get("ledger") or {}).get("bounds", ())
    return next((float(bound["amount"]) for bound in bounds if bound["code"] == "product_cap"), None)
