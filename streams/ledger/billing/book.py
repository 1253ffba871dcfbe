"""All accounts whose key lives in one partition: judges billing events in order, keeps them, says what changed.

The state of an account is its events and nothing else (`state`); everything that is shown of it is read from them (`history`).
So order never matters, and a flush costs what its events cost. The rows of an account are made when they are asked for: at
once while the worker keeps up, once for many events while it is behind. Which accounts' rows are still to be written is told
by the state itself: those whose version is above `written`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec
import numpy as np

from schemas.billing import BillingEvent
from schemas.billing_digest import digest_before
from schemas.dead_letters import Outcome, Reason, Unreadable
from streams.ledger.billing.columns import Ints, ints
from streams.ledger.billing.facts import Facts
from streams.ledger.billing.history import History
from streams.ledger.billing.reading import read_events
from streams.ledger.billing.state import (
    Fact,
    PartitionState,
    append,
    decode_partition,
    encode_partition,
    fact_at,
    heads,
    is_piece,
    is_segment,
    partition_key,
    read_fact,
    segment_key,
    segment_of_piece,
    version_of,
    with_version,
)
from streams.ledger.forwarding import Forward
from streams.ledger.ownership import Ownership
from streams.ledger.records import Change, Letter, Record, Tally, attempt_of
from streams.ledger.scope import NEVER, READ_HERE
from streams.ledger.state import StateError, Version, readable

DAY_MS = 86_400_000
ARRIVED_REMEMBERED = 50_000
"""Forwarded messages that are known by their places: far more than one flush forwards."""

ID_BITS = PLACE_BITS = 0xFFFFFFFF
FIRST_PIECE = 1 << 30
SPARSE_BYTES = 1024
"""Segments that have fewer bytes than this for each fact that is wanted are put together as they are: 100 MB for the 100,000
events that are read at a time. Out of others the facts are taken one by one, 1 us each."""

FUTURE_SENTENCE = "occurred_at lies more than a day after the moment the message was received - at `$.occurred_at`"
CONFLICT_SENTENCE = "the account has an event of this id with other content, which stands - at `$.event_id`"


@dataclass(frozen=True)
class Rules:
    """Settings that decide about billing events.

    Attributes:
        partitions: of the source topic, which has as many books.
        partition_of: the partition of a key; without it every message is at home where it is read.
    """

    max_message_bytes: int = 8 * 1024 * 1024
    reporting_currency: str = "USD"
    partitions: int = 1
    partition_of: Callable[[bytes], int] | None = None


class ForwardedEvent(msgspec.Struct, array_like=True, frozen=True):
    """A message under a wrong key, on the way to its account's home: where it was read, and the message itself."""

    partition: int
    offset: int
    timestamp: int
    attempt: int
    value: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ForwardedEvent).decode


@dataclass
class Folded:
    """What came of a batch. letters, forwards: to be acknowledged before `changes`, for the changelog. applied: messages."""

    letters: list[Letter] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    applied: int = 0


class _Kept:
    """Where the events of an account are: the (segment, place) of each as one number, and 32 bits of a hash of its id."""

    __slots__ = ("ids", "places")

    def __init__(self) -> None:
        self.places = array("Q")
        self.ids = array("I")


