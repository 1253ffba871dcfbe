"""Room for a message that is larger than its topic takes.

A dead letter is its message and some headers, so one about a message of almost MAX_MESSAGE_BYTES does not fit into a topic
with that limit; a forwarded ping may grow as well. Such a message would come again for ever: the topic's limit is raised
instead, and that is said.
"""

from __future__ import annotations

from typing import Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, for_code

from schemas.settings import Settings
from sinks.kafka_client import client_config

log = structlog.get_logger("pingstream.topics")

LIMIT: Final = "max.message.bytes"
RECORD_OVERHEAD_BYTES: Final = 1024
TOPIC_CONFIG: Final = 1
"""Source of a value that was set on the topic itself, in Kafka's DescribeConfigs."""


class MessageLimits:
    """The limits of the topics we write, as they are known here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits: dict[str, int] = {}

    async def make_room(self, topic: str, size: int) -> None:
        """Raises the limit of `topic` where a message of `size` bytes, uncompressed, might not fit.

        Where that is not allowed the message is sent all the same: compressed it may fit.
        """
        needed = size + RECORD_OVERHEAD_BYTES
        if needed > self._limits.get(topic, self._settings.max_message_bytes):
            await self._make(topic, needed)

    async def was_refused(self, topic: str) -> None:
        """Raises the limit of `topic`, that was not ours, to the setting's: something smaller was refused as too large."""
        await self._make(topic, self._limits.get(topic, self._settings.max_message_bytes))

    async def _make(self, topic: str, needed: int) -> None:
        admin = AIOKafkaAdminClient(**client_config(self._settings), client_id="pingstream")
        try:
            await admin.start()
            limit = await self._raise(admin, topic, needed)
            log.warning("raised a topic's message limit", topic=topic, bytes=limit)
            self._limits[topic] = limit
        except KafkaError as exc:
            log.warning("could not raise a topic's message limit", topic=topic, needed=needed, error=str(exc))
        finally:
            await admin.close()

    async def _raise(self, admin: AIOKafkaAdminClient, topic: str, needed: int) -> int:
        # Kafka replaces a topic's whole configuration, so what was set on it is read and set again.
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        found: dict[str, str] = {}
        for answer in answers:
            for code, message, _, _, entries in (resource[:5] for resource in answer.resources):
                if for_code(code) is not NoError:
                    raise for_code(code)(message)
                found |= {entry[0]: entry[1] for entry in entries if entry[3] == TOPIC_CONFIG}
        limit = max(needed, int(found.get(LIMIT, 0)))
        for answer in await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, configs={**found, LIMIT: str(limit)})]
        ):
            for resource in answer.resources:
                if for_code(resource[0]) is not NoError:
                    raise for_code(resource[0])(resource[1])
        return limit
