"""All scopes whose key lives in one partition, and a shard of GitLab.com: judges messages in order, folds them, says what
changed.

A batch goes through `fold`, then `changes` (for the changelog) and `rows` (for the sink) of the same flush. Nothing here
reads a clock: the as-of day is passed in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

from schemas.dead_letters import Outcome, Reason, Unreadable
from schemas.ping import Ping, count, count_leaves, decode_identity, micros, text, users_by_rows
from schemas.reported import read_reported
from streams.ledger.counting import count_scopes, most_figures
from streams.ledger.directory import Directory
from streams.ledger.forwarding import (
    GITLAB_SCOPE,
    Case,
    Forward,
    ForwardedPing,
    Share,
    Word,
    arrived,
    decode,
    encode,
    forward_case,
    home_key,
    numbered,
)
from streams.ledger.judgement import FUTURE_DAYS, LATE_DAYS, entries_sentence, is_behind, is_future, received_day
from streams.ledger.kernels import WINDOW
from streams.ledger.names import Names
from streams.ledger.ownership import Ownership
from streams.ledger.plain.folding import PlainFold, PlainRows
from streams.ledger.plain.reading import PlainReader
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.reading import (
    GITLAB_COM,
    GROUP,
    SELF_MANAGED,
    Entry,
    Read,
    Reading,
    Told,
    Users,
    identify,
    scope_of,
)
from streams.ledger.records import (
    DAY_MS,
    DAY_US,
    Change,
    Letter,
    PingKey,
    PingRow,
    Record,
    ScopeKey,
    Tally,
    attempt_of,
)
from streams.ledger.scope import NEVER, Scope
from streams.ledger.sharing import Shares
from streams.ledger.state import (
    Packer,
    PartitionState,
    StateError,
    Version,
    decode_partition,
    digest_of,
    encode_partition,
    head_key,
    partition_key,
    scope_digest,
)
from streams.ledger.usage import Entries, Figures
from streams.ledger.watermarks import NO_DAY, Watermarks

EDITION_PLANS = {"EES": "starter", "EEP": "premium", "EEU": "ultimate"}

FUTURE_SENTENCE = (
    f"recorded_at lies more than {FUTURE_DAYS} day after the day the message was received - at `$.recorded_at`"
)
BEHIND_SENTENCE = (
    "the message was received more than 36 days before the newest one ahead of it in its partition - at `$`"
)

ALL = 2**31

BATCHES_REMEMBERED = 64
"""Ends of batches kept with the newest timestamp up to them: more than can come again after a crash."""


ARRIVED_REMEMBERED = 50_000
"""Forwarded messages that are known by their places: far more than one flush forwards."""


@dataclass(frozen=True)
class Rules:
    """Settings that decide about messages.

    Attributes:
        partitions: of the source topic, which has as many books.
        partition_of: the partition of a key; without it every message is at home where it is read.
        new_key: another pseudonym key than the state's is taken.
    """

    max_message_bytes: int = 8 * 1024 * 1024
    saas_hostnames: frozenset[str] = frozenset({"gitlab.com"})
    partitions: int = 1
    partition_of: Callable[[bytes], int] | None = None
    new_key: bool = False


@dataclass
class UsageRows:
    """Rows of `usage_day` as columns.

    scopes, shards, versions, repeats: one element a scope that was counted, which has the next `repeats` rows.
    days, lengths, counted: arrays, to be joined: day, elements and figures of each row; elements behind the figures are sessions
        alone.
    rows: how many there are.
    """

    scopes: list[ScopeKey] = field(default_factory=list)
    shards: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    days: list[npt.NDArray[np.int64]] = field(default_factory=list)
    lengths: list[npt.NDArray[np.int64]] = field(default_factory=list)
    counted: list[npt.NDArray[np.int64]] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    rows: int = 0

    def add(self, directory: Directory, asked: Sequence[tuple[Scope, int, int]], shard: int) -> None:
        """Counts the days first..last of scopes. Their version is that of the scope's state, and not of whoever counts them: of
        the rows of two owners those stand whose state stands."""
        if not asked:
            return
        scopes = [scope for scope, _, _ in asked]
        numbers = directory.numbers(scopes)
        first, last = (np.fromiter([one[part] for one in asked], np.int64, len(asked)) for part in (1, 2))
        most, rows = most_figures(directory.rows, numbers, first, last)
        figures = self.figures
        figures.reserve(most)
        days, lengths, counted = (np.empty(rows, np.int64) for _ in range(3))
        repeats = np.empty(len(asked), np.int64)
        figures.length, rows = count_scopes(
            directory.rows, numbers, first, last, figures.name, figures.dau, figures.wau, figures.mau, figures.sessions,
            figures.length, days, lengths, counted, repeats,
        )  # fmt: skip
        self.scopes += [scope.key for scope in scopes]
        self.shards += [shard] * len(scopes)
        self.versions += [Version(scope.epoch, scope.revision).row for scope in scopes]
        self.repeats += repeats.tolist()
        self.days.append(days[:rows])
        self.lengths.append(lengths[:rows])
        self.counted.append(counted[:rows])
        self.rows += rows


@dataclass
class _Touched:
    """What a flush does to one scope. `spread`: entries that are not for its ledger but for GitLab.com's shards."""

    entries: list[Entry] = field(default_factory=list)
    spread: list[Entry] = field(default_factory=list)
    sessions: list[tuple[int, str, str, int]] = field(default_factory=list)
    first: int = 2**31 - 1
    last: int = NEVER
    new_ping: bool = False
    again: bool = False
    told: Told | None = None


