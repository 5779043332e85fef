"""The tables of the store, as SQLAlchemy Core sees them; serving/core/db/migrations makes and changes them.

Times are UTC, ISO 8601. Digests are SHA-256 in hex.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

DECISIONS = sa.Table(
    "decisions",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("scope", sa.String(64), nullable=False),  # the route, within which an idempotency key means one request
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_sha256", sa.String(64), nullable=False),  # of the body's bytes, keyed by the vault
    sa.Column("tenant", sa.String(64), nullable=False),  # whose
    sa.Column("subject", sa.String(255)),  # pseudonym
    sa.Column("answer", sa.LargeBinary, nullable=False),  # JSON, the very bytes that were sent
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),  # digest
    sa.Column("policy", sa.String(128), nullable=False),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("salt", sa.LargeBinary),  # of the digests in its leaf; this and the next: none before the log began
    sa.Column("leaf", sa.BigInteger),  # index in the log
)
# Partial: a request without a key costs no entry.
sa.Index(
    "one_answer_per_key",
    DECISIONS.c.tenant,
    DECISIONS.c.scope,
    DECISIONS.c.idempotency_key,
    unique=True,
    sqlite_where=DECISIONS.c.idempotency_key.is_not(None),
    postgresql_where=DECISIONS.c.idempotency_key.is_not(None),
)

# A tenant's decisions, newest last.
sa.Index("decisions_of_a_tenant", DECISIONS.c.tenant, DECISIONS.c.id)

# A subject's decisions for one tenant, newest last. Partial: most decisions are about indicators that name nobody.
sa.Index(
    "decisions_of_a_subject",
    DECISIONS.c.tenant,
    DECISIONS.c.scope,
    DECISIONS.c.subject,
    DECISIONS.c.id,
    sqlite_where=DECISIONS.c.subject.is_not(None),
    postgresql_where=DECISIONS.c.subject.is_not(None),
)

# One row: which key file the store was filled with.
VAULT = sa.Table(
    "vault",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("profile", sa.String(8), nullable=False),  # aes, sm
    sa.Column("key_check", sa.String(32), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
)

# Each subject's own key. Without this row nobody reads what the store holds of it.
SUBJECT_KEYS = sa.Table(
    "subject_keys",
    METADATA,
    sa.Column("pseudonym", sa.String(64), primary_key=True),  # keyed hash of product and id
    sa.Column("wrapped", sa.LargeBinary, nullable=False),  # by the key file's
    sa.Column("created", sa.String(32), nullable=False),
)

INDICATORS = sa.Table(
    "indicators",
    METADATA,
    sa.Column("pseudonym", sa.String(64), primary_key=True),
    sa.Column("group", sa.String(64), primary_key=True),  # of the product's contract
    sa.Column("true_at", sa.String(10), primary_key=True),  # the day of which they tell
    sa.Column("loaded", sa.String(32), primary_key=True),
    sa.Column("product", sa.String(64), nullable=False),  # a household and a company may share a number
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # JSON object: name -> value; what is missing is left out
    sa.Column("source", sa.String(255), nullable=False),  # the file they came from
    sa.Column("source_sha256", sa.String(64), nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
)
sa.Index("indicators_of_a_product", INDICATORS.c.product, INDICATORS.c.pseudonym)

# What may be told of a company's months: warnings and results, never the indicators behind them. One row a company, as
# a register brings all its months at once and a history shows most of them. A network names its neighbours by their
# pseudonyms: who they are stands in their own rows, so that one who is erased is named nowhere.
COMPANIES = sa.Table(
    "companies",
    METADATA,
    sa.Column("pseudonym", sa.String(64), primary_key=True),
    sa.Column("months", sa.LargeBinary, nullable=False),  # serving/decisions/companies/history.py: pack; sealed
    sa.Column("label", sa.LargeBinary),  # serving/decisions/companies/network.py: the company's id; sealed
    sa.Column(
        "network", sa.LargeBinary
    ),  # serving/decisions/companies/network.py: pack; sealed; none where the register had no links
)

GRANTS = sa.Table(
    "grants",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("kind", sa.String(16), nullable=False),  # government, personal
    sa.Column("grantor", sa.String(255), nullable=False),  # the body or, of a person, a pseudonym
    sa.Column("tenant", sa.String(64), nullable=False),  # to whom
    sa.Column("subject", sa.String(64)),  # pseudonym; none: all
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("groups", sa.JSON(none_as_null=True), nullable=False),
    sa.Column("valid_from", sa.String(32), nullable=False),
    sa.Column("valid_to", sa.String(32), nullable=False),  # no longer then
    sa.Column("revoked_at", sa.String(32)),
    sa.Column("document_sha256", sa.String(64), nullable=False),  # of the signed document
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),  # who entered it
)
sa.Index("grants_asked_for", GRANTS.c.tenant, GRANTS.c.purpose, GRANTS.c.subject)

BATCHES = sa.Table(
    "batches",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),  # whose
    sa.Column("scope", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_sha256", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # running, done, broken
    sa.Column("owner", sa.Integer, nullable=False),  # process id, by which a start finds what a dead process left
    sa.Column("format", sa.String(16), nullable=False),  # of the answer
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("answered", sa.Integer, nullable=False),
    sa.Column("faulty", sa.Integer, nullable=False),
    sa.Column("faults", sa.LargeBinary, nullable=False),  # JSON array, the first ones
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("policy", sa.String(128), nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("finished", sa.String(32)),
    sa.Column("retry_of", sa.String(40)),  # the try before it under its key, which broke off: its answers are charged
)
sa.Index(
    "one_batch_per_key",
    BATCHES.c.tenant,
    BATCHES.c.scope,
    BATCHES.c.idempotency_key,
    unique=True,
    sqlite_where=BATCHES.c.idempotency_key.is_not(None),
    postgresql_where=BATCHES.c.idempotency_key.is_not(None),
)

BATCH_CHUNKS = sa.Table(
    "batch_chunks",
    METADATA,
    sa.Column("batch", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
    sa.Column("first_row", sa.Integer, primary_key=True),  # counts from 1
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),  # the answered rows: Arrow IPC, zstd
    sa.Column("salt", sa.LargeBinary),  # as of decisions
    sa.Column("leaf", sa.BigInteger),
)

# Which rows of batches are about a stored subject; the chunk's content, which its leaf proves, says so too.
BATCH_SUBJECTS = sa.Table(
    "batch_subjects",
    METADATA,
    sa.Column("batch", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),  # counts from 1
    sa.Column("pseudonym", sa.String(64), nullable=False),
)
sa.Index("batch_rows_of_a_subject", BATCH_SUBJECTS.c.pseudonym, BATCH_SUBJECTS.c.batch, BATCH_SUBJECTS.c.row)

PROBE = sa.Table(
    "probe",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.String(32), nullable=False),  # when a readiness check last wrote
)

SLIDES = sa.Table(
    "slides",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),  # whose
    sa.Column("state", sa.String(16), nullable=False),  # of serving/pathology/slides/states.py
    sa.Column("code", sa.String(64)),  # why it failed, was abstained from or is not fit; the first of `reasons`
    sa.Column("reasons", sa.JSON(none_as_null=True), nullable=False),  # [{code, en, zh}]
    sa.Column("notes", sa.JSON(none_as_null=True), nullable=False),  # [{code, en, zh}], of what is no fault
    sa.Column("name", sa.String(128), nullable=False),  # of the file, cleaned
    sa.Column("sha256", sa.String(64)),  # as announced, and as found once verified; none until told
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("accession", sa.String(64)),  # this and the next three: none until the request form is there
    sa.Column("specimen", sa.String(32)),
    sa.Column("stain", sa.String(32)),
    sa.Column("preparation", sa.String(32)),
    sa.Column("request", sa.JSON(none_as_null=True)),  # the whole request form
    sa.Column("mpp", sa.Float),  # microns per pixel as the operator gave it
    sa.Column("done", sa.Integer, nullable=False),  # tiles
    sa.Column("total", sa.Integer, nullable=False),  # tiles; 0 until the grid is known
    sa.Column("audit", sa.Boolean, nullable=False),  # a pathologist sees it even where it is negative
    sa.Column("triage", sa.String(16)),  # this and the next four: the reading's
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("model", sa.String(128)),
    sa.Column("version", sa.String(128)),
    sa.Column("bundle", sa.String(64)),
    sa.Column("reading", sa.JSON(none_as_null=True)),  # the machine's, which nobody alters
    sa.Column("salt", sa.LargeBinary),  # of the digests in its leaves; none before the log began
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("updated", sa.String(32), nullable=False),
)
sa.Index("slides_by_state", SLIDES.c.state, SLIDES.c.id)
sa.Index("slides_by_content", SLIDES.c.sha256)
sa.Index("slides_to_work_on", SLIDES.c.priority.desc(), SLIDES.c.id)
sa.Index("slides_of_a_tenant", SLIDES.c.tenant, SLIDES.c.priority.desc(), SLIDES.c.id)

# What happened to a slide, in order. An id is never given twice, so a listener resumes after the last it saw.
SLIDE_EVENTS = sa.Table(
    "slide_events",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # state, progress, note
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
    sqlite_autoincrement=True,
)
sa.Index("events_of_a_slide", SLIDE_EVENTS.c.slide, SLIDE_EVENTS.c.id)

SLIDE_REPORTS = sa.Table(
    "slide_reports",
    METADATA,
    sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),  # counts from 1
    sa.Column("kind", sa.String(16), nullable=False),  # signed, amended
    sa.Column("body", sa.JSON(none_as_null=True), nullable=False),  # the whole report
    sa.Column("sha256", sa.String(64), nullable=False),  # of its PDF
    sa.Column("signer", sa.String(128), nullable=False),  # licence
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("leaf", sa.BigInteger),  # as of decisions
)

UPLOADS = sa.Table(
    "uploads",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),  # bytes
    sa.Column("offset", sa.BigInteger, nullable=False),  # bytes on the disk when last told; the file itself rules
    sa.Column("sha256", sa.String(64)),  # announced
    sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),  # as it was sent
    sa.Column("state", sa.String(16), nullable=False),  # open, done, failed, expired
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("updated", sa.String(32), nullable=False),
)
sa.Index("uploads_by_state", UPLOADS.c.state, UPLOADS.c.updated)

# What was answered to a request with an Idempotency-Key, so that it is done once.
SLIDE_KEYS = sa.Table(
    "slide_keys",
    METADATA,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("scope", sa.String(128), primary_key=True),  # the route and its slide
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_sha256", sa.String(64), nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),  # JSON
    sa.Column("at", sa.String(32), nullable=False),
)

# How many answers each tenant was given in a month.
QUOTAS = sa.Table(
    "quotas",
    METADATA,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("month", sa.String(7), primary_key=True),  # YYYY-MM
    sa.Column("used", sa.BigInteger, nullable=False),
)

# The processes that read slides. One that is not in here any more was given up: it moves no slide.
SLIDE_WORKERS = sa.Table(
    "slide_workers",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),  # a new one for each process
    sa.Column("place", sa.String(128), nullable=False),  # the machine and its process ids, where `pid` means something
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("born", sa.BigInteger, nullable=False),  # when the process began, by that machine's count
    sa.Column("beat", sa.BigInteger, nullable=False),  # counts up while it lives
    sa.Column("started", sa.String(32), nullable=False),
)

# --- what proves and charges each answer: serving/core/audit

AUTO_INCREMENT_TYPE = sa.BigInteger().with_variant(
    sa.Integer, "sqlite"
)  # there only an INTEGER is the table's own order

# The Merkle log, which only grows. A leaf names no person; its body is the very bytes that were hashed.
LOG_LEAVES = sa.Table(
    "log_leaves",
    METADATA,
    sa.Column("index", AUTO_INCREMENT_TYPE, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("ref", sa.String(64), nullable=False),  # id of the row that it stands for
    sa.Column("body", sa.LargeBinary, nullable=False),  # canonical JSON
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

# Hashes of whole subtrees of 256 leaves and more. What is missing is computed from the leaves.
LOG_NODES = sa.Table(
    "log_nodes",
    METADATA,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

LOG_CHECKPOINTS = sa.Table(
    "log_checkpoints",
    METADATA,
    sa.Column("size", AUTO_INCREMENT_TYPE, primary_key=True, autoincrement=False),  # leaves
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.Text, nullable=False),  # signed
    sa.Column("at", sa.String(32), nullable=False),
)

# What a bundle was made from, once for each.
PROVENANCE = sa.Table(
    "lineages",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # canonical JSON
)

# One line for each use: a decision, a chunk of a batch, a slide's reading.
METER = sa.Table(
    "meter",
    METADATA,
    sa.Column("decision", sa.String(64), primary_key=True),  # or <batch>-<first row>, or the slide's id: charged once
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("product", sa.String(64), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("units", sa.Integer, nullable=False),  # answers
    sa.Column("rules", sa.String(32), nullable=False),  # version of the price rules
    sa.Column("rule", sa.String(16), nullable=False),  # free, set, market
    sa.Column("fen", sa.BigInteger, nullable=False),  # for all units
    sa.Column("leaf", sa.BigInteger, nullable=False),  # of the answer, which tells the price too
)
sa.Index("meter_by_tenant", METER.c.tenant, METER.c.at)

# Which leaves name an authorisation, for the list of its uses; what it says follows from the leaves.
GRANT_USES = sa.Table(
    "grant_uses",
    METADATA,
    sa.Column("authorisation", sa.String(40), primary_key=True),
    sa.Column("leaf", sa.BigInteger, primary_key=True, autoincrement=False),  # its index in the log
)
sa.Index("grant_uses_by_leaf", GRANT_USES.c.leaf)

# --- trace, erasure, effects

# Whose rows each data set holds that was given out for training: an erasure finds each model made of one.
DATASET_ROWS = sa.Table(
    "dataset_rows",
    METADATA,
    sa.Column("dataset_sha256", sa.String(64), primary_key=True),
    sa.Column("pseudonym", sa.String(255), primary_key=True),
)
sa.Index("data_sets_of_a_subject", DATASET_ROWS.c.pseudonym)

ERASURES = sa.Table(
    "erasures",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("product", sa.String(64), nullable=False),
    sa.Column("pseudonym", sa.String(255), nullable=False),  # a slide's id, of a slide
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("certificate", sa.LargeBinary, nullable=False),  # JSON, the very bytes that were signed
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.BigInteger),  # its index in the log
)
sa.Index("erasures_of_a_subject", ERASURES.c.pseudonym, ERASURES.c.product)

# How a decision or a slide turned out, as it was told. Nothing is altered: the newest about one counts.
OUTCOMES = sa.Table(
    "outcomes",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("about", sa.String(64), nullable=False),  # a decision or a slide
    sa.Column("kind", sa.String(16), nullable=False),  # decision, slide
    sa.Column("outcome", sa.String(16), nullable=False),  # repaid, defaulted, diagnosis
    sa.Column("code", sa.String(32)),  # of a diagnosis
    sa.Column("at", sa.String(32), nullable=False),  # when it was so
    sa.Column("source", sa.String(255), nullable=False),  # who knows
    sa.Column("recorded", sa.String(32), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column(
        "model", sa.String(128), nullable=False
    ),  # this and the rest: of what it is about, so that it is read once
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("score", sa.Float),  # PD, or probability of a positive slide
    sa.Column("said", sa.String(16)),  # approve, refer; positive, negative, ...
    sa.Column("made", sa.String(32), nullable=False),
)
sa.Index("outcomes_of_one", OUTCOMES.c.tenant, OUTCOMES.c.about, OUTCOMES.c.id)
sa.Index("outcomes_of_a_model", OUTCOMES.c.model, OUTCOMES.c.version, OUTCOMES.c.tenant)

# What a person decided instead. Nothing is altered: the newest about a decision counts.
OVERRIDES = sa.Table(
    "overrides",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("about", sa.String(64), nullable=False),  # the decision
    sa.Column("decision", sa.String(16), nullable=False),  # approve, decline
    sa.Column("limit", sa.Float),
    sa.Column("reason", sa.String(2_000), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("said", sa.String(16), nullable=False),  # what the model had decided
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("made", sa.String(32), nullable=False),
)
sa.Index("overrides_of_one", OVERRIDES.c.tenant, OVERRIDES.c.about, OVERRIDES.c.id)

# Which colleague was asked to look at a decision. Nothing is altered: the newest about a decision counts.
REFERRALS = sa.Table(
    "referrals",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("about", sa.String(64), nullable=False),  # the decision
    sa.Column("to", sa.String(128), nullable=False),  # as their token names them
    sa.Column("note", sa.String(2_000), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
)
sa.Index("referrals_of_one", REFERRALS.c.tenant, REFERRALS.c.about, REFERRALS.c.id)

# How many applicants' values fell into each bin of the card, by day; no value itself.
INPUT_COUNTS = sa.Table(
    "input_counts",
    METADATA,
    sa.Column("bundle", sa.String(64), primary_key=True),  # digest, whose card has the bins
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("counts", sa.LargeBinary, nullable=False),  # little-endian int64, bins in the order of the card
    sa.Column("said", sa.JSON(none_as_null=True), nullable=False),  # decision -> how many
)

# Which version a person made the champion. Nothing is altered; the pointer beside the bundles says what serves.
PROMOTIONS = sa.Table(
    "promotions",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),  # of who decided
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),  # digest
    sa.Column("kind", sa.String(16), nullable=False),  # promote, roll_back
    sa.Column("gate", sa.Boolean),  # what its signed card says; none where it does not tell
    sa.Column("before", sa.String(128)),  # what served until then
    sa.Column("before_bundle", sa.String(64)),
    sa.Column("reason", sa.String(2_000), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
)
sa.Index("promotions_of_a_model", PROMOTIONS.c.model, PROMOTIONS.c.id)
