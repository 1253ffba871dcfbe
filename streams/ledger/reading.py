"""From a batch of messages to pings with parsed activity: everything that can be done before order matters.

A ping repeats the days before: the entries with which it begins are those with which the scope's last ping ended (or, newest
first, the other way round). They are found by comparing bytes and need no decoding: the same bytes say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.dead_letters import Reason, Unreadable
from schemas.ping import (
    EPOCH_ORDINAL,
    Activity,
    Ping,
    activity_sentence,
    decode_activities,
    decode_activity,
    decode_ping,
    decode_users,
    hostname,
    micros,
)
from streams.ledger import kernels
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.records import DAY_US, PingKey, Record, ScopeKey

SELF_MANAGED, GITLAB_COM, GROUP = "self_managed", "gitlab_com", "group"


class Entry(msgspec.Struct, gc=False):
    """An activity entry: who used a feature on a day.

    Attributes:
        users: their JSON, None once it is folded.
        number: where its users are in the batch that brought it.
        count: how many entries of the ping it stands for: session-level ones are gathered.
        folded: in the ledger; the same bytes again need no more than its day and sessions.
    """

    day: int
    stage: str
    feature: str
    sessions: int | None
    users: msgspec.Raw | list[int | str] | None
    number: int
    count: int = 1
    folded: bool = False


class Told(NamedTuple):
    """What a ping told in the compact form: the JSON of each entry, and the entries."""

    texts: list[bytes]
    entries: list[Entry]


class Read:
    """One message that is a ping. `told`: its compact entries, which come first in `entries`; None when it has none."""

    __slots__ = ("entries", "error", "key", "ping", "recorded_at", "scope", "told")

    def __init__(self, ping: Ping, scope: ScopeKey, key: PingKey, recorded_at: int) -> None:
        self.ping = ping
        self.scope = scope
        self.key = key
        self.recorded_at = recorded_at
        self.entries: list[Entry] = []
        self.told: Told | None = None
        self.error: str | None = None


class Users:
    """The users of a batch's new entries: those of entry e are ids[starts[e] : starts[e] + lengths[e]], pseudonymous."""

    __slots__ = ("errors", "ids", "lengths", "starts")

    def __init__(self, entries: list[Entry], pseudonymiser: Pseudonymiser) -> None:
        self.errors: dict[int, msgspec.MsgspecError] = {}
        count = len(entries)
        listed: dict[int, list[int | str]] = {}
        raw: list[msgspec.Raw] = []
        for entry in entries:
            if isinstance(entry.users, list):
                listed[entry.number] = entry.users
                raw.append(_NO_USERS)
            else:
                raw.append(entry.users or _NO_USERS)
        sizes = np.fromiter(map(len, raw), np.int64, count)
        ends = np.cumsum(sizes)
        text = np.frombuffer(b"".join(raw), np.uint8)
        ids = np.empty(len(text) // 2 + count + 1, np.uint64)
        lengths = np.empty(count, np.int64)
        plain = np.empty(count, np.bool_)
        total = kernels.parse_ids(text, ends - sizes, ends, ids, lengths, plain)
        ids = ids[:total]
        pseudonymiser.integers(ids)
        starts = np.cumsum(lengths) - lengths
        for number in np.flatnonzero(~plain).tolist():
            try:
                listed[number] = decode_users(raw[number])
            except msgspec.MsgspecError as exc:
                self.errors[number] = exc
        if listed:
            more = [_pseudonyms(users, pseudonymiser) for users in listed.values()]
            numbers = np.fromiter(listed, np.int64, len(more))
            sizes = np.fromiter(map(len, more), np.int64, len(more))
            lengths[numbers] = sizes
            starts[numbers] = len(ids) + np.cumsum(sizes) - sizes
            ids = np.concatenate([ids, *more])
        self.ids, self.starts, self.lengths = ids, starts, lengths

    def extend(self, more: list[npt.NDArray[np.uint64]]) -> None:
        """Appends entries whose users are pseudonymous already."""
        lengths = np.fromiter(map(len, more), np.int64, len(more))
        self.starts = np.concatenate([self.starts, len(self.ids) + np.cumsum(lengths) - lengths])
        self.lengths = np.concatenate([self.lengths, lengths])
        self.ids = np.concatenate([self.ids, *more])


_NO_USERS = msgspec.Raw(b"[]")


def _pseudonyms(users: list[int | str], pseudonymiser: Pseudonymiser) -> npt.NDArray[np.uint64]:
    integers = np.array([user for user in users if isinstance(user, int)], np.uint64)
    pseudonymiser.integers(integers)
    strings = [pseudonymiser.string(user) for user in users if isinstance(user, str)]
    return np.concatenate([integers, np.array(strings, np.uint64)])


class Reading:
    """Decodes messages of a batch.

    Args:
        last_told: gives what a scope's last ping told.
        saas_hostnames: host names of GitLab.com, in lower case.
    """

    def __init__(
        self,
        last_told: Callable[[ScopeKey], Told | None],
        pseudonymiser: Pseudonymiser,
        max_bytes: int,
        saas_hostnames: frozenset[str],
    ) -> None:
        self._last_told = last_told
        self._pseudonymiser = pseudonymiser
        self._max_bytes = max_bytes
        self._saas_hostnames = saas_hostnames
        self._fresh: list[Entry] = []
        self._in_batch: dict[ScopeKey, Told] = {}
        self._read: list[Read] = []

    def read(self, records: Sequence[Record]) -> list[Read | Unreadable]:
        """For each record what was read or why it could not be. Users of entries are not, before `users` is called."""
        out: list[Read | Unreadable] = []
        values = [record.value if record.value is not None else b"" for record in records]
        for value, openers in zip(values, _openers(values), strict=True):
            try:
                ping = decode_ping(value, self._max_bytes, openers, _nesting)
                read = Read(ping, *identify(ping, self._saas_hostnames), micros(ping.recorded_at))
                if ping.activity:
                    before = self._in_batch.get(read.scope) or self._last_told(read.scope)
                    read.told = self._in_batch[read.scope] = _read_activity(ping.activity, before, self._fresh)
                    read.entries += read.told.entries
                if ping.sessions:
                    _read_sessions(read, self._fresh)
            except Unreadable as exc:
                out.append(exc)
            else:
                out.append(read)
                self._read.append(read)
        return out

    def users(self) -> Users:
        """The users of the entries that are new, in all that was read. Errors in an entry's users are in `Read.error`."""
        users = Users(self._fresh, self._pseudonymiser)
        if users.errors:
            for read in self._read:
                _carry_error(read, users)
        return users


def _openers(values: list[bytes]) -> list[int]:
    counts = np.empty(len(values), np.int64)
    ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    kernels.count_openers(np.frombuffer(b"".join(values), np.uint8), ends, counts)
    found: list[int] = counts.tolist()
    return found


def _nesting(value: bytes) -> int:
    deepest: int = kernels.nesting(np.frombuffer(value, np.uint8))
    return deepest


def identify(ping: Ping, saas_hostnames: frozenset[str]) -> tuple[ScopeKey, PingKey]:
    """The scope that a ping counts in, and its name."""
    key = PingKey(ping.uuid, hostname(ping.hostname), ping.namespace_id or "")
    return scope_of(key, saas_hostnames), key


def scope_of(key: PingKey, saas_hostnames: frozenset[str]) -> ScopeKey:
    """The scope that a ping of this name counts in."""
    if key.hostname.lower() not in saas_hostnames:
        return ScopeKey(SELF_MANAGED, f"{key.uuid}@{key.hostname}")
    return ScopeKey(GROUP, key.namespace_id) if key.namespace_id else ScopeKey(GITLAB_COM, "gitlab.com")


def _read_activity(activity: list[msgspec.Raw], before: Told | None, fresh: list[Entry]) -> Told:
    texts = list(map(bytes, activity))
    head: list[Entry] = []
    tail: list[Entry] = []
    if before is not None:
        head = _repeated(texts, before.texts, before.entries)
        if not head:
            tail = before.entries[: _overlap(before.texts, texts)]
    lo, hi = len(head), len(texts) - len(tail)
    new = _decode(texts, lo, hi, len(fresh))
    fresh += new
    return Told(texts, [*head, *new, *tail])


def _repeated(texts: list[bytes], old: list[bytes], entries: list[Entry]) -> list[Entry]:
    """The last of the old entries, where the new texts begin with their texts."""
    overlap = _overlap(texts, old)
    return entries[len(entries) - overlap :] if overlap else []


def _overlap(later: list[bytes], earlier: list[bytes]) -> int:
    """With how many texts `later` begins and `earlier` ends."""
    try:
        at = earlier.index(later[0])
    except ValueError:
        return 0
    overlap = len(earlier) - at
    return overlap if later[:overlap] == earlier[at:] else 0


def _decode(texts: list[bytes], lo: int, hi: int, number: int) -> list[Entry]:
    """Entries lo..hi, numbered from `number`."""
    try:
        decoded = decode_activities(b"[" + b",".join(texts[lo:hi]) + b"]")
    except msgspec.MsgspecError:
        decoded = [_decode_one(texts[at], at) for at in range(lo, hi)]
    return [
        Entry(one.date.toordinal() - EPOCH_ORDINAL, one.stage, one.feature, one.sessions, one.users, at)
        for at, one in enumerate(decoded, number)
    ]


def _decode_one(text: bytes, at: int) -> Activity:
    try:
        return decode_activity(text)
    except msgspec.MsgspecError as exc:
        raise Unreadable(Reason.INVALID, activity_sentence(exc, at)) from None


def _read_sessions(read: Read, fresh: list[Entry]) -> None:
    """Session-level entries, gathered by day and feature; each entry is one session."""
    grouped: dict[tuple[int, str, str], list[int | str]] = {}
    for session in read.ping.sessions or ():
        day = micros(session.at) // DAY_US
        grouped.setdefault((day, session.stage, session.feature), []).append(session.user)
    for (day, stage, feature), users in grouped.items():
        entry = Entry(day, stage, feature, len(users), users, len(fresh), len(users))
        fresh.append(entry)
        read.entries.append(entry)


def _carry_error(read: Read, users: Users) -> None:
    for at, entry in enumerate(read.entries):
        if not entry.folded and entry.number in users.errors:
            read.error = activity_sentence(users.errors[entry.number], at, ".users")
            return
