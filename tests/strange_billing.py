"""Billing events from a very small world, so that everything collides, for comparing the product with the oracle.

Six accounts, nine subscriptions, a few states, four times of day: events meet others at their instant, on their day, a
year later. What is wrong with a record, or odd about it, is dealt from decks of cards, so a few hundred records have some
of each kind. The accounts use the installations and groups of `tests.strange`, whose pings name them when they are made
with `own=LICENCES`.

Every record has one meaning, whatever the interleaving of the partitions: what contradicts an event comes behind it on
its partition. Sums of MRR stay below 2**53 cents; the parts of a change of MRR may have more digits than 64 bits.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeVar

from deploy.fleet.billing_noise import BREAKAGES
from deploy.fleet.dice import Dice
from streams.forwarder import partition_of
from tests.strange import (
    ABSENT,
    DAY_MS,
    EPOCH_DAY,
    MOMENTS_US,
    Deck,
    Document,
    Raw,
    StrangeRecord,
    marked,
    moment_text,
    with_raw,
    written,
)

T = TypeVar("T")

DAY_US: Final = DAY_MS * 1000
LATE_DAYS: Final = 120
CLOCK_DAYS: Final = 20
"""In the last days some things occur behind the as-of clock."""

PARENT: Final = "P"
LONELY: Final = "🦊 buys nothing"
LONG: Final = "x" * 256
ACCOUNTS: Final = (PARENT, "child", "Child", "é\"'\\", LONG, LONELY)
"""The last has no subscription. Of four partitions each is home to one of them, or more."""


class Bought(NamedTuple):
    """A subscription. `large` ones have other seats and amounts than the rest."""

    account: str
    name: str
    large: bool = False


SUBSCRIPTIONS: Final = (
    Bought(PARENT, "A-S1"),
    Bought("child", "A-S1"),
    Bought("child", "S 2"),
    Bought("Child", "S 2"),
    Bought("Child", "s.3"),
    Bought("é\"'\\", "é"),
    Bought("é\"'\\", "e\u0301"),
    Bought(LONG, "A-S1"),
    Bought(LONG, LONG, large=True),
)

NAMESPACES: Final = ("9970", "17", "é", "x" * 64, "nobody's", "", None, ABSENT, ABSENT, ABSENT)
SHA256S: Final = ("0" * 64, "f" * 32, "1" * 64, "é", "nobody's", "", None, ABSENT, ABSENT, ABSENT)

LICENCES: Final[dict[str, tuple[Any, ...]]] = {
    "license_subscription_id": ("A-S1", "S 2", "s.3", "é", "e\u0301", "not bought", "", None, 5, ABSENT, ABSENT),
    "license_sha256": ("0" * 64, "1" * 64, "é", "not issued", "", None, 5, ABSENT, ABSENT),
    "license_md5": ("f" * 32, "0" * 64, None, ABSENT, ABSENT),
}
"""What strange pings say of their licence, for `strange_records(own=LICENCES)`."""

TYPES: Final = (
    *["quantity_changed"] * 6, *["plan_changed"] * 5, *["price_changed"] * 6, *["subscription_renewed"] * 4,
    *["subscription_cancelled"] * 3, *["subscription_created"] * 3, "license_issued", "reconciliation_charged",
    *["account_updated"] * 5, *["seats_synced"] * 4, *["addon_purchased"] * 3, "trial_started", "outreach_requested",
)  # fmt: skip
BLOCKS: Final = {"account_updated": "account", "seats_synced": "seat_sync", "addon_purchased": "addon"}
NO_BLOCK: Final = ("trial_started", "outreach_requested")

CHANNELS: Final = ("self_service", "self_service", "sales_assisted", "automatic", "partner", "", None, ABSENT)
SEQUENCES: Final = (*[ABSENT] * 8, None, 0, 1, 1, 2, -1, 10, 2**63 - 1, -(2**63))
EVENT_IDS: Final = ("", "Z", "a", "é", "e\u0301", "\uffee", "🦊", "~" * 250)
"""What an event's number stands behind: another order by code points than by UTF-16, by length or by number."""

PLANS: Final = ("free", "bronze", "silver", "gold", "starter", "premium", "ultimate", "silver", "premium")
DEPLOYMENTS: Final = ("self_managed", "gitlab_com")
SEATS: Final = (0, 1, 1, 2, 2, 3, 4, 4, 5, 10, 100, 110)
MRR: Final = (
    "0", "0.00", "100", "100.00", "50", "125", "408.33", "650", "0.01", "0.03", "0.05", "0.50", "0.5000", "0.005", "0.015",
    "0.025", "+12.50", ".5", "7.", "1e2", "1.5E+1", "25e-1", "00012.340", "1e-999", "0e999", "-0.00", "0" * 59 + "19.00",
)  # fmt: skip
LIST_MRR: Final = (
    ABSENT, ABSENT, None, "", "0", "0.00", "0.004", "0.005001", "100", "200", "408.33", "0.01", "0.03", "650.00", "1e3",
)  # fmt: skip
LARGE_SEATS: Final = (0, 1, 3, 10**12, 10**12 - 1)
LARGE_MRR: Final = ("0.01", "999999999999.99", "333333333333.33", "1e11")
LARGE_LIST_MRR: Final = (ABSENT, "0.01", "0.03", "999999999999.99")
CURRENCIES: Final = ("USD", "USD", "USD", "USD", "EUR", "EUR", "JPY", "XTS")
RATES: Final = (
    "1.0842", "2", ".5", "3.", "1e-3", "+1.01", "1", 1, 2, Raw("1.0842"), Raw("1.10"), Raw("1e0"), Raw("1.01"), Raw("99e-2"),
    Raw("1.01" + "0" * 70 + "1"), "1.01" + "0" * 59 + "1",
)  # fmt: skip
OWN_RATES: Final = (*[ABSENT] * 6, None, "", "1", 1, Raw("1.0"), "2", Raw("0.5"))
"""Rates of the reporting currency: used as they are given."""

