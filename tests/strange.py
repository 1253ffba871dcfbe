"""Pings from a very small world, so that everything collides, for comparing the product with the oracle.

Three installations, GitLab.com with four of its groups, eight users, a dozen features, sixty days: every second ping meets
another one of its scope, its day, its users. What is wrong with a record, or odd about it, is dealt from decks of cards, so
a few hundred records have some of each kind.

Every record has one meaning, whatever the interleaving of the partitions: an identity has one content (written in more than
one way), and a ping goes to a second partition only with its own timestamp and where nobody can tell which of the two was
the first. Sums of reported figures stay below 2**64, and figures that a ratio is made of below 2**53.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from deploy.fleet.dice import Dice
from deploy.fleet.noise import BREAKAGES
from streams.forwarder import partition_of

T = TypeVar("T")
Document = dict[str, Any]

DAY_MS: Final = 86_400_000
EPOCH_DAY: Final = dt.date(1970, 1, 1).toordinal()
BACKWARDS_MS: Final = 36 * DAY_MS
LATE_DAYS: Final = 36


class StrangeRecord(NamedTuple):
    """A record for `usage-pings`. Those of a partition stand in the list in their order; `timestamp_ms` is Unix time."""

    partition: int
    key: bytes | None
    value: bytes
    timestamp_ms: int


class Deck(Generic[T]):
    """Deals every card once, in an order of chance, before any comes again."""

    def __init__(self, dice: Dice, cards: Sequence[T]) -> None:
        self._dice = dice
        self._cards = cards
        self._left: list[T] = []

    def deal(self) -> T:
        if not self._left:
            self._left = list(self._cards)
        return self._left.pop(self._dice.below(len(self._left)))


class Raw(str):
    """A number as text, that Python's writer has no way to write."""


class Member(NamedTuple):
    """Who sends. `quiet`: sends nothing for longer than a figure stands."""

    uuid: str
    hostname: str | None
    namespace_id: str | None
    quiet: bool = False

    @property
    def key(self) -> bytes:
        """The record key of the contract."""
        is_group = self.hostname == "gitlab.com" and self.namespace_id is not None
        return (f"{self.uuid}:{self.namespace_id}" if is_group else self.uuid).encode()


BACKUP: Final = "0000000-0000-0000-0000-000000000001"
"""As in GitLab's own example, no valid UUID: 31 digits."""
SAAS: Final = "5aa5-é11"
"""Of four partitions each is home to two of the members."""
NAMELESS: Final = "n" * 63 + "ü"

MEMBERS: Final = (
    Member(BACKUP, "a.example", None),
    Member(BACKUP, "b.example", None, quiet=True),
    Member(NAMELESS, None, None),
    Member(SAAS, "gitlab.com", None, quiet=True),
    Member(SAAS, "gitlab.com", "9970"),
    Member(SAAS, "gitlab.com", "17", quiet=True),
    Member(SAAS, "gitlab.com", "é"),
    Member(SAAS, "gitlab.com", "x" * 64),
)
QUIET_DAYS: Final = 31

USERS: Final[tuple[int | str, ...]] = (0, 17, "17", 42, 2**64 - 1, "é", "e\u0301", "u" * 128)

FEATURES: Final = (
    *((stage, feature) for stage, features in {
        "create": ("merge_requests", "wiki", "source_code"),
        "plan": ("issues", "boards", "epics"),
        "verify": ("ci_pipelines", "ci_builds", "test_reports"),
    }.items() for feature in features),
    ("manage", "events"),
    ("Create", "merge_requests "),
    ("a.b", "\"'\\\u0000"),
    ("🦊", "f" * 256),
)  # fmt: skip

NUMBERS: Final = (0, 0, 1, 1, 2, 3, 5, 8, 100, 2**31)
NO_NUMBERS: Final[tuple[Any, ...]] = (
    -1, -1000, None, None, True, False, 12.5, 100.0, "7", "", {}, {"of": 3}, [], [4], 2**63, -(2**63), 10**30,
    Raw("1e400"), Raw("-0"), Raw("1E2"),
)  # fmt: skip
"""What may stand in place of a figure; -0 is an integer all the same."""

