"""What the contract says comes out of the records of both topics, computed slowly and obviously: the billing half.

No part of the product is imported here, and nothing is clever: the events of an account are sorted, each is compared
with the one before it, the rows of `account_kpi` are made day by day from what holds at the end of the day, and a view
is what its rows of that day add up to. What usage needs comes from `tests.oracle.usage`. A test feeds the same records
to the product and compares table by table.

Where the contract leaves room, this is how it is read:

Reading a message
  * `too_large`, `too_deep`, `not_json`, and `invalid` for JSON that is no object, as for pings.
  * `type` comes before the schema: absent or no string is `invalid`, a string that is none of the 13 is `unknown_type`.
    Then the schema (`invalid`), then a foreign currency without a rate (`unsupported_currency`), and then whether the
    converted money is too much (`invalid`).
  * The block of the type must be there as an object. Every other block is an unknown field, whatever is in it.
  * An optional field is missing when it is absent, null or, where a string may stand, ''. A required one must not be.
  * Strings have up to 256 characters (`name` 1,024), code points; a lone surrogate in one that is read is `invalid`.
    `event_id`, `account_id` and `subscription.subscription_id` are required. `channel`, `geo`, `segment` and
    `acquisition_channel` have the contract's values, `country` is two capitals. Any plan goes with any deployment.
  * Integers are written as integers (`10.0`, `1e3` and `true` are none; `-0` is 0). `sequence` has 64 bits with a sign.
    `seats`, `billable_users` and `max_users` are 0 to 10**12, `quantity` is -10**12 to 10**12, 0 when missing.
  * Money is a string, `+1.`, `.5` and `1e3` too, of at most 64 characters and three digits of exponent. `mrr` and
    `list_mrr` are not negative, `amount` may be and is 0 when missing. As sent, and converted but not yet rounded, an
    amount is below 10**12 units. `fx_rate` is such a string, or a JSON number with all its digits, however many; it is
    above 0 and below 10**9, and counts for the reporting currency too where it is given.
  * `currency` is three capitals, required in `subscription`; in `addon` it is the reporting one when missing. An addon
    in a foreign currency needs a rate even if it has no amount.
  * `term_start` and `term_end`: a day that exists or a moment of one, of any year, or missing. They end nothing.

Judging a message that could be read, in this order
  1. the same (`account_id`, `event_id`) was applied before: with equal JSON values in the whole document, unknown
     fields too, it is a `duplicate` (1, 1.0 and 1e0 are equal, and so are -0 and 0; 1 and true are not), else a
     `conflict`. A replayed letter with equal values is applied again, and nothing changes.
  2. `occurred_at` more than 24 hours after the record timestamp: `future`
  Only applied events are remembered, for ever; nothing is late. The first is the first of the given records.

Money
  * An amount in the reporting currency is amount x rate, exactly, rounded once, half-even, to the cent: `list_mrr` and
    `amount` too. A `list_mrr` that is 0 then counts as absent.

Accounts and subscriptions
  * The events of an account are in the order (`occurred_at`, `sequence`, `event_id`). A subscription is (`account_id`,
    `subscription_id`). `subscription_cancelled` leaves it 0 seats, 0 MRR and no list price, plan and deployment as in
    its block; a later event with seats brings it back.
  * Every subscription event is a seat movement, also of kind `none` (0 seats to 0 too). Days are UTC; the movements,
    purchases and actions of days after the clock are not shown.
  * `account_kpi`: 13 months after a cancellation on day c end with the same date 13 months later, clipped to the month.
    They count only as long as the state of the day is a cancellation: 0 seats by another event have rows for good.
  * `billable_users` and `max_users` are both of the newest `seats_synced` of the subscription, NULL where that one
    lacks it; without any, sums over its installations of what the newest ping of the 28 days knows, NULL when none
    does. A `seats_synced` without a `subscription_id` speaks for no subscription.
  * `self_service_action` has the actions of all channels. An upgrade is a `plan_changed` to a higher rank than that of
    the state before it (free to paid too); there must be one. `growth` is a movement of that kind by any event type.

Views
  * `kpi_seats` and `kpi_mrr` have a row for each value that has rows of `account_kpi` on the day, 0 seats too.
    `kpi_seats_added` has one where there is one of `kpi_seats` on the day or 28 days before; for `channel` where there
    is a growth movement in the window, with NULL for `seats_at_start` and the share.
  * `kpi_net_retention` has three rows a day from the first day of `account_kpi` to the clock, with NULL ratios and 0
    customers while there is no base. At level parent an account without a parent and those whose parent it is are one.
  * `kpi_tier_movement` needs a state before the movement, too. `kpi_mrr_movement`: the four parts of a segment have
    rows wherever one movement is neither new nor churn, those of 0 seats before and after too; a part may be 0.
  * `kpi_self_service` begins with the day of an account's first event of any type, `kpi_self_service_total` with the
    first of all.

Usage and subscriptions
  * On a day an id (`subscription_id`, `license_sha256`, `namespace_id`) belongs to the subscription by the newest of
    all subscription events up to the end of the day that carry it, of any account; ties go to the greatest
    (`account_id`, `subscription_id`). An event without the id takes nothing away, nor does a cancellation. But a group is
    nobody's from when the subscription that holds it names another `namespace_id`, or is `self_managed` and names none.
  * An installation is linked by its newest ping recorded by the end of the day, of any age: by that one's
    `license_subscription_id` if it belongs to a subscription, else by its `license_sha256` (column of `usage_ping`).
    Before its first ping it belongs to nobody, with what it did until then. A group is linked by its namespace id.
  * All of a scope counts where it is linked on `as_of`, also the part of its window that lies before the link.
  * `kpi_seat_utilization` has a row for each of `account_kpi`. Its basis is that of the scopes with a figure, as in
    `kpi_account_usage`: a scope that reports stages and no MAU makes it `reported` while `mau` is NULL.
  * `kpi_seats_by_stage` counts subscriptions with a row in `account_kpi`; there is one row for a day, deployment and
    stage, and its basis is `mixed` where scopes of both kinds contribute.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

from tests.oracle import usage
from tests.oracle.usage import (
    DAY,
    WINDOW_DAYS,
    Dead,
    Expected,
    Place,
    Record,
    Row,
    Rules,
    Timeline,
    basis_of,
    calendar_day,
    check,
    days_between,
    days_of_window_from,
    grouped,
    has_lone_surrogate,
    in_order,
    instant_of,
    moment,
    named,
    ratio,
)

Subscription = tuple[str, str]
"""`account_id` and `subscription_id`."""

BLOCKS = {
    "account_updated": "account",
    "trial_started": "",
    "subscription_created": "subscription",
    "quantity_changed": "subscription",
    "plan_changed": "subscription",
    "price_changed": "subscription",
    "subscription_renewed": "subscription",
    "subscription_cancelled": "subscription",
    "addon_purchased": "addon",
    "license_issued": "subscription",
    "seats_synced": "seat_sync",
    "reconciliation_charged": "subscription",
    "outreach_requested": "",
}
"""The block that an event of each type has."""

RANKS = {"": 0, "free": 0, "bronze": 1, "starter": 1, "silver": 2, "premium": 2, "gold": 3, "ultimate": 3}
PLANS = tuple(RANKS)[1:]
DEPLOYMENTS = ("self_managed", "gitlab_com")
CHANNELS = ("self_service", "sales_assisted", "automatic", "partner")
GEOS = ("AMER", "EMEA", "APAC", "JIHU")
SEGMENTS = ("SMB", "Mid-Market", "Large", "PubSec")
ACQUISITION_CHANNELS = ("paid", "earned", "social", "owned")

DIMENSIONS = ("plan", "geo", "territory", "segment", "buyer_persona", "acquisition_channel", "deployment")
"""Of `kpi_seats`, besides `total`; columns of `account_kpi`."""

MOTIONS = ("trial", "purchase", "growth", "upgrade", "renew", "outreach")
PARTS = ("seat", "tier", "discount", "price")

MONEY = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
INTEGER = re.compile(r"-?\d+", re.ASCII)
MOST = 10**12
"""Amounts of money are below it, numbers of seats and the like up to it."""

MONTHS_AFTER_CANCELLATION = 13
EXACT = Context(prec=80)
"""More digits than any sum or product of amounts here can have."""


@dataclass(frozen=True)
class Number:
    """A JSON number. Two are equal when their values are: `digits` x 10**`exponent`, however `written`."""

    digits: str
    exponent: int
    written: str = field(compare=False)


@dataclass(frozen=True)
class Profile:
    """What an account is; the columns of `account_kpi` that come from it."""

    parent_account_id: str = ""
    country: str = ""
    geo: str = ""
    territory: str = ""
    segment: str = ""
    buyer_persona: str = ""
    acquisition_channel: str = ""
    acquisition_source: str = ""


@dataclass(frozen=True)
class State:
    """A subscription after an event. Money in the reporting currency; `list_mrr` 0 is absent.

    `cancelled_on` is the day of the cancellation if the event is one. `at_renewal` belongs to the event.
    """

    subscription_id: str
    deployment: str
    plan: str
    seats: int
    mrr: Decimal
    list_mrr: Decimal
    namespace_id: str
    license_sha256: str
    at_renewal: bool
    cancelled_on: dt.date | None


NO_STATE = State("", "", "", 0, Decimal("0.00"), Decimal("0.00"), "", "", False, None)
"""What a subscription is before its first event."""


@dataclass(frozen=True)
class Addon:
    addon: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class SeatSync:
    subscription_id: str
    billable_users: int | None
    max_users: int | None


@dataclass(frozen=True)
class Event:
    """An event that could be read, with its type's block."""

    event_id: str
    type: str
    occurred_at: dt.datetime
    sequence: int
    account_id: str
    channel: str
    profile: Profile | None = None
    state: State | None = None
    addon: Addon | None = None
    sync: SeatSync | None = None

    @property
    def day(self) -> dt.date:
        return self.occurred_at.date()

    @property
    def place(self) -> tuple[dt.datetime, int, str]:
        """Where it stands among the events of its account."""
        return self.occurred_at, self.sequence, self.event_id


