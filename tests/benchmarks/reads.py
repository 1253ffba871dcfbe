"""How long the views over usage take, for a day and for 400, and what their tables take on disk.

    python -m tests.benchmarks.reads [--installations N] [--days N] [--share F]

Two databases of an embedded engine hold the same installations, each of which sends a ping a day for two years; in the second one a
share of them report their figures in each ping as well. Their rows are made by SQL, as a worker would write them: random
figures, all of `usage_day` exact, no account. Bars: a day under 0.1 s, 400 days under 1 s. Each query is the best of three.

Tables stand on standard output, progress on standard error. It is a benchmark, not a test: a missed bar is shown and fails
nothing.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
import time
from pathlib import Path

from clickhouse_connect.driver.client import Client
from rich import box
from rich.console import Console
from rich.table import Table

from schemas.settings import Settings
from sinks.clickhouse import schema
from sinks.clickhouse.connection import connect
from tests.benchmarks.drain import MIB, best, number, say

LAST_DAY = dt.date(2026, 6, 30)
STAGES, FEATURES = 4, 24
PARTITIONS = 4
ROWS_AT_ONCE = 150_000
MERGING_SECONDS = 60

VIEWS = (
    "kpi_mau", "kpi_smau", "kpi_smau_factor", "kpi_feature_mau", "kpi_feature_mau_factor", "kpi_stage_adoption", "usage_kpi",
    "kpi_sessions", "kpi_usage_pings", "kpi_user_count", "kpi_versions", "kpi_users_by", "kpi_account_usage",
    "kpi_seat_utilization", "kpi_freshness",
)  # fmt: skip

NAMES = f"""
INSERT INTO {{database}}.figure_name
SELECT 0, '', ''
UNION ALL SELECT 1000 + number, concat('stage', toString(number)), '' FROM numbers({STAGES})
UNION ALL SELECT 2000 + number, concat('stage', toString(number % {STAGES})), concat('feature', toString(number))
FROM numbers({FEATURES})
"""
IDS = (
    f"arrayConcat([toUInt64(0)], arrayMap(x -> toUInt64(1000 + x), range({STAGES})), "
    f"arrayMap(x -> toUInt64(2000 + x), range({FEATURES})))"
)
PROGRESS = f"""
INSERT INTO {{database}}.progress
SELECT 'usage-pings', number, toDate32('{LAST_DAY}'), toDateTime64('{LAST_DAY} 23:00:00', 3, 'UTC'), 1, 1
FROM numbers({PARTITIONS})
"""
ROWS = """
WITH
    toUInt32(number % {installations}) AS i,
    concat('installation-', leftPad(toString(i), 6, '0')) AS uuid_,
    concat('gitlab-', toString(i), '.example') AS hostname_,
    concat(uuid_, '@', hostname_) AS scope,
    toUInt32(intDiv(number, {installations})) AS n,
    toDate32('{first}') + n AS day
"""
USAGE = f"""
INSERT INTO {{database}}.usage_day
    (as_of, population, scope_id, shard, basis, names, dau, wau, mau, sessions, version)
{{rows}}
SELECT
    day, 'self_managed', scope, i % {PARTITIONS}, 'exact', {IDS},
    arrayMap(x -> toUInt32(1 + cityHash64(number, x) % 10), range({1 + STAGES + FEATURES})),
    arrayMap(x -> toUInt32(10 + cityHash64(number, x) % 20), range({1 + STAGES + FEATURES})),
    arrayMap(x -> toUInt32(30 + cityHash64(number, x) % 30), range({1 + STAGES + FEATURES})),
    [], 1
FROM numbers({{begin}}, {{count}})
"""
PINGS = f"""
INSERT INTO {{database}}.ping
    (uuid, hostname, namespace_id, recorded_at, received_at, population, scope_id, version, edition, plan,
     registered_users, billable_users, seats, historical_max_users, counters, failed_counters, license_subscription_id,
     license_sha256, row_version, home, reports, stage_map, reported_names, reported_mau, reported_unknown, has_users_by,
     users_by_dimension, users_by_value, users_by_users)
{{rows}}
SELECT
    uuid_, hostname_, '', toDateTime64(day, 6, 'UTC') + toIntervalSecond(10_800 + i % 3_600),
    toDateTime64(day, 3, 'UTC') + toIntervalSecond(10_810 + i % 3_600), 'self_managed', scope,
    concat('17.', toString(intDiv(n, 30) % 12), '.', toString(i % 5)), 'EEU',
    ['free', 'premium', 'ultimate'][1 + i % 3], 100 + i % 50, 80 + i % 20, 120, 90, 25, 0, '', '', 1, i % {PARTITIONS},
    i < {{reporting}}, 1, if(i < {{reporting}}, {IDS}, []),
    if(i < {{reporting}}, arrayMap(x -> toUInt64(cityHash64(number, x) % 50), range({1 + STAGES + FEATURES})), []), 0, i % 2 = 0,
    if(i % 2 = 0, ['persona', 'persona', 'acquisition_channel'], []), if(i % 2 = 0, ['developer', 'manager', 'self_service'], []),
    if(i % 2 = 0, [40 + i % 9, 8, 30], [])
