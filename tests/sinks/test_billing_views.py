"""Each view of the contract about billing, on rows made by hand: its definition in numbers.

Days are counted from 1 January 2026: day 0; those before it are negative. Money is in whole cents in the tables.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.billing import PLAN_RANK
from sinks.clickhouse.billing_writer import (
    ACCOUNT_GROUPS,
    ACCOUNT_SCHEMA,
    SUBSCRIPTION_GROUPS,
    SUBSCRIPTION_SCHEMA,
    array_block,
)
from sinks.clickhouse.connection import open_engine
from sinks.clickhouse.writer import insert
from tests.sinks.test_views import CLOCK, UTC, Base, day, moment

DAY_0 = (day(0) - dt.date(1970, 1, 1)).days
EVER = (dt.date(2299, 12, 31) - day(0)).days
"""The day that stands for no end."""

DIMENSIONS = ("total", "plan", "geo", "territory", "segment", "buyer_persona", "acquisition_channel", "deployment")
Element = tuple[Any, ...]


class Billing(Base):
    """The tables beneath the views, empty, and both topics' clocks at day 90.

    Columns of lists are given by the first word of their names, an element a tuple, in the order of the columns.
    """

    def empty(self) -> None:
        super().empty()
        for table in ("billing_account", "billing_subscription", "billing_cell"):
            self.client.command(f"TRUNCATE TABLE {self.database}.{table}")
        self.cells: dict[tuple[str, str], int] = {}
        self.billing_clock(CLOCK)

    def billing_clock(self, as_of: int | None, partition: int = 0, version: int = 1) -> None:
        """`as_of` None: the partition's rows are not written yet."""
        row: dict[str, Any] = {"topic": "billing-events", "partition": partition}
        row |= {"as_of": dt.date(1970, 1, 1) if as_of is None else day(as_of), "row_version": version}
        self._insert("progress", row)

    def cut(self, **values: str) -> Element:
        """An element of `cut`: the cells of these values, '' for every other dimension."""
        names = [(dimension, values.get(dimension, "")) for dimension in DIMENSIONS]
        for dimension, value in names:
            if (dimension, value) not in self.cells:
                self.cells[dimension, value] = cell = 1000 + len(self.cells)
                self._insert("billing_cell", {"id": cell, "dimension": dimension, "value": value})
        return ([self.cells[name] for name in names],)

    def account(
        self, account_id: str, *, first_day: int = 0, home: int = 0, version: int = 1, **groups: Sequence[Element]
    ) -> None:
        key = (account_id, home, DAY_0 + first_day)
        groups = {"tick": [(EVER,)] * 6} | groups
        self._arrays("billing_account", ACCOUNT_SCHEMA, key, ACCOUNT_GROUPS, groups, version)

    def subscription(
        self, account_id: str, subscription_id: str, *, home: int = 0, version: int = 1, **groups: Sequence[Element]
    ) -> None:
        key = (account_id, subscription_id, home)
        self._arrays("billing_subscription", SUBSCRIPTION_SCHEMA, key, SUBSCRIPTION_GROUPS, groups, version)

    def _arrays(
        self,
        table: str,
        schema: pa.Schema,
        key: Element,
        widths: Mapping[str, int],
        groups: Mapping[str, Sequence[Element]],
        version: int,
    ) -> None:
        assert groups.keys() <= widths.keys()
        types = [field.type.value_type for field in list(schema)[len(key) : -1]]
        columns = {}
        for group, width in widths.items():
            of_group, types = types[:width], types[width:]
            elements = [
                tuple(_stored(*one) for one in zip(element, of_group, strict=True)) for element in groups.get(group, ())
            ]
            columns[group] = (
                list(zip(*elements, strict=True)) if elements else [()] * width,
                np.array([len(elements)]),
            )
        insert(self.client, self.database, table, array_block(schema, [[one] for one in key], widths, columns, version))


def _stored(value: Any, kind: pa.DataType) -> Any:
    return DAY_0 + value if pa.types.is_date32(kind) else value


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Billing]:
    with open_engine(tmp_path_factory.mktemp("views") / "clickhouse") as engine:
        yield Billing(engine)


@pytest.fixture
def base(shared: Billing) -> Billing:
    shared.empty()
    return shared


def on(number: int) -> str:
    return f"as_of = '{day(number)}'"


def span(first: int, last: int, value: Any) -> dict[int, Any]:
    """The same on each day from first to last."""
    return dict.fromkeys(range(first, last + 1), value)


def movement(
    at: int | dt.datetime,
    kind: str,
    seats: tuple[int, int],
    mrr: tuple[int, int] = (0, 0),
    parts: tuple[int, int, int, int] = (0, 0, 0, 0),
    *,
    event_id: str = "e",
    subscription_id: str = "S",
    channel: str = "",
    plans: tuple[str, str] = ("premium", "premium"),
) -> Element:
    """An element of `movement`. Pairs are from and to; parts are those of seats, tier, discount and price."""
    occurred_at = moment(at) if isinstance(at, int) else at
    return (event_id, occurred_at, subscription_id, kind, channel, *plans, *seats, *mrr, *parts)


def flow(level: int, steps: Sequence[tuple[int, int, int]]) -> list[Element]:
    """Elements of `retention` of one customer, by (day, MRR 12 months ago, MRR now) from that day on."""
    elements = []
    before = (0, 0, 0, 0, 0, 0)
    for since, base, mrr in steps:
        counted = (mrr, min(base, mrr), 1, int(mrr == 0)) if base else (0, 0, 0, 0)
        now = (base, mrr, *counted)
        elements.append((level, since, *(new - old for new, old in zip(now, before, strict=True))))
        before = now
    return elements


# Facts


def test_facts_have_one_row_for_each_event_up_to_the_clock(base: Billing) -> None:
    last = dt.datetime.combine(day(CLOCK), dt.time.max, UTC)
    base.account("A", movement=[movement(3, "new", (0, 9), event_id="old")], version=1)
    base.account(
        "A",
        movement=[
            movement(5, "new", (0, 10), (0, 500_00), (500_00, 0, 0, 0), event_id="e1", plans=("", "free")),
            movement(
                last,
                "growth",
                (10, 15),
                (500_00, 700_01),
                (250_00, -60_00, -1, 10_02),
                event_id="e2",
                channel="partner",
            ),
            movement(CLOCK + 1, "churn", (15, 0), (700_01, 0), (-700_01, 0, 0, 0), event_id="e3"),
        ],
        addon=[
            ("e4", moment(5), "self_service", "storage", 3, -5),
            ("e5", moment(CLOCK + 1), "", "storage", 1, 100),
        ],
        action=[
            ("trial", "e6", moment(4), "sales_assisted"),
            ("growth", "e2", last, "partner"),
            ("renew", "e7", moment(CLOCK + 1), ""),
        ],
        version=2,
    )
    cents = [Decimal(amount) for amount in ("500.00", "700.01", "250.00", "-60.00", "-0.01", "10.02")]
    assert base.rows("seat_movement") == [
        ("A", "e1", moment(5), "S", "new", "", "", "free", 0, 10, 0, 500, 500, 0, 0, 0),
        ("A", "e2", last, "S", "growth", "partner", "premium", "premium", 10, 15, *cents),
    ]
    assert base.rows("addon_purchase") == [("A", "e4", moment(5), "self_service", "storage", 3, Decimal("-0.05"))]
    assert base.rows("self_service_action") == [
        ("A", "growth", "e2", last, "partner"),
        ("A", "trial", "e6", moment(4), "sales_assisted"),
    ]