@dataclass
class BillingExpected(Expected):
    """Every table and view of both halves, as lists of rows in the order of their keys.

    `outcomes` and `dead_letter` are of both topics. `account_kpi`, `seat_movement`, `addon_purchase` and
    `self_service_action` reach up to the as-of clock. The rest is for the views: `first_days` has the day of each
    account's first event, `profiles` those that had an `account_updated`.
    """

    reporting_currency: str
    account_kpi: list[Row]
    seat_movement: list[Row]
    addon_purchase: list[Row]
    self_service_action: list[Row]
    first_days: dict[str, dt.date]
    profiles: dict[str, Timeline[Profile]]
    links: Links

    # --- seats and money ---------------------------------------------------------------------------------------------

    @cached_property
    def kpi_seats(self) -> list[Row]:
        return [
            named(("as_of", "dimension", "value"), key) | {"seats": sum(row["seats"] for row in rows)}
            for key, rows in sorted(self._by_value.items())
        ]

    @cached_property
    def kpi_mrr(self) -> list[Row]:
        result = []
        for key, rows in sorted(self._by_value.items()):
            mrr = total(row["mrr"] for row in rows)
            result.append(named(("as_of", "dimension", "value"), key) | {"mrr": mrr, "arr": 12 * mrr})
        return result

    @cached_property
    def kpi_seats_added(self) -> list[Row]:
        keys = ("as_of", "dimension", "value")
        seats = {tuple(row[key] for key in keys): row["seats"] for row in self.kpi_seats}
        later = {(as_of + WINDOW_DAYS * DAY, *value) for as_of, *value in seats}
        result = []
        for as_of, dimension, value in seats.keys() | {key for key in later if key[0] <= self.as_of}:
            added = sum(row["seats_added_28d"] for row in self._by_value.get((as_of, dimension, value), ()))
            at_start = seats.get((as_of - WINDOW_DAYS * DAY, dimension, value), 0)
            figures = {"seats_added_28d": added, "seats_at_start": at_start, "added_share": ratio(added, at_start)}
            result.append(named(keys, (as_of, dimension, value)) | figures)

        growth = [movement for movement in self.seat_movement if movement["kind"] == "growth"]
        by_channel: Counter[tuple[dt.date, str]] = Counter()
        for as_of, _, movement in self._in_windows(growth):
            by_channel[as_of, movement["channel"]] += movement["seats_to"] - movement["seats_from"]
        for (as_of, channel), added in by_channel.items():
            figures = {"seats_added_28d": added, "seats_at_start": None, "added_share": None}
            result.append(named(keys, (as_of, "channel", channel)) | figures)
        return in_order(result, *keys)

    @cached_property
    def kpi_net_retention(self) -> list[Row]:
        """Customers with MRR 12 months ago, then and now."""
        result = []
        for as_of in self._days_since(row["as_of"] for row in self.account_kpi):
            rows = self._by_day.get(as_of, [])
            for level in ("account", "parent", "subscription"):
                base: dict[Any, Decimal] = defaultdict(Decimal)
                current: dict[Any, Decimal] = defaultdict(Decimal)
                for row in rows:
                    customer = customer_of(row, level)
                    base[customer] += row["mrr_12m_ago"]
                    current[customer] += row["mrr"]
                cohort = [customer for customer in base if base[customer] > 0]
                base_mrr = total(base[customer] for customer in cohort)
                current_mrr = total(current[customer] for customer in cohort)
                gross_mrr = total(min(base[customer], current[customer]) for customer in cohort)
                result.append(
                    {
                        "as_of": as_of,
                        "level": level,
                        "base_mrr": base_mrr,
                        "current_mrr": current_mrr,
                        "gross_mrr": gross_mrr,
                        "net_retention": money_ratio(current_mrr, base_mrr),
                        "gross_retention": money_ratio(gross_mrr, base_mrr),
                        "customers": len(cohort),
                        "churned_customers": sum(current[customer] == 0 for customer in cohort),
                    }
                )
        return result

    @cached_property
    def kpi_tier_movement(self) -> list[Row]:
        moved: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for as_of, segment, movement in self._in_windows(self.seat_movement):
            plans = movement["plan_from"], movement["plan_to"]
            before, after = RANKS[plans[0]], RANKS[plans[1]]
            if before > 0 and after > 0 and before != after and movement["kind"] not in ("new", "churn"):
                direction = "upgrade" if after > before else "downgrade"
                moved[as_of, segment, *plans, direction].append(movement)
        return [
            named(("as_of", "segment", "plan_from", "plan_to", "direction"), key)
            | {
                "subscriptions": len(movements),
                "seats": sum(movement["seats_to"] for movement in movements),
                "mrr_change": total(movement["mrr_to"] - movement["mrr_from"] for movement in movements),
            }
            for key, movements in sorted(moved.items())
        ]

    @cached_property
    def kpi_mrr_movement(self) -> list[Row]:
        changes: dict[tuple[Any, ...], list[Decimal]] = defaultdict(list)
        for as_of, segment, movement in self._in_windows(self.seat_movement):
            if movement["kind"] in ("new", "churn"):
                changes[as_of, segment, movement["kind"]].append(movement["mrr_to"] - movement["mrr_from"])
            else:
                for part in PARTS:
                    changes[as_of, segment, part].append(movement[f"{part}_mrr"])
        return [
            named(("as_of", "segment", "kind"), key) | {"mrr_change": total(amounts)}
            for key, amounts in sorted(changes.items())
        ]

    @cached_property
    def kpi_addons(self) -> list[Row]:
        bought: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for as_of, _, purchase in self._in_windows(self.addon_purchase):
            bought[as_of, purchase["addon"], purchase["channel"]].append(purchase)
        return [
            named(("as_of", "addon", "channel"), key)
            | {
                "purchases": len(purchases),
                "quantity": sum(purchase["quantity"] for purchase in purchases),
                "amount": total(purchase["amount"] for purchase in purchases),
            }
            for key, purchases in sorted(bought.items())
        ]

    # --- self-service ------------------------------------------------------------------------------------------------

    @cached_property
    def kpi_self_service(self) -> list[Row]:
        done_on: dict[tuple[str, str], dt.date] = {}
        for action in self.self_service_action:
            if action["channel"] == "self_service":
                key, day = (action["account_id"], action["motion"]), action["occurred_at"].date()
                done_on[key] = min(day, done_on.get(key, day))
        result = []
        for account_id, first_day in self.first_days.items():
            for as_of in days_between(first_day, self.as_of, 0, self.as_of):
                ticks = {motion: int(done_on.get((account_id, motion), dt.date.max) <= as_of) for motion in MOTIONS}
                result.append({"as_of": as_of, "account_id": account_id} | ticks | done_of(ticks, 1))
        return in_order(result, "as_of", "account_id")

    @cached_property
    def kpi_self_service_total(self) -> list[Row]:
        result = []
        for (as_of,), rows in grouped(self.kpi_self_service, "as_of"):
            ticks = {motion: sum(row[motion] for row in rows) for motion in MOTIONS}
            figures = done_of(ticks, len(rows)) | {"customers": len(rows)}
            del figures["done"]
            result.append({"as_of": as_of} | ticks | figures)
        return result

    # --- usage beside what was bought --------------------------------------------------------------------------------

    @cached_property
    def kpi_account_usage(self) -> list[Row]:
        return self.account_usage(self.links.account_of)

    @cached_property
    def kpi_seat_utilization(self) -> list[Row]:
        result = []
        for row in self.account_kpi:
            places = self._used_by.get((row["as_of"], row["account_id"], row["subscription_id"]), [])
            figures = [figure for place in places for figure in self.chosen_figures[row["as_of"]][place]]
            totals = [figure["mau"] for figure in figures if figure["level"] == "total"]
            mau = sum(totals) if totals else None
            billable, highest, seats = row["billable_users"], row["max_users"], row["seats"]
            result.append(
                {
                    "as_of": row["as_of"],
                    "account_id": row["account_id"],
                    "subscription_id": row["subscription_id"],
                    "plan": row["plan"],
                    "seats": seats,
                    "billable_users": billable,
                    "mau": mau,
                    "basis": basis_of(figures),
                    "utilization": None if billable is None else ratio(billable, seats),
                    "active_utilization": None if mau is None else ratio(mau, seats),
                    "seats_owed": None if highest is None else max(0, highest - seats),
                }
            )
        return result

    @cached_property
    def kpi_seats_by_stage(self) -> list[Row]:
        bought = {(row["as_of"], row["account_id"], row["subscription_id"]): row for row in self.account_kpi}
        used = []
        for key, places in self._used_by.items():
            if key in bought:
                bought_as = {"deployment": bought[key]["deployment"], "subscription": key}
                figures = [figure for place in places for figure in self.chosen_figures[key[0]][place]]
                used += [figure | bought_as for figure in figures if figure["level"] == "stage"]
        keys = ("as_of", "deployment", "stage")
        return [
            named(keys, of)
            | {
                "basis": basis_of(rows),
                "seats": sum(bought[key]["seats"] for key in {row["subscription"] for row in rows}),
                "active_users": sum(row["mau"] for row in rows),
            }
            for of, rows in grouped(used, *keys)
        ]

    # --- live --------------------------------------------------------------------------------------------------------

    @cached_property
    def gauges(self) -> dict[tuple[str, tuple[str, ...]], int | Decimal]:
        """The live KPIs of the as-of clock by name, without prefix, and values of labels. Absent plans are 0."""
        rows = self._by_day.get(self.as_of, [])
        found: dict[tuple[str, tuple[str, ...]], int | Decimal] = {}
        for (plan,), of_plan in grouped(rows, "plan"):
            found["seats", (plan,)] = sum(row["seats"] for row in of_plan)
            found["seats_added_28d", (plan,)] = sum(row["seats_added_28d"] for row in of_plan)
        found["mrr", (self.reporting_currency,)] = total(row["mrr"] for row in rows)
        found["mrr_12m_ago", ()] = total(row["mrr_12m_ago"] for row in rows)
        retained = [
            account
            for _, account in grouped(rows, "account_id")
            if total(row["mrr_12m_ago"] for row in account) > 0
        ]  # fmt: skip
        found["mrr_retained", ()] = total(row["mrr"] for account in retained for row in account)
        return found

    # --- the same rows, arranged -------------------------------------------------------------------------------------

    @cached_property
    def _by_day(self) -> dict[dt.date, list[Row]]:
        """The rows of `account_kpi` of each day."""
        return {as_of: rows for (as_of,), rows in grouped(self.account_kpi, "as_of")}

    @cached_property
    def _by_value(self) -> dict[tuple[dt.date, str, str], list[Row]]:
        """The rows of `account_kpi` by day, dimension and value."""
        rows: dict[tuple[dt.date, str, str], list[Row]] = defaultdict(list)
        for row in self.account_kpi:
            rows[row["as_of"], "total", ""].append(row)
            for dimension in DIMENSIONS:
                rows[row["as_of"], dimension, row[dimension]].append(row)
        return rows

    @cached_property
    def _used_by(self) -> dict[tuple[dt.date, str, str], list[Place]]:
        """By day, account and subscription the scopes with a figure that are linked to it."""
        places: dict[tuple[dt.date, str, str], list[Place]] = defaultdict(list)
        for as_of, chosen in self.chosen_figures.items():
            for place in chosen:
                subscription = self.links.subscription_of(place, as_of)
                if subscription is not None:
                    places[as_of, *subscription].append(place)
        return places

    def _days_since(self, days: Iterable[dt.date]) -> list[dt.date]:
        """Every day from the first of `days` to the clock."""
        first = min(days, default=None)
        return [] if first is None else days_between(first, self.as_of, 0, self.as_of)

    def _in_windows(self, rows: Iterable[Row]) -> Iterator[tuple[dt.date, str, Row]]:
        """Each row once for every day that has it in its 28 days, behind that day and the account's segment on it."""
        for row in rows:
            account = self.profiles.get(row["account_id"])
            for as_of in days_of_window_from(row["occurred_at"].date(), self.as_of):
                profile = (account.on(as_of) if account is not None else None) or Profile()
                yield as_of, profile.segment, row