MONTHLY: Final = "usage_activity_by_stage_monthly"
HLL: Final = "redis_hll_counters"
SMAU_LEAVES: Final = (
    (MONTHLY, "create", "action_monthly_active_users_project_repo"),
    (MONTHLY, "secure", "user_unique_users_all_secure_scanners"),
    (HLL, "user_packages", "user_packages_total_unique_counts_monthly"),
    (HLL, "incident_management", "incident_management_total_unique_counts_monthly"),
    (HLL, "kubernetes_agent", "k8s_api_proxy_requests_unique_agents_via_ci_access_monthly"),
    (HLL, "govern", "users_visiting_govern_pages_monthly"),
)
PLAN_LEAF: Final = (HLL, "issues_edit", "issues_edit_total_unique_counts_monthly")
"""The one leaf behind which there is a second choice, `plan.issues`: taken when this one is absent or null."""

OBJECT: Final = "an object"
ABSENT: Final = "absent"

USERS_BY: Final[tuple[Any, ...]] = (
    *[ABSENT] * 5,
    None,
    {},
    {"persona": None},
    {"persona": {}, "acquisition_channel": {}},
    {"persona": {"developer": 5, "designer": 0}},
    {"persona": {"developer": 2**53 + 1, "é" * 256: 1}, "acquisition_channel": None},
    {"acquisition_channel": {"paid": 0, "earned": 7, "Paid": 1}},
    {"persona": {"designer": 3}, "acquisition_channel": {"social": 2**31}, "country": {"NZ": 4}},
)

COUNTS: Final[tuple[Any, ...]] = (
    ABSENT, None, {}, 5, [1, -1, [2.5]], "n/a",
    {"boards": 3, "uploads": -1, "hooks": None, "on": True, "deep": {"er": [1, -2.5, {"est": 10**30}], "text": "4"}},
    {"a": Raw("1e400"), "b": Raw("-0"), "c": Raw("-0.0"), "d": Raw("-1e400"), "a.b": 0},
)  # fmt: skip

GITLABS_OWN: Final[dict[str, Sequence[Any]]] = {
    "version": ("17.3.1-ee", "17.10.0", "18", "18.", "v18.1", "9.12", "18.1rc1", " 18.1", "", None, 17.3, {}, ABSENT),
    "edition": ("CE", "EE", "EES", "EEP", "EEU", "eeu", "", None, 7, ["EEU"], ABSENT),
    "license_plan": ("starter", "premium", "ultimate", "free", "", None, 5, True, ABSENT, ABSENT, ABSENT),
    "active_user_count": (0, 4, 250, 250, 2**53 + 1, -1, -1000, None, True, 12.0, "12", 2**63, {}, ABSENT),
    "license_billable_users": (0, 4, -1, None, "4", ABSENT, ABSENT),
    "license_user_count": (0, 4, -1, None, 4.5, ABSENT, ABSENT),
    "historical_max_users": (0, 4, 2**63 - 1, -1, None, [], ABSENT, ABSENT),
    "license_subscription_id": ("A-S1", "", None, 5, ABSENT, ABSENT),
    "license_sha256": ("0" * 64, "", None, 5, ABSENT, ABSENT),
    "license_md5": ("f" * 32, None, ABSENT, ABSENT),
    "installation_type": ("omnibus-gitlab", None, 3, ABSENT),
    "licensee": ({"Name": "Ada Arden", "Email": "ada@licensee.example"}, "Ada Arden", ABSENT, ABSENT, ABSENT, ABSENT),
    "license_key": ("key-of-Ada", ABSENT, ABSENT, ABSENT),
    "usage_activity_by_stage": ({"manage": {"events": 999}, "create": {"wiki": 999}}, None, ABSENT),
}

NAMESPACE_PLANS: Final = ("free", "bronze", "silver", "gold", "gold-é", None, ABSENT)

