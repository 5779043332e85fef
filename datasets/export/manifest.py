"""The manifest beside an exported data set: its digest, and the authorisations under which it was exported."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.errors import DataError
from datasets.files.external_files import file_sha256


class Manifest(BaseModel):
    """FILE.manifest.json. left_out: reason -> rows. missing: group without an authorisation -> rows without the
    group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int
    sha256: str  # of the file
    product: str
    table: str
    purpose: str
    tenant: str
    simulated: bool
    authorisations: tuple[str, ...]
    left_out: dict[str, int]
    missing: dict[str, int]
    created: str

    def write(self, file: Path) -> Path:
        """Write the manifest beside `file` and return its path."""
        path = manifest_path(file)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path


def manifest_path(file: Path) -> Path:
    return file.with_name(f"{file.name}.manifest.json")


def read_manifest(file: Path) -> Manifest | None:
    """Read the manifest of a data set; None if it has none. Raises DataError if the manifest describes another file."""
    path = manifest_path(file)
    if not path.is_file():
        return None
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: {error}. Export the data set again.") from error
    if (actual := file_sha256(file)) != manifest.sha256:
        raise DataError(
            f"{file}: its sha256 is {actual[:12]}…, and its manifest says {manifest.sha256[:12]}…: one of "
            "the two was changed. Export the data set again."
        )
    return manifest