@dataclass
class Links:
    """Which subscription a scope belongs to on a day.

    `claims`: by kind (`subscription`, `license`, `namespace`) and id the subscription whose event carried it last.
    `pings`: the newest ping of each scope.
    """

    claims: dict[tuple[str, str], Timeline[Subscription | None]]
    pings: dict[Place, Timeline[Row]]

    def __post_init__(self) -> None:
        self._known: dict[tuple[Place, dt.date], Subscription | None] = {}

    def subscription_of(self, place: Place, day: dt.date) -> Subscription | None:
        if (place, day) not in self._known:
            self._known[place, day] = self._find(place, day)
        return self._known[place, day]

    def account_of(self, place: Place, day: dt.date) -> str:
        """'' when it is nobody's."""
        subscription = self.subscription_of(place, day)
        return subscription[0] if subscription is not None else ""

    def _find(self, place: Place, day: dt.date) -> Subscription | None:
        population, scope_id = place
        if population == "group":
            return self._claimed("namespace", scope_id, day)
        ping = self.pings[place].on(day)
        if ping is None:
            return None
        return self._claimed("subscription", ping["license_subscription_id"], day) or self._claimed(
            "license", ping["license_sha256"], day
        )

    def _claimed(self, kind: str, name: str, day: dt.date) -> Subscription | None:
        claim = self.claims.get((kind, name))
        return claim.on(day) if claim is not None else None