MOMENTS_US: Final = (0, 1, 43_200_000_000, 43_200_123_456, 86_399_999_999)
"""Times of day, in microseconds: few, so that pings meet at an instant, and on both sides of midnight."""

BROKEN_MOMENT_US: Final = 50_000_000_000
"""Broken messages are recorded at moments that no other ping has."""

ENTRY_DAYS: Final = (0, 0, 0, -1, -1, -1, -2, -2, -3, -5, -6, -7, -10, -20, -27, -28, -35, -36, -36, 1, 1, -37, 2)
"""Day of an entry after the received one: the last ones on both sides of late (36 days) and future (1 day)."""
FAR_DATES: Final = ("1969-12-31", "0001-01-01", "9999-12-31")

BROKEN_FIELDS: Final[dict[str, Document]] = {
    "namespace_is_number": {"namespace_id": 9970},
    "namespace_is_empty": {"namespace_id": ""},
    "namespace_is_long": {"namespace_id": "n" * 65},
    "namespace_plan_is_number": {"namespace_plan": 3},
    "hostname_is_long": {"hostname": "h" * 256},
    "users_by_is_list": {"users_by": []},
    "persona_is_list": {"users_by": {"persona": ["developer"]}},
    "users_by_is_negative": {"users_by": {"persona": {"developer": -1}}},
    "users_by_is_null": {"users_by": {"acquisition_channel": {"paid": None}}},
    "users_by_has_no_name": {"users_by": {"persona": {"": 4}}},
    "sessions_is_object": {"sessions": {}},
    "session_without_offset": {"sessions": [{"user": 17, "at": "2026-01-01T00:00:00", "stage": "a", "feature": "b"}]},
}


def strange_records(
    seed: int,
    count: int,
    *,
    partitions: int = 4,
    days: int = 60,
    last_day: dt.date,
    own: Mapping[str, Sequence[Any]] | None = None,
) -> list[StrangeRecord]:
    """`count` records, the same for the same arguments. `own`: what some of `GITLABS_OWN` hold instead, and nothing else
    is changed by that (for licences of accounts, see `tests.strange_billing`).

    Received times go from `days` before the end of `last_day` (UTC) to it, and back by up to 36 days and somewhat more;
    entries are up to 36 days older and, on the last day, a day younger. `recorded_at` is up to two days after the record.
    """
    world = _World(seed, partitions, last_day.toordinal() - EPOCH_DAY - days + 1, days, GITLABS_OWN | dict(own or {}))
    return [world.next(index / count) for index in range(count)]


class _Sent(NamedTuple):
    """What was sent first under an identity. `clean`: applied without a letter, wherever and whenever it was read."""

    document: Document
    record: StrangeRecord
    clean: bool


