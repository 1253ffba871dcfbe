"""A message's way through the worker, from the fetched batch to the acknowledgement; one pipeline a source topic.

    gather   events of all partitions, for FLUSH_SECONDS or up to a size
    fold     each partition's records into its book (pure)
    letters  dead letters, acknowledged, for as long as it takes; and messages under a wrong key on to their home
    state    what changed, to the table's changelog, acknowledged
    rows     to ClickHouse, accepted; waits and tries again for as long as it takes (`streams.side`)
    ack      each event, once

A crash anywhere repeats the batch. Repeating changes nothing in a ledger and writes the rows again. An unexpected
exception leaves `run`, and the process ends without an ack.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import structlog
from aiokafka.structs import TopicPartition

from sinks.dead_letters import DeadLetter
from sinks.prometheus import Metrics
from sinks.topics import START_OVER
from streams.changelog import Changelog, Overtaken
from streams.clock import AsOfClock
from streams.forwarder import Forwarder
from streams.ledger.records import Change, Letter, Record
from streams.ledger.redaction import redact
from streams.ledger.state import StateError
from streams.letters import Letters
from streams.originals import Originals
from streams.rows import Progress, RowSink
from streams.side import B, F, Side
from streams.store import Store

log = structlog.get_logger("pingstream.pipeline")

WAITING_BYTES = 32 * 1024 * 1024
"""More than this is not taken from Faust: its queues fill and fetching stops. No flush takes more, see `Side.flush_bytes`."""

DELETED = "(the message was deleted from its topic before this letter was written)"

IDLE_SECONDS = 1.0
PROGRESS_SECONDS = 1.0

FAR_BEHIND = 2_000
"""Messages of a partition that Kafka has beyond those that are applied: from then on rows may wait, see `streams.side`."""


STEP_SECONDS = 0.5
SESSION_STEPS = 30
"""Longer than a session of the consumer group, and in steps: a pause in between makes none of them shorter."""


class Source(Protocol):
    """What the pipeline asks of Kafka and of Faust."""

    @property
    def generation(self) -> int | None:
        """Generation of the assignment that is recovered, whose starts are known, and that may be worked on; None while there is
        none."""

    @property
    def revoked(self) -> bool:
        """Whether a rebalance has begun since then; the assignment stands until what is under way is acknowledged."""

    def assigned(self) -> set[TopicPartition]:
        """Partitions of the source and the internal topic that are ours."""

    def start(self, partition: TopicPartition) -> int:
        """Offset from which the partition is delivered in this generation."""

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """First offsets that Kafka still has."""

    async def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The group's committed offsets, 0 where there is none."""

    async def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Offsets that must be reached to be called caught up."""

    def expects(self, partition: TopicPartition, offset: int) -> bool:
        """Whether messages of a source partition may come from an offset on."""

    def known_end(self, partition: TopicPartition) -> int:
        """End of the partition as far as fetching has shown it."""


@dataclass
class _Applied:
    """How far a partition is applied."""

    offset: int
    received_ms: int


class Pipeline(Generic[B, F]):
    """One topic's way. `offer` takes events from the agent; `run` does the rest."""

    def __init__(
        self,
        topic: str,
        internal_topic: str,
        source: Source,
        store: Callable[[], Store],
        changelog: Changelog,
        letters: Letters,
        forwarder: Forwarder,
        originals: Originals,
        rows: RowSink,
        side: Side[B, F],
        clock: AsOfClock,
        metrics: Metrics,
        flush_seconds: float,
    ) -> None:
        self._topic = topic
        self._internal_topic = internal_topic
        self._source = source
        self._store = store
        self._changelog = changelog
        self._letters = letters
        self._forwarder = forwarder
        self._originals = originals
        self._rows = rows
        self._side = side
        self._clock = clock
        self._metrics = metrics
        self._flush_seconds = flush_seconds
        self._newest_epochs: dict[int, int] = {}
        self._noted: dict[TopicPartition, int] = {}
        """Offset behind the newest gap that was noted."""
        self._books: dict[int, B] = {}
        self._generation: int | None = None
        self._waiting: deque[tuple[Any, int, float]] = deque()
        """Events, their bytes, and when they came, by the monotonic clock."""
        self._waiting_bytes = 0
        self._in_hand_since: float | None = None
        """When the oldest event came that is being flushed."""
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._stopping = False
        self._read: dict[TopicPartition, int] = {}
        """Records of each partition that were read since it was taken over, and how many of all were handled."""
        self._handled = 0
        self.applied: dict[TopicPartition, _Applied] = {}
        self._live_of: tuple[int | None, int] | None = None
        self._goal: tuple[tuple[int | None, int], dict[TopicPartition, int]] | None = None
        """Offsets to reach before the rows of an as-of day are written, in a generation."""
        self._told: dict[int, Progress] = {}
        self._told_at = 0.0

    # ---- in ----------------------------------------------------------------------------------------------------------

    async def offer(self, event: Any) -> None:
        """Takes an event: the records of one fetched batch. Waits while enough is waiting already."""
        await self._room.wait()
        if self._stopping:
            return  # it comes again
        size = _size(event)
        self._waiting.append((event, size, time.monotonic()))
        self._waiting_bytes += size
        if self._waiting_bytes >= WAITING_BYTES:
            self._room.clear()
        self._arrived.set()

    @property
    def has_room(self) -> bool:
        """Whether it takes events at once."""
        return self._room.is_set()

    def wake(self) -> None:
        """Something changed that is worth a look."""
        self._arrived.set()

    def stop(self) -> None:
        """Lets `run` end after the flush it is in. What waits behind it comes again."""
        self._stopping = True
        self._arrived.set()
        self._room.set()

    async def run(self) -> None:
        """Works until it is stopped. Raises what must end the process."""
        while not self._stopping:
            if self._source.generation is None:
                self._drop_waiting()
                await asyncio.sleep(0.01)
                continue
            await self._take_over()
            await self._gather()
            if self._stopping or self._source.generation != self._generation:
                continue
            events = self._take()
            if events:
                await self._flush(events)
            if self._stopping:
                break
            await self._roll()
            await self._tell_progress()
            self._count_live()
        self._drop_waiting()

    async def _gather(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), IDLE_SECONDS)
        # What came while the last flush was under way has waited already, but where much is behind it: fuller flushes catch up sooner.
        newest = {event.message.tp: event.message.offset for event, _, _ in self._waiting}
        waits_since = time.monotonic() if not newest or self._is_far_behind(newest) else self._waiting[0][2]
        until = waits_since + self._flush_seconds
        while (
            self._waiting
            and self._waiting_bytes < self._side.flush_bytes
            and not self._stopping
            and self._expects_more()
        ):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)
        self._arrived.clear()

    def _expects_more(self) -> bool:
        """Whether the source topic may have more than what waits: to wait for what is forwarded alone is worth no flush less."""
        ends = {event.message.tp: event.message.offset + 1 for event, _, _ in self._waiting}
        return any(
            self._source.expects(tp, ends.get(tp) or self.reached(tp))
            for tp in self._source.assigned()
            if tp.topic == self._topic
        )

    def _is_far_behind(self, newest: Mapping[TopicPartition, int]) -> bool:
        """Whether Kafka has much more than up to these offsets."""
        return any(self._source.known_end(tp) - offset > FAR_BEHIND for tp, offset in newest.items())

    def _take(self) -> list[Any]:
        """Events for one flush, of the present generation; others were fetched before a rebalance and come again."""
        assigned = self._source.assigned()
        taken: list[Any] = []
        taken_bytes = records = 0
        while self._waiting and taken_bytes < self._side.flush_bytes and records < self._side.flush_records:
            event, size, came = self._waiting.popleft()
            self._waiting_bytes -= size
            message = event.message
            if message.generation_id == self._generation and message.tp in assigned:
                if not taken:
                    self._in_hand_since = came
                taken.append(event)
                taken_bytes += size
                records += len(message.value)
                self._read[message.tp] = message.value.ahead + len(message.value)
        if self._waiting_bytes < WAITING_BYTES:
            self._room.set()
        if self._waiting:
            self._arrived.set()
        return taken

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self._in_hand_since = None
        self._room.set()

    # ---- taking over ---------------------------------------------------------------------------------------------------

    async def learn_epochs(self) -> bool:
        """Asks the tables for the epochs of their rows, before the worker joins the group: those that it finds are of owners
        before it. Later they may be of one that came while it was paused, and it must not rise above that one.

        Returns:
            False when it was stopped before ClickHouse answered.
        """
        epochs = await self._rows.newest_epochs(self._topic, lambda: not self._stopping)
        if epochs is None:
            return False
        self._newest_epochs = epochs
        return True

    async def _take_over(self) -> None:
        """After a rebalance: books anew from durable state, each with a new epoch that is known before anything else."""
        generation = self._source.generation
        if generation == self._generation or generation is None:
            return
        store = self._store()
        partitions = sorted({tp.partition for tp in self._source.assigned()})
        books = {p: self._side.open(p, store.of_partition(p), generation) for p in partitions}
        await self._refuse_lost_state(books)
        for partition, book in books.items():
            if not book.settled:
                book.settle(self._newest_epochs.get(partition, 0))
        if any(book.outrun for book in books.values()) and not await self._outlives_a_session(generation):
            return
        as_of = self._clock.day()
        # Two may have recovered the same state, one of them paused since then: the first to claim it has it.
        await self._claim(
            {
                p: [
                    *(Change(*item) for item in store.overtaken.pop(p, {}).items()),
                    book.claim(as_of),
                    *book.own(sorted(store.late.pop(p, ()))),
                ]
                for p, book in books.items()
            },
            store.ends,
        )
        self._books, self._generation = books, generation
        self.applied = {}
        self._in_hand_since = None
        self._read, self._handled = {}, 0
        self._metrics.balance.labels(self._topic).set(0)
        self._told = {}
        await self._note_gaps()
        self._side.taken_over()
        records, seconds = store.end_recovery()
        log.info(
            "partitions taken over", topic=self._topic, partitions=partitions, generation=generation, recovered_records=records,
            recovery_seconds=round(seconds, 2),
        )  # fmt: skip

    async def _outlives_a_session(self, generation: int) -> bool:
        """Whether our generation stands, where state is of a later one: then the group has begun anew. A worker that was
        paused until others took over is told by a heartbeat before this ends.

        Raises:
            Overtaken: it was, and Faust waits for messages that nobody may work on.
        """
        log.warning("the state is of a later generation of the consumer group; waiting whether ours stands")
        for _ in range(SESSION_STEPS):
            await asyncio.sleep(STEP_SECONDS)
            if self._source.generation != generation:
                return False
            if self._source.revoked:
                raise Overtaken(
                    "others took the partitions over while this worker was paused; it is to join the group anew"
                )
        return True

    async def _claim(self, changes: Mapping[int, list[Change]], ends: Mapping[int, int]) -> None:
        await self._changelog.claim(changes, ends)
        self._keep(changes)

    async def _refuse_lost_state(self, books: Mapping[int, B]) -> None:
        """Raises StateError where messages count as read whose state is not there any more: figures would begin anew."""
        changelogs = {p: TopicPartition(self._changelog.topic, p) for p in books}
        sources = {p: TopicPartition(self._topic, p) for p in books}
        beginnings = await self._source.beginnings([*changelogs.values(), *sources.values()])
        committed = await self._source.committed(list(sources.values()))
        ends = await self._source.ends(list(changelogs.values()))
        for p, book in books.items():
            if beginnings[changelogs[p]]:
                raise StateError(
                    f"records were deleted from the changelog {self._changelog.topic}, partition {p}, up to offset "
                    f"{beginnings[changelogs[p]]}: part of the state is lost, and figures would be wrong; {START_OVER}"
                )
            if not book.found and committed[sources[p]] > beginnings[sources[p]]:  # nobody has had it before
                if ends[changelogs[p]]:
                    raise Overtaken(
                        f"{self._topic}, partition {p}: another worker has had it since its state was recovered"
                    )
                raise StateError(
                    f"{self._topic}, partition {p}, is read up to offset {committed[sources[p]]}, but the changelog "
                    f"{self._changelog.topic} has no state of it: it is lost, and figures would begin anew; {START_OVER}"
                )

    async def _note_gaps(self) -> None:
        """Messages that Kafka deleted before anybody read them."""
        read_to = {
            TopicPartition(self._topic, partition): book.read_to
            for partition, book in self._books.items()
            if book.read_to is not None
        }
        beginnings = await self._source.beginnings(list(read_to)) if read_to else {}
        for tp, offset in read_to.items():
            if beginnings[tp] > offset:
                await self._note_gap(tp, offset, beginnings[tp] - 1)

    async def _note_gap(self, tp: TopicPartition, first: int, last: int) -> None:
        """Loud, and a row that an analyst can see."""
        log.error(
            "messages were deleted from the topic before they were read; figures lack them",
            topic=tp.topic, partition=tp.partition, first_offset=first, last_offset=last,
        )  # fmt: skip
        await self._rows.write_gap(tp.topic, tp.partition, first, last, self._still_ours)
        self._noted[tp] = last + 1

    async def _note_gaps_before(self, records: Mapping[TopicPartition, list[Record]]) -> None:
        """Messages that Kafka deleted while we were on the way to them. Transactions leave offsets without messages, too."""
        for tp, some in records.items():
            first = max(self.reached(tp), self._books[tp.partition].read_to or 0, self._noted.get(tp, 0))
            if tp.topic == self._topic and some and some[0].offset > first:
                beginning = (await self._source.beginnings([tp]))[tp]
                if beginning > first:
                    await self._note_gap(tp, first, min(beginning, some[0].offset) - 1)

    # ---- the flush -----------------------------------------------------------------------------------------------------

    async def _flush(self, events: list[Any]) -> None:
        started = time.monotonic()
        as_of = self._clock.day()
        records: dict[TopicPartition, list[Record]] = defaultdict(list)
        for event in events:
            records[event.message.tp].extend(event.message.value)
        await self._note_gaps_before(records)
        folded: dict[int, F] = {}
        for partition in sorted({tp.partition for tp in records}):
            own, forwarded = (
                records[TopicPartition(topic, partition)] for topic in (self._topic, self._internal_topic)
            )
            folded[partition] = self._books[partition].fold(own, as_of, forwarded)
            await asyncio.sleep(0)
        if not await self._letters.send(
            await self._dead_letters(records, folded), lambda: self._still_ours() and not self._stopping
        ):
            log.warning("the letters of a batch are left to the partitions' next owner", topic=self._topic)
            return
        await self._forwarder.send([forward for done in folded.values() for forward in done.forwards])
        changes = {partition: done.changes for partition, done in folded.items()}
        acknowledged = await self._changelog.begin(changes)
        prepared = self._side.prepare(self._books, folded)
        await acknowledged
        if not self._still_ours():
            return  # whoever has the partitions reads the batch again
        self._keep(changes)
        letters = [
            (self._topic, *letter.place, letter.reason, letter.sentence, letter.timestamp, self._books[partition].epoch)
            for partition, done in folded.items()
            for letter in done.letters
        ]
        behind = self._is_far_behind({tp: some[-1].offset for tp, some in records.items() if some})
        if not await self._side.write(
            self._books, folded, prepared, letters, behind, self._write_state, self._still_ours
        ):
            log.warning("the rows of a batch are left to the partitions' next owner", topic=self._topic)
            return
        if not self._still_ours():
            return
        for event in events:
            event.ack()
        self._note(records, folded, prepared, as_of, started)

    async def _dead_letters(
        self, records: Mapping[TopicPartition, list[Record]], folded: Mapping[int, F]
    ) -> list[DeadLetter]:
        """Letters with the messages they are about: at hand, or read again from where they came in. A letter about a message that
        Kafka has deleted meanwhile is empty, and says so."""
        letters = [letter for done in folded.values() for letter in done.letters]
        if not letters:
            return []
        wanted = {letter.place for letter in letters}
        found = {
            (tp.partition, record.offset): record
            for tp, some in records.items()
            if tp.topic == self._topic
            for record in some
            if (tp.partition, record.offset) in wanted
        }
        found |= await self._originals.read(wanted - found.keys())
        for partition, offset in sorted(wanted - found.keys()):
            log.error("a message was deleted from its topic before its dead letter was written; the letter is empty",
                      topic=self._topic, partition=partition, offset=offset)  # fmt: skip
        return [self._dead_letter(letter, found.get(letter.place)) for letter in letters]

    def _dead_letter(self, letter: Letter, original: Record | None) -> DeadLetter:
        key, value = (original.key, original.value) if original is not None else (None, None)
        sentence = letter.sentence if original is not None else f"{letter.sentence} {DELETED}"
        kept, redacted = redact(value) if value is not None else (None, [])
        return DeadLetter(
            self._topic, *letter.place, letter.timestamp, key, kept, letter.reason, sentence, letter.attempt,
            tuple(redacted),
        )  # fmt: skip

    def _still_ours(self) -> bool:
        return self._source.generation == self._generation

    async def _write_state(self, changes: Mapping[int, list[Change]]) -> None:
        await (await self._changelog.begin(changes))
        self._keep(changes)

    def _keep(self, changes: Mapping[int, list[Change]]) -> None:
        store = self._store()
        for partition, some in changes.items():
            for change in some:
                store.put(partition, change.key, change.value)

    def _note(
        self,
        records: Mapping[TopicPartition, list[Record]],
        folded: Mapping[int, F],
        prepared: Any,
        as_of: int,
        started: float,
    ) -> None:
        for tp, some in records.items():
            if some:
                received = self._books[tp.partition].newest_timestamp if tp.topic == self._topic else some[-1].timestamp
                self.applied[tp] = _Applied(some[-1].offset + 1, received)
        for done in folded.values():
            self._handled += done.tally.handled
            for outcome, number in done.tally.outcomes.items():
                self._metrics.events.labels(self._topic, outcome).inc(number)
            for reason, number in done.tally.reasons.items():
                self._metrics.dead_letters.labels(self._topic, reason).inc(number)
        # Read as the transport counts, handled as the ledger does: a batch that was lost between them shows, as does a message
        # that the ledger has left out, or counted twice.
        self._metrics.balance.labels(self._topic).set(sum(self._read.values()) - self._handled)
        self._side.note(self._books, folded, prepared, as_of)
        self._metrics.flush_seconds.observe(time.monotonic() - started)
        self._in_hand_since = None

    # ---- the as-of clock -------------------------------------------------------------------------------------------------

    async def _roll(self) -> None:
        """Writes the rows that the clock's next day brings, once all our partitions have caught up: any of them may still tell
        of a scope of another."""
        as_of = self._clock.day()
        due = sorted(p for p, book in self._books.items() if book.needs_roll(as_of))
        # What is written to the changelog once a rebalance has begun may come behind what the next owner recovers, which then ends.
        if due and self._still_ours() and not self._source.revoked and await self._has_caught_up(as_of):
            for partition in due:
                if not self._still_ours() or self._source.revoked or not await self._roll_book(partition, as_of):
                    return

    async def _has_caught_up(self, as_of: int) -> bool:
        """Whether we have read what there was when the day came: first of the source topic, then of the internal one, which
        is fed by it. Messages that come in all the time do not put a day off."""
        if self._goal is None or self._goal[0] != (self._generation, as_of):
            self._goal = (self._generation, as_of), {}
        goal = self._goal[1]
        for topic in (self._topic, self._internal_topic):
            partitions = [tp for tp in self._source.assigned() if tp.topic == topic]
            if not goal.keys() >= set(partitions):
                goal.update(await self._source.ends(partitions))
            if any(self.reached(tp) < goal[tp] for tp in partitions):
                return False
        return True

    def sent_to(self, tp: TopicPartition) -> int:
        """Offset up to which we have sent to a partition of the internal topic ourselves: it has at least as much."""
        return self._forwarder.ends.get(tp.partition, 0) if tp.topic == self._internal_topic else 0

    def reached(self, tp: TopicPartition) -> int:
        """Offset up to which a partition is applied."""
        applied = self.applied.get(tp)
        return applied.offset if applied is not None else self._source.start(tp)

    async def _roll_book(self, partition: int, as_of: int) -> bool:
        book = self._books[partition]
        if not await self._side.roll(book, as_of, self._write_state, self._still_ours):
            return False
        await self._write_state({partition: [book.rolled(as_of)]})
        return True

    async def _tell_progress(self) -> None:
        """Writes how far our partitions are, when that has changed: in idle moments, and about once a second."""
        if not self._still_ours() or (self._waiting and time.monotonic() - self._told_at < PROGRESS_SECONDS):
            return
        new = {
            partition: progress
            for partition, progress in self._progress().items()
            if progress != self._told.get(partition)
        }
        rows = [(progress, self._books[partition].version) for partition, progress in new.items()]
        if rows and await self._rows.write_progress(rows, self._still_ours):
            self._told.update(new)
            self._told_at = time.monotonic()

    def _progress(self) -> dict[int, Progress]:
        return {
            partition: Progress(
                self._topic,
                partition,
                book.rolled_to,
                book.newest_timestamp if book.newest_timestamp > 0 else None,
                self.reached(TopicPartition(self._topic, partition)),
            )
            for partition, book in self._books.items()
        }

    def _count_live(self) -> None:
        """Counts today's figures of scopes that no message has touched today, some at a time and only in idle moments."""
        day = self._clock.day()
        if self._waiting or self._live_of == (self._generation, day) or not self._still_ours():
            return
        if not self._side.count_live(self._books, day):
            self._live_of = self._generation, day

    # ---- what others see -------------------------------------------------------------------------------------------------

    def is_rolled(self, partitions: set[int]) -> bool:
        """Whether the rows of these partitions are written up to the as-of clock, and that is known in the tables."""
        day = self._clock.day()
        progress = self._progress()
        return all(
            p in self._books and not self._books[p].needs_roll(day) and self._told.get(p) == progress[p]
            for p in partitions
        )

    @property
    def ready(self) -> bool:
        """State is recovered and the partitions are taken over."""
        return self._generation is not None and self._generation == self._source.generation

    def received(self) -> dict[int, int]:
        """Newest received time that is applied, ms, of each of our partitions; without those that never had a message."""
        return {p: book.newest_timestamp for p, book in self._books.items() if book.newest_timestamp > 0}

    def lag_seconds(self, tp: TopicPartition) -> float:
        """Age of the received time up to which a partition is applied; 0 before anything is."""
        applied = self.applied.get(tp)
        received = applied.received_ms if applied is not None else self.received().get(tp.partition, 0)
        # 0 is no time: a word of nothing read yet
        return max(0.0, time.time() - received / 1000) if received > 0 else 0.0

    @property
    def scopes(self) -> int:
        """How many scopes the books hold."""
        return sum(book.scopes for book in self._books.values())

    @property
    def oldest_unflushed(self) -> float:
        """How long the oldest message that waits has waited, seconds."""
        since = self._in_hand_since
        if since is None and self._waiting:
            since = self._waiting[0][2]
        return time.monotonic() - since if since is not None else 0.0

    def refresh(self) -> None:
        """Brings the gauges of the live figures up to date."""
        self._side.refresh()


def _size(event: Any) -> int:
    return sum(len(record.value or b"") + 64 for record in event.message.value)