def expect(records: Iterable[Record], rules: Rules) -> BillingExpected:
    """The tables and views that follow from `records` of `usage-pings` and `billing-events`.

    Records of one partition come in the order of their offsets; how partitions are interleaved decides only which of
    two messages of one identity is the first.

    Raises:
        ValueError: a record of another topic, a partition out of order, or a replayed letter of `usage-pings`.
    """
    records = list(records)
    billing = [record for record in records if record.topic == "billing-events"]
    used = usage.expect([record for record in records if record.topic != "billing-events"], rules)
    events, outcomes, letters = judge(billing, rules)

    accounts: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.place):
        if event.day <= rules.as_of:
            accounts[event.account_id].append(event)
    links = Links(claims_of(events), used.pings_of_scopes)

    kpi: list[Row] = []
    movements: list[Row] = []
    purchases: list[Row] = []
    actions: list[Row] = []
    for account_id, history in accounts.items():
        moved = movements_of(history)
        movements += moved
        purchases += purchases_of(history)
        actions += actions_of(history, moved)
        kpi += account_kpi_of(account_id, history, moved, rules.as_of)

    installations = installations_of(links, rules.as_of)
    for row in kpi:
        if "billable_users" not in row:
            pings = installations.get((row["as_of"], row["account_id"], row["subscription_id"]), [])
            row["billable_users"] = known_sum(ping["billable_users"] for ping in pings)
            row["max_users"] = known_sum(ping["historical_max_users"] for ping in pings)

    return BillingExpected(
        as_of=rules.as_of,
        outcomes=used.outcomes + outcomes,
        watermark=used.watermark,
        usage_kpi=used.usage_kpi,
        usage_ping=used.usage_ping,
        users_by=used.users_by,
        dead_letter=in_order([*used.dead_letter, *letters], "topic", "partition", "offset"),
        reporting_currency=rules.reporting_currency,
        account_kpi=in_order(kpi, "as_of", "account_id", "subscription_id"),
        seat_movement=in_order(movements, "account_id", "event_id"),
        addon_purchase=in_order(purchases, "account_id", "event_id"),
        self_service_action=in_order(actions, "account_id", "motion", "event_id"),
        first_days={account_id: history[0].day for account_id, history in accounts.items()},
        profiles={account_id: profiles_of(history) for account_id, history in accounts.items()},
        links=links,
    )


