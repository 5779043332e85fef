"""The file of a batch is read elsewhere: what it becomes is bounded, and what the reading process says is checked."""

import io
import json
import os
import signal
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal

from datasets.errors import UnreadableFileError
from datasets.schema import ColumnSchema
from serving.core.db.schema import BATCH_CHUNKS
from serving.decisions.batch.files import confined
from serving.decisions.batch.files.confined import ConfinedBatchFile, ContentLimits, FileReaders
from serving.decisions.batch.files.formats import MEDIA_TYPES, BatchFile
from tests.datasets.confinement.support import needs_confinement
from tests.serving.conftest import run_inside, settings_for

LIMITS = ContentLimits(cell_chars=10_000, piece_bytes=16_000_000, total_bytes=4_000_000_000)
COLUMNS = (ColumnSchema(name="declared_income", kind="number"), ColumnSchema(name="village", kind="text"))
NAMES = ["declared_income", "village", "note"]
FRAME = pl.DataFrame(
    {"declared_income": [1.5, None, 3.0], "village": ["a", None, "中"], "note": ["x", "", "y"]},
    schema_overrides={"declared_income": pl.Float64},
)


def write(path, format, frame=FRAME):
    out = io.BytesIO()
    if format == "xlsx":
        frame.write_excel(out)
    else:
        getattr(frame, f"write_{format}")(out)
    path.write_bytes(out.getvalue())
    return path


def opened(path, format, limits=LIMITS, readers=None):
    return ConfinedBatchFile(readers or OneReader(path.parent), path, format, NAMES, limits)


class OneReader(FileReaders):
    """Starts no process ahead."""

    def prepare(self):
        pass


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_file_is_read_as_in_process(tmp_path, format):
    path = write(tmp_path / "file", format)
    plain = BatchFile(path, format, NAMES)
    with opened(path, format) as file:
        header = file.header()
        assert header.names == plain.column_names()
        assert header.rows == plain.row_count()
        assert header.first_names == ([] if header.names else NAMES)
        chunks = [*file.chunks(COLUMNS, ("note",), 2)]
    expected = [*plain.chunks(COLUMNS, ("note",), 2)]
    assert [chunk.first_row for chunk in chunks] == [chunk.first_row for chunk in expected]
    assert [chunk.faults for chunk in chunks] == [chunk.faults for chunk in expected]
    for chunk, other in zip(chunks, expected, strict=True):
        assert_frame_equal(chunk.frame, other.frame)


@needs_confinement
def test_the_process_is_confined_and_ends_with_the_file(tmp_path):
    path = write(tmp_path / "file", "csv")
    with opened(path, "csv") as file:
        file.header()
        process = file._child.process
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapEff"], 16)) == ("1", "2", 0)
    assert process.poll() is not None


def test_a_long_text_is_a_fault_of_its_row_and_is_left_out(tmp_path):
    frame = pl.DataFrame({"declared_income": [1.0, 2.0], "note": ["A" * 10_001, "short"]})
    with opened(write(tmp_path / "file", "parquet", frame), "parquet") as file:
        [chunk] = file.chunks(COLUMNS, ("note",), 10)
    assert chunk.frame["note"].to_list() == [None, "short"]
    [fault] = chunk.faults
    assert (fault.row, fault.field, fault.actual) == (1, "note", "text of 10,001 characters")


def test_of_long_rows_there_are_fewer_in_a_piece(tmp_path):
    frame = pl.DataFrame({"declared_income": [1.0] * 1_000, "note": ["A" * 5_000] * 1_000})
    path = write(tmp_path / "file", "parquet", frame)
    assert path.stat().st_size < 50_000
    limits = ContentLimits(10_000, 100_000, 10**9)
    with opened(path, "parquet", limits) as file:
        chunks = [*file.chunks(COLUMNS, ("note",), 1_000)]
    assert max(chunk.frame.height for chunk in chunks) == 19
    assert [chunk.first_row for chunk in chunks] == [*range(1, 1_001, 19)]
    assert pl.concat([chunk.frame for chunk in chunks]).equals(frame)


def test_a_file_that_becomes_too_large_is_refused(tmp_path):
    frame = pl.DataFrame({"declared_income": [1.0] * 1_000, "note": ["A" * 5_000] * 1_000})
    limits = ContentLimits(10_000, 100_000, 1_000_000)
    path = write(tmp_path / "file", "parquet", frame)
    too_large = pytest.raises(UnreadableFileError, match="more than 1,000,000 bytes once it is read")
    with opened(path, "parquet", limits) as file, too_large:
        list(file.chunks(COLUMNS, ("note",), 1_000))


