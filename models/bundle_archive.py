"""A signed bundle as one compressed file, the form in which bundles ship with the project.

    models/released/<model>/<version>.tar.xz    the bundle, its signature included
    models/released/release.pub.pem             the public half of the key that signed them

The archive adds nothing and drops nothing: what is unpacked is verified as any other bundle. xz at its largest window
also stores once what two graphs of a bundle have in common, such as the embeddings that a slide is compared with.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path

from models.bundle import MAX_FILE_BYTES, OPTIONAL_FILES, REQUIRED_FILES, SIGNATURE, BundleError

SUFFIX = ".tar.xz"
NAMES = frozenset({*REQUIRED_FILES, *OPTIONAL_FILES, SIGNATURE})
PRESET = 9 | lzma.PRESET_EXTREME  # a window of 64 MiB, which both graphs of a slide's bundle fit in
MEMORY = 256 * 1024 * 1024  # bytes that unpacking may use; the window above needs 65 MiB


def pack(files: Mapping[str, bytes]) -> bytes:
    """The archive of these files; the same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return lzma.compress(buffer.getvalue(), preset=PRESET)


def unpack(archive: Path, folder: Path) -> None:
    """Write the archive's files into `folder`, which exists and is empty. Raises BundleError.

    Only plain files with the names of a bundle are accepted, each once, so nothing is written outside `folder`.
    """
    try:
        decompressor = lzma.LZMADecompressor(memlimit=MEMORY)
        limit = MAX_FILE_BYTES + 1024 * 1024
        content = decompressor.decompress(archive.read_bytes(), max_length=limit)
        if not decompressor.eof:
            raise BundleError(f"{archive}: is cut short or larger than {limit:,} bytes unpacked. Fetch it again.")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as entries:
            seen: set[str] = set()
            for entry in entries:
                if entry.name not in NAMES or entry.name in seen or not entry.isreg():
                    raise BundleError(
                        f"{archive}: holds {entry.name[:80]!r}, which is not a file of a bundle. Fetch it again."
                    )
                seen.add(entry.name)
                file = entries.extractfile(entry)
                assert file is not None, "a plain file has content"
                (folder / entry.name).write_bytes(file.read())
    except (lzma.LZMAError, tarfile.TarError, EOFError) as error:
        raise BundleError(f"{archive}: cannot be unpacked: {error}. Fetch it again.") from error
