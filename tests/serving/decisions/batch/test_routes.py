"""Batches: three formats, faulty rows reported beside the answers, the same limits as single decisions."""

from __future__ import annotations

import asyncio
import io
import time
from datetime import datetime

import httpx
import orjson
import polars as pl
import pytest
import xlsxwriter

from datasets.schema import ColumnSchema
from serving.decisions.batch.files.formats import MEDIA_TYPES, BatchFile
from tests.serving.conftest import indicators, run_inside, settings_for

URL = "/v1/credit-limits/batch"
DECIDED = ("decision", "limit", "indicative_limit", "pd", "score", "grade")


def known(made) -> list[str]:
    return [column.name for column in (*made.card.inputs, *made.card.also)]


def written(frame: pl.DataFrame, format: str) -> bytes:
    out = io.BytesIO()
    writers = {"csv": frame.write_csv, "ndjson": frame.write_ndjson, "parquet": frame.write_parquet}
    (writers | {"xlsx": lambda out: write_workbook(frame, out)})[format](out)
    return out.getvalue()


def write_workbook(frame: pl.DataFrame, out: io.BytesIO) -> None:
    """The same bytes for the same rows, whenever they are written."""
    with xlsxwriter.Workbook(out) as workbook:
        workbook.set_properties({"created": datetime(2026, 1, 1)})
        frame.write_excel(workbook)


def read(content: bytes, format: str) -> pl.DataFrame:
    readers = {"csv": pl.read_csv, "ndjson": pl.read_ndjson, "parquet": pl.read_parquet, "xlsx": pl.read_excel}
    options = {} if format == "parquet" else {"infer_schema_length": None}
    return readers[format](io.BytesIO(content), **options)


async def send(
    client: httpx.AsyncClient, content: bytes, format: str, query: str = "", **headers: str
) -> httpx.Response:
    return await client.post(URL + query, content=content, headers={"Content-Type": MEDIA_TYPES[format], **headers})


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_batch_gives_the_limits_of_single_decisions_to_the_yuan(inside, people, made, format):
    frame = people.head(120).select("household_id", *known(made))

    async def story(client, gateway):
        response = await send(client, written(frame, format), format, "?keep=household_id&reasons=true")
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == MEDIA_TYPES[format]
        answers = read(response.content, format)
        assert answers.height == 120
        assert answers["row"].to_list() == list(range(1, 121))
        assert answers["household_id"].to_list() == frame["household_id"].to_list()
        assert answers["error"].null_count() == 120
        assert set(answers["model"]) == {"credit_limit"}
        for i in range(0, 120, 7):
            single = (
                await client.post("/v1/credit-limits", json={"indicators": indicators(people, made.card, i)})
            ).json()
            row = answers.row(i, named=True)
            assert [row[name] for name in DECIDED] == [single[name] for name in DECIDED]
            assert row["reasons"].split(";")[0] == single["reasons"][0]["code"]

    inside(story)


def test_each_output_format_can_be_requested(inside, people, made):
    frame = people.head(20).select(known(made))

    async def story(client, gateway):
        by_query = await send(client, written(frame, "csv"), "csv", "?format=parquet")
        by_accept = await send(client, written(frame, "csv"), "csv", Accept=MEDIA_TYPES["ndjson"])
        as_it_came = await send(client, written(frame, "parquet"), "parquet", Accept="*/*")
        answers = [
            read(by_query.content, "parquet"),
            read(by_accept.content, "ndjson"),
            read(as_it_came.content, "parquet"),
        ]
        assert answers[0]["indicative_limit"].to_list() == answers[1]["indicative_limit"].to_list()
        assert answers[0]["indicative_limit"].to_list() == answers[2]["indicative_limit"].to_list()
        refused = await send(client, written(frame, "csv"), "csv", Accept="application/pdf")
        assert (refused.status_code, refused.json()["type"]) == (406, "/problems/not_acceptable")

    inside(story)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_three_faulty_rows_are_reported_and_the_others_answered(inside, people, made, format):
    frame = people.select(known(made)).with_columns(
        declared_income=pl.when(pl.int_range(pl.len()) == 1_234).then(-4200).otherwise(pl.col("declared_income")),
        utilisation=pl.when(pl.int_range(pl.len()) == 2_000).then(45.0).otherwise(pl.col("utilisation")),
        tax_grade=pl.when(pl.int_range(pl.len()) == 2_999).then(pl.lit("Z")).otherwise(pl.col("tax_grade")),
    )

    async def story(client, gateway):
        response = await send(client, written(frame, format), format)
        answers = read(response.content, format)
        bad = answers.filter(pl.col("error").is_not_null())
        assert bad["row"].to_list() == [1_235, 2_001, 3_000]
        assert bad["decision"].null_count() == 3
        assert "declared_income is" in bad["error"][0]
        assert "-4200" in bad["error"][0]
        assert "RMB/year" in bad["error"][0]
        assert "应为" in bad["error_zh"][0]
        assert answers.filter(pl.col("error").is_null())["decision"].null_count() == 0
        summary = (await client.get(response.headers["location"])).json()
        assert (summary["state"], summary["rows"], summary["answered"], summary["faulty"]) == ("done", 3_000, 2_997, 3)
        assert [(fault["row"], fault["field"]) for fault in summary["faults"]] == [
            (1_235, "declared_income"),
            (2_001, "utilisation"),
            (3_000, "tax_grade"),
        ]

    inside(story)


