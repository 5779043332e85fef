"""Slides, what happened to each, their signed reports and their uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slides",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.String(64)),
        sa.Column("reasons", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("notes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("accession", sa.String(64)),
        sa.Column("specimen", sa.String(32)),
        sa.Column("stain", sa.String(32)),
        sa.Column("preparation", sa.String(32)),
        sa.Column("request", sa.JSON(none_as_null=True)),
        sa.Column("mpp", sa.Float),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("audit", sa.Boolean, nullable=False),
        sa.Column("triage", sa.String(16)),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("model", sa.String(128)),
        sa.Column("version", sa.String(128)),
        sa.Column("bundle", sa.String(64)),
        sa.Column("reading", sa.JSON(none_as_null=True)),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("updated", sa.String(32), nullable=False),
    )
    op.create_index("slides_by_state", "slides", ["state", "id"])
    op.create_index("slides_by_content", "slides", ["sha256"])
    op.create_index("slides_to_work_on", "slides", [sa.text("priority DESC"), "id"])
    op.create_table(
        "slide_events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_a_slide", "slide_events", ["slide", "id"])
    op.create_table(
        "slide_reports",
        sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("signer", sa.String(128), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("updated", sa.String(32), nullable=False),
    )
    op.create_index("uploads_by_state", "uploads", ["state", "updated"])
    op.create_table(
        "slide_keys",
        sa.Column("scope", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    for name in ("slide_keys", "uploads", "slide_reports", "slide_events", "slides"):
        op.drop_table(name)
