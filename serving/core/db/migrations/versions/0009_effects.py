"""Who was erased and from which data sets; how decisions turned out, what people made of them, what the models saw."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
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
        sa.Column("leaf", sa.BigInteger),
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
    op.create_index("outcomes_of_one", "outcomes", ["tenant", "about", "id"])
    op.create_index("outcomes_of_a_model", "outcomes", ["model", "version", "tenant"])
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
        "input_counts",
        sa.Column("bundle", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("counts", sa.LargeBinary, nullable=False),
        sa.Column("said", sa.JSON(none_as_null=True), nullable=False),
    )


def downgrade() -> None:
    for table in ("input_counts", "overrides", "outcomes", "erasures", "dataset_rows"):
        op.drop_table(table)