NUMBERS: Final = (ABSENT, None, 0, 1, 5, 100, 110, 10**12)
QUANTITIES: Final = (ABSENT, None, 0, 1, 1, 7, -1, 10**12, -(10**12))
AMOUNTS: Final = (ABSENT, None, "", "0", "12.50", "12.50", "-3.25", "+.5", "1e3", "-0.005", "0.015")
LARGE_AMOUNTS: Final = ("999999999999.99", "-999999999999.99")
ADDONS: Final = ("ci_minutes", "storage", "", "é", None, ABSENT)
TERMS: Final = (
    ABSENT,
    ABSENT,
    None,
    "",
    "2026-01-31",
    "2026-02-28T00:00:00Z",
    "0001-01-01",
    "9999-12-31t23:59:59+14:00",
)

PARENTS: Final = (PARENT, "G1", ABSENT, "child", PARENT)
"""Who owns an account: nobody, itself, an account that is owned too, a group that is no account."""

PROFILE: Final[dict[str, tuple[Any, ...]]] = {
    "name": ("Arden & Söhne", "n" * 1024, "", None, ABSENT),
    "country": ("US", "DE", "ZZ", "", None, ABSENT),
    "geo": ("AMER", "EMEA", "APAC", "JIHU", "", None, ABSENT),
    "territory": ("DACH", "dach", "é", "", None, ABSENT),
    "segment": ("SMB", "SMB", "Mid-Market", "Large", "PubSec", "", None, ABSENT),
    "buyer_persona": ("developer", "t" * 256, "", None, ABSENT),
    "acquisition_channel": ("paid", "earned", "social", "owned", "", None, ABSENT),
    "acquisition_source": ("google", "", None, ABSENT),
}

NOTES: Final[tuple[tuple[Any, Any], ...]] = (
    (ABSENT, None), (ABSENT, None), (None, ABSENT), (None, ""), (1, "1"), (1, True), ("1", 1), ([1], 1), ([1, 2], [2, 1]),
    (Raw("1.0"), Raw("1.00000000000000000000000000000001")), (Raw("100e-2"), 10), (0, False), (Raw("-0"), "-0"),
    (2**53 + 1, 2**53), (Raw("9007199254740993.0"), 2**53), (10**30, 10**30 + 1), (Raw("1e400"), Raw("2e400")),
    ({"a": [{"b": 0}]}, {"a": [{"b": 1}]}), ({"seats": -1}, {}), ("é", "e\u0301"), ("\U0001f98a\u2028", "\U0001f98a"),
)  # fmt: skip
"""What stands in a field that nobody reads, and another value that contradicts it: two messages are the same only when
all their JSON values are."""

LAGS: Final = (*["near"] * 10, *["days"] * 5, *["weeks"] * 4, "furthest")
CALENDAR: Final = (
    *["as it comes"] * 8, *["month's end"] * 2, "month's first", *["end of February"] * 2, *["a year after"] * 2,
    "27 days after", "28 days after", *["same day"] * 4, *["same instant"] * 2, "tomorrow",
)  # fmt: skip
RECEIVED: Final = (*["at once"] * 10, *["now"] * 8, "long after", "24 hours before", "24 hours before")
TOO_EARLY: Final = ("24 hours and 1 ms before", "24 hours and some microseconds before", "days before")

