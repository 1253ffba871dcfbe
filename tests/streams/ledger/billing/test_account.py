"""An account from its events: golden movements, and that their order of arrival never matters."""

from __future__ import annotations

import random
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.billing import BillingEvent
from streams.ledger.billing.cells import Cells
from streams.ledger.billing.days import FOR_EVER
from streams.ledger.billing.history import half_even
from streams.ledger.billing.rows import rows_of
from tests.streams.ledger.billing import shape, slow
from tests.streams.ledger.billing.events import document, event, history_of, subscribed
from tests.streams.ledger.billing.test_days import day


class Account(NamedTuple):
    """What an account's rows hold."""

    movements: list[slow.Movement]
    actions: list[slow.Action]
    ticks: list[int]
    held: dict[str, list[slow.Held]]
    added: dict[str, list[tuple[int, int, int]]]


def read_account(events: Iterable[BillingEvent]) -> Account:
    block = rows_of(history_of([list(events)]), Cells(), 0, 1)
    ((_, row),) = shape.accounts(block)
    rows = {key[1]: groups for key, groups in shape.subscriptions(block)}
    return Account(
        [slow.Movement(*element) for element in row["movement"]],
        [slow.Action(*element) for element in row["action"]],
        [day for (day,) in row["tick"]],
        {name: [slow.Held(*element) for element in groups["state"]] for name, groups in rows.items()},
        {name: groups["added"] for name, groups in rows.items()},
    )


def account(*documents: dict[str, object]) -> Account:
    return read_account(map(event, documents))


def last_move(*documents: dict[str, object]) -> slow.Movement:
    return account(*documents).movements[-1]


CREATED = subscribed("subscription_created", "2025-01-10", 10, "1000.00", list_mrr="1250.00")


@pytest.mark.parametrize(
    ("type_", "seats", "more", "kind"),
    [
        ("quantity_changed", 12, {}, "growth"),
        ("quantity_changed", 12, {"at_renewal": True}, "renewal_growth"),
        ("subscription_renewed", 12, {}, "renewal_growth"),
        ("subscription_renewed", 8, {}, "contraction"),
        ("reconciliation_charged", 11, {}, "growth"),
        ("quantity_changed", 0, {}, "churn"),
        ("subscription_cancelled", 10, {}, "churn"),
        ("price_changed", 10, {}, "none"),
        ("license_issued", 10, {}, "none"),
    ],
)
def test_the_kind_of_a_movement(type_: str, seats: int, more: dict[str, object], kind: str) -> None:
    assert last_move(CREATED, subscribed(type_, "2025-02-10", seats, "900.00", **more)).kind == kind


def test_from_nothing_and_back_from_nothing_are_new() -> None:
    gone = subscribed("subscription_cancelled", "2025-03-01", 10, "1000.00")
    back = subscribed("quantity_changed", "2025-04-01", 4, "400.00")
    found = account(CREATED, gone, back)
    assert [move.kind for move in found.movements] == ["new", "churn", "new"]
    assert [(move.seats_to, move.mrr_to) for move in found.movements] == [(10, 100_000), (0, 0), (4, 40_000)]
    assert last_move(subscribed("subscription_created", "2025-01-01", 0, "0")).kind == "none"


@pytest.mark.parametrize(
    ("seats", "mrr", "plan", "list_mrr", "parts"),
    [
        # contract, 2.2: seats at the old price; the rest is the tier where the rank changed
        (12, "1200.00", "premium", None, (20_000, 0, 0, 0)),
        (12, "1500.00", "ultimate", "1500.00", (20_000, 30_000, 0, 0)),
        (8, "480.00", "starter", None, (-20_000, -32_000, 0, 0)),
        # silver is premium on GitLab.com: no change of rank
        (10, "1100.00", "silver", None, (0, 0, 0, 10_000)),
        # the discount falls from 20 % to 10 %: 1,125.00 - 1,250.00 x 0.8 = 125.00
        (10, "1125.00", "premium", "1250.00", (0, 0, 12_500, 0)),
        # list price up by a fifth, discount as it was: all of it is price
        (10, "1200.00", "premium", "1500.00", (0, 0, 0, 20_000)),
        # a list price on one side only tells nothing
        (10, "1125.00", "premium", None, (0, 0, 0, 12_500)),
        (10, "1125.00", "premium", "0.00", (0, 0, 0, 12_500)),
        # to nothing: all of it are seats
        (0, "0.00", "premium", "0.00", (-100_000, 0, 0, 0)),
    ],
)
def test_the_parts_of_a_change(seats: int, mrr: str, plan: str, list_mrr: str | None, parts: tuple[int, ...]) -> None:
    more = {} if list_mrr is None else {"list_mrr": list_mrr}
    move = last_move(CREATED, subscribed("quantity_changed", "2025-02-10", seats, mrr, plan=plan, **more))
    assert (move.seat_mrr, move.tier_mrr, move.discount_mrr, move.price_mrr) == parts
    assert sum(parts) == move.mrr_to - move.mrr_from


