"""What is known of a table as Croissant metadata (MLCommons 1.0): its file, columns, units, licence and origin.

python -m datasets croissant taiwan --out taiwan.json
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets.errors import DataError
from datasets.external_files import digest
from datasets.schema import Column, Table

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
FORMATS = {  # the end of a file's name -> its media type
    ".parquet": "application/x-parquet",
    ".csv": "text/csv",
    ".csv.gz": "application/gzip",
    ".ndjson": "application/jsonlines",
    ".jsonl": "application/jsonlines",
    ".data": "text/plain",
}
LICENCES = {  # as tables tell them -> where they stand
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}


def describe(name: str, table: Table, place: str, sha256: str, changed: datetime | None = None) -> dict[str, Any]:
    """place: the file's name, or path below the folder of data. Columns made of others are in no file, and not here."""
    told = table.origin
    made = "SIMULATED 模拟数据. " if told.simulated else ""
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{made}{table.name}: {len(table.columns)} columns. {told.source}".strip(),
        "url": f"urn:sha256:{sha256}",
        "version": "1.0.0",
        "datePublished": (changed or datetime.now(UTC)).date().isoformat(),
        "license": LICENCES.get(told.licence, told.licence or "not stated"),
        "citeAs": told.source or name,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "file",
                "name": Path(place).name,
                "contentUrl": place,
                "encodingFormat": _format(place),
                "sha256": sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "description": "As the project's reader gives them; a column that the file lacks is made by it.",
                "field": [_field(column) for column in table.columns if column.derived is None],
            }
        ],
    }


def of_source(name: str, file: Path | None = None) -> dict[str, Any]:
    """Of a source of the project; `file`: its own file, needed where its contract describes none. Raises DataError."""
    from datasets import catalog

    module = catalog.source(name)
    table: Table = module.TABLE
    if file is not None:
        if not file.is_file():
            raise DataError(f"{file}: there is no such file. Name the one that {name} was read from.")
        changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        return describe(name, table, file.name, digest(file), changed)
    place = getattr(module, "FILE", None)
    if place is None or not table.origin.sha256:
        raise DataError(f"{name}: its contract describes no one file. Name the file: --file FILE.")
    return describe(name, table, place, table.origin.sha256)


def _format(place: str) -> str:
    for end, media_type in sorted(FORMATS.items(), key=lambda item: -len(item[0])):
        if place.endswith(end):
            return media_type
    raise DataError(f"{place}: ends in none of {', '.join(FORMATS)}; one of them is needed.")


def _field(column: Column) -> dict[str, Any]:
    numeric = column.kind == "number"
    needed = column.needed()[0] if numeric or column.levels else column.kind
    return {
        "@type": "cr:Field",
        "@id": f"rows/{column.name}",
        "name": column.name,
        "description": f"{column.label} {column.label_zh}. {column.role}; {needed}",
        "dataType": ("sc:Integer" if column.integer else "sc:Float") if numeric else "sc:Text",
        "source": {"fileObject": {"@id": "file"}, "extract": {"column": column.name}},
    }
