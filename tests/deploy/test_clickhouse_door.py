"""ClickHouse's HTTP interface in front of the embedded engine, as its clients see it."""

from __future__ import annotations

import datetime as dt
import gzip
import http.client
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import clickhouse_connect
import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from deploy.clickhouse import native
from deploy.clickhouse.door import Door
from deploy.clickhouse.statement import read_statement
from sinks.clickhouse.connection import open_engine

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with Door(tmp_path_factory.mktemp("door") / "clickhouse", password=PASSWORD) as door:
        yield door


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "multipart/form-data"])
def test_a_form_that_is_none_is_refused(door: Door, kind: str) -> None:
    answer = call(door, b"", headers={"Content-Type": kind})
    assert "INCORRECT_DATA" in answer.text and "UNKNOWN_EXCEPTION" not in answer.text


@pytest.fixture
def client(door: Door) -> Iterator[Client]:
    client = clickhouse_connect.get_client(dsn=door.address, password=PASSWORD, autogenerate_session_id=False)
    yield client
    client.close()


@pytest.fixture
def table(client: Client) -> Iterator[str]:
    client.command("CREATE OR REPLACE TABLE t (n UInt32, s String) ENGINE = MergeTree ORDER BY n")
    yield "t"
    client.command("DROP TABLE t")


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.text = self.body.decode(errors="replace")


def call(
    door: Door,
    body: Any = None,
    *,
    method: str = "POST",
    path: str = "/",
    headers: dict[str, str] | None = None,
    key: str | None = PASSWORD,
    **params: str,
) -> Reply:
    """A request as curl would send it."""
    connection = http.client.HTTPConnection(urlsplit(door.address).netloc, timeout=30)
    sent = ({"X-ClickHouse-Key": key} if key is not None else {}) | (headers or {})
    try:
        connection.request(method, path + (f"?{urlencode(params)}" if params else ""), body, sent)
        return Reply(connection.getresponse())
    finally:
        connection.close()


# ---- clickhouse-connect's ordinary client


def test_create_insert_and_ask_with_parameters(client: Client) -> None:
    client.command(
        "CREATE OR REPLACE TABLE kinds (day Date, at DateTime64(3), stage LowCardinality(String), mau UInt64, "
        "mrr Decimal(18, 2), known Nullable(UInt32), days Array(UInt64)) ENGINE = MergeTree ORDER BY day"
    )
    rows = [
        [
            dt.date(2026, 11, 19),
            dt.datetime(2026, 11, 19, 8, 15, 0, 250000),
            "create",
            2**63,
            Decimal("1.10"),
            None,
            [],
        ],
        [dt.date(2026, 11, 20), dt.datetime(2026, 11, 20, 0, 0), "plän", 3, Decimal("-0.01"), 0, [1, 2]],
    ]
    summary = client.insert("kinds", rows)
    assert summary.written_rows == 2
    assert client.query("SELECT * FROM kinds ORDER BY day").result_rows == [tuple(row) for row in rows]
    found = client.query(
        "SELECT mau FROM kinds WHERE stage = {stage:String} AND day >= {day:Date} AND mau IN {some:Array(UInt64)}",
        parameters={"stage": "plän", "day": dt.date(2026, 11, 20), "some": [3, 4]},
    )
    assert found.result_rows == [(3,)]
    assert client.command("SELECT count() FROM kinds") == 2


def test_a_parameter_is_a_value_whatever_is_in_it(client: Client) -> None:
    for value in ("it's", "a\\b", "tab\there", "line\nbreak", "{x:UInt8}", "'; DROP TABLE t; --", "", "naïve 💡"):
        assert client.query("SELECT {v:String}", parameters={"v": value}).result_rows == [(value,)]


def test_arrow_in_and_out(client: Client, table: str) -> None:
    sent = pa.table({"n": pa.array(range(1000), pa.uint32()), "s": pa.array(map(str, range(1000)))})
    client.insert_arrow(table, sent)
    got = client.query_arrow(f"SELECT n, s FROM {table} ORDER BY n", use_strings=True)
    assert got.column("n").to_pylist() == list(range(1000))
    assert got.column("s").to_pylist() == [str(n) for n in range(1000)]