BROKEN: Final[dict[str, tuple[str, str, Document]]] = {
    "type_is_null": ("invalid", "trial_started", {"type": None}),
    "type_is_number": ("invalid", "trial_started", {"type": 5}),
    "type_is_empty": ("unknown_type", "trial_started", {"type": ""}),
    "type_in_capitals": ("unknown_type", "trial_started", {"type": "Trial_Started"}),
    "type_alone": ("unknown_type", "trial_started", {"event_id": ABSENT, "account_id": ABSENT, "occurred_at": ABSENT, "type": "x"}),
    "unknown_type_and_bad_block": ("unknown_type", "quantity_changed", {"type": "x", "subscription": {"seats": -1}}),
    "event_id_is_empty": ("invalid", "trial_started", {"event_id": ""}),
    "event_id_is_number": ("invalid", "trial_started", {"event_id": 5}),
    "event_id_is_long": ("invalid", "trial_started", {"event_id": "e" * 257}),
    "event_id_is_half": ("invalid", "trial_started", {"event_id": "\ud83e"}),
    "account_id_is_empty": ("invalid", "outreach_requested", {"account_id": ""}),
    "account_id_is_number": ("invalid", "outreach_requested", {"account_id": 5}),
    "account_id_is_null": ("invalid", "outreach_requested", {"account_id": None}),
    "account_id_is_long": ("invalid", "outreach_requested", {"account_id": "a" * 257}),
    "no_offset": ("invalid", "trial_started", {"occurred_at": "2026-01-01T00:00:00"}),
    "date_alone": ("invalid", "trial_started", {"occurred_at": "2026-01-01"}),
    "no_such_day": ("invalid", "trial_started", {"occurred_at": "2026-02-29T00:00:00Z"}),
    "second_60": ("invalid", "trial_started", {"occurred_at": "2025-12-31T23:59:60Z"}),
    "before_1970": ("invalid", "trial_started", {"occurred_at": "1970-01-01T00:59:59.999999+01:00"}),
    "year_10000": ("invalid", "trial_started", {"occurred_at": "9999-12-31T23:59:59-01:00"}),
    "occurred_at_is_number": ("invalid", "trial_started", {"occurred_at": 1_767_225_600}),
    "sequence_is_float": ("invalid", "trial_started", {"sequence": Raw("1.0")}),
    "sequence_has_exponent": ("invalid", "trial_started", {"sequence": Raw("1e0")}),
    "sequence_is_text": ("invalid", "trial_started", {"sequence": "1"}),
    "sequence_is_true": ("invalid", "trial_started", {"sequence": True}),
    "sequence_beyond_64_bits": ("invalid", "trial_started", {"sequence": 2**63}),
    "sequence_below_64_bits": ("invalid", "trial_started", {"sequence": -(2**63) - 1}),
    "another_channel": ("invalid", "trial_started", {"channel": "web"}),
    "channel_is_number": ("invalid", "trial_started", {"channel": 1}),
    "block_is_null": ("invalid", "quantity_changed", {"subscription": None}),
    "block_is_list": ("invalid", "quantity_changed", {"subscription": []}),
    "block_is_text": ("invalid", "account_updated", {"account": "child"}),
    "no_account": ("invalid", "account_updated", {"account": ABSENT}),
    "no_addon": ("invalid", "addon_purchased", {"addon": ABSENT}),
    "addon_is_its_name": ("invalid", "addon_purchased", {"addon": "storage"}),
    "no_seat_sync": ("invalid", "seats_synced", {"seat_sync": ABSENT}),
    "subscription_id_is_empty": ("invalid", "quantity_changed", {"subscription": {"subscription_id": ""}}),
    "subscription_id_is_number": ("invalid", "quantity_changed", {"subscription": {"subscription_id": 5}}),
    "subscription_id_is_long": ("invalid", "quantity_changed", {"subscription": {"subscription_id": "s" * 257}}),
    "no_subscription_id": ("invalid", "quantity_changed", {"subscription": {"subscription_id": ABSENT}}),
    "another_deployment": ("invalid", "quantity_changed", {"subscription": {"deployment": "dedicated"}}),
    "deployment_is_empty": ("invalid", "quantity_changed", {"subscription": {"deployment": ""}}),
    "plan_in_capitals": ("invalid", "quantity_changed", {"subscription": {"plan": "Gold"}}),
    "plan_is_null": ("invalid", "quantity_changed", {"subscription": {"plan": None}}),
    "seats_are_float": ("invalid", "quantity_changed", {"subscription": {"seats": Raw("10.0")}}),
    "seats_have_exponent": ("invalid", "quantity_changed", {"subscription": {"seats": Raw("1e1")}}),
    "seats_are_true": ("invalid", "quantity_changed", {"subscription": {"seats": True}}),
    "seats_are_null": ("invalid", "quantity_changed", {"subscription": {"seats": None}}),
    "seats_are_missing": ("invalid", "quantity_changed", {"subscription": {"seats": ABSENT}}),
    "too_many_seats": ("invalid", "quantity_changed", {"subscription": {"seats": 10**12 + 1}}),
    "seats_of_a_thousand_digits": ("invalid", "quantity_changed", {"subscription": {"seats": Raw("9" * 1000)}}),
    "mrr_is_integer": ("invalid", "price_changed", {"subscription": {"mrr": 100}}),
    "mrr_is_empty": ("invalid", "price_changed", {"subscription": {"mrr": ""}}),
    "mrr_is_null": ("invalid", "price_changed", {"subscription": {"mrr": None}}),
    "mrr_is_missing": ("invalid", "price_changed", {"subscription": {"mrr": ABSENT}}),
    "mrr_is_negative": ("invalid", "price_changed", {"subscription": {"mrr": "-0.001"}}),
    "mrr_has_a_comma": ("invalid", "price_changed", {"subscription": {"mrr": "1,000"}}),
    "mrr_has_an_underscore": ("invalid", "price_changed", {"subscription": {"mrr": "1_000"}}),
    "mrr_has_a_space": ("invalid", "price_changed", {"subscription": {"mrr": "12 "}}),
    "mrr_has_a_line_end": ("invalid", "price_changed", {"subscription": {"mrr": "12\n"}}),
    "mrr_in_other_digits": ("invalid", "price_changed", {"subscription": {"mrr": "١٢"}}),
    "mrr_is_a_point": ("invalid", "price_changed", {"subscription": {"mrr": "."}}),
    "mrr_is_an_exponent": ("invalid", "price_changed", {"subscription": {"mrr": "e5"}}),
    "mrr_exponent_is_long": ("invalid", "price_changed", {"subscription": {"mrr": "0e1000"}}),
    "mrr_is_long": ("invalid", "price_changed", {"subscription": {"mrr": "0" * 63 + "19"}}),
    "mrr_is_too_much": ("invalid", "price_changed", {"subscription": {"mrr": "1e12"}}),
    "mrr_is_hexadecimal": ("invalid", "price_changed", {"subscription": {"mrr": "0x10"}}),
    "converted_it_is_too_much": (
        "invalid", "price_changed", {"subscription": {"mrr": "500000000000", "currency": "EUR", "fx_rate": "2"}},
    ),
    "list_mrr_is_negative": ("invalid", "price_changed", {"subscription": {"list_mrr": "-1"}}),
    "list_mrr_is_number": ("invalid", "price_changed", {"subscription": {"list_mrr": 5}}),
    "list_mrr_is_nan": ("invalid", "price_changed", {"subscription": {"list_mrr": "nan"}}),
    "currency_is_a_name": ("invalid", "price_changed", {"subscription": {"currency": "EURO"}}),
    "currency_is_empty": ("invalid", "price_changed", {"subscription": {"currency": ""}}),
    "currency_is_missing": ("invalid", "price_changed", {"subscription": {"currency": ABSENT}}),
    "currency_in_other_letters": ("invalid", "price_changed", {"subscription": {"currency": "ÄÖÜ"}}),
    "rate_is_0": ("invalid", "price_changed", {"subscription": {"fx_rate": 0}}),
    "rate_is_negative": ("invalid", "price_changed", {"subscription": {"fx_rate": "-1.1"}}),
    "rate_is_0.0": ("invalid", "price_changed", {"subscription": {"fx_rate": Raw("0.0")}}),
    "rate_is_large": ("invalid", "price_changed", {"subscription": {"fx_rate": 10**9}}),
    "rate_is_infinite": ("invalid", "price_changed", {"subscription": {"fx_rate": "Infinity"}}),
    "rate_is_beyond_doubles": ("invalid", "price_changed", {"subscription": {"fx_rate": Raw("1e400")}}),
    "rate_is_true": ("invalid", "price_changed", {"subscription": {"fx_rate": True}}),
    "rate_is_list": ("invalid", "price_changed", {"subscription": {"fx_rate": []}}),
    "namespace_is_number": ("invalid", "license_issued", {"subscription": {"namespace_id": 9970}}),
    "license_is_long": ("invalid", "license_issued", {"subscription": {"license_sha256": "0" * 257}}),
    "license_is_half": ("invalid", "license_issued", {"subscription": {"license_sha256": "\udd8a"}}),
    "term_is_tomorrow": ("invalid", "subscription_renewed", {"subscription": {"term_start": "tomorrow"}}),
    "no_such_term": ("invalid", "subscription_renewed", {"subscription": {"term_end": "2026-02-30"}}),
    "term_without_offset": ("invalid", "subscription_renewed", {"subscription": {"term_end": "2026-02-28T00:00:00"}}),
    "at_renewal_is_text": ("invalid", "quantity_changed", {"subscription": {"at_renewal": "true"}}),
    "at_renewal_is_number": ("invalid", "quantity_changed", {"subscription": {"at_renewal": 1}}),
    "country_is_small": ("invalid", "account_updated", {"account": {"country": "de"}}),
    "country_is_long": ("invalid", "account_updated", {"account": {"country": "DEU"}}),
    "another_geo": ("invalid", "account_updated", {"account": {"geo": "EU"}}),
    "another_segment": ("invalid", "account_updated", {"account": {"segment": "Mid-market"}}),
    "another_acquisition_channel": ("invalid", "account_updated", {"account": {"acquisition_channel": "tv"}}),
    "name_is_long": ("invalid", "account_updated", {"account": {"name": "n" * 1025}}),
    "parent_is_number": ("invalid", "account_updated", {"account": {"parent_account_id": 5}}),
    "quantity_is_float": ("invalid", "addon_purchased", {"addon": {"quantity": Raw("1.5")}}),
    "quantity_is_large": ("invalid", "addon_purchased", {"addon": {"quantity": 10**12 + 1}}),
    "amount_is_number": ("invalid", "addon_purchased", {"addon": {"amount": 5}}),
    "amount_is_too_much": ("invalid", "addon_purchased", {"addon": {"amount": "-1e12"}}),
    "addon_currency_is_small": ("invalid", "addon_purchased", {"addon": {"currency": "eur", "fx_rate": "1"}}),
    "billable_users_are_negative": ("invalid", "seats_synced", {"seat_sync": {"billable_users": -1}}),
    "max_users_are_text": ("invalid", "seats_synced", {"seat_sync": {"max_users": "5"}}),
    "max_users_are_many": ("invalid", "seats_synced", {"seat_sync": {"max_users": 10**12 + 1}}),
    "synced_id_is_number": ("invalid", "seats_synced", {"seat_sync": {"subscription_id": 1}}),
    "rate_is_null": ("unsupported_currency", "price_changed", {"subscription": {"currency": "EUR", "fx_rate": None}}),
    "rate_is_empty": ("unsupported_currency", "price_changed", {"subscription": {"currency": "EUR", "fx_rate": ""}}),
    "addon_without_rate": ("unsupported_currency", "addon_purchased", {"addon": {"currency": "EUR"}}),
    "addon_of_nothing_without_rate": (
        "unsupported_currency", "addon_purchased", {"addon": {"currency": "EUR", "amount": ABSENT}},
    ),
}  # fmt: skip
"""What may be wrong with an event, beside `BREAKAGES`: the reason it dies of, the type of a good one and what is changed."""

