"""Each view of the contract about usage, on rows made by hand: its definition in numbers.

Days are counted from 1 January 2026: day 0. A name is written as the contract's words for it: '' the total, 'create' a stage,
'create/repo' a feature.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from sinks.clickhouse.connection import Engine, open_engine
from sinks.clickhouse.schema import migrate

UTC = dt.UTC
NAMES = ["", "create", "create/repo", "create/snippets", "plan", "plan/issues", "manage/events"]
ID = {name: number for number, name in enumerate(NAMES)}
CLOCK = 90


def day(number: int) -> dt.date:
    return dt.date(2026, 1, 1) + dt.timedelta(days=number)


def moment(number: int, hour: int = 8) -> dt.datetime:
    return dt.datetime.combine(day(number), dt.time(hour), UTC)


def _plain(cell: Any) -> Any:
    if isinstance(cell, dt.datetime):
        return cell.replace(tzinfo=UTC)
    return (cell - day(0)).days if isinstance(cell, dt.date) else cell


class Base:
    """The tables beneath the views, empty but for the names of all figures and a clock at day 90 for partition 0."""

    def __init__(self, engine: Engine) -> None:
        self.database = "views"
        self.engine = engine
        self.client: Client = engine.client()
        migrate(self.client, self.database)
        self.empty()

    def empty(self) -> None:
        for table in ("figure_name", "usage_day", "ping", "letter", "progress", "gap"):
            self.client.command(f"TRUNCATE TABLE {self.database}.{table}")
        for name, number in ID.items():
            stage, _, feature = name.partition("/")
            self._insert("figure_name", {"id": number, "stage": stage, "feature": feature})
        self.clock(0, CLOCK)

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        self.client.insert(table, [list(row.values())], column_names=list(row), database=self.database)

    def clock(
        self, partition: int, as_of: int | None, received_at: dt.datetime | None = None, version: int = 1
    ) -> None:
        """`as_of` None: the partition's rows are not written yet."""
        row: dict[str, Any] = {
            "topic": "usage-pings",
            "partition": partition,
            "as_of": dt.date(1970, 1, 1) if as_of is None else day(as_of),
        }
        row |= {"received_at": received_at, "next_offset": 0, "row_version": version}
        self._insert("progress", row)

    def exact(
        self,
        as_of: int,
        scope_id: str,
        figures: dict[str, tuple[int, int, int]],
        sessions: dict[str, int] | None = None,
        *,
        population: str = "self_managed",
        shard: int = 0,
        version: int = 1,
    ) -> None:
        """A row of usage_day; figures are (dau, wau, mau), sessions those that are known."""
        known = sessions or {}
        names = [*figures, *(name for name in known if name not in figures)]
        row: dict[str, Any] = {"as_of": day(as_of), "population": population, "scope_id": scope_id, "shard": shard}
        row |= {"basis": "exact", "names": [ID[name] for name in names]}
        row |= {column: [three[n] for three in figures.values()] for n, column in enumerate(("dau", "wau", "mau"))}
        row |= {"sessions": [known.get(name, -1) for name in names] if known else [], "version": version}
        self._insert("usage_day", row)

    def ping(
        self,
        recorded: int,
        uuid: str = "u",
        figures: dict[str, int] | None = None,
        users_by: dict[tuple[str, str], int] | None = None,
        *,
        hour: int = 8,
        namespace_id: str = "",
        home: int = 0,
        version: str = "17.5.1-ee",
        edition: str = "EEP",
        plan: str = "premium",
        registered_users: int | None = None,
        counters: int = 0,
        failed_counters: int = 0,
        row_version: int = 1,
        **more: Any,
    ) -> None:
        """A ping of `<uuid>@h`, or of GitLab.com (uuid 'saas'). None as figures or users_by: it has no such key.

        more: further columns of the table.
        """
        saas = uuid == "saas"
        population = ("group" if namespace_id else "gitlab_com") if saas else "self_managed"
        row: dict[str, Any] = {"uuid": uuid, "hostname": "gitlab.com" if saas else "h", "namespace_id": namespace_id}
        row |= {"recorded_at": moment(recorded, hour), "received_at": moment(recorded, hour), "population": population}
        row |= {"scope_id": namespace_id or ("gitlab.com" if saas else f"{uuid}@h"), "home": home, "version": version}
        row |= {"edition": edition, "plan": plan, "registered_users": registered_users, "counters": counters}
        row |= {"failed_counters": failed_counters, "row_version": row_version, "reports": figures is not None}
        row |= {"reported_names": [ID[name] for name in figures or {}], "reported_mau": list((figures or {}).values())}
        row |= {"has_users_by": users_by is not None, "users_by_dimension": [named for named, _ in users_by or {}]}
        row |= {
            "users_by_value": [value for _, value in users_by or {}],
            "users_by_users": [*(users_by or {}).values()],
        }
        self._insert("ping", row | more)

    def again(self, row_version: int) -> None:
        """Every ping once more, as a later owner writes them: with a newer version, and what it says of its users one more."""
        self.client.command(
            f"INSERT INTO {self.database}.ping SELECT * REPLACE ({row_version} AS row_version, registered_users + 1 AS "
            f"registered_users) FROM {self.database}.ping"
        )

    def rows(self, view: str, columns: str = "*", where: str = "1", settings: str = "") -> list[tuple[Any, ...]]:
        """Sorted rows; a day is its number."""
        found = self.client.query(f"SELECT {columns} FROM {self.database}.{view} WHERE {where} {settings}").result_rows
        return sorted((tuple(map(_plain, row)) for row in found), key=repr)

    def reported(self) -> dict[str, dict[int, int]]:
        """The reported figures of the only scope: by name, by day."""
        found: dict[str, dict[int, int]] = {}
        rows = self.rows("usage_kpi", "stage, feature, as_of, mau", "basis = 'reported'")
        for stage, feature, as_of, mau in rows:
            found.setdefault(f"{stage}/{feature}".rstrip("/"), {})[as_of] = mau
        assert sum(map(len, found.values())) == len(rows), "two rows of one key"
        return found

    def rows_read(self, query: str) -> int:
        """How many rows of stored tables a query reads."""
        connection = self.engine.connection()
        try:
            return int(connection.query(query).storage_rows_read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    with open_engine(tmp_path_factory.mktemp("views") / "clickhouse") as engine:
        yield Base(engine)


@pytest.fixture
def base(shared: Base) -> Base:
    shared.empty()
    return shared


def span(first: int, last: int, value: int) -> dict[int, int]:
    """The same value on each day from first to last."""
    return dict.fromkeys(range(first, last + 1), value)


# Exact figures


def test_an_installations_newest_version_stands_and_unknown_sessions_are_null(base: Base) -> None:
    base.exact(5, "u@h", {"": (9, 9, 9), "create": (9, 9, 9)}, version=1)
    base.exact(5, "u@h", {"": (1, 2, 3), "create": (0, 0, 0)}, {"": 7, "plan": 4}, version=2)
    base.exact(5, "v@h", {"": (4, 5, 6)})
    assert base.rows("usage_kpi") == [
        (5, "self_managed", "u@h", "exact", "stage", "create", "", 0, 0, 0, None),
        (5, "self_managed", "u@h", "exact", "total", "", "", 1, 2, 3, 7),
        (5, "self_managed", "v@h", "exact", "total", "", "", 4, 5, 6, None),
    ], "sessions without a figure (plan) make no row"


def test_a_groups_shards_add_up(base: Base) -> None:
    base.exact(5, "9", {"": (1, 2, 3), "create": (1, 2, 3)}, {"": 5}, population="group", shard=1)
    base.exact(
        5, "9", {"": (2, 2, 2), "plan": (0, 0, 0)}, {"": 1, "create": 8, "create/repo": 3}, population="group", shard=2
    )
    base.exact(5, "10", {"": (1, 1, 1)}, population="group", shard=1)
    base.exact(5, "11", {}, {"": 4}, population="group", shard=1)
    columns = "scope_id, level, stage, dau, wau, mau, sessions"
    assert base.rows("usage_kpi", columns) == [
        ("10", "total", "", 1, 1, 1, None),
        ("9", "stage", "create", 1, 2, 3, 8),
        ("9", "stage", "plan", 0, 0, 0, None),
        ("9", "total", "", 3, 4, 5, 6),
    ], "create/repo and group 11 have sessions and no figure"
    assert base.rows("kpi_mau", where="population = 'group'") == [(5, "group", "exact", 4, 5, 6, 4 / 6)]


def test_gitlab_coms_users_are_sums_over_partitions_and_its_sessions_over_groups(base: Base) -> None:
    base.exact(5, "gitlab.com", {"": (1, 2, 3), "create": (1, 2, 3)}, {"": 2}, population="gitlab_com", shard=0)
    base.exact(5, "gitlab.com", {"": (10, 20, 30), "plan": (0, 0, 30)}, population="gitlab_com", shard=3)
    base.exact(5, "9", {"": (1, 1, 1)}, {"": 5, "create": 4, "create/repo": 4}, population="group", shard=1)
    base.exact(5, "10", {"": (1, 1, 1)}, {"": 100, "create": 100}, population="group", shard=2)
    base.exact(6, "10", {"": (1, 1, 1)}, {"": 1000}, population="group", shard=2)
    rows = base.rows(
        "usage_kpi", "as_of, scope_id, stage, feature, dau, wau, mau, sessions", "population = 'gitlab_com'"
    )
    assert rows == [
        (5, "gitlab.com", "", "", 11, 22, 33, 107),
        (5, "gitlab.com", "create", "", 1, 2, 3, 104),
        (5, "gitlab.com", "plan", "", 0, 0, 30, None),
    ], "create/repo and day 6 have sessions and no figure"


# What installations report


REPORTED: dict[str, tuple[list[tuple[int, dict[str, int] | None]], dict[int, int]]] = {
    "28 days, the first one included": ([(10, {"": 5})], span(10, 37, 5)),
    "until the next ping": ([(10, {"": 5}), (20, {"": 6})], span(10, 19, 5) | span(20, 47, 6)),
    "an older one comes late": ([(20, {"": 6}), (10, {"": 5})], span(10, 19, 5) | span(20, 47, 6)),
    "a ping that reports nothing ends nothing": ([(10, {"": 5}), (20, None)], span(10, 37, 5)),
    "what a reporting ping lacks is unknown, not 0": ([(10, {"": 5}), (20, {})], span(10, 19, 5)),
    "falls to 0 once": ([(10, {"": 5}), (20, {"": 0}), (25, {"": 0})], span(10, 19, 5) | {20: 0}),
    "0 from the start": ([(10, {"": 0})], {}),
    "from unknown to 0": ([(10, {"": 5}), (20, {}), (25, {"": 0})], span(10, 19, 5)),
    "0 right after the last valid day": ([(10, {"": 5}), (38, {"": 0})], span(10, 37, 5) | {38: 0}),
    "expired a day before the 0": ([(10, {"": 5}), (39, {"": 0})], span(10, 37, 5)),
    "rises from 0": ([(10, {"": 0}), (20, {"": 5})], span(20, 47, 5)),
    "up to the clock": ([(80, {"": 5})], span(80, CLOCK, 5)),
    "after the clock": ([(CLOCK + 1, {"": 5})], {}),
    "falls after the clock": ([(80, {"": 5}), (CLOCK + 1, {"": 0})], span(80, CLOCK, 5)),
}
"""What is told: pings in the order of their coming, by day, with what they report; the figure of each day."""


def test_a_reported_figure_stands_for_28_days_or_until_the_next_report(base: Base) -> None:
    for told, (pings, _) in REPORTED.items():
        for recorded, figures in pings:
            base.ping(recorded, told, figures)
    found: dict[str, dict[int, int]] = {told: {} for told in REPORTED}
    for as_of, scope_id, mau in base.rows("usage_kpi", "as_of, scope_id, mau"):
        days = found[scope_id.removesuffix("@h")]
        assert as_of not in days, "two rows of one key"
        days[as_of] = mau
    assert found == {told: expected for told, (_, expected) in REPORTED.items()}
    sums: Counter[int] = Counter()
    for days in found.values():
        sums.update(days)
    assert base.rows("kpi_mau") == sorted(
        ((as_of, "self_managed", "reported", None, None, mau, None) for as_of, mau in sums.items()), key=repr
    )


def test_of_a_days_reports_the_last_stands_and_of_equal_moments_the_greatest_identity(base: Base) -> None:
    base.ping(10, figures={"": 5}, hour=8)
    base.ping(20, figures={"": 0}, hour=8)
    base.ping(20, figures={"": 7}, hour=9)
    base.ping(30, figures={"": 9}, hour=8)
    base.ping(30, figures={"": 0}, hour=9)
    assert base.reported() == {"": span(10, 19, 5) | span(20, 29, 7) | {30: 0}}


def test_several_identities_are_one_scope_and_the_greatest_of_equal_moments_stands(base: Base) -> None:
    group = {"namespace_id": "9"}
    for uuid, users in (("saas", 5), ("saas", 6)):
        base.ping(10, uuid, {"": users}, row_version=users, **group)  # one identity: the newest row stands
    assert base.reported() == {"": span(10, 37, 6)}
    base.client.command(
        f"INSERT INTO {base.database}.ping SELECT * REPLACE ('zaas' AS uuid, [8] AS reported_mau) "
        f"FROM {base.database}.ping FINAL"
    )
    assert base.reported() == {"": span(10, 37, 8)}


def test_rows_made_of_pings_go_up_to_the_clock_of_the_scopes_partition(base: Base) -> None:
    base.clock(1, 12)
    base.clock(2, None)
    everything: dict[str, Any] = {"figures": {"": 5}, "users_by": {("persona", "dev"): 1}, "registered_users": 1}
    for home, uuid in enumerate(("a", "b", "c", "d")):  # partition 3 is not there at all
        base.ping(10, uuid, home=home, **everything)
    until = {"a@h": range(10, 38), "b@h": range(10, 13)}
    expected = sorted((as_of, scope) for scope, days in until.items() for as_of in days)
    assert sorted(base.rows("usage_kpi", "as_of, scope_id")) == expected
    assert sorted(base.rows("users_by", "as_of, scope_id")) == expected
    scopes = {as_of: sum(day_ == as_of for day_, _ in expected) for as_of in range(10, 38)}
    assert dict(base.rows("kpi_versions", "as_of, scopes")) == scopes
    assert dict(base.rows("kpi_user_count", "as_of, users", "plan = ''")) == scopes
    assert dict(base.rows("kpi_account_usage", "as_of, pings_28d")) == scopes
    base.clock(1, 13, version=2)
    assert dict(base.rows("kpi_versions", "as_of, scopes")) == scopes | {13: 2}


def test_stages_and_features_fall_one_by_one(base: Base) -> None:
    base.ping(10, figures={"": 5, "create": 4, "create/repo": 3, "plan": 2})
    base.ping(12, figures={"": 5, "create": 0, "plan": 1, "plan/issues": 0})
    assert base.reported() == {
        "": span(10, 39, 5),
        "create": span(10, 11, 4) | {12: 0},
        "create/repo": span(10, 11, 3),
        "plan": span(10, 11, 2) | span(12, 39, 1),
    }
    row = (12, "self_managed", "u@h", "reported", "stage", "create", "", None, None, 0, None)
    assert base.rows("usage_kpi", where="mau = 0") == [row]
    assert base.rows("kpi_smau", where="as_of = '2026-01-13' AND stage = 'create'") == [
        (12, "self_managed", "reported", "create", 0)
    ]


def test_users_by_is_valid_as_reported_figures_are(base: Base) -> None:
    base.ping(10, users_by={("persona", "dev"): 3, ("acquisition_channel", "paid"): 0})
    base.ping(11, figures={"": 1})
    base.ping(12, "v", users_by={("persona", "dev"): 4})
    base.ping(13, users_by={})
    expected = [(as_of, "self_managed", "u@h", "acquisition_channel", "paid", 0) for as_of in (10, 11, 12)]
    expected += [(as_of, "self_managed", "u@h", "persona", "dev", 3) for as_of in (10, 11, 12)]
    expected += [(as_of, "self_managed", "v@h", "persona", "dev", 4) for as_of in range(12, 40)]
    assert base.rows("users_by") == sorted(expected, key=repr)
    where = "dimension = 'persona'"
    assert dict(base.rows("kpi_users_by", "as_of, users", where)) == span(10, 11, 3) | {12: 7} | span(13, 39, 4)


def test_a_ping_that_was_written_twice_counts_once_before_it_is_merged(base: Base) -> None:
    """An insert whose answer was lost is made again: rows of one version; and a later owner writes them with a newer one."""
    base.client.command(f"SYSTEM STOP MERGES {base.database}.ping")
    for row_version, users in ((1, 9), (2, 5), (2, 5)):
        told = {"users_by": {("persona", "dev"): users}, "registered_users": users, "row_version": row_version}
        base.ping(10, figures={"": users, "create": 1}, **told)
        base.ping(12, figures={"": users + 1, "create": 0}, **told)
    assert base.client.query(f"SELECT count() FROM {base.database}.ping").first_row == (6,)
    assert base.reported() == {"": span(10, 11, 5) | span(12, 39, 6), "create": span(10, 11, 1) | {12: 0}}
    assert dict(base.rows("kpi_mau", "as_of, mau")) == span(10, 11, 5) | span(12, 39, 6)
    assert dict(base.rows("kpi_smau", "as_of, smau")) == {10: 1, 11: 1, 12: 0}
    for view, users in (("users_by", "users"), ("kpi_users_by", "users"), ("kpi_user_count", "users")):
        assert dict(base.rows(view, f"as_of, {users}")) == span(10, 39, 5), view
    base.client.command(f"SYSTEM START MERGES {base.database}.ping")


@pytest.mark.parametrize("seed", range(4))
def test_pings_of_random_days_speak_for_28_days_or_until_the_next_wherever_a_period_begins(
    base: Base, seed: int
) -> None:
    """Against the definition in plain words, in all days at once and in a day alone; rows are there twice, not merged."""
    chance = random.Random(seed)
    base.client.command(f"SYSTEM STOP MERGES {base.database}.ping")
    pings: dict[tuple[str, str, int, int], tuple[int, dict[str, int] | None]] = {}
    for uuid, group in (("u", ""), ("v", ""), ("saas", ""), ("saas", "9")):
        on = chance.randrange(30)
        while on < 120:
            figures = {"": chance.randrange(2), "create": chance.randrange(3)} if chance.random() < 0.6 else None
            pings[uuid, group, on, chance.randrange(4)] = chance.randrange(1_000), figures
            on += chance.choice((0, 0, 1, 1, 2, 7, 13, 27, 28, 29, 41, 70))
    for (uuid, group, on, hour), (users, figures) in pings.items():
        told = {("persona", "dev"): users} if figures is not None else None
        base.ping(on, uuid, figures, told, hour=hour, namespace_id=group, registered_users=users - 1, counters=1)
    base.again(2)
    base.exact(CLOCK, "u@h", {"": (1, 1, 1)})

    def valid(as_of: int, scope: tuple[str, str], reports: bool) -> tuple[int, dict[str, int] | None] | None:
        """The ping that speaks on a day."""
        every = [
            (on, hour) for uuid, group, on, hour in pings
            if (uuid, group) == scope and as_of - 28 < on <= as_of and (not reports or pings[uuid, group, on, hour][1] is not None)
        ]  # fmt: skip
        return pings[(*scope, *max(every))] if every else None

    users: Counter[tuple[int, str]] = Counter()
    by: Counter[tuple[int, str]] = Counter()
    mau: Counter[tuple[int, str, str]] = Counter()
    counted: Counter[tuple[int, str]] = Counter()
    of_28_days: Counter[tuple[int, str]] = Counter()
    for uuid, group, on, _ in pings:
        counts_in = ["self_managed"] if uuid != "saas" else ["gitlab_com", "group"] if group else ["gitlab_com"]
        for population in counts_in:
            counted[on, population] += 1
            for later in range(28):
                of_28_days[on + later, population] += 1
    for as_of in range(CLOCK + 1):
        for scope in {(uuid, group) for uuid, group, _, _ in pings}:
            population = "self_managed" if scope[0] != "saas" else "group" if scope[1] else "gitlab_com"
            if (spoken := valid(as_of, scope, reports=False)) is not None:
                users[as_of, population] += spoken[0]
            if (spoken := valid(as_of, scope, reports=True)) is not None and spoken[1] is not None:
                by[as_of, population] += spoken[0]
                before = valid(as_of - 1, scope, reports=True)
                for name, value in spoken[1].items():
                    fell = before is not None and (before[1] or {})[name] > 0 and value == 0
                    if value > 0 or fell:
                        mau[as_of, population, name] += value
    wanted: dict[str, list[tuple[Any, ...]]] = {
        "kpi_user_count": [(*key, value) for key, value in users.items()],
        "kpi_users_by": [(*key, value) for key, value in by.items()],
        "population_figure": [(*key, value) for key, value in mau.items()],
        "kpi_usage_pings": [(*key, n, n, of_28_days[key]) for key, n in counted.items() if key[0] <= CLOCK],
        "kpi_account_usage": [],
    }
    told = sorted((on, hour) for uuid, group, on, hour in pings if uuid != "saas" or group)
    for as_of in range(CLOCK + 1):
        by_then = [moment(on, hour) for on, hour in told if on <= as_of]
        recent = sum(on > as_of - 28 for on, _ in told if on <= as_of)
        if recent or as_of == CLOCK:
            wanted["kpi_account_usage"].append((as_of, recent, max(by_then)))
    columns = {
        "kpi_user_count": "as_of, population, users",
        "kpi_users_by": "as_of, population, users",
        "population_figure": "as_of, population, stage, mau",
        "kpi_usage_pings": "as_of, population, pings, counters, pings_28d",
        "kpi_account_usage": "as_of, pings_28d, last_ping_at",
    }
    filters = {"kpi_user_count": "plan = ''", "population_figure": "basis = 'reported'"}
    for view, rows in wanted.items():
        only = filters.get(view, "1")
        assert base.rows(view, columns[view], only) == sorted(rows, key=repr), view
        for as_of in chance.sample(range(CLOCK + 1), 5):
            alone = base.rows(view, columns[view], f"{only} AND as_of = '{day(as_of)}'")
            assert alone == sorted((row for row in rows if row[0] == as_of), key=repr), (view, as_of)
    base.client.command(f"SYSTEM START MERGES {base.database}.ping")


# Populations


@pytest.fixture
def two_bases(base: Base) -> Base:
    """On day 5: two exact installations, three that report, one group in two shards."""
    base.exact(
        5, "u@h", {"": (1, 4, 10), "create": (1, 1, 6), "create/repo": (1, 1, 5), "create/snippets": (0, 0, 4)}, {"": 3}
    )
    base.exact(5, "v@h", {"": (1, 1, 10), "create": (0, 0, 0), "plan": (1, 1, 2)}, {"": 5, "plan": 0})
    base.exact(5, "9", {"": (0, 0, 1), "create": (0, 0, 1)}, population="group", shard=0)
    base.exact(5, "9", {"": (0, 0, 2), "create": (0, 0, 1), "plan": (0, 0, 2)}, {"": 6}, population="group", shard=1)
    base.ping(5, "u", {"": 100, "create": 30, "create/repo": 8, "manage/events": 100})
    base.ping(5, "w", {"create": 5, "plan": 0})
    base.ping(5, "x", {"": 50})
    return base


CALENDAR = 146_097
"""Days in the view of that name, which are numbers."""
DAY_5 = "as_of = '2026-01-06'"


def test_kpi_mau(two_bases: Base) -> None:
    assert two_bases.rows("kpi_mau", where=DAY_5) == [
        (5, "group", "exact", 0, 0, 3, 0.0),
        (5, "self_managed", "exact", 2, 5, 20, 0.1),
        (5, "self_managed", "reported", None, None, 150, None),
    ]


def test_kpi_smau_and_its_factor(two_bases: Base) -> None:
    assert two_bases.rows("kpi_smau", where=DAY_5) == [
        (5, "group", "exact", "create", 2),
        (5, "group", "exact", "plan", 2),
        (5, "self_managed", "exact", "create", 6),
        (5, "self_managed", "exact", "plan", 2),
        (5, "self_managed", "reported", "create", 35),
    ]
    assert two_bases.rows("kpi_smau_factor", where=DAY_5) == [
        (5, "group", "exact", 3, 4, 4 / 3),
        (5, "self_managed", "exact", 20, 8, 0.4),
        (5, "self_managed", "reported", 150, 35, 35 / 150),
    ]


def test_kpi_feature_mau_and_its_factor(two_bases: Base) -> None:
    assert two_bases.rows("kpi_feature_mau", where=DAY_5) == [
        (5, "self_managed", "exact", "create", "repo", 5),
        (5, "self_managed", "exact", "create", "snippets", 4),
        (5, "self_managed", "reported", "create", "repo", 8),
        (5, "self_managed", "reported", "manage", "events", 100),
    ]
    assert two_bases.rows("kpi_feature_mau_factor", where=DAY_5 + " AND population = 'self_managed'") == [
        (5, "self_managed", "exact", "create", 6, 9, 1.5),
        (5, "self_managed", "exact", "plan", 2, 0, 0.0),
        (5, "self_managed", "reported", "create", 35, 8, 8 / 35),
    ], "manage has no SMAU, so no factor"


def test_a_ratio_over_0_is_null_and_a_factor_needs_its_mau(base: Base) -> None:
    base.exact(5, "u@h", {"": (0, 0, 0), "create": (0, 0, 0)})
    base.ping(5, "w", {"create": 5})
    assert base.rows("kpi_mau") == [(5, "self_managed", "exact", 0, 0, 0, None)]
    assert base.rows("kpi_smau_factor") == [(5, "self_managed", "exact", 0, 0, None)]
    assert base.rows("kpi_feature_mau_factor", where=DAY_5) == [
        (5, "self_managed", "exact", "create", 0, 0, None),
        (5, "self_managed", "reported", "create", 5, 0, 0.0),
    ]


def test_kpi_stage_adoption(two_bases: Base) -> None:
    two_bases.exact(5, "0@h", {"": (0, 0, 0), "create": (0, 0, 0)})
    two_bases.exact(5, "gitlab.com", {"": (1, 1, 1), "create": (1, 1, 1)}, population="gitlab_com")
    assert two_bases.rows("kpi_stage_adoption", where=DAY_5) == [
        (5, "group", "exact", 0, 1, 1, 1.0),
        (5, "group", "exact", 1, 1, 1, 1.0),
        (5, "self_managed", "exact", 0, 2, 2, 1.0),
        (5, "self_managed", "reported", 0, 1, 2, 0.5),
    ], "w reports no MAU, and does not count"


def test_adoption_by_nobody_has_one_row_and_ends_with_the_mau(base: Base) -> None:
    base.ping(5, "x", {"": 50, "manage/events": 50, "create": 0})
    base.ping(6, "x", {"": 0, "manage/events": 0, "create": 0})
    assert base.rows("kpi_mau", "as_of, mau") == [(5, 50), (6, 0)]
    assert base.rows("kpi_stage_adoption") == [(5, "self_managed", "reported", 0, 0, 1, 0.0)]


def test_kpi_sessions(two_bases: Base) -> None:
    two_bases.exact(5, "z@h", {"": (40, 40, 40), "create/repo": (0, 0, 9)}, {"create/repo": 2})
    two_bases.exact(5, "gitlab.com", {"": (4, 4, 4)}, population="gitlab_com")
    assert two_bases.rows("kpi_sessions") == [
        (5, "gitlab_com", "", "", 6, 4, 1.5),
        (5, "group", "", "", 6, 0, None),
        (5, "self_managed", "", "", 8, 2, 4.0),
        (5, "self_managed", "create", "repo", 2, 0, None),
        (5, "self_managed", "plan", "", 0, 1, 0.0),
    ], "z tells no total: neither its sessions nor its users count in it"


# Pings


def test_kpi_usage_pings_counts_a_groups_ping_twice_and_28_days(base: Base) -> None:
    base.ping(10, counters=5, failed_counters=1)
    base.ping(10, "v", counters=6)
    base.ping(37, counters=1)
    base.ping(38, counters=1)
    base.ping(CLOCK + 1, counters=1)
    base.ping(10, "saas", counters=7)
    base.ping(11, "saas", namespace_id="9", counters=8)
    base.ping(11, "saas", namespace_id="9", counters=9, row_version=2)
    assert base.rows("kpi_usage_pings") == [
        (10, "gitlab_com", 1, 7, 0, 1),
        (10, "self_managed", 2, 11, 1, 2),
        (11, "gitlab_com", 1, 9, 0, 2),
        (11, "group", 1, 9, 0, 1),
        (37, "self_managed", 1, 1, 0, 3),
        (38, "self_managed", 1, 1, 0, 2),
    ]
    assert len(base.rows("usage_ping")) == 7


def test_kpi_versions_counts_scopes_by_their_newest_ping(base: Base) -> None:
    base.ping(10, "a", version="17.5.1-ee", registered_users=10)
    base.ping(12, "a", version="17.10", edition="EEU", hour=7)
    base.ping(12, "a", version="17.11.0", edition="EEU", registered_users=5, hour=9)
    base.ping(10, "b", version="17.5.9", registered_users=20)
    base.ping(10, "c", version="17.5", registered_users=None)
    base.ping(10, "d", version="next 17.5")
    base.ping(10, "saas", version="18.0", registered_users=7)
    assert base.rows("kpi_versions", where="as_of = '2026-01-11'") == [
        (10, "gitlab_com", "18.0", "EEP", 1, 7),
        (10, "self_managed", "", "EEP", 1, None),
        (10, "self_managed", "17.5", "EEP", 3, 30),
    ]
    assert base.rows("kpi_versions", where="as_of = '2026-01-13' AND population = 'self_managed'") == [
        (12, "self_managed", "", "EEP", 1, None),
        (12, "self_managed", "17.11", "EEU", 1, 5),
        (12, "self_managed", "17.5", "EEP", 2, 20),
    ]
    assert base.rows("kpi_versions", "max(as_of), min(as_of)") == [(39, 10)]


def test_kpi_user_count_asks_the_newest_ping_alone(base: Base) -> None:
    base.ping(10, "a", registered_users=10, plan="premium")
    base.ping(10, "b", registered_users=20, plan="free")
    base.ping(11, "b", registered_users=None, plan="free")
    base.ping(11, "saas", namespace_id="9", registered_users=4, plan="silver")
    base.ping(12, "c", registered_users=0, plan="premium")
    day_10 = [
        (10, "self_managed", "", 30, 2),
        (10, "self_managed", "free", 20, 1),
        (10, "self_managed", "premium", 10, 1),
    ]
    assert base.rows("kpi_user_count", where="as_of = '2026-01-11'") == day_10
    assert base.rows("kpi_user_count", where="as_of = '2026-01-13'") == [
        (12, "group", "", 4, 1),
        (12, "group", "silver", 4, 1),
        (12, "self_managed", "", 10, 2),
        (12, "self_managed", "premium", 10, 2),
    ], "the newest ping of b does not know"
    assert base.rows("kpi_user_count", where="as_of >= '2026-02-08'") == [
        (38, "group", "", 4, 1),
        (38, "group", "silver", 4, 1),
        (38, "self_managed", "", 0, 1),
        (38, "self_managed", "premium", 0, 1),
        (39, "self_managed", "", 0, 1),
        (39, "self_managed", "premium", 0, 1),
    ]


def test_kpi_account_usage_takes_exact_figures_before_reported_ones(base: Base) -> None:
    base.ping(10, "a", {"": 100, "create": 50, "plan": 0, "plan/issues": 3})
    base.ping(10, "b", {"create": 7, "create/snippets": 2})
    base.ping(10, "saas", {"": 1000, "plan": 1000})
    account = "as_of, mau, basis, stages_used, features_used, pings_28d, last_ping_at"
    assert base.rows("kpi_account_usage", account, "as_of = '2026-01-11'") == [
        (10, 100, "reported", 1, 2, 2, moment(10))
    ]

    base.exact(11, "9", {"": (1, 1, 1), "plan": (1, 1, 1)}, {"create": 3}, population="group", shard=0)
    base.exact(11, "9", {"": (1, 1, 2), "create/repo": (0, 0, 2), "create": (0, 0, 0)}, population="group", shard=1)
    assert base.rows("kpi_account_usage", account, "as_of = '2026-01-12'") == [(11, 103, "mixed", 2, 3, 2, moment(10))]

    base.exact(12, "a@h", {"": (1, 1, 8), "plan": (1, 1, 8)})
    base.exact(13, "a@h", {"": (0, 0, 0), "plan": (0, 0, 0)})
    base.ping(13, "c", hour=9)
    assert base.rows("kpi_account_usage", account, "as_of BETWEEN '2026-01-13' AND '2026-01-14'") == [
        (12, 8, "mixed", 2, 1, 2, moment(10)),
        (13, 100, "reported", 1, 2, 3, moment(13, 9)),
    ]
    assert base.rows("kpi_account_usage", account, "as_of >= '2026-02-07'") == [
        (37, 100, "reported", 1, 2, 3, moment(13, 9)),
        (38, None, "", 0, 0, 1, moment(13, 9)),
        (39, None, "", 0, 0, 1, moment(13, 9)),
        (40, None, "", 0, 0, 1, moment(13, 9)),
    ]
    assert base.rows("kpi_account_usage", "DISTINCT account_id") == [("",)]
    base.exact(60, "a@h", {"": (1, 1, 8), "plan": (1, 1, 8)})
    assert base.rows("kpi_account_usage", account, "as_of >= '2026-03-01'") == [
        (60, 8, "exact", 1, 0, 0, moment(13, 9))
    ], "the last ping, however long ago"


def test_kpi_freshness(base: Base) -> None:
    base.clock(0, CLOCK, received_at=moment(90, 3), version=2)
    base.clock(1, 80, received_at=moment(80, 5))
    base.clock(2, None)
    base.client.command(f"INSERT INTO {base.database}.gap VALUES ('usage-pings', 0, 5, 9), ('billing-events', 0, 1, 2)")
    base.client.command(f"INSERT INTO {base.database}.gap VALUES ('usage-pings', 0, 5, 9)")
    base.exact(70, "a@h", {"": (1, 1, 1)})
    base.exact(71, "a@h", {"": (0, 1, 1)})
    base.ping(62, "a")
    base.ping(63, "b")
    base.ping(CLOCK + 1, "c")
    base.ping(20, "saas", namespace_id="9")
    base.ping(30, "saas", namespace_id="10")
    watermark = moment(80, 5)
    assert base.rows("kpi_freshness") == [
        ("gitlab_com", 30, watermark, 1, 1),
        ("group", 30, watermark, 2, 1),
        ("self_managed", 70, watermark, 2, 1),
    ]
    base.ping(64, "saas", namespace_id="10")
    assert base.rows("kpi_freshness", "population, newest_day, scopes_silent_28d")[:2] == [
        ("gitlab_com", 64, 0),
        ("group", 64, 1),
    ]


def test_dead_letter_is_read_once_a_place(base: Base) -> None:
    for version in (1, 2):
        base.client.command(
            f"INSERT INTO {base.database}.letter VALUES ('usage-pings', 0, 7, 'late', 'told {version}', 0, {version})"
        )
    assert base.rows("dead_letter", "topic, partition, offset, reason, error") == [
        ("usage-pings", 0, 7, "late", "told 2")
    ]


# Every view


def test_no_view_depends_on_the_settings_of_the_connection(two_bases: Base) -> None:
    two_bases.ping(6, "u", {"": 0}, {("persona", "dev"): 1}, registered_users=5)
    odd = "SETTINGS join_use_nulls = 1, prefer_column_name_to_alias = 1, session_timezone = 'America/New_York'"
    for view in (
        "usage_kpi",
        "users_by",
        "kpi_stage_adoption",
        "kpi_usage_pings",
        "kpi_account_usage",
        "kpi_freshness",
    ):
        rows = two_bases.rows(view)
        assert rows, view
        assert two_bases.rows(view, settings=odd) == rows, view


def test_a_question_about_a_day_reads_that_day_and_that_basis_alone(base: Base) -> None:
    days, pings = 50_000, 3_000
    base.client.command(
        f"INSERT INTO {base.database}.usage_day (as_of, population, scope_id, basis, names, dau, wau, mau) "
        "SELECT toDate32('2024-01-01') + number % 1000, if(number % 2 = 0, 'self_managed', 'group'), "
        f"toString(intDiv(number, 1000)), 'exact', [0], [1], [1], [1] FROM numbers({days})"
    )
    base.client.command(
        f"INSERT INTO {base.database}.ping (uuid, recorded_at, population, scope_id, reports, reported_names, reported_mau) "
        f"SELECT toString(number), '2026-01-06 00:00:00', 'self_managed', toString(number), 1, [0], [1] FROM numbers({pings})"
    )
    granule = 8192
    for view in ("usage_kpi", "kpi_mau", "kpi_smau", "kpi_stage_adoption"):
        asked = f"SELECT * FROM {base.database}.{view} WHERE {DAY_5} AND population = 'self_managed'"
        exact = base.rows_read(f"{asked} AND basis = 'exact'")
        # Of the pings a flag and the period are read: whether any of them reports, and that they are of no period asked for.
        assert exact < granule + 3 * pings + 100, f"{view}: reads other days, or what pings report"
        reported = base.rows_read(f"{asked} AND basis = 'reported'")
        assert pings <= reported - CALENDAR < days / 2, f"{view}: reads days"
