"""The billing event as it comes, and what is kept of it (contract, section 2.2).

A message is parsed once, held to the models of `schemas.billing_models`, and its money converted exactly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from schemas import billing_models
from schemas.billing_digest import EXACT, decode
from schemas.billing_models import MAX_RATE, MESSAGE, TYPES
from schemas.crowd import refuse_crowd
from schemas.dead_letters import Reason, Unreadable
from schemas.ping import MAX_DEPTH, count_openers, micros, refuse_depth, refuse_encoding

PLAN_RANK: Final[dict[str, int]] = {
    "free": 0, "bronze": 1, "starter": 1, "silver": 2, "premium": 2, "gold": 3, "ultimate": 3,
}  # fmt: skip
"""Rank of a plan; a move between plans of one rank changes no tier."""

MAX_MONEY: Final = 10**12
"""Units of any currency that no amount reaches, as given and converted."""


class Profile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The profile of an account; what is missing is ''."""

    parent_account_id: str
    country: str
    geo: str
    territory: str
    segment: str
    buyer_persona: str
    acquisition_channel: str
    acquisition_source: str


class State(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A subscription after an event, as its block says. Money in cents of the reporting currency; a list_mrr of 0 is absent."""

    subscription_id: str
    deployment: str
    plan: str
    seats: int
    mrr: int
    list_mrr: int
    namespace_id: str
    license_sha256: str
    at_renewal: bool


class Addon(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A purchase beside seats; `amount` in cents of the reporting currency."""

    addon: str
    quantity: int
    amount: int


class SeatSync(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Seats in use; None is unknown. Without a subscription_id they are of no subscription."""

    subscription_id: str
    billable_users: int | None
    max_users: int | None


class BillingEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept of an event: the block of its type, the others are None."""

    event_id: str
    type: str
    occurred_at: int
    """Microseconds since 1970, UTC."""
    sequence: int
    account_id: str
    channel: str
    digest: int
    """64 bits, unsigned, of the JSON values of the whole message: equal in a duplicate, different in a conflict."""
    profile: Profile | None
    state: State | None
    addon: Addon | None
    sync: SeatSync | None


def read_billing_event(
    value: bytes | None, reporting_currency: str, max_message_bytes: int, digest: int = 0
) -> BillingEvent:
    """Reads one message.

    Args:
        value: the message as it came.
        reporting_currency: the setting REPORTING_CURRENCY, into which money is converted.
        max_message_bytes: the setting MAX_MESSAGE_BYTES.
        digest: of the message, which becomes the event's.

    Raises:
        Unreadable: `too_large`, `too_deep`, `not_json`, `unknown_type`, `invalid` or `unsupported_currency`, judged in this
            order; no object and a `type` that is no string are `invalid`.
    """
    document = _read_object(value or b"", max_message_bytes)
    kind = document.get("type")
    if not isinstance(kind, str):
        raise _invalid(_NO_KIND if "unit_of_measure" not in document else _BILLABLE_USAGE, "type")
    if kind not in TYPES:
        raise Unreadable(Reason.UNKNOWN_TYPE, "there is no such kind of event - at `$.type`")
    try:
        message: Any = MESSAGE.validator.validate_python(document)
    except ValidationError as exc:
        raise Unreadable(Reason.INVALID, _sentence(exc)) from None
    occurred_at = _instant(message["occurred_at"], "occurred_at")
    profile = state = addon = sync = None
    if "subscription" in message:  # the block of the kind: others are left out
        state = _state(message["subscription"], reporting_currency)
    elif "seat_sync" in message:
        told = message["seat_sync"]
        sync = SeatSync(told.get("subscription_id") or "", told.get("billable_users"), told.get("max_users"))
    elif "addon" in message:
        addon = _addon(message["addon"], reporting_currency)
    elif "account" in message:
        account = message["account"].get
        profile = Profile(
            account("parent_account_id") or "",
            account("country") or "",
            account("geo") or "",
            account("territory") or "",
            account("segment") or "",
            account("buyer_persona") or "",
            account("acquisition_channel") or "",
            account("acquisition_source") or "",
        )
    return BillingEvent(
        message["event_id"],
        kind,
        occurred_at,
        message.get("sequence") or 0,
        message["account_id"],
        message.get("channel") or "",
        digest,
        profile,
        state,
        addon,
        sync,
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a billing event, made from the models that read it."""
    return billing_models.json_schema()


def _read_object(value: bytes, max_bytes: int) -> dict[str, Any]:
    if len(value) > max_bytes:
        raise Unreadable(Reason.TOO_LARGE, f"the message has {len(value):,} bytes, more than the {max_bytes:,} allowed")
    refuse_crowd(value)
    if count_openers(value) > MAX_DEPTH:
        refuse_depth(value)
    if not value.isascii():
        refuse_encoding(value)
    document = decode(value)
    if not isinstance(document, dict):
        raise _invalid("Expected an object")
    return document


def _state(block: dict[str, Any], reporting_currency: str) -> State:
    optional = block.get
    mrr = _money(block["mrr"], "subscription", "mrr")
    listed = optional("list_mrr")
    list_mrr = _money(listed, "subscription", "list_mrr") if listed else _ZERO
    if mrr < _ZERO:
        raise _invalid("Expected an amount of 0 or more", "subscription", "mrr")
    if list_mrr < _ZERO:
        raise _invalid("Expected an amount of 0 or more", "subscription", "list_mrr")
    for name in ("term_start", "term_end"):
        if (term := optional(name)) and not _is_day(term[:10]):
            raise _invalid("there is no such day", "subscription", name)
    rate = _rate(block["currency"], optional("fx_rate"), reporting_currency, "subscription")
    return State(
        block["subscription_id"],
        block["deployment"],
        block["plan"],
        block["seats"],
        _cents(mrr, rate, "subscription", "mrr"),
        _cents(list_mrr, rate, "subscription", "list_mrr") if listed else 0,
        optional("namespace_id") or "",
        optional("license_sha256") or "",
        optional("at_renewal") or False,
    )


def _addon(block: dict[str, Any], reporting_currency: str) -> Addon:
    optional = block.get
    given = optional("amount")
    amount = _money(given, "addon", "amount") if given else _ZERO
    rate = _rate(optional("currency") or reporting_currency, optional("fx_rate"), reporting_currency, "addon")
    return Addon(optional("addon") or "", optional("quantity") or 0, _cents(amount, rate, "addon", "amount"))


def _money(numeral: str, *path: str) -> Decimal:
    amount = Decimal(numeral)
    if not _LEAST_MONEY < amount < _MAX_MONEY:
        raise _invalid("Expected an amount below 10^12", *path)
    return amount


def _rate(currency: str, fx_rate: str | int | Decimal | None, reporting_currency: str, block: str) -> Decimal:
    """The rate into cents of the reporting currency."""
    if fx_rate is None or fx_rate == "":
        if currency != reporting_currency:
            raise Unreadable(
                Reason.UNSUPPORTED_CURRENCY,
                f"a currency that is not {reporting_currency}, and no `fx_rate` to convert it - at `$.{block}.currency`",
            )
        return _CENTS
    rate = Decimal(fx_rate)
    if not _ZERO < rate < _MAX_RATE:
        raise _invalid(_WORDS["fx_rate"], block, "fx_rate")
    return EXACT.multiply(rate, _CENTS)


def cents_of(numeral: str, currency: str, fx_rate: str | None, reporting_currency: str) -> int:
    """An amount in cents of the reporting currency.

    Args:
        numeral, fx_rate: exact decimals as the models ask for them.

    Raises:
        Unreadable: as `read_billing_event`.
    """
    return _cents(_money(numeral), _rate(currency, fx_rate, reporting_currency, ""))


def _cents(amount: Decimal, rate: Decimal, *path: str) -> int:
    """Converted exactly, then rounded once, half-even."""
    converted = EXACT.multiply(amount, rate)
    if not _LEAST_CENTS < converted < _MAX_CENTS:
        raise _invalid("Expected an amount below 10^12 after conversion", *path)
    return int(converted.to_integral_value(ROUND_HALF_EVEN))


def _instant(moment: str, *path: str) -> int:
    """Microseconds since 1970; digits behind them are cut off."""
    try:
        instant = micros(dt.datetime.fromisoformat(moment.upper()))
    except ValueError:
        raise _invalid("there is no such day", *path) from None
    if not 0 <= instant < _YEAR_10000:
        raise _invalid("Expected a year of 1970 to 9999, UTC", *path)
    return instant


@lru_cache(4096)
def _is_day(date: str) -> bool:
    try:
        dt.date.fromisoformat(date)
    except ValueError:
        return False
    return True


_YEAR_10000: Final = micros(dt.datetime.max.replace(tzinfo=dt.UTC)) + 1
_ZERO: Final = Decimal(0)
_CENTS: Final = Decimal(100)
_MAX_MONEY: Final = Decimal(MAX_MONEY)
_LEAST_MONEY: Final = -_MAX_MONEY
_MAX_CENTS: Final = _MAX_MONEY * 100
_LEAST_CENTS: Final = -_MAX_CENTS
_MAX_RATE: Final = Decimal(MAX_RATE)

_NO_KIND: Final = "Expected a string that names the kind of event"
_BILLABLE_USAGE: Final = "a billable usage event of GitLab, which is none of the kinds: billing by usage is not read"
_MONEY: Final = "Expected a decimal number in a string of up to 64 characters, as in 1900.00"
_WORDS: Final = {
    "occurred_at": "Expected an RFC 3339 moment with an offset, as in 2026-11-20T08:15:00Z",
    "term_start": "Expected a date or an RFC 3339 moment with an offset",
    "term_end": "Expected a date or an RFC 3339 moment with an offset",
    "mrr": _MONEY,
    "list_mrr": _MONEY,
    "amount": _MONEY,
    "fx_rate": "Expected a decimal number above 0 and below 10^9, a string or a number",
    "currency": "Expected an ISO 4217 code of three capital letters, as in EUR",
    "country": "Expected an ISO 3166 code of two capital letters, as in DE",
}
"""What the models ask for, where a pattern or a choice of types would say it less readably."""

_PLAIN: Final = {
    "missing": "Field required",
    "model_type": "Expected an object",
    "string_unicode": "the string holds half a surrogate pair",
}


def _sentence(exc: ValidationError) -> str:
    """The first thing that is wrong, and where; no value of the message."""
    error = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    names = [str(part) for part in error["loc"][1:3]]  # behind the kind; behind a field, the type that was tried
    words = _PLAIN.get(error["type"]) or _WORDS.get(names[-1]) or error["msg"]
    return _at(words, names)


def _invalid(words: str, *path: str) -> Unreadable:
    return Unreadable(Reason.INVALID, _at(words, path))


def _at(words: str, path: Iterable[str]) -> str:
    return f"{words} - at `{'.'.join(('$', *path))}`"
