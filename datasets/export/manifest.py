"""What comes beside a data set that left the store: its digest, and the authorisations it was taken under."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.errors import DataError
from datasets.files.external_files import file_sha256


class Manifest(BaseModel):
    """`file`.manifest.json. left_out: why -> rows; missing: group that no authorisation opened -> rows without it."""

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
        path = manifest_path(file)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path


def manifest_path(file: Path) -> Path:
    return file.with_name(f"{file.name}.manifest.json")


def read_manifest(file: Path) -> Manifest | None:
    """None where the file has none. Raises DataError where the file is not the one that it tells of."""
    path = manifest_path(file)
    if not path.is_file():
        return None
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: {error}. Export the data set again.") from error
    if (actual := file_sha256(file)) != manifest.sha256:
        raise DataError(
            f"{file}: its sha256 is {actual[:12]}…, and its manifest tells of {manifest.sha256[:12]}…: one of the two "
            "was changed. Export the data set again."
        )
    return manifest