def test_raw_insert_with_and_without_compression(client: Client, table: str) -> None:
    client.raw_insert(table, ["n", "s"], "1,one\n2,two\n", fmt="CSV")
    client.raw_insert(table, ["n", "s"], gzip.compress(b"3\tthree\n"), fmt="TabSeparated", compression="gzip")
    client.raw_insert(table, ["n", "s"], (piece for piece in (b'{"n":4,', b'"s":"four"}')), fmt="JSONEachRow")
    assert client.query(f"SELECT * FROM {table} ORDER BY n").result_rows == [
        (1, "one"), (2, "two"), (3, "three"), (4, "four"),
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["lz4", "zstd", "gzip", "deflate", False])
def test_bodies_and_answers_packed(door: Door, table: str, method: str | bool) -> None:
    if method == "deflate":
        reply = call(
            door, "SELECT 'x' FROM numbers(1000)", headers={"Accept-Encoding": "deflate"}, enable_http_compression="1"
        )
        assert reply.headers["Content-Encoding"] == "deflate"
        assert zlib.decompress(reply.body) == b"x\n" * 1000
        return
    client = clickhouse_connect.get_client(dsn=door.address, password=PASSWORD, compress=method)
    client.insert(table, [[n, "x" * 100] for n in range(20000)], column_names=["n", "s"])
    rows = client.query(f"SELECT n, s FROM {table} ORDER BY n").result_rows
    assert len(rows) == 20000
    assert rows[-1] == (19999, "x" * 100)
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(300000)") as stream:
        assert sum(len(block) for block in stream) == 300000
    client.close()


def test_a_large_answer_comes_while_it_is_made(client: Client) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(2000000)") as stream:
        total = sum(sum(row[0] for row in block) for block in stream)
    assert total == sum(range(2000000))


def test_an_error_in_the_middle_of_a_large_answer_is_an_error(door: Door, client: Client) -> None:
    query = "SELECT throwIf(number = 2000000, 'too far'), number FROM numbers(3000000)"
    with pytest.raises(StreamFailureError, match="too far"), client.query_row_block_stream(query) as stream:
        for _ in stream:
            pass
    with pytest.raises(http.client.IncompleteRead):
        call(door, query)
    with pytest.raises(DatabaseError, match="too far") as failed:
        client.query(query)
    assert failed.value.code == 395


def test_errors_have_their_code(client: Client) -> None:
    for query, code, name in (
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELEKT 1", 62, "SYNTAX_ERROR"),
        ("SELECT nothing", 47, "UNKNOWN_IDENTIFIER"),
    ):
        with pytest.raises(DatabaseError) as failed:
            client.query(query)
        assert (failed.value.code, failed.value.name) == (code, name)
    with pytest.raises(DatabaseError) as failed:
        client.command("CREATE TABLE nowhere.t (n UInt8) ENGINE = Memory")
    assert failed.value.code == 81


def test_parameters_too_long_for_a_url_come_as_a_form(client: Client) -> None:
    value = "x" * 300_000
    assert client.query("SELECT length({v:String})", parameters={"v": value}).result_rows == [(300_000,)]


def test_external_tables(client: Client) -> None:
    data = ExternalData(
        file_name="people.csv", data=b"1,Ada\n2,Grace\n", fmt="CSV", structure=["id UInt8", "name String"]
    )
    found = client.query("SELECT name FROM people ORDER BY id", external_data=data)
    assert found.result_rows == [("Ada",), ("Grace",)]
    with pytest.raises(DatabaseError):
        client.query("SELECT * FROM people")


# ---- the protocol itself


def test_health(door: Door) -> None:
    for path in ("/ping", "/", "/replicas_status"):
        reply = call(door, method="GET", path=path, key=None)
        assert (reply.status, reply.text) == (200, "Ok.\n")
    assert call(door, method="GET", path="/nothing").status == 404


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Expect: \x80", b"417"),
        (b"Expect: 100-continue", b"100"),
        (b"X-ClickHouse-Key: \x80", b"403"),
        (b"Authorization: Bearer \x80", b"403"),
    ],
)
def test_headers_that_are_no_text_are_answered(door: Door, header: bytes, status: bytes) -> None:
    host, port = door.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        lines = [b"GET /?query=SELECT+1 HTTP/1.1", b"Host: x", header, b"Connection: close", b"", b""]
        connection.sendall(b"\r\n".join(lines))
        assert connection.makefile("rb").readline().split()[1] == status