# A subscription by the day


def test_account_kpi_shows_what_holds_at_the_end_of_each_day(base: Billing) -> None:
    base.account("A", first_day=-500)
    base.subscription(
        "A",
        "S",
        state=[
            (10, 19, "self_managed", "starter", 10, 190_00),
            (20, 39, "self_managed", "premium", 25, 1_000_50),
            (40, 45, "gitlab_com", "silver", 0, 0),
        ],
        base=[(30, 190_00), (42, 1_000_50)],
        added=[(20, 15, 0), (40, 15, 25), (48, 0, 25)],
        profile=[
            (12, "P", "DE", "EMEA", "DACH", "SMB", "developer", "paid", "ads"),
            (40, "", "JP", "APAC", "Japan", "Large", "manager", "owned", ""),
        ],
    )
    nobody, first = ("",) * 8, ("P", "DE", "EMEA", "DACH", "SMB", "developer", "paid", "ads")
    profile = (
        "parent_account_id, country, geo, territory, segment, buyer_persona, acquisition_channel, acquisition_source"
    )
    shown = base.rows("account_kpi", f"as_of, {profile}")
    assert [row[0] for row in shown] == list(range(10, 46)), "from the first state's day to the last one's end"
    second = ("", "JP", "APAC", "Japan", "Large", "manager", "owned", "")
    assert {row[0]: row[1:] for row in shown} == (span(10, 11, nobody) | span(12, 39, first) | span(40, 45, second))
    numbers = "as_of, deployment, plan, seats, seats_added_28d, seats_removed_28d, mrr, mrr_12m_ago"
    found = {row[0]: row[1:] for row in base.rows("account_kpi", numbers)}
    starter, premium = ("self_managed", "starter", 10, 0, 0), ("self_managed", "premium", 25, 15, 0)
    assert found == (
        span(10, 19, (*starter, 190, 0))
        | span(20, 29, (*premium, Decimal("1000.50"), 0))
        | span(30, 39, (*premium, Decimal("1000.50"), 190))
        | span(40, 41, ("gitlab_com", "silver", 0, 15, 25, 0, 190))
        | span(42, 45, ("gitlab_com", "silver", 0, 15, 25, 0, Decimal("1000.50")))
    )


def test_users_are_those_of_the_newest_seats_synced_even_if_it_lacks_them(base: Billing) -> None:
    base.account("A")
    base.subscription(
        "A", "S", state=[(0, EVER, "self_managed", "premium", 10, 0)], sync=[(15, 7, -1), (25, -1, 9), (35, 0, 0)]
    )
    base.ping(0, license_subscription_id="S", billable_users=3, historical_max_users=4)
    base.account("A", link=[("subscription", "S", "S", [moment(0)])], version=2)
    found = {row[0]: row[1:] for row in base.rows("account_kpi", "as_of, billable_users, max_users")}
    assert found == span(0, 14, (3, 4)) | span(15, 24, (7, None)) | span(25, 34, (None, 9)) | span(35, CLOCK, (0, 0))


def test_users_without_any_sync_are_sums_over_the_newest_pings_of_28_days(base: Billing) -> None:
    base.account("A", link=[("subscription", "S", "S", [moment(0)])])
    base.subscription("A", "S", state=[(0, EVER, "self_managed", "premium", 10, 0)])
    base.ping(10, "u", license_subscription_id="S", billable_users=3, historical_max_users=10)
    base.ping(12, "v", license_subscription_id="S", billable_users=5, historical_max_users=None)
    base.ping(20, "u", license_subscription_id="S", billable_users=None, historical_max_users=20)
    base.ping(20, "w", billable_users=1000, historical_max_users=1000)
    found = {row[0]: row[1:] for row in base.rows("account_kpi", "as_of, billable_users, max_users")}
    nothing = (None, None)
    assert found == (
        span(0, 9, nothing)
        | span(10, 11, (3, 10))
        | span(12, 19, (8, 10))
        | span(20, 39, (5, 20))
        | span(40, 47, (None, 20))
        | span(48, CLOCK, nothing)
    )


# Seats and money by dimension


def by_value(base: Billing, view: str, *columns: str) -> dict[str, dict[int, Any]]:
    """The columns (a single one as it is) by dimension and value, by day."""
    found: dict[str, dict[int, Any]] = {}
    rows = base.rows(view, ", ".join(("dimension", "value", "as_of", *columns)))
    for dimension, value, as_of, *figures in rows:
        found.setdefault(f"{dimension} {value}", {})[as_of] = figures[0] if len(columns) == 1 else tuple(figures)
    assert sum(map(len, found.values())) == len(rows), "two rows of one key"
    return found


def test_kpi_seats_and_kpi_mrr_add_up_what_accounts_hold(base: Billing) -> None:
    premium, ultimate = base.cut(plan="premium", geo="EMEA"), base.cut(plan="ultimate", geo="EMEA")
    moved = [(1, 10, 1, 10, 100_00), (1, 20, -1, -10, -100_00), (2, 20, 1, 15, 200_50), (2, 30, -1, -15, -200_50)]
    base.account("A", home=0, cut=[premium, ultimate], held=moved)
    base.account("B", home=1, cut=[premium], held=[(1, 15, 1, 0, 0), (1, CLOCK, 0, 7, 1), (1, CLOCK + 1, 0, 1, 1)])
    seats = by_value(base, "kpi_seats", "seats")
    for everywhere in ("total ", "geo EMEA", "territory ", "segment ", "deployment ", "buyer_persona "):
        assert seats[everywhere] == span(10, 19, 10) | span(20, 29, 15) | span(30, CLOCK - 1, 0) | {CLOCK: 7}
    assert seats["plan premium"] == span(10, 19, 10) | span(20, CLOCK - 1, 0) | {CLOCK: 7}, "B has rows, of 0 seats"
    assert seats["plan ultimate"] == span(20, 29, 15), "no row of account_kpi, no row here"
    assert len(seats) == 9, "no value that nobody has"
    mrr = by_value(base, "kpi_mrr", "mrr", "arr")
    ultimate_now = (Decimal("200.50"), 12 * Decimal("200.50"))
    assert mrr["plan ultimate"] == span(20, 29, ultimate_now)
    cent = (Decimal("0.01"), Decimal("0.12"))
    assert mrr["total "] == (
        span(10, 19, (100, 1200)) | span(20, 29, ultimate_now) | span(30, CLOCK - 1, (0, 0)) | {CLOCK: cent}
    )