@dataclass
class Folded:
    """What came of a batch.

    letters, forwards: for the dead-letter and the internal topic, to be acknowledged first.
    changes: for the changelog, to be acknowledged before `rows` and `pings` go to the sink.
    touched: scopes and the range of days whose rows have to be written.
    plain: rows of pings that went the short way, beside `pings`.
    """

    letters: list[Letter] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)
    pings: list[PingRow] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    touched: list[tuple[Scope, int, int]] = field(default_factory=list)
    plain: PlainRows | None = None
    tally: Tally = field(default_factory=Tally)


class Book(Ownership):
    """The scopes of one partition.

    Args:
        partition: its number.
        values: the partition's values in the table, as recovered; kept and read when a scope is first asked for.
        generation: of the consumer group in which the partition is owned.
    """

    def __init__(
        self,
        partition: int,
        values: Mapping[bytes, bytes],
        names: Names,
        pseudonymiser: Pseudonymiser,
        rules: Rules,
        generation: int = 0,
    ) -> None:
        super().__init__(generation)
        self.partition = partition
        self._names = names
        self._pseudonymiser = pseudonymiser
        self._rules = rules
        self._packer = Packer()
        self.directory = Directory()
        self._reader = PlainReader(pseudonymiser, rules.max_message_bytes)
        self._plain = PlainFold(
            partition, self.directory, names, self._reader, self._packer, self._find, self._plain_key, self._forget
        )
        self._scopes: dict[ScopeKey, Scope] = {}
        self._stored: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        for key, value in values.items():
            digest = digest_of(key)
            if digest is not None:
                self._stored[digest][key] = value
        self._revision = 0
        self._newest_before: list[tuple[int, int]] = []
        self.rolled_to = NEVER
        self.newest_timestamp = NEVER
        self._next_offset: int | None = None
        self._flush = 0
        self._watermarks = Watermarks(partition, rules.partitions)
        self._homes: dict[tuple[ScopeKey, str], bool] = {}
        self._arrived: dict[tuple[int, int], int] = {}
        own = values.get(partition_key(partition))
        if own is not None:
            version, state = decode_partition(own)
            self._check_key(state.fingerprint)
            self.follow(version, state.generation, state.settled)
            self._newest_before = state.newest_before
            if state.newest_before:
                self.newest_timestamp = state.newest_before[-1][1]
            self.rolled_to = state.rolled_to
            self._watermarks = Watermarks(partition, rules.partitions, state.heard)

    # ---- taking over -----------------------------------------------------------------------------------------------

    def _check_key(self, fingerprint: bytes) -> None:
        if fingerprint not in (b"", self._pseudonymiser.fingerprint) and not self._rules.new_key:
            raise StateError(
                "the pseudonym key is not the one that the state was made with: every user would count as a new one and MAU "
                "would double for 28 days; set PINGSTREAM_PSEUDONYM_KEY (or the file pseudonym.key in the data folder) to the "
                "old key, or start once with --new-pseudonym-key to go on with the new one"
            )

    def claim(self, as_of: int) -> Change:
        """The record that makes this owner's epoch known, to be acknowledged before anything else is written."""
        self._watermarks.begin(as_of)
        return self._own_record()

    def own(self, late: Iterable[bytes]) -> list[Change]:
        """Records that an older owner wrote after its time, as ours: each scope they belong to, as a new base."""
        changes: list[Change] = []
        for digest in {found for found in map(digest_of, late) if found is not None}:
            stored = self._stored.get(digest)
            if stored is not None and head_key(digest) in stored:
                scope = self._packer.load(digest, self._stored.pop(digest), self._names)
                self._scopes[scope.key] = scope
                scope.revision += 1
                if scope.ledger.reach >= 0:
                    scope.dirty_from = min(scope.dirty_from, scope.ledger.first_day)
                changes += self._packer.changes(scope, self.epoch, None, *NOTHING_NEW, [])
        return changes

    @property
    def version(self) -> Version:
        """Version of what is known of the partition as a whole."""
        return Version(self.epoch, self._revision)

    @property
    def read_to(self) -> int | None:
        """The offset after the last message that was read by any owner; None when none was."""
        return self._newest_before[-1][0] if self._newest_before else None

    @property
    def scopes(self) -> int:
        """How many installations and groups there are, read or not."""
        shard = GITLAB_SCOPE in self._scopes or scope_digest(GITLAB_SCOPE) in self._stored
        return len(self._scopes) + len(self._stored) - shard

    def _own_record(self) -> Change:
        self._revision += 1
        state = PartitionState(
            self._newest_before,
            self.rolled_to,
            self._watermarks.heard,
            self._pseudonymiser.fingerprint,
            self.settled,
            self.generation,
        )
        return Change(partition_key(self.partition), encode_partition(self.epoch, self._revision, state))

    def _scope(self, key: ScopeKey) -> Scope:
        scope = self._scopes.get(key)
        if scope is None:
            digest = scope_digest(key)
            stored = self._stored.pop(digest, None)
            if stored is not None and head_key(digest) in stored:
                scope = self._packer.load(digest, stored, self._names)
            else:
                scope = Scope(key, digest)
            self._scopes[key] = scope
        return scope

    def _find(self, key: ScopeKey) -> Scope | None:
        return self._scope(key) if self._knows(key) else None

    def _plain_key(self, uuid: str, hostname: str) -> tuple[ScopeKey, PingKey] | None:
        """The scope and the name of an installation that is at home here; None of any other."""
        key = PingKey(uuid, hostname, "")
        scope = scope_of(key, self._rules.saas_hostnames)
        return (scope, key) if scope.population == SELF_MANAGED and self._lives_here(scope, key) else None

    def _knows(self, key: ScopeKey) -> bool:
        return key in self._scopes or scope_digest(key) in self._stored

    def read_some(self, limit: int) -> bool:
        """Reads scopes that were never asked for from state, at most `limit`. False when there are none left."""
        for digest in list(islice(self._stored, limit)):
            stored = self._stored.pop(digest)
            if head_key(digest) in stored:
                scope = self._packer.load(digest, stored, self._names)
                self._scopes[scope.key] = scope
        return bool(self._stored)

    def all_scopes(self) -> Collection[Scope]:
        """Every scope."""
        while self.read_some(ALL):
            pass
        return self._scopes.values()

    @property
    def read_scopes(self) -> Collection[Scope]:
        """Scopes that have been read from state."""
        return self._scopes.values()

    # ---- folding ---------------------------------------------------------------------------------------------------

    def fold(self, records: Sequence[Record], as_of: int, forwarded: Sequence[Record] = ()) -> Folded:
        """Judges and folds what a flush has of the partition's messages, in order.

        Args:
            records: of the source topic; contiguous, the first follows the last batch's last.
            as_of: the as-of clock, a day.
            forwarded: of the internal topic: what other books, and this one, have sent.
        """
        out = Folded()
        self._flush += 1
        touched: dict[ScopeKey, _Touched] = {}
        floor = self._watermarks.floor  # before the flush: words in it come behind facts in it
        sent = [(record.offset, decode(record.value or b"")) for record in forwarded]
        reading = Reading(
            self._last_told, self._pseudonymiser, self._rules.max_message_bytes, self._rules.saas_hostnames
        )
        if records:
            elsewhere = {ScopeKey(one.population, one.scope_id) for _, one in sent if isinstance(one, ForwardedPing)}
            users = self._fold_source(records, elsewhere, reading, touched, floor, as_of, out)
        else:
            users = reading.users()
        if sent:
            self._take_forwarded(sent, users, touched, as_of, out)
        shares = self._fold_touched(touched, users, as_of, floor, out)
        if records or forwarded:
            out.forwards += shares.forwards(
                self._rules.partitions, max(record.timestamp for record in (*records, *forwarded))
            )
            self._tell_watermark(as_of, out)
        out.changes.append(self._own_record())
        return out

    def _fold_source(
        self,
        records: Sequence[Record],
        elsewhere: Collection[ScopeKey],
        reading: Reading,
        touched: dict[ScopeKey, _Touched],
        floor: int,
        as_of: int,
        out: Folded,
    ) -> Users:
        """Messages of the source partition: the plain ones by the short way, all others one by one.

        Args:
            elsewhere: scopes that the flush has something of from another partition.

        Returns:
            The users of the entries that are to be folded.
        """
        if records[0].offset != self._next_offset:
            self._find_newest_before(records[0].offset)
        newest = np.maximum.accumulate([self.newest_timestamp, *(record.timestamp for record in records)])
        pings = self._reader.read([record.value for record in records])
        seats = self._plain.choose(records, pings, newest[:-1], floor)
        self._plain.leave(seats, elsewhere)
        long = np.flatnonzero(seats < 0).tolist()
        read = reading.read([records[at] for at in long])
        self._plain.leave(seats, self._scopes_of(records, long, read))
        more = sorted(set(np.flatnonzero(seats < 0).tolist()) - set(long))
        messages = dict(zip([*long, *more], [*read, *reading.read([records[at] for at in more])], strict=True))
        users = reading.users()
        for at in sorted(messages):
            self._take(records[at], messages[at], int(newest[at]), users, touched, out)
        if len(messages) < len(records):
            applied, new = self._plain.fold(
                records, pings, seats, self._flush, self.epoch, floor, self.rolled_to, as_of
            )
            self._scopes.update((scope.key, scope) for scope in new)
            out.changes += applied.changes
            out.touched += applied.touched
            out.plain = applied.rows
            out.tally.activities += applied.activities
            out.tally.outcomes[Outcome.APPLIED] += len(applied.rows.recorded_at)
        self.newest_timestamp = int(newest[-1])
        self._next_offset = records[-1].offset + 1
        self._newest_before = [
            *self._newest_before[1 - BATCHES_REMEMBERED :],
            (self._next_offset, self.newest_timestamp),
        ]
        return users

    def _scopes_of(
        self, records: Sequence[Record], places: Sequence[int], read: Sequence[Read | Unreadable]
    ) -> set[ScopeKey]:
        """The scopes of messages, also of those that are invalid and yet name a ping."""
        found = {message.scope for message in read if isinstance(message, Read)}
        for at, message in zip(places, read, strict=True):
            if isinstance(message, Unreadable) and (identified := self._identified(records[at], message)) is not None:
                found.add(identified[0])
        return found

    def _take_forwarded(
        self,
        sent: Sequence[tuple[int, ForwardedPing | Share | Word]],
        users: Users,
        touched: dict[ScopeKey, _Touched],
        as_of: int,
        out: Folded,
    ) -> None:
        """What other books sent, by its offset; its entries are numbered behind those that were read here."""
        ids: list[npt.NDArray[np.uint64]] = []
        for offset, found in sent:
            number = len(users.starts) + len(ids)
            if isinstance(found, ForwardedPing):
                if self._came_before((found.partition, found.offset), offset):
                    out.tally.passed += 1
                    continue
                case, some = arrived(found, offset, number)
                self._settle(case, touched, out)
            elif isinstance(found, Share):
                entries, some = numbered(found.entries, number)
                touched.setdefault(GITLAB_SCOPE, _Touched()).entries += entries
                out.tally.passed += 1
            else:
                self._watermarks.hear(found.partition, found.source, found.low, as_of)
                out.tally.passed += 1
                continue
            ids += some
        users.extend(ids)

    def _came_before(self, place: tuple[int, int], delivery: int) -> bool:
        """Whether a message was forwarded before: a crash came between its forward and its commit."""
        if len(self._arrived) > ARRIVED_REMEMBERED:
            self._arrived = dict(islice(self._arrived.items(), ARRIVED_REMEMBERED // 2, None))
        return self._arrived.setdefault(place, delivery) != delivery

    def _tell_watermark(self, as_of: int, out: Folded) -> None:
        """Our word to the other books when it has changed, behind everything that it is about."""
        newest = self.newest_timestamp
        word = self._watermarks.move(newest // DAY_MS if newest > NEVER else NO_DAY, as_of)
        if word is None:
            return
        value = encode(Word(self.partition, *word))
        out.forwards += [Forward(b"", value, max(newest, 0), partition) for partition in range(self._rules.partitions)]

    def _take(
        self,
        record: Record,
        message: Read | Unreadable,
        newest_before: int,
        users: Users,
        touched: dict[ScopeKey, _Touched],
        out: Folded,
    ) -> None:
        case = self._judge(record, message, newest_before)
        if case is None:
            assert isinstance(message, Unreadable)
            place = self.partition, record.offset
            self._dead(place, record.timestamp, attempt_of(record), message.reason, message.sentence, out)
        elif self._lives_here(case.scope, case.key):
            self._settle(case, touched, out)
        else:
            out.forwards.append(forward_case(case, users.ids, users.starts, users.lengths))
            out.tally.forwarded += 1

    def _find_newest_before(self, offset: int) -> None:
        """The newest timestamp ahead of a message, as it was when the message came first."""
        self._newest_before = [(start, newest) for start, newest in self._newest_before if start <= offset]
        self.newest_timestamp = self._newest_before[-1][1] if self._newest_before else NEVER

    def _last_told(self, key: ScopeKey) -> Told | None:
        scope = self._scopes.get(key)
        return scope.told if scope is not None else None

    def _lives_here(self, scope: ScopeKey, key: PingKey) -> bool:
        """Whether the scope's key lives in this partition, whatever key the message came under."""
        partition_of = self._rules.partition_of
        if partition_of is None:
            return True
        which = scope, key.uuid
        home = self._homes.get(which)
        if home is None:
            home = self._homes[which] = partition_of(home_key(scope, key)) == self.partition
        return home

    def _identified(self, record: Record, message: Unreadable) -> tuple[ScopeKey, PingKey, int] | None:
        """The scope, the name and `recorded_at` of a message that is invalid and yet names a ping."""
        identity = decode_identity(record.value or b"") if message.reason is Reason.INVALID else None
        if identity is None:
            return None
        ping = Ping(identity.uuid, identity.recorded_at, identity.hostname, identity.namespace_id)
        return *identify(ping, self._rules.saas_hostnames), micros(ping.recorded_at)

    def _judge(self, record: Record, message: Read | Unreadable, newest_before: int) -> Case | None:
        """Everything but whether the ping was sent before; None when the message names no ping."""
        place, attempt = (self.partition, record.offset), attempt_of(record)
        if isinstance(message, Unreadable):
            identified = self._identified(record, message)
            if identified is None:
                return None
            verdict = message.reason, message.sentence
            return Case(place, record.timestamp, attempt, *identified, verdict, [], None, 0, 0, None)
        case = Case(
            place,
            record.timestamp,
            attempt,
            message.scope,
            message.key,
            message.recorded_at,
            None,
            [],
            None,
            0,
            0,
            None,
        )
        received = received_day(record.timestamp)
        if message.error is not None:
            case.verdict = Reason.INVALID, message.error
        elif is_future(message.recorded_at // DAY_US, received):
            case.verdict = Reason.FUTURE, FUTURE_SENTENCE
        elif is_behind(record.timestamp, newest_before):
            case.verdict = Reason.LATE, BEHIND_SENTENCE
        else:
            self._take_out(case, message, received - LATE_DAYS, received + FUTURE_DAYS)
            case.row = _ping_row(record, message)
        return case

    def _take_out(self, case: Case, message: Read, oldest: int, newest: int) -> None:
        """Leaves the entries of the days oldest..newest in the case and counts the others."""
        days = [entry.day for entry in message.entries]
        if not days or (min(days) >= oldest and max(days) <= newest):
            case.entries, case.told = message.entries, message.told
            return
        for entry in message.entries:
            if entry.day < oldest:
                case.late += entry.count
            elif entry.day > newest:
                case.future += entry.count
            else:
                case.entries.append(entry)

    def _settle(self, case: Case, touched: dict[ScopeKey, _Touched], out: Folded) -> None:
        """Gives a case its outcome: duplicate, dead or applied."""
        if case.row is None and not self._knows(case.scope):
            assert case.verdict is not None
            self._dead(case.place, case.timestamp, case.attempt, *case.verdict, out)
            return
        scope = self._scope(case.scope)
        place = *case.place, case.delivery
        again = False
        is_known = (case.key, case.recorded_at) in scope.pings
        if is_known:
            known = scope.pings.places(case.key, case.recorded_at, case.place[0])
            again = place in known
            if not again and any(other[:2] == case.place for other in known):
                out.tally.passed += 1  # forwarded twice: a crash came between the forward and the commit
                return
            # A dead message ahead of the one that was applied comes again, after a crash, as what it was.
            was_dead = case.row is None and bool(known) and min(known)[1] > case.place[1]
            if not again and not case.attempt and not was_dead:
                out.tally.outcomes[Outcome.DUPLICATE] += 1
                return
        if case.row is None:
            assert case.verdict is not None
            self._dead(case.place, case.timestamp, case.attempt, *case.verdict, out)
            return
        work = touched.get(case.scope)
        if work is None:
            work = touched[case.scope] = _Touched()
        self._apply(case, work)
        if is_known:
            scope.pings.add_again(case.key, case.recorded_at, place, self._flush)
            work.again = True
            if case.entries:
                work.first = min(work.first, *(entry.day for entry in case.entries))
                work.last = max(work.last, *(entry.day for entry in case.entries))
        else:
            scope.pings.add(case.key, case.recorded_at, place, self._flush)
        if not again:
            work.new_ping = True
        if case.late or case.future:
            reason = Reason.FUTURE if case.future else Reason.LATE
            out.letters.append(
                Letter(case.place, case.timestamp, reason, entries_sentence(case.late, case.future), case.attempt)
            )
            out.tally.reasons[reason] += 1
        out.tally.unknown += case.row.failed_counters + case.row.unknown
        out.pings.append(case.row)
        out.tally.outcomes[Outcome.APPLIED] += 1

    def _dead(
        self, place: tuple[int, int], timestamp: int, attempt: int, reason: Reason, sentence: str, out: Folded
    ) -> None:
        out.letters.append(Letter(place, timestamp, reason, sentence, attempt))
        out.tally.outcomes[Outcome.DEAD] += 1
        out.tally.reasons[reason] += 1

    def _apply(self, case: Case, work: _Touched) -> None:
        sums: dict[tuple[int, str, str], int] = {}
        new = work.spread if case.scope.population == GITLAB_COM else work.entries
        for entry in case.entries:
            if not entry.folded:
                entry.folded = True
                new.append(entry)
            if entry.sessions is not None:
                name = entry.day, entry.stage, entry.feature
                sums[name] = sums.get(name, 0) + entry.sessions
        if sums:
            work.sessions.extend((*name, number) for name, number in sums.items())
        if case.told is not None:
            work.told = case.told

    def _fold_touched(
        self, touched: dict[ScopeKey, _Touched], users: Users, as_of: int, floor: int, out: Folded
    ) -> Shares:
        order: list[Entry] = []
        columns: list[int] = []
        spans: list[tuple[Scope, _Touched, int, int]] = []
        for key, work in touched.items():
            scope = self._scope(key)
            scope.stale = True
            if floor > scope.ledger.floor:
                self._forget(scope, floor)
            if scope.ledger.floor > 0:
                self._leave_out_forgotten(scope.ledger.floor, work, out)
            lo = len(order)
            known, column = scope.ledger.columns, scope.ledger.column
            order.extend(work.entries)
            for entry in work.entries:
                number = known.get((entry.stage, entry.feature))
                columns.append(column(entry.stage, entry.feature, self._names) if number is None else number)
            spans.append((scope, work, lo, len(order)))
        entries = _columns(order, columns, users) if order else None
        shares = Shares()
        for scope, work, lo, hi in spans:
            self._fold_scope(scope, work, entries, lo, hi, as_of, shares, out)
            if work.spread:
                out.tally.activities += _spread(work.spread, users, shares)
        return shares

    def _leave_out_forgotten(self, floor: int, work: _Touched, out: Folded) -> None:
        """Days that have left the ledger are final: what comes again of them is in its rows already."""
        if any(entry.day < floor for entry in work.entries):
            kept = [entry for entry in work.entries if entry.day >= floor]
            out.tally.forgotten += len(work.entries) - len(kept)
            work.entries = kept
        work.sessions = [told for told in work.sessions if told[0] >= floor]

    def _fold_scope(
        self,
        scope: Scope,
        work: _Touched,
        entries: Entries | None,
        lo: int,
        hi: int,
        as_of: int,
        shares: Shares,
        out: Folded,
    ) -> None:
        ledger = scope.ledger
        rows_from = entries.new_total if entries is not None else 0
        changed: npt.NDArray[np.int64] = np.empty(0, np.int64)
        if entries is not None and hi > lo:
            ledger.fold(entries, lo, hi)
            changed = lo + np.flatnonzero(entries.new_counts[lo:hi])
            if scope.key != GITLAB_SCOPE:
                out.tally.activities += int(entries.lengths[lo:hi].sum())
        rows = entries.new_rows[rows_from : entries.new_total] if entries is not None else np.empty(0, np.int32)
        if entries is not None and scope.key.population == GROUP and len(changed):
            days = entries.days[changed].tolist()
            names = [ledger.features[column] for column in entries.columns[changed].tolist()]
            cells = [(day, stage, feature) for day, (stage, feature) in zip(days, names, strict=True)]
            shares.add(cells, entries.new_counts[changed], ledger.users[rows])
        raised = self._raise_sessions(scope, work) if work.sessions else []
        days = [day for day, _, _ in raised]
        if entries is not None and len(changed):
            found = entries.days[changed]
            days += [int(found.min()), int(found.max())]
        if work.again and work.last > NEVER:
            days += [work.first, work.last]
        self._mark(scope, days, as_of, out)
        if len(changed) or raised or work.new_ping or scope.forgot:
            scope.revision += 1
            out.changes += self._packer.changes(scope, self.epoch, entries, changed, rows, raised)
            scope.forgot = False
        if work.told is not None:
            scope.told = work.told
        for entry in work.entries:
            entry.users = None

    def _raise_sessions(self, scope: Scope, work: _Touched) -> list[tuple[int, int, int]]:
        best: dict[tuple[int, int], int] = {}
        for day, stage, feature, number in work.sessions:
            cell = day, scope.ledger.column(stage, feature, self._names)
            best[cell] = max(best.get(cell, -1), number)
        return [
            (day, column, number)
            for (day, column), number in best.items()
            if scope.ledger.raise_sessions(day, column, number)
        ]

    def _forget(self, scope: Scope, floor: int) -> None:
        """Lets days go that nobody can tell anything about any more, once the rows that reach back to them are written: those
        of the 28 days from a day on that it is in the window of, and of the next, on which it may fall to 0."""
        written = max(scope.written_to, self.rolled_to)
        if scope.unsure:  # the rows of its last flush may have to be written again
            written = min(written, scope.dirty_from - 1)
        scope.final_before = min(floor, written + 1 - WINDOW)
        if scope.ledger.has_pane_before(scope.final_before) and scope.ledger.forget_before(scope.final_before):
            scope.forgot = scope.stale = True
            scope.base = None

    def _mark(self, scope: Scope, days: list[int], as_of: int, out: Folded) -> None:
        """Which rows have to be written: those that a changed day reaches, those the horizon moves over, and, of a scope that
        was read back from state, those that its last flush may not have written."""
        ledger = scope.ledger
        if ledger.reach < 0:
            return
        before = max(scope.written_to, self.rolled_to)
        horizon = max(before, min(ledger.reach, as_of))
        scope.written_to = max(scope.written_to, min(ledger.reach, as_of))
        again = scope.unsure and scope.dirty_from > NEVER
        scope.unsure = False
        first = min([*days, before + 1, *([scope.dirty_from] if again else [])])
        last = horizon if again or horizon > before else min(max(days, default=NEVER) + WINDOW, horizon)
        first, last = max(first, ledger.first_day, ledger.floor + WINDOW), min(last, ledger.last_day)
        if first <= last:
            out.touched.append((scope, first, last))
            scope.dirty_from = first

    # ---- figures ---------------------------------------------------------------------------------------------------

    def rows(self, folded: Folded, out: UsageRows) -> None:
        """Counts the rows of the scopes a batch touched."""
        # A new base may have let days go since.
        asked = [(scope, max(first, scope.ledger.floor + WINDOW), last) for scope, first, last in folded.touched]
        out.add(self.directory, asked, self.partition)

    def needs_roll(self, as_of: int) -> bool:
        """Whether the as-of clock is ahead of the rows."""
        return as_of > self.rolled_to

    def roll(self, scopes: Iterable[Scope], as_of: int, out: UsageRows) -> None:
        """Counts the rows of scopes up to the as-of clock: figures go down by themselves as users fall silent.

        Call `rolled` once the rows of all scopes are accepted.
        """
        asked = []
        for scope in scopes:
            ledger = scope.ledger
            first = max(scope.written_to, self.rolled_to) + 1
            last = min(as_of, ledger.last_day)
            if ledger.reach >= 0 and first <= last:
                asked.append((scope, max(first, ledger.first_day), last))
        out.add(self.directory, asked, self.partition)

    def retire(self, scopes: Iterable[Scope]) -> list[Change]:
        """Lets days go from scopes that no message may ever touch again; returns records for the changelog.

        To be called when everything is read: what an earlier owner may not have written has come again.
        """
        floor = self._watermarks.floor
        changes: list[Change] = []
        for scope in scopes:
            scope.stale |= scope.unsure
            scope.unsure = False
            if floor > scope.ledger.floor:
                self._forget(scope, floor)
            if scope.forgot:
                scope.stale = True  # its new base lets go of more
                scope.revision += 1
                scope.forgot = False
                changes += self._packer.changes(scope, self.epoch, None, *NOTHING_NEW, [])
        return changes

    def rolled(self, as_of: int) -> Change:
        """Remembers that rows are written up to the as-of clock; returns the record for the changelog."""
        self.rolled_to = as_of
        return self._own_record()


NOTHING_NEW = np.empty(0, np.int64), np.empty(0, np.int32)


def _spread(entries: list[Entry], users: Users, shares: Shares) -> int:
    """Hands out the users of entries of GitLab.com's own pings; returns their number."""
    numbers = np.array([entry.number for entry in entries], np.int64)
    lengths = users.lengths[numbers]
    starts = users.starts[numbers].tolist()
    ids = [users.ids[start : start + length] for start, length in zip(starts, lengths.tolist(), strict=True)]
    shares.add([(entry.day, entry.stage, entry.feature) for entry in entries], lengths, np.concatenate(ids))
    for entry in entries:
        entry.users = None
    return int(lengths.sum())


def _columns(order: list[Entry], columns: list[int], users: Users) -> Entries:
    count = len(order)
    numbers = np.fromiter([entry.number for entry in order], np.int64, count)
    return Entries(
        np.fromiter([entry.day for entry in order], np.int64, count),
        np.fromiter(columns, np.int64, count),
        users.starts[numbers],
        users.lengths[numbers],
        users.ids,
    )


def _ping_row(record: Record, message: Read) -> PingRow:
    ping, key, scope = message.ping, message.key, message.scope
    edition = text(ping.edition) or ""
    plan = ping.namespace_plan or text(ping.license_plan)
    known, failed = count_leaves(ping.counts)
    reported = read_reported(ping)
    return PingRow(
        key.uuid,
        key.hostname,
        key.namespace_id,
        message.recorded_at,
        record.timestamp,
        scope.population,
        scope.scope_id,
        text(ping.version) or "",
        edition,
        plan or EDITION_PLANS.get(edition, "free"),
        count(ping.active_user_count),
        count(ping.license_billable_users),
        count(ping.license_user_count),
        count(ping.historical_max_users),
        known,
        failed,
        text(ping.license_subscription_id) or "",
        text(ping.license_sha256) or text(ping.license_md5) or "",
        reported.figures if reported else None,
        reported.unknown if reported else 0,
        users_by_rows(ping),
    )
