"""Erasures, outcomes, overrides, referrals, input counts and promotions. Rows of these tables are never altered."""

from __future__ import annotations

from typing import TypedDict

import sqlalchemy as sa

from serving.core.db.tables.base import METADATA


class DatasetMemberRow(TypedDict):
    dataset_sha256: str
    pseudonym: str


# The subjects in each data set that was exported for training; an erasure finds every model trained on one.
DATASET_ROWS = sa.Table(
    "dataset_rows",
    METADATA,
    sa.Column("dataset_sha256", sa.String(64), primary_key=True),
    sa.Column("pseudonym", sa.String(255), primary_key=True),
    info={"row": DatasetMemberRow},
)
sa.Index("data_sets_of_a_subject", DATASET_ROWS.c.pseudonym)


class ErasureRow(TypedDict):
    id: str
    product: str
    pseudonym: str
    at: str
    certificate: bytes
    signature: bytes
    leaf: int


ERASURES = sa.Table(
    "erasures",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("product", sa.String(64), nullable=False),
    sa.Column("pseudonym", sa.String(255), nullable=False),  # for a slide its digest or id
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("certificate", sa.LargeBinary, nullable=False),  # JSON, exactly the bytes that were signed
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.BigInteger, nullable=False),  # index of its log entry
    info={"row": ErasureRow},
)
sa.Index("erasures_of_a_subject", ERASURES.c.pseudonym, ERASURES.c.product)


class OutcomeRow(TypedDict):
    id: str
    tenant: str
    about: str
    kind: str
    outcome: str
    code: str | None
    at: str
    source: str
    recorded: str
    by: str
    model: str
    version: str
    score: float | None
    said: str | None
    made: str


# How a decision or a slide turned out, as reported. The newest outcome of a decision counts.
OUTCOMES = sa.Table(
    "outcomes",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("about", sa.String(64), nullable=False),  # id of the decision or slide
    sa.Column("kind", sa.String(16), nullable=False),  # decision, slide
    sa.Column("outcome", sa.String(16), nullable=False),  # repaid, defaulted, diagnosis
    sa.Column("code", sa.String(32)),  # of a diagnosis
    sa.Column("at", sa.String(32), nullable=False),  # when it happened
    sa.Column("source", sa.String(255), nullable=False),  # who reported it
    sa.Column("recorded", sa.String(32), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    # The rest is copied from the decision or slide, so that reports need no join.
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("score", sa.Float),  # PD, or the probability that the slide is positive
    sa.Column("said", sa.String(16)),  # approve, refer; positive, negative, ...
    sa.Column("made", sa.String(32), nullable=False),
    info={"row": OutcomeRow},
)
sa.Index("outcomes_of_one", OUTCOMES.c.tenant, OUTCOMES.c.about, OUTCOMES.c.id)
sa.Index("outcomes_of_a_model", OUTCOMES.c.model, OUTCOMES.c.version, OUTCOMES.c.tenant)


class OverrideRow(TypedDict):
    id: str
    tenant: str
    about: str
    decision: str
    limit: float | None
    reason: str
    reason_code: str | None
    state: str
    proposed_by: str | None
    by: str
    at: str
    said: str
    model: str
    version: str
    made: str


DECIDED, PROPOSED, CONFIRMED = "decided", "proposed", "confirmed"  # states of an override

# What a person decided instead of the model. The newest override of a decision that is in force, not proposed, counts.
OVERRIDES = sa.Table(
    "overrides",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("about", sa.String(64), nullable=False),  # id of the decision
    sa.Column("decision", sa.String(16), nullable=False),  # approve, decline
    sa.Column("limit", sa.Float),
    sa.Column("reason", sa.String(2_000), nullable=False),
    sa.Column("reason_code", sa.String(64)),  # of configs/authority.toml; null in rows from before
    sa.Column("state", sa.String(16), nullable=False, server_default=DECIDED),
    sa.Column("proposed_by", sa.String(128)),  # who proposed the amount that this one confirms
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("said", sa.String(16), nullable=False),  # the model's decision
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("made", sa.String(32), nullable=False),
    info={"row": OverrideRow},
)
sa.Index("overrides_of_one", OVERRIDES.c.tenant, OVERRIDES.c.about, OVERRIDES.c.id)


class ReferralRow(TypedDict):
    id: str
    tenant: str
    about: str
    to: str
    note: str
    by: str
    at: str


# The colleague who was asked to look at a decision. The newest referral of a decision counts.
REFERRALS = sa.Table(
    "referrals",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("about", sa.String(64), nullable=False),  # id of the decision
    sa.Column("to", sa.String(128), nullable=False),  # subject of the colleague's token
    sa.Column("note", sa.String(2_000), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    info={"row": ReferralRow},
)
sa.Index("referrals_of_one", REFERRALS.c.tenant, REFERRALS.c.about, REFERRALS.c.id)


class InputCountRow(TypedDict):
    bundle: str
    tenant: str
    day: str
    model: str
    version: str
    counts: bytes
    said: dict[str, int]


# How many applicants' values fell into each bin of the model card, by day. No value itself is stored.
INPUT_COUNTS = sa.Table(
    "input_counts",
    METADATA,
    sa.Column("bundle", sa.String(64), primary_key=True),  # digest; its card defines the bins
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("counts", sa.LargeBinary, nullable=False),  # little-endian int64, bins in the order of the card
    sa.Column("said", sa.JSON(none_as_null=True), nullable=False),  # decision -> count
    info={"row": InputCountRow},
)


class PromotionRow(TypedDict):
    id: str
    tenant: str
    model: str
    version: str
    bundle: str
    kind: str
    gate: bool | None
    before: str | None
    before_bundle: str | None
    reason: str
    by: str
    confirmed_by: str | None
    at: str


# Each change of a champion. A version serves only where the newest row of its model names it.
PROMOTIONS = sa.Table(
    "promotions",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),  # of the person who decided
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),  # digest
    sa.Column("kind", sa.String(16), nullable=False),  # promote, roll_back, automatic, force_request, force
    sa.Column("gate", sa.Boolean),  # whether its signed card says that the gate passed; null where it does not say
    sa.Column("before", sa.String(128)),  # the version that served until then
    sa.Column("before_bundle", sa.String(64)),
    sa.Column("reason", sa.String(2_000), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("confirmed_by", sa.String(128)),  # the second person, where a version is forced
    sa.Column("at", sa.String(32), nullable=False),
    info={"row": PromotionRow},
)
sa.Index("promotions_of_a_model", PROMOTIONS.c.model, PROMOTIONS.c.id)
