"""One account: who it is, what it buys and how that changes, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from deploy.fleet.census import CHANNELS
from deploy.fleet.changes import CHANCES, CHANGES
from deploy.fleet.dice import Dice
from deploy.fleet.market import ADDONS, COUNTRIES, CURRENCIES, SIZES, Country, Rates, money
from deploy.fleet.ownership import Cover, account_id, subscription_id
from deploy.fleet.product import ROLES
from deploy.fleet.sender import DAY_MS, EPOCH_DAY, rfc3339
from deploy.fleet.spec import FleetSpec
from deploy.fleet.subscription import Document, Subscription, midnight

TURN_DAYS: Final = 30

RETURNS: Final = 0.08
"""How likely a cancelled subscription comes back in a turn."""

ACCOUNT_CHANCES: Final = {"addon": 0.1, "outreach": 0.04, "profile": 0.02, "buy": 0.012}
"""How likely these are in a turn for a customer."""

MOST_SUBSCRIPTIONS: Final = 4
TERMS: Final = {365: 0.75, 90: 0.15, 30: 0.1}
SEGMENTS: Final = ((2000, "Large"), (100, "Mid-Market"), (0, "SMB"))
SOURCES: Final = ("", "google", "linkedin", "conference", "referral", "about.gitlab.com")
LEGAL_FORMS: Final = ("Ltd", "GmbH", "Inc.", "K.K.", "& Söhne")
ZONES: Final = (None, None, None, 60, -300, 330)


class Event(NamedTuple):
    """A billing event. `moment` is Unix time in milliseconds; `account` the account's number."""

    moment: int
    account: int
    document: Document