class _World:
    def __init__(self, seed: int, partitions: int, first_day: int, days: int, own: Mapping[str, Sequence[Any]]) -> None:
        self._dice = dice = Dice(seed, "strange")
        self._partitions = partitions
        self._first_ms = first_day * DAY_MS
        self._end_ms = (first_day + days) * DAY_MS - 1
        self._quiet = range(first_day + days // 4, first_day + days // 4 + QUIET_DAYS)
        self._newest: list[int | None] = [None] * partitions
        self._sent: dict[tuple[Any, ...], _Sent] = {}
        self._serial = 0

        def deck(*cards: T) -> Deck[T]:
            return Deck(dice, cards)

        self._actions: Deck[Callable[[int], StrangeRecord]] = deck(
            *[self._ping] * 28,
            *[self._broken] * 7,
            *[self._again] * 3,
            self._again_elsewhere,
            self._again_later,
            self._again_behind,
            self._same_day,
            self._same_day,
            self._same_instant,
        )
        self._members = deck(*MEMBERS, MEMBERS[3])  # GitLab.com itself has one scope, others have three and four
        self._lags = deck(*["near"] * 16, *["back"] * 5, "ahead", "edge", "behind", "far behind")
        self._keys = deck(*["right"] * 9, "none", "empty", "other", "bytes", "part", "misplaced")
        self._recorded = deck(*[0] * 8, -1, -2, -7, -30, -90, 1, 1, 2, 0)
        self._moments = deck(*MOMENTS_US)
        self._entry_days: Deck[int | str] = deck(*ENTRY_DAYS, *ENTRY_DAYS, *FAR_DATES)
        self._features = deck(*FEATURES)
        self._user_numbers = deck(0, 1, 1, 1, 2, 2, 3, 8)
        self._activity: Deck[Any] = deck(*[OBJECT] * 12, [], None, ABSENT)
        self._entry_numbers = deck(1, 1, 1, 2, 2, 3, 5)
        self._session_counts: Deck[Any] = deck(ABSENT, ABSENT, ABSENT, None, 0, 1, 2, 7, 2**40)
        self._sessions: Deck[Any] = deck(*[OBJECT] * 4, *[ABSENT] * 6, [], None)
        self._zones = deck("Z", "Z", "Z", "+00:00", "-00:00", "+05:30", "-08:00", "z", "+14:00")
        self._blocks: Deck[Any] = deck(*[OBJECT] * 14, {}, {}, None, [], "n/a", -1, True, *[ABSENT] * 4)
        self._inner_blocks: Deck[Any] = deck(*[OBJECT] * 14, {}, None, -1, [], "x", *[ABSENT] * 3)
        self._leaves: Deck[Any] = deck(*NUMBERS * 5, *NO_NUMBERS)
        self._mau_leaves: Deck[Any] = deck(*NUMBERS * 3, *NO_NUMBERS, ABSENT, ABSENT)
        self._plan_leaves: Deck[Any] = deck(0, 4, -1, None, ABSENT, "7", 12.5, {"issues": 3})
        self._users_by = deck(*USERS_BY)
        self._counts = deck(*COUNTS)
        self._namespace_plans = deck(*NAMESPACE_PLANS)
        self._own = {name: deck(*cards) for name, cards in own.items()}
        self._breakages = deck(*BREAKAGES, *BROKEN_FIELDS)
        self._hostnames: Deck[Any] = deck(ABSENT, None, "", 17)

    def next(self, share: float) -> StrangeRecord:
        """The next record, at that share of the time."""
        span = self._end_ms - self._first_ms
        now = self._first_ms + int(share * span) + self._dice.between(-DAY_MS, DAY_MS)
        record = self._actions.deal()(self._within(now))
        newest = self._newest[record.partition]
        self._newest[record.partition] = record.timestamp_ms if newest is None else max(newest, record.timestamp_ms)
        return record

    # --- records ------------------------------------------------------------------------------------------------------

    def _ping(self, now: int, member: Member | None = None, recorded_us: int | None = None) -> StrangeRecord:
        """A ping of somebody. Where it is asked for an instant, that of another ping, it is received now."""
        lag = self._lags.deal() if recorded_us is None else "near"
        member = member or self._members.deal()
        key, partition = self._place(member.key)
        timestamp = self._timestamp(now, lag, partition)
        if recorded_us is None:
            # Of two faults of one message the contract does not say which comes first.
            after = 0 if lag in ("behind", "far behind") else self._recorded.deal()
            day = timestamp // DAY_MS + after
            while member.quiet and day in self._quiet:
                member = self._members.deal()
                key, partition = self._place(member.key)
                timestamp = self._timestamp(now, lag, partition)
                day = timestamp // DAY_MS + after
            recorded_us = day * DAY_MS * 1000 + self._moments.deal()
        identity = (member.uuid, member.hostname, member.namespace_id, recorded_us)
        if identity in self._sent:
            return self._repeat(identity, self._sent[identity].record.timestamp_ms)
        document = self._document(member, recorded_us, timestamp // DAY_MS)
        record = StrangeRecord(partition, key, written(document), timestamp)
        self._sent[identity] = _Sent(document, record, self._is_clean(document, record, recorded_us))
        return record

    def _broken(self, now: int) -> StrangeRecord:
        """A message that dies of what is wrong with it, and of nothing else."""
        name = self._breakages.deal()
        member = self._members.deal()
        key, partition = self._place(member.key)
        timestamp = self._timestamp(now, "near", partition)
        self._serial += 1
        recorded_us = timestamp // DAY_MS * DAY_MS * 1000 + BROKEN_MOMENT_US + self._serial
        document: Document = {"uuid": member.uuid, "recorded_at": moment_text(recorded_us, "Z")}
        for field in ("hostname", "namespace_id"):
            if value := getattr(member, field):
                document[field] = value
        document["activity"] = [self._entry(timestamp // DAY_MS) | {"users": list(USERS)}]
        if name in BREAKAGES:
            return StrangeRecord(partition, key, BREAKAGES[name][1](document), timestamp)
        return StrangeRecord(partition, key, written(document | BROKEN_FIELDS[name]), timestamp)

    def _again(self, now: int) -> StrangeRecord:
        """A ping once more, at the same moment by the same way, in the same bytes or in others."""
        if not self._sent:
            return self._ping(now)
        identity = self._dice.pick(list(self._sent))
        return self._repeat(identity, self._sent[identity].record.timestamp_ms)

    def _again_later(self, now: int) -> StrangeRecord:
        """A ping once more, received now."""
        if not self._sent:
            return self._ping(now)
        return self._repeat(self._dice.pick(list(self._sent)), now)

    def _again_behind(self, now: int) -> StrangeRecord:
        """A ping once more, further behind than a message may be that is not known."""
        behind = [
            identity
            for identity, sent in self._sent.items()
            if sent.clean and (self._newest[sent.record.partition] or 0) - sent.record.timestamp_ms > BACKWARDS_MS
        ]
        if not behind:
            return self._again(now)
        identity = self._dice.pick(behind)
        return self._repeat(identity, self._sent[identity].record.timestamp_ms)

    def _again_elsewhere(self, now: int) -> StrangeRecord:
        """A ping once more, under another key on another partition."""
        clean = [sent for sent in self._sent.values() if sent.clean]
        if not clean:
            return self._again(now)
        _, record, _ = self._dice.pick(clean)
        partition = self._dice.below(self._partitions)
        if (self._newest[partition] or 0) - record.timestamp_ms > BACKWARDS_MS:
            return self._again(now)
        return record._replace(partition=partition, key=self._dice.pick((None, b"", b"elsewhere")))

    def _same_day(self, now: int) -> StrangeRecord:
        """Another ping of a scope and day that has one."""
        if not (identities := [identity for identity in self._sent if identity[-1] // 1000 <= now]):
            return self._ping(now)
        uuid, hostname, namespace_id, recorded_us = self._dice.pick(identities)
        day_us = recorded_us // (DAY_MS * 1000) * DAY_MS * 1000
        return self._ping(now, Member(uuid, hostname, namespace_id), day_us + self._moments.deal())

    def _same_instant(self, now: int) -> StrangeRecord:
        """Another ping of an installation at an instant that has one: only a namespace, which means nothing there, tells
        them apart."""
        identities = [i for i in self._sent if i[1] != "gitlab.com" and i[2] is None and i[-1] // 1000 <= now]
        if not identities:
            return self._ping(now)
        uuid, hostname, _, recorded_us = self._dice.pick(identities)
        return self._ping(now, Member(uuid, hostname, "9970"), recorded_us)

    def _repeat(self, identity: tuple[Any, ...], timestamp: int) -> StrangeRecord:
        document, record, _ = self._sent[identity]
        value = record.value
        newest = self._newest[record.partition] or 0
        if identity[-1] // (DAY_MS * 1000) > timestamp // DAY_MS + 1 and newest - timestamp > BACKWARDS_MS:
            timestamp = newest  # not of the future and behind at once; by now, its day has come
        if self._dice.chance(0.5):
            value = _written_differently(document, identity[-1], self._zones.deal())
        return record._replace(value=value, timestamp_ms=timestamp)

    # --- where and when -----------------------------------------------------------------------------------------------

    def _place(self, right: bytes) -> tuple[bytes | None, int]:
        """A key, and the partition that its producer took for it."""
        anywhere = self._dice.below(self._partitions)
        match self._keys.deal():
            case "none":
                return None, anywhere
            case "empty":
                return b"", anywhere
            case "bytes":
                return b"\xff\x00key", anywhere
            case "misplaced":  # a producer with another partitioner
                return right, anywhere
            case "other":
                key = self._dice.pick(MEMBERS).key
            case "part":
                key = right.partition(b":")[0] if b":" in right else right + b":9970"
            case _:
                key = right
        return key, partition_of(key, self._partitions)

    def _timestamp(self, now: int, lag: str, partition: int) -> int:
        newest = self._newest[partition]
        if newest is None or lag == "near":
            return now
        match lag:
            case "back":
                return newest - self._dice.between(0, 35 * DAY_MS)
            case "ahead":
                return self._within(now + self._dice.between(0, 20 * DAY_MS))
            case "edge":
                return newest - BACKWARDS_MS
            case "behind":
                return newest - BACKWARDS_MS - 1
            case _:
                return newest - self._dice.between(37 * DAY_MS, 50 * DAY_MS)

    def _within(self, timestamp: int) -> int:
        return min(max(timestamp, self._first_ms), self._end_ms)

    def _is_clean(self, document: Document, record: StrangeRecord, recorded_us: int) -> bool:
        received = record.timestamp_ms // DAY_MS
        days = [entry["date"] for entry in document.get("activity") or ()]
        days += [_utc_date(entry["at"]) for entry in document.get("sessions") or ()]
        newest = self._newest[record.partition]
        return (
            recorded_us // (DAY_MS * 1000) <= received + 1
            and (newest is None or newest - record.timestamp_ms <= BACKWARDS_MS)
            and all(_date(received - LATE_DAYS) <= day <= _date(received + 1) for day in days)
        )

    # --- contents -----------------------------------------------------------------------------------------------------

    def _document(self, member: Member, recorded_us: int, received: int) -> Document:
        on_saas = member.hostname == "gitlab.com"
        fields: Document = {
            "uuid": member.uuid,
            "hostname": self._hostnames.deal() if member.hostname is None else member.hostname,
            "recorded_at": moment_text(recorded_us, self._zones.deal()),
            **{name: deck.deal() for name, deck in self._own.items()},
            "namespace_id": member.namespace_id or self._dice.pick((None, ABSENT)),
            "namespace_plan": self._namespace_plans.deal() if on_saas or self._dice.chance(0.1) else ABSENT,
            "counts": self._counts.deal(),
            **self._reported(),
            "users_by": self._users_by.deal(),
            "activity": self._activity.deal(),
            "sessions": self._sessions.deal(),
        }
        if fields["activity"] is OBJECT:
            fields["activity"] = self._entries(received)
        if fields["sessions"] is OBJECT:
            fields["sessions"] = [self._session(received) for _ in range(self._entry_numbers.deal())]
        return {name: value for name, value in fields.items() if value is not ABSENT}

    def _entries(self, received: int) -> list[Document]:
        entries = [self._entry(received) for _ in range(self._entry_numbers.deal())]
        if self._dice.chance(0.2):  # the same day and feature in two entries
            entries.append(self._entry(received) | {name: entries[0][name] for name in ("date", "stage", "feature")})
        return entries

    def _entry(self, received: int) -> Document:
        stage, feature = self._features.deal()
        after = self._entry_days.deal()
        entry: Document = {
            "date": after if isinstance(after, str) else _date(received + after),
            "stage": stage,
            "feature": feature,
            "users": [self._dice.pick(USERS) for _ in range(self._user_numbers.deal())],
            "sessions": self._session_counts.deal(),
        }
        if entry["sessions"] is ABSENT:
            del entry["sessions"]
        if self._dice.chance(0.1):
            entry["note"] = {"users": [-1]}
        return entry

    def _session(self, received: int) -> Document:
        stage, feature = self._features.deal()
        after = self._entry_days.deal()
        day = received if isinstance(after, str) else received + after
        at = moment_text(day * DAY_MS * 1000 + self._moments.deal(), self._zones.deal())
        return {"user": self._dice.pick(USERS), "at": at, "stage": stage, "feature": feature}

    def _reported(self) -> Document:
        """The blocks that reported figures are read from."""
        blocks: Document = {MONTHLY: self._blocks.deal(), HLL: self._blocks.deal()}
        opened = {name for name, value in blocks.items() if value is OBJECT}
        for name in opened:
            blocks[name] = {}
        leaves: list[tuple[str, str, str, Any]] = [(*path, self._mau_leaves.deal()) for path in SMAU_LEAVES]
        leaves.append((MONTHLY, "manage", "events", self._mau_leaves.deal()))
        leaves += [(MONTHLY, *path, self._leaves.deal()) for path in FEATURES if path != ("manage", "events")]
        # Two stages without an SMAU, so that no ratio is made of it.
        leaves.append((MONTHLY, "release", "deployments", self._dice.pick((2**53 + 1, 1, 2**60 + 1))))
        leaves.append((MONTHLY, "", "nobody", 3))
        leaves.append((MONTHLY, "release", "", 3))
        leaves.append((MONTHLY, "release", "r" * 300, 3))
        kinds: dict[tuple[str, str], Any] = {}
        for block, stage, leaf, value in leaves:
            if block not in opened:
                continue
            if (block, stage) not in kinds:
                kinds[block, stage] = self._inner_blocks.deal()
                if kinds[block, stage] is not ABSENT:
                    blocks[block][stage] = {} if kinds[block, stage] is OBJECT else kinds[block, stage]
            if kinds[block, stage] is OBJECT and value is not ABSENT and self._dice.chance(0.8):
                blocks[block][stage][leaf] = value
        # An MAU needs a whole path: left to chance alone it would be too rare, and so would be both choices of one stage.
        if MONTHLY in opened and self._dice.chance(0.5):
            blocks[MONTHLY]["manage"] = {"events": self._dice.pick(NUMBERS)}
        if len(opened) == 2 and self._dice.chance(0.7):
            first = self._plan_leaves.deal()
            blocks[HLL][PLAN_LEAF[1]] = {} if first is ABSENT else {PLAN_LEAF[2]: first}
            blocks[MONTHLY]["plan"] = {"issues": self._dice.pick(NUMBERS), "boards": 2}
        return blocks


# --- text -------------------------------------------------------------------------------------------------------------


def _date(day: int) -> str:
    return dt.date.fromordinal(EPOCH_DAY + day).isoformat()


def _utc_date(moment: str) -> str:
    return dt.datetime.fromisoformat(moment.upper()).astimezone(dt.UTC).date().isoformat()


def moment_text(microseconds: int, zone: str) -> str:
    """RFC 3339 in a zone, with as many digits as it needs."""
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=microseconds)
    if zone == "z":
        return f"{moment.isoformat()}z".lower()
    if zone != "Z":
        moment += (-1 if zone[0] == "-" else 1) * dt.timedelta(hours=int(zone[1:3]), minutes=int(zone[4:]))
    return f"{moment.isoformat()}{zone}"


def written(document: Document) -> bytes:
    return with_raw(json.dumps(marked(document), ensure_ascii=False, separators=(",", ":")))


def _written_differently(document: Document, recorded_us: int, zone: str) -> bytes:
    """The same ping in other bytes: other order, white space, escapes, zone and null for absent."""
    other = dict(reversed(document.items())) | {"recorded_at": moment_text(recorded_us, zone)}
    other.setdefault("namespace_id", None)
    other.setdefault("hostname", None)
    return with_raw(json.dumps(marked(other), ensure_ascii=True, indent=1))


def marked(node: Any) -> Any:
    """The same with marks in place of raw numbers."""
    if isinstance(node, dict):
        return {name: marked(inside) for name, inside in node.items()}
    if isinstance(node, list):
        return [marked(inside) for inside in node]
    return f"raw number {node}" if isinstance(node, Raw) else node


def with_raw(text: str) -> bytes:
    return re.sub(r'"raw number ([^"]*)"', r"\1", text).encode()
