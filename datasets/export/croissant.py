"""Describe a table as Croissant metadata (MLCommons 1.0): its file, columns, units, licence and origin.

python -m datasets croissant taiwan --out taiwan.json
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets.errors import DataError
from datasets.files.external_files import file_sha256
from datasets.schema import ColumnSchema, TableSchema

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
MEDIA_TYPES = {  # suffix -> media type
    ".parquet": "application/x-parquet",
    ".csv": "text/csv",
    ".csv.gz": "application/gzip",
    ".ndjson": "application/jsonlines",
    ".jsonl": "application/jsonlines",
    ".data": "text/plain",
}
LICENCES = {  # name in a contract -> address
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}


def describe_table(
    name: str, table: TableSchema, location: str, sha256: str, modified_at: datetime | None = None
) -> dict[str, Any]:
    """location: the file's name, or its path below the data folder. Derived columns are in no file, so they are left
    out.
    """
    origin = table.origin
    simulated_note = "SIMULATED 模拟数据. " if origin.simulated else ""
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{simulated_note}{table.name}: {len(table.columns)} columns. {origin.source}".strip(),
        "url": f"urn:sha256:{sha256}",
        "version": "1.0.0",
        "datePublished": (modified_at or datetime.now(UTC)).date().isoformat(),
        "license": LICENCES.get(origin.licence, origin.licence or "not stated"),
        "citeAs": origin.source or name,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "file",
                "name": Path(location).name,
                "contentUrl": location,
                "encodingFormat": _media_type(location),
                "sha256": sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "description": "As the project's reader returns them; it computes the columns that the file lacks.",
                "field": [_field_entry(column) for column in table.columns if column.derived is None],
            }
        ],
    }


def describe_source(name: str, file: Path | None = None) -> dict[str, Any]:
    """Describe a source of the project. file: required if its contract describes no single file. Raises DataError."""
    from datasets import catalog

    module = catalog.load_source(name)
    table: TableSchema = module.TABLE
    if file is not None:
        if not file.is_file():
            raise DataError(f"{file}: there is no such file. Give the file that {name} was read from.")
        modified_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        return describe_table(name, table, file.name, file_sha256(file), modified_at)
    location = getattr(module, "FILE", None)
    if location is None or not table.origin.sha256:
        raise DataError(f"{name}: its contract describes no single file. Give one: --file FILE.")
    return describe_table(name, table, location, table.origin.sha256)


def _media_type(location: str) -> str:
    for suffix, media_type in sorted(MEDIA_TYPES.items(), key=lambda item: -len(item[0])):
        if location.endswith(suffix):
            return media_type
    raise DataError(f"{location}: the suffix must be one of {', '.join(MEDIA_TYPES)}.")


def _field_entry(column: ColumnSchema) -> dict[str, Any]:
    numeric = column.kind == "number"
    expected = column.expected()[0] if numeric or column.levels else column.kind
    return {
        "@type": "cr:Field",
        "@id": "rows/" + re.sub(r"\s", "·", column.name),  # an id has no blanks
        "name": column.name,
        "description": f"{column.label} {column.label_zh}. {column.role}; {expected}",
        "dataType": ("sc:Integer" if column.integer else "sc:Float") if numeric else "sc:Text",
        "source": {"fileObject": {"@id": "file"}, "extract": {"column": column.name}},
    }
