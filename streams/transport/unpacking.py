"""Records as aiokafka's compiled parser gives them.

aiokafka makes of each a `ConsumerRecord` of eleven fields, in Python, which takes three times as long as parsing it. The ledger asks
for five of them, and the parsed record has those.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition


class _Parsed(PartitionRecords):  # type: ignore[misc]
    """Records of one fetch."""

    def __iter__(self) -> Iterator[Any]:
        records: Iterator[Any] = self._records_iterator
        return records

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        return record


class AsTheyCome(OrderedDict[TopicPartition, Any]):
    """What a fetcher has fetched, by partition: results, and errors."""

    def __setitem__(self, tp: TopicPartition, fetched: Any) -> None:
        if isinstance(fetched, FetchResult):
            fetched._partition_records.__class__ = _Parsed
        super().__setitem__(tp, fetched)
