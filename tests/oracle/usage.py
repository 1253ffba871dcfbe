"""What the contract says comes out of a list of records, computed slowly and obviously.

No part of the product is imported here, and nothing is clever: JSON is parsed by the standard library, users are
kept in sets, and a 28-day figure is the size of a union of 28 sets. A test feeds the same records to the product and
compares table by table.

Where the contract leaves room, this is how it is read:

Reading a message
  * A value larger than `max_message_bytes` is `too_large`, whatever is in it. Then the brackets outside of strings are
    counted: more than `max_depth` open at once (the outermost object is the first) is `too_deep`, even if the text
    turns out to be no JSON. Then come UTF-8 and JSON: an empty or absent value, a byte order mark, `NaN` and
    `Infinity` are `not_json`. Of a name that stands twice in an object the last one counts.
  * Valid JSON that is no object is `invalid`.
  * `uuid`: a string of 1 to 64 characters. `hostname`: '' when absent, null or not a string; more than 255 characters
    are `invalid`. `namespace_id`: '' when absent or null, else a string of 1 to 64 characters; so is `namespace_plan`.
  * Characters are code points. A lone surrogate makes the ping `invalid` in any string that is read, GitLab's own
    fields too; in a string that nobody reads it does no harm.
  * Moments are RFC 3339 with an offset; `T` may be small or a space, `Z` may be small, digits behind the microsecond
    are cut off, second 60 is refused. The UTC year is 1970 to 9999. A `date` is `YYYY-MM-DD` of a day that exists;
    one before 1970 is merely late.
  * `activity` and `sessions`: absent, null or a list of objects. An activity needs `date`, `stage`, `feature` and
    `users` (a list, which may be empty); its `sessions` is absent, null (both unknown) or an integer of 0 to
    2**63 - 1. A session needs `user`, `at`, `stage` and `feature`. Unknown names in an entry are ignored.
  * A user is an integer of 0 to 2**64 - 1 written as an integer (`1.0` and `1e3` are none, `true` is none) or a
    string of 1 to 128 characters; 17 and "17" are two users.
  * `users_by`: absent, null or an object; its `persona` and `acquisition_channel` are absent, null or objects of
    integers of 0 to 2**63 - 1 under names of up to 256 characters ('' is unknown). Other dimensions are ignored.

Judging a message, in this order
  1. identity (`uuid`, `hostname`, `namespace_id`, the instant of `recorded_at`); unreadable is `invalid`, known is a
     `duplicate`. Only applied pings are remembered, and for ever: the oracle is for histories under 400 days.
  2. the rest of what is read; wrong is `invalid`
  3. `recorded_at` on a UTC day after the day that follows the received one: `future`
  4. record timestamp more than 36 days (to the millisecond) behind the newest one before it in its partition,
     whatever became of that one: `late`
  5. entries whose day is more than 36 days before the received day (late) or more than one after (future) are taken
     out; the ping is applied, even if nothing is left, and has one letter: `future` if any entry is, else `late`.

Populations
  * Host names are GitLab.com's in any case; in an identity they are as they are written. A `namespace_id` on another host than GitLab.com is part of the
    identity and of nothing else. On GitLab.com it makes the ping one of population `group`, and its absence one of
    `gitlab_com`; `usage_ping` says so. Exact activity of a group's ping counts in `gitlab_com` too; what the ping
    reports, its users_by, registered users and version do not. `kpi_usage_pings` counts it in both.

Exact figures
  * `usage_kpi` has a row of a day for a figure when its mau is above 0 on that day or was on the day before, up to
    `as_of`. `sessions` stand in rows that exist, and are NULL when no ping told any for that day.
  * Sessions of a day and feature in a ping: session entries plus the given numbers, of all its entries for them. A
    stage's and the total are the sums of the features whose number is known. For `gitlab_com` a feature's is the sum
    over its groups; pings without a namespace count as one more group.

Reported figures
  * A ping reports when its `usage_activity_by_stage_monthly` is an object; an empty one makes every figure unknown.
    Without one, a ping reports nothing and ends nothing.
  * A known figure is an integer of 0 to 2**63 - 1; anything else is unknown, and no part of GitLab's own payload makes
    a ping `invalid` by its type. A path leads through objects only: behind anything else it is absent.
  * The SMAU of a stage is at the first of its paths that is neither absent nor null; if that is no known figure, the
    SMAU is unknown, whatever the paths behind it say.
  * The feature MAUs are the known figures exactly two levels under `usage_activity_by_stage_monthly`, of any stage;
    `manage.events` is one too. A stage or feature whose name is '' or holds a lone surrogate is left out: no row could
    name it.
  * Of the reporting pings of a UTC day the one with the greatest (`recorded_at`, `uuid`, `hostname`, `namespace_id`)
    stands. It is valid on that day and the 27 behind it, or until the next reporting ping's day, up to `as_of`.
  * `usage_kpi` has a row for each valid day and known figure above 0, and one at 0 where the figure was above 0 on the
    day before (that can only be a ping's own day). What expires or becomes unknown has no row. SMAU without MAU makes
    no total row.
  * `users_by` is valid in the same way, by pings where it is an object; counts of 0 have rows.

Pings and views
  * Ratios over 0 are NULL. The factors have a row wherever the mau (smau) has. Bases are never mixed but in
    `kpi_account_usage`.
  * `kpi_stage_adoption`: scopes with a total row above 0 count, also those without a stage. Rows go on while there are
    scopes, and there is always one for `more_than` 0.
  * "The newest ping of a scope" is the one with the greatest (`recorded_at`, `uuid`, `hostname`, `namespace_id`) of the
    28 days that end with `as_of`. `kpi_versions` counts all of them, `kpi_user_count` those that know their
    registered users.
  * `kpi_account_usage`: `self_managed` and `group`, each scope by its exact figures if it has an exact mau above 0, else
    by its reported ones if any of them is above 0, else not at all. Pings alone know no accounts: here `account_id` is
    '' for all. `tests.oracle.billing` knows whose a scope is on a day, and asks `Expected.account_usage`.
  * `kpi_freshness`: a group's ping stands for `gitlab_com` too, which is one scope. The newest day is that of the
    newest `recorded_at` only where there is no exact dau up to `as_of`. The watermark is the least of the partitions'
    greatest record timestamps, dead and repeated messages included. Here are no gaps.
  * `usage_ping` holds every applied ping, also one recorded after `as_of`; `kpi_usage_pings` those up to it.
  * A text of `usage_ping` is '' when it is absent or no string. Numeric leaves are counted in objects and lists under
    `counts`; a `counts` that is itself a number has none. `license_sha256` falls back on `license_md5`, each when it is
    a non-empty string. The plan is `namespace_plan`, else `license_plan` if it is a non-empty string, else the
    edition's.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Generic, TypeVar

Row = dict[str, Any]
User = int | str
Place = tuple[str, str]
"""A scope's population and `scope_id`."""