GOOD_BLOCKS: Final[dict[str, Document]] = {
    "subscription": {
        "subscription_id": "A-S1", "deployment": "self_managed", "plan": "premium", "seats": 7, "mrr": "77.00",
        "currency": "USD",
    },
    "account": {"segment": "Large"},
    "addon": {"addon": "storage", "quantity": 7, "amount": "77.00"},
    "seat_sync": {"subscription_id": "A-S1", "billable_users": 7, "max_users": 77},
}  # fmt: skip
"""Blocks of events that `BROKEN` is made from."""


def strange_billing_records(
    seed: int, count: int, *, partitions: int = 4, days: int = 548, last_day: dt.date
) -> list[StrangeRecord]:
    """`count` records for `billing-events`, the same for the same arguments.

    What occurs goes from `days` before the end of `last_day` (UTC) to it, a few a day later, and comes up to 120 days after
    that. Record timestamps are those of the occurrence, of the arrival, and about a day before.
    """
    world = _World(seed, partitions, last_day.toordinal() - EPOCH_DAY - days + 1, days)
    return [world.next(index / count) for index in range(count)]


class _Sent(NamedTuple):
    """What was sent first under an identity, and applied. `alone`: nothing of that identity was sent before."""

    document: Document
    record: StrangeRecord
    occurred_us: int
    note: tuple[Any, Any]
    alone: bool = True