def test_headers_of_an_answer(door: Door) -> None:
    reply = call(door, "SELECT 1 AS a", default_format="JSONEachRow", query_id="mine")
    assert reply.text == '{"a":1}\n'
    assert reply.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert reply.headers["X-ClickHouse-Query-Id"] == "mine"
    assert reply.headers["X-ClickHouse-Timezone"] == "UTC"
    summary = json.loads(reply.headers["X-ClickHouse-Summary"])
    assert summary["result_rows"] == "1"
    assert call(door, "SELECT 1 FORMAT CSV").headers["X-ClickHouse-Format"] == "CSV"
    assert "X-ClickHouse-Format" in call(door, "SELECT 1 WHERE 0").headers
    assert "X-ClickHouse-Format" not in call(door, "CREATE TABLE IF NOT EXISTS m (n UInt8) ENGINE = Memory").headers


@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("SELECT * FROM nowhere", 404, 60),
        ("SELECT 1 FORMAT Nowhere", 404, 73),
        ("SELECT nowhere(1)", 404, 46),
        ("SELEKT 1", 400, 62),
        ("", 400, 62),
        ("SELECT toUInt8('x')", 400, 6),
        ("SELECT 'x' + 1", 400, 43),
        ("SELECT {p:UInt8}", 400, 456),
        ("SELECT throwIf(1)", 500, 395),
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELECT 1 INTO OUTFILE '/tmp/never'", 500, 358),
        ("INSERT INTO t FROM INFILE '/etc/hostname' FORMAT CSV", 500, 358),
    ],
)
def test_errors_as_clickhouse_gives_them(door: Door, statement: str, status: int, code: int) -> None:
    reply = call(door, statement, database="default")
    assert (reply.status, reply.headers["X-ClickHouse-Exception-Code"]) == (status, str(code))
    assert reply.text.startswith(f"Code: {code}. DB::Exception: ")
    assert reply.text.rstrip().split("(version")[0].rstrip().endswith(")")


def test_get_reads_only(door: Door, table: str) -> None:
    assert call(door, method="GET", query="SELECT 1").text == "1\n"
    reply = call(door, method="GET", query=f"INSERT INTO {table} VALUES (1, 'x')")
    assert reply.headers["X-ClickHouse-Exception-Code"] == "164"
    assert call(door, method="GET", query=f"DROP TABLE {table}").headers["X-ClickHouse-Exception-Code"] == "164"
    assert call(door, method="GET", query="SET readonly = 0").status != 200
    assert call(door, f"SELECT count() FROM {table}").text == "0\n"


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"n": pa.array([1, 2], pa.uint32()), "s": ["a", "b"]}), sink)
    return sink.getvalue().to_pybytes()


def arrow() -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.table({"n": pa.array([1, 2], pa.uint32()), "s": ["a", "b"]})
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_table(batch)
    return sink.getvalue().to_pybytes()


NATIVE = b"\x02\x02\x01n\x06UInt32" + struct.pack("<II", 1, 2) + b"\x01s\x06String\x01a\x01b"
ROW_BINARY = struct.pack("<I", 1) + b"\x01a" + struct.pack("<I", 2) + b"\x01b"
BODIES = {
    "CSV": b'1,"a"\n2,"b"\n',
    "TabSeparated": b"1\ta\n2\tb\n",
    "JSONEachRow": b'{"n":1,"s":"a"}\n{"n":2,"s":"b"}\n',
    "Values": b"(1, 'a'), (1 + 1, 'b')",
    "RowBinary": ROW_BINARY,
    "Native": NATIVE,
    "Parquet": parquet(),
    "Arrow": arrow(),
}


