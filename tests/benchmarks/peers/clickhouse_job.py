"""The process of ClickHouse's Kafka engine: `clickhouse_job.py TASK.json`, or `--try` to see whether there is one.

It stands alone: nothing but chdb is loaded, and the package not by its name. Importing `chdb` opens an engine to ask for its
version and closes it again, after which the registry of streaming tables refuses any new one in this process ("Shutdown was
called").
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 0.1
_COLUMNS = "uuid String, activity Array(Tuple(date Date, stage String, feature String, users Array(UInt32)))"


def engine(path: str) -> Any:
    """A connection of chdb's extension module, by which nothing was opened before."""
    package = importlib.util.find_spec("chdb")
    if package is None or not package.submodule_search_locations:
        raise ImportError("chdb is not installed")
    files = [Path(place, "_chdb.abi3.so") for place in package.submodule_search_locations]
    extension = next((file for file in files if file.exists()), files[0])
    if sys.platform == "linux":
        sys.setdlopenflags(sys.getdlopenflags() | os.RTLD_DEEPBIND)
    spec = importlib.util.spec_from_file_location("_chdb", extension)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.connect(f"{path}?background_message_broker_schedule_pool_size=4&background_pool_size=2")


def queue(task: dict[str, Any]) -> str:
    """The table that reads the topic. Names of stages and features become numbers as soon as they are read."""
    block = max(1, min(task["pings"] // 8, 16_384))
    return f"""
        CREATE TABLE peer.queue ({_COLUMNS})
        ENGINE = Kafka
        SETTINGS kafka_broker_list = '{task["kafka"]}', kafka_topic_list = '{task["topic"]}', kafka_group_name = 'clickhouse',
            kafka_format = 'JSONEachRow', input_format_skip_unknown_fields = 1, kafka_num_consumers = 1,
            kafka_max_block_size = {block}, kafka_poll_max_batch_size = {block}, kafka_flush_interval_ms = 1000,
            kafka_poll_timeout_ms = 100"""


def masks(task: dict[str, Any]) -> tuple[list[str], str]:
    """(tables and views, query): a number for each user and feature, bit i set on days with activity."""
    day = dt.date.fromisoformat(task["first_day"])
    return (
        [
            """CREATE TABLE peer.used
        (uuid LowCardinality(String), feature UInt8, user UInt32, mask SimpleAggregateFunction(groupBitOr, UInt64))
        ENGINE = AggregatingMergeTree ORDER BY (uuid, feature, user)""",
            f"""CREATE MATERIALIZED VIEW peer.reading TO peer.used AS
        SELECT uuid, feature, user, groupBitOr(bit) AS mask FROM (
            SELECT uuid, {_feature(task)} AS feature, bitShiftLeft(toUInt64(1), toUInt8(entry.date - toDate('{day}'))) AS bit,
                arrayJoin(entry.users) AS user
            FROM (SELECT uuid, arrayJoin(activity) AS entry FROM peer.pings))
        GROUP BY uuid, feature, user""",
        ],
        f"""
        WITH arrayMap(day -> bitShiftLeft(toUInt64(exp2(least(28, day + 1)) - 1), greatest(0, day - 27)), range({task["days"]}))
            AS windows
        SELECT uuid, stage, feature, range({task["days"]}) AS days,
            sumForEach(arrayMap(window -> toUInt32(bitAnd(window, mask) != 0), windows)) AS mau
        FROM (
            SELECT uuid, stage, feature, user, groupBitOr(mask) AS mask
            FROM (SELECT uuid, {_stage(task)} AS stage, feature, user, mask FROM peer.used)
            GROUP BY GROUPING SETS ((uuid, user), (uuid, stage, user), (uuid, stage, feature, user)))
        GROUP BY uuid, stage, feature""",
    )


def bitmaps(task: dict[str, Any]) -> tuple[list[str], str]:
    """(tables and views, query): a roaring bitmap of users for each feature and day."""
    day = dt.date.fromisoformat(task["first_day"])
    return (
        [
            """CREATE TABLE peer.used
        (uuid LowCardinality(String), feature UInt8, day UInt16, users AggregateFunction(groupBitmap, UInt32))
        ENGINE = AggregatingMergeTree ORDER BY (uuid, feature, day)""",
            f"""CREATE MATERIALIZED VIEW peer.reading TO peer.used AS
        SELECT uuid, {_feature(task)} AS feature, toUInt16(entry.date - toDate('{day}')) AS day,
            arrayReduce('groupBitmapState', entry.users) AS users
        FROM (SELECT uuid, arrayJoin(activity) AS entry FROM peer.pings)""",
        ],
        f"""
        SELECT uuid, stage, feature, groupArray(as_of) AS days, groupArray(toUInt32(figure)) AS mau
        FROM (
            SELECT uuid, stage, feature, as_of, groupBitmapMerge(users) AS figure
            FROM (
                SELECT uuid, stage, feature, day, groupBitmapMergeState(users) AS users
                FROM (SELECT uuid, {_stage(task)} AS stage, feature, day, users FROM peer.used)
                GROUP BY GROUPING SETS ((uuid, day), (uuid, stage, day), (uuid, stage, feature, day)))
            ARRAY JOIN range(day, least({task["days"]}, day + 28)) AS as_of
            GROUP BY uuid, stage, feature, as_of)
        GROUP BY uuid, stage, feature""",
    )


def _feature(task: dict[str, Any]) -> str:
    """The number of an entry's feature, from 1 on."""
    names = ", ".join(f"'{stage}/{feature}'" for stage, feature in task["features"])
    return f"toUInt8(indexOf([{names}], concat(entry.stage, '/', entry.feature)))"


def _stage(task: dict[str, Any]) -> str:
    """The number of a feature's stage, from 1 on."""
    each = len(task["features"]) // task["stages"]
    return f"toUInt8(intDiv(feature - 1, {each}) + 1)"


def main() -> None:
    if sys.argv[1] == "--try":
        with tempfile.TemporaryDirectory() as folder:
            client = engine(folder)
            client.query("CREATE DATABASE peer ENGINE = Atomic", "TSV")
            client.query(queue({"pings": 1, "kafka": "127.0.0.1:1", "topic": "none"}), "TSV")
            client.query("DROP TABLE peer.queue SYNC", "TSV")
            client.close()
        return
    task = json.loads(Path(sys.argv[1]).read_text())
    client = engine(str(Path(task["folder"], "clickhouse")))
    tables, query = {"masks": masks, "bitmaps": bitmaps}[task["layout"]](task)
    for statement in (
        "CREATE DATABASE peer ENGINE = Atomic",
        f"CREATE TABLE peer.pings ({_COLUMNS}) ENGINE = Null",
        *tables,
        "CREATE TABLE peer.read (pings UInt64) ENGINE = Memory",
        "CREATE MATERIALIZED VIEW peer.counting TO peer.read AS SELECT count() AS pings FROM peer.pings",
        queue(task),
        # Reading begins with the first view on the queue: this one, once all others are there.
        "CREATE MATERIALIZED VIEW peer.feeding TO peer.pings AS SELECT uuid, activity FROM peer.queue",
    ):
        client.query(statement, "TSV")
    while int(client.query("SELECT sum(pings) FROM peer.read", "TSV").bytes()) < task["pings"]:
        time.sleep(_LOOK_SECONDS)
    client.query("DROP TABLE peer.queue SYNC", "TSV")  # returns once the last block is written and committed
    rows = client.query(f"{query} SETTINGS output_format_arrow_string_as_string = 1", "ArrowStream").bytes()
    unfinished = Path(task["results"]).with_suffix(".unfinished")
    unfinished.write_bytes(rows)
    unfinished.replace(task["results"])
    client.close()


if __name__ == "__main__":
    main()