# --- judging ---------------------------------------------------------------------------------------------------------


def judge(records: Iterable[Record], rules: Rules) -> tuple[list[Event], Counter[tuple[str, str]], list[Row]]:
    """The events that are applied, how many messages had which outcome, and the dead letters."""
    events: list[Event] = []
    outcomes: Counter[tuple[str, str]] = Counter()
    letters: list[Row] = []
    known: dict[tuple[str, str], Row] = {}
    last_offset: dict[int, int] = {}
    for record in records:
        if record.offset <= last_offset.get(record.partition, -1):
            raise ValueError(f"billing-events: offset {record.offset} after {last_offset[record.partition]}")
        last_offset[record.partition] = record.offset
        try:
            document = usage.read_json(record.value, rules, parse_int=number, parse_float=number)
            event = read_event(document, rules.reporting_currency)
            identity = (event.account_id, event.event_id)
            if identity in known:
                if known[identity] != document:
                    raise Dead("conflict")
                outcomes[record.topic, "applied" if record.attempt else "duplicate"] += 1
                continue
            if event.occurred_at > instant_of(record.timestamp_ms) + dt.timedelta(hours=24):
                raise Dead("future")
        except Dead as dead:
            outcomes[record.topic, "dead"] += 1
            letters.append(
                {"topic": record.topic, "partition": record.partition, "offset": record.offset, "reason": str(dead)}
            )
        else:
            outcomes[record.topic, "applied"] += 1
            known[identity] = document
            events.append(event)
    return events, outcomes, letters


# --- reading ---------------------------------------------------------------------------------------------------------


def number(written: str) -> Number:
    """A JSON number, kept as it is written."""
    mantissa, _, power = written.lower().partition("e")
    whole, _, part = mantissa.lstrip("-").partition(".")
    digits = (whole + part).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return Number("0", 0, written)
    exponent = int(Decimal(power or "0")) - len(part) + len(digits) - len(significant)
    return Number(("-" if written.startswith("-") else "") + significant, exponent, written)


