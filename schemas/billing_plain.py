"""The short way to read a billing event: what most senders write, at a fraction of the price.

It takes a message only where `schemas.billing` would take it too and read the same from it, and leaves all others to that:
whatever is wrong, rare or strange is judged there and nowhere else. Types, lengths and ranges are those of the models; what
they ask for by patterns is asked for here by functions that remember what they have seen, as days, currencies and prices come
again and again.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, NotRequired, get_type_hints

import msgspec
from msgspec import Raw, Struct
from typing_extensions import TypedDict

from schemas import billing_models as models
from schemas.billing import Addon, BillingEvent, Profile, SeatSync, State, cents_of
from schemas.crowd import refuse_crowd
from schemas.dead_letters import Unreadable
from schemas.ping import micros, refuse_encoding

REMEMBERED: Final = 1 << 15
"""So many values of a kind, none of them long: a few megabytes."""

LONGEST: Final = 48
"""Characters of a moment."""


class _Odd(Exception):
    """Not a message for the short way."""


def _with_raw_rate(block: Any) -> Any:
    """The block's model, its rate as it stands: a number keeps its digits."""
    fields = get_type_hints(block, include_extras=True) | {"fx_rate": NotRequired[Raw]}
    return TypedDict(block.__name__, fields)  # type: ignore[operator]


_KIND: Any = Literal[tuple(sorted(models.TYPES))]
_SUBSCRIPTION: Any = _with_raw_rate(models.Subscription)
_ADDON: Any = _with_raw_rate(models.AddonPurchase)


class _Message(Struct, gc=False):
    event_id: models.Id
    type: _KIND
    occurred_at: str
    account_id: models.Id
    sequence: models.Sequence | None = None
    channel: models.Channel | None = None
    subscription: _SUBSCRIPTION | None = None
    account: models.Account | None = None
    addon: _ADDON | None = None
    seat_sync: models.SeatSync | None = None


_decode: Final = msgspec.json.Decoder(_Message).decode


def read_plain(value: bytes, reporting_currency: str, digest: int) -> BillingEvent | None:
    """Reads a message that is not too large, JSON without escapes, not too deep, each name once in an object.

    Returns:
        None where it is for `schemas.billing.read_billing_event` to say what it is.
    """
    try:
        refuse_crowd(value)
        if not value.isascii():
            refuse_encoding(value)
        message = _decode(value)
        return _read(message, _instant(message.occurred_at), reporting_currency, digest)
    except (msgspec.MsgspecError, Unreadable, _Odd):
        return None


def _read(message: _Message, occurred_at: int, reporting_currency: str, digest: int) -> BillingEvent:
    profile = state = addon = sync = None
    block = models.BLOCKS.get(message.type)
    if block == "subscription":
        state = _state(_told(message.subscription), reporting_currency)
    elif block == "account":
        profile = _profile(_told(message.account))
    elif block == "addon":
        addon = _addon(_told(message.addon), reporting_currency)
    elif block == "seat_sync":
        told = _told(message.seat_sync)
        sync = SeatSync(told("subscription_id") or "", told("billable_users"), told("max_users"))
    return BillingEvent(
        message.event_id,
        message.type,
        occurred_at,
        message.sequence or 0,
        message.account_id,
        message.channel or "",
        digest,
        profile,
        state,
        addon,
        sync,
    )


def _told(block: Any) -> Callable[[str], Any]:
    """Looks a field of the block up; None is missing."""
    if block is None:
        raise _Odd
    told: Callable[[str], Any] = block.get
    return told


def _profile(told: Callable[[str], Any]) -> Profile:
    country = told("country") or ""
    if country and not _COUNTRY(country):
        raise _Odd
    return Profile(
        told("parent_account_id") or "",
        country,
        told("geo") or "",
        told("territory") or "",
        told("segment") or "",
        told("buyer_persona") or "",
        told("acquisition_channel") or "",
        told("acquisition_source") or "",
    )


