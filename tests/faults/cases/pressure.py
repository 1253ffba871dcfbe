"""ClickHouse is away while Kafka fills: memory stays bounded, and what waits can be seen."""

from __future__ import annotations

import json
import random
import signal
import time

import psutil

from deploy.message import Message
from tests.faults.case import case
from tests.faults.stage import Stage
from tests.running import WorkerProcess, wait_until

GROWTH_BYTES = 200 * 1024 * 1024
PAYLOAD_BYTES = 256 * 1024


@case(minutes=2.0)
def clickhouse_hangs_while_kafka_fills(stage: Stage) -> None:
    """ClickHouse hangs while far more than memory may take is waiting in Kafka: RSS grows by less than 200 MB."""
    _fill_and_wait(stage, hang=True)


@case(minutes=2.0)
def clickhouse_gone_while_kafka_fills(stage: Stage) -> None:
    """ClickHouse is gone while far more than memory may take is waiting in Kafka: RSS grows by less than 200 MB, lag and the
    reason are in the metrics and once in the log."""
    _fill_and_wait(stage, hang=False)


def _fill_and_wait(stage: Stage, *, hang: bool) -> None:
    messages = [_heavy(message) for message in stage.messages(size=stage.of(1, 3, 6))]
    total = sum(len(message.value) for message in messages)
    few = len(messages) // 10
    assert stage.clickhouse is not None
    with stage.supervised() as supervisor:
        worker = supervisor.worker
        stage.site.send(messages[:few])
        stage.settle()
        before = peak = _rss(worker)
        if hang:
            stage.clickhouse.signal(signal.SIGSTOP)
        else:
            stage.clickhouse.kill()
        with stage.load(messages[few:]) as load:
            until = time.monotonic() + stage.of(15.0, 40.0, 120.0)
            while load.running or time.monotonic() < until:
                peak = max(peak, _rss(worker))
                time.sleep(0.1)
            load.join()
        left = 0.8 * (len(messages) - few)
        wait_until(lambda: _lag(worker) > left, "the lag is in the metrics", 120, pause=0.5)
        samples = worker.metrics()
        lag = _lag(worker)
        stage.counts |= {
            "waiting_mb": total // 2**20,
            "before_mb": before // 2**20,
            "grown_mb": (peak - before) // 2**20,
            "lag": int(lag),
        }
        assert peak - before < GROWTH_BYTES
        assert samples["pingstream_oldest_unflushed_seconds", ()] > 5
        if not hang:
            errors = sum(value for (name, _), value in samples.items() if name == "pingstream_sink_errors_total")
            said = worker.log().count("ClickHouse does not take rows")
            assert errors >= 1 and 1 <= said <= 2, f"{errors} errors, said {said} times"  # a sink for each topic
            stage.start_clickhouse()
        else:
            stage.clickhouse.signal(signal.SIGCONT)
        assert supervisor.starts == 1, "the worker was to wait"
        wait_until(lambda: not stage.kafka.behind(), "all is committed", 120, pause=1.0)
        stage.check()


def _lag(worker: WorkerProcess) -> float:
    return sum(value for (name, _), value in worker.metrics().items() if name == "pingstream_consumer_lag_records")


def _rss(worker: WorkerProcess) -> int:
    return int(psutil.Process(worker.pid).memory_info().rss)


def _heavy(message: Message) -> Message:
    """The same message with a payload that nobody reads, the same for the same content; what is no JSON object stays as it is."""
    try:
        document = json.loads(message.value)
    except ValueError:
        return message
    if not isinstance(document, dict) or not message.value.rstrip().endswith(b"}"):
        return message
    payload = random.Random(json.dumps(document, sort_keys=True)).randbytes(PAYLOAD_BYTES // 2).hex().encode()
    return message._replace(value=message.value.rstrip()[:-1] + b',"payload":"' + payload + b'"}')