def test_kpi_seats_added_of_100_seats_10_are_a_tenth_for_28_days(base: Billing) -> None:
    smb, large = base.cut(segment="SMB"), base.cut(segment="Large")
    base.account(
        "A",
        cut=[smb, large],
        held=[(1, -10, 1, 100, 0), (1, 20, 0, 10, 0), (1, 30, -1, -110, 0), (2, 30, 1, 110, 0), (2, 60, -1, -110, 0)],
        movement=[
            movement(-10, "new", (0, 100)),
            movement(20, "growth", (100, 110), channel="self_service"),
            movement(25, "renewal_growth", (110, 120), channel="partner"),
            movement(26, "contraction", (120, 110)),
        ],
        window=[(1, -10, 18, 1), (2, 20, 30, 1), (2, 30, 48, 2), (3, 25, 53, 1), (4, 26, 54, 1)],
    )
    added = by_value(base, "kpi_seats_added", "seats_added_28d", "seats_at_start", "added_share")
    assert added["total "] == (
        span(-10, 17, (0, 0, None))
        | span(18, 19, (0, 100, 0))
        | span(20, 47, (10, 100, 0.1))
        | span(48, 87, (0, 110, 0))
    ), "rows as long as there were any 28 days before"
    assert added["segment SMB"] == (
        span(-10, 17, (0, 0, None)) | span(18, 19, (0, 100, 0)) | span(20, 29, (10, 100, 0.1))
        | span(30, 47, (0, 100, 0)) | span(48, 57, (0, 110, 0))
    )  # fmt: skip
    assert added["segment Large"] == span(30, 47, (10, 0, None)) | span(48, 57, (0, 0, None)) | span(
        58, 87, (0, 110, 0)
    )
    channels = {name: days for name, days in added.items() if name.startswith("channel")}
    assert channels == {"channel self_service": span(20, 47, (10, None, None))}


def test_kpi_seats_added_by_channel_counts_where_the_sum_is_of_several_accounts(base: Billing) -> None:
    for account_id, at, channel in (("A", 20, ""), ("B", 30, ""), ("C", 30, "sales_assisted")):
        grown = movement(at, "growth", (1, 4), channel=channel)
        base.account(account_id, cut=[base.cut()], movement=[grown], window=[(1, at, at + 28, 1)])
    added = by_value(base, "kpi_seats_added", "seats_added_28d")
    assert added == {
        "channel ": span(20, 29, 3) | span(30, 47, 6) | span(48, 57, 3),
        "channel sales_assisted": span(30, 57, 3),
    }


# Movements


def test_kpi_tier_movement_counts_changes_of_rank_between_paid_plans_by_the_segment_of_as_of(base: Billing) -> None:
    smb, large = base.cut(segment="SMB"), base.cut(segment="Large")
    counted = [
        movement(10, "growth", (5, 8), (50_00, 160_00), plans=("premium", "ultimate")),
        movement(10, "none", (8, 8), (1_00, 81_00), plans=("silver", "ultimate")),
        movement(20, "contraction", (8, 2), (160_00, 20_50), plans=("ultimate", "premium")),
        movement(20, "none", (0, 0), plans=("bronze", "gold")),
    ]
    others = [
        movement(10, "new", (0, 9), plans=("bronze", "gold")),
        movement(10, "churn", (9, 0), plans=("gold", "bronze")),
        movement(10, "growth", (1, 2), plans=("free", "gold")),
        movement(10, "contraction", (2, 1), plans=("gold", "free")),
        movement(10, "growth", (1, 2), plans=("bronze", "starter")),
        movement(10, "new", (0, 1), plans=("", "gold")),
    ]
    windows = [(1, 10, 30, 1), (1, 30, 38, 2), (2, 10, 38, 2), (3, 20, 48, 1), (4, 20, 48, 1)]
    windows += [(number, 10, 38, 1) for number in range(5, 11)]
    base.account("A", cut=[smb, large], movement=counted + others, window=windows)
    found: dict[Element, dict[int, Element]] = {}
    for as_of, *key, subscriptions, seats, mrr_change in base.rows("kpi_tier_movement"):
        found.setdefault(tuple(key), {})[as_of] = (subscriptions, seats, mrr_change)
    assert found == {
        ("SMB", "premium", "ultimate", "upgrade"): span(10, 29, (1, 8, 110)),
        ("Large", "premium", "ultimate", "upgrade"): span(30, 37, (1, 8, 110)),
        ("Large", "silver", "ultimate", "upgrade"): span(10, 37, (1, 8, 80)),
        ("SMB", "ultimate", "premium", "downgrade"): span(20, 47, (1, 2, Decimal("-139.50"))),
        ("SMB", "bronze", "gold", "upgrade"): span(20, 47, (1, 0, 0)),
    }


def test_ranks_are_those_of_the_events(base: Billing) -> None:
    pairs = [(one, two) for one in PLAN_RANK for two in PLAN_RANK]
    moves = [movement(10, "none", (1, 1), plans=plans) for plans in pairs]
    windows = [(number, 10, 38, 1) for number in range(1, len(pairs) + 1)]
    base.account("A", cut=[base.cut()], movement=moves, window=windows)
    expected = [
        (one, two, "upgrade" if PLAN_RANK[two] > PLAN_RANK[one] else "downgrade")
        for one, two in pairs
        if 0 < PLAN_RANK[one] != PLAN_RANK[two] > 0
    ]
    assert base.rows("kpi_tier_movement", "plan_from, plan_to, direction", on(10)) == sorted(expected)