T = TypeVar("T")

DAY = dt.timedelta(days=1)
LATE_DAYS = 36
WINDOW_DAYS = 28
WEEK_DAYS = 7

TEXTS = (
    "version",
    "edition",
    "installation_type",
    "license_plan",
    "license_starts_at",
    "license_expires_at",
    "license_subscription_id",
    "license_sha256",
    "license_md5",
)
PLAN_OF_EDITION = {"EES": "starter", "EEP": "premium", "EEU": "ultimate"}

MONTHLY = "usage_activity_by_stage_monthly"
MAU_PATH = f"{MONTHLY}.manage.events"
SMAU_PATHS = {
    "configure": ["redis_hll_counters.kubernetes_agent.k8s_api_proxy_requests_unique_agents_via_ci_access_monthly"],
    "create": [f"{MONTHLY}.create.action_monthly_active_users_project_repo"],
    "govern": ["redis_hll_counters.govern.users_visiting_govern_pages_monthly"],
    "monitor": ["redis_hll_counters.incident_management.incident_management_total_unique_counts_monthly"],
    "package": ["redis_hll_counters.user_packages.user_packages_total_unique_counts_monthly"],
    "plan": ["redis_hll_counters.issues_edit.issues_edit_total_unique_counts_monthly", f"{MONTHLY}.plan.issues"],
    "secure": [f"{MONTHLY}.secure.user_unique_users_all_secure_scanners"],
    "verify": [f"{MONTHLY}.verify.ci_pipelines"],
}
"""Where a ping says the SMAU of a stage, first choice first: the `smau` metrics of GitLab 19.3, and the contract's
second path for plan."""

POPULATIONS = ("self_managed", "gitlab_com", "group")
ADOPTING = ("self_managed", "group")
"""The populations whose scopes are somebody's: GitLab.com as a whole adopts nothing and belongs to no account."""


MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """One Kafka record as it stands in its topic. `timestamp_ms` is Unix time in milliseconds.

    `attempt` is what the header of a replayed letter says, 0 without one.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    attempt: int = 0


@dataclass(frozen=True)
class Rules:
    """The settings that figures depend on. `populations` are those that `usage_kpi` and `users_by` are computed for."""

    as_of: dt.date
    saas_hostnames: tuple[str, ...] = ("gitlab.com",)
    max_message_bytes: int = 8 * 1024 * 1024
    max_depth: int = 100
    populations: tuple[str, ...] = POPULATIONS
    reporting_currency: str = "USD"


class Timeline(Generic[T]):
    """What holds at the end of each day: what came last by then."""

    def __init__(self, changes: Iterable[tuple[dt.date, T]]) -> None:
        """`changes` in their order, each with its day."""
        last_of_day = dict(changes)
        self._days = list(last_of_day)
        self._values = list(last_of_day.values())
        if self._days != sorted(self._days):
            raise ValueError("changes out of order")

    @property
    def first_day(self) -> dt.date:
        return self._days[0]

    def on(self, day: dt.date) -> T | None:
        """What holds at the end of `day`, None before the first change."""
        at = bisect_right(self._days, day)
        return self._values[at - 1] if at else None


class Dead(Exception):
    """A message that is not applied; its text is the contract's reason."""