def test_a_late_renewal_changes_what_comes_behind_it() -> None:
    grown = subscribed("quantity_changed", "2025-06-01", 30, "3000.00")
    assert last_move(CREATED, grown).seats_from == 10
    renewed = subscribed("subscription_renewed", "2025-03-01", 25, "2500.00")
    late = account(CREATED, grown, renewed).movements
    assert [(m.seats_from, m.seats_to, m.kind) for m in late] == [
        (0, 10, "new"), (10, 25, "renewal_growth"), (25, 30, "growth"),
    ]  # fmt: skip


def test_the_state_of_a_day_is_that_at_its_end_and_a_cancelled_one_is_shown_for_13_months() -> None:
    found = account(
        subscribed("subscription_created", "2025-01-31T08:00:00Z", 5, "50"),
        subscribed("quantity_changed", "2025-01-31T09:00:00Z", 7, "70"),
        subscribed("subscription_cancelled", "2025-03-31T23:59:59.999999Z", 7, "70"),
    )
    assert [(held.day, held.last, held.seats, held.mrr) for held in found.held["S"]] == [
        (day("2025-01-31"), day("2025-03-30"), 7, 7_000),
        (day("2025-03-31"), day("2026-04-30"), 0, 0),
    ]
    assert found.added["S"] == [
        (day("2025-01-31"), 2, 0), (day("2025-02-28"), 0, 0), (day("2025-03-31"), 0, 7), (day("2025-04-28"), 0, 0),
    ]  # fmt: skip


def test_two_cancellations_count_from_the_second() -> None:
    again = subscribed("subscription_cancelled", "2025-05-05", 0, "0")
    held = account(CREATED, subscribed("subscription_cancelled", "2025-03-01", 0, "0"), again).held["S"]
    assert [(one.day, one.last) for one in held][-1] == (day("2025-05-05"), day("2026-06-05"))
    assert held[0].last == day("2025-02-28")


def test_self_service_and_the_motions() -> None:
    found = account(
        document("trial_started", "2025-01-01", channel="self_service"),
        subscribed("subscription_created", "2025-01-10", 10, "100", plan="free", channel="sales_assisted"),
        subscribed("quantity_changed", "2025-02-01", 20, "200", plan="free", channel="self_service"),
        subscribed("plan_changed", "2025-03-01", 25, "500", plan="premium", channel="self_service"),
        subscribed("plan_changed", "2025-04-01", 25, "300", plan="starter", channel="self_service"),
        document("addon_purchased", "2025-05-01", channel="partner", addon={"addon": "storage"}),
    )
    assert [(action.motion, action.channel) for action in found.actions] == [
        ("trial", "self_service"), ("purchase", "sales_assisted"), ("growth", "self_service"),
        ("growth", "self_service"), ("upgrade", "self_service"), ("growth", "partner"),
    ]  # fmt: skip
    assert found.ticks == [
        day("2025-01-01"), FOR_EVER, day("2025-02-01"), day("2025-03-01"), FOR_EVER, FOR_EVER,
    ]  # fmt: skip