def test_kpi_mrr_movement_adds_up_to_the_change_of_mrr(base: Billing) -> None:
    smb, large = base.cut(segment="SMB"), base.cut(segment="Large")
    moves = [
        movement(10, "new", (0, 10), (0, 100_00), (100_00, 0, 0, 0)),
        movement(20, "growth", (10, 12), (100_00, 150_00), (20_00, 30_00, 0, 0)),
        movement(25, "none", (12, 12), (150_00, 140_01), (0, 0, -15_00, 5_01)),
        movement(30, "churn", (12, 0), (140_01, 0), (-140_01, 0, 0, 0)),
    ]
    windows = [(1, 10, 38, 1), (2, 20, 48, 1), (3, 25, 35, 1), (3, 35, 53, 2), (4, 30, 58, 2)]
    base.account("A", home=0, cut=[smb, large], movement=moves, window=windows)
    renewed = movement(60, "renewal_growth", (1, 2), (10_00, 20_00), (10_00, 0, 0, 0))
    base.account("B", home=1, cut=[large], movement=[renewed], window=[(1, 60, 88, 1)])
    found: dict[str, dict[int, Any]] = {}
    for as_of, segment, kind, mrr_change in base.rows("kpi_mrr_movement"):
        found.setdefault(f"{segment} {kind}", {})[as_of] = mrr_change
    cents = Decimal("5.01")
    assert found == {
        "SMB new": span(10, 37, 100),
        "SMB seat": span(20, 47, 20),
        "SMB tier": span(20, 47, 30),
        "SMB discount": span(20, 24, 0) | span(25, 34, -15) | span(35, 47, 0),
        "SMB price": span(20, 24, 0) | span(25, 34, cents) | span(35, 47, 0),
        "Large seat": span(35, 52, 0) | span(60, 87, 10),
        "Large tier": span(35, 52, 0) | span(60, 87, 0),
        "Large discount": span(35, 52, -15) | span(60, 87, 0),
        "Large price": span(35, 52, cents) | span(60, 87, 0),
        "Large churn": span(30, 57, Decimal("-140.01")),
    }
    of_day_30 = sum(days.get(30, 0) for days in found.values())
    assert of_day_30 == 0, "of 0 to 140.01 and back"


# Retention


def retained(base: Billing, level: str, as_of: int) -> Element:
    """(base, current, gross, net retention, gross retention, customers, churned)."""
    (row,) = base.rows("kpi_net_retention", where=f"level = '{level}' AND {on(as_of)}")
    return row[2:]


def customer(
    base: Billing,
    account_id: str,
    steps: Sequence[tuple[int, int, int]],
    *,
    home: int = 0,
    family: Sequence[Element] = (),
) -> None:
    """An account with one subscription, by (day, MRR 12 months ago, MRR) from that day on."""
    base.account(account_id, home=home, first_day=steps[0][0], retention=flow(2, steps), family=family)
    states = [(since, EVER, "self_managed", "premium", 1, mrr) for since, _, mrr in steps]
    base.subscription(account_id, "S", home=home, state=states)


X = ("X", [(-365, 0, 50_00), (-90, 0, 100_00), (0, 50_00, 100_00)])
Y = ("Y", [(-365, 0, 125_00), (-90, 0, 100_00), (0, 125_00, 100_00)])


def test_net_retention_of_50_to_100_and_125_to_100_is_114_percent_not_the_mean_of_200_and_80(base: Billing) -> None:
    customer(base, *X)
    assert retained(base, "account", 0) == (50, 100, 50, 2.0, 1.0, 1, 0)
    base.empty()
    customer(base, *Y)
    assert retained(base, "account", 0) == (125, 100, 100, 0.8, 0.8, 1, 0)
    customer(base, *X, home=1)
    for level in ("subscription", "account", "parent"):
        assert retained(base, level, 0) == (175, 200, 150, 200 / 175, 150 / 175, 2, 0), level
    assert round(200 / 175, 2) == 1.14
    assert round(150 / 175, 3) == 0.857


def test_who_has_churned_stays_in_the_base_and_who_is_new_never_enters(base: Billing) -> None:
    customer(base, *X)
    customer(base, *Y)
    customer(base, "churned", [(-365, 0, 25_00), (0, 25_00, 0)])
    customer(base, "new", [(-10, 0, 1_000_00)])
    assert retained(base, "account", 0) == (200, 200, 150, 1.0, 0.75, 3, 1)


def test_408_33_to_0_to_650_is_0_then_159_percent_net_and_0_then_100_percent_gross(base: Billing) -> None:
    customer(base, "A", [(-365, 0, 408_33), (-10, 0, 0), (0, 408_33, 0), (30, 408_33, 650_00)])
    before, back = Decimal("408.33"), 650 / 408.33
    assert retained(base, "subscription", 0) == (before, 0, 0, 0.0, 0.0, 1, 1)
    assert retained(base, "subscription", 30) == (before, 650, before, pytest.approx(back), 1.0, 1, 0)
    assert round(back, 3) == 1.592


def test_there_are_three_rows_for_each_day_from_the_first_and_no_ratio_without_a_base(base: Billing) -> None:
    customer(base, *X)
    rows = base.rows("kpi_net_retention", "level, as_of")
    levels = ("account", "parent", "subscription")
    assert sorted(rows) == [(level, as_of) for level in levels for as_of in range(-365, CLOCK + 1)]
    assert retained(base, "parent", -1) == (0, 0, 0, None, None, 0, 0)


def test_subscriptions_of_an_account_make_up_for_each_other_at_the_level_of_the_account(base: Billing) -> None:
    one, two = [(-365, 0, 100_00), (0, 100_00, 0)], [(-10, 0, 80_00)]
    both = [(-365, 0, 100_00), (-10, 0, 180_00), (0, 100_00, 80_00)]
    base.account("A", retention=flow(0, one) + flow(0, two) + flow(1, both))
    base.subscription("A", "S", state=[(-365, EVER, "gitlab_com", "gold", 1, 100_00)])
    assert retained(base, "subscription", 0) == (100, 0, 0, 0.0, 0.0, 1, 1)
    assert retained(base, "account", 0) == retained(base, "parent", 0) == (100, 80, 80, 0.8, 0.8, 1, 0)


def test_a_parent_is_one_customer_with_its_accounts_wherever_they_live(base: Billing) -> None:
    customer(base, "P", [(-365, 0, 100_00), (0, 100_00, 50_00)], home=0)
    customer(
        base, "A", [(-365, 0, 50_00), (0, 50_00, 0)], home=1,
        family=[(-365, "P", 0, 50_00), (0, "P", 50_00, -50_00)],
    )  # fmt: skip
    customer(base, "B", [(-10, 0, 40_00)], home=2, family=[(-10, "P", 0, 40_00)])
    customer(base, "alone", [(-365, 0, 10_00), (0, 10_00, 20_00)], home=1)
    assert retained(base, "account", 0) == (160, 70, 60, 70 / 160, 60 / 160, 3, 1)
    assert retained(base, "parent", 0) == (160, 110, 100, 110 / 160, 100 / 160, 2, 0)