def read_event(document: Row, reporting_currency: str) -> Event:
    """What a billing event says.

    Raises:
        Dead: `unknown_type`, `invalid` or `unsupported_currency`.
    """
    kind = document.get("type")
    check(isinstance(kind, str))
    assert isinstance(kind, str)
    if kind not in BLOCKS:
        raise Dead("unknown_type")
    common: Row = {
        "event_id": words(document, "event_id", required=True),
        "type": kind,
        "occurred_at": moment(document.get("occurred_at")),
        "sequence": integer(document, "sequence", -(2**63), 2**63 - 1) or 0,
        "account_id": words(document, "account_id", required=True),
        "channel": one_of(document, "channel", CHANNELS),
    }
    name = BLOCKS[kind]
    if name == "":
        return Event(**common)
    block = document.get(name)
    check(isinstance(block, dict))
    assert isinstance(block, dict)
    if name == "account":
        return Event(**common, profile=read_profile(block))
    if name == "seat_sync":
        return Event(**common, sync=read_seat_sync(block))
    if name == "addon":
        return Event(**common, addon=read_addon(block, reporting_currency))
    state = read_state(block, reporting_currency, renewed=kind == "subscription_renewed")
    if kind == "subscription_cancelled":
        nothing = replace(state, seats=0, mrr=NO_STATE.mrr, list_mrr=NO_STATE.list_mrr)
        state = replace(nothing, cancelled_on=common["occurred_at"].date())
    return Event(**common, state=state)


def read_profile(block: Row) -> Profile:
    words(block, "name", longest=1024)
    country = words(block, "country")
    check(re.fullmatch("([A-Z]{2})?", country) is not None)
    return Profile(
        parent_account_id=words(block, "parent_account_id"),
        country=country,
        geo=one_of(block, "geo", GEOS),
        territory=words(block, "territory"),
        segment=one_of(block, "segment", SEGMENTS),
        buyer_persona=words(block, "buyer_persona"),
        acquisition_channel=one_of(block, "acquisition_channel", ACQUISITION_CHANNELS),
        acquisition_source=words(block, "acquisition_source"),
    )


def read_state(block: Row, reporting_currency: str, *, renewed: bool) -> State:
    """`renewed`: the event is a renewal whatever its block says."""
    seats = integer(block, "seats", 0, MOST)
    mrr, list_mrr = money(block, "mrr"), money(block, "list_mrr")
    check(seats is not None and mrr is not None and mrr >= 0 and (list_mrr is None or list_mrr >= 0))
    assert seats is not None and mrr is not None
    at_renewal = block.get("at_renewal")
    check(at_renewal is None or isinstance(at_renewal, bool))
    day_or_moment(words(block, "term_start"))
    day_or_moment(words(block, "term_end"))
    state = replace(
        NO_STATE,
        subscription_id=words(block, "subscription_id", required=True),
        deployment=one_of(block, "deployment", DEPLOYMENTS, required=True),
        plan=one_of(block, "plan", PLANS, required=True),
        seats=seats,
        namespace_id=words(block, "namespace_id"),
        license_sha256=words(block, "license_sha256"),
        at_renewal=renewed or at_renewal is True,
    )
    convert = converter(block, reporting_currency, currency_required=True)
    return replace(state, mrr=convert(mrr), list_mrr=convert(list_mrr or Fraction(0)))


def read_addon(block: Row, reporting_currency: str) -> Addon:
    quantity = integer(block, "quantity", -MOST, MOST)
    amount = money(block, "amount")
    name = words(block, "addon")
    convert = converter(block, reporting_currency, currency_required=False)
    return Addon(name, quantity or 0, convert(amount or Fraction(0)))


def read_seat_sync(block: Row) -> SeatSync:
    return SeatSync(
        subscription_id=words(block, "subscription_id"),
        billable_users=integer(block, "billable_users", 0, MOST),
        max_users=integer(block, "max_users", 0, MOST),
    )


def words(block: Row, name: str, longest: int = 256, *, required: bool = False) -> str:
    """A string, '' when it is missing."""
    value = block.get(name)
    if value is None:
        value = ""
    check(isinstance(value, str) and len(value) <= longest)
    assert isinstance(value, str)
    check(not has_lone_surrogate(value))
    check(value != "" or not required)
    return value


def one_of(block: Row, name: str, values: Collection[str], *, required: bool = False) -> str:
    value = words(block, name, required=required)
    check(value == "" or value in values)
    return value


def integer(block: Row, name: str, least: int, most: int) -> int | None:
    """A number written as an integer, None when it is missing."""
    value = block.get(name)
    if value is None:
        return None
    check(isinstance(value, Number) and INTEGER.fullmatch(value.written) is not None)
    assert isinstance(value, Number)
    exact = Decimal(value.written)
    check(least <= exact <= most)
    return int(exact)


def decimal(written: str) -> Fraction:
    check(len(written) <= 64 and MONEY.fullmatch(written) is not None)
    return Fraction(Decimal(written))


def money(block: Row, name: str) -> Fraction | None:
    """An amount as it is sent, None when it is missing."""
    written = words(block, name)
    if written == "":
        return None
    amount = decimal(written)
    check(abs(amount) < MOST)
    return amount


def converter(block: Row, reporting_currency: str, *, currency_required: bool) -> Callable[[Fraction], Decimal]:
    """How the amounts of a block become amounts in the reporting currency.

    Raises:
        Dead: `unsupported_currency` for a foreign currency without a rate, so this comes after all else is read.
    """
    currency = words(block, "currency", required=currency_required) or reporting_currency
    check(re.fullmatch("[A-Z]{3}", currency) is not None)
    rate = exchange_rate(block)
    if rate is None and currency != reporting_currency:
        raise Dead("unsupported_currency")

    def convert(amount: Fraction) -> Decimal:
        here = amount if rate is None else amount * rate
        check(abs(here) < MOST)
        return half_even(here)

    return convert