@pytest.mark.parametrize("where", ["url", "body", "both"])
@pytest.mark.parametrize("input_format", BODIES)
def test_inserts_in_any_format_with_the_statement_in_the_url_or_in_the_body(
    door: Door, table: str, input_format: str, where: str
) -> None:
    data = BODIES[input_format]
    head = f"INSERT INTO {table} (n, s) FORMAT {input_format}"
    if where == "url":
        reply = call(door, data, query=head)
    elif where == "body":
        reply = call(door, head.encode() + b"\n" + data)
    else:
        reply = call(door, f"({'n, s'}) FORMAT {input_format}\n".encode() + data, query=f"INSERT INTO {table}")
    assert reply.text == ""
    assert json.loads(reply.headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    assert call(door, f"SELECT * FROM {table} ORDER BY n").text == "1\ta\n2\tb\n"


def test_inserted_values_with_parameters_comments_and_semicolons(door: Door, table: str) -> None:
    call(door, f"-- a note; with VALUES in it\nINSERT INTO {table} VALUES ({{n:UInt32}}, 'x;y');", param_n="5")
    call(door, f"INSERT INTO {table} /* FORMAT CSV */ SELECT 6, 'VALUES'")
    call(door, "INSERT INTO {where:Identifier} -- the table\nFORMAT CSV\n7,z\n", param_where=table)
    assert call(door, f"SELECT * FROM {table} ORDER BY n").text == "5\tx;y\n6\tVALUES\n7\tz\n"


def test_a_bad_row_is_refused_and_nothing_of_the_body_kept(door: Door, table: str) -> None:
    reply = call(door, b"1,a\nx,b\n", query=f"INSERT INTO {table} FORMAT CSV")
    assert (reply.status, reply.headers["X-ClickHouse-Exception-Code"]) == (400, "27")
    assert call(door, f"SELECT count() FROM {table}").text == "0\n"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "lz4", "zstd"])
def test_packed_bodies_also_in_chunks(door: Door, table: str, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "lz4": lz4.frame.compress, "zstd": zstandard.compress}
    packed = pack[encoding](b"".join(b"%d,x\n" % n for n in range(50_000)))
    pieces = (packed[at : at + 1000] for at in range(0, len(packed), 1000))
    reply = call(door, pieces, headers={"Content-Encoding": encoding}, query=f"INSERT INTO {table} FORMAT CSV")
    assert (reply.status, reply.text) == (200, "")
    assert call(door, f"SELECT count(), sum(n) FROM {table}").text == "50000\t1249975000\n"


def test_a_body_that_is_not_what_its_encoding_says(door: Door, table: str) -> None:
    for encoding in ("gzip", "deflate", "lz4", "zstd", "nothing"):
        reply = call(door, b"1,x\n", headers={"Content-Encoding": encoding}, query=f"INSERT INTO {table} FORMAT CSV")
        assert (reply.status, reply.headers["X-ClickHouse-Exception-Code"]) == (400, "117")
    assert call(door, "SELECT 1", compress="1").headers["X-ClickHouse-Exception-Code"] == "344"


def test_a_body_larger_than_what_stays_in_memory(door: Door, table: str) -> None:
    line = b"1," + b"x" * 997 + b"\n"
    reply = call(door, line * 20_000, query=f"INSERT INTO {table} FORMAT CSV")
    assert (reply.status, reply.text) == (200, "")
    assert call(door, f"SELECT count(), sum(length(s)) FROM {table}").text == "20000\t19940000\n"


def test_settings_in_the_url_are_the_requests_own(door: Door) -> None:
    ask = "SELECT getSetting('max_threads'), getSetting('join_use_nulls')"
    before = call(door, ask).text
    assert call(door, ask, max_threads="1", join_use_nulls="1").text == "1\ttrue\n"
    assert call(door, ask).text == before
    reply = call(door, "SELECT 1", no_such_setting="1")
    assert (reply.status, reply.headers["X-ClickHouse-Exception-Code"]) == (404, "115")
    assert call(door, "SELECT 1", **{"a = 1, b": "1"}).headers["X-ClickHouse-Exception-Code"] == "115"
    assert call(door, "SELECT number FROM numbers(9)", max_result_rows="3").status == 500