def test_three_faulty_rows_of_a_hundred_thousand_are_reported_and_the_others_answered(inside, people, made):
    households = people.select(known(made))
    frame = pl.concat([households] * (100_000 // households.height + 1)).head(100_000)
    bad = pl.int_range(pl.len()).is_in([9_999, 10_000, 99_999])  # the last of a piece, the first of the next, the last
    frame = frame.with_columns(gap_months=pl.when(bad).then(25).otherwise(pl.col("gap_months")))

    async def story(client, gateway):
        response = await send(client, written(frame, "csv"), "csv")
        summary = (await client.get(response.headers["location"])).json()
        assert (summary["rows"], summary["answered"], summary["faulty"]) == (100_000, 99_997, 3)
        assert [fault["row"] for fault in summary["faults"]] == [10_000, 10_001, 100_000]
        answers = read(response.content, "csv")
        assert answers["decision"].null_count() == 3
        assert answers.filter(pl.col("error").is_not_null())["row"].to_list() == [10_000, 10_001, 100_000]

    inside(story)


@pytest.mark.parametrize("first", ["subject_id", "age"])
def test_many_unknown_columns_are_reported_as_a_few_and_a_count(inside, first):
    names = [f"column{index}" for index in range(20_000)]

    async def story(client, gateway):
        payload = (await send(client, f"{','.join([first, *names, *names])}\n".encode(), "csv")).json()
        faults = [(error["field"], error["found"]) for error in payload["errors"]]
        assert [actual for _, actual in faults].count("not known") == 20
        assert ("...", "39,980 more that are not known") in faults
        assert len(faults) < 60

    inside(story)


@pytest.mark.parametrize(("records", "names"), [(1, 20_000), (5_000, 3)])
def test_unknown_names_in_records_are_reported_as_a_few_and_a_count(tmp_path, records, names):
    """Comparing each of them with every known name would take a minute."""
    columns = [ColumnSchema(name=f"an_indicator_{index}") for index in range(60)]
    lines = [orjson.dumps({f"an_indicatr_{index}": 1 for index in range(names)}) for _ in range(records)]
    file = tmp_path / "batch.ndjson"
    file.write_bytes(b"\n".join(lines))
    started = time.process_time()
    faults = [fault for chunk in BatchFile(file, "ndjson", ()).chunks(columns, (), records) for fault in chunk.faults]
    assert time.process_time() - started < 5
    first = [fault for fault in faults if fault.row == 1]
    assert len(faults) == records * min(names, 21)
    assert "did you mean 'an_indicator_0'?" in first[0].expected
    assert [fault.actual for fault in first if fault.field == "..."] == ["19,980 more that are not known"] * (
        names > 20
    )


@pytest.mark.parametrize(("limit", "cut"), [(1, True), (2, True), (3, False), (9, False)])
def test_a_summary_says_whether_its_list_of_faults_is_complete(bundles, made, people, tmp_path, limit, cut):
    bad = pl.int_range(pl.len()).is_in([0, 4, 7])
    frame = people.head(10).select(known(made)).with_columns(gap_months=pl.when(bad).then(25).otherwise(0))

    async def story(client, gateway):
        response = await send(client, written(frame, "csv"), "csv")
        summary = (await client.get(response.headers["location"])).json()
        assert (len(summary["faults"]), summary["faulty"], summary["faults_cut"]) == (min(limit, 3), 3, cut)
        [listed] = (await client.get("/v1/batches")).json()["batches"]
        assert (listed["faults"], listed["faulty"], listed["faults_cut"]) == (min(limit, 3), 3, cut)

    run_inside(settings_for(bundles, made, tmp_path, YUHENG_BATCH_MAX_REPORTED_FAULTS=f"{limit}"), story)


def test_each_row_of_a_batch_is_a_decision_with_its_own_id(inside, people, made):
    async def story(client, gateway):
        response = await send(client, written(people.head(30).select(known(made)), "csv"), "csv")
        row = read(response.content, "csv").row(17, named=True)
        decision = await client.get(f"/v1/decisions/{row['decision_id']}")
        payload = decision.json()
        assert payload["decision_id"] == row["decision_id"] == f"{response.headers['batch-id']}-18"
        assert payload["limit"] == row["limit"]
        assert payload["model"]["bundle"] == row["bundle"]
        none = await client.get(f"/v1/decisions/{response.headers['batch-id']}-31")
        assert none.status_code == 404

    inside(story)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_batch_sent_again_with_its_key_returns_the_same_bytes(inside, people, made, format):
    content = written(people.head(50).select(known(made)), format)

    async def story(client, gateway):
        keyed = {"Idempotency-Key": f"batch-{format}"}
        first = await send(client, content, format, **keyed)
        again = await send(client, content, format, **keyed)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["batch-id"] == first.headers["batch-id"]
        assert again.content == first.content
        other = await send(client, content + (b"\n" if format != "parquet" else content), format, **keyed)
        assert (other.status_code, other.json()["type"]) == (409, "/problems/key_reused")

    inside(story)


@pytest.mark.parametrize(
    ("content", "format", "status", "kind", "expected"),
    [
        (b"", "csv", 400, "empty_body", "file of applicants"),
        (b"\n\n", "csv", 422, "invalid_batch", "model"),
        (b"declared_income\n", "csv", 422, "invalid_batch", "1 row or more"),
        (b"\n", "ndjson", 422, "invalid_batch", "1 row or more"),
        (b"declared_incom\n5\n", "csv", 422, "invalid_batch", "did you mean 'declared_income'?"),
        (b"declared_income,declared_income\n5,6\n", "csv", 422, "invalid_batch", "one column"),
        (b"household_id\nA\n", "csv", 422, "invalid_batch", "keep"),
        (b"\xff\xfed\x00e\x00\n", "csv", 422, "invalid_batch", "UTF-8"),
        (b"PAR1 but not really", "parquet", 422, "invalid_batch", "Parquet"),
        (b"PAR1" + b"\x00" * 100 + b"\xff\xff\xff\x7fPAR1", "parquet", 422, "invalid_batch", "Parquet"),
    ],
)
def test_a_file_that_cannot_be_answered_is_refused_as_a_whole(inside, content, format, status, kind, expected):
    async def story(client, gateway):
        response = await send(client, content, format)
        assert (response.status_code, response.json()["type"]) == (status, f"/problems/{kind}"), response.text
        assert expected in response.text
        assert not list(gateway.settings.paths.spool.iterdir())

    inside(story)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?formt=csv", "formt"),
        ("?format=xml", "format"),
        ("?reasons=perhaps", "reasons"),
        ("?keep=declared_income", "keep"),
        ("?keep=error", "keep"),
        ("?format=csv&format=csv", "format"),
    ],
)
def test_a_wrong_parameter_is_named(inside, query, field):
    async def story(client, gateway):
        response = await send(client, b"declared_income\n5\n", "csv", query)
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)

    inside(story)