def test_the_parent_of_as_of_counts_on_both_sides(base: Billing) -> None:
    customer(
        base, "A", [(-365, 0, 100_00), (0, 100_00, 0)],
        family=[(-365, "", 0, 100_00), (0, "", 100_00, -100_00), (10, "", -100_00, 0), (10, "G", 100_00, 0),
                (20, "G", -100_00, 0), (20, "", 100_00, 0)],
    )  # fmt: skip
    customer(base, "B", [(-5, 0, 80_00)], home=1, family=[(-5, "G", 0, 80_00)])
    alone, together = (100, 0, 0, 0.0, 0.0, 1, 1), (100, 80, 80, 0.8, 0.8, 1, 0)
    assert [retained(base, "parent", as_of) for as_of in (9, 10, 19, 20)] == [alone, together, together, alone]
    assert retained(base, "account", 10) == alone, "G is no account"


def test_a_parent_without_accounts_any_more_is_one_customer_as_if_it_had_never_been_a_parent(base: Billing) -> None:
    steps = [(-365, 0, 100_00), (0, 100_00, 40_00), (5, 100_00, 120_00), (10, 0, 0)]
    base.client.command(f"SYSTEM STOP MERGES {base.database}.billing_account")
    try:
        base.account("A", version=1, family=[(-5, "P", 0, 80_00)])
        base.account("A", version=2, first_day=-5, retention=flow(2, [(-5, 0, 80_00)]))
        subscriptions = flow(0, [(-365, 0, 100_00), (0, 100_00, 0), (10, 0, 0)])
        base.account("P", retention=flow(1, steps) + subscriptions)
        base.subscription("P", "S", state=[(-365, EVER, "gitlab_com", "gold", 1, 100_00)])
        for as_of in (-1, 0, 5, 10, CLOCK):
            assert retained(base, "parent", as_of) == retained(base, "account", as_of), as_of
    finally:
        base.client.command(f"SYSTEM START MERGES {base.database}.billing_account")


# Add-ons and self-service


def test_kpi_addons_are_those_of_28_days(base: Billing) -> None:
    base.account(
        "A", addon=[("1", moment(10), "partner", "storage", 5, 10_50), ("2", moment(10, 23), "", "", 0, -1_00)]
    )
    base.account(
        "B", addon=[("1", moment(37, 0), "partner", "storage", 2, -50), ("2", moment(CLOCK + 1), "", "", 1, 1)]
    )
    found: dict[Element, dict[int, Element]] = {}
    for as_of, addon, channel, *figures in base.rows("kpi_addons"):
        found.setdefault((addon, channel), {})[as_of] = tuple(figures)
    one = (1, 5, Decimal("10.50"))
    assert found == {
        ("storage", "partner"): span(10, 36, one) | {37: (2, 7, 10)} | span(38, 64, (1, 2, Decimal("-0.50"))),
        ("", ""): span(10, 37, (1, 0, -1)),
    }


def ticks(*days: int) -> list[Element]:
    """trial, purchase, growth, upgrade, renew, outreach; EVER is never."""
    return [(since,) for since in days]


def test_self_service_of_3_2_and_4_motions_of_6_is_50_33_and_66_percent_and_50_together(base: Billing) -> None:
    base.account("A", first_day=0, tick=ticks(0, 5, 5, EVER, EVER, EVER))
    base.account("B", first_day=2, tick=ticks(EVER, 5, EVER, EVER, EVER, 4), home=1)
    base.account("C", first_day=4, tick=ticks(4, 4, 4, EVER, CLOCK, EVER))
    base.account("D", first_day=CLOCK + 1, tick=ticks(*[CLOCK + 1] * 6))
    rows = base.rows("kpi_self_service")
    assert [row[:2] for row in rows] == sorted(
        ((as_of, name) for name, first in (("A", 0), ("B", 2), ("C", 4)) for as_of in range(first, CLOCK + 1)), key=repr
    ), "from the day of the first event"
    assert [row for row in rows if row[0] == CLOCK] == [
        (CLOCK, "A", 1, 1, 1, 0, 0, 0, 3, 0.5, 50),
        (CLOCK, "B", 0, 1, 0, 0, 0, 1, 2, 2 / 6, 33),
        (CLOCK, "C", 1, 1, 1, 0, 1, 0, 4, 4 / 6, 66),
    ]
    assert [row for row in rows if row[0] == 4] == [
        (4, "A", 1, 0, 0, 0, 0, 0, 1, 1 / 6, 16),
        (4, "B", 0, 0, 0, 0, 0, 1, 1, 1 / 6, 16),
        (4, "C", 1, 1, 1, 0, 0, 0, 3, 0.5, 50),
    ]
    total = {row[0]: row[1:] for row in base.rows("kpi_self_service_total")}
    assert total[CLOCK] == (2, 3, 2, 0, 1, 1, 3, 0.5, 50), "9 of 18"
    assert total == (
        span(0, 1, (1, 0, 0, 0, 0, 0, 1, 1 / 6, 16))
        | span(2, 3, (1, 0, 0, 0, 0, 0, 2, 1 / 12, 8))
        | {4: (2, 1, 1, 0, 0, 1, 3, 5 / 18, 27)}
        | span(5, CLOCK - 1, (2, 3, 2, 0, 0, 1, 3, 8 / 18, 44))
        | {CLOCK: total[CLOCK]}
    )


# Utilization


def test_quarterly_reconciliation_of_100_seats_owes_10_0_10_and_0(base: Billing) -> None:
    base.account("A")
    seats = [(0, 100), (11, 110), (31, 120)]
    base.subscription(
        "A",
        "S",
        state=[(since, EVER, "self_managed", "premium", number, 0) for since, number in seats],
        sync=[(10, 90, 110), (20, 90, 105), (30, 90, 120), (40, 90, 120)],
    )
    owed = dict(base.rows("kpi_seat_utilization", "as_of, seats_owed"))
    assert [owed[as_of] for as_of in (9, 10, 20, 30, 40)] == [None, 10, 0, 10, 0]
    assert owed[11] == 0, "they are bought"


def test_kpi_seat_utilization_may_pass_1_and_needs_seats(base: Billing) -> None:
    base.account("A", link=[("subscription", "S", "S", [moment(0)])])
    base.subscription(
        "A",
        "S",
        state=[(0, 9, "self_managed", "premium", 100, 0), (10, 20, "self_managed", "free", 0, 0)],
        sync=[(0, 150, -1)],
    )
    base.exact(5, "u@h", {"": (1, 1, 80)})
    base.exact(12, "u@h", {"": (1, 1, 40)})
    base.ping(0, license_subscription_id="S")
    columns = "as_of, plan, seats, billable_users, mau, basis, utilization, active_utilization, seats_owed"
    found = {row[0]: row[1:] for row in base.rows("kpi_seat_utilization", columns)}
    assert found == (
        span(0, 9, ("premium", 100, 150, None, "", 1.5, None, None))
        | {5: ("premium", 100, 150, 80, "exact", 1.5, 0.8, None)}
        | span(10, 20, ("free", 0, 150, None, "", None, None, None))
        | {12: ("free", 0, 150, 40, "exact", None, None, None)}
    )