class Book(Ownership):
    """The accounts of one partition.

    Args:
        partition: its number.
        values: the partition's values in the table, live: what `fold` gives must be in them before the next call.
        generation: of the consumer group in which the partition is owned.
    """

    def __init__(self, partition: int, values: Mapping[bytes, bytes], rules: Rules, generation: int = 0) -> None:
        super().__init__(generation)
        self.partition = partition
        self._values = values
        self._rules = rules
        self._accounts: dict[str, _Kept] = {}
        self._segments = 0
        self._pieces: list[bytes] = []
        """What format 1 kept, as segments that are never written: their numbers are behind all others."""
        self._revision = 0
        self.rolled_to = NEVER
        self.newest_timestamp = NEVER
        self._read_to = -1
        self._written = Version(0, 0)
        self._arrived: dict[tuple[int, int], int] = {}
        self._dirty: dict[str, None] = {}
        """Accounts whose rows are still to be written, in the order in which they were touched."""
        own = values.get(partition_key(partition))
        if own is not None:
            version, state = decode_partition(own)
            self.follow(version, state.generation, state.settled)
            self.newest_timestamp = state.newest_timestamp
            self.rolled_to, self._read_to = state.rolled_to, state.read_to
            self._written = Version(*state.written)
        self._recover()

    def _recover(self) -> None:
        """Learns where the events of each account are."""
        self._segments = sum(map(is_segment, self._values))
        for segment in range(self._segments):
            value = self._values.get(segment_key(segment))
            if value is None:
                raise StateError(
                    f"segment {segment} of {self._segments} of the billing state is missing in the changelog"
                )
            self._index(segment, value)
        for key in filter(is_piece, self._values):
            value = segment_of_piece(self._values[key])
            self._index(FIRST_PIECE + len(self._pieces), value)
            self._pieces.append(value)

    def _index(self, segment: int, value: bytes) -> None:
        missing = version_of(value) > self._written
        with readable():
            found = list(heads(value))
        for place, account_id, event_id in found:
            self._keep(account_id, event_id, segment, place)
            if missing:
                self._dirty[account_id] = None

    def _keep(self, account_id: str, event_id: str, segment: int, place: int) -> None:
        kept = self._accounts.get(account_id)
        if kept is None:
            kept = self._accounts[account_id] = _Kept()
        kept.places.append(segment << 32 | place)
        kept.ids.append(hash(event_id) & ID_BITS)

    # ---- taking over -----------------------------------------------------------------------------------------------

    def claim(self, as_of: int) -> Change:
        """The record that makes this owner's epoch known, to be acknowledged before anything else is written."""
        return self._own_record()

    def own(self, late: Iterable[bytes]) -> list[Change]:
        """Records that an older owner wrote after its time, as ours: what is in them may be acknowledged by us, and another
        owner of the past must not write over it. The rows of their accounts are to be written again."""
        changes = []
        for key in filter(is_segment, late):
            value = with_version(self._values[key], self.version)
            changes.append(Change(key, value))
            for _, account_id, _ in heads(value):
                self._dirty[account_id] = None
        return changes

    @property
    def version(self) -> Version:
        """Version of what is known of the partition as a whole."""
        return Version(self.epoch, self._revision)

    @property
    def read_to(self) -> int | None:
        """The offset after the last message that was read by any owner; None when none was."""
        return self._read_to if self._read_to >= 0 else None

    @property
    def scopes(self) -> int:
        """How many accounts there are."""
        return len(self._accounts)

    def _own_record(self) -> Change:
        self._revision += 1
        state = PartitionState(
            self._read_to, self.rolled_to, self._written, self.settled, self.generation, self.newest_timestamp
        )
        return Change(partition_key(self.partition), encode_partition(self.version, state))

    # ---- folding ---------------------------------------------------------------------------------------------------

    def fold(self, records: Sequence[Record], as_of: int, forwarded: Sequence[Record] = ()) -> Folded:
        """Judges and keeps what a flush has of the partition's messages, in order.

        Args:
            records: of the source topic.
            as_of: the as-of clock; no event is judged by it.
            forwarded: of the internal topic: messages that other books have sent.
        """
        out = Folded()
        new: dict[tuple[str, str], Fact] = {}
        for record, event in zip(records, self._read([record.value for record in records]), strict=True):
            place = (self.partition, record.offset)
            self._judge(event, record.value, place, record.timestamp, attempt_of(record), READ_HERE, new, out)
            if record.timestamp > self.newest_timestamp:
                self.newest_timestamp = record.timestamp
        arrived = [(_decode(record.value or b""), record.offset) for record in forwarded]
        arrived = [(sent, at) for sent, at in arrived if not self._came_before((sent.partition, sent.offset), at)]
        out.tally.passed += len(forwarded) - len(arrived)
        for (sent, at), event in zip(arrived, self._read([sent.value for sent, _ in arrived]), strict=True):
            self._judge(event, sent.value, (sent.partition, sent.offset), sent.timestamp, sent.attempt, at, new, out)
        if out.applied:
            out.tally.outcomes[Outcome.APPLIED] += out.applied
        if records:
            self._read_to = max(self._read_to, records[-1].offset + 1)
        out.changes.append(self._own_record())
        last = self._values[segment_key(self._segments - 1)] if self._segments else None
        facts = list(new.values())
        changes, places = append(self._segments, last, facts, self.version)
        out.changes += changes
        for fact, (segment, start) in zip(facts, places, strict=True):
            self._keep(fact.event.account_id, fact.event.event_id, segment, start)
            self._segments = segment + 1
        return out

    def _read(self, values: Sequence[bytes | None]) -> list[BillingEvent | Unreadable]:
        return read_events(values, self._rules.reporting_currency, self._rules.max_message_bytes)

    def _came_before(self, place: tuple[int, int], delivery: int) -> bool:
        """Whether a message was forwarded before: a crash came between its forward and its commit."""
        if len(self._arrived) > ARRIVED_REMEMBERED:
            self._arrived = dict(islice(self._arrived.items(), ARRIVED_REMEMBERED // 2, None))
        return self._arrived.setdefault(place, delivery) != delivery

    def _judge(
        self,
        event: BillingEvent | Unreadable,
        value: bytes | None,
        place: tuple[int, int],
        timestamp: int,
        attempt: int,
        delivery: int,
        new: dict[tuple[str, str], Fact],
        out: Folded,
    ) -> None:
        """Decides about one message, here or by sending it home."""
        rules = self._rules
        if isinstance(event, Unreadable):
            _die(place, timestamp, attempt, event.reason, event.sentence, out)
            return
        name = event.account_id, event.event_id
        kept = self._accounts.get(event.account_id)
        if kept is None and delivery == READ_HERE and rules.partition_of is not None:
            key = event.account_id.encode()
            if rules.partition_of(key) != self.partition:
                sent = ForwardedEvent(*place, timestamp, attempt, value or b"")
                out.forwards.append(Forward(key, _encode(sent), timestamp))
                out.tally.forwarded += 1
                return
        known = new.get(name)
        if known is None and kept is not None and hash(event.event_id) & ID_BITS in kept.ids:
            known = self._load(kept).get(event.event_id)
        first = known is None or (known.partition == place[0] and known.offset > place[1])
        if first and event.occurred_at > (timestamp + DAY_MS) * 1000:
            # also when it comes again, after a crash, and what came behind it under its id is known
            _die(place, timestamp, attempt, Reason.FUTURE, FUTURE_SENTENCE, out)
            return
        if known is None:
            new[name] = Fact(event, place[0], place[1], delivery)
        elif known.event.digest != event.digest and known.event.digest != digest_before(value or b""):
            _die(place, timestamp, attempt, Reason.CONFLICT, CONFLICT_SENTENCE, out)
            return
        elif (known.partition, known.offset) == place and known.delivery != delivery:
            out.tally.passed += 1  # forwarded twice; it was counted when it came first
            return
        elif name not in new:
            self._written = Version(0, 0)  # the rows it made may be missing, and no new state tells of it
        self._dirty[event.account_id] = None
        if known is not None and (known.partition, known.offset) != place and attempt == 0:
            out.tally.outcomes[Outcome.DUPLICATE] += 1
        else:
            out.applied += 1

    def _segment(self, segment: int) -> bytes:
        return self._values[segment_key(segment)] if segment < FIRST_PIECE else self._pieces[segment - FIRST_PIECE]

    def _load(self, kept: _Kept) -> dict[str, Fact]:
        """The facts of an account by event id, in the order in which they came."""
        known: dict[str, Fact] = {}
        with readable():
            for place in kept.places:
                fact = read_fact(self._segment(place >> 32), place & PLACE_BITS)
                known.setdefault(fact.event.event_id, fact)
        return known

    # ---- figures ---------------------------------------------------------------------------------------------------

    def history(self, account_ids: Sequence[str]) -> History:
        """Accounts, read from their events."""
        accounts = [self._accounts[account_id] for account_id in account_ids]
        lengths = [len(kept.places) for kept in accounts]
        return History(Facts(account_ids, *self._facts(b"".join([kept.places for kept in accounts])), lengths))

    def _facts(self, kept: bytes) -> tuple[bytes, Ints]:
        """Bytes in which the facts of these places (64 bits each) are, and where each begins in them."""
        places = np.frombuffer(kept, np.int64)
        numbers, which = np.unique(places >> 32, return_inverse=True)
        places = places & PLACE_BITS
        values = [self._segment(number) for number in numbers.tolist()]
        if sum(map(len, values)) > SPARSE_BYTES * len(places):
            with readable():
                values = [
                    fact_at(values[value], place) for value, place in zip(which.tolist(), places.tolist(), strict=True)
                ]
            which, places = np.arange(len(values)), np.zeros(len(values), np.int64)
        sizes = ints(list(map(len, values)))
        return b"".join(values), places + (np.cumsum(sizes) - sizes)[which]

    def events(self, account_id: str) -> list[BillingEvent]:
        """All events of an account."""
        return [fact.event for fact in self._load(self._accounts[account_id]).values()]

    @property
    def accounts(self) -> Collection[str]:
        """Ids of all accounts."""
        return self._accounts.keys()

    @property
    def dirty(self) -> int:
        """How many accounts have rows that are still to be written."""
        return len(self._dirty)

    def unwritten(self, limit: int, limit_events: int, behind: int = 0) -> History:
        """Accounts whose rows are still to be written, up to so many of them or of their events. Call `written` with their ids
        once the rows are accepted.

        Args:
            behind: how many of them are left out, as their rows are on the way.
        """
        accounts: list[str] = []
        count = 0
        for account_id in islice(self._dirty, behind, behind + limit):
            if count >= limit_events:
                break
            count += len(self._accounts[account_id].places)
            accounts.append(account_id)
        return self.history(accounts)

    def written(self, accounts: Iterable[str]) -> Change | None:
        """The rows of these accounts are accepted; returns the record for the changelog once no more are to be written."""
        for account_id in accounts:
            self._dirty.pop(account_id, None)
        if self._dirty:
            return None
        self._written = self.version
        return self._own_record()

    def needs_roll(self, as_of: int) -> bool:
        """Whether the as-of clock is ahead of the rows, or some are still to be written."""
        return as_of > self.rolled_to or bool(self._dirty)

    def rolled(self, as_of: int) -> Change:
        """Remembers that rows are written up to the as-of clock; returns the record for the changelog."""
        self.rolled_to = max(self.rolled_to, as_of)
        return self._own_record()


def _die(place: tuple[int, int], timestamp: int, attempt: int, reason: Reason, sentence: str, out: Folded) -> None:
    out.letters.append(Letter(place, timestamp, reason, sentence, attempt))
    out.tally.outcomes[Outcome.DEAD] += 1
    out.tally.reasons[reason] += 1