def test_unreadable_records_are_reported_and_the_others_answered(inside):
    csv = b'declared_income,note\n1000,a\n2000\n3000,a,b\n\n4000,"x, ""y""\nz"\n5000,\xff\n6000,b\n'
    ndjson = b'{"declared_income": 1000}\n{"declared_income": NaN}\n[1]\n{"declared_incom": 5}\n\n'
    ndjson += b'{"declared_income": "6"}\n{}\n{"declared_income": 1000, "declared_income": 9000}\n'

    async def story(client, gateway):
        answers = read((await send(client, csv, "csv", "?keep=note")).content, "csv")
        assert answers["error"].is_null().to_list() == [True, False, False, False, True, False, True]
        assert answers["error"].drop_nulls().str.contains("values|blank line|UTF-8").all()
        answers = read((await send(client, ndjson, "ndjson")).content, "ndjson")
        assert answers["error"].is_null().to_list() == [True, False, False, False, False, True, False]
        assert "did you mean 'declared_income'" in answers["error"][3]
        assert "'declared_income' stands twice" in answers["error"][6]

    inside(story)


def test_windows_line_ends_and_a_byte_order_mark_are_read(inside):
    async def story(client, gateway):
        response = await send(client, b"\xef\xbb\xbfdeclared_income,raters\r\n1000,5\r\n2000,6\r\n", "csv")
        assert read(response.content, "csv")["error"].null_count() == 2

    inside(story)