# Accounts and their usage


def claims(kind: str, name: str, *days: int, subscription_id: str = "S", hour: int = 8) -> Element:
    """An element of `link`: days on which events carried the id."""
    return (kind, name, subscription_id, [moment(number, hour) for number in days])


def held(base: Billing, account_id: str, *, first_day: int = 0, seats: int = 10, link: Sequence[Element]) -> None:
    """An account with subscription S, from its first day on."""
    base.account(account_id, first_day=first_day, link=link)
    base.subscription(account_id, "S", state=[(first_day, EVER, "self_managed", "premium", seats, 0)])


def owners(base: Billing, scope_days: Sequence[int]) -> list[str]:
    """To whom the only scope's usage belongs on these days."""
    found = dict(base.rows("kpi_account_usage", "as_of, account_id", "mau IS NOT NULL"))
    return [found[number] for number in scope_days]


def used(base: Billing, scope_id: str, population: str = "self_managed") -> None:
    """A user on every day."""
    for number in range(CLOCK + 1):
        base.exact(number, scope_id, {"": (1, 1, 1)}, population=population)


def test_an_installation_is_linked_by_subscription_else_by_licence(base: Billing) -> None:
    used(base, "u@h")
    held(base, "A", link=[claims("subscription", "S-A", 10)])
    held(base, "B", link=[claims("license", "abc", 0)])
    base.ping(5, license_subscription_id="S-A", license_sha256="abc")
    base.ping(20, license_subscription_id="S-unknown", license_sha256="abc")
    base.ping(30, license_subscription_id="abc", license_sha256="S-A")
    base.ping(40, license_sha256="abc")
    base.ping(50)
    assert owners(base, (4, 5, 9, 10, 19, 20, 29, 30, 39, 40, 49, 50, CLOCK)) == [
        "", "B", "B", "A", "A", "B", "B", "", "", "B", "B", "", "",
    ]  # fmt: skip


def test_an_id_belongs_to_whose_event_carried_it_last(base: Billing) -> None:
    used(base, "u@h")
    held(base, "A", link=[claims("license", "abc", 0, 20)])
    held(base, "B", link=[claims("license", "abc", 10, 30, 40, hour=8)])
    held(base, "C", link=[claims("license", "abc", 30, hour=7), claims("license", "abc", 40, subscription_id="T")])
    base.ping(0, license_sha256="abc")
    assert owners(base, (0, 9, 10, 19, 20, 29, 30, 39, 40)) == ["A", "A", "B", "B", "A", "A", "B", "B", "C"], (
        "on day 30 B's event is later than C's; on day 40 they are at one time, and C is greater than B"
    )


def test_a_group_is_linked_by_its_namespace_and_what_came_before_is_not_lost(base: Billing) -> None:
    used(base, "9", "group")
    base.ping(3, "saas", namespace_id="9", license_subscription_id="S-A")
    held(base, "A", link=[claims("subscription", "S-A", 0), claims("license", "9", 0)])
    held(base, "B", first_day=15, link=[claims("namespace", "9", 15)])
    assert owners(base, (0, 14, 15, CLOCK)) == ["", "", "B", "B"]
    assert dict(base.rows("kpi_account_usage", "account_id, count()", "1 GROUP BY account_id")) == {
        "": 15, "B": CLOCK - 14,
    }  # fmt: skip


def test_a_group_that_its_subscription_has_left_is_nobodys_unless_another_has_claimed_it(base: Billing) -> None:
    used(base, "9", "group")
    base.ping(3, "saas", namespace_id="9")
    held(base, "A", link=[claims("namespace", "9", 0), claims("namespace_left", "9", 10)])
    held(base, "B", link=[claims("namespace", "9", 20), claims("namespace_left", "9", 40)])
    held(base, "C", link=[claims("namespace", "9", 30), claims("namespace_left", "9", 50, hour=7)])
    held(base, "D", link=[claims("namespace", "9", 50)])
    days = (0, 9, 10, 19, 20, 29, 30, 40, 49, 50)
    assert owners(base, days) == ["A", "A", "", "", "B", "B", "C", "C", "C", "D"], (
        "B leaves on day 40 what is C's by then, and C on day 50 what D has claimed that day"
    )


def test_all_of_an_installation_moves_with_its_licence(base: Billing) -> None:
    held(base, "A", link=[claims("license", "old", 0)])
    held(base, "B", link=[claims("license", "new", 0)])
    base.ping(10, figures={"": 50, "create": 20, "create/repo": 4}, license_sha256="old")
    base.ping(20, license_sha256="new")
    base.ping(25, "v", {"plan": 9}, license_sha256="new")
    rows = base.rows("kpi_account_usage", "*", "as_of IN ('2026-01-20', '2026-01-21', '2026-01-26')")
    assert rows == [
        (19, "A", 50, "reported", 1, 1, 1, moment(10)),
        (20, "B", 50, "reported", 1, 1, 2, moment(20)),
        (25, "B", 50, "reported", 2, 1, 3, moment(25)),
    ]
    last = base.rows("kpi_account_usage", "max(as_of), max(account_id)", "account_id != 'A'")
    assert last == [(52, "B")], "28 days with the ping of day 25"


def test_installations_and_groups_of_a_subscription_add_up_and_the_basis_tells_how_they_were_counted(
    base: Billing,
) -> None:
    held(base, "A", link=[claims("subscription", "S-A", 0), claims("namespace", "9", 0)])
    base.ping(10, "u", {"": 100, "create": 50}, license_subscription_id="S-A")
    base.exact(11, "v@h", {"": (1, 1, 20), "create": (1, 1, 15), "plan": (1, 1, 5)})
    base.ping(11, "v", {"": 1000, "create": 1000}, license_subscription_id="S-A")
    base.ping(12, "w", {"plan": 7}, license_subscription_id="S-A")
    base.exact(13, "9", {"": (1, 1, 3), "plan": (1, 1, 3)}, population="group", shard=0)
    base.exact(13, "9", {"": (1, 1, 4), "plan": (1, 1, 1)}, population="group", shard=1)
    base.ping(13, "saas", namespace_id="9")
    base.exact(13, "free@h", {"": (1, 1, 500), "create": (1, 1, 500)})
    usage = {row[0]: row[1:] for row in base.rows("kpi_account_usage", "as_of, mau, basis", "account_id = 'A'")}
    figures = {row[0]: row[1:] for row in base.rows("kpi_seat_utilization", "as_of, mau, basis, active_utilization")}
    for as_of, mau, basis in ((10, 100, "reported"), (11, 120, "mixed"), (12, 1100, "reported"), (13, 1107, "mixed")):
        assert usage[as_of] == (mau, basis)
        assert figures[as_of] == (mau, basis, mau / 10)
    assert figures[9] == (None, "", None)
    assert base.rows("kpi_account_usage", "mau, basis", f"account_id = '' AND {on(13)}") == [(500, "exact")]
    stages = "as_of, deployment, stage, basis, seats, active_users"
    assert base.rows("kpi_seats_by_stage", stages, "as_of BETWEEN '2026-01-11' AND '2026-01-14'") == [
        (10, "self_managed", "create", "reported", 10, 50),
        (11, "self_managed", "create", "mixed", 10, 65),
        (11, "self_managed", "plan", "exact", 10, 5),
        (12, "self_managed", "create", "reported", 10, 1050),
        (12, "self_managed", "plan", "reported", 10, 7),
        (13, "self_managed", "create", "reported", 10, 1050),
        (13, "self_managed", "plan", "mixed", 10, 11),
    ]


