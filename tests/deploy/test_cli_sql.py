"""`pingstream clickhouse`, `sql` and `kpi` as a shell sees them: what is on which stream, and the exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.cli import lean
from deploy.cli import main as cli

ROOT = Path(__file__).parents[2]


@dataclass
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PINGSTREAM_")}
    return clean | {"PYTHONPATH": str(ROOT)} | more


def pingstream(*args: str, cwd: Path, stdin: str = "") -> Ended:
    """The command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", *args],
        input=stdin, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment(TZ="America/New_York"),
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass
class Server:
    process: subprocess.Popen[str]
    address: str
    data_dir: Path

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        assert self.process.stderr is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=20)
        with self.process.stderr as stderr:
            return code, stderr.read()


def serve(data_dir: Path, *args: str) -> Server:
    data_dir.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli.main", "clickhouse", "--port", "0", "--data-dir", str(data_dir), *args],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment(), cwd=data_dir,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if match := re.search(r"export PINGSTREAM_CLICKHOUSE=(\S+)", line):
            return Server(process, match.group(1), data_dir)
    pytest.fail(f"`pingstream clickhouse` ended with {process.wait()}: {said}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = serve(tmp_path_factory.mktemp("cli"))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def run(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Iterator[Run]:
    """A command in this process, against the server."""
    for name in list(os.environ):
        if name.startswith("PINGSTREAM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PINGSTREAM_CLICKHOUSE", server.address)
    monkeypatch.chdir(tmp_path)
    interrupt = signal.getsignal(signal.SIGINT)

    def call(*args: str) -> Ended:
        capfdbinary.readouterr()
        monkeypatch.setattr(sys, "argv", ["pingstream", *args])
        monkeypatch.setattr(lean, "leave", sys.exit)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfdbinary.readouterr()
        return Ended(int(ended.value.code or 0), out.decode(), err.decode())

    yield call
    signal.signal(signal.SIGINT, interrupt)


# ---- sql: values


VALUES = {
    "toDate('2026-11-20')": "2026-11-20",
    "toDateTime('2026-11-20 08:15:00')": "2026-11-20 08:15:00",
    "toDateTime('2026-11-20 08:15:00', 'UTC')": "2026-11-20 08:15:00",
    "toDateTime64('2026-11-20 08:15:00.123456', 6, 'UTC')": "2026-11-20 08:15:00.123456",
    "toDecimal64('1.5', 2)": "1.50",
    "toDecimal128('-12345678901234567890.01', 4)": "-12345678901234567890.0100",
    "toUInt64(18446744073709551615)": 18446744073709551615,
    "toInt128('-170141183460469231731687303715884105728')": -170141183460469231731687303715884105728,
    "toUInt256('115792089237316195423570985008687907853269984665640564039457584007913129639935')": 2**256 - 1,
    "-7": -7,
    "0.1": 0.1,
    "toFloat32(0.1)": 0.1,
    "nan": None,
    "-inf": None,
    "NULL": None,
    "[1, NULL, 3]": [1, None, 3],
    "[toDate('2026-11-20')]": ["2026-11-20"],
    "[toDecimal32(1, 2)]": ["1.00"],
    "(1, 'a')": [1, "a"],
    "map('k', toUInt64(1))": {"k": 1},
    "'it''s \"ä\" \\t 💡'": 'it\'s "ä" \t 💡',
    "true": True,
    "toLowCardinality('x')": "x",
    "toUUID('00000000-0000-0000-0000-000000000001')": "00000000-0000-0000-0000-000000000001",
}


def test_json_is_a_list_of_objects_with_exact_values(run: Run) -> None:
    columns = ", ".join(f"{expression} AS c{number}" for number, expression in enumerate(VALUES))
    ended = run("sql", f"SELECT {columns}", "--format", "json")
    assert (ended.code, ended.err) == (0, "")
    [row] = json.loads(ended.out)
    assert row == {f"c{number}": value for number, value in enumerate(VALUES.values())}


def test_values_are_the_same_from_the_embedded_engine(tmp_path: Path) -> None:
    columns = ", ".join(f"{expression} AS c{number}" for number, expression in enumerate(VALUES))
    ended = pingstream("sql", f"SELECT {columns}", "--format", "json", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    [row] = json.loads(ended.out)
    assert row == {f"c{number}": value for number, value in enumerate(VALUES.values())}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pingstream-data"]


def test_json_without_rows_and_with_a_name_twice(run: Run) -> None:
    assert run("sql", "SELECT 1 WHERE 0", "--format", "json").out == "[]\n"
    assert json.loads(run("sql", "SELECT 1 AS a, 2 AS b, 1 AS a", "--format", "json").out) == [
        {"a": 1, "b": 2, "a_2": 1}
    ]


def test_csv_has_a_header_and_empty_nulls(run: Run) -> None:
    ended = run(
        "sql",
        "SELECT number AS n, if(n = 1, NULL, toDecimal32(n, 2)) AS d, 'a,\"b\"\nc' AS s, [n] AS l FROM numbers(2)",
        "--format",
        "csv",
    )
    assert list(csv.reader(io.StringIO(ended.out))) == [
        ["n", "d", "s", "l"],
        ["0", "0.00", 'a,"b"\nc', "[0]"],
        ["1", "", 'a,"b"\nc', "[1]"],
    ]
    assert run("sql", "SELECT 1 AS a, 2 AS b WHERE 0", "--format", "csv").out == "a,b\n"


def test_a_table_in_a_pipe_is_plain_and_whole(run: Run) -> None:
    ended = run(
        "sql",
        "SELECT * FROM (SELECT 7 AS n, 'x' AS s, NULL AS z UNION ALL SELECT 1234, repeat('long ', 100), '[red]\\n\\x1b') ORDER BY n",
    )
    lines = [line.rstrip() for line in ended.out.splitlines()]
    assert "\x1b" not in ended.out
    assert len(lines) == 4
    assert lines[0].split() == ["n", "s", "z"]
    assert lines[2].startswith("   7   x"), "numbers stand at the right"
    assert lines[3].startswith("1234   " + "long " * 100)
    assert lines[2].endswith("NULL")
    assert lines[3].endswith("[red]\\n\\x1b")


# ---- sql: statements


def test_statements_without_an_answer_print_nothing(run: Run) -> None:
    for statement in (
        "CREATE OR REPLACE TABLE default.t (n UInt8, s String) ENGINE = MergeTree ORDER BY n",
        "INSERT INTO default.t VALUES (1, 'a;b'), (2, 'c')",
        "INSERT INTO default.t SELECT 3, 'd'",
        'INSERT INTO default.t FORMAT JSONEachRow {"n": 4, "s": "%(x)s {a:b}"}',
        "OPTIMIZE TABLE default.t;",
    ):
        ended = run("sql", statement)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert json.loads(run("sql", "SELECT count() AS c, max(s) AS s FROM default.t", "--format", "json").out) == [
        {"c": 4, "s": "d"}
    ]


def test_a_statement_from_standard_input(server: Server, tmp_path: Path) -> None:
    ended = pingstream(
        "sql",
        "-",
        "--format",
        "csv",
        "--clickhouse",
        server.address,
        cwd=tmp_path,
        stdin="-- days\nSELECT 1 AS a -- one\n;\n",
    )
    assert (ended.code, ended.out, ended.err) == (0, "a\n1\n", "")


def test_a_format_clause_wins(run: Run) -> None:
    assert run("sql", "SELECT 1 AS a FORMAT TSVWithNames", "--format", "json").out == "a\n1\n"


def test_the_settings_database_is_the_current_one_once_it_exists(run: Run) -> None:
    assert (
        run("sql", "SELECT currentDatabase() AS d", "--database", "elsewhere", "--format", "csv").out == "d\ndefault\n"
    )
    assert run("sql", "CREATE DATABASE IF NOT EXISTS elsewhere", "--database", "elsewhere").code == 0
    assert (
        run("sql", "SELECT currentDatabase() AS d", "--database", "elsewhere", "--format", "csv").out
        == "d\nelsewhere\n"
    )


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT * FROM nowhere", "code 60, UNKNOWN_TABLE"),
        ("SELEKT 1", "Maybe you meant: SELECT (code 62, SYNTAX_ERROR)"),
        ("SELECT throwIf(number = 3, 'too far') FROM numbers(9)", "too far"),
        ("INSERT INTO nowhere VALUES (1)", "code 60"),
    ],
)
def test_an_error_is_one_sentence_with_its_code(run: Run, statement: str, says: str) -> None:
    ended = run("sql", statement)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("pingstream: ClickHouse: ")
    assert ended.err.count("\n") == 1
    assert says in ended.err
    assert "http://" not in ended.err