def exchange_rate(block: Row) -> Fraction | None:
    """How much one unit is in the reporting currency, None when it is missing."""
    value = block.get("fx_rate")
    if isinstance(value, Number):
        digits_before_point = len(value.digits) + value.exponent
        check(value.digits != "0" and not value.digits.startswith("-") and digits_before_point <= 9)
        # A rate below 10**-100 leaves no cent of any amount; as a fraction it could fill the memory.
        return Fraction(Decimal(value.written)) if digits_before_point > -100 else Fraction(0)
    written = words(block, "fx_rate")
    if written == "":
        return None
    rate = decimal(written)
    check(0 < rate < 10**9)
    return rate


def day_or_moment(value: str) -> None:
    """A day, a moment, or ''; moments are not held to the years of `occurred_at`."""
    if value != "":
        calendar_day(value[:10])
    if len(value) > 10:
        moment(f"2000-01-01{value[10:]}")


# --- amounts and dates -----------------------------------------------------------------------------------------------


def half_even(amount: Fraction) -> Decimal:
    """To the cent; a half goes to the even one."""
    return Decimal(round(amount * 100)).scaleb(-2, EXACT)


def total(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(EXACT):
        return sum(amounts, Decimal("0.00"))


def money_ratio(part: Decimal, whole: Decimal) -> float | None:
    return float(Fraction(part) / Fraction(whole)) if whole else None


def known_sum(numbers: Iterable[int | None]) -> int | None:
    """The sum of those that are known, None when none is."""
    known = [value for value in numbers if value is not None]
    return sum(known) if known else None


@cache
def months_later(day: dt.date, months: int) -> dt.date:
    """The same date so many months later (earlier when negative), or the last of a month that has no such date."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return dt.date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


# --- one account -----------------------------------------------------------------------------------------------------


def movements_of(history: list[Event]) -> list[Row]:
    """The rows of `seat_movement` of an account, in the order of its events."""
    states: dict[str, State] = {}
    rows = []
    for event in history:
        if event.state is not None:
            before = states.get(event.state.subscription_id, NO_STATE)
            states[event.state.subscription_id] = event.state
            rows.append(movement(event, before, event.state))
    return rows


def movement(event: Event, before: State, after: State) -> Row:
    return {
        "account_id": event.account_id,
        "event_id": event.event_id,
        "occurred_at": event.occurred_at,
        "subscription_id": after.subscription_id,
        "kind": kind_of(before, after),
        "channel": event.channel,
        "plan_from": before.plan,
        "plan_to": after.plan,
        "seats_from": before.seats,
        "seats_to": after.seats,
        "mrr_from": before.mrr,
        "mrr_to": after.mrr,
    } | parts_of(before, after)


def kind_of(before: State, after: State) -> str:
    if after.seats == before.seats:
        return "none"
    if before.seats == 0:
        return "new"
    if after.seats == 0:
        return "churn"
    if after.seats < before.seats:
        return "contraction"
    return "renewal_growth" if after.at_renewal else "growth"


def parts_of(before: State, after: State) -> dict[str, Decimal]:
    """The four parts of a change of MRR."""
    mrr_from, mrr_to = Fraction(before.mrr), Fraction(after.mrr)
    change = mrr_to - mrr_from
    seat = tier = discount = price = Fraction(0)
    if before.seats == 0 or after.seats == 0:
        seat = change
    else:
        seat = to_the_cent((after.seats - before.seats) * mrr_from / before.seats)
        if RANKS[before.plan] != RANKS[after.plan]:
            tier = change - seat
        else:
            if before.list_mrr and after.list_mrr:
                discount = to_the_cent(mrr_to - Fraction(after.list_mrr) * mrr_from / Fraction(before.list_mrr))
            price = change - seat - discount
    parts = {"seat_mrr": seat, "tier_mrr": tier, "discount_mrr": discount, "price_mrr": price}
    return {name: half_even(part) for name, part in parts.items()}


def to_the_cent(amount: Fraction) -> Fraction:
    return Fraction(half_even(amount))


def purchases_of(history: list[Event]) -> list[Row]:
    """The rows of `addon_purchase` of an account."""
    return [
        {
            "account_id": event.account_id,
            "event_id": event.event_id,
            "occurred_at": event.occurred_at,
            "channel": event.channel,
            "addon": event.addon.addon,
            "quantity": event.addon.quantity,
            "amount": event.addon.amount,
        }
        for event in history
        if event.addon is not None
    ]


def actions_of(history: list[Event], movements: list[Row]) -> list[Row]:
    """The rows of `self_service_action` of an account."""
    moved = {row["event_id"]: row for row in movements}
    return [
        {
            "account_id": event.account_id,
            "motion": motion,
            "event_id": event.event_id,
            "occurred_at": event.occurred_at,
            "channel": event.channel,
        }
        for event in history
        for motion in motions_of(event, moved.get(event.event_id))
    ]


def motions_of(event: Event, moved: Row | None) -> set[str]:
    """What an event is that a customer may do alone; `moved` is its movement, if it has one."""
    motions = set()
    by_type = {
        "trial_started": "trial",
        "subscription_created": "purchase",
        "addon_purchased": "growth",
        "subscription_renewed": "renew",
        "outreach_requested": "outreach",
    }
    if event.type in by_type:
        motions.add(by_type[event.type])
    if moved is not None and moved["kind"] == "growth":
        motions.add("growth")
    changed = moved if event.type == "plan_changed" else None
    if changed is not None and changed["plan_from"] != "" and RANKS[changed["plan_to"]] > RANKS[changed["plan_from"]]:
        motions.add("upgrade")
    return motions


def profiles_of(history: list[Event]) -> Timeline[Profile]:
    return Timeline((event.day, event.profile) for event in history if event.profile is not None)


def account_kpi_of(account_id: str, history: list[Event], movements: list[Row], as_of: dt.date) -> Iterator[Row]:
    """The rows of `account_kpi` of an account, without `billable_users` and `max_users` where no sync tells them."""
    profiles = profiles_of(history)
    added: Counter[tuple[str, dt.date]] = Counter()
    removed: Counter[tuple[str, dt.date]] = Counter()
    for row in movements:
        seats = row["seats_to"] - row["seats_from"]
        for day in days_of_window_from(row["occurred_at"].date(), as_of):
            if row["kind"] == "growth":
                added[row["subscription_id"], day] += seats
            elif row["kind"] in ("contraction", "churn"):
                removed[row["subscription_id"], day] -= seats

    for subscription_id in {row["subscription_id"] for row in movements}:
        states = Timeline(
            (event.day, event.state)
            for event in history
            if event.state is not None and event.state.subscription_id == subscription_id
        )
        syncs = Timeline(
            (event.day, event.sync)
            for event in history
            if event.sync is not None and event.sync.subscription_id == subscription_id
        )
        for day in days_between(states.first_day, as_of, 0, as_of):
            state = states.on(day)
            assert state is not None
            if state.cancelled_on is not None and day > months_later(state.cancelled_on, MONTHS_AFTER_CANCELLATION):
                continue
            a_year_ago = states.on(months_later(day, -12)) or NO_STATE
            sync = syncs.on(day)
            row = {
                "as_of": day,
                "account_id": account_id,
                "subscription_id": subscription_id,
                **vars(profiles.on(day) or Profile()),
                "deployment": state.deployment,
                "plan": state.plan,
                "seats": state.seats,
                "seats_added_28d": added[subscription_id, day],
                "seats_removed_28d": removed[subscription_id, day],
                "mrr": state.mrr,
                "mrr_12m_ago": a_year_ago.mrr,
            }
            if sync is not None:
                row |= {"billable_users": sync.billable_users, "max_users": sync.max_users}
            yield row


def customer_of(row: Row, level: str) -> tuple[str, ...]:
    """Whose MRR a row of `account_kpi` is at a level of `kpi_net_retention`."""
    if level == "subscription":
        return row["account_id"], row["subscription_id"]
    if level == "account":
        return (row["account_id"],)
    return (row["parent_account_id"] or row["account_id"],)


def done_of(ticks: dict[str, int], customers: int) -> Row:
    """How much of what could be done by self-service is done."""
    done, cells = sum(ticks.values()), len(MOTIONS) * customers
    return {"done": done, "utilization": done / cells, "utilization_pct": 100 * done // cells}


# --- accounts and their usage ----------------------------------------------------------------------------------------


def claims_of(events: Iterable[Event]) -> dict[tuple[str, str], Timeline[Subscription | None]]:
    """By kind and id, whose it is: the claim that came last decides, unless its subscription has left the namespace."""
    claims: dict[tuple[str, str], list[tuple[dt.datetime, bool, Subscription]]] = defaultdict(list)
    spaces: dict[Subscription, dict[dt.datetime, str]] = defaultdict(dict)
    claimed: dict[Subscription, set[str]] = defaultdict(set)
    for event in sorted(events, key=lambda event: (event.occurred_at, event.sequence, event.event_id)):
        if event.state is not None and event.type != "subscription_cancelled":
            subscription = (event.account_id, event.state.subscription_id)
            ids = {
                "subscription": event.state.subscription_id,
                "license": event.state.license_sha256,
                "namespace": event.state.namespace_id,
            }
            for kind, name in ids.items():
                if name != "":
                    claims[kind, name].append((event.occurred_at, False, subscription))
            claimed[subscription] |= {event.state.namespace_id} - {""}
            if event.state.namespace_id != "" or event.state.deployment == "self_managed":
                spaces[subscription][event.occurred_at] = event.state.namespace_id
    for subscription, by_time in spaces.items():
        for at, name in by_time.items():
            for other in claimed[subscription] - {name}:
                claims["namespace", other].append((at, True, subscription))
    return {key: Timeline(_owners(of_id)) for key, of_id in claims.items()}


def _owners(claims: Iterable[tuple[dt.datetime, bool, Subscription]]) -> Iterator[tuple[dt.date, Subscription | None]]:
    """Whose an id is from each day on; who leaves it leaves it to nobody, if it was the last to claim it."""
    last: Subscription | None = None
    for at, leaves, subscription in sorted(claims):
        if not leaves:
            last = subscription
        if subscription == last:
            yield at.date(), None if leaves else subscription


def installations_of(links: Links, as_of: dt.date) -> dict[tuple[dt.date, str, str], list[Row]]:
    """By day, account and subscription the newest ping of each installation linked to it, if not over 28 days old."""
    pings: dict[tuple[dt.date, str, str], list[Row]] = defaultdict(list)
    for place, newest in links.pings.items():
        if place[0] == "self_managed":
            for day in days_between(newest.first_day, as_of, 0, as_of):
                ping = newest.on(day)
                subscription = links.subscription_of(place, day)
                assert ping is not None
                if subscription is not None and ping["recorded_at"].date() > day - WINDOW_DAYS * DAY:
                    pings[day, *subscription].append(ping)
    return pings