def test_kpi_seats_by_stage_counts_a_subscriptions_seats_once_by_its_deployment_of_the_day(base: Billing) -> None:
    for account_id, seats in (("A", 10), ("B", 0)):
        base.account(account_id, link=[claims("subscription", f"S-{account_id}", 0, subscription_id="S")])
        states = [(0, 9, "self_managed", "premium", seats, 0), (10, 19, "gitlab_com", "silver", 2 * seats, 0)]
        base.subscription(account_id, "S", state=states)
    for number in (5, 15, 25):
        base.exact(number, "u@h", {"": (1, 1, 9), "create": (1, 1, 4)})
        base.exact(number, "v@h", {"": (1, 1, 9), "create": (1, 1, 3), "plan": (0, 0, 0)})
        base.exact(number, "w@h", {"": (1, 1, 9), "create": (1, 1, 1)})
    for uuid, name in (("u", "S-A"), ("v", "S-A"), ("w", "S-B")):
        base.ping(0, uuid, license_subscription_id=name)
    assert base.rows("kpi_seats_by_stage") == [
        (15, "gitlab_com", "create", "exact", 20, 8),
        (5, "self_managed", "create", "exact", 10, 8),
    ], "on day 25 the subscriptions have no row any more"


# Every view

DAY, MOMENT, TEXT = r"Date32", r"DateTime64\(\d, 'UTC'\)", r"(LowCardinality\(String\)|String)"
COUNT, RATIO, MONEY = r"U?Int\d+", r"Float64", r"Decimal\(\d+, 2\)"


def may_be_null(kind: str) -> str:
    return rf"Nullable\({kind}\)"


COLUMNS: dict[str, dict[str, str]] = {
    "account_kpi": {
        "as_of": DAY, "account_id": TEXT, "subscription_id": TEXT, "parent_account_id": TEXT, "deployment": TEXT,
        "plan": TEXT, "country": TEXT, "geo": TEXT, "territory": TEXT, "segment": TEXT, "buyer_persona": TEXT,
        "acquisition_channel": TEXT, "acquisition_source": TEXT, "seats": COUNT, "seats_added_28d": COUNT,
        "seats_removed_28d": COUNT, "mrr": MONEY, "mrr_12m_ago": MONEY, "billable_users": may_be_null(COUNT),
        "max_users": may_be_null(COUNT),
    },
    "seat_movement": {
        "account_id": TEXT, "event_id": TEXT, "occurred_at": MOMENT, "subscription_id": TEXT, "kind": TEXT,
        "channel": TEXT, "plan_from": TEXT, "plan_to": TEXT, "seats_from": COUNT, "seats_to": COUNT,
        "mrr_from": MONEY, "mrr_to": MONEY, "seat_mrr": MONEY, "tier_mrr": MONEY, "discount_mrr": MONEY,
        "price_mrr": MONEY,
    },
    "addon_purchase": {
        "account_id": TEXT, "event_id": TEXT, "occurred_at": MOMENT, "channel": TEXT, "addon": TEXT,
        "quantity": COUNT, "amount": MONEY,
    },
    "self_service_action": {
        "account_id": TEXT, "motion": TEXT, "event_id": TEXT, "occurred_at": MOMENT, "channel": TEXT,
    },
    "kpi_seats": {"as_of": DAY, "dimension": TEXT, "value": TEXT, "seats": COUNT},
    "kpi_seats_added": {
        "as_of": DAY, "dimension": TEXT, "value": TEXT, "seats_added_28d": COUNT,
        "seats_at_start": may_be_null(COUNT), "added_share": may_be_null(RATIO),
    },
    "kpi_seats_by_stage": {
        "as_of": DAY, "deployment": TEXT, "stage": TEXT, "basis": TEXT, "seats": COUNT, "active_users": COUNT,
    },
    "kpi_seat_utilization": {
        "as_of": DAY, "account_id": TEXT, "subscription_id": TEXT, "plan": TEXT, "seats": COUNT,
        "billable_users": may_be_null(COUNT), "mau": may_be_null(COUNT), "basis": TEXT,
        "utilization": may_be_null(RATIO), "active_utilization": may_be_null(RATIO),
        "seats_owed": may_be_null(COUNT),
    },
    "kpi_account_usage": {
        "as_of": DAY, "account_id": TEXT, "mau": may_be_null(COUNT), "basis": TEXT, "stages_used": COUNT,
        "features_used": COUNT, "pings_28d": COUNT, "last_ping_at": may_be_null(MOMENT),
    },
    "kpi_net_retention": {
        "as_of": DAY, "level": TEXT, "base_mrr": MONEY, "current_mrr": MONEY, "gross_mrr": MONEY,
        "net_retention": may_be_null(RATIO), "gross_retention": may_be_null(RATIO), "customers": COUNT,
        "churned_customers": COUNT,
    },
    "kpi_tier_movement": {
        "as_of": DAY, "segment": TEXT, "plan_from": TEXT, "plan_to": TEXT, "direction": TEXT,
        "subscriptions": COUNT, "seats": COUNT, "mrr_change": MONEY,
    },
    "kpi_mrr": {"as_of": DAY, "dimension": TEXT, "value": TEXT, "mrr": MONEY, "arr": MONEY},
    "kpi_mrr_movement": {"as_of": DAY, "segment": TEXT, "kind": TEXT, "mrr_change": MONEY},
    "kpi_addons": {
        "as_of": DAY, "addon": TEXT, "channel": TEXT, "purchases": COUNT, "quantity": COUNT, "amount": MONEY,
    },
    "kpi_self_service": {
        "as_of": DAY, "account_id": TEXT, "trial": COUNT, "purchase": COUNT, "growth": COUNT, "upgrade": COUNT,
        "renew": COUNT, "outreach": COUNT, "done": COUNT, "utilization": RATIO, "utilization_pct": COUNT,
    },
    "kpi_self_service_total": {
        "as_of": DAY, "trial": COUNT, "purchase": COUNT, "growth": COUNT, "upgrade": COUNT, "renew": COUNT,
        "outreach": COUNT, "customers": COUNT, "utilization": RATIO, "utilization_pct": COUNT,
    },
}  # fmt: skip
"""The columns of each fact and view of the contract, in order, and the pattern of their types."""