class Account:
    """An account from its beginning on. Turns must be asked for in order; what has happened so far is kept, what was said
    of it is not.

    Args:
        number: from 0 on. Traits are dealt in turn, so that some fifty accounts show each.
        covers: what it buys first, for the installations and groups that it owns.
    """

    __slots__ = (
        "_agenda", "_begins", "_clock", "_country", "_currency", "_events", "_id", "_number", "_parent", "_persona",
        "_rates", "_segment", "_sequence", "_serial", "_source", "_spec", "_subscriptions", "_turn", "_wants", "_zone",
    )  # fmt: skip

    def __init__(self, spec: FleetSpec, number: int, covers: Sequence[Cover], rates: Rates) -> None:
        dice = Dice(spec.seed, "account", number)
        self._spec = spec
        self._number = number
        self._rates = rates
        self._wants = covers
        self._id = account_id(spec.seed, number)
        self._begins = _begin(spec, dice, number, bool(covers))
        self._country: Country = dice.weighted(COUNTRIES)
        self._currency = self._country.currency
        self._persona = dice.weighted(ROLES)
        self._source = dice.pick(SOURCES)
        self._zone = ZONES[number % len(ZONES)]
        self._parent = ""
        if number % 7 == 3:
            self._parent = account_id(spec.seed, number - 1)
        elif number % 7 == 5:
            self._parent = f"GROUP-{number // 20}"
        self._segment = ""
        self._subscriptions: list[Subscription] = []
        self._agenda: list[tuple[int, int, str, int]] = []
        self._serial = 0
        self._events = 0
        self._clock = (-1, 0)
        self._turn = 0

    @property
    def key(self) -> bytes:
        """The record key of the contract."""
        return self._id.encode()

    def turn(self, number: int, first: int, end: int) -> list[Event]:
        """What happens in a turn, on the days `first` to `end` - 1 (ordinals), in order."""
        if self._begins >= end:
            return []
        dice = Dice(self._spec.seed, "account", self._number, number)
        self._turn = number
        if not self._serial:
            self._plan_beginning(dice)
        self._plan_turn(dice, max(first, self._begins), end)
        said: list[Event] = []
        last = midnight(end)
        while self._agenda and self._agenda[0][0] < last:
            moment, _, what, which = heappop(self._agenda)
            said += [Event(moment, self._number, document) for document in self._happen(dice, moment, what, which)]
        return said

    # --- what will happen ---------------------------------------------------------------------------------------------

    def _plan(self, moment: int, what: str, which: int = -1) -> None:
        self._serial += 1
        heappush(self._agenda, (moment, self._serial, what, which))

    def _plan_beginning(self, dice: Dice) -> None:
        begin = midnight(self._begins) + dice.below(DAY_MS)
        self._plan(begin, "profile")
        tries = self._number % 5 < 3
        if tries:
            self._plan(begin + dice.between(1, DAY_MS), "trial")
        if self._number % 9 == 6 and not self._wants:
            return  # never a customer
        lag = dice.between(10, 40) if tries else dice.between(0, 3)
        for _ in self._wants or (None,):
            self._plan(begin + lag * DAY_MS + dice.between(1, DAY_MS), "buy")

    def _plan_turn(self, dice: Dice, first: int, end: int) -> None:
        begin, span = midnight(first), (end - first) * DAY_MS
        for which, subscription in enumerate(self._subscriptions):
            if not subscription.seats:
                if dice.chance(RETURNS):
                    self._plan(begin + dice.below(span), "return", which)
                continue
            for what, share in CHANCES.items():
                if dice.chance(share):
                    self._plan(begin + dice.below(span), what, which)
            if subscription.syncs and (self._turn + self._number) % 3 == 0:
                self._plan(begin + dice.below(span), "sync", which)
            if subscription.reconciles and (self._turn + self._number) % 3 == 0:
                self._plan(midnight(end - 1), "reconcile", which)
        if self._subscriptions:
            for what, share in ACCOUNT_CHANCES.items():
                if dice.chance(share):
                    self._plan(begin + dice.below(span), what)

    # --- what happens -------------------------------------------------------------------------------------------------

    def _happen(self, dice: Dice, moment: int, what: str, which: int) -> list[Document]:
        """What is said of a happening; nothing where it cannot happen any more."""
        if which < 0:
            return self._happen_to_account(dice, moment, what)
        subscription = self._subscriptions[which]
        if not subscription.seats and what != "return":
            return []
        match what:
            case "renew":
                return self._renew(dice, moment, which)
            case "return":
                return self._return(dice, moment, which)
            case "cancel":
                return [self._cancel(dice, moment, subscription)]
            case "sync":
                return [self._sync(dice, moment, subscription)]
            case "reconcile":
                return self._reconcile(dice, moment, subscription)
        kind = CHANGES[what](dice, subscription)
        if not kind:
            return []
        change = self._state(moment, kind, self._channel(dice), subscription)
        if subscription.rank and subscription.deployment == "self_managed" and what in ("upgrade", "downgrade", "move"):
            return [change, self._license(moment, subscription)]
        self._mind_segment(moment)
        return [change]

    def _happen_to_account(self, dice: Dice, moment: int, what: str) -> list[Document]:
        match what:
            case "buy":
                return self._buy(dice, moment)
            case "trial":
                return [self._event(moment, "trial_started", self._channel(dice))]
            case "outreach":
                return [self._event(moment, "outreach_requested", self._channel(dice))]
            case "addon":
                return [self._addon(dice, moment)]
            case _:
                return [self._profile(dice, moment)]

    def _buy(self, dice: Dice, moment: int) -> list[Document]:
        which = len(self._subscriptions)
        if which >= max(MOST_SUBSCRIPTIONS, len(self._wants)):
            return []
        name = subscription_id(self._spec.seed, self._number, which)
        if which < len(self._wants):
            deployment, rank, seats, namespace_id = self._wants[which]
            seats = max(1, seats * dice.between(80, 120) // 100)
        else:
            deployment = "gitlab_com" if dice.chance(0.45) else "self_managed"
            rank = dice.weighted({0: 0.05, 1: 0.2, 2: 0.5, 3: 0.25})
            seats = dice.between(*dice.weighted(SIZES))
            namespace_id = str(1_000_000 + dice.below(10**8)) if deployment == "gitlab_com" else ""
        subscription = Subscription(name, deployment, rank, seats, self._currency, namespace_id)
        subscription.discount = dice.weighted({0: 0.5, 5: 0.1, 10: 0.2, 20: 0.15, 35: 0.05})
        subscription.tells_list = dice.chance(0.7)
        subscription.term = dice.weighted(TERMS)
        subscription.syncs = deployment == "self_managed" and dice.chance(0.4)
        subscription.reconciles = dice.chance(0.3)
        self._subscriptions.append(subscription)
        self._begin_term(moment, which)
        said = [self._state(moment, "subscription_created", self._channel(dice), subscription)]
        if deployment == "self_managed" and rank:
            said.append(self._license(moment, subscription))
        self._mind_segment(moment)
        return said

    def _renew(self, dice: Dice, moment: int, which: int) -> list[Document]:
        """The end of a term: it goes on, or it does not. Growth then is the renewal's."""
        subscription = self._subscriptions[which]
        if _day(moment) < subscription.ends:
            return []  # that term was cancelled, and another one has begun since
        if dice.chance(0.12 * subscription.term / 365):
            return [self._cancel(dice, moment, subscription)]
        channel = "automatic" if dice.chance(0.5) else self._channel(dice)
        self._begin_term(moment, which)
        if dice.chance(0.04):
            subscription.change_currency(dice.pick(tuple(CURRENCIES)))
        if dice.chance(0.3):
            subscription.discount = max(0, subscription.discount + dice.pick((-10, -5, 5)))
        apart = dice.chance(0.15)  # the seats change in an event of their own, at the same moment
        said = []
        if apart:
            said.append(self._state(moment, "subscription_renewed", channel, subscription))
        seats = subscription.seats
        if dice.chance(0.35):
            subscription.seats += dice.between(1, 1 + seats // 3)
        elif dice.chance(0.1):
            subscription.seats -= dice.between(0, seats // 4)
        if not apart:
            said.append(self._state(moment, "subscription_renewed", channel, subscription))
        elif subscription.seats != seats:
            said.append(self._state(moment, "quantity_changed", channel, subscription, at_renewal=True))
        if subscription.deployment == "self_managed" and subscription.rank and subscription.term > 30:
            said.append(self._license(moment, subscription))
        self._mind_segment(moment)
        return said

    def _return(self, dice: Dice, moment: int, which: int) -> list[Document]:
        subscription = self._subscriptions[which]
        if subscription.seats:
            return []
        subscription.seats = dice.between(*dice.weighted(SIZES))
        self._begin_term(moment, which)
        kind = dice.pick(("subscription_renewed", "subscription_created"))
        return [self._state(moment, kind, self._channel(dice), subscription)]

    def _begin_term(self, moment: int, which: int) -> None:
        """A term from that day on. It ends at midnight, or with the bill somewhat later."""
        subscription = self._subscriptions[which]
        subscription.ends = _day(moment) + subscription.term
        overdue = (self._number + which) % 4 * 3 * DAY_MS + 40_000_000 if self._number % 3 == 1 else 0
        self._plan(midnight(subscription.ends) + overdue, "renew", which)

    def _cancel(self, dice: Dice, moment: int, subscription: Subscription) -> Document:
        # Some systems say what was cancelled, others what is left.
        seats = subscription.seats if self._number % 4 == 1 else 0
        subscription.seats = 0
        channel = "automatic" if dice.chance(0.3) else self._channel(dice)
        return self._state(moment, "subscription_cancelled", channel, subscription, seats=seats)

    def _sync(self, dice: Dice, moment: int, subscription: Subscription) -> Document:
        billable = max(1, subscription.seats * dice.between(60, 115) // 100)
        subscription.known_users = max(billable, subscription.known_users)
        return self._event(
            moment,
            "seats_synced",
            "automatic",
            seat_sync={
                "subscription_id": subscription.name,
                "billable_users": billable,
                "max_users": subscription.known_users,
            },
        )

    def _reconcile(self, dice: Dice, moment: int, subscription: Subscription) -> list[Document]:
        """Quarterly: seats rise to what was used."""
        height = subscription.known_users or subscription.seats * dice.between(85, 110) // 100
        if height <= subscription.seats:
            return []
        subscription.seats = height
        return [self._state(moment, "reconciliation_charged", "automatic", subscription)]

    def _license(self, moment: int, subscription: Subscription) -> Document:
        subscription.licence += 1
        return self._state(moment, "license_issued", "automatic", subscription)

    def _addon(self, dice: Dice, moment: int) -> Document:
        quantity = dice.between(1, 20)
        addon: Document = {"addon": dice.weighted(ADDONS), "quantity": quantity}
        addon["amount"] = money(quantity * 1000, self._currency)
        if rate := self._rates.of(self._currency, self._turn):
            addon |= {"currency": self._currency, "fx_rate": rate}
        elif self._number % 2:
            addon["currency"] = self._currency
        return self._event(moment, "addon_purchased", self._channel(dice), addon=addon)

    def _profile(self, dice: Dice, moment: int) -> Document:
        """The account as it is now. At times it has moved, somebody else buys, or it was bought itself."""
        if self._events and self._segment == self._segment_now():
            match dice.below(4):
                case 0:
                    self._country = dice.weighted(COUNTRIES)
                case 1:
                    self._persona = dice.weighted(ROLES)
                case 2:
                    self._parent = "" if self._parent else account_id(self._spec.seed, max(0, self._number - 2))
        self._segment = self._segment_now()
        profile: Document = {}
        if self._parent:
            profile["parent_account_id"] = self._parent
        profile["name"] = f"{self._id} {LEGAL_FORMS[self._number % len(LEGAL_FORMS)]}"
        if self._number % 12 != 7:
            profile |= {"country": self._country.code, "geo": self._country.geo, "territory": self._country.territory}
        profile["segment"] = self._segment
        if self._number % 10 != 9:
            profile["buyer_persona"] = self._persona
        if self._number % 6 != 5:
            profile["acquisition_channel"] = CHANNELS[self._number % 7 % 4]
        profile["acquisition_source"] = self._source
        return self._event(moment, "account_updated", "", account=profile)

    def _segment_now(self) -> str:
        if self._number % 13 == 7:
            return "PubSec"
        seats = sum(subscription.seats for subscription in self._subscriptions)
        return next(name for least, name in SEGMENTS if seats >= least)

    def _mind_segment(self, moment: int) -> None:
        """An account that has grown into another segment is told so days later."""
        if self._segment_now() != self._segment and not any(what == "profile" for _, _, what, _ in self._agenda):
            self._plan(moment + 3 * DAY_MS, "profile")

    def _channel(self, dice: Dice) -> str:
        if self._number % 11 == 8:
            return "partner"
        if self._number % 10 == 9:
            return ""
        return "self_service" if dice.chance(0.75 if self._segment == "SMB" else 0.35) else "sales_assisted"

    # --- what is said -------------------------------------------------------------------------------------------------

    def _state(
        self,
        moment: int,
        kind: str,
        channel: str,
        subscription: Subscription,
        *,
        at_renewal: bool = False,
        seats: int | None = None,
    ) -> Document:
        rate = self._rates.of(subscription.currency, self._turn)
        block = subscription.block(rate, at_renewal=at_renewal, seats=seats)
        return self._event(moment, kind, channel, subscription=block)

    def _event(self, moment: int, kind: str, channel: str, **block: Document) -> Document:
        """A document. Events of one moment are numbered in their order."""
        self._events += 1
        at, sequence = self._clock
        self._clock = moment, sequence + 1 if at == moment else 0
        document: dict[str, Any] = {
            "event_id": f"{self._id}-{self._events:05}",
            "type": kind,
            "occurred_at": rfc3339(moment, self._zone),
        }
        if self._clock[1]:
            document["sequence"] = self._clock[1]
        document["account_id"] = self._id
        if channel:
            document["channel"] = channel
        document.update(block)
        return document


def _begin(spec: FleetSpec, dice: Dice, number: int, uses: bool) -> int:
    """The day an account begins: most are there early, some of those with usage only after their usage."""
    first, span = spec.first_billing_day.toordinal(), spec.billing_days
    if uses and number % 9 == 2:
        return max(first, spec.last_day.toordinal() - spec.days * 2 // 3)
    share = dice.unit()
    return first + int(span * share * share * (0.5 if uses else 1.0))


def _day(moment: int) -> int:
    """Ordinal of the UTC day of a moment."""
    return moment // DAY_MS + EPOCH_DAY
