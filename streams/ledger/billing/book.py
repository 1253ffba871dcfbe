"""All accounts whose key lives in one partition: judges billing events in order, keeps them, says what changed.

The state of an account is its events and nothing else (`state`); everything that is shown of it is read from them (`account`).
So order never matters, and a flush costs what its events cost. The rows of an account are made when they are asked for: at
once while the worker keeps up, once for many events while it is behind. Which accounts' rows are still to be written is told
by the state itself: those whose version is above `written`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from schemas.billing import BillingEvent, read_billing_event
from schemas.dead_letters import Outcome, Reason, Unreadable
from streams.ledger.billing.account import Account, read_account
from streams.ledger.billing.cells import Cells
from streams.ledger.billing.rows import AccountRows
from streams.ledger.billing.state import (
    Fact,
    PartitionState,
    account_digest,
    append,
    decode_partition,
    encode_partition,
    partition_key,
    piece_key,
    piece_of,
    read_facts,
    version_of,
)
from streams.ledger.forwarding import Forward
from streams.ledger.records import Change, Letter, Record, Tally, attempt_of
from streams.ledger.scope import NEVER, READ_HERE
from streams.ledger.state import Version

DAY_MS = 86_400_000
ARRIVED_REMEMBERED = 50_000
"""Forwarded messages that are known by their places: far more than one flush forwards."""

IDS_REMEMBERED = 2_000_000
"""Ids of events that a book knows without reading accounts: some 80 bytes each."""

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
    """What came of a batch. letters, forwards: to be acknowledged before `changes`, for the changelog."""

    letters: list[Letter] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


class _Opened:
    """An account that a flush looks into: what is new, whether it is touched, and what is known by event id, once it is read."""

    __slots__ = ("known", "new", "touched")

    def __init__(self) -> None:
        self.known: dict[str, Fact] | None = None
        self.new: list[Fact] = []
        self.touched = False


class Book:
    """The accounts of one partition.

    Args:
        partition: its number.
        values: the partition's values in the table, live: what `fold` gives must be in them before the next call.
    """

    def __init__(self, partition: int, values: Mapping[bytes, bytes], rules: Rules) -> None:
        self.partition = partition
        self._values = values
        self._rules = rules
        self._pieces: dict[bytes, int] = {}
        self.epoch = 1
        self._revision = 0
        self.rolled_to = NEVER
        self.settled = False
        """The epoch is known to be above those of the sink's rows."""
        self.newest_timestamp = NEVER
        self._read_to = -1
        self._written = Version(0, 0)
        self._arrived: dict[tuple[int, int], int] = {}
        self._ids: set[int] = set()
        self._indexed: set[bytes] = set()
        """Accounts all of whose events have their ids in `_ids`, as hashes: an id that is not in it is new."""
        own = values.get(partition_key(partition))
        if own is not None:
            version, state = decode_partition(own)
            self.epoch = version.epoch + 1
            self.rolled_to, self.settled, self._read_to = state.rolled_to, state.settled, state.read_to
            self._written = Version(*state.written)
        for key in values:
            place = piece_of(key)
            if place is not None:
                digest, piece = place
                self._pieces[digest] = max(self._pieces.get(digest, 0), piece + 1)
        self._dirty = dict.fromkeys(digest for digest in self._pieces if self._version(digest) > self._written)

    # ---- taking over -----------------------------------------------------------------------------------------------

    def claim(self, as_of: int) -> Change:
        """The record that makes this owner's epoch known, to be acknowledged before anything else is written."""
        return self._own_record()

    def settle(self, newest_epoch: int) -> Change:
        """Of a partition whose state does not know it: the newest epoch of rows in the sink, which may be those of an earlier
        state. Our own is above it from now on; returns the record that makes that known."""
        self.epoch = max(self.epoch, newest_epoch + 1)
        self.settled = True
        return self._own_record()

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
        return len(self._pieces)

    def _own_record(self) -> Change:
        self._revision += 1
        state = PartitionState(self._read_to, self.rolled_to, self._written, self.settled)
        return Change(partition_key(self.partition), encode_partition(self.version, state))

    def _version(self, digest: bytes) -> Version:
        return version_of(self._values[piece_key(digest, self._pieces[digest] - 1)])

    # ---- folding ---------------------------------------------------------------------------------------------------

    def fold(self, records: Sequence[Record], as_of: int, forwarded: Sequence[Record] = ()) -> Folded:
        """Judges and keeps what a flush has of the partition's messages, in order.

        Args:
            records: of the source topic.
            as_of: the as-of clock; no event is judged by it.
            forwarded: of the internal topic: messages that other books have sent.
        """
        out = Folded()
        opened: dict[bytes, _Opened] = {}
        for record in records:
            self.newest_timestamp = max(self.newest_timestamp, record.timestamp)
            place = (self.partition, record.offset)
            self._judge(record.value, place, record.timestamp, attempt_of(record), READ_HERE, opened, out)
        for record in forwarded:
            sent = _decode(record.value or b"")
            place = (sent.partition, sent.offset)
            if not self._came_before(place, record.offset):
                self._judge(sent.value, place, sent.timestamp, sent.attempt, record.offset, opened, out)
        if records:
            self._read_to = max(self._read_to, records[-1].offset + 1)
        out.changes.append(self._own_record())
        for digest, account in opened.items():
            if not account.touched:
                continue
            pieces = self._pieces.get(digest, 0)
            last = self._values[piece_key(digest, pieces - 1)] if pieces else None
            changes, self._pieces[digest] = append(digest, pieces, last, account.new, self.version)
            out.changes += changes
            self._dirty[digest] = None
        return out

    def _came_before(self, place: tuple[int, int], delivery: int) -> bool:
        """Whether a message was forwarded before: a crash came between its forward and its commit."""
        if len(self._arrived) > ARRIVED_REMEMBERED:
            self._arrived = dict(islice(self._arrived.items(), ARRIVED_REMEMBERED // 2, None))
        return self._arrived.setdefault(place, delivery) != delivery

    def _judge(
        self,
        value: bytes | None,
        place: tuple[int, int],
        timestamp: int,
        attempt: int,
        delivery: int,
        opened: dict[bytes, _Opened],
        out: Folded,
    ) -> None:
        """Decides about one message, here or by sending it home."""
        rules = self._rules
        try:
            event = read_billing_event(value, rules.reporting_currency, rules.max_message_bytes)
        except Unreadable as exc:
            _die(place, timestamp, attempt, exc.reason, exc.sentence, out)
            return
        digest = account_digest(event.account_id)
        if delivery == READ_HERE and digest not in self._pieces and rules.partition_of is not None:
            key = event.account_id.encode()
            if rules.partition_of(key) != self.partition:
                sent = ForwardedEvent(*place, timestamp, attempt, value or b"")
                out.forwards.append(Forward(key, _encode(sent), timestamp))
                return
        account = opened.get(digest)
        if account is None:
            account = opened[digest] = _Opened()
        known = self._known(digest, account, event.event_id)
        first = known is None or (known.partition == place[0] and known.offset > place[1])
        if first and event.occurred_at > (timestamp + DAY_MS) * 1000:
            # also when it comes again, after a crash, and what came behind it under its id is known
            _die(place, timestamp, attempt, Reason.FUTURE, FUTURE_SENTENCE, out)
            return
        if known is None:
            fact = Fact(event, *place, delivery)
            account.new.append(fact)
            self._ids.add(hash((digest, event.event_id)))
            if account.known is not None:
                account.known[event.event_id] = fact
        elif known.event.digest != event.digest:
            _die(place, timestamp, attempt, Reason.CONFLICT, CONFLICT_SENTENCE, out)
            return
        elif (known.partition, known.offset) == place and known.delivery != delivery:
            return  # forwarded twice; it was counted when it came first
        account.touched = True
        again = known is not None and (known.partition, known.offset) != place and attempt == 0
        out.tally.outcomes[Outcome.DUPLICATE if again else Outcome.APPLIED] += 1

    def _known(self, digest: bytes, account: _Opened, event_id: str) -> Fact | None:
        """The event of this id, if there is one; reads the account only where there may be."""
        if account.known is None:
            if digest not in self._indexed:
                if len(self._ids) > IDS_REMEMBERED:
                    self._ids.clear()
                    self._indexed.clear()
                self._ids.update(hash((digest, known)) for known in self._open(digest, account))
                self._indexed.add(digest)
            elif hash((digest, event_id)) in self._ids:
                self._open(digest, account)
        return None if account.known is None else account.known.get(event_id)

    def _open(self, digest: bytes, account: _Opened) -> dict[str, Fact]:
        """Reads the account, and what is new in it."""
        account.known = self._load(digest)
        for fact in account.new:
            account.known.setdefault(fact.event.event_id, fact)
        return account.known

    def _load(self, digest: bytes) -> dict[str, Fact]:
        known: dict[str, Fact] = {}
        for fact in read_facts(self._values, digest, self._pieces.get(digest, 0)):
            known.setdefault(fact.event.event_id, fact)
        return known

    # ---- figures ---------------------------------------------------------------------------------------------------

    def account(self, digest: bytes) -> Account:
        """An account, read from its events."""
        return read_account(self.events(digest))

    def events(self, digest: bytes) -> list[BillingEvent]:
        """All events of an account."""
        return [fact.event for fact in self._load(digest).values()]

    @property
    def accounts(self) -> Mapping[bytes, int]:
        """Digests of all accounts."""
        return self._pieces

    @property
    def dirty(self) -> int:
        """How many accounts have rows that are still to be written."""
        return len(self._dirty)

    def rows(self, limit: int, limit_events: int, cells: Cells, out: AccountRows) -> dict[bytes, Account]:
        """Makes the rows of accounts that are still to be written, up to so many of them or of their events. Call `written` with
        what it returns once they are accepted."""
        accounts: dict[bytes, Account] = {}
        events = 0
        for digest in islice(self._dirty, limit):
            if events >= limit_events:
                break
            facts = self.events(digest)
            events += len(facts)
            accounts[digest] = account = read_account(facts)
            out.add(account, cells, self.partition, self._version(digest).row)
        return accounts

    def written(self, accounts: Mapping[bytes, Account]) -> Change | None:
        """The rows of these accounts are accepted; returns the record for the changelog once no more are to be written."""
        for digest in accounts:
            self._dirty.pop(digest, None)
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