def test_neither_use_nor_set_nor_a_temporary_table_is_seen_by_the_next_request(door: Door) -> None:
    for session in ({}, {"session_id": "one"}):
        call(door, "USE system", **session)
        call(door, "SET max_threads = 1, session_timezone = 'Asia/Tokyo'", **session)
        call(door, "CREATE TEMPORARY TABLE mine (n UInt8)", **session)
        asked = call(door, "SELECT currentDatabase(), toDateTime(0), getSetting('max_threads') > 0", **session)
        assert asked.text == "default\t1970-01-01 00:00:00\t1\n"
        assert call(door, "SELECT * FROM mine", **session).status == 404


def test_the_database_of_a_request(door: Door) -> None:
    assert call(door, "SELECT currentDatabase()", database="system").text == "system\n"
    assert call(door, "SELECT currentDatabase()", headers={"X-ClickHouse-Database": "system"}).text == "system\n"
    reply = call(door, "SELECT 1", database="nowhere")
    assert (reply.status, reply.headers["X-ClickHouse-Exception-Code"]) == (404, "81")


def test_only_the_password_lets_in(door: Door) -> None:
    assert call(door, "SELECT 1", key=None, user="default", password=PASSWORD).text == "1\n"
    assert call(door, "SELECT 1", key=PASSWORD).text == "1\n"
    assert (
        call(door, "SELECT 1", key=None, headers={"Authorization": "Basic ZGVmYXVsdDpvcGVuIHNlc2FtZQ=="}).text == "1\n"
    )
    for key, params, headers in (
        (None, {}, {}),
        ("wrong", {}, {}),
        (PASSWORD, {}, {"X-ClickHouse-User": "root"}),
        (None, {"password": "wrong"}, {}),
        (None, {}, {"Authorization": "Basic ZGVmYXVsdDp3cm9uZw=="}),
        (None, {}, {"Authorization": "Basic ?"}),
    ):
        reply = call(door, "SELECT 1", key=key, headers=headers, **params)
        assert (reply.status, reply.headers["X-ClickHouse-Exception-Code"]) == (403, "516")
        assert PASSWORD not in reply.text


def test_web_pages_from_elsewhere_are_not_served(door: Door) -> None:
    assert call(door, "SELECT 1", headers={"Origin": "http://evil.example"}).status == 403
    assert call(door, "SELECT 1", headers={"Origin": "http://localhost:3000"}).status == 200


def test_totals_and_formats_with_a_head_are_whole(door: Door) -> None:
    query = "SELECT number % 2 AS k, count() FROM numbers(200000) GROUP BY k WITH TOTALS ORDER BY k"
    assert call(door, query).text == "0\t100000\n1\t100000\n\n0\t200000\n"
    reply = call(door, "SELECT number FROM numbers(200000) FORMAT CSVWithNames")
    assert reply.text.count("number") == 1
    assert len(json.loads(call(door, "SELECT number FROM numbers(200000) FORMAT JSON").body)["data"]) == 200000


# ---- several at once


def test_inserts_do_not_wait_for_a_long_query(door: Door, table: str) -> None:
    slow = threading.Thread(
        target=call, args=(door, "SELECT sum(sleepEachRow(0.1)) FROM numbers(20) SETTINGS max_block_size = 1")
    )
    slow.start()
    for n in range(10):
        assert call(door, f"{n},x\n", query=f"INSERT INTO {table} FORMAT CSV").status == 200
    assert slow.is_alive(), "ten inserts waited for a query"
    slow.join()


def test_many_clients_at_once(door: Door, table: str) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        client = clickhouse_connect.get_client(dsn=door.address, password=PASSWORD, autogenerate_session_id=False)
        for turn in range(10):
            n = number * 100 + turn
            client.insert(table, [[n, "x"]], column_names=["n", "s"])
            got = client.query(f"SELECT n FROM {table} WHERE n = {{n:UInt32}}", parameters={"n": n}).result_rows
            if got != [(n,)]:
                wrong.append(got)
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert call(door, f"SELECT count() FROM {table}").text == "80\n"


ENDLESS = "SELECT count() FROM numbers(100000000000) WHERE cityHash64(number) = 1"


def running(door: Door) -> int:
    return int(
        call(
            door,
            "SELECT count() FROM system.processes WHERE query LIKE '%cityHash64%' AND query NOT LIKE '%processes%'",
        ).text
    )