OF_BILLING = tuple(view for view in COLUMNS if view != "kpi_account_usage")


@pytest.fixture
def full(base: Billing) -> Billing:
    """An account of which every view has rows, from day 10 to the clock and beyond it."""
    smb = base.cut(plan="premium", segment="SMB", deployment="self_managed")
    base.account(
        "A",
        first_day=10,
        tick=ticks(10, 10, CLOCK + 1, EVER, EVER, EVER),
        profile=[(10, "P", "", "", "", "SMB", "", "", "")],
        link=[claims("subscription", "S-A", 10)],
        movement=[
            movement(10, "growth", (1, 10), (5_00, 70_00), (50_00, 15_00, 0, 0), plans=("starter", "premium")),
            movement(CLOCK, "contraction", (10, 9), (70_00, 1_00), (-7_00, -62_00, 0, 0), plans=("premium", "starter")),
            movement(CLOCK + 2, "churn", (9, 0), (1_00, 0), (-1_00, 0, 0, 0)),
        ],
        addon=[("1", moment(10), "", "storage", 1, 100), ("2", moment(CLOCK + 1), "", "storage", 1, 100)],
        action=[("trial", "3", moment(10), ""), ("trial", "4", moment(CLOCK + 1), "")],
        cut=[smb],
        held=[(1, 10, 1, 10, 70_00), (1, CLOCK + 2, 0, -10, -70_00)],
        window=[(1, 10, 38, 1), (2, CLOCK, CLOCK + 28, 1), (3, CLOCK + 2, CLOCK + 30, 1)],
        retention=flow(2, [(10, 1_00, 70_00), (CLOCK + 2, 1_00, 0)]),
        family=[(10, "P", 1_00, 70_00), (CLOCK + 2, "P", 0, -70_00)],
    )
    states = [(10, CLOCK + 1, "self_managed", "premium", 10, 70_00), (CLOCK + 2, EVER, "self_managed", "premium", 0, 0)]
    base.subscription("A", "S", state=states, added=[(10, 9, 0)], sync=[(20, 5, 5), (CLOCK + 1, 6, 6)])
    base.ping(10, "u", {"": 5, "create": 3}, license_subscription_id="S-A", billable_users=4, historical_max_users=4)
    base.exact(60, "u@h", {"": (1, 1, 1), "plan": (1, 1, 1)})
    base.exact(60, "of nobody@h", {"": (1, 1, 1)})
    return base


def test_the_columns_are_the_contracts(full: Billing) -> None:
    for view, columns in COLUMNS.items():
        found = full.client.query(f"SELECT * FROM {full.database}.{view}")
        assert found.result_rows, view
        assert list(found.column_names) == list(columns), view
        for name, kind in zip(found.column_names, found.column_types, strict=True):
            assert re.fullmatch(columns[name], kind.name), f"{view}.{name} is {kind.name}"


def test_nothing_is_shown_of_days_after_the_clock(full: Billing) -> None:
    for view in COLUMNS:
        column = "as_of" if "as_of" in COLUMNS[view] else "toDate32(occurred_at)"
        (last,) = full.rows(view, f"max({column})")[0]
        assert last <= CLOCK, view
    assert full.rows("kpi_seats", "max(as_of)") == full.rows("account_kpi", "max(as_of)") == [(CLOCK,)]
    full.billing_clock(CLOCK + 5, version=2)
    full.billing_clock(CLOCK + 3, partition=1)
    assert full.rows("account_kpi", "max(as_of)") == [(CLOCK + 5,)], "the newest of the partitions' clocks"
    assert full.rows("kpi_mrr", "mrr", f"dimension = 'total' AND {on(CLOCK + 2)}") == [(0,)]


def test_there_is_nothing_before_there_is_a_clock(full: Billing) -> None:
    full.billing_clock(None, version=2)
    for view in OF_BILLING:
        assert full.rows(view) == [], view
    assert full.rows("kpi_account_usage"), "usage is there without billing"


def test_no_view_depends_on_the_settings_of_the_connection(full: Billing) -> None:
    odd = "SETTINGS join_use_nulls = 1, prefer_column_name_to_alias = 1, session_timezone = 'America/New_York'"
    for view in COLUMNS:
        rows = full.rows(view)
        assert full.rows(view, settings=odd) == rows, view


def test_the_newest_version_of_an_account_stands_alone(full: Billing) -> None:
    rows = {view: full.rows(view) for view in OF_BILLING}
    full.client.command(
        f"INSERT INTO {full.database}.billing_account "
        f"SELECT * REPLACE (0 AS row_version) FROM {full.database}.billing_account FINAL"
    )
    full.client.command(
        f"INSERT INTO {full.database}.billing_subscription "
        f"SELECT * REPLACE (0 AS row_version) FROM {full.database}.billing_subscription FINAL"
    )
    for view in OF_BILLING:
        assert full.rows(view) == rows[view], view


def test_a_question_about_an_account_reads_that_account_alone(base: Billing) -> None:
    accounts, granule = 50_000, 8192
    for table, columns, values in (
        ("billing_account", "account_id, first_day, tick_day", "toString(number), '2026-01-01', range(6)"),
        (
            "billing_subscription",
            "account_id, subscription_id, state_day, state_last, state_deployment, state_plan, state_seats, state_mrr",
            "toString(number), 'S', ['2026-01-01'], ['2299-12-31'], ['self_managed'], ['premium'], [1], [1]",
        ),
    ):
        base.client.command(f"INSERT INTO {base.database}.{table} ({columns}) SELECT {values} FROM numbers({accounts})")
    for view in ("kpi_self_service", "subscription_day"):
        read = base.rows_read(f"SELECT * FROM {base.database}.{view} WHERE account_id = '4711'")
        assert read < accounts + 2 * granule, f"{view} reads more of other accounts than their first days"


def test_a_condition_on_what_an_account_once_was_finds_no_row_that_was_replaced(base: Billing) -> None:
    never = [(EVER,)] * 6
    base.client.command(f"SYSTEM STOP MERGES {base.database}.billing_account")
    try:
        base.account("A", version=1, tick=[(0,), *never[1:]])
        base.account("A", version=2, tick=never)
        asked = f"{on(5)} AND account_id = 'A'"
        assert base.rows("kpi_self_service", "trial", where=f"{asked} AND trial = 1") == []
        assert base.rows("kpi_self_service", "trial", where=asked) == [(0,)]
    finally:
        base.client.command(f"SYSTEM START MERGES {base.database}.billing_account")
