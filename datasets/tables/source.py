"""Open the bytes of a table whatever holds them: what kind of file it is, how it is compressed, in which encoding."""

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from datasets.errors import UnreadableFileError

Kind = Literal["delimited", "ndjson", "json", "parquet", "excel"]
Compression = Literal["", "gzip", "zstd"]
BLOCK_BYTES = 1024 * 1024
STATISTICS_BYTES = 64 * 1024 * 1024  # examined where a file is not UTF-8
ENCODING_NAMES = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "gb18030": "GB18030",
                  "big5hkscs": "Big5", "cp1252": "Latin-1 (Windows-1252)"}  # fmt: skip
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_LETTERS = re.compile(rb"[A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\xff]")


@dataclass(frozen=True)
class SourceFile:
    """A file whose kind and compression are known."""

    path: Path
    kind: Kind
    compression: Compression = ""

    def open(self) -> BinaryIO:
        """The uncompressed bytes."""
        if self.compression == "gzip":
            return cast(BinaryIO, gzip.open(self.path, "rb"))
        if self.compression == "zstd":
            import zstandard

            return cast(BinaryIO, zstandard.open(self.path, "rb"))
        return self.path.open("rb")


def identify(path: Path) -> SourceFile:
    """What a file is by its first bytes, whatever it is called. Raises UnreadableFileError."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError as error:
        raise UnreadableFileError(
            f"{path}: there is no such file. Check the path.", f"{path}：没有此文件，请检查路径。"
        ) from error
    except OSError as error:
        raise UnreadableFileError(
            f"{path}: cannot be opened: {error.strerror}. Check its permissions.",
            f"{path}：无法打开（{error.strerror}），请检查访问权限。",
        ) from error
    if not head:
        raise UnreadableFileError(
            f"{path}: is empty; it must have a header and rows. Send the complete file.",
            f"{path}：文件为空，应有表头和数据行。请提供完整的文件。",
        )
    if head[:4] == b"PAR1":
        return SourceFile(path, "parquet")
    if head[:4] == b"PK\x03\x04" or head == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return SourceFile(path, "excel")
    compression: Compression = "gzip" if head[:2] == b"\x1f\x8b" else "zstd" if head[:4] == b"\x28\xb5\x2f\xfd" else ""
    suffix = Path(path.stem).suffix.lower() if compression else path.suffix.lower()
    if compression == "" and suffix in (".parquet", ".pq"):
        raise UnreadableFileError(
            f"{path}: cannot be read as parquet: it does not begin as one. Save it again.",
            f"{path}：不是 Parquet 文件，请重新保存。",
        )
    source = SourceFile(path, "delimited", compression)
    try:
        with source.open() as file:
            start = file.read(4096)
    except Exception as error:
        raise UnreadableFileError(
            f"{path}: cannot be decompressed: {error}. Save the file again.",
            f"{path}：无法解压（{error}），请重新保存该文件。",
        ) from error
    inner = {b"PAR1": "Parquet", b"PK\x03\x04": "a workbook or an archive", b"\xd0\xcf\x11\xe0": "a workbook"}
    if start[:4] in inner:
        raise UnreadableFileError(
            f"{path}: is {inner[start[:4]]} inside {compression}, which cannot be read. Decompress it.",
            f"{path}：{compression} 内的文件不是文本，请先解压。",
        )
    if document := _document_kind(start):
        raise UnreadableFileError(
            f"{path}: is {document[0]}, not a table. Open it in its own program, and save the table as xlsx or CSV.",
            f"{path}：是{document[1]}，不是数据表。请用相应的程序打开，将其中的表格另存为 xlsx 或 CSV。",
        )
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if text[:1] == b"{" or suffix in (".ndjson", ".jsonl"):
        return SourceFile(path, "ndjson", compression)
    return SourceFile(path, "json" if text[:1] == b"[" and suffix == ".json" else "delimited", compression)


def _document_kind(start: bytes) -> tuple[str, str] | None:
    """What a file is that people take for a table, in English and Chinese, by how it begins."""
    text = start.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:2048].lower()
    if text.startswith(b"<") and any(tag in text for tag in (b"<html", b"<table", b"<!doctype html", b"<meta")):
        return "a web page (some systems export it as .xls)", "网页（有的系统以 .xls 导出网页）"
    if text.startswith(b"<?xml") or text.startswith(b"<workbook"):
        return "XML (such as a spreadsheet of 2003)", "XML 文件（如 2003 版 XML 电子表格）"
    signatures = {b"%pdf-": ("a PDF", " PDF 文件"), b"{\\rtf": ("a text document (RTF)", "文字文档（RTF）")}
    return next((kind for mark, kind in signatures.items() if text.startswith(mark)), None)


def detect_encoding(file: BinaryIO) -> tuple[str, int]:
    """(encoding, bytes of its byte order mark). Reads the whole file; text that is nothing else counts as UTF-8."""
    start = file.read(BLOCK_BYTES)
    for mark, encoding in _BOMS:
        if start.startswith(mark):
            return encoding, len(mark)
    zeros = [start[offset:4096:2].count(0) for offset in (0, 1)]
    if sum(zeros) > len(start[:4096]) / 8 and min(zeros) * 4 < max(zeros):
        return ("utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"), 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    block = start
    try:
        while block:
            decoder.decode(block)
            block = file.read(BLOCK_BYTES)
        decoder.decode(b"", final=True)
        return "utf-8", 0
    except UnicodeDecodeError:
        file.seek(0)
        return _guess_encoding(file.read(STATISTICS_BYTES)), 0


def _guess_encoding(data: bytes) -> str:
    """The encoding of text that is not UTF-8 throughout; utf-8 where it is so but for a few damaged lines."""
    lines = [line for line in data.split(b"\n" if b"\n" in data else b"\r") if not line.isascii()]
    broken_lines = [line for line in lines if not _decodes(line, "utf-8")]
    if len(broken_lines) * 2 <= len(lines) and len(lines) > 1:
        return "utf-8"
    runs = [run for line in broken_lines[:20_000] for run in re.findall(rb"[\x80-\xff]+", line)]
    even_runs = sum(len(run) % 2 == 0 for run in runs)
    last_line_may_be_cut = broken_lines[:-1] or broken_lines
    chinese = _chinese_encoding(last_line_may_be_cut)
    if even_runs * 2 > len(runs) and chinese:
        return chinese
    text = b"\n".join(broken_lines[:20_000])
    signs = [match for match in re.finditer(rb"[\x80-\xff]", text)]
    beside_letters = sum(
        bool(_LETTERS.match(sign.group()))
        and bool(_LETTERS.match(text[sign.end() : sign.end() + 1]) or _LETTERS.match(text[max(0, sign.start() - 1) :]))
        for sign in signs
    )
    if beside_letters * 2 > len(signs) and _decodes(text, "cp1252"):
        return "cp1252"
    return chinese or "utf-8"


def _chinese_encoding(lines: list[bytes]) -> str:
    """GB18030 or Big5 where one of them decodes every line, else "".

    Much of Big5 decodes as GB18030 too, into private signs, which no text has.
    """
    for encoding in ("gb18030", "big5hkscs"):
        if all(_decodes(line, encoding) for line in lines):
            text = b"\n".join(lines[:20_000]).decode(encoding)
            if not re.search("[\ue000-\uf8ff]", text):
                return encoding
    return "gb18030" if all(_decodes(line, "gb18030") for line in lines) else ""


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def utf8_blocks(file: BinaryIO, encoding: str, size: int) -> Iterator[bytes]:
    """The rest of a file in blocks of UTF-8. What is no text in another `encoding` becomes U+FFFD."""
    if encoding == "utf-8":
        while block := file.read(size):
            yield block
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    while block := file.read(size):
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()


def read_sample(file: BinaryIO, encoding: str, size: int) -> str:
    """The first `size` bytes of the rest of a file as text."""
    return io.BytesIO(file.read(size)).getvalue().decode(encoding, "replace")