def until(door: Door, count: int) -> None:
    deadline = time.monotonic() + 10
    while running(door) != count:
        assert time.monotonic() < deadline, f"{running(door)} queries run, not {count}"
        time.sleep(0.05)


def test_a_query_whose_client_is_gone_is_ended(door: Door) -> None:
    connection = http.client.HTTPConnection(urlsplit(door.address).netloc)
    connection.request("POST", "/", ENDLESS, {"X-ClickHouse-Key": PASSWORD})
    until(door, 1)
    connection.close()
    until(door, 0)


def test_an_answer_that_nobody_reads_on_is_ended(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    connection = http.client.HTTPConnection(urlsplit(door.address).netloc)
    connection.request(
        "POST", "/", "SELECT cityHash64(number) FROM numbers(100000000000)", {"X-ClickHouse-Key": PASSWORD}
    )
    assert len(connection.getresponse().read(1000)) == 1000
    until(door, 1)
    connection.close()
    until(door, 0)
    assert caplog.records == []


# ---- beginning and end; an engine of their own


@pytest.fixture
def no_door(request: pytest.FixtureRequest) -> None:
    """A process has one engine: the door shared by the tests above must be closed by now."""
    door = request.getfixturevalue("door")
    door.stop()


@pytest.mark.usefixtures("no_door")
class TestLife:
    def test_stopping_ends_what_runs(self, tmp_path: Path) -> None:
        door = Door(tmp_path / "clickhouse")
        door.start()
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(call(door, ENDLESS)))
        asking.start()
        until(door, 1)
        begun = time.monotonic()
        door.stop()
        assert time.monotonic() - begun < 5
        asking.join(timeout=5)
        assert [reply.headers["X-ClickHouse-Exception-Code"] for reply in replies] == ["394"]

    def test_a_taken_port_is_an_error_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        with Door(tmp_path / "clickhouse") as first:
            port = urlsplit(first.address).port
            assert port is not None
            with pytest.raises(OSError, match="in use"):
                Door(tmp_path / "clickhouse", port=port).start()
            assert call(first, "SELECT 1", key=None).text == "1\n"
        with Door(tmp_path / "clickhouse", port=port) as second:
            assert call(second, "SELECT 1", key=None).text == "1\n"

    def test_it_shares_the_engine_of_its_process(self, tmp_path: Path) -> None:
        with open_engine(tmp_path / "clickhouse") as engine:
            client = engine.client()
            client.command("CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n")
            with Door(engine.path) as door:
                assert call(door, "1\n2\n", query="INSERT INTO t FORMAT CSV").status == 200
            assert client.command("SELECT count() FROM t") == 2

    @pytest.mark.parametrize(
        "value",
        [
            "toDate('2026-11-20')", "toDateTime64(number, 3, 'UTC')", "toDecimal64(number, 2)", "toInt256(number)",
            "toString(number)", "if(number = 1, NULL, number)", "[number, 2]", "[['a', 'bc'], []]", "map('k', [number])",
            "(number, 'a', [NULL, 'x'])", "CAST((number, 'x'), 'Tuple(`a b` UInt64, c String)')", "toFixedString('abc', 5)",
            "CAST('a', 'Enum8(\\'a\\' = 1, \\'Array(\\' = 2)')", "toUUID('00000000-0000-0000-0000-000000000001')", "true",
            "NULL", "toLowCardinality(toString(number))", "CAST(NULL, 'LowCardinality(Nullable(String))')",
            "map(toLowCardinality('k'), toLowCardinality('v'))", "if(number = 1, [], [toLowCardinality('x')])",
            "(1., 2.)::Point", "toIPv6('::1')", "toFloat32(number)", "toIntervalDay(1)", "emptyArrayString()", "tuple()",
        ],
    )  # fmt: skip
    def test_blocks_with_headers_for_newer_clients(self, tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
        """Grafana's driver reads a header before each block and a byte before each column's data."""
        with open_engine(tmp_path_factory.getbasetemp() / "native") as engine:
            connection = engine.connection()
            block = connection.query(f"SELECT {value} AS x, 'tail' AS y FROM numbers(3)", "Native").bytes()
            type_name = (
                connection.query(
                    f"SELECT toTypeName({value}) FROM numbers(1) SETTINGS print_pretty_type_names = 0",
                    "TabSeparatedRaw",
                )
                .bytes()
                .strip()
            )
            connection.close()
        head = b"\x02\x03\x01x" + bytes([len(type_name)]) + type_name
        tail_head, tail_data = b"\x01y\x06String", b"\x04tail" * 3
        assert block.startswith(head)
        assert block.endswith(tail_head + tail_data)
        data = block[len(head) : -len(tail_head + tail_data)]
        expected = b"\x01\x00\x02\xff\xff\xff\xff\x00" + head + b"\x00" + data + tail_head + b"\x00" + tail_data
        assert native.with_headers(block) == expected
        assert native.with_headers(block * 2) == expected * 2

    def test_blocks_get_headers_only_when_the_client_names_a_revision(self, tmp_path: Path) -> None:
        with Door(tmp_path / "clickhouse") as door:
            plain = call(door, "SELECT 1 AS a", key=None, default_format="Native").body
            assert plain == b"\x01\x01\x01a\x05UInt8\x01"
            old = call(door, "SELECT 1 AS a", key=None, default_format="Native", client_protocol_version="54405").body
            assert old == plain
            new = call(door, "SELECT 1 AS a", key=None, default_format="Native", client_protocol_version="54460").body
            assert new == b"\x01\x00\x02\xff\xff\xff\xff\x00\x01\x01\x01a\x05UInt8\x00\x01"
            unknown = call(
                door, "SELECT 1::Dynamic AS a", key=None, default_format="Native", client_protocol_version="54460"
            )
            assert (unknown.status, unknown.headers["X-ClickHouse-Exception-Code"]) == (500, "48")


# ---- what a statement is


@pytest.mark.parametrize(
    ("source", "output_format"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON;", "JSON"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT 'FORMAT CSV'", None),
        (b"SELECT 1 -- FORMAT CSV", None),
        (b"SELECT format FROM t", None),
        (b"SELECT format('{}', 1) AS format, 2", None),
        (b"SELECT * FROM (SELECT 1 AS a) AS format", None),
    ],
)
def test_the_format_clause_is_found_and_nothing_else_is_taken_for_it(source: bytes, output_format: str | None) -> None:
    statement = read_statement(source)
    assert statement.answers
    assert statement.output_format == output_format