def test_a_bomb_breaks_its_own_process_and_not_the_gateway(tmp_path):
    """20 texts of 30 MB, in a file of some kilobytes."""
    path = tmp_path / "file"
    table = pa.table({"note": pa.array(["A" * 30_000_000] * 20, pa.large_string())})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    del table
    assert path.stat().st_size < 500_000
    before = resident()
    refused = pytest.raises(UnreadableFileError, match="400,000,000 bytes of memory")
    with opened(path, "parquet", readers=OneReader(tmp_path, 400_000_000)) as file, refused:
        list(file.chunks(COLUMNS, ("note",), 10_000))
    assert resident() - before < 100_000_000


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_is_a_refusal(tmp_path, how):
    with opened(write(tmp_path / "file", "csv"), "csv") as file:
        file.header()
        os.kill(file._child.process.pid, how)
        with pytest.raises(UnreadableFileError, match=how.name):
            list(file.chunks(COLUMNS, (), 10))


def test_a_process_that_hangs_is_a_refusal(tmp_path, monkeypatch):
    with opened(write(tmp_path / "file", "csv"), "csv") as file:
        file.header()
        os.kill(file._child.process.pid, signal.SIGSTOP)
        monkeypatch.setattr(confined, "WALL_SECONDS", 1.0)
        started = time.monotonic()
        with pytest.raises(UnreadableFileError, match="within 1 s"):
            list(file.chunks(COLUMNS, (), 10))
        assert time.monotonic() - started < 20


FRAME_HEADER = {"height": 1, "columns": [{"type": "Float64", "name": "declared_income", "bytes": 8, "nulls": False}]}


@pytest.mark.parametrize(
    "lines",
    [
        b"\n",
        b"[]\n",
        b"{" * 100_000 + b"\n",
        json.dumps({"frame": FRAME_HEADER | {"height": 10**15}, "first_row": 1, "faults": []}).encode() + b"\n",
        json.dumps({"frame": FRAME_HEADER, "first_row": 7, "faults": []}).encode() + b"\n" + bytes(8),
        json.dumps({"frame": FRAME_HEADER, "first_row": 1, "faults": [["a"]]}).encode() + b"\n" + bytes(8),
        json.dumps({"frame": FRAME_HEADER, "first_row": 1, "faults": [[*"abcd", 99]]}).encode() + b"\n" + bytes(8),
        json.dumps({"frame": {}, "first_row": 1, "faults": []}).encode() + b"\n",
        json.dumps({"unreadable": "\x1b[2J" + "x" * 10**6}).encode() + b"\n",
    ],
)
def test_a_process_that_lies_is_a_refusal(tmp_path, lines):
    with opened(write(tmp_path / "file", "csv"), "csv") as file:
        file.header()
        file._child._buffer += lines
        with pytest.raises(UnreadableFileError) as refused:
            list(file.chunks(COLUMNS, (), 10))
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 3_000


def test_the_next_process_waits_confined_and_reads_its_own_file_alone(tmp_path):
    readers = FileReaders(tmp_path)
    (tmp_path / "key").write_text("secret")
    try:
        with opened(write(tmp_path / "first", "csv"), "csv", readers=readers) as file:
            first = file._child.process.pid
            file.header()
        spare = readers._spare.process
        assert spare.pid != first
        with opened(write(tmp_path / "second", "ndjson"), "ndjson", readers=readers) as file:
            assert file._child.process is spare
            assert file.header().first_names == NAMES
        spare = readers._spare.process
        os.kill(spare.pid, signal.SIGKILL)
        spare.wait()
        with opened(write(tmp_path / "third", "csv"), "csv", readers=readers) as file:
            assert file.header().names == NAMES
    finally:
        readers.close()
    assert readers._spare is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "key", "second", "third"]


def test_a_refusal_names_the_upload_and_not_the_folder_of_the_process(tmp_path):
    (tmp_path / "broken").write_bytes(b"PAR1 and nothing else")
    with opened(tmp_path / "broken", "parquet") as file, pytest.raises(UnreadableFileError) as refused:
        file.header()
    assert str(refused.value).startswith(f"{tmp_path / 'broken'}: ")
    assert "confined-" not in str(refused.value)


def test_an_upload_of_some_kilobytes_is_scored_in_pieces_of_bounded_size(bundles, made, tmp_path):
    """One text of 9 kB in a dictionary, for 5,000 rows: 45 MB of answers."""
    frame = pl.DataFrame({"declared_income": [50_000.0] * 5_000, "note": ["A" * 9_000] * 5_000})
    path = write(tmp_path / "bomb.parquet", "parquet", frame)
    assert path.stat().st_size < 100_000

    async def story(client, gateway):
        headers = {"Content-Type": MEDIA_TYPES["parquet"], "Accept": "text/csv"}
        answer = await client.post("/v1/credit-limits/batch?keep=note", content=path.read_bytes(), headers=headers)
        assert answer.status_code == 200
        assert answer.text.count("A" * 9_000) == 5_000
        chunks = sa.select(BATCH_CHUNKS.c.first_row, BATCH_CHUNKS.c.rows).order_by(BATCH_CHUNKS.c.first_row)
        with gateway.service.store.engine.connect() as connection:
            rows = connection.execute(chunks).all()
        piece = gateway.settings.batch.max_piece_bytes // (9_000 + 8)
        assert [first_row for first_row, _ in rows] == [*range(1, 5_001, piece)]

    run_inside(settings_for(bundles, made, tmp_path / "home"), story)