def test_a_fault_is_reported_for_every_row_where_all_are_faulty(inside):
    async def story(client, gateway):
        content = b"declared_income,utilisation\n" + b"-1,7\n" * 3_000
        response = await send(client, content, "csv")
        answers = read(response.content, "csv")
        assert answers.height == 3_000
        assert answers["error"].null_count() == 0
        assert answers["error"].str.contains("utilisation").all()
        summary = (await client.get(response.headers["location"])).json()
        assert (summary["faulty"], len(summary["faults"])) == (3_000, 1_000)

    inside(story)


def test_chunks_join_into_one_file(bundles, made, people, tmp_path):
    settings = settings_for(bundles, made, tmp_path, YUHENG_BATCH_CHUNK_ROWS="70")
    frame = people.head(1_000).select(known(made))

    async def story(client, gateway):
        for format in MEDIA_TYPES:
            response = await send(client, written(frame, format), format)
            answers = read(response.content, format)
            assert answers["row"].to_list() == list(range(1, 1_001))
            last = await client.get(f"/v1/decisions/{answers['decision_id'][-1]}")
            assert last.json()["row"] == 1_000

    run_inside(settings, story)


def test_more_rows_than_the_limit_are_refused(bundles, made, people, tmp_path):
    settings = settings_for(
        bundles, made, tmp_path, YUHENG_LIMITS_MAX_BATCH_ROWS="99", YUHENG_LIMITS_MAX_UPLOAD_BYTES="200000"
    )
    frame = people.head(100).select(known(made))

    async def story(client, gateway):
        for format in MEDIA_TYPES:
            response = await send(client, written(frame, format), format)
            assert response.json()["errors"][0]["needed"] == "at most 99"
        big = await send(client, b"declared_income\n" + b"5\n" * 200_000, "csv")
        assert (big.status_code, big.json()["type"]) == (413, "/problems/body_too_large")
        assert not list(settings.paths.spool.iterdir())

    run_inside(settings, story)


def test_a_batch_beyond_the_limit_is_told_to_retry_later(bundles, people, made, tmp_path):
    content = written(people.head(2_000).select(known(made)), "csv")

    async def story(client, gateway):
        responses = await asyncio.gather(*(send(client, content, "csv") for _ in range(3)))
        by_status = sorted(answer.status_code for answer in responses)
        assert by_status == [200, 503, 503]
        refused = next(answer for answer in responses if answer.status_code == 503)
        assert refused.headers["retry-after"]
        assert (await send(client, content, "csv")).status_code == 200

    run_inside(settings_for(bundles, made, tmp_path, YUHENG_LIMITS_MAX_OPEN_BATCHES="1"), story)


def test_a_client_that_disconnects_leaves_no_batch_running(inside, people, made):
    content = written(people.select(known(made)), "csv")

    async def story(client, gateway):
        class Gone(Exception):
            pass

        parts = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive():
            return next(parts, {"type": "http.disconnect"})

        sent = []

        async def answer(message):
            sent.append(message)
            if message["type"] == "http.response.body":
                raise Gone

        headers = [(b"content-type", b"text/csv")]
        scope = {"type": "http", "method": "POST", "path": URL, "query_string": b"", "headers": headers}
        with pytest.raises(Gone):
            await gateway(scope, receive, answer)
        batch = dict(sent[0]["headers"])[b"batch-id"].decode()
        assert orjson.loads((await client.get(f"/v1/batches/{batch}")).content)["state"] == "broken"
        assert (await send(client, content, "csv")).status_code == 200
        assert not list(gateway.settings.paths.spool.iterdir())

    inside(story)


def test_a_batch_with_a_key_finishes_after_a_disconnect_and_can_be_fetched_with_the_key(inside, people, made):
    content = written(people.select(known(made)), "csv")

    async def story(client, gateway):
        parts = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive():
            return next(parts, {"type": "http.disconnect"})

        async def nobody(message):
            pass

        headers = [(b"content-type", b"text/csv"), (b"idempotency-key", b"patient")]
        scope = {"type": "http", "method": "POST", "path": URL, "query_string": b"", "headers": headers}
        await gateway(scope, receive, nobody)
        again = await send(client, content, "csv", **{"Idempotency-Key": "patient"})
        assert again.headers["idempotent-replayed"] == "true"
        assert read(again.content, "csv").height == people.height

    inside(story)