def _state(told: Callable[[str], Any], reporting_currency: str) -> State:
    for term in (told("term_start"), told("term_end")):
        if term and (len(term) != len("2026-11-20") or _midnight(term) is None):
            raise _Odd
    currency, rate = told("currency"), told("fx_rate")
    rate = bytes(rate) if rate else None
    numeral, listed = told("mrr"), told("list_mrr")
    if "-" in numeral or (listed and "-" in listed):
        raise _Odd
    mrr = _cents(numeral, currency, rate, reporting_currency)
    list_mrr = _cents(listed, currency, rate, reporting_currency) if listed else 0
    return State(
        told("subscription_id"),
        told("deployment"),
        told("plan"),
        told("seats"),
        mrr,
        list_mrr,
        told("namespace_id") or "",
        told("license_sha256") or "",
        told("at_renewal") or False,
    )


def _addon(told: Callable[[str], Any], reporting_currency: str) -> Addon:
    rate = told("fx_rate")
    rate = bytes(rate) if rate else None
    amount = _cents(told("amount") or "0", told("currency") or reporting_currency, rate, reporting_currency)
    return Addon(told("addon") or "", told("quantity") or 0, amount)


# ---- what comes again and again ----------------------------------------------------------------------------------------


@lru_cache(REMEMBERED)
def _cents(numeral: str, currency: str, rate: bytes | None, reporting_currency: str) -> int:
    if not _MONEY(numeral) or not _CURRENCY(currency):
        raise _Odd
    fx_rate: str | None = None
    if rate is not None and rate != b"null":
        fx_rate = rate.decode().strip('"')
        if fx_rate and not _MONEY(fx_rate):
            raise _Odd
    return cents_of(numeral, currency, fx_rate, reporting_currency)


def _instant(moment: str) -> int:
    """Microseconds since 1970 of an RFC 3339 moment as most write it, 2026-11-20T08:15:00Z."""
    midnight, rest = _midnight(moment[:10]), _rest(moment[19:LONGEST])
    hours, minutes, seconds = _HOURS.get(moment[10:14]), _MINUTES.get(moment[14:17]), _SECONDS.get(moment[17:19])
    if len(moment) > LONGEST or midnight is None or rest is None or hours is None or minutes is None or seconds is None:
        raise _Odd
    instant = midnight + hours + minutes + seconds + rest
    if not 0 <= instant < _YEAR_10000:
        raise _Odd
    return instant


@lru_cache(REMEMBERED)
def _midnight(date: str) -> int | None:
    """Microseconds since 1970 of a day's beginning; None where it is none."""
    if not _DATE(date):
        return None
    try:
        return micros(dt.datetime.fromisoformat(date).replace(tzinfo=dt.UTC))
    except ValueError:
        return None


@lru_cache(REMEMBERED)
def _rest(text: str) -> int | None:
    """What stands behind the seconds, in microseconds: the fraction, of which digits beyond the sixth are cut off, less the
    offset from UTC."""
    found = _FRACTION_AND_OFFSET(text)
    if found is None:
        return None
    fraction, sign, hours, minutes = found.groups(default="")
    offset = (int(hours or 0) * 60 + int(minutes or 0)) * 60_000_000
    return int(fraction[:6].ljust(6, "0")) + (offset if sign == "-" else -offset)


_HOURS: Final = {f"T{hour:02}:": hour * 3_600_000_000 for hour in range(24)}
_MINUTES: Final = {f"{minute:02}:": minute * 60_000_000 for minute in range(60)}
_SECONDS: Final = {f"{second:02}": second * 1_000_000 for second in range(60)}
_YEAR_10000: Final = micros(dt.datetime.max.replace(tzinfo=dt.UTC)) + 1

_MONEY: Final = re.compile(rf"(?=.{{1,{models.MAX_NUMERAL}}}\Z){models.NUMERAL}").fullmatch
_CURRENCY: Final = re.compile("[A-Z]{3}").fullmatch
_COUNTRY: Final = re.compile("[A-Z]{2}").fullmatch
_DATE: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_FRACTION_AND_OFFSET: Final = re.compile(r"(?:\.([0-9]+))?(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))").fullmatch