class _World:
    def __init__(self, seed: int, partitions: int, first_day: int, days: int) -> None:
        self._dice = dice = Dice(seed, "strange billing")
        self._partitions = partitions
        self._first_day = first_day
        self._last_day = first_day + days - 1
        self._now_us = 0
        self._serial = 0
        self._sent: list[_Sent] = []
        self._ahead: list[_Sent] = []
        self._states: dict[Bought, Document] = {}

        def deck(*cards: T) -> Deck[T]:
            return Deck(dice, cards)

        self._actions: Deck[Callable[[], StrangeRecord]] = deck(
            *[self._event] * 30,
            *[self._broken] * 8,
            *[self._again] * 3,
            self._again_elsewhere,
            self._again_too_early,
            *[self._other_content] * 5,
            self._too_early,
            self._in_time,
        )
        self._types = deck(*TYPES)
        self._accounts = deck(*ACCOUNTS)
        self._subscriptions = deck(*SUBSCRIPTIONS, SUBSCRIPTIONS[-1])
        self._lags = deck(*LAGS)
        self._calendar = deck(*CALENDAR)
        self._moments = deck(*MOMENTS_US)
        self._received = deck(*RECEIVED)
        self._earlier = deck(*TOO_EARLY)
        self._keys = deck(*["right"] * 9, "none", "empty", "other", "bytes", "misplaced")
        self._zones = deck("Z", "Z", "Z", "+00:00", "-00:00", "+05:30", "-08:00", "z", "+14:00")
        self._ids = deck(*EVENT_IDS)
        self._channels = deck(*CHANNELS)
        self._sequences = deck(*SEQUENCES)
        self._notes = deck(*NOTES)
        self._foreign_blocks: Deck[Any] = deck(*[ABSENT] * 6, None, 5, [], {"seats": -1, "mrr": 5})
        self._plans = deck(*PLANS)
        self._seats = deck(*SEATS)
        self._mrr = deck(*MRR)
        self._list_mrr = deck(*LIST_MRR)
        self._currencies = deck(*CURRENCIES)
        self._rates = deck(*RATES)
        self._own_rates = deck(*OWN_RATES)
        self._namespaces = deck(*NAMESPACES)
        self._licenses = deck(*SHA256S)
        self._at_renewal: Deck[Any] = deck(*[ABSENT] * 4, None, False, True, True)
        self._terms = deck(*TERMS)
        self._profiled = deck(*ACCOUNTS, PARENT, "child")
        self._parents = {account: deck(*PARENTS) for account in ACCOUNTS}
        self._profile = {name: deck(*cards) for name, cards in PROFILE.items()}
        self._numbers = deck(*NUMBERS)
        self._quantities = deck(*QUANTITIES)
        self._amounts = deck(*AMOUNTS)
        self._large_amounts = deck(*[False] * 5, True)
        self._addons = deck(*ADDONS)
        self._addon_currencies: Deck[Any] = deck(ABSENT, ABSENT, None, "", "USD", "EUR", "JPY")
        self._synced = deck(*["own"] * 6, "another's", "", None, ABSENT)
        self._reasons = deck(*["invalid"] * 8, "not_json", "too_deep", "unknown_type", "unsupported_currency")
        reasons = {name: reason for kinds in (BREAKAGES, BROKEN) for name, (reason, *_) in kinds.items()}
        self._breakages = {
            reason: deck(*[name for name, its in reasons.items() if its == reason]) for reason in set(reasons.values())
        }
        self._contradictions: Deck[Any] = deck(*NOTES, *["block"] * 4, "moment", "moment", "type", "type")

    def next(self, share: float) -> StrangeRecord:
        """The next record, at that share of the time."""
        self._now_us = int((self._first_day + share * (self._last_day - self._first_day + 1)) * DAY_US)
        return self._actions.deal()()

    # --- records ------------------------------------------------------------------------------------------------------

    def _event(self) -> StrangeRecord:
        """An event that is applied."""
        document, occurred_us, note = self._document()
        key, partition = self._place(document["account_id"])
        record = StrangeRecord(partition, key, written(document), self._arrival(occurred_us))
        self._sent.append(_Sent(document, record, occurred_us, note))
        return record

    def _broken(self) -> StrangeRecord:
        """A message that dies of what is wrong with it, and of nothing else."""
        name = self._breakages[self._reasons.deal()].deal()
        self._serial += 1
        occurred_us = self._now_us // DAY_US * DAY_US + self._moments.deal()
        account = self._accounts.deal()
        key, partition = self._place(account)
        document: Document = {
            "event_id": f"broken {self._serial}",
            "type": "subscription_created" if name in BREAKAGES else BROKEN[name][1],
            "occurred_at": moment_text(occurred_us, "Z"),
            "account_id": account,
        }
        block = block_of(document["type"])
        if block:
            document[block] = GOOD_BLOCKS[block]
        if name in BREAKAGES:
            document["subscription"] = {**GOOD_BLOCKS["subscription"], "mrr": "7000000.00", "fx_rate": "1"}
            value = BREAKAGES[name][1](document)
        else:
            value = with_raw(json.dumps(marked(changed_by(document, BROKEN[name][2]))))
        return StrangeRecord(partition, key, value, occurred_us // 1000)

    def _again(self) -> StrangeRecord:
        """An event once more, by the same way, in the same bytes or in others."""
        if not self._sent:
            return self._event()
        sent = self._dice.pick(self._sent)
        return sent.record._replace(value=self._rewritten(sent), timestamp_ms=self._not_before(sent))

    def _again_elsewhere(self) -> StrangeRecord:
        """An event once more, under another key on another partition: which is the first makes no difference."""
        alone = [sent for sent in self._sent if sent.alone]
        if not alone:
            return self._event()
        sent = self._dice.pick(alone)
        return StrangeRecord(
            self._dice.below(self._partitions),
            self._dice.pick((None, b"", b"elsewhere")),
            self._rewritten(sent),
            self._not_before(sent),
        )

    def _again_too_early(self) -> StrangeRecord:
        """An event once more with a timestamp that would make it one of the future, were it not known."""
        if not self._sent:
            return self._event()
        sent = self._dice.pick(self._sent)
        return sent.record._replace(timestamp_ms=max(0, sent.occurred_us // 1000 - self._dice.between(2, 40) * DAY_MS))

    def _other_content(self) -> StrangeRecord:
        """Another content under a known identity, behind the first one on its partition."""
        if not self._sent:
            return self._event()
        what = self._contradictions.deal()
        sent = self._dice.pick([sent for sent in self._sent if sent.note == what] or self._sent)
        other = self._contradicted(sent, what)
        return sent.record._replace(value=written(other), timestamp_ms=self._not_before(sent))

    def _contradicted(self, sent: _Sent, what: object) -> Document:
        """The document with another moment, type, block or note."""
        document = sent.document
        block = block_of(document["type"])
        if what == "moment":
            return document | {"occurred_at": moment_text(sent.occurred_us + self._dice.pick((-1, 1)) * DAY_US, "Z")}
        if what == "type":
            return document | {"type": "outreach_requested" if document["type"] == "trial_started" else "trial_started"}
        if what == "block" and block:
            return document | {block: document[block] | {"contradicted": True}}
        return changed_by(document, {"note": sent.note[1]})

    def _too_early(self) -> StrangeRecord:
        """An event of the future: more than 24 hours ahead of its timestamp."""
        document, occurred_us, note = self._document()
        key, partition = self._place(document["account_id"])
        before_us = occurred_us - DAY_US
        match self._earlier.deal():
            case "24 hours and 1 ms before":
                timestamp = before_us // 1000 - 1
                occurred_us -= occurred_us % 1000
                document["occurred_at"] = moment_text(occurred_us, "Z")
            case "24 hours and some microseconds before" if before_us % 1000:
                timestamp = before_us // 1000
            case _:
                timestamp = before_us // 1000 - self._dice.between(1, 30) * DAY_MS
        record = StrangeRecord(partition, key, written(document), timestamp)
        self._ahead.append(_Sent(document, record, occurred_us, note))
        return record

    def _in_time(self) -> StrangeRecord:
        """An event of the future once more, by the same way, now that it is none."""
        if not self._ahead or not self._is_open(self._ahead[-1].occurred_us // DAY_US):
            return self._too_early()
        sent = self._ahead.pop()
        record = sent.record._replace(timestamp_ms=-(-(sent.occurred_us - DAY_US) // 1000))
        self._sent.append(sent._replace(record=record, alone=False))
        return record

    # --- where and when -----------------------------------------------------------------------------------------------

    def _place(self, account: str) -> tuple[bytes | None, int]:
        """A key, and the partition that its producer took for it."""
        right = account.encode()
        match self._keys.deal():
            case "none":
                return None, self._dice.below(self._partitions)
            case "misplaced":  # a producer with another partitioner
                return right, self._dice.below(self._partitions)
            case "empty":
                key = b""
            case "bytes":
                key = b"\xff\x00key"
            case "other":
                key = self._dice.pick(ACCOUNTS).encode()
            case _:
                key = right
        return key, partition_of(key, self._partitions)

    def _occurrence(self, account: str) -> int:
        """When something occurs, in microseconds since 1970: up to 120 days before now, often where something else of the
        account is."""
        others = [sent.occurred_us for sent in self._sent if sent.document["account_id"] == account]
        match self._lags.deal():
            case "near":
                days = self._dice.between(0, 2)
            case "days":
                days = self._dice.between(0, 20)
            case "weeks":
                days = self._dice.between(20, LATE_DAYS)
            case _:
                days = LATE_DAYS
        today = self._now_us // DAY_US
        if self._last_day - today < CLOCK_DAYS and self._dice.chance(0.3):
            return (self._last_day + 1) * DAY_US + self._moments.deal()  # behind the as-of clock
        day = today - days
        date = _date(day)
        match self._calendar.deal():
            case "month's end":
                day -= date.day
            case "month's first":
                day -= date.day - 1
            case "end of February":
                day = dt.date(_date(today).year, 3, 1).toordinal() - EPOCH_DAY - self._dice.between(0, 2)
            case "a year after":
                day = self._after(others, _a_year_after, day)
            case "27 days after":
                day = self._after(others, lambda another: another + 27, day)
            case "28 days after":
                day = self._after(others, lambda another: another + 28, day)
            case "same day":
                day = self._after(others, lambda another: another, day)
            case "same instant":
                if recent := [occurred_us for occurred_us in others if self._is_open(occurred_us // DAY_US)]:
                    return self._dice.pick(recent)
            case "tomorrow":
                return (today + 1) * DAY_US + self._moments.deal()
        if not self._is_open(day):
            day = today - days
        return max(day, self._first_day) * DAY_US + self._moments.deal()

    def _is_open(self, day: int) -> bool:
        """Whether something that occurs then may come now."""
        return max(self._now_us // DAY_US - LATE_DAYS, self._first_day) <= day <= self._now_us // DAY_US

    def _after(self, others: Sequence[int], later: Callable[[int], int], otherwise: int) -> int:
        """A day that lies so much after the day of another occurrence, if there is such a one."""
        days = [day for occurred_us in others if self._is_open(day := later(occurred_us // DAY_US))]
        return self._dice.pick(days) if days else otherwise

    def _arrival(self, occurred_us: int) -> int:
        """A record timestamp for what is not of the future."""
        match self._received.deal():
            case "now":
                return max(self._now_us, occurred_us) // 1000
            case "long after":
                return occurred_us // 1000 + self._dice.between(1, 400) * DAY_MS
            case "24 hours before":
                return -(-(occurred_us - DAY_US) // 1000)
            case _:
                return occurred_us // 1000

    def _not_before(self, sent: _Sent) -> int:
        """A record timestamp for a repetition: the same, or now."""
        return self._dice.pick((sent.record.timestamp_ms, max(self._now_us, sent.occurred_us) // 1000))

    # --- contents -----------------------------------------------------------------------------------------------------

    def _document(self) -> tuple[Document, int, tuple[Any, Any]]:
        """A good event, when it occurs, and its note."""
        kind = self._types.deal()
        self._serial += 1
        note = self._notes.deal()
        block = block_of(kind)
        bought = self._subscriptions.deal()
        if block in ("subscription", "seat_sync"):
            account = bought.account
        else:
            account = self._profiled.deal() if block == "account" else self._accounts.deal()
        occurred_us = self._occurrence(account)
        document: Document = {
            "event_id": f"{self._ids.deal()}{self._serial}",
            "type": kind,
            "occurred_at": self._moment(occurred_us),
            "sequence": self._sequences.deal(),
            "account_id": account,
            "channel": self._channels.deal(),
            "note": note[0],
        }
        match block:
            case "subscription":
                document["subscription"] = self._state(bought, kind)
            case "account":
                document["account"] = {"parent_account_id": self._parents[account].deal()}
                document["account"] |= {name: deck.deal() for name, deck in self._profile.items()}
            case "addon":
                document["addon"] = self._addon()
            case "seat_sync":
                document["seat_sync"] = self._seat_sync(bought)
        for other in ("subscription", "account", "addon", "seat_sync"):
            if other != block:
                document[other] = self._foreign_blocks.deal()
        return changed_by(document, {block: {"note": self._notes.deal()[1]}} if block else {}), occurred_us, note

    def _moment(self, occurred_us: int) -> str:
        text = moment_text(occurred_us, self._zones.deal())
        match self._dice.below(6):
            case 0:
                return text.replace("T", " ").replace("t", " ")
            case 1:  # what is behind a microsecond is cut off
                return text.replace(".123456", ".1234569999").replace(".999999", ".999999999")
        return text

    def _state(self, bought: Bought, kind: str) -> Document:
        """The block of a subscription: what the type says is dealt anew, the rest is as it was sent last."""
        state = dict(self._states.get(bought, {}))
        everything = not state or kind in ("subscription_created", "subscription_renewed", "subscription_cancelled")
        if everything or kind == "plan_changed":
            state |= {"plan": self._plans.deal(), "deployment": self._dice.pick(DEPLOYMENTS)}
        if everything or kind in ("quantity_changed", "reconciliation_charged"):
            state["seats"] = self._dice.pick(LARGE_SEATS) if bought.large else self._seats.deal()
        if everything or kind in ("price_changed", "plan_changed") or self._dice.chance(0.5):
            state["mrr"] = self._dice.pick(LARGE_MRR) if bought.large else self._mrr.deal()
            state["list_mrr"] = self._dice.pick(LARGE_LIST_MRR) if bought.large else self._list_mrr.deal()
        if everything or kind == "price_changed":
            state["currency"] = "USD" if bought.large else self._currencies.deal()
            state["fx_rate"] = self._rates.deal() if state["currency"] != "USD" else self._own_rates.deal()
            if bought.large:  # a rate could make it too much
                state["fx_rate"] = ABSENT
        self._states[bought] = state
        return {
            "subscription_id": bought.name,
            **state,
            "namespace_id": self._namespaces.deal(),
            "license_sha256": self._licenses.deal(),
            "at_renewal": self._at_renewal.deal(),
            "term_start": self._terms.deal(),
            "term_end": self._terms.deal(),
        }

    def _addon(self) -> Document:
        currency = self._addon_currencies.deal()
        foreign = currency in ("EUR", "JPY")
        amount = self._amounts.deal()
        if self._large_amounts.deal() and not foreign:
            return {"addon": self._addons.deal(), "amount": self._dice.pick(LARGE_AMOUNTS), "currency": currency}
        return {
            "addon": self._addons.deal(),
            "quantity": self._quantities.deal(),
            "amount": amount,
            "currency": currency,
            "fx_rate": self._rates.deal() if foreign else self._own_rates.deal(),
        }

    def _seat_sync(self, bought: Bought) -> Document:
        name: Any = self._synced.deal()
        if name in ("own", "another's"):
            name = (bought if name == "own" else self._dice.pick(SUBSCRIPTIONS)).name
        return {"subscription_id": name, "billable_users": self._numbers.deal(), "max_users": self._numbers.deal()}

    def _rewritten(self, sent: _Sent) -> bytes:
        """The same JSON values, in the same bytes or in others."""
        if self._dice.chance(0.3):
            return sent.record.value
        value = with_raw(json.dumps(marked(_respelled(self._dice, sent.document)), ensure_ascii=True, indent=1))
        if self._dice.chance(0.3):  # of a name that stands twice the last one counts
            value = b'{"event_id":"another","type":5,' + value[1:]
        return value


def block_of(kind: str) -> str:
    """The block of an event's type, '' for none."""
    return "" if kind in NO_BLOCK else BLOCKS.get(kind, "subscription")


def changed_by(document: Document, changes: Document) -> Document:
    """The document with changes, in its blocks too, and without what is `ABSENT`."""
    changed: Document = {}
    for name, value in {**document, **changes}.items():
        if name in changes and isinstance(value, dict) and isinstance(document.get(name), dict):
            value = changed_by(document[name], value)
        elif isinstance(value, dict):
            value = {inner: inside for inner, inside in value.items() if inside is not ABSENT}
        if value is not ABSENT:
            changed[name] = value
    return changed


def _respelled(dice: Dice, node: Any) -> Any:
    """The same values: objects the other way round, numbers with a point or an exponent spelled in another way."""
    if isinstance(node, dict):
        return {name: _respelled(dice, inside) for name, inside in reversed(node.items())}
    if isinstance(node, list):
        return [_respelled(dice, inside) for inside in node]
    if isinstance(node, Raw):
        sign, digits, exponent = Decimal(node).as_tuple()
        assert isinstance(exponent, int)
        zeros = dice.below(3)
        return Raw(f"{'-' * sign}{''.join(map(str, digits))}{'0' * zeros}E{exponent - zeros}")
    return node


def _date(day: int) -> dt.date:
    return dt.date.fromordinal(EPOCH_DAY + day)


def _a_year_after(day: int) -> int:
    """The same date a year later, 28 February for the 29th."""
    date = _date(day)
    last = 28 if (date.month, date.day) == (2, 29) else date.day
    return date.replace(year=date.year + 1, day=last).toordinal() - EPOCH_DAY