@pytest.mark.parametrize("statement", ["", " ;", "/* nothing */", "SELECT 1; SELECT 2"])
def test_nothing_to_run_or_too_much_is_wrong_use(run: Run, statement: str) -> None:
    ended = run("sql", statement)
    assert (ended.code, ended.out) == (2, "")
    assert "statement" in ended.err


def test_a_server_that_is_not_there(run: Run) -> None:
    ended = run("sql", "SELECT 1", "--clickhouse", "http://me:hidden@127.0.0.1:1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("pingstream: ClickHouse at http://127.0.0.1:1 does not answer")
    assert "hidden" not in ended.err


# ---- kpi


@pytest.fixture(scope="module")
def views(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with two views of known content."""
    for statement in (
        "CREATE DATABASE figures",
        "CREATE TABLE figures.stored (as_of Date, stage String, smau UInt64) ENGINE = MergeTree ORDER BY as_of",
        "CREATE VIEW figures.kpi_smau AS SELECT * FROM figures.stored COMMENT 'Users of a stage.'",
        "CREATE VIEW figures.kpi_mau AS SELECT as_of, smau AS mau FROM figures.stored WHERE 0",
        "CREATE VIEW figures.kpi_freshness AS SELECT 'self_managed' AS population, 1 AS gaps",
        "INSERT INTO figures.stored VALUES ('2026-11-19', 'plan', 5), ('2026-11-20', 'plan', 2), ('2026-11-20', 'create', 9), "
        "('2026-11-18', 'verify', 1)",
    ):
        args = ("sql", statement, "--clickhouse", server.address)
        assert pingstream(*args, cwd=tmp_path_factory.getbasetemp()).code == 0
    return "figures"


def test_the_views_there_are(run: Run, views: str) -> None:
    ended = run("kpi", "--database", views, "--format", "json")
    assert json.loads(ended.out) == [
        {"name": "kpi_freshness", "comment": ""},
        {"name": "kpi_mau", "comment": ""},
        {"name": "kpi_smau", "comment": "Users of a stage."},
    ]


@pytest.mark.parametrize("name", ["kpi_smau", "smau", "SMAU"])
def test_the_newest_day_is_shown_and_named_on_standard_error(run: Run, views: str, name: str) -> None:
    ended = run("kpi", name, "--database", views, "--format", "json")
    assert json.loads(ended.out) == [
        {"as_of": "2026-11-20", "stage": "create", "smau": 9},
        {"as_of": "2026-11-20", "stage": "plan", "smau": 2},
    ]
    assert "2026-11-20" in ended.err


def test_a_day_a_condition_and_a_limit(run: Run, views: str) -> None:
    day = run("kpi", "smau", "--database", views, "--as-of", "2026-11-19", "--format", "csv")
    assert (day.out, day.err) == ("as_of,stage,smau\n2026-11-19,plan,5\n", "")
    stage = run("kpi", "smau", "--database", views, "--where", "stage = 'verify' or 0 -- mine", "--format", "csv")
    assert stage.out == "as_of,stage,smau\n2026-11-18,verify,1\n"
    assert run("kpi", "smau", "--database", views, "--limit", "1", "--format", "csv").out.count("\n") == 2


def test_no_rows_is_said(run: Run, views: str) -> None:
    empty = run("kpi", "mau", "--database", views, "--format", "csv")
    assert (empty.code, empty.out) == (0, "as_of,mau\n")
    assert "no rows" in empty.err
    assert "2020-01-01" in run("kpi", "smau", "--database", views, "--as-of", "2020-01-01").err


def test_a_view_without_days(run: Run, views: str) -> None:
    ended = run("kpi", "freshness", "--database", views, "--as-of", "2020-01-01", "--format", "csv")
    assert ended.out == "population,gaps\nself_managed,1\n"


def test_an_unknown_view_names_those_like_it(run: Run, views: str) -> None:
    ended = run("kpi", "smua", "--database", views)
    assert (ended.code, ended.out) == (2, "")
    assert "kpi_smau" in ended.err
    assert run("kpi", "zzz", "--database", views).code == 2


def test_without_a_schema_it_says_what_makes_one(run: Run) -> None:
    ended = run("kpi", "mau", "--database", "nothing_here")
    assert (ended.code, ended.out) == (2, "")
    assert "pingstream migrate" in ended.err
    assert "pingstream demo" in ended.err


def test_a_condition_that_is_none_is_an_error(run: Run, views: str) -> None:
    ended = run("kpi", "smau", "--database", views, "--where", "nowhere = 1")
    assert (ended.code, ended.out) == (2, "")
    assert "nowhere" in ended.err


# ---- clickhouse


def test_sql_finds_the_owner_of_the_engine_by_itself(server: Server, tmp_path: Path) -> None:
    ended = pingstream("sql", "SELECT 41 + 1 AS a", "--format", "csv", "--data-dir", str(server.data_dir), cwd=tmp_path)
    assert (ended.code, ended.out, ended.err) == (0, "a\n42\n", "")


def test_a_second_one_on_the_same_data_is_told_where_the_first_is(server: Server, tmp_path: Path) -> None:
    ended = pingstream("clickhouse", "--port", "0", "--data-dir", str(server.data_dir), cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert f"in use by process {server.process.pid}" in ended.err
    assert f"PINGSTREAM_CLICKHOUSE={server.address}" in ended.err


def test_a_taken_port_is_wrong_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = pingstream("clickhouse", "--port", port, cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert f"port {port} on 127.0.0.1 is taken" in ended.err
    assert "--port" in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_clean_and_its_data_stay(tmp_path: Path, number: int) -> None:
    first = serve(tmp_path / "data")
    made = pingstream(
        "sql",
        "CREATE TABLE default.t ENGINE = MergeTree ORDER BY n AS SELECT 5 AS n",
        "--clickhouse",
        first.address,
        cwd=tmp_path,
    )
    assert made.code == 0
    begun = time.monotonic()
    code, said = first.stop(number)
    assert (code, time.monotonic() - begun < 5) == (0, True)
    assert "Traceback" not in said
    assert sorted(entry.name for entry in (tmp_path / "data").iterdir()) == ["clickhouse", "clickhouse.lock"]
    ended = pingstream(
        "sql", "SELECT n FROM default.t", "--format", "csv", "--data-dir", str(tmp_path / "data"), cwd=tmp_path
    )
    assert ended.out == "n\n5\n"


def test_its_password_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    server = serve(tmp_path / "data", "--password", "secret")
    try:
        assert "secret" not in server.address
        address = server.address.replace("<password>", "{}")
        assert pingstream("sql", "SELECT 1", "--clickhouse", address.format("wrong"), cwd=tmp_path).code == 1
        assert pingstream("sql", "SELECT 1", "--clickhouse", address.format("secret"), cwd=tmp_path).code == 0
        # on the same machine the owner of the data needs no password
        assert pingstream("sql", "SELECT 1", "--data-dir", str(tmp_path / "data"), cwd=tmp_path).code == 0
    finally:
        server.stop()
