"""Slides of several files: the place of an upload in its slide's folder, its SHA-256, and the groups of uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0002_upload_groups"
down_revision = "0001_baseline"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("received_sha256", sa.String(64)))
    op.add_column("uploads", sa.Column("path", sa.String(400)))
    op.create_index("uploads_of_a_slide", "uploads", ["slide"])
    op.create_table(
        "upload_groups",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
        sa.Column("files", sa.Integer),
        sa.Column("created", sa.String(32), nullable=False),
    )
    op.create_index("group_of_a_slide", "upload_groups", ["slide"], unique=True)
    copy_digests()


def copy_digests() -> None:
    """Give each complete upload whose slide waits for its form the SHA-256 that the event of its arrival has."""
    uploads = sa.table("uploads", *(sa.column(name) for name in ("slide", "state", "received_sha256")))
    slides = sa.table("slides", sa.column("id"), sa.column("state"))
    events = sa.table("slide_events", sa.column("slide"), sa.column("detail", sa.JSON))
    waiting = sa.select(slides.c.id).where(slides.c.state == "uploading")
    connection = op.get_bind()
    for slide, detail in connection.execute(sa.select(events).where(events.c.slide.in_(waiting))).all():
        if detail.get("code") == "arrived":
            same = uploads.c.slide == slide, uploads.c.state == "done"
            connection.execute(sa.update(uploads).where(*same).values(received_sha256=detail["sha256"]))
