"""What a single Kafka node on this machine is configured with: pure functions from numbers to text.

Every path is relative to the node's data folder, in which Java is started, so that no character of a user's path has
to survive Java's property files (which are Latin-1, and where a comma ends a log folder).
"""

from __future__ import annotations

from collections.abc import Mapping

TOPICS = "topics"
LOG = "kafka.log"
JAVA_LOG = "java.log"
TEMPORARY = "tmp"

_DAY_MS = 24 * 60 * 60 * 1000


def server(
    port: int,
    controller_port: int,
    max_message_bytes: int,
    listeners: Mapping[str, int] | None = None,
    more: Mapping[str, str | int] | None = None,
) -> str:
    """`server.properties` of one KRaft node that is broker and controller, on loopback only.

    The voters are a setting here, not part of the stored state, so the controller's port may be another at each start.

    Args:
        port: where clients connect.
        controller_port: where the node talks to itself.
        max_message_bytes: largest record batch that a topic takes unless the topic says otherwise.
        listeners: ports of more listeners for clients, by security protocol (`SASL_SSL`), which is their name, too.
        more: what such listeners need, and anything else; wins over what is here.
    """
    others = "".join(f",{name}://127.0.0.1:{number}" for name, number in (listeners or {}).items())
    protocols = "".join(f",{name}:{name}" for name in listeners or {})
    return _lines(
        {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{others}",
            "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}{others}",
            "log.dirs": TOPICS,
            # Topics are made by our commands, with the right number of partitions; a typing error makes none.
            "auto.create.topics.enable": "false",
            # History carries old timestamps, and Kafka deletes by timestamp: nothing is deleted, any past is accepted.
            "log.retention.ms": -1,
            "log.retention.bytes": -1,
            "log.message.timestamp.after.max.ms": 2 * _DAY_MS,
            # A group that was away for a week (Kafka's default) must find its place again: keep it, as everything.
            "offsets.retention.minutes": 2**31 - 1,
            "message.max.bytes": max_message_bytes,
            "replica.fetch.max.bytes": max(max_message_bytes, 1024 * 1024),
            "replica.fetch.response.max.bytes": max(max_message_bytes, 10 * 1024 * 1024),
            # A request holds at least one batch, and a few bytes around it.
            "socket.request.max.bytes": max(2 * max_message_bytes, 100 * 1024 * 1024),
            # One node: Kafka's own topics have one replica; few partitions, for a fast start.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 4,
            # Saves a group's first member three seconds of waiting for a second one.
            "group.initial.rebalance.delay.ms": 0,
            # After a crash the controller waits for the old session's end before it lets the node in again: 11.5 s to
            # start with Kafka's 9 s. Three are still longer than any pause of a node that lives.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            # Taken from the heap at the start. Kafka's 128 MiB is a quarter of ours; 32 compact 1.2 M keys in one go.
            "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
            **(more or {}),
        }
    )


def logging() -> str:
    """log4j's configuration: warnings, and the lines that tell starts and stops, into a log file that stays small."""
    return _lines(
        {
            "status": "error",
            # Kafka stops in a shutdown hook of its own; log4j's would close the log before the last lines.
            "shutdownHook": "disable",
            "appender.file.type": "RollingFile",
            "appender.file.name": "file",
            "appender.file.fileName": LOG,
            "appender.file.filePattern": LOG + ".%i",
            "appender.file.layout.type": "PatternLayout",
            "appender.file.layout.pattern": "%d{yyyy-MM-dd HH:mm:ss.SSS} %p %m (%c{1})%n",
            "appender.file.policies.type": "Policies",
            "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
            "appender.file.policies.size.size": "10MB",
            "appender.file.strategy.type": "DefaultRolloverStrategy",
            "appender.file.strategy.max": 3,
            "rootLogger.level": "warn",
            "rootLogger.appenderRef.file.ref": "file",
            "logger.lifecycle.name": "kafka.server.KafkaRaftServer",
            "logger.lifecycle.level": "info",
        }
    )


def _lines(values: dict[str, str | int]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())