@dataclass(frozen=True)
class Entry:
    """What one entry of either form says. `sessions` is None when unknown."""

    day: dt.date
    stage: str
    feature: str
    users: frozenset[User]
    sessions: int | None


@dataclass(frozen=True, order=True)
class Identity:
    uuid: str
    hostname: str
    namespace_id: str
    recorded_at: dt.datetime


@dataclass
class Scope:
    """Who was active where and when, of one member of a population.

    `sessions` holds the largest number a ping told, by group ('' but for those in `gitlab_com`), feature and day.
    """

    users: dict[tuple[str, str], dict[dt.date, set[User]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    sessions: dict[tuple[str, str, str, dt.date], int] = field(default_factory=dict)


@dataclass
class Expected:
    """Every table and view, as lists of rows in the order of their keys, and how many messages had which outcome.

    `outcomes` counts by (topic, outcome), outcome being `applied`, `duplicate` or `dead`. `as_of` is the as-of clock.
    `watermark` is the received time up to which every partition is read, None when there is no message.
    """

    as_of: dt.date
    outcomes: Counter[tuple[str, str]]
    watermark: dt.datetime | None
    usage_kpi: list[Row]
    usage_ping: list[Row]
    users_by: list[Row]
    dead_letter: list[Row]

    @cached_property
    def kpi_mau(self) -> list[Row]:
        keys = ("as_of", "population", "basis")
        rows = []
        for key, group in grouped(self._level("total"), *keys):
            mau = sum(row["mau"] for row in group)
            reported = key[2] == "reported"
            dau = None if reported else sum(row["dau"] for row in group)
            wau = None if reported else sum(row["wau"] for row in group)
            stickiness = None if dau is None else ratio(dau, mau)
            rows.append(named(keys, key) | {"dau": dau, "wau": wau, "mau": mau, "stickiness": stickiness})
        return rows

    @cached_property
    def kpi_smau(self) -> list[Row]:
        keys = ("as_of", "population", "basis", "stage")
        return [
            named(keys, key) | {"smau": sum(row["mau"] for row in group)}
            for key, group in grouped(self._level("stage"), *keys)
        ]

    @cached_property
    def kpi_smau_factor(self) -> list[Row]:
        keys = ("as_of", "population", "basis")
        sums = {key: sum(row["smau"] for row in group) for key, group in grouped(self.kpi_smau, *keys)}
        rows = []
        for row in self.kpi_mau:
            key = tuple(row[name] for name in keys)
            mau, sum_smau = row["mau"], sums.get(key, 0)
            rows.append(named(keys, key) | {"mau": mau, "sum_smau": sum_smau, "smau_factor": ratio(sum_smau, mau)})
        return rows

    @cached_property
    def kpi_feature_mau(self) -> list[Row]:
        keys = ("as_of", "population", "basis", "stage", "feature")
        return [
            named(keys, key) | {"feature_mau": sum(row["mau"] for row in group)}
            for key, group in grouped(self._level("feature"), *keys)
        ]

    @cached_property
    def kpi_feature_mau_factor(self) -> list[Row]:
        keys = ("as_of", "population", "basis", "stage")
        sums = {key: sum(row["feature_mau"] for row in group) for key, group in grouped(self.kpi_feature_mau, *keys)}
        rows = []
        for row in self.kpi_smau:
            key = tuple(row[name] for name in keys)
            smau, total = row["smau"], sums.get(key, 0)
            figures = {"smau": smau, "sum_feature_mau": total, "feature_mau_factor": ratio(total, smau)}
            rows.append(named(keys, key) | figures)
        return rows

    @cached_property
    def kpi_stage_adoption(self) -> list[Row]:
        """Scopes that use more than 0, 1, 2 … stages, for as long as there are any."""
        keys = ("as_of", "population", "basis")
        stages_used: Counter[tuple[Any, ...]] = Counter()
        for row in self._level("stage"):
            if row["mau"] > 0:
                stages_used[row["as_of"], row["population"], row["basis"], row["scope_id"]] += 1
        rows = []
        for key, group in grouped(self._level("total"), *keys):
            used = [stages_used[*key, row["scope_id"]] for row in group if row["mau"] > 0]
            if key[1] not in ADOPTING or not used:
                continue
            for more_than in range(max(1, max(used))):
                scopes = sum(number > more_than for number in used)
                figures = {"scopes": scopes, "total": len(used), "share": scopes / len(used)}
                rows.append(named(keys, key) | {"more_than": more_than} | figures)
        return rows

    @cached_property
    def kpi_sessions(self) -> list[Row]:
        keys = ("as_of", "population", "stage", "feature")
        known = [row for row in self.usage_kpi if row["basis"] == "exact" and row["sessions"] is not None]
        rows = []
        for key, group in grouped(known, *keys):
            sessions, dau = sum(row["sessions"] for row in group), sum(row["dau"] for row in group)
            figures = {"sessions": sessions, "dau": dau, "sessions_per_user": ratio(sessions, dau)}
            rows.append(named(keys, key) | figures)
        return rows

    @cached_property
    def kpi_usage_pings(self) -> list[Row]:
        """A row for each UTC day of `recorded_at` on which a population has pings."""
        pings: dict[tuple[dt.date, str], list[Row]] = defaultdict(list)
        for row in self.usage_ping:
            for population in counted_in(row) if row["recorded_at"].date() <= self.as_of else ():
                pings[row["recorded_at"].date(), population].append(row)
        rows = []
        for (day, population), of_day in sorted(pings.items()):
            rows.append(
                {
                    "as_of": day,
                    "population": population,
                    "pings": len(of_day),
                    "counters": sum(row["counters"] for row in of_day),
                    "failed_counters": sum(row["failed_counters"] for row in of_day),
                    "pings_28d": sum(len(pings.get((d, population), ())) for d in window(day, WINDOW_DAYS)),
                }
            )
        return rows

    @cached_property
    def kpi_versions(self) -> list[Row]:
        """Scopes and registered users by the version and edition of each scope's newest ping of the 28 days."""
        keys = ("as_of", "population", "version", "edition")
        newest = [ping | {"version": major_minor(ping["version"])} for ping in self._newest_pings]
        rows = []
        for key, group in grouped(newest, *keys):
            known = [ping["registered_users"] for ping in group if ping["registered_users"] is not None]
            rows.append(named(keys, key) | {"scopes": len(group), "users": sum(known) if known else None})
        return rows

    @cached_property
    def kpi_user_count(self) -> list[Row]:
        """Registered users by the plan of each scope's newest ping of the 28 days, and in total (plan '')."""
        keys = ("as_of", "population", "plan")
        known = [ping for ping in self._newest_pings if ping["registered_users"] is not None]
        twice = [*known, *(ping | {"plan": ""} for ping in known)]
        return [
            named(keys, key)
            | {"users": sum(ping["registered_users"] for ping in group), "reporting_scopes": len(group)}
            for key, group in grouped(twice, *keys)
        ]

    @cached_property
    def kpi_users_by(self) -> list[Row]:
        keys = ("as_of", "population", "dimension", "value")
        return [
            named(keys, key) | {"users": sum(row["users"] for row in group)}
            for key, group in grouped(self.users_by, *keys)
        ]

    @cached_property
    def kpi_account_usage(self) -> list[Row]:
        return self.account_usage(lambda place, day: "")

    def account_usage(self, account_of: Callable[[Place, dt.date], str]) -> list[Row]:
        """The rows of `kpi_account_usage`: for each account and each day with a figure or with a ping in its window.

        `account_of` says whose a scope is on a day, with all its figures and pings; '' is nobody's.
        """
        chosen: dict[tuple[dt.date, str], list[list[Row]]] = defaultdict(list)
        for as_of, places in self.chosen_figures.items():
            for place, rows in places.items():
                chosen[as_of, account_of(place, as_of)].append(rows)

        pings: Counter[tuple[dt.date, str]] = Counter()
        for ping in self.usage_ping:
            if ping["population"] in ADOPTING:
                for as_of in days_of_window_from(ping["recorded_at"].date(), self.as_of):
                    pings[as_of, account_of((ping["population"], ping["scope_id"]), as_of)] += 1

        newest: dict[tuple[dt.date, str], dt.datetime] = {}
        keys = sorted(chosen.keys() | pings.keys())
        for as_of in {as_of for as_of, _ in keys}:
            for place, timeline in self.pings_of_scopes.items():
                last = timeline.on(as_of)
                if last is not None:
                    key = (as_of, account_of(place, as_of))
                    newest[key] = max(last["recorded_at"], newest.get(key, last["recorded_at"]))

        result = []
        for as_of, account_id in keys:
            together = [row for rows in chosen[as_of, account_id] for row in rows]
            totals = [row["mau"] for row in together if row["level"] == "total"]
            result.append(
                {
                    "as_of": as_of,
                    "account_id": account_id,
                    "mau": sum(totals) if totals else None,
                    "basis": basis_of(together),
                    "stages_used": len({row["stage"] for row in together if row["level"] == "stage"}),
                    "features_used": len(
                        {(row["stage"], row["feature"]) for row in together if row["level"] == "feature"}
                    ),
                    "pings_28d": pings[as_of, account_id],
                    "last_ping_at": newest.get((as_of, account_id)),
                }
            )
        return result

    @cached_property
    def chosen_figures(self) -> dict[dt.date, dict[Place, list[Row]]]:
        """By day and scope of somebody's the figures above 0 that stand for it: the exact ones, else the reported."""
        above_0 = [row for row in self.usage_kpi if row["population"] in ADOPTING and row["mau"] > 0]
        both: dict[tuple[dt.date, Place], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for row in above_0:
            both[row["as_of"], (row["population"], row["scope_id"])][row["basis"]].append(row)
        chosen: dict[dt.date, dict[Place, list[Row]]] = defaultdict(dict)
        for (as_of, place), figures in both.items():
            chosen[as_of][place] = figures["exact"] or figures["reported"]
        return chosen

    @cached_property
    def pings_of_scopes(self) -> dict[Place, Timeline[Row]]:
        """For each scope of somebody's its newest ping by the end of a day, of any age."""
        oldest_first = in_order(self.usage_ping, "recorded_at", "uuid", "hostname", "namespace_id")
        return {
            place: Timeline((ping["recorded_at"].date(), ping) for ping in pings)
            for place, pings in grouped(oldest_first, "population", "scope_id")
            if place[0] in ADOPTING
        }

    @cached_property
    def kpi_freshness(self) -> list[Row]:
        """A row for each population that has a ping."""
        days: dict[str, dict[str, set[dt.date]]] = defaultdict(lambda: defaultdict(set))
        for ping in self.usage_ping:
            for population in counted_in(ping):
                scope_id = ping["scope_id"] if population == ping["population"] else "gitlab.com"
                days[population][scope_id].add(ping["recorded_at"].date())
        active_days: dict[str, set[dt.date]] = defaultdict(set)
        for row in self._level("total"):
            if row["basis"] == "exact" and row["dau"] > 0:
                active_days[row["population"]].add(row["as_of"])
        recent = set(window(self.as_of, WINDOW_DAYS))
        return [
            {
                "population": population,
                "newest_day": max(active_days[population] or set().union(*scopes.values())),
                "watermark": self.watermark,
                "scopes_silent_28d": sum(recent.isdisjoint(recorded) for recorded in scopes.values()),
                "gaps": 0,
            }
            for population, scopes in sorted(days.items())
        ]

    @cached_property
    def _newest_pings(self) -> list[Row]:
        """For each day up to `as_of` and each scope the newest ping of the 28 days, with that day as its `as_of`."""
        return [
            ping | {"as_of": as_of}
            for _, pings in grouped(self.usage_ping, "population", "scope_id")
            for as_of, ping in valid_pings(pings, self.as_of)
        ]

    def _level(self, level: str) -> list[Row]:
        return [row for row in self.usage_kpi if row["level"] == level]


def expect(records: Iterable[Record], rules: Rules) -> Expected:
    """The tables that follow from `records` of `usage-pings`.

    Records of one partition come in the order of their offsets; how partitions are interleaved decides only which of
    two messages of one identity is the first.

    Raises:
        ValueError: a record of another topic, or a partition out of order.
    """
    outcomes: Counter[tuple[str, str]] = Counter()
    letters: list[Row] = []
    ping_rows: dict[Identity, Row] = {}
    reports: dict[Identity, Row] = {}  # rows of usage_ping, and in "says" the figures that the ping knows
    users_by: dict[Identity, Row] = {}  # the same with the counts by dimension and value
    scopes: dict[tuple[str, str], Scope] = defaultdict(Scope)
    newest: dict[tuple[str, int], int] = {}
    last_offset: dict[tuple[str, int], int] = {}

    for record in records:
        if record.topic != "usage-pings":
            raise ValueError(f"only usage-pings can be computed, found a record of {record.topic}")
        source = (record.topic, record.partition)
        if record.offset <= last_offset.get(source, -1):
            raise ValueError(f"{source}: offset {record.offset} after {last_offset[source]}")
        last_offset[source] = record.offset
        newest_before = newest.get(source, record.timestamp_ms)
        newest[source] = max(newest_before, record.timestamp_ms)

        letter = ""
        try:
            document = read_json(record.value, rules)
            identity = read_identity(document)
            if identity in ping_rows and not record.attempt:
                outcomes[record.topic, "duplicate"] += 1
                continue
            entries = read_entries(document)
            received = instant_of(record.timestamp_ms)
            if identity.recorded_at.date() > received.date() + DAY:
                raise Dead("future")
            if newest_before - record.timestamp_ms > LATE_DAYS * 86_400_000:
                raise Dead("late")
        except Dead as dead:
            outcomes[record.topic, "dead"] += 1
            letter = str(dead)
        else:
            outcomes[record.topic, "applied"] += 1
            first, last = received.date() - LATE_DAYS * DAY, received.date() + DAY
            kept = [entry for entry in entries if first <= entry.day <= last]
            if len(kept) < len(entries):
                letter = "future" if any(entry.day > last for entry in entries) else "late"
            row = ping_rows[identity] = ping_row(document, identity, received, rules)  # of a replay the newer one
            for population, scope_id in scopes_of(identity, rules):
                group = identity.namespace_id if population == "gitlab_com" else ""
                fold(scopes[population, scope_id], group, kept)
            reports.pop(identity, None)
            users_by.pop(identity, None)
            if isinstance(document.get(MONTHLY), dict):
                reports[identity] = row | {"says": reported_figures(document)}
            if isinstance(document.get("users_by"), dict):
                users_by[identity] = row | {"says": users_by_counts(document["users_by"])}
        if letter:
            letters.append(
                {"topic": record.topic, "partition": record.partition, "offset": record.offset, "reason": letter}
            )

    kpi = [*exact_rows(scopes, rules.as_of), *reported_rows(list(reports.values()), rules.as_of)]
    counts = users_by_rows(list(users_by.values()), rules.as_of)
    return Expected(
        as_of=rules.as_of,
        outcomes=outcomes,
        watermark=instant_of(min(newest.values())) if newest else None,
        usage_kpi=in_order(
            [row for row in kpi if row["population"] in rules.populations],
            "as_of", "population", "scope_id", "basis", "level", "stage", "feature",
        ),
        usage_ping=[ping_rows[identity] for identity in sorted(ping_rows)],
        users_by=in_order(
            [row for row in counts if row["population"] in rules.populations],
            "as_of", "population", "scope_id", "dimension", "value",
        ),
        dead_letter=in_order(letters, "topic", "partition", "offset"),
    )  # fmt: skip


# --- reading ---------------------------------------------------------------------------------------------------------


def read_json(
    value: bytes | None,
    rules: Rules,
    parse_int: Callable[[str], Any] | None = None,
    parse_float: Callable[[str], Any] = float,
) -> dict[str, Any]:
    """The object in a message's value. `parse_int` (by default `whole_number`) and `parse_float` read its numbers.

    Raises:
        Dead: `too_large`, `too_deep`, `not_json`, or `invalid` when it is JSON but no object.
    """
    value = value or b""
    if len(value) > rules.max_message_bytes:
        raise Dead("too_large")
    if depth(value) > rules.max_depth:
        raise Dead("too_deep")
    try:
        document = json.loads(
            value.decode("utf-8"),
            parse_constant=refuse_constant,
            parse_int=parse_int or whole_number,
            parse_float=parse_float,
        )
    except ValueError:
        raise Dead("not_json") from None
    if not isinstance(document, dict):
        raise Dead("invalid")
    return document


def depth(value: bytes) -> int:
    """How many brackets are open at once, at most, outside of strings."""
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", value, flags=re.DOTALL)
    deepest = level = 0
    for bracket in re.findall(rb"[\[\]{}]", outside):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def whole_number(digits: str) -> int:
    """An integer. One of more than 40 digits is cut: what is left is still far beyond 64 bits, and of the same sign."""
    return int(digits[:40])


def check(condition: bool) -> None:
    if not condition:
        raise Dead("invalid")


def text(value: object, longest: int) -> str:
    """A string of 1 to `longest` characters without lone surrogates."""
    check(isinstance(value, str) and 0 < len(value) <= longest)
    assert isinstance(value, str)
    check(not has_lone_surrogate(value))
    return value


def has_lone_surrogate(value: str) -> bool:
    return SURROGATE.search(value) is not None


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def moment(value: object) -> dt.datetime:
    """An RFC 3339 moment as UTC."""
    check(isinstance(value, str))
    assert isinstance(value, str)
    match = MOMENT.fullmatch(value)
    check(match is not None)
    assert match is not None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        utc = dt.datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=dt.UTC)
        utc += dt.timedelta(microseconds=int((fraction or "0")[:6].ljust(6, "0")))
        if sign:
            check(int(hours) < 24 and int(minutes) < 60)
            offset = dt.timedelta(hours=int(hours), minutes=int(minutes))
            utc = utc - offset if sign == "+" else utc + offset
    except (ValueError, OverflowError):
        raise Dead("invalid") from None
    check(utc.year >= 1970)
    return utc


def calendar_day(value: object) -> dt.date:
    check(isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value) is not None)
    assert isinstance(value, str)
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise Dead("invalid") from None


def instant_of(timestamp_ms: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=timestamp_ms)


def read_identity(document: Row) -> Identity:
    hostname = document.get("hostname")
    if not isinstance(hostname, str):
        hostname = ""
    check(len(hostname) <= 255 and not has_lone_surrogate(hostname))
    namespace_id = document.get("namespace_id")
    return Identity(
        uuid=text(document.get("uuid"), 64),
        hostname=hostname,
        namespace_id="" if namespace_id is None else text(namespace_id, 64),
        recorded_at=moment(document.get("recorded_at")),
    )


def read_entries(document: Row) -> list[Entry]:
    """Both forms of activity, after every part of the ping that is read has been found right."""
    for name in TEXTS:
        check(not (isinstance(document.get(name), str) and has_lone_surrogate(document[name])))
    if document.get("namespace_plan") is not None:
        text(document["namespace_plan"], 64)
    read_users_by(document.get("users_by"))
    return [read_activity(item) for item in listed(document, "activity")] + [
        read_session(item) for item in listed(document, "sessions")
    ]


def read_users_by(dimensions: object) -> None:
    if dimensions is None:
        return
    check(isinstance(dimensions, dict))
    assert isinstance(dimensions, dict)
    for dimension in ("persona", "acquisition_channel"):
        users = dimensions.get(dimension)
        check(users is None or isinstance(users, dict))
        for name, number in (users or {}).items():
            check(name == "" or text(name, 256) == name)
            check(amount(number) is not None)


def listed(document: Row, name: str) -> list[Row]:
    items = document.get(name)
    if items is None:
        return []
    check(isinstance(items, list) and all(isinstance(item, dict) for item in items))
    assert isinstance(items, list)
    return items


def read_user(value: object) -> User:
    if is_integer(value):
        assert isinstance(value, int)
        check(0 <= value < 2**64)
        return value
    return text(value, 128)


def read_activity(item: Row) -> Entry:
    users = item.get("users")
    check(isinstance(users, list))
    assert isinstance(users, list)
    sessions = item.get("sessions")
    check(sessions is None or amount(sessions) is not None)
    return Entry(
        day=calendar_day(item.get("date")),
        stage=text(item.get("stage"), 256),
        feature=text(item.get("feature"), 256),
        users=frozenset(read_user(user) for user in users),
        sessions=sessions,
    )


def read_session(item: Row) -> Entry:
    return Entry(
        day=moment(item.get("at")).date(),
        stage=text(item.get("stage"), 256),
        feature=text(item.get("feature"), 256),
        users=frozenset([read_user(item.get("user"))]),
        sessions=1,
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def scopes_of(identity: Identity, rules: Rules) -> list[tuple[str, str]]:
    """(population, scope_id) of each scope whose exact figures a ping counts in."""
    if identity.hostname.lower() not in rules.saas_hostnames:
        return [("self_managed", f"{identity.uuid}@{identity.hostname}")]
    group = [("group", identity.namespace_id)] if identity.namespace_id else []
    return [*group, ("gitlab_com", "gitlab.com")]


def ping_row(document: Row, identity: Identity, received: dt.datetime, rules: Rules) -> Row:
    population, scope_id = scopes_of(identity, rules)[0]
    counts = document.get("counts")
    leaves = list(numeric_leaves(counts)) if isinstance(counts, dict | list) else []
    return {
        "uuid": identity.uuid,
        "hostname": identity.hostname,
        "namespace_id": identity.namespace_id,
        "recorded_at": identity.recorded_at,
        "received_at": received,
        "population": population,
        "scope_id": scope_id,
        "version": string_or_nothing(document.get("version")),
        "edition": string_or_nothing(document.get("edition")),
        "plan": plan_of(document),
        "registered_users": amount(document.get("active_user_count")),
        "billable_users": amount(document.get("license_billable_users")),
        "seats": amount(document.get("license_user_count")),
        "historical_max_users": amount(document.get("historical_max_users")),
        "counters": sum(number >= 0 for number in leaves),
        "failed_counters": sum(number < 0 for number in leaves),
        "license_subscription_id": string_or_nothing(document.get("license_subscription_id")),
        "license_sha256": string_or_nothing(document.get("license_sha256"))
        or string_or_nothing(document.get("license_md5")),
    }


def string_or_nothing(value: object) -> str:
    return value if isinstance(value, str) else ""


def amount(value: object) -> int | None:
    """An integer of 0 to 2**63 - 1; anything else is unknown."""
    if is_integer(value):
        assert isinstance(value, int)
        return value if 0 <= value < 2**63 else None
    return None


def plan_of(document: Row) -> str:
    for name in ("namespace_plan", "license_plan"):
        if string_or_nothing(document.get(name)):
            return str(document[name])
    return PLAN_OF_EDITION.get(string_or_nothing(document.get("edition")), "free")


def numeric_leaves(value: object) -> Iterator[int | float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numeric_leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from numeric_leaves(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def fold(scope: Scope, group: str, entries: list[Entry]) -> None:
    """Add one ping's entries: users by union, sessions by the largest number any ping told."""
    told: dict[tuple[str, str, dt.date], int] = {}
    for entry in entries:
        scope.users[entry.stage, entry.feature][entry.day] |= entry.users
        if entry.sessions is not None:
            cell = (entry.stage, entry.feature, entry.day)
            told[cell] = told.get(cell, 0) + entry.sessions
    for (stage, feature, day), number in told.items():
        scope.sessions[group, stage, feature, day] = max(number, scope.sessions.get((group, stage, feature, day), 0))


def exact_rows(scopes: dict[tuple[str, str], Scope], as_of: dt.date) -> Iterator[Row]:
    """The rows of `usage_kpi` that follow from activity: of each scope the total, each stage, each feature."""
    for (population, scope_id), scope in scopes.items():
        figures: dict[tuple[str, str, str], dict[dt.date, set[User]]] = defaultdict(lambda: defaultdict(set))
        known: dict[tuple[str, str, str, dt.date], int] = {}
        for (stage, feature), by_day in scope.users.items():
            for day, users in by_day.items():
                for figure in (("total", "", ""), ("stage", stage, ""), ("feature", stage, feature)):
                    figures[figure][day] |= users
        for (_, stage, feature, day), number in scope.sessions.items():
            for figure in (("total", "", ""), ("stage", stage, ""), ("feature", stage, feature)):
                known[*figure, day] = known.get((*figure, day), 0) + number

        for (level, stage, feature), by_day in figures.items():
            before = 0
            for day in days_between(min(by_day), max(by_day), WINDOW_DAYS, as_of):
                mau = active(by_day, day, WINDOW_DAYS)
                if mau > 0 or before > 0:
                    yield {
                        "as_of": day,
                        "population": population,
                        "scope_id": scope_id,
                        "basis": "exact",
                        "level": level,
                        "stage": stage,
                        "feature": feature,
                        "dau": active(by_day, day, 1),
                        "wau": active(by_day, day, WEEK_DAYS),
                        "mau": mau,
                        "sessions": known.get((level, stage, feature, day)),
                    }
                before = mau


def active(by_day: dict[dt.date, set[User]], day: dt.date, days: int) -> int:
    """How many different users were active in the `days` days that end with `day`."""
    return len(set().union(*(by_day[d] for d in window(day, days) if d in by_day)))


def reported_figures(document: Row) -> dict[tuple[str, str, str], int]:
    """The figures a ping knows, by (level, stage, feature)."""
    known: dict[tuple[str, str, str], int | None] = {("total", "", ""): amount(at_path(document, MAU_PATH))}
    for stage, paths in SMAU_PATHS.items():
        there = [value for value in (at_path(document, path) for path in paths) if value is not None]
        known["stage", stage, ""] = amount(there[0]) if there else None
    for stage, features in document[MONTHLY].items():
        for feature, value in features.items() if isinstance(features, dict) else ():
            if all(name and not has_lone_surrogate(name) for name in (stage, feature)):
                known["feature", stage, feature] = amount(value)
    return {figure: number for figure, number in known.items() if number is not None}


def at_path(document: object, path: str) -> object:
    """What stands at a dotted path, None when nothing does."""
    for name in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def users_by_counts(dimensions: Row) -> dict[tuple[str, str], int]:
    """The counts of a ping's `users_by`, by (dimension, value)."""
    return {
        (dimension, value): users
        for dimension in ("persona", "acquisition_channel")
        for value, users in (dimensions.get(dimension) or {}).items()
    }


def reported_rows(reports: list[Row], as_of: dt.date) -> Iterator[Row]:
    """The rows of `usage_kpi` that follow from the figures that pings say themselves."""
    for (population, scope_id), pings in grouped(reports, "population", "scope_id"):
        said = {day: ping["says"] for day, ping in valid_pings(pings, as_of)}
        for day, figures in said.items():
            for figure, number in figures.items():
                level, stage, feature = figure
                if number > 0 or said.get(day - DAY, {}).get(figure, 0) > 0:
                    yield {
                        "as_of": day,
                        "population": population,
                        "scope_id": scope_id,
                        "basis": "reported",
                        "level": level,
                        "stage": stage,
                        "feature": feature,
                        "dau": None,
                        "wau": None,
                        "mau": number,
                        "sessions": None,
                    }


def users_by_rows(pings: list[Row], as_of: dt.date) -> Iterator[Row]:
    """The rows of `users_by`."""
    for (population, scope_id), of_scope in grouped(pings, "population", "scope_id"):
        for day, ping in valid_pings(of_scope, as_of):
            for (dimension, value), users in ping["says"].items():
                yield {
                    "as_of": day,
                    "population": population,
                    "scope_id": scope_id,
                    "dimension": dimension,
                    "value": value,
                    "users": users,
                }


def valid_pings(pings: list[Row], as_of: dt.date) -> Iterator[tuple[dt.date, Row]]:
    """Each day up to `as_of` that has a ping of one scope in the 28 days that end with it, and the newest of these."""
    oldest_first = in_order(pings, "recorded_at", "uuid", "hostname", "namespace_id")
    of_day = {ping["recorded_at"].date(): ping for ping in oldest_first}  # of several on a day the last stands
    for day in days_between(min(of_day), max(of_day), WINDOW_DAYS - 1, as_of):
        newest = next((of_day[d] for d in window(day, WINDOW_DAYS) if d in of_day), None)
        if newest is not None:
            yield day, newest


def counted_in(ping: Row) -> tuple[str, ...]:
    """The populations that a ping is counted in, as a ping."""
    return ("group", "gitlab_com") if ping["population"] == "group" else (ping["population"],)


def major_minor(version: str) -> str:
    match = re.match(r"[0-9]+\.[0-9]+", version)
    return match.group() if match else ""


def days_between(first: dt.date, last: dt.date, more: int, as_of: dt.date) -> list[dt.date]:
    """Each day from `first` to `more` days after `last`, up to `as_of`."""
    end = min(last.toordinal() + more, as_of.toordinal())
    return [dt.date.fromordinal(number) for number in range(first.toordinal(), end + 1)]


def days_of_window_from(day: dt.date, as_of: dt.date) -> list[dt.date]:
    """The days whose 28-day window holds `day`, up to `as_of`."""
    return days_between(day, day, WINDOW_DAYS - 1, as_of)


@cache
def window(day: dt.date, days: int) -> tuple[dt.date, ...]:
    """The `days` days that end with `day`, newest first."""
    return tuple(dt.date.fromordinal(day.toordinal() - back) for back in range(days))


def basis_of(figures: Iterable[Row]) -> str:
    """Which basis figures have: `exact`, `reported` or `mixed`, '' without any."""
    bases = {row["basis"] for row in figures}
    return "mixed" if len(bases) == 2 else "".join(bases)


def ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def named(keys: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    return dict(zip(keys, values, strict=True))


def in_order(rows: Iterable[Row], *keys: str) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys))


def grouped(rows: Iterable[Row], *keys: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Rows by the values of `keys`, in their order."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return sorted(groups.items(), key=lambda item: item[0])