def test_a_subscription_leaves_a_namespace_for_another_or_for_an_installation() -> None:
    def told(type_: str, on: str, deployment: str, namespace: str) -> BillingEvent:
        return event(subscribed(type_, on, 10, "100", deployment=deployment, namespace_id=namespace))

    events = [
        told("subscription_created", "2025-01-01", "gitlab_com", "9970"),
        told("price_changed", "2025-02-01", "gitlab_com", ""),  # keeps it
        told("subscription_cancelled", "2025-03-01", "gitlab_com", "1"),  # neither takes one nor leaves one
        told("subscription_renewed", "2025-04-01", "gitlab_com", "9971"),
        told("plan_changed", "2025-05-01", "self_managed", ""),
        told("plan_changed", "2025-06-01", "self_managed", ""),
    ]
    block = rows_of(history_of([list(events)]), Cells(), 0, 1)
    ((_, row),) = shape.accounts(block)
    found = {
        (kind, name): [at // 86_400_000_000 for at in times]
        for kind, name, _, times in row["link"]
        if kind != "subscription"
    }
    assert found == {
        ("namespace", "9970"): [day("2025-01-01")],
        ("namespace", "9971"): [day("2025-04-01")],
        ("namespace_left", "9970"): [day("2025-04-01")],
        ("namespace_left", "9971"): [day("2025-05-01")],
    }


def rounded(numerator: int, denominator: int, dtype: Any) -> int:
    return int(half_even(np.array([numerator], dtype), np.array([denominator], dtype))[0])


@given(st.integers(-(2**61), 2**61), st.integers(1, 2**60))
def test_half_even_is_pythons_rounding_of_the_fraction(numerator: int, denominator: int) -> None:
    expected = round(Fraction(numerator, denominator))
    assert rounded(numerator, denominator, np.int64) == rounded(numerator, denominator, object) == expected


def test_half_even_at_the_half() -> None:
    assert [rounded(n, 2, np.int64) for n in (-5, -3, -1, 1, 3, 5)] == [-2, -2, 0, 0, 2, 2]


def test_parts_of_more_than_64_bits() -> None:
    one = subscribed("subscription_created", "2025-01-10", 1, "999999999999.00", list_mrr="999999999999.99")
    move = last_move(one, subscribed("quantity_changed", "2025-02-10", 10**12, "1.00", list_mrr="0.03"))
    assert (move.seat_mrr, move.tier_mrr) == ((10**12 - 1) * 99_999_999_999_900, 0)
    assert move.discount_mrr == round(100 - Fraction(3 * 99_999_999_999_900, 99_999_999_999_999))
    assert sum(move[-4:]) == move.mrr_to - move.mrr_from


TYPES = ("subscription_created", "quantity_changed", "plan_changed", "subscription_renewed", "subscription_cancelled")


@st.composite
def histories(draw: st.DrawFn) -> list[BillingEvent]:
    """Events of one account on three days, so that times, sequences and subscriptions meet."""
    return [
        event(
            subscribed(
                draw(st.sampled_from(TYPES)),
                f"2025-01-0{draw(st.integers(1, 3))}T0{draw(st.integers(0, 1))}:00:00Z",
                draw(st.integers(0, 4)),
                draw(st.sampled_from(("0", "10.01", "33.33", "100"))),
                plan=draw(st.sampled_from(("free", "bronze", "premium", "ultimate"))),
                subscription_id=draw(st.sampled_from("ST")),
                list_mrr=draw(st.sampled_from(("", "50", "77.77"))),
                sequence=draw(st.integers(-1, 1)),
                event_id=f"e{number}",
            )
        )
        for number in range(draw(st.integers(1, 12)))
    ]


@given(histories(), st.randoms(use_true_random=False))
def test_any_order_is_the_same_account(events: list[BillingEvent], rng: random.Random) -> None:
    shuffled = list(events)
    rng.shuffle(shuffled)
    assert read_account(shuffled) == read_account(events)


@given(histories())
def test_the_parts_of_every_change_add_up(events: list[BillingEvent]) -> None:
    states: dict[str, tuple[int, int]] = {}
    for move in read_account(events).movements:
        assert states.get(move.subscription_id, (0, 0)) == (move.seats_from, move.mrr_from)
        parts = (move.seat_mrr, move.tier_mrr, move.discount_mrr, move.price_mrr)
        assert sum(parts) == move.mrr_to - move.mrr_from
        states[move.subscription_id] = move.seats_to, move.mrr_to
