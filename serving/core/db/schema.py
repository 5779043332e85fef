"""All tables of the store. serving/core/db/migrations creates and changes them.

METADATA is complete only once every module of serving/core/db/tables is imported, so import tables from here. Times are
UTC in ISO 8601, digests SHA-256 in hex.
"""

from serving.core.db.tables.audit import EVENTS, LOG_CHECKPOINTS, LOG_LEAVES, LOG_NODES, PROVENANCE
from serving.core.db.tables.base import METADATA, PROBE
from serving.core.db.tables.billing import METER, QUOTAS
from serving.core.db.tables.consent import GRANT_USES, GRANTS
from serving.core.db.tables.decisions import BATCH_CHUNKS, BATCH_SUBJECTS, BATCHES, DECISIONS
from serving.core.db.tables.governance import (
    DATASET_ROWS,
    ERASURES,
    INPUT_COUNTS,
    OUTCOMES,
    OVERRIDES,
    PROMOTIONS,
    REFERRALS,
)
from serving.core.db.tables.slides import (
    SLIDE_EVENTS,
    SLIDE_KEYS,
    SLIDE_REPORTS,
    SLIDE_WORKERS,
    SLIDES,
    UPLOAD_GROUPS,
    UPLOADS,
)
from serving.core.db.tables.subjects import COMPANIES, INDICATORS, SUBJECT_KEYS, VAULT

__all__ = [
    "BATCHES",
    "BATCH_CHUNKS",
    "BATCH_SUBJECTS",
    "COMPANIES",
    "DATASET_ROWS",
    "DECISIONS",
    "ERASURES",
    "EVENTS",
    "GRANTS",
    "GRANT_USES",
    "INDICATORS",
    "INPUT_COUNTS",
    "LOG_CHECKPOINTS",
    "LOG_LEAVES",
    "LOG_NODES",
    "METADATA",
    "METER",
    "OUTCOMES",
    "OVERRIDES",
    "PROBE",
    "PROMOTIONS",
    "PROVENANCE",
    "QUOTAS",
    "REFERRALS",
    "SLIDES",
    "SLIDE_EVENTS",
    "SLIDE_KEYS",
    "SLIDE_REPORTS",
    "SLIDE_WORKERS",
    "SUBJECT_KEYS",
    "UPLOADS",
    "UPLOAD_GROUPS",
    "VAULT",
]