@pytest.mark.parametrize(
    ("source", "input_format", "data"),
    [
        (b"INSERT INTO t VALUES (1)", "Values", b" (1)"),
        (b"insert into t (a, b) format CSV\n1,2", "CSV", b"1,2"),
        (b"INSERT INTO t FORMAT Native\r\n\n\x01", "Native", b"\n\x01"),
        (b"INSERT INTO t FORMAT CSV 1,2", "CSV", b"1,2"),
        (b"INSERT INTO t SETTINGS a = 1 FORMAT TSV\n", "TSV", b""),
        (b"INSERT INTO TABLE db.format (`values`) VALUES (1)", "Values", b" (1)"),
        (b"INSERT INTO values FORMAT CSV\n1", "CSV", b"1"),
        (b"INSERT INTO TABLE FUNCTION file('VALUES', 'CSV') VALUES (1)", "Values", b" (1)"),
        (b"/* VALUES */ INSERT INTO t -- FORMAT CSV\nVALUES (2)", "Values", b" (2)"),
        (b"INSERT INTO t SELECT 'VALUES'", None, b""),
        (b"INSERT INTO t (SELECT 1 AS values)", None, b""),
        (b"INSERT INTO t WITH 1 AS x SELECT x FORMAT Null", None, b""),
    ],
)
def test_where_the_data_of_an_insert_begin(source: bytes, input_format: str | None, data: bytes) -> None:
    statement = read_statement(source)
    assert statement.input_format == input_format
    if input_format is not None:
        assert source[statement.data_from :] == data


def test_a_long_statement_is_read_in_one_pass() -> None:
    begun = time.process_time()
    read_statement(b"SELECT '" + b"a\\'" * 300_000 + b"'")
    read_statement(b"SELECT '" + b"x" * 3_000_000)
    read_statement(b"SELECT " + b"(" * 100_000)
    assert time.process_time() - begun < 3
