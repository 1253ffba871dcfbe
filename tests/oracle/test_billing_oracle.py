"""The oracle's billing half against figures computed by hand: each test says how, or where its numbers come from.

`Golden:` are the numbers that the KPIs are promised with. Net and gross retention are the GitLab handbook's (Customer
Success Vision, Retention, Gross & Net): B / A and C / A, with A the MRR of 12 months ago, B today's of the same
customers, C what was retained of A; for several customers each is summed first. Seats owed are GitLab's documentation's
(quarterly reconciliation): the highest number of users over the seats, which then rise.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from tests.oracle.billing import BLOCKS, MOTIONS, RANKS, BillingExpected, expect, months_later
from tests.oracle.usage import Record, Row, Rules

MAY = "2026-05-31"
VIEWS = (
    "kpi_seats",
    "kpi_seats_added",
    "kpi_seats_by_stage",
    "kpi_seat_utilization",
    "kpi_account_usage",
    "kpi_net_retention",
    "kpi_tier_movement",
    "kpi_mrr",
    "kpi_mrr_movement",
    "kpi_addons",
    "kpi_self_service",
    "kpi_self_service_total",
)
TABLES = ("account_kpi", "seat_movement", "addon_purchase", "self_service_action", *VIEWS)


def event(kind: str, at: str, account: str = "A", /, **fields: Any) -> Row:
    """An event at noon of a day, or at a moment. Its id tells what it is."""
    occurred_at = at if "T" in at else f"{at}T12:00:00Z"
    return {
        "event_id": f"{kind} {at}",
        "type": kind,
        "occurred_at": occurred_at,
        "account_id": account,
        **fields,
    }


def subscribed(kind: str, at: str, seats: int, mrr: str, account: str = "A", /, **fields: Any) -> Row:
    """An event of subscription S, by default premium, self-managed, in dollars. Fields of the event are told apart."""
    common = {name: fields.pop(name) for name in ("event_id", "channel", "sequence") if name in fields}
    block = {
        "subscription_id": "S",
        "deployment": "self_managed",
        "plan": "premium",
        "seats": seats,
        "mrr": mrr,
        "currency": "USD",
        **fields,
    }
    made = event(kind, at, account, subscription=block, **common)
    if "event_id" not in common:
        made["event_id"] += f" {block['subscription_id']}"
    return made


def created(at: str, seats: int, mrr: str, account: str = "A", /, **fields: Any) -> Row:
    return subscribed("subscription_created", at, seats, mrr, account, **fields)


def changed(at: str, seats: int, mrr: str, account: str = "A", /, **fields: Any) -> Row:
    return subscribed("quantity_changed", at, seats, mrr, account, **fields)


def cancelled(at: str, account: str = "A", /, **fields: Any) -> Row:
    return subscribed("subscription_cancelled", at, 0, "0", account, **fields)


def profile(at: str, account: str = "A", /, **fields: Any) -> Row:
    return event("account_updated", at, account, account=fields)


def ping(at: str, hostname: str = "h", mau: int | None = None, day: str | None = None, **fields: Any) -> Row:
    """A ping recorded at noon of a day, of installation `u@h`; `mau` users were active on `day` (by default that day)."""
    document = {"uuid": "u", "hostname": hostname, "recorded_at": f"{at}T12:00:00Z", **fields}
    if mau is not None:
        users = list(range(mau))
        document["activity"] = [{"date": day or at, "stage": "plan", "feature": "issues", "users": users}]
    return document


def milliseconds(moment: str) -> int:
    return int(dt.datetime.fromisoformat(moment).timestamp() * 1000)


def records(*documents: Any, at: str | None = None) -> list[Record]:
    """Records of one partition of each topic, received when they took place, or all on day `at`."""
    offsets = {"usage-pings": itertools.count(), "billing-events": itertools.count()}
    result = []
    for document in documents:
        topic = "usage-pings" if isinstance(document, dict) and "recorded_at" in document else "billing-events"
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        received = f"{at}T12:00:00Z" if at else document.get("recorded_at") or document["occurred_at"]
        result.append(Record(topic, 0, next(offsets[topic]), milliseconds(received), b"key", raw))
    return result


def told(*documents: Any, as_of: str = MAY, at: str | None = None) -> BillingExpected:
    return expect(records(*documents, at=at), Rules(dt.date.fromisoformat(as_of)))


def having(rows: Iterable[Row], **where: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in where.items())]


def on(rows: Iterable[Row], as_of: str, **where: Any) -> Row:
    """The only row of a day."""
    (row,) = having(rows, as_of=dt.date.fromisoformat(as_of), **where)
    return row


def of(row: Row, *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def days_of(rows: Iterable[Row]) -> tuple[str, str, int]:
    """First and last day of rows, and on how many days there are any."""
    days = {row["as_of"] for row in rows}
    return str(min(days)), str(max(days)), len(days)


def usd(amount: str) -> Decimal:
    return Decimal(amount)


# --- net retention ---------------------------------------------------------------------------------------------------

X = (created("2025-03-01", 5, "50.00", "X"), changed("2026-04-01", 10, "100.00", "X"))
Y = (created("2025-03-01", 10, "125.00", "Y"), changed("2026-04-01", 8, "100.00", "Y"))


@pytest.mark.parametrize(
    ("events", "net", "gross"),
    [(X, 200, 100), (Y, 80, 80), ((*X, *Y), 114.3, 85.7)],
    ids=["X", "Y", "together, which is no average"],
)
@pytest.mark.parametrize("level", ["subscription", "account", "parent"])
def test_net_retention_of_x_and_y(level: str, events: tuple[Row, ...], net: float, gross: float) -> None:
    """Golden: X 50 -> 100 and Y 125 -> 100 is 200 % and 80 %, together 114 % = 200 / 175, gross 150 / 175."""
    row = on(told(*events).kpi_net_retention, MAY, level=level)
    assert round(100 * row["net_retention"], 1) == net
    assert round(100 * row["gross_retention"], 1) == gross
    assert row["customers"] == len({e["account_id"] for e in events})
    assert row["churned_customers"] == 0


def test_the_ratios_are_of_sums() -> None:
    row = on(told(*X, *Y).kpi_net_retention, MAY, level="account")
    assert of(row, "base_mrr", "current_mrr", "gross_mrr") == (usd("175"), usd("200"), usd("150"))
    assert of(row, "net_retention", "gross_retention") == (200 / 175, 150 / 175)


def test_a_churned_customer_stays_in_the_base_and_a_new_one_never_enters() -> None:
    """Golden. Y of 125 is gone: (100 + 0) / 175; N of 1,000 came 11 months ago."""
    row = on(told(*X, *Y, cancelled("2026-05-01", "Y"), created("2025-07-01", 9, "1000", "N")).kpi_net_retention, MAY,
             level="account")  # fmt: skip
    assert of(row, "base_mrr", "current_mrr", "gross_mrr") == (usd("175"), usd("100"), usd("50"))
    assert of(row, "customers", "churned_customers") == (2, 1)
    assert of(row, "net_retention", "gross_retention") == (100 / 175, 50 / 175)


def test_a_customer_who_comes_back() -> None:
    """Golden: 408.33 -> 0 -> 650 is net 0 % then 159.2 %, gross 0 % then 100 %."""
    e = told(created("2025-01-01", 10, "408.33"), cancelled("2026-02-01"), changed("2026-05-01", 15, "650.00"))
    gone, back = (on(e.kpi_net_retention, day, level="subscription") for day in ("2026-04-30", "2026-05-01"))
    names = ("net_retention", "gross_retention", "churned_customers")
    assert of(gone, *names) == (0.0, 0.0, 1)
    assert (round(100 * back["net_retention"], 1), back["gross_retention"]) == (159.2, 1.0)
    assert back["churned_customers"] == 0


@pytest.mark.parametrize(
    ("as_of", "base"),
    [("2024-02-28", "100"), ("2024-02-29", "100"), ("2024-03-01", "130"), ("2025-02-28", "150"), ("2025-03-01", "170")],
)
def test_29_february_a_year_ago_is_28_february(as_of: str, base: str) -> None:
    """Golden. 100 until 28 February 2023 and 130 from 1 March; 150 on 28, 160 on 29 February 2024, 170 from 1 March."""
    e = told(
        created("2023-01-01", 1, "100"),
        changed("2023-03-01", 1, "130"),
        changed("2024-02-28", 1, "150"),
        changed("2024-02-29", 1, "160"),
        changed("2024-03-01", 1, "170"),
        as_of="2025-03-01",
    )
    assert on(e.account_kpi, as_of)["mrr_12m_ago"] == usd(base)
    assert on(e.kpi_net_retention, as_of, level="account")["base_mrr"] == usd(base)


def test_retention_has_three_rows_a_day_to_the_clock_with_null_ratios_without_a_base() -> None:
    e = told(profile("2024-12-01"), created("2025-01-01", 1, "5"), cancelled("2025-01-10"))
    rows = e.kpi_net_retention
    assert days_of(rows) == ("2025-01-01", MAY, 516)
    assert len(rows) == 3 * 516
    assert max(row["as_of"] for row in e.account_kpi) == dt.date(2026, 2, 10)
    for day in ("2025-12-31", MAY):
        row = on(rows, day, level="parent")
        assert of(row, "base_mrr", "net_retention", "gross_retention", "customers") == (usd("0"), None, None, 0)
    assert on(rows, "2026-01-09", level="parent")["net_retention"] == 0.0
    assert on(rows, "2026-01-10", level="parent")["net_retention"] is None


def test_levels_of_a_customer() -> None:
    """B gives A's seats up and C, of the same parent P, takes some over; P itself has no parent and buys, too.

    Subscriptions: 100 -> 0, 100 -> 150, 10 -> 20. Accounts: A 200 -> 150, P 10 -> 20. Parents: P 210 -> 170 + C's 60.
    """
    e = told(
        profile("2025-01-01", "A", parent_account_id="P"),
        profile("2025-01-01", "C", parent_account_id="elsewhere"),
        profile("2026-05-31", "C", parent_account_id="P"),
        created("2025-01-01", 10, "100", "A", subscription_id="1"),
        created("2025-01-01", 10, "100", "A", subscription_id="2"),
        created("2025-01-01", 10, "10", "P"),
        cancelled("2026-03-01", "A", subscription_id="1"),
        changed("2026-03-01", 15, "150", "A", subscription_id="2"),
        changed("2026-03-01", 20, "20", "P"),
        created("2026-03-01", 6, "60", "C"),
    )
    names = ("base_mrr", "current_mrr", "gross_mrr", "customers", "churned_customers")
    today = {row["level"]: of(row, *names) for row in having(e.kpi_net_retention, as_of=dt.date(2026, 5, 31))}
    assert today == {
        "subscription": (usd("210"), usd("170"), usd("110"), 3, 1),
        "account": (usd("210"), usd("170"), usd("160"), 2, 0),
        "parent": (usd("210"), usd("230"), usd("210"), 1, 0),
    }
    the_day_before = on(e.kpi_net_retention, "2026-05-30", level="parent")
    assert of(the_day_before, *names) == (usd("210"), usd("170"), usd("170"), 1, 0)


# --- self-service ----------------------------------------------------------------------------------------------------

PURCHASE = created("2026-01-05", 5, "50", channel="self_service")
TRIAL = event("trial_started", "2026-01-02", channel="self_service")
OUTREACH = event("outreach_requested", "2026-01-20", channel="self_service")
ADDON = event("addon_purchased", "2026-01-10", channel="self_service", addon={"addon": "ci_minutes", "quantity": 1})


def for_account(account: str, *events: Row) -> list[Row]:
    return [e | {"account_id": account} for e in events]


def test_self_service_utilization() -> None:
    """Golden: 3 of 6 is 50 %, 2 of 6 is 33 %, 4 of 6 is 66 % (truncated), and all of them, 9 of 18, 50 %."""
    e = told(
        *for_account("A", TRIAL, PURCHASE, ADDON),
        *for_account("B", TRIAL, OUTREACH),
        *for_account("C", TRIAL, PURCHASE, ADDON, OUTREACH),
    )
    names = ("done", "utilization", "utilization_pct")
    assert of(on(e.kpi_self_service, MAY, account_id="A"), *names) == (3, 0.5, 50)
    assert of(on(e.kpi_self_service, MAY, account_id="B"), *names) == (2, 2 / 6, 33)
    assert of(on(e.kpi_self_service, MAY, account_id="C"), *names) == (4, 4 / 6, 66)
    assert on(e.kpi_self_service_total, MAY) == {
        "as_of": dt.date(2026, 5, 31), "trial": 3, "purchase": 2, "growth": 2, "upgrade": 0, "renew": 0, "outreach": 2,
        "customers": 3, "utilization": 0.5, "utilization_pct": 50,
    }  # fmt: skip


def test_a_tick_stands_from_its_day_on_and_only_by_self_service() -> None:
    e = told(
        event("trial_started", "2026-01-02", channel="sales_assisted"),
        event("trial_started", "2026-01-04"),
        event("trial_started", "2026-01-06", channel="self_service"),
        event("seats_synced", "2026-01-05", "B", seat_sync={}),
    )
    assert [row["trial"] for row in having(e.kpi_self_service, account_id="A")][:6] == [0, 0, 0, 0, 1, 1]
    assert [row["customers"] for row in e.kpi_self_service_total][:6] == [1, 1, 1, 2, 2, 2]
    assert [row["channel"] for row in e.self_service_action] == ["sales_assisted", "", "self_service"]
    assert days_of(e.kpi_self_service_total) == ("2026-01-02", MAY, 150)


@pytest.mark.parametrize(
    ("kind", "seats", "fields", "motions"),
    [
        ("quantity_changed", 12, {}, ["growth"]),
        ("quantity_changed", 12, {"at_renewal": True}, []),
        ("quantity_changed", 9, {}, []),
        ("plan_changed", 10, {"plan": "ultimate"}, ["upgrade"]),
        ("plan_changed", 12, {"plan": "gold"}, ["growth", "upgrade"]),
        ("plan_changed", 10, {"plan": "silver", "deployment": "gitlab_com"}, []),
        ("plan_changed", 10, {"plan": "starter"}, []),
        ("price_changed", 10, {"plan": "ultimate"}, []),
        ("plan_changed", 10, {"plan": "ultimate", "subscription_id": "another"}, []),
        ("subscription_renewed", 12, {}, ["renew"]),
        ("subscription_created", 12, {}, ["growth", "purchase"]),
        ("reconciliation_charged", 11, {}, ["growth"]),
        ("subscription_cancelled", 0, {}, []),
    ],
)  # fmt: skip
def test_what_ticks_what(kind: str, seats: int, fields: Row, motions: list[str]) -> None:
    """After 10 seats of premium, bought by sales. One event may tick two."""
    e = told(
        created("2026-01-01", 10, "100"),
        subscribed(kind, "2026-02-01", seats, "100", channel="self_service", event_id="it", **fields),
    )
    assert [row["motion"] for row in having(e.self_service_action, event_id="it")] == motions
    row = on(e.kpi_self_service, MAY)
    assert {motion for motion in MOTIONS if row[motion]} == set(motions)


def test_from_free_to_paid_is_an_upgrade_by_self_service_and_no_movement_of_tiers() -> None:
    e = told(
        created("2026-01-01", 10, "0", plan="free"),
        subscribed("plan_changed", "2026-05-10", 10, "50", plan="bronze", deployment="gitlab_com"),
    )
    assert [row["motion"] for row in e.self_service_action] == ["purchase", "upgrade"]
    assert e.kpi_tier_movement == []
    assert on(e.kpi_mrr_movement, MAY, kind="tier")["mrr_change"] == usd("50")


# --- seats -----------------------------------------------------------------------------------------------------------


def test_quarterly_reconciliation() -> None:
    """Golden: 100 seats, heights 110, 105, 120, 120 owe 10, 0, 10, 0; seats rise with each, on the day after."""
    quarters = [("2025-08-31", 110, 110), ("2025-11-30", 105, 110), ("2026-02-28", 120, 120), (MAY, 120, 120)]
    events = [created("2025-06-01", 100, "1900")]
    for day, height, seats in quarters:
        sync = {"subscription_id": "S", "billable_users": 90, "max_users": height}
        events.append(event("seats_synced", day, seat_sync=sync))
        next_day = dt.date.fromisoformat(day) + dt.timedelta(1)
        events.append(subscribed("reconciliation_charged", str(next_day), seats, "1900"))
    e = told(*events, as_of="2026-06-01")
    owed = [of(on(e.kpi_seat_utilization, day), "seats", "seats_owed") for day, _, _ in quarters]
    assert owed == [(100, 10), (110, 0), (110, 10), (120, 0)]
    assert of(on(e.kpi_seat_utilization, "2025-09-01"), "seats", "seats_owed") == (110, 0)
    assert of(on(e.kpi_seat_utilization, "2025-08-30"), "billable_users", "seats_owed") == (None, None)
    charged = [row["kind"] for row in e.seat_movement if row["event_id"].startswith("reconciliation")]
    assert charged == ["growth", "none", "growth", "none"]


def test_utilization_may_pass_1() -> None:
    """Golden. 120 billable users on 100 seats, 110 of them active."""
    e = told(
        created("2026-01-01", 100, "1900", license_sha256="L"),
        event("seats_synced", "2026-01-02", seat_sync={"subscription_id": "S", "billable_users": 120}),
        ping("2026-01-03", mau=110, license_sha256="L"),
    )
    row = on(e.kpi_seat_utilization, "2026-01-03")
    assert of(row, "plan", "seats", "billable_users", "mau", "basis") == ("premium", 100, 120, 110, "exact")
    assert of(row, "utilization", "active_utilization", "seats_owed") == (1.2, 1.1, None)


def test_no_seats_give_no_utilization() -> None:
    e = told(created("2026-01-01", 0, "0"), event("seats_synced", "2026-01-01", seat_sync={"subscription_id": "S",
             "billable_users": 5, "max_users": 6}))  # fmt: skip
    row = on(e.kpi_seat_utilization, MAY)
    assert of(row, "utilization", "active_utilization", "seats_owed", "mau", "basis") == (None, None, 6, None, "")


def test_kinds_of_movement() -> None:
    e = told(
        created("2026-01-01", 10, "100"),
        changed("2026-01-02", 12, "120"),
        changed("2026-01-03", 14, "140", at_renewal=True),
        subscribed("subscription_renewed", "2026-01-04", 15, "150"),
        subscribed("subscription_renewed", "2026-01-05", 13, "130"),
        subscribed("license_issued", "2026-01-06", 13, "130"),
        cancelled("2026-01-07"),
        subscribed("price_changed", "2026-01-08", 0, "0"),
        subscribed("subscription_renewed", "2026-01-09", 8, "80"),
        changed("2026-01-10", 0, "0"),
    )
    rows = sorted(e.seat_movement, key=lambda row: row["occurred_at"])
    assert [of(row, "kind", "seats_from", "seats_to") for row in rows] == [
        ("new", 0, 10),
        ("growth", 10, 12),
        ("renewal_growth", 12, 14),
        ("renewal_growth", 14, 15),
        ("contraction", 15, 13),
        ("none", 13, 13),
        ("churn", 13, 0),
        ("none", 0, 0),
        ("new", 0, 8),
        ("churn", 8, 0),
    ]
    assert [row["plan_from"] for row in rows] == ["", *["premium"] * 9]
    assert of(on(e.account_kpi, "2026-01-10"), "seats", "seats_added_28d", "seats_removed_28d") == (0, 2, 2 + 13 + 8)
    assert on(e.account_kpi, "2026-01-30")["seats_removed_28d"] == 2 + 13 + 8  # from 3 January
    assert of(on(e.account_kpi, "2026-01-29"), "seats_added_28d", "seats_removed_28d") == (2, 23)
    assert of(on(e.account_kpi, "2026-02-02"), "seats_added_28d", "seats_removed_28d") == (0, 13 + 8)


def test_seats_added_by_value_and_channel() -> None:
    """A: silver to ultimate seats 10 -> 12 in EMEA; B: 5 -> 8 in EMEA, cancelled afterwards; C never grows."""
    e = told(
        profile("2026-04-01", "A", geo="EMEA"),
        profile("2026-04-01", "B", geo="EMEA"),
        created("2026-04-01", 10, "100", "A", plan="silver"),
        created("2026-04-02", 5, "50", "B", plan="gold"),
        created("2026-04-01", 7, "70", "C"),
        changed("2026-05-04", 12, "300", "A", plan="ultimate", channel="self_service"),
        changed("2026-05-05", 8, "80", "B", plan="gold", channel="partner"),
        changed("2026-05-06", 9, "90", "B", plan="gold", at_renewal=True, channel="partner"),
        cancelled("2026-05-07", "B", plan="gold"),
    )

    def added(as_of: str, dimension: str) -> dict[str, tuple[Any, ...]]:
        rows = having(e.kpi_seats_added, as_of=dt.date.fromisoformat(as_of), dimension=dimension)
        return {row["value"]: of(row, "seats_added_28d", "seats_at_start", "added_share") for row in rows}

    assert added(MAY, "total") == {"": (5, 22, 5 / 22)}
    assert added(MAY, "plan") == {
        "premium": (0, 7, 0.0),
        "silver": (0, 10, 0.0),  # A had it 28 days ago, on 3 May
        "ultimate": (2, 0, None),  # A has it now
        "gold": (3, 5, 0.6),
    }
    assert added(MAY, "geo") == {"EMEA": (5, 15, 5 / 15), "": (0, 7, 0.0)}
    assert added(MAY, "channel") == {"self_service": (2, None, None), "partner": (3, None, None)}
    assert added("2026-05-04", "channel") == {"self_service": (2, None, None)}
    assert added("2026-04-28", "total") == {"": (0, 0, None)}
    assert [row["dimension"] for row in on_day(e.kpi_seats, MAY) if row["value"] == "gold" and row["seats"] == 0] == [
        "plan"
    ]


def on_day(rows: Iterable[Row], as_of: str) -> list[Row]:
    return having(rows, as_of=dt.date.fromisoformat(as_of))


def test_a_value_that_left_has_rows_again_where_28_days_before_it_had_seats() -> None:
    """Bronze from 1 to 9 March, then 29 March (1 + 28) to 6 April (9 + 28): 18 days."""
    e = told(created("2026-03-01", 10, "1", plan="bronze"), changed("2026-03-10", 10, "1", plan="gold"))
    rows = having(e.kpi_seats_added, dimension="plan", value="bronze")
    assert days_of(rows) == ("2026-03-01", "2026-04-06", 18)
    assert of(rows[-1], "seats_added_28d", "seats_at_start", "added_share") == (0, 10, 0.0)
    assert days_of(having(e.kpi_seats, dimension="plan", value="bronze")) == ("2026-03-01", "2026-03-09", 9)


def test_seats_and_money_by_every_dimension() -> None:
    known = {
        "geo": "APAC",
        "territory": "ANZ",
        "segment": "SMB",
        "buyer_persona": "CTO",
        "acquisition_channel": "earned",
    }
    e = told(
        profile("2026-05-01", "A", **known, country="AU", acquisition_source="fair", parent_account_id="P", name="n"),
        created("2026-05-01", 10, "100.50", "A"),
        created("2026-05-02", 3, "10.25", "B", plan="silver", deployment="gitlab_com"),
    )
    values = {(row["dimension"], row["value"]): row["seats"] for row in on_day(e.kpi_seats, MAY)}
    assert values == {
        ("total", ""): 13,
        ("plan", "premium"): 10, ("plan", "silver"): 3,
        ("deployment", "self_managed"): 10, ("deployment", "gitlab_com"): 3,
        **dict.fromkeys(known.items(), 10),
        **{(dimension, ""): 3 for dimension in known},
    }  # fmt: skip
    assert of(on(e.kpi_mrr, MAY, dimension="total"), "mrr", "arr") == (usd("110.75"), usd("1329.00"))
    assert of(on(e.kpi_mrr, MAY, dimension="geo", value="APAC"), "mrr", "arr") == (usd("100.50"), usd("1206.00"))
    row = on(e.account_kpi, MAY, account_id="A")
    assert of(row, "country", "acquisition_source", "parent_account_id", *known) == (
        "AU", "fair", "P", *known.values()
    )  # fmt: skip


def test_a_profile_is_replaced_whole_and_holds_from_its_day_on() -> None:
    e = told(
        created("2026-05-01", 1, "1"),
        profile("2026-05-03", segment="SMB", geo="EMEA"),
        profile("2026-05-05", segment="Large", geo=None),
    )
    found = [of(on(e.account_kpi, f"2026-05-0{day}"), "segment", "geo") for day in range(1, 7)]
    assert found == [("", "")] * 2 + [("SMB", "EMEA")] * 2 + [("Large", "")] * 2


# --- money -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        # 5 x 190 / 10 = 95 for the seats; without list prices the other 15 are price
        ((10, "190", {}), (15, "300", {}), ("95", "0", "0", "15")),
        # premium to ultimate: 2 x 190 / 10 = 38, and 998 - 38 = 960 for the tier, list prices or not
        ((10, "190", {}), (12, "1188", {"plan": "ultimate"}), ("38", "960", "0", "0")),
        ((10, "190", {"list_mrr": "200"}), (12, "1188", {"plan": "gold", "list_mrr": "1300"}), ("38", "960", "0", "0")),
        # premium and silver have the same rank
        ((10, "190", {}), (10, "200", {"plan": "silver", "deployment": "gitlab_com"}), ("0", "0", "0", "10")),
        # a discount of a quarter becomes a tenth: 180 - 200 x 150 / 200 = 30
        ((10, "150", {"list_mrr": "200"}), (10, "180", {"list_mrr": "200"}), ("0", "0", "30", "0")),
        # list price up by a fifth, the discount stays: 180 - 240 x 150 / 200 = 0, the 30 are price
        ((10, "150", {"list_mrr": "200"}), (10, "180", {"list_mrr": "240"}), ("0", "0", "0", "30")),
        # all at once: 5 x 150 / 10 = 75; 400 - 360 x 150 / 200 = 130; 250 - 75 - 130 = 45
        ((10, "150", {"list_mrr": "200"}), (15, "400", {"list_mrr": "360"}), ("75", "0", "130", "45")),
        # a list price on one side only, or of 0, is none
        ((10, "150", {"list_mrr": "200"}), (10, "180", {}), ("0", "0", "0", "30")),
        ((10, "150", {"list_mrr": "0.00"}), (10, "180", {"list_mrr": "200"}), ("0", "0", "0", "30")),
        ((10, "150", {"list_mrr": "0.004"}), (10, "180", {"list_mrr": "200"}), ("0", "0", "0", "30")),
        # from 0 seats and to 0 seats all is seats, another plan and MRR without seats too
        ((0, "7", {"list_mrr": "9"}), (10, "180", {"plan": "gold", "list_mrr": "9"}), ("173", "0", "0", "0")),
        ((10, "180", {"plan": "gold"}), (0, "7", {}), ("-173", "0", "0", "0")),
        ((0, "7", {}), (0, "9", {"plan": "gold"}), ("2", "0", "0", "0")),
        # halves go to the even cent: 0.20 / 8 = 0.025, 0.60 / 8 = 0.075, and the same downwards
        ((8, "0.20", {}), (9, "0.20", {}), ("0.02", "0", "0", "-0.02")),
        ((8, "0.60", {}), (9, "0.60", {}), ("0.08", "0", "0", "-0.08")),
        ((8, "0.20", {}), (7, "0.20", {}), ("-0.02", "0", "0", "0.02")),
        ((8, "0.60", {}), (7, "0.60", {}), ("-0.08", "0", "0", "0.08")),
        # 1 x 100 / 3 = 33.33; 150 - 7 x 100 / 3 = -83.33 (233.33); 50 - 33.33 + 83.33 = 100
        ((3, "100", {"list_mrr": "3"}), (4, "150", {"list_mrr": "7"}), ("33.33", "0", "-83.33", "100")),
    ],
)  # fmt: skip
def test_parts_of_a_change(before: Any, after: Any, parts: tuple[str, ...]) -> None:
    """Contract, section 2.2: seats, tier, discount and price, by hand."""
    (seats_from, mrr_from, fields_from), (seats_to, mrr_to, fields_to) = before, after
    e = told(created("2026-01-01", seats_from, mrr_from, **fields_from),
             changed("2026-01-02", seats_to, mrr_to, event_id="it", **fields_to))  # fmt: skip
    (row,) = having(e.seat_movement, event_id="it")
    found = of(row, "seat_mrr", "tier_mrr", "discount_mrr", "price_mrr")
    assert found == tuple(map(usd, parts))
    assert sum(found) == row["mrr_to"] - row["mrr_from"]


def test_a_cancellation_has_no_money_whatever_its_block_says() -> None:
    e = told(
        created("2026-01-01", 10, "100", list_mrr="200"),
        subscribed("subscription_cancelled", "2026-01-02", 10, "100", list_mrr="200", plan="gold", event_id="it"),
    )
    (row,) = having(e.seat_movement, event_id="it")
    assert of(row, "kind", "seats_to", "mrr_to", "seat_mrr", "plan_to") == ("churn", 0, usd("0"), usd("-100"), "gold")
    assert of(on(e.account_kpi, MAY), "seats", "mrr", "plan") == (0, usd("0"), "gold")


@pytest.mark.parametrize(
    ("mrr", "currency", "rate", "here"),
    [
        ("10.00", "EUR", "1.0825", "10.82"),  # 10.825, the even cent
        ("10.00", "EUR", "1.0835", "10.84"),  # 10.835
        ("10.00", "EUR", "1.08250000000000000000000000001", "10.83"),
        ("0.005", "USD", None, "0.00"),
        ("0.015", "USD", None, "0.02"),
        ("1e2", "USD", None, "100"),
        (".5", "EUR", 2, "1"),
        ("100", "EUR", 1.1, "110"),  # as it is written, no binary fraction
        ("100", "USD", "1.5", "150"),  # also for the reporting currency
        ("33.333", "EUR", "3.0", "100"),  # once, not 33.33 x 3
        ("999999999999.999999", "USD", None, "1000000000000.00"),  # judged before it is rounded
    ],
)
def test_currencies_are_converted_exactly_and_rounded_once(mrr: str, currency: str, rate: Any, here: str) -> None:
    e = told(created("2026-05-31", 1, mrr, currency=currency, fx_rate=rate, list_mrr=mrr))
    assert on(e.account_kpi, MAY)["mrr"] == usd(here)


def test_the_rate_of_a_number_has_all_its_digits() -> None:
    """10.00 x 1.0825 is half a cent, and a digit far behind makes it more than half."""
    raw = json.dumps(created("2026-05-31", 1, "10.00", currency="EUR", fx_rate=0)).encode()
    raw = raw.replace(b'"fx_rate": 0', b'"fx_rate": 1.0825' + b"0" * 80 + b"1")
    assert on(told(raw, at=MAY).account_kpi, MAY)["mrr"] == usd("10.83")


def test_addons_of_28_days() -> None:
    def addon(at: str, **block: Any) -> Row:
        return event("addon_purchased", at, channel=block.pop("channel", None), addon=block)

    e = told(
        addon("2026-05-03", addon="storage", quantity=9, amount="9"),
        addon("2026-05-04", addon="storage", quantity=1, amount="5.005"),
        addon("2026-05-05", addon="storage", quantity=-3, amount="-10", currency="EUR", fx_rate="1.1"),
        addon("2026-05-06", addon="storage", channel="partner"),
        addon("2026-05-07"),
    )
    rows = on_day(e.kpi_addons, MAY)
    assert [of(row, "addon", "channel", "purchases", "quantity", "amount") for row in rows] == [
        ("", "", 1, 0, usd("0")),
        ("storage", "", 2, -2, usd("-6.00")),
        ("storage", "partner", 1, 0, usd("0")),
    ]
    assert on(e.kpi_addons, "2026-05-30", addon="storage", channel="")["purchases"] == 3
    assert len(e.addon_purchase) == 5


def test_movements_of_tiers_and_of_money() -> None:
    """Of segments as they are on the day: A is SMB until 20 May, then Large."""
    e = told(
        profile("2026-01-01", segment="SMB"),
        profile("2026-05-20", segment="Large"),
        created("2026-05-01", 10, "100", plan="bronze"),
        subscribed("plan_changed", "2026-05-10", 12, "240", plan="silver"),
        subscribed("plan_changed", "2026-05-11", 12, "500", plan="ultimate"),
        subscribed("plan_changed", "2026-05-12", 11, "90", plan="starter"),
        subscribed("plan_changed", "2026-05-13", 11, "90", plan="bronze"),
        cancelled("2026-05-14", plan="gold"),
        created("2026-05-14", 3, "30", "B"),
    )
    tiers = [
        of(row, "segment", "plan_from", "plan_to", "direction", "subscriptions", "seats", "mrr_change")
        for row in on_day(e.kpi_tier_movement, "2026-05-19")
    ]
    assert tiers == [
        ("SMB", "bronze", "silver", "upgrade", 1, 12, usd("140")),
        ("SMB", "silver", "ultimate", "upgrade", 1, 12, usd("260")),
        ("SMB", "ultimate", "starter", "downgrade", 1, 11, usd("-410")),
    ]
    assert {row["segment"] for row in on_day(e.kpi_tier_movement, "2026-05-20")} == {"Large"}
    assert days_of(e.kpi_tier_movement) == ("2026-05-10", MAY, 22)

    # seats: 2 x 10 = 20, 0, -500 / 12 = -41.67, 0; tier: 120, 260, -410 + 41.67 = -368.33
    changes = {of(row, "segment", "kind"): row["mrr_change"] for row in on_day(e.kpi_mrr_movement, "2026-05-28")}
    assert changes == {
        ("", "new"): usd("30"),
        ("Large", "new"): usd("100"),
        ("Large", "churn"): usd("-90"),
        ("Large", "seat"): usd("-21.67"),
        ("Large", "tier"): usd("11.67"),
        ("Large", "discount"): usd("0"),
        ("Large", "price"): usd("0"),
    }
    assert ("Large", "new") not in {of(row, "segment", "kind") for row in on_day(e.kpi_mrr_movement, "2026-05-29")}


def test_a_change_of_rank_without_seats_is_a_movement_of_tiers() -> None:
    """By the letter of the contract: it is neither `new` nor `churn`."""
    e = told(created("2026-05-04", 0, "0", plan="silver"), changed("2026-05-05", 0, "0", plan="gold"))
    assert of(on(e.kpi_tier_movement, MAY), "direction", "subscriptions", "seats") == ("upgrade", 1, 0)


def test_the_live_figures_are_those_of_the_clock() -> None:
    """X doubled, Y is cancelled, N is new and grew: base 175; of accounts with a base 100 + 0 are left."""
    e = told(*X, *Y, cancelled("2026-05-01", "Y"), created("2026-05-01", 9, "1000", "N", plan="gold"),
             changed("2026-05-02", 11, "1200.50", "N", plan="gold"))  # fmt: skip
    assert e.gauges == {
        ("seats", ("premium",)): 10,
        ("seats", ("gold",)): 11,
        ("seats_added_28d", ("premium",)): 0,
        ("seats_added_28d", ("gold",)): 0,  # 2 May is the 29th day from the end
        ("mrr", ("USD",)): usd("1300.50"),
        ("mrr_12m_ago", ()): usd("175"),
        ("mrr_retained", ()): usd("100"),
    }


# --- order -----------------------------------------------------------------------------------------------------------


def test_a_late_renewal_changes_the_movements_after_it() -> None:
    """10 seats, 14 in May; a renewal of February with 12 comes last: growth of 4 becomes 2 in a renewal and 2."""
    first, grown = created("2025-02-01", 10, "100"), changed("2026-05-10", 14, "150")
    renewal = subscribed("subscription_renewed", "2026-02-01", 12, "132")
    before, after = told(first, grown, at=MAY), told(first, grown, renewal, at=MAY)
    names = ("kind", "seats_from", "seats_to", "mrr_from", "mrr_to", "seat_mrr", "price_mrr")
    (row,) = having(before.seat_movement, event_id=grown["event_id"])
    assert of(row, *names) == ("growth", 10, 14, usd("100"), usd("150"), usd("40"), usd("10"))
    (row,) = having(after.seat_movement, event_id=grown["event_id"])
    assert of(row, *names) == ("growth", 12, 14, usd("132"), usd("150"), usd("22"), usd("-4"))
    (row,) = having(after.seat_movement, event_id=renewal["event_id"])
    assert of(row, *names) == ("renewal_growth", 10, 12, usd("100"), usd("132"), usd("20"), usd("12"))
    for day, seats in (("2026-01-31", 10), ("2026-02-01", 12), ("2026-05-09", 12), ("2026-05-10", 14)):
        assert on(after.account_kpi, day)["seats"] == seats
    assert on(before.account_kpi, MAY)["seats_added_28d"] == 4
    assert on(after.account_kpi, MAY)["seats_added_28d"] == 2
    assert of(on(after.kpi_net_retention, MAY, level="account"), "base_mrr", "current_mrr") == (usd("100"), usd("150"))


def test_events_of_one_moment_go_by_sequence_then_by_id() -> None:
    at = "2026-05-01T10:00:00Z"
    e = told(
        subscribed("quantity_changed", at, 1, "1", event_id="b"),
        subscribed("quantity_changed", at, 2, "2", event_id="a", sequence=1),
        subscribed("quantity_changed", "2026-05-01T12:00:00+02:00", 3, "3", event_id="B"),
        subscribed("quantity_changed", at, 4, "4", event_id="z", sequence=-1),
    )
    assert sorted(of(row, "seats_from", "seats_to") for row in e.seat_movement) == [(0, 4), (1, 2), (3, 1), (4, 3)]


def test_the_state_of_a_day_is_that_at_its_end_in_utc() -> None:
    e = told(
        created("2026-05-01T00:00:00Z", 1, "1"),
        changed("2026-05-01T23:59:59.999999Z", 2, "2"),
        changed("2026-05-03T01:00:00+02:00", 3, "3"),
    )
    assert [row["seats"] for row in e.account_kpi][:3] == [2, 3, 3]
    assert [row["seats"] for row in having(e.kpi_seats, dimension="total")][:3] == [2, 3, 3]


def test_rows_go_on_for_13_months_after_a_cancellation() -> None:
    """Contract, section 3.1. 31 January and 13 months is 28 February of the next year."""
    e = told(created("2024-12-01", 5, "50"), cancelled("2025-01-31"))
    assert days_of(e.account_kpi) == ("2024-12-01", "2026-02-28", 455)
    assert of(on(e.account_kpi, "2026-02-28"), "seats", "mrr", "mrr_12m_ago") == (0, usd("0"), usd("0"))
    assert on(e.account_kpi, "2026-01-30")["mrr_12m_ago"] == usd("50")
    assert on(e.account_kpi, "2026-01-31")["mrr_12m_ago"] == usd("0")


@pytest.mark.parametrize(
    ("day", "months", "later"),
    [("2025-01-31", 13, "2026-02-28"), ("2023-01-29", 13, "2024-02-29"), ("2024-02-29", 13, "2025-03-29"),
     ("2024-02-29", -12, "2023-02-28"), ("2025-02-28", -12, "2024-02-28"), ("2025-12-31", 13, "2027-01-31"),
     ("2025-11-30", 13, "2026-12-30")],
)  # fmt: skip
def test_months(day: str, months: int, later: str) -> None:
    assert months_later(dt.date.fromisoformat(day), months) == dt.date.fromisoformat(later)


def test_a_cancelled_subscription_that_comes_back_has_no_rows_between() -> None:
    e = told(created("2024-01-01", 5, "50"), cancelled("2024-01-10"), changed("2026-05-30", 6, "60"))
    days = [row["as_of"] for row in e.account_kpi]
    assert (days[0], days[-3], days[-2:]) == (
        dt.date(2024, 1, 1), dt.date(2025, 2, 10), [dt.date(2026, 5, 30), dt.date(2026, 5, 31)]
    )  # fmt: skip
    (row,) = having(e.seat_movement, seats_to=6)
    assert row["kind"] == "new"


def test_0_seats_that_are_no_cancellation_have_rows_for_good() -> None:
    e = told(created("2024-01-01", 5, "50"), changed("2024-01-10", 0, "0"))
    assert days_of(e.account_kpi)[1] == MAY


def test_facts_after_the_clock_show_nowhere() -> None:
    before = [created("2026-05-01", 5, "50", "A"), event("trial_started", "2026-05-02", "A", channel="self_service")]
    after = [
        changed("2026-06-01", 9, "90", "A"),
        created("2026-06-01", 9, "90", "B"),
        event("addon_purchased", "2026-06-01", "A", addon={}),
        event("outreach_requested", "2026-06-01", "A", channel="self_service"),
        profile("2026-06-01", "A", segment="SMB"),
        event("seats_synced", "2026-06-01", "A", seat_sync={"subscription_id": "S", "max_users": 5}),
    ]
    one, other = told(*before), told(*before, *after)
    for name in TABLES:
        assert getattr(one, name) == getattr(other, name), name
    assert len(told(*before, *after, as_of="2026-06-01").seat_movement) == 3


def some_events(seed: int) -> list[Row]:
    """Events of four accounts over 18 months, of every type and in an order of chance."""
    dice = random.Random(seed)
    made = []
    for number in range(240):
        kind = dice.choice([*BLOCKS, *["quantity_changed", "plan_changed", "subscription_renewed"] * 3])
        at = dt.datetime(2024, 12, 1, tzinfo=dt.UTC) + dt.timedelta(hours=6 * dice.randrange(4 * 546))
        blocks = {
            "subscription": {
                "subscription_id": dice.choice("ST"),
                "deployment": dice.choice(["self_managed", "gitlab_com"]),
                "plan": dice.choice([plan for plan in RANKS if plan]),
                "seats": dice.choice([0, 3, 8, 13, 14]),
                "mrr": f"{dice.randrange(100_000) / 1000}",
                "list_mrr": dice.choice([None, "0", f"{dice.randrange(100_000) / 1000}"]),
                "currency": dice.choice(["USD", "EUR"]),
                "fx_rate": f"1.{dice.randrange(10_000)}",
                "at_renewal": dice.random() < 0.1,
                "license_sha256": dice.choice(["", "L", "M"]),
            },
            "account": {"segment": dice.choice(["SMB", "Large", ""]), "parent_account_id": dice.choice(["A", "P", ""])},
            "addon": {"addon": dice.choice(["ci_minutes", "storage"]), "quantity": 2, "amount": "1.005"},
            "seat_sync": {"subscription_id": "S", "billable_users": dice.randrange(20), "max_users": 15},
        }
        block = {BLOCKS[kind]: blocks[BLOCKS[kind]]} if BLOCKS[kind] else {}
        channel = dice.choice(["self_service", "partner", ""])
        account = dice.choice("ABCD")
        made.append(event(kind, at.isoformat(), account, channel=channel, **block) | {"event_id": str(number)})
    return made


SOME_PINGS = [
    ping(f"2026-0{month}-10", mau=month, license_sha256=license_sha256, historical_max_users=month)
    for month, license_sha256 in enumerate("LMLLM", start=1)
]


@pytest.mark.parametrize("seed", range(3))
def test_order_and_repetition_change_nothing(seed: int) -> None:
    events = some_events(seed)
    shuffled = [*events, *events[::3]]
    random.Random(seed).shuffle(shuffled)
    one, other = told(*SOME_PINGS, *events, at=MAY), told(*shuffled, *SOME_PINGS, at=MAY)
    for name in TABLES:
        assert getattr(one, name) == getattr(other, name), name
    assert one.gauges == other.gauges
    assert other.outcomes["billing-events", "duplicate"] == 80


@pytest.mark.parametrize("seed", range(3))
def test_movements_explain_every_change_of_seats_and_money(seed: int) -> None:
    """What stands on a day stood 28 days before or moved since; the parts of a movement are its change."""
    e = told(*SOME_PINGS, *some_events(seed), at=MAY)
    stood = {row["as_of"]: row for row in having(e.kpi_mrr, dimension="total")}
    seats = {row["as_of"]: row["seats"] for row in having(e.kpi_seats, dimension="total")}
    for as_of, row in stood.items():
        start = as_of - dt.timedelta(28)
        changes = sum(change["mrr_change"] for change in having(e.kpi_mrr_movement, as_of=as_of))
        assert row["mrr"] - (stood[start]["mrr"] if start in stood else 0) == changes
        moved = sum(
            movement["seats_to"] - movement["seats_from"]
            for movement in e.seat_movement
            if start < movement["occurred_at"].date() <= as_of
        )
        assert seats[as_of] - seats.get(start, 0) == moved
    for row in e.seat_movement:
        parts = of(row, "seat_mrr", "tier_mrr", "discount_mrr", "price_mrr")
        assert sum(parts) == row["mrr_to"] - row["mrr_from"]
    for dimension in ("plan", "segment", "deployment"):
        for as_of in list(stood)[::50]:
            assert sum(row["seats"] for row in having(e.kpi_seats, dimension=dimension, as_of=as_of)) == seats[as_of]
    assert len(e.kpi_tier_movement) > 100 and len(e.seat_movement) > 100


# --- reading and judging ---------------------------------------------------------------------------------------------


def reason(document: Any, received: str = MAY) -> str:
    """What becomes of a message: the reason of its letter, or ''."""
    letters = told(document, at=received).dead_letter
    return letters[0]["reason"] if letters else ""


@pytest.mark.parametrize(
    ("raw", "why"),
    [(b"", "not_json"), (b"{", "not_json"), (b'{"a": NaN}', "not_json"), (b"[]", "invalid"), (b"5", "invalid"),
     (b"[" * 101, "too_deep"), (b" " * (8 * 1024 * 1024 + 1), "too_large"), (b"{}", "invalid"),
     (b'{"type": "dance"}', "unknown_type"), (b'{"type": ""}', "unknown_type"), (b'{"type": null}', "invalid"),
     (b'{"type": 5}', "invalid")],
)  # fmt: skip
def test_what_is_no_event(raw: bytes, why: str) -> None:
    assert reason(raw) == why


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_type_needs_its_block_and_ignores_the_others(kind: str) -> None:
    block = created(MAY, 1, "1")["subscription"] if BLOCKS[kind] == "subscription" else {}
    others = {name: "anything" for name in BLOCKS.values() if name}
    assert reason(event(kind, MAY, **others | ({BLOCKS[kind]: block} if BLOCKS[kind] else {}))) == ""
    if BLOCKS[kind]:
        assert reason(event(kind, MAY)) == "invalid"
        assert reason(event(kind, MAY, **{BLOCKS[kind]: None})) == "invalid"
        assert reason(event(kind, MAY, **{BLOCKS[kind]: [block]})) == "invalid"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("event_id", [None, "", 5, "x" * 257, "\ud800"]),
        ("account_id", [None, "", 5, "x" * 257, "\udfff"]),
        (
            "occurred_at",
            [None, "", "2026-05-31", "2026-05-31T12:00:00", "2026-05-31T12:00:60Z", "1969-12-31T23:00:00Z"],
        ),
        ("sequence", [1.0, "1", True, 2**63, -(2**63) - 1]),
        ("channel", ["phone", 5, "Partner"]),
    ],
)
def test_wrong_common_fields(field: str, values: list[Any]) -> None:
    for value in values:
        assert reason(event("trial_started", MAY) | {field: value}) == "invalid", value


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("subscription_id", [None, "", 5, "x" * 257]),
        ("deployment", [None, "", "dedicated"]),
        ("plan", [None, "", "core", "Premium"]),
        ("seats", [None, -1, 1.0, "5", True, 10**12 + 1]),
        ("mrr", [None, "", 5, 5.0, "-1", "-0.001", "NaN", "Infinity", "1,5", "1_0", " 1", "1e1000", "1e12", "0" * 65]),
        ("list_mrr", [5, "-1", "1e12", "x"]),
        ("currency", [None, "", "usd", "USDX", 5]),
        ("fx_rate", [0, -1, "0", "-1", "1e9", 10**9, "x", True, [], {}]),
        ("namespace_id", [5, "x" * 257, "\ud800"]),
        ("license_sha256", [5, "x" * 257]),
        ("term_start", ["soon", "2026-02-30", "2026-1-1", 20260101, "2026-01-01T00:00:00"]),
        ("term_end", ["2026-05-31T24:00:00Z"]),
        ("at_renewal", ["true", 1, ""]),
    ],
)
def test_wrong_subscriptions(field: str, values: list[Any]) -> None:
    for value in values:
        assert reason(created(MAY, 5, "50", **{field: value})) == "invalid", value


@pytest.mark.parametrize(
    "fields",
    [
        {"seats": 0}, {"seats": 10**12}, {"mrr": "+1."}, {"mrr": "-0.00"}, {"mrr": "1e-999"}, {"list_mrr": ""},
        {"fx_rate": ""}, {"fx_rate": "1e-3"}, {"fx_rate": 999999999.5}, {"currency": "EUR", "fx_rate": 2},
        {"plan": "gold"}, {"term_start": "2026-01-01", "term_end": "0001-01-01T00:00:00+05:00"}, {"term_end": ""},
        {"at_renewal": None}, {"namespace_id": None}, {"unknown": {"deep": "\ud800"}},
        {"subscription_id": "😀" * 256, "event_id": "it"},
    ],
)  # fmt: skip
def test_odd_subscriptions_that_are_right(fields: Row) -> None:
    assert reason(created(MAY, 5, "50", **fields)) == ""


@pytest.mark.parametrize(
    ("kind", "block", "why"),
    [
        ("account_updated", {"geo": "EU"}, "invalid"),
        ("account_updated", {"segment": "smb"}, "invalid"),
        ("account_updated", {"acquisition_channel": "bought"}, "invalid"),
        ("account_updated", {"country": "DEU"}, "invalid"),
        ("account_updated", {"country": "de"}, "invalid"),
        ("account_updated", {"name": "x" * 1025}, "invalid"),
        ("account_updated", {"territory": 5}, "invalid"),
        ("account_updated", {"name": "x" * 1024, "country": "DE", "territory": None, "geo": ""}, ""),
        ("addon_purchased", {"quantity": 1.5}, "invalid"),
        ("addon_purchased", {"quantity": -(10**12) - 1}, "invalid"),
        ("addon_purchased", {"amount": 5}, "invalid"),
        ("addon_purchased", {"amount": "-1e12"}, "invalid"),
        ("addon_purchased", {"currency": "EUR"}, "unsupported_currency"),
        ("addon_purchased", {"currency": "EUR", "amount": "x"}, "invalid"),
        ("addon_purchased", {"currency": "", "amount": "-5"}, ""),
        ("seats_synced", {"billable_users": -1}, "invalid"),
        ("seats_synced", {"max_users": 10**12 + 1}, "invalid"),
        ("seats_synced", {"billable_users": "5"}, "invalid"),
        ("seats_synced", {"billable_users": None}, ""),
    ],
)
def test_other_blocks(kind: str, block: Row, why: str) -> None:
    assert reason(event(kind, MAY, **{BLOCKS[kind]: block})) == why


def test_a_foreign_currency_needs_a_rate_once_all_else_is_right() -> None:
    assert reason(created(MAY, 5, "50", currency="EUR")) == "unsupported_currency"
    assert reason(created(MAY, 5, "50", currency="EUR", fx_rate=None)) == "unsupported_currency"
    assert reason(created(MAY, -5, "50", currency="EUR")) == "invalid"
    assert reason(created(MAY, 5, "50", currency="EUR", at_renewal="no")) == "invalid"
    euros = expect(
        records(created(MAY, 5, "50", currency="EUR")), Rules(dt.date(2026, 5, 31), reporting_currency="EUR")
    )
    assert on(euros.account_kpi, MAY)["mrr"] == usd("50")
    assert ("mrr", ("EUR",)) in euros.gauges


def test_money_is_below_10_to_the_12_as_sent_and_converted() -> None:
    assert reason(created(MAY, 5, "1e9", fx_rate="1000")) == "invalid"
    assert reason(created(MAY, 5, "1e12", fx_rate="0.001")) == "invalid"
    assert reason(created(MAY, 5, "1", list_mrr="1e9", fx_rate="1000")) == "invalid"
    assert reason(created(MAY, 5, "999999999.99", fx_rate="1000")) == ""


@pytest.mark.parametrize(
    ("occurred_at", "why"),
    [("2026-06-01T12:00:00Z", ""), ("2026-06-01T12:00:00.000001Z", "future"), ("2026-06-01T14:00:00+02:00", ""),
     ("2026-06-01T11:00:00.000001-01:00", "future"), ("1970-01-01T00:00:00Z", "")],
)  # fmt: skip
def test_a_day_ahead_is_the_most_and_nothing_is_late(occurred_at: str, why: str) -> None:
    """Received at noon of 31 May."""
    assert reason(event("trial_started", occurred_at)) == why


def test_the_same_id_again_is_a_duplicate_or_a_conflict_and_the_first_stands() -> None:
    first = created("2026-05-01", 5, "50", event_id="it", unknown=[1, {"a": 2.50}])
    text = json.dumps(first)
    same = [
        json.dumps(dict(reversed(first.items()))).encode(),
        text.replace("2.5", "25e-1").replace("[1,", "[1.0,").replace("5,", "5 ,").encode(),
    ]
    others = [
        text.replace("2.5", "2.51").encode(),
        text.replace("[1,", "[true,").encode(),
        text.replace("[1,", '["1",').encode(),
        text.replace('"seats": 5', '"seats": 6').encode(),
        json.dumps(first | {"more": None}).encode(),
    ]
    e = told(first, *same, *others, first | {"account_id": "B"}, at=MAY)
    assert e.outcomes == {
        ("billing-events", "applied"): 2,
        ("billing-events", "duplicate"): 2,
        ("billing-events", "dead"): 5,
    }
    assert [of(row, "offset", "reason") for row in e.dead_letter] == [(o, "conflict") for o in range(3, 8)]
    assert [row["seats_to"] for row in e.seat_movement] == [5, 5]
    reverse = told(others[3], first, at=MAY)
    assert [row["seats_to"] for row in reverse.seat_movement] == [6]


def test_only_applied_events_are_known() -> None:
    """One from the future is dead, and applied when it comes again in time; a conflict is one even from the future."""
    good = event("trial_started", "2026-05-10")
    early, late = milliseconds("2026-05-08T12:00:00Z"), milliseconds("2026-05-09T12:00:00Z")
    other = json.dumps(good | {"occurred_at": "2027-01-01T00:00:00Z"}).encode()
    values = [(early, json.dumps(good).encode()), (late, json.dumps(good).encode()), (late, other)]
    stream = [Record("billing-events", 0, o, at, None, value) for o, (at, value) in enumerate(values)]
    e = expect(stream, Rules(dt.date(2026, 5, 31)))
    assert [of(row, "offset", "reason") for row in e.dead_letter] == [(0, "future"), (2, "conflict")]


def test_a_replayed_letter_with_known_content_is_applied_and_changes_nothing() -> None:
    first, other = created("2026-05-01", 5, "50", event_id="it"), created("2026-05-01", 6, "60", event_id="it")
    values = [(0, first), (1, first), (1, other), (0, first)]
    stream = [
        Record("billing-events", 0, o, milliseconds(f"{MAY}T12:00:00Z"), None, json.dumps(value).encode(), attempt)
        for o, (attempt, value) in enumerate(values)
    ]
    e = expect(stream, Rules(dt.date(2026, 5, 31)))
    assert {outcome: number for (_, outcome), number in e.outcomes.items()} == {"applied": 2, "dead": 1, "duplicate": 1}
    assert [row["seats_to"] for row in e.seat_movement] == [5]


def test_both_topics_have_their_outcomes_and_letters() -> None:
    e = told(ping("2026-05-01"), {"recorded_at": "2026-05-01T12:00:00Z"}, event("trial_started", MAY), event("x", MAY))
    assert e.outcomes == dict.fromkeys(itertools.product(["usage-pings", "billing-events"], ["applied", "dead"]), 1)
    assert [of(row, "topic", "reason") for row in e.dead_letter] == [
        ("billing-events", "unknown_type"), ("usage-pings", "invalid")
    ]  # fmt: skip


# --- accounts and their usage ----------------------------------------------------------------------------------------


def usage_of(e: BillingExpected, as_of: str) -> dict[str, int | None]:
    """The MAU of each account with a row."""
    return {row["account_id"]: row["mau"] for row in on_day(e.kpi_account_usage, as_of)}


def test_an_installation_is_linked_by_subscription_id_or_by_licence() -> None:
    e = told(
        created("2026-05-01", 10, "100", "A", subscription_id="S-1", license_sha256="L-1"),
        created("2026-05-01", 10, "100", "B", subscription_id="S-2", license_sha256="L-2"),
        ping("2026-05-02", "one", mau=1, license_subscription_id="S-1", license_sha256="L-2"),
        ping("2026-05-02", "two", mau=2, license_subscription_id="unheard of", license_sha256="L-2"),
        ping("2026-05-02", "three", mau=4, license_md5="L-1"),
        ping("2026-05-02", "four", mau=8, license_sha256="l-1"),
        ping("2026-05-02", "five", mau=16),
    )
    assert usage_of(e, "2026-05-02") == {"A": 1 + 4, "B": 2, "": 8 + 16}
    assert [of(row, "account_id", "mau") for row in on_day(e.kpi_seat_utilization, "2026-05-02")] == [
        ("A", 5),
        ("B", 2),
    ]


def test_a_group_is_linked_by_its_namespace() -> None:
    e = told(
        created("2026-05-01", 10, "100", "A", namespace_id="7", deployment="gitlab_com", plan="silver"),
        ping("2026-05-02", "gitlab.com", mau=3, namespace_id="7"),
        ping("2026-05-02", "gitlab.com", mau=5, namespace_id="8"),
        ping("2026-05-02", "elsewhere", mau=9, namespace_id="7"),
    )
    assert usage_of(e, "2026-05-02") == {"A": 3, "": 5 + 9}
    row = on(e.kpi_seats_by_stage, "2026-05-02")
    assert of(row, "deployment", "stage", "basis", "seats", "active_users") == ("gitlab_com", "plan", "exact", 10, 3)


def test_two_installations_of_a_subscription_add_up() -> None:
    """Seats count once; one installation counts exactly, the other reports; the third reports no MAU."""
    monthly: Row = {"usage_activity_by_stage_monthly": {"manage": {"events": 20}, "plan": {"issues": 6}}}
    no_mau: Row = {"usage_activity_by_stage_monthly": {"plan": {"issues": 7}}}
    e = told(
        created("2026-05-01", 10, "100", license_sha256="L"),
        created("2026-05-01", 30, "100", "B", deployment="gitlab_com", subscription_id="other"),
        ping("2026-05-02", "one", mau=3, license_sha256="L"),
        ping("2026-05-03", "two", license_sha256="L", **monthly),
        ping("2026-05-04", "three", license_subscription_id="other", **no_mau),
    )
    names: tuple[str, ...] = ("mau", "basis", "active_utilization")
    assert of(on(e.kpi_seat_utilization, "2026-05-02", account_id="A"), *names) == (3, "exact", 0.3)
    assert of(on(e.kpi_seat_utilization, "2026-05-04", account_id="A"), *names) == (23, "mixed", 2.3)
    assert of(on(e.kpi_seat_utilization, "2026-05-30", account_id="A"), *names) == (20, "reported", 2.0)
    assert of(on(e.kpi_seat_utilization, "2026-05-31", account_id="A"), *names) == (None, "", None)
    assert of(on(e.kpi_seat_utilization, "2026-05-04", account_id="B"), *names) == (None, "reported", None)
    names = ("deployment", "stage", "basis", "seats", "active_users")
    assert [of(row, *names) for row in on_day(e.kpi_seats_by_stage, "2026-05-04")] == [
        ("gitlab_com", "plan", "reported", 30, 7),
        ("self_managed", "plan", "mixed", 10, 3 + 6),
    ]
    row = on(e.kpi_account_usage, "2026-05-04", account_id="A")
    assert of(row, "mau", "basis", "stages_used", "features_used", "pings_28d") == (23, "mixed", 1, 2, 2)


def test_an_installation_moves_with_its_licence_from_that_day_on() -> None:
    """All of it: also what it did in the 28 days before."""
    e = told(
        created("2026-05-01", 10, "100", "A", license_sha256="L-1"),
        created("2026-05-01", 10, "100", "B", license_sha256="L-2"),
        ping("2026-05-02", mau=3, license_sha256="L-1"),
        ping("2026-05-10", license_sha256="L-2"),
        ping("2026-05-20", license_sha256="L-3"),
    )
    assert usage_of(e, "2026-05-09") == {"A": 3}
    assert usage_of(e, "2026-05-10") == {"B": 3}
    assert usage_of(e, "2026-05-20") == {"": 3}
    pings = [(row["account_id"], row["pings_28d"]) for row in on_day(e.kpi_account_usage, "2026-05-20")]
    assert pings == [("", 3)]
    assert on(e.kpi_account_usage, MAY)["last_ping_at"] == dt.datetime(2026, 5, 20, 12, tzinfo=dt.UTC)


def test_a_licence_may_move_to_another_subscription() -> None:
    """It belongs to the one whose event carried it last; leaving it out, or a cancellation, takes nothing away."""
    e = told(
        ping("2026-05-01", mau=3, license_sha256="L"),
        created("2026-05-03", 10, "100", "A", license_sha256="L"),
        changed("2026-05-05", 11, "100", "A"),
        created("2026-05-07", 10, "100", "B", license_sha256="L"),
        cancelled("2026-05-09", "B"),
        changed("2026-05-11", 12, "100", "A", license_sha256="L"),
    )
    found = ["".join(usage_of(e, f"2026-05-{day:02}")) for day in range(1, 13)]
    assert found == ["", "", "A", "A", "A", "A", "B", "B", "B", "B", "A", "A"]


def test_usage_stays_with_a_cancelled_subscription() -> None:
    """It has 0 seats in `account_kpi` and by stage for 13 months; the account keeps the usage for good."""
    e = told(
        created("2025-03-01", 10, "100", "A", license_sha256="L"),
        cancelled("2025-04-10", "A"),
        ping("2026-05-10", mau=3, license_sha256="L"),
    )
    assert on(e.kpi_seats_by_stage, "2026-05-10")["seats"] == 0
    assert on(e.kpi_seat_utilization, "2026-05-10")["mau"] == 3
    assert on_day(e.kpi_seats_by_stage, "2026-05-11") == on_day(e.kpi_seat_utilization, "2026-05-11") == []
    assert usage_of(e, "2026-05-11") == {"A": 3}


def test_usage_before_its_subscription_is_nobodys_and_is_not_lost() -> None:
    pings = [ping("2026-05-01", mau=3, license_sha256="L")]
    bought = [created("2026-05-10", 10, "100", "A", license_sha256="L")]
    e, other = told(*pings, *bought), told(*bought, *pings, at=MAY)
    assert usage_of(e, "2026-05-09") == {"": 3}
    assert usage_of(e, "2026-05-10") == {"A": 3}
    assert on(e.kpi_seat_utilization, "2026-05-10")["mau"] == 3
    assert e.kpi_account_usage == other.kpi_account_usage
    assert e.kpi_seat_utilization == other.kpi_seat_utilization


def test_before_its_first_ping_an_installation_is_nobodys() -> None:
    e = told(
        created("2026-05-01", 10, "100", "A", license_sha256="L"),
        ping("2026-05-03", mau=3, day="2026-05-02", license_sha256="L"),
    )
    assert usage_of(e, "2026-05-02") == {"": 3}
    assert usage_of(e, "2026-05-03") == {"A": 3}
    assert on(e.kpi_account_usage, "2026-05-02")["last_ping_at"] is None


def test_billable_users_are_of_the_newest_sync_else_of_the_installations() -> None:
    def sync(at: str, **block: Any) -> Row:
        return event("seats_synced", at, seat_sync=block)

    e = told(
        created("2026-04-01", 10, "100", license_sha256="L"),
        ping("2026-04-02", "one", license_sha256="L", license_billable_users=3, historical_max_users=-1),
        ping("2026-04-03", "two", license_sha256="L", license_billable_users=4, historical_max_users=9),
        ping("2026-04-05", "one", license_sha256="L", historical_max_users=5),
        sync("2026-05-02", billable_users=99, max_users=99),
        sync("2026-05-03", subscription_id="S", billable_users=12),
        sync("2026-05-04", subscription_id="S"),
        sync("2026-05-05", subscription_id="another", billable_users=99),
    )
    names = ("billable_users", "max_users")
    found = {day: of(on(e.account_kpi, day), *names) for day in
             ("2026-04-01", "2026-04-02", "2026-04-03", "2026-04-05", "2026-04-30", "2026-05-01", "2026-05-02",
              "2026-05-03", "2026-05-04", "2026-05-05")}  # fmt: skip
    assert list(found.values()) == [
        (None, None),
        (3, None),
        (3 + 4, 9),
        (4, 9 + 5),
        (4, 9 + 5),  # 28 days after 3 April
        (None, 5),
        (None, 5),
        (12, None),
        (None, None),
        (None, None),
    ]


def test_accounts_without_events_or_usage_have_no_rows() -> None:
    e = told()
    assert all(getattr(e, name) == [] for name in TABLES)
    assert e.gauges == {("mrr", ("USD",)): 0, ("mrr_12m_ago", ()): 0, ("mrr_retained", ()): 0}
    only_usage = told(ping("2026-05-02", mau=3))
    assert [name for name in TABLES if getattr(only_usage, name)] == ["kpi_account_usage"]


# --- shape -----------------------------------------------------------------------------------------------------------

COLUMNS = {
    "account_kpi": "as_of account_id subscription_id parent_account_id deployment plan country geo territory segment"
    " buyer_persona acquisition_channel acquisition_source seats seats_added_28d seats_removed_28d mrr mrr_12m_ago"
    " billable_users max_users",
    "seat_movement": "account_id event_id occurred_at subscription_id kind channel plan_from plan_to seats_from seats_to"
    " mrr_from mrr_to seat_mrr tier_mrr discount_mrr price_mrr",
    "addon_purchase": "account_id event_id occurred_at channel addon quantity amount",
    "self_service_action": "account_id motion event_id occurred_at channel",
    "kpi_seats": "as_of dimension value seats",
    "kpi_seats_added": "as_of dimension value seats_added_28d seats_at_start added_share",
    "kpi_seats_by_stage": "as_of deployment stage basis seats active_users",
    "kpi_seat_utilization": "as_of account_id subscription_id plan seats billable_users mau basis utilization"
    " active_utilization seats_owed",
    "kpi_account_usage": "as_of account_id mau basis stages_used features_used pings_28d last_ping_at",
    "kpi_net_retention": "as_of level base_mrr current_mrr gross_mrr net_retention gross_retention customers"
    " churned_customers",
    "kpi_tier_movement": "as_of segment plan_from plan_to direction subscriptions seats mrr_change",
    "kpi_mrr": "as_of dimension value mrr arr",
    "kpi_mrr_movement": "as_of segment kind mrr_change",
    "kpi_addons": "as_of addon channel purchases quantity amount",
    "kpi_self_service": "as_of account_id trial purchase growth upgrade renew outreach done utilization utilization_pct",
    "kpi_self_service_total": "as_of trial purchase growth upgrade renew outreach customers utilization utilization_pct",
}
MONEY = {"mrr", "arr", "mrr_12m_ago", "mrr_from", "mrr_to", "seat_mrr", "tier_mrr", "discount_mrr", "price_mrr", "amount",
         "base_mrr", "current_mrr", "gross_mrr", "mrr_change"}  # fmt: skip
RATIOS = {"added_share", "utilization", "active_utilization", "net_retention", "gross_retention"}
TEXTS = {"account_id", "subscription_id", "parent_account_id", "deployment", "plan", "country", "geo", "territory",
         "segment", "buyer_persona", "acquisition_channel", "acquisition_source", "event_id", "kind", "channel", "plan_from",
         "plan_to", "addon", "motion", "dimension", "value", "stage", "basis", "level", "direction"}  # fmt: skip
KEYS = {"seat_movement": 2, "addon_purchase": 2, "self_service_action": 3, "account_kpi": 3, "kpi_seats": 3,
        "kpi_seats_added": 3, "kpi_seats_by_stage": 3, "kpi_seat_utilization": 3, "kpi_account_usage": 2,
        "kpi_net_retention": 2, "kpi_tier_movement": 5, "kpi_mrr": 3, "kpi_mrr_movement": 3, "kpi_addons": 3,
        "kpi_self_service": 2, "kpi_self_service_total": 1}  # fmt: skip
"""How many of the columns are the key."""


def type_of(column: str) -> type:
    if column == "as_of":
        return dt.date
    if column in ("occurred_at", "last_ping_at"):
        return dt.datetime
    if column in MONEY:
        return Decimal
    if column in RATIOS:
        return float
    return str if column in TEXTS else int


@pytest.mark.parametrize("name", TABLES)
def test_rows_have_the_contracts_columns_with_their_types_and_one_row_a_key(name: str) -> None:
    e = told(*SOME_PINGS, *some_events(0), as_of="2026-05-20", at=MAY)
    rows = getattr(e, name)
    assert rows
    for row in rows:
        assert sorted(row) == sorted(COLUMNS[name].split())
        for column, value in row.items():
            assert value is None or type(value) is type_of(column), (column, value)
            if isinstance(value, Decimal):
                assert value.as_tuple().exponent == -2, (column, value)
            if isinstance(value, dt.datetime):
                assert value.tzinfo is dt.UTC
    key = COLUMNS[name].split()[: KEYS[name]]
    keys = [of(row, *key) for row in rows]
    assert keys == sorted(set(keys))
    days = [row["as_of"] if "as_of" in row else row["occurred_at"].date() for row in rows]
    assert max(days) <= e.as_of
