"""docs/reference/bundle-format.md, audit-log-format.md and tables.md: what is written to disk."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docs.generate.markdown import ROOT, code, model_sections, page, paragraphs, table, trailing_comments

ENTRY_BUILDERS = ("make_entry", "row_entry")


def build_bundle_page() -> str:
    from models import bundle
    from models.card import Card
    from models.pathology.card import SlideCard

    files = {
        bundle.GRAPH: "the ONNX graph: probability, points and contributions of a table; classes and embedding of a "
        "tile",
        bundle.CARD: "the model card, described below",
        bundle.POLICY: "the policy that turns the model's output into a decision, as it stood in training",
        bundle.SIGNATURE: "the OpenSSF model signature (`model-signing`, ECDSA P-256) over the digests of all other "
        "files",
        bundle.SLIDE_GRAPH: "the graph that aggregates tiles to a slide; slide models only",
        bundle.INT8_GRAPH: "the 8-bit graph of the tile network; slide models only",
    }
    required = {*bundle.REQUIRED_FILES, bundle.SIGNATURE}
    rows = [(code(name), "yes" if name in required else "", text) for name, text in files.items()]
    seen: set[type] = set()
    return page(
        "Bundle format",
        "A bundle is the folder `var/bundles/MODEL/VERSION`; the file `var/bundles/MODEL/champion` holds the "
        "version that "
        "serves. Loading verifies the signature and the SHA-256 of every file. A folder that holds any other file is "
        f"refused, as is a link, and a file of more than {bundle.MAX_FILE_BYTES:,} bytes. ONNX external data, "
        "pickle and "
        "joblib files therefore cannot be part of one.",
        "## Files\n\n" + table(("file", "required", "content"), rows),
        f"## Card of a tabular model\n\n{model_sections(Card, 3, seen)}",
        f"## Card of a slide model\n\n{model_sections(SlideCard, 3, seen)}",
    )


def entry_kinds() -> dict[str, list[str]]:
    """Kind of log entry -> the modules that write it."""
    kinds: dict[str, list[str]] = {}
    for file in sorted((ROOT / "serving").rglob("*.py")):
        for kind in _kinds_in(file):
            files = kinds.setdefault(kind, [])
            files += [str(file.relative_to(ROOT))] if str(file.relative_to(ROOT)) not in files else []
    return dict(sorted(kinds.items()))


def _kinds_in(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    if not any(name in text for name in (*ENTRY_BUILDERS, "slide_entry", '"kind": "start"')):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Dict):  # the first entry of a log, which a migration writes
            pairs = {getattr(key, "value", None): value for key, value in zip(node.keys, node.values, strict=True)}
            if isinstance(kind := pairs.get("kind"), ast.Constant) and {"at", "ref", "tenant"} <= set(pairs):
                yield str(kind.value)
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        first = node.args[0]
        if name in ENTRY_BUILDERS and isinstance(first, ast.Constant):
            yield str(first.value)
        elif name == "slide_entry":
            yield from ("slide_state", "slide_note")


def build_audit_log_page() -> str:
    from serving.core.audit import entries, log, verify

    kinds = [(code(kind), ", ".join(code(file) for file in files)) for kind, files in entry_kinds().items()]
    digests = [
        ("decision: `record`", entries.DECISION_FIELDS),
        ("chunk: `record`", entries.BATCH_FIELDS),
        ("chunk: `counts`", entries.BATCH_COUNT_FIELDS),
        ("slide_state, slide_note: `record`", entries.SLIDE_FIELDS),
        ("slide_state, slide_note: `progress`", entries.SLIDE_PROGRESS_FIELDS),
    ]
    digest_table = table(
        ("entry: field", "columns that it digests"),
        ((name, ", ".join(code(field) for field in fields)) for name, fields in digests),
    )
    return page(
        "Audit log format",
        "An append-only Merkle tree over the table `log_leaves` (RFC 9162). An entry is written in the "
        "transaction that "
        "writes the record it stands for.",
        "## Hashes\n\n"
        "- Leaf: `SHA-256(0x00 || body)`; inner node: `SHA-256(0x01 || left || right)`; the tree is split as "
        "in RFC 9162, "
        "2.1.1.\n"
        "- Body: JSON with sorted keys, no blanks, UTF-8, without fractions (RFC 8785). Every body has "
        "`kind`, `at` (UTC), "
        "`tenant` and `ref` (the id of the record).\n"
        f"- Content that could be guessed is digested as `SHA-256(salt || content)` with a random salt of "
        f"{entries.SALT_BYTES} bytes, which is stored beside the record and never in the log.\n"
        "- Tag: `HMAC-SHA256(K, index as 8 bytes, big-endian || leaf hash)`, in the column `tag`. K is derived by "
        "HKDF-SHA256 from the key file `paths.entry_key`, with `yuheng log entry`, a zero byte and the log's origin as "
        "its info. The database holds no key. Tags are verified before a checkpoint is signed, and by `audit verify`.\n"
        "- Time: an entry is dated neither before the entry in front of it, nor before the last checkpoint that does "
        "not cover it, nor after the first that does, by more than "
        f"{verify.MAX_CLOCK_SKEW_SECONDS} seconds.\n"
        f"- Subtrees of {2**log.BLOCK_LEVEL} leaves and more are stored in `log_nodes`.",
        f"## Kinds of entries\n\n{table(('kind', 'written by'), kinds)}",
        f"## Digests of records\n\n{digest_table}",
        "## Checkpoints\n\nA signed note (C2SP tlog-checkpoint), Ed25519 with the key `paths.log_key`: "
        "origin, tree size, "
        "root hash in base64 and the extension line `at TIME`. Each is stored in the table `log_checkpoints` "
        "and appended "
        "to the file `paths.checkpoints`, outside the store.",
        "## Receipts\n\nJSON with the fields "
        f"{', '.join(code(name) for name in sorted(verify.REQUIRED_FIELDS))} and, where they apply, "
        f"{', '.join(code(name) for name in sorted(verify.OPTIONAL_FIELDS))}. On paper it is that JSON, "
        "compressed and in "
        f"base64, between `{verify.BEGIN}` and `{verify.END}`. At most {verify.MAX_RECEIPT_BYTES:,} bytes, "
        "nested at most "
        f"{verify.MAX_JSON_DEPTH} levels, no name twice in one object.",
        f"## The verifier\n\n{paragraphs(verify.__doc__)}",
    )


def _table_source(source: str, name: str) -> tuple[str, str]:
    """(comment above a table, its definition) in serving/core/db/tables."""
    lines = source.splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip() == f'"{name}",') - 1
    last = next(i for i in range(first, len(lines)) if lines[i] == ")")
    above = first
    while lines[above - 1].startswith("#"):
        above -= 1
    return " ".join(line.removeprefix("#").strip() for line in lines[above:first]), "\n".join(lines[first : last + 1])


def build_tables_page() -> str:
    from serving.core.db import schema

    modules = sorted((Path(schema.__file__).parent / "tables").glob("*.py"))
    source = "\n".join(path.read_text(encoding="utf-8") for path in modules)
    sections = []
    for name, item in schema.METADATA.tables.items():
        introduction, block = _table_source(source, name)
        comments = trailing_comments(re.sub(r"sa\.Column\(\s+", "sa.Column(", block), r'\s*sa\.Column\("(\w+)"')
        rows = [
            (
                code(column.name),
                str(column.type),
                "primary key" if column.primary_key else "",
                "yes" if column.nullable else "",
                ", ".join(code(key.target_fullname) for key in column.foreign_keys),
                comments.get(column.name, ""),
            )
            for column in item.columns
        ]
        indexes = sorted((str(index.name), index) for index in item.indexes)
        index_text = "; ".join(
            f"`{index_name}` ({'unique, ' if index.unique else ''}{', '.join(column.name for column in index.columns)})"
            for index_name, index in indexes
        )
        parts = (
            f"## {name}",
            introduction.strip(),
            table(("column", "type", "key", "nullable", "refers to", "meaning"), rows),
            f"Indexes: {index_text}." if indexes else "",
        )
        sections.append("\n\n".join(section for section in parts if section))
    return page(
        "Tables",
        "The store is SQLite (WAL, full sync) or PostgreSQL with the same tables; migrations are applied when it is "
        "opened. Times are UTC in ISO 8601; digests are SHA-256 in hexadecimal. What is personal is "
        "encrypted or under a "
        "pseudonym, as the column says.",
        *sections,
    )