FROM numbers({{begin}}, {{count}})
"""


def fill(client: Client, database: str, installations: int, days: int, reporting: int) -> None:
    """Makes the rows, and waits until they are merged."""
    schema.migrate(client, database)
    client.command(NAMES.format(database=database))
    client.command(PROGRESS.format(database=database))
    first = LAST_DAY - dt.timedelta(days - 1)
    total = installations * days
    for begin in range(0, total, ROWS_AT_ONCE):
        say(f"{database}: {begin:,} of {total:,} rows of both tables")
        rows = ROWS.format(installations=installations, first=first)
        for sql in (USAGE, PINGS):
            client.command(
                sql.format(
                    database=database, rows=rows, reporting=reporting, begin=begin,
                    count=min(ROWS_AT_ONCE, total - begin),
                ),
                settings={"max_partitions_per_insert_block": 0},
            )  # fmt: skip
    until = time.monotonic() + MERGING_SECONDS
    time.sleep(1)
    while number(client, "SELECT count() FROM system.merges") and time.monotonic() < until:
        time.sleep(1)


def time_views(client: Client, database: str, days: int, table: Table) -> None:
    """A line for each view: a day in the middle of a period, and as many as `asked_days`."""
    one = f"as_of = '{LAST_DAY - dt.timedelta(min(45, days // 2))}'"
    many = f"as_of > '{LAST_DAY - dt.timedelta(asked_days(days))}'"
    for view in VIEWS:
        say(f"{database}: {view}")
        asked = ("true",) if view == "kpi_freshness" else (one, many)
        found = [best(client, f"SELECT * FROM {database}.{view} WHERE {where}") for where in asked]
        cells = [cell for seconds, rows in found for cell in (f"{seconds:.2f} s", f"{rows:,}")]
        table.add_row(view, *cells)


def asked_days(days: int) -> int:
    """Days up to the last that are asked for at once, of so many."""
    return min(400, days)


def sizes(client: Client, database: str, table: Table) -> None:
    """A line for each table that has rows."""
    found = client.query(
        "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts "
        "WHERE active AND database = {database:String} AND table IN ('usage_day', 'ping') GROUP BY table ORDER BY table",
        parameters={"database": database},
    ).result_rows
    for name, rows, size, parts in found:
        table.add_row(name, f"{rows:,}", f"{size / MIB:,.0f} MiB", f"{size / rows:,.0f}", str(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the views over usage take.")
    parser.add_argument("--installations", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=730)
    parser.add_argument(
        "--share", type=float, default=0.5, help="of the installations of the second database that report"
    )
    chosen = parser.parse_args()
    kinds = {"pingstream": 0, "reporting": round(chosen.installations * chosen.share)}
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="pingstream-bench-") as name:
        settings = Settings(_env_file=None, data_dir=Path(name))  # type: ignore[call-arg]
        client = connect(settings.clickhouse_dsn)
        try:
            for database, reporting in kinds.items():
                fill(client, database, chosen.installations, chosen.days, reporting)
                times = Table(
                    box=box.SIMPLE,
                    title=f"{chosen.installations:,} installations, {chosen.days} days, {reporting:,} report (bars 0.1 s, 1 s)",
                )
                for column in ("view", "a day", "rows", f"{asked_days(chosen.days)} days", "rows"):
                    times.add_column(column, justify="left" if column == "view" else "right")
                time_views(client, database, chosen.days, times)
                console.print(times)
                kept = Table(box=box.SIMPLE)
                for column in ("table", "rows", "on disk", "bytes a row", "parts"):
                    kept.add_column(column, justify="left" if column == "table" else "right")
                sizes(client, database, kept)
                console.print(kept)
        finally:
            client.close()


if __name__ == "__main__":
    main()
