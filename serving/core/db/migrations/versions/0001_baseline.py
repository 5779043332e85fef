"""The tables of the first release.

From here on every change of the schema is a revision of its own; this one stays as it is.
"""

import hashlib
import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001_baseline"
down_revision = None
branch_labels = None
depends_on = None

BIG_INTEGER_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
JSON = sa.JSON(none_as_null=True)
KEY_COLUMNS = ["tenant", "scope", "idempotency_key"]
HAS_KEY, HAS_SUBJECT = sa.text("idempotency_key IS NOT NULL"), sa.text("subject IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255)),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("policy", sa.String(128), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("leaf", sa.BigInteger, nullable=False),
    )
    create_partial_index("decisions_of_a_subject", "decisions", ["tenant", "scope", "subject", "id"], HAS_SUBJECT)
    op.create_index("decisions_of_a_tenant", "decisions", ["tenant", "id"])
    create_partial_index("one_answer_per_key", "decisions", KEY_COLUMNS, HAS_KEY, unique=True)
    op.create_table(
        "batches",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner", sa.Integer, nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("faulty", sa.Integer, nullable=False),
        sa.Column("faults", sa.LargeBinary, nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("policy", sa.String(128), nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("finished", sa.String(32)),
        sa.Column("retry_of", sa.String(40)),
    )
    create_partial_index("one_batch_per_key", "batches", KEY_COLUMNS, HAS_KEY, unique=True)
    op.create_table(
        "batch_chunks",
        sa.Column("batch", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("first_row", sa.Integer, primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "batch_subjects",
        sa.Column("batch", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("pseudonym", sa.String(64), nullable=False),
    )
    op.create_index("batch_rows_of_a_subject", "batch_subjects", ["pseudonym", "batch", "row"])
    op.create_table(
        "meter",
        sa.Column("decision", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("product", sa.String(64), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("units", sa.Integer, nullable=False),
        sa.Column("rules", sa.String(32), nullable=False),
        sa.Column("rule", sa.String(16), nullable=False),
        sa.Column("fen", sa.BigInteger, nullable=False),
        sa.Column("leaf", sa.BigInteger, nullable=False),
    )
    op.create_index("meter_by_tenant", "meter", ["tenant", "at"])
    op.create_table(
        "quotas",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("month", sa.String(7), primary_key=True),
        sa.Column("used", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "probe",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "vault",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("profile", sa.String(8), nullable=False),
        sa.Column("key_check", sa.String(32), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "subject_keys",
        sa.Column("pseudonym", sa.String(64), primary_key=True),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
    )
    op.create_table(
        "indicators",
        sa.Column("pseudonym", sa.String(64), primary_key=True),
        sa.Column("group", sa.String(64), primary_key=True),
        sa.Column("true_at", sa.String(10), primary_key=True),
        sa.Column("loaded", sa.String(32), primary_key=True),
        sa.Column("product", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("source_sha256", sa.String(64), nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
    )
    op.create_index("indicators_of_a_product", "indicators", ["product", "pseudonym"])
    op.create_table(
        "companies",
        sa.Column("pseudonym", sa.String(64), primary_key=True),
        sa.Column("months", sa.LargeBinary, nullable=False),
        sa.Column("label", sa.LargeBinary, nullable=False),
        sa.Column("network", sa.LargeBinary),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("grantor", sa.String(255), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(64)),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("groups", JSON, nullable=False),
        sa.Column("valid_from", sa.String(32), nullable=False),
        sa.Column("valid_to", sa.String(32), nullable=False),
        sa.Column("revoked_at", sa.String(32)),
        sa.Column("document_sha256", sa.String(64), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
    )
    op.create_index("grants_asked_for", "grants", ["tenant", "purpose", "subject"])
    op.create_table(
        "grant_uses",
        sa.Column("authorisation", sa.String(40), primary_key=True),
        sa.Column("leaf", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.create_index("grant_uses_by_leaf", "grant_uses", ["leaf"])
    op.create_table(
        "slides",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.String(64)),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("notes", JSON, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("accession", sa.String(64)),
        sa.Column("specimen", sa.String(32)),
        sa.Column("stain", sa.String(32)),
        sa.Column("preparation", sa.String(32)),
        sa.Column("request", JSON),
        sa.Column("mpp", sa.Float),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("audit", sa.Boolean, nullable=False),
        sa.Column("triage", sa.String(16)),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("model", sa.String(128)),
        sa.Column("version", sa.String(128)),
        sa.Column("bundle", sa.String(64)),
        sa.Column("reading", JSON),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("updated", sa.String(32), nullable=False),
    )
    op.create_index("slides_by_content", "slides", ["sha256"])
    op.create_index("slides_by_state", "slides", ["state", "id"])
    op.create_index("slides_of_a_tenant", "slides", ["tenant", sa.text("priority DESC"), "id"])
    op.create_index("slides_to_work_on", "slides", [sa.text("priority DESC"), "id"])
    op.create_table(
        "slide_events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_a_slide", "slide_events", ["slide", "id"])
    op.create_table(
        "slide_reports",
        sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("signer", sa.String(128), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("leaf", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("updated", sa.String(32), nullable=False),
    )
    op.create_index("uploads_by_state", "uploads", ["state", "updated"])
    op.create_table(
        "slide_keys",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("scope", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "slide_workers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("place", sa.String(128), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("born", sa.BigInteger, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("started", sa.String(32), nullable=False),
    )
    op.create_table(
        "log_leaves",
        sa.Column("index", BIG_INTEGER_KEY, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("ref", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_nodes",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_checkpoints",
        sa.Column("size", BIG_INTEGER_KEY, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "lineages",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "dataset_rows",
        sa.Column("dataset_sha256", sa.String(64), primary_key=True),
        sa.Column("pseudonym", sa.String(255), primary_key=True),
    )
    op.create_index("data_sets_of_a_subject", "dataset_rows", ["pseudonym"])
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("product", sa.String(64), nullable=False),
        sa.Column("pseudonym", sa.String(255), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.BigInteger, nullable=False),
    )
    op.create_index("erasures_of_a_subject", "erasures", ["pseudonym", "product"])
    op.create_table(
        "outcomes",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("about", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("code", sa.String(32)),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("recorded", sa.String(32), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("said", sa.String(16)),
        sa.Column("made", sa.String(32), nullable=False),
    )
    op.create_index("outcomes_of_a_model", "outcomes", ["model", "version", "tenant"])
    op.create_index("outcomes_of_one", "outcomes", ["tenant", "about", "id"])
    op.create_table(
        "overrides",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("about", sa.String(64), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("limit", sa.Float),
        sa.Column("reason", sa.String(2_000), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("said", sa.String(16), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("made", sa.String(32), nullable=False),
    )
    op.create_index("overrides_of_one", "overrides", ["tenant", "about", "id"])
    op.create_table(
        "referrals",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("about", sa.String(64), nullable=False),
        sa.Column("to", sa.String(128), nullable=False),
        sa.Column("note", sa.String(2_000), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("referrals_of_one", "referrals", ["tenant", "about", "id"])
    op.create_table(
        "input_counts",
        sa.Column("bundle", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("counts", sa.LargeBinary, nullable=False),
        sa.Column("said", JSON, nullable=False),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("gate", sa.Boolean),
        sa.Column("before", sa.String(128)),
        sa.Column("before_bundle", sa.String(64)),
        sa.Column("reason", sa.String(2_000), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("promotions_of_a_model", "promotions", ["model", "id"])
    append_start_entry()


def downgrade() -> None:
    raise NotImplementedError("there is no schema before the first one; delete the store instead")


def create_partial_index(name: str, table: str, columns: list[str], where: sa.TextClause, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def append_start_entry() -> None:
    """The log's first entry says when the log began, so that no two logs have a root in common."""
    timestamp = f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    entry = {"kind": "start", "at": timestamp, "tenant": "", "ref": ""}
    body = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    row = entry | {"index": 0, "body": body, "hash": hashlib.sha256(b"\0" + body).digest()}
    leaves = sa.table("log_leaves", *(sa.column(name) for name in row))
    op.execute(sa.insert(leaves).values(row))
