"""What a billing event may be, what is kept of it, and when two are the same."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.billing import (
    PLAN_RANK,
    Addon,
    BillingEvent,
    Profile,
    SeatSync,
    State,
    json_schema,
    read_billing_event,
)
from schemas.billing_digest import decode, digest
from schemas.billing_models import TYPES
from schemas.billing_plain import read_plain
from schemas.dead_letters import Reason, Unreadable
from schemas.ping import MAX_DEPTH
from streams.ledger.billing.digests import PLAIN, digests_of
from tests import json_values
from tests.json_values import EQUAL_OR_NOT, VALUES, spelled, spellings, values_of
from tests.oracle import billing as oracle
from tests.oracle import usage as usage_oracle

LIMIT = 8 * 1024 * 1024
OF_A_SUBSCRIPTION = (
    "subscription_created", "quantity_changed", "plan_changed", "price_changed", "subscription_renewed",
    "subscription_cancelled", "license_issued", "reconciliation_charged",
)  # fmt: skip
WITHOUT_BLOCK = ("trial_started", "outreach_requested")
SUBSCRIPTION = {
    "subscription_id": "A-S1", "deployment": "self_managed", "plan": "premium", "seats": 10, "mrr": "190", "currency": "USD",
}  # fmt: skip
LEFT_OUT = object()
"""As a field's value: the field is not there."""


def event(kind: object = "trial_started", **changes: object) -> dict[str, Any]:
    fields = {"event_id": "e", "type": kind, "occurred_at": "2026-03-01T12:00:00Z", "account_id": "A"} | changes
    return {name: value for name, value in fields.items() if value is not LEFT_OUT}


def bought(**changes: object) -> dict[str, Any]:
    """An event of a subscription with other fields in its block."""
    block = SUBSCRIPTION | changes
    return event("quantity_changed", subscription={n: v for n, v in block.items() if v is not LEFT_OUT})


def with_block(kind: str, **fields: object) -> dict[str, Any]:
    return event(
        kind, **{{"account_updated": "account", "addon_purchased": "addon", "seats_synced": "seat_sync"}[kind]: fields}
    )


updated = partial(with_block, "account_updated")
purchased = partial(with_block, "addon_purchased")
synced = partial(with_block, "seats_synced")


def each(make: Callable[..., dict[str, Any]], field: str, *values: object) -> list[dict[str, Any]]:
    return [make(**{field: value}) for value in values]


def written(document: object) -> bytes:
    return json.dumps(document).encode()


def read(document: object, currency: str = "USD") -> BillingEvent:
    """By the models; and the short way, where it is one, must read the same."""
    value = document if isinstance(document, bytes) else written(document)
    (digest_of_value,), (form,) = digests_of([value])
    short = read_plain(value, currency, digest_of_value) if form == PLAIN else None
    try:
        found = read_billing_event(value, currency, LIMIT, digest_of_value)
    except Unreadable:
        assert short is None
        raise
    assert short in (None, found)
    return found


def refused(document: object, currency: str = "USD") -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read(document, currency)
    return caught.value


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_least_there_can_be() -> None:
    found = read(event())
    noon = int(dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC).timestamp()) * 1_000_000
    assert found == BillingEvent("e", "trial_started", noon, 0, "A", "", found.digest, None, None, None, None)
    assert 0 <= found.digest < 2**64


def test_an_event_of_a_subscription() -> None:
    document = bought(
        list_mrr="200", namespace_id="9970", license_sha256="9f86", term_start="2026-01-01", term_end="2027-01-01T00:00:00Z",
        at_renewal=True,
    ) | {"sequence": -7, "channel": "self_service"}  # fmt: skip
    found = read(document)
    assert found.state == State("A-S1", "self_managed", "premium", 10, 190_00, 200_00, "9970", "9f86", True)
    assert (found.sequence, found.channel) == (-7, "self_service")
    assert (found.profile, found.addon, found.sync) == (None, None, None)


@pytest.mark.parametrize("kind", OF_A_SUBSCRIPTION)
def test_every_event_of_a_subscription_has_its_state_as_the_block_says(kind: str) -> None:
    found = read(event(kind, subscription=SUBSCRIPTION))
    assert found.type == kind
    assert found.state == State("A-S1", "self_managed", "premium", 10, 190_00, 0, "", "", False)


def test_a_profile_is_whole_and_what_is_missing_is_empty() -> None:
    profile = {
        "parent_account_id": "P", "country": "DE", "geo": "EMEA", "territory": "DACH", "segment": "Mid-Market",
        "buyer_persona": "director", "acquisition_channel": "paid", "acquisition_source": "webinar",
    }  # fmt: skip
    assert read(updated(name="Ä" * 1024, **profile)).profile == Profile(**profile)
    empty = Profile("", "", "", "", "", "", "", "")
    assert read(updated()).profile == empty
    for missing in (None, ""):
        document = updated(name=missing, **dict.fromkeys(profile, missing))
        assert read(document).profile == empty


def test_an_addon_and_a_sync() -> None:
    assert read(purchased(addon="ci_minutes", quantity=-3, amount="-10.005")).addon == Addon("ci_minutes", -3, -1000)
    assert read(purchased()).addon == Addon("", 0, 0)
    assert read(purchased(addon="", quantity=None, amount="", currency="", fx_rate="")).addon == Addon("", 0, 0)
    assert read(synced(subscription_id="A-S1", billable_users=0, max_users=10**12)).sync == SeatSync("A-S1", 0, 10**12)
    assert read(synced()).sync == SeatSync("", None, None)


def test_what_is_missing_may_be_absent_null_or_empty() -> None:
    fields = ("list_mrr", "fx_rate", "namespace_id", "license_sha256", "term_start", "term_end")
    least = read(bought()).state
    assert read(bought(**dict.fromkeys(fields))).state == least
    assert read(bought(**dict.fromkeys(fields, ""))).state == least
    assert read(bought(at_renewal=None)).state == least
    assert read(event(sequence=None, channel=None)).sequence == 0
    assert read(event(channel="")).channel == ""


def test_unknown_fields_and_blocks_of_other_kinds_are_out_of_the_way() -> None:
    document = event(subscription=7, addon=[], account={"geo": "Mars"}, seat_sync=None, x={"type": 1})
    assert read(document).state is None
    assert read(bought(x=1) | {"seat_sync": {"max_users": -1}}).state == read(bought()).state


def test_ranks_are_the_contracts() -> None:
    tiers = [{"free"}, {"bronze", "starter"}, {"silver", "premium"}, {"gold", "ultimate"}]
    assert {plan: rank for rank, plans in enumerate(tiers) for plan in plans} == PLAN_RANK
    for plan, deployment in itertools.product(PLAN_RANK, ("self_managed", "gitlab_com")):
        state = read(bought(plan=plan, deployment=deployment)).state
        assert state is not None and (state.plan, state.deployment) == (plan, deployment)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason", "sentence"),
    [
        (None, Reason.NOT_JSON, "Expecting value"),
        (b"", Reason.NOT_JSON, "Expecting value"),
        (written(event())[:-1], Reason.NOT_JSON, "character"),
        (b"\xef\xbb\xbf" + written(event()), Reason.NOT_JSON, "no JSON"),
        (b'{"x":"\xff"}', Reason.NOT_JSON, "not UTF-8 at byte 6"),
        (b'{"x":"\xed\xa0\x80"}', Reason.NOT_JSON, "not UTF-8"),
        (b'{"x":NaN}', Reason.NOT_JSON, "NaN is no JSON number"),
        (b'{"x":-Infinity}', Reason.NOT_JSON, "Infinity"),
        (b'{"x":01}', Reason.NOT_JSON, "character"),
        (b'{"x":"' + b"x" * LIMIT + b'"}', Reason.TOO_LARGE, "bytes"),
        (b"[" * LIMIT + b"[", Reason.TOO_LARGE, "bytes"),
        (b'{"x":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", Reason.TOO_DEEP, "101 levels"),
        (b'{"x":' + b"[" * MAX_DEPTH + b"NaN", Reason.TOO_DEEP, "101 levels"),
        (b"[" * 100_000, Reason.TOO_DEEP, "100,000 levels"),
        (b"[]", Reason.INVALID, "Expected an object - at `$`"),
        (b'"text"', Reason.INVALID, "Expected an object - at `$`"),
        (b"null", Reason.INVALID, "Expected an object - at `$`"),
        (b"{}", Reason.INVALID, "`$.type`"),
    ],
)
def test_what_is_no_message_at_all(value: bytes | None, reason: Reason, sentence: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_billing_event(value, "USD", LIMIT)
    assert caught.value.reason is reason
    assert sentence in caught.value.sentence


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (LEFT_OUT, Reason.INVALID),
        (None, Reason.INVALID),
        (7, Reason.INVALID),
        (["trial_started"], Reason.INVALID),
        ("", Reason.UNKNOWN_TYPE),
        ("Trial_Started", Reason.UNKNOWN_TYPE),
        ("subscription_paused", Reason.UNKNOWN_TYPE),
        ("\ud800", Reason.UNKNOWN_TYPE),
    ],
)
def test_the_type_is_judged_before_the_schema(kind: object, reason: Reason) -> None:
    found = refused(event(kind, event_id=None, account_id=7))
    assert (found.reason, "`$.type`" in found.sentence) == (reason, True)


def test_a_billable_usage_event_of_gitlab_is_refused_in_words() -> None:
    document = {
        "event_id": "5aa5", "event_type": "secrets_read", "unit_of_measure": "request", "quantity": 1,
        "timestamp": "2026-06-22T14:30:00Z", "root_namespace_id": 9870,
    }  # fmt: skip
    found = refused(document)
    assert found.reason is Reason.INVALID
    assert found.sentence == (
        "a billable usage event of GitLab, which is none of the kinds: billing by usage is not read - at `$.type`"
    )


TOO_LONG = "x" * 257
INVALID: dict[str, list[dict[str, Any]]] = {
    "$.event_id": each(event, "event_id", LEFT_OUT, None, "", 7, TOO_LONG, "\ud800", ["e"]),
    "$.account_id": each(event, "account_id", LEFT_OUT, None, "", 7, TOO_LONG, "\udfff"),
    "$.occurred_at": each(event, "occurred_at", LEFT_OUT, None, "", 1772366400, "2026-03-01", "2026-03-01T12:00:00", "2026-03-01T12:00Z", "20260301T120000Z", "2026-02-29T12:00:00Z", "2026-13-01T12:00:00Z", "2026-00-01T12:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T12:60:00Z", "2026-03-01T12:00:60Z", "2026-03-01T12:00:00+24:00", "2026-03-01T12:00:00+01:60", "2026-03-01T12:00:00+0100", "2026-03-01T12:00:00.Z", "2026-03-01T12:00:00,5Z", "2026-03-01_12:00:00Z", " 2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z\n", "2026-03-01T12:00:00ZZ", "\uff12026-03-01T12:00:00Z", "0000-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "+2026-03-01T12:00:00Z", "2026-03-01T12:00:00\ud800"),
    "$.sequence": each(event, "sequence", "", "1", True, 2**63, -(2**63) - 1, [], 10**30),
    "$.channel": each(event, "channel", "Self_Service", "partners", 7, [], "\ud800"),
    "$.subscription": each(partial(event, "plan_changed"), "subscription", LEFT_OUT, None, "", 7, [], "x", [SUBSCRIPTION]),
    "$.account": each(partial(event, "account_updated"), "account", LEFT_OUT, None, "", 7, []),
    "$.addon": each(partial(event, "addon_purchased"), "addon", LEFT_OUT, None, "ci_minutes", []),
    "$.seat_sync": each(partial(event, "seats_synced"), "seat_sync", LEFT_OUT, None, 7, []),
    "$.subscription.subscription_id": each(bought, "subscription_id", LEFT_OUT, None, "", 7, TOO_LONG, "\ud800"),
    "$.subscription.deployment": each(bought, "deployment", LEFT_OUT, None, "", "saas", 7, "\ud800"),
    "$.subscription.plan": each(bought, "plan", LEFT_OUT, None, "", "Premium", "core", 7, "\ud800"),
    "$.subscription.seats": each(bought, "seats", LEFT_OUT, None, "", "10", -1, True, 10**12 + 1, 10**30),
    "$.subscription.mrr": each(bought, "mrr", LEFT_OUT, None, "", 190, 190.5, "-0.01", "NaN", "Infinity", "-inf", "1,000", "1 000", " 1", "1\n", "0x10", "1_0", ".", "+", "e5", "1e", "1e+", "1e1000", "1.2.3", "--1", "$1", "1" * 65, "1000000000000", "1e12", "1e999", "\u0661", "\ud800", ["1"]),
    "$.subscription.list_mrr": each(bought, "list_mrr", 200, "-1", "NaN", "1e12", "free", [], "1" * 65),
    "$.subscription.currency": each(bought, "currency", LEFT_OUT, None, "", "usd", "US", "USDT", "U$D", 7, "USD\n", "\ud800"),
    "$.subscription.fx_rate": each(bought, "fx_rate", 0, -1, 10**9, 10**30, True, "0", "0e5", "-1", "1000000000", "1e9", "NaN", "one", "1" * 65, [], {}, "\ud800"),
    "$.subscription.namespace_id": each(bought, "namespace_id", 9970, TOO_LONG, [], "\ud800"),
    "$.subscription.license_sha256": each(bought, "license_sha256", 7, TOO_LONG, {}, "\ud800"),
    "$.subscription.term_start": each(bought, "term_start", 20260101, "2026-02-30", "2026-1-1", "2026", "2026-01-01T00:00", "01/01/2026", "2026-01-01T00:00:00", []),
    "$.subscription.term_end": each(bought, "term_end", "2026-02-30T00:00:00Z", "never", "0000-01-01", "2026-01-01T00:00:00." + "0" * 256 + "Z"),
    "$.subscription.at_renewal": each(bought, "at_renewal", "", "true", 0, 1, []),
    "$.account.name": each(updated, "name", "x" * 1025, 7, "\ud800"),
    "$.account.parent_account_id": each(updated, "parent_account_id", 7, TOO_LONG),
    "$.account.country": each(updated, "country", "de", "DEU", "D", "D1", 7),
    "$.account.geo": each(updated, "geo", "emea", "LATAM", 7),
    "$.account.territory": each(updated, "territory", 7, TOO_LONG, "\ud800"),
    "$.account.segment": each(updated, "segment", "Mid Market", "large", 7),
    "$.account.buyer_persona": each(updated, "buyer_persona", 7, TOO_LONG),
    "$.account.acquisition_channel": each(updated, "acquisition_channel", "web", 7),
    "$.account.acquisition_source": each(updated, "acquisition_source", 7, TOO_LONG),
    "$.addon.addon": each(purchased, "addon", 7, TOO_LONG),
    "$.addon.quantity": each(purchased, "quantity", "", "1", True, 10**12 + 1, -(10**12) - 1),
    "$.addon.amount": each(purchased, "amount", 10, "ten", "-1e12", "1e12"),
    "$.addon.currency": each(purchased, "currency", "usd", "US", 7),
    "$.addon.fx_rate": each(purchased, "fx_rate", 0, "0", "-1", "1e9", []),
    "$.seat_sync.subscription_id": each(synced, "subscription_id", 7, TOO_LONG),
    "$.seat_sync.billable_users": each(synced, "billable_users", "", "1", -1, True, 10**12 + 1),
    "$.seat_sync.max_users": each(synced, "max_users", "", -1, True, 10**12 + 1),
}  # fmt: skip
"""What makes an event `invalid`, by the path that the sentence has."""


@pytest.mark.parametrize("path", INVALID)
def test_what_is_invalid_is_told_by_its_path(path: str) -> None:
    for document in INVALID[path]:
        found = refused(document)
        assert found.reason is Reason.INVALID, document
        assert found.sentence.endswith(f" - at `{path}`"), (document, found.sentence)
        assert "\n" not in found.sentence and len(found.sentence) < 250


@pytest.mark.parametrize("number", ["10.0", "1e1", "1E1", "100e-1", "9.99", "1e400", "1" + "0" * 5_000])
@pytest.mark.parametrize(
    ("template", "path"),
    [
        (bought(seats="N"), "$.subscription.seats"),
        (event(sequence="N"), "$.sequence"),
        (purchased(quantity="N"), "$.addon.quantity"),
        (synced(max_users="N"), "$.seat_sync.max_users"),
    ],
)
def test_integers_are_written_as_integers(template: object, path: str, number: str) -> None:
    found = refused(written(template).replace(b'"N"', number.encode()))
    assert (found.reason, path in found.sentence) == (Reason.INVALID, True)


def test_integers_to_the_edge() -> None:
    assert read(event(sequence=2**63 - 1)).sequence == 2**63 - 1
    assert read(event(sequence=-(2**63))).sequence == -(2**63)
    assert read(written(bought(seats="N")).replace(b'"N"', b"-0")).state == read(bought(seats=0)).state
    found = read(bought(seats=10**12)).state
    assert found is not None and found.seats == 10**12
    addon = read(purchased(quantity=-(10**12))).addon
    assert addon is not None and addon.quantity == -(10**12)


def test_lengths_are_in_code_points() -> None:
    assert read(event(event_id="😀" * 256)).event_id == "😀" * 256
    state = read(bought(subscription_id="é" * 256, namespace_id="x" * 256)).state
    assert state is not None and (state.subscription_id, state.namespace_id) == ("é" * 256, "x" * 256)
    assert refused(event(event_id="😀" * 257)).reason is Reason.INVALID


def test_half_a_surrogate_pair_does_no_harm_where_nobody_reads() -> None:
    assert read(b'{"x":"\\ud800",' + written(event())[1:]).event_id == "e"
    assert read(b'{"\\udfff":{"\\ud800":1},' + written(event())[1:]).event_id == "e"
    assert read(synced(note="\ud800")).sync == SeatSync("", None, None)
    assert read(event(account_id="\ud83d\ude00")).account_id == "😀"


def test_no_sentence_holds_a_value_of_the_message() -> None:
    personal = "jane@example.com"
    for kind, block in oracle.BLOCKS.items():
        whole: dict[str, Any] = event(kind, occurred_at=personal, event_id=[personal], account_id={personal: 1})
        fields = {"subscription": [*SUBSCRIPTION, "list_mrr", "fx_rate", "at_renewal", "term_end"], "addon": ["amount", "fx_rate"],
                  "seat_sync": ["max_users"], "account": ["geo", "country"], "": []}[block]  # fmt: skip
        assert personal not in refused(whole).sentence
        for field, bad in itertools.product(fields, (personal, [personal], {personal: personal}, "\ud800" + personal)):
            changed = event(kind, **{block: SUBSCRIPTION | {field: bad}})
            try:
                read(changed)
            except Unreadable as exc:
                assert personal not in exc.sentence and "`$." + block in exc.sentence
            else:
                assert field == "subscription_id"
    assert personal not in refused(event(personal)).sentence
    assert personal not in refused({"type": [personal]}).sentence


# --- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "utc"),
    [
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00"),
        ("2026-03-01t12:00:00z", "2026-03-01T12:00:00"),
        ("2026-03-01 12:00:00+00:00", "2026-03-01T12:00:00"),
        ("2026-03-01T12:00:00-00:00", "2026-03-01T12:00:00"),
        ("2026-03-01T12:00:00+14:00", "2026-02-28T22:00:00"),
        ("2026-03-01T12:00:00-23:59", "2026-03-02T11:59:00"),
        ("2026-03-01T12:00:00.5Z", "2026-03-01T12:00:00.500000"),
        ("2026-03-01T12:00:00.1234569Z", "2026-03-01T12:00:00.123456"),
        ("2026-03-01T23:59:59.9999999Z", "2026-03-01T23:59:59.999999"),
        ("2026-03-01T12:00:00." + "9" * 400 + "Z", "2026-03-01T12:00:00.999999"),
        ("2028-02-29T00:00:00Z", "2028-02-29T00:00:00"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00"),
        ("1969-12-31T23:59:59-00:01", "1970-01-01T00:00:59"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999"),
    ],
)
def test_moments(moment: str, utc: str) -> None:
    delta = dt.datetime.fromisoformat(utc) - dt.datetime(1970, 1, 1)
    assert read(event(occurred_at=moment)).occurred_at == delta // dt.timedelta(microseconds=1)


@pytest.mark.parametrize(
    "term", ["2026-01-31", "0001-01-01", "9999-12-31", "2026-01-31T00:00:00Z", "1900-01-01 00:00:00-14:00", "", None]
)
def test_terms_are_days_or_moments_of_any_year(term: str | None) -> None:
    assert read(bought(term_start=term, term_end=term)).state == read(bought()).state


# --- money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mrr", "fx_rate", "cents"),
    [
        ("0", None, 0),
        ("-0", None, 0),
        ("-0.00", "3", 0),
        ("1900.00", None, 1900_00),
        ("+1900", None, 1900_00),
        ("1.", None, 100),
        (".5", None, 50),
        ("1.9e3", None, 1900_00),
        ("190000E-2", None, 1900_00),
        ("1e-999", None, 0),
        ("0e999", None, 0),
        ("0.005", None, 0),
        ("0.015", None, 2),
        ("0.025", None, 2),
        ("0.0250000000000000000000000000000000000000000000000000000000001", None, 3),
        ("408.33", None, 408_33),
        ("999999999999.99", None, 99_999_999_999_999),
        ("999999999999.995", None, 100_000_000_000_000),
        ("100.00", "1.08375", 108_38),
        ("100", "1.08365", 108_36),
        ("100", 1.08375, 108_38),
        ("100", 2, 200_00),
        ("0.01", "0.5", 0),
        ("0.03", "0.5", 2),
        ("1.005", "1", 100),
        ("1.01", "0.5", 50),
        ("100", "1e-999", 0),
        ("1e-990", "1e8", 0),
        ("0", "999999999.999", 0),
        ("1000.0000000000000000000000000000000000000000000000000000000001", "1.000500000000000000000000000000000000000000000001", 1000_50),
    ],
)  # fmt: skip
def test_money_is_converted_exactly_and_rounded_once_half_to_even(mrr: str, fx_rate: object, cents: int) -> None:
    for currency in ("USD", "EUR"):
        if fx_rate is None and currency == "EUR":
            continue
        state = read(bought(mrr=mrr, list_mrr=mrr, currency=currency, fx_rate=fx_rate)).state
        assert state is not None and (state.mrr, state.list_mrr) == (cents, cents)
        signed = "-" + mrr.lstrip("+-")
        addon = read(purchased(amount=signed, currency=currency, fx_rate=fx_rate)).addon
        assert addon is not None and addon.amount == -cents


def test_a_rate_that_is_a_number_counts_with_all_its_digits() -> None:
    # As a float, 0.125 would be all that is left of it, and 0.125 of 0.36 is 0.045: half to even is 4 cents.
    template = written(bought(mrr="0.36", currency="EUR", fx_rate="N"))
    for rate, cents in (
        ("0.125", 4),
        ("0.12500000000000000000000000000000000000001", 5),
        ("0.125" + "0" * 5_000 + "1", 5),
    ):
        assert float(rate) == 0.125
        state = read(template.replace(b'"N"', rate.encode())).state
        assert state is not None and state.mrr == cents
    state = read(template.replace(b'"N"', b"1e-400")).state
    assert state is not None and state.mrr == 0


def test_amounts_have_an_end_as_sent_and_converted() -> None:
    for document in (
        bought(mrr="9e11", currency="EUR", fx_rate="2"),
        bought(mrr="1", list_mrr="500000000000", fx_rate=2),
    ):
        found = refused(document)
        assert (found.reason, "after conversion" in found.sentence) == (Reason.INVALID, True)
    assert refused(bought(mrr="1e12", currency="EUR", fx_rate="0.000001")).reason is Reason.INVALID
    assert refused(purchased(amount="-6e11", fx_rate=2)).reason is Reason.INVALID


def test_a_foreign_currency_needs_a_rate_and_is_judged_after_the_schema() -> None:
    for document, path in (
        (bought(currency="EUR"), "$.subscription.currency"),
        (bought(currency="EUR", fx_rate=None), "$.subscription.currency"),
        (bought(currency="EUR", fx_rate=""), "$.subscription.currency"),
        (purchased(currency="EUR"), "$.addon.currency"),
        (purchased(currency="EUR", amount="0"), "$.addon.currency"),
    ):
        found = refused(document)
        assert found.reason is Reason.UNSUPPORTED_CURRENCY
        assert f"`{path}`" in found.sentence and "EUR" not in found.sentence
    for wrong in ({"seats": -1}, {"mrr": "1e12"}, {"mrr": "-1"}, {"term_end": "2026-02-30"}, {"list_mrr": "-1"}):
        assert refused(bought(currency="EUR", **wrong)).reason is Reason.INVALID
    assert refused(bought(currency="EUR") | {"occurred_at": "1969-01-01T00:00:00Z"}).reason is Reason.INVALID


def test_the_reporting_currency_is_a_setting() -> None:
    state = read(bought(currency="EUR", mrr="1.25"), "EUR").state
    assert state is not None and state.mrr == 125
    assert refused(bought(currency="USD"), "EUR").reason is Reason.UNSUPPORTED_CURRENCY
    addon = read(purchased(amount="1"), "EUR").addon
    assert addon is not None and addon.amount == 100
    given_anyway = read(bought(currency="EUR", mrr="10", fx_rate="0.5"), "EUR").state
    assert given_anyway is not None and given_anyway.mrr == 500


# --- the same message -------------------------------------------------------------------------------------------------

NUMERALS = [
    *json_values.NUMERALS,
    ["1.5e999999999999999999", "15e999999999999999998"],
    ["1.5e1000000000000000000", "15e999999999999999999", "0.15e1000000000000000001"],
    ["-1.5e-99999999999999999999", "-150e-100000000000000000001"],
    ["1e" + "9" * 5000, "10e" + "9" * 4999 + "8"],
]
"""Each list is one number."""


def test_numbers_are_equal_by_value_however_they_are_spelled() -> None:
    digests = [{digest(decode(numeral.encode())) for numeral in spelled} for spelled in NUMERALS]
    assert [len(found) for found in digests] == [1] * len(NUMERALS)
    assert len(set.union(*digests)) == len(NUMERALS)


@pytest.mark.parametrize(("one", "other", "equal"), EQUAL_OR_NOT)
def test_what_is_equal(one: str, other: str, equal: bool) -> None:
    assert (digest(decode(one.encode())) == digest(decode(other.encode()))) is equal


@settings(max_examples=200)
@given(VALUES, st.randoms(use_true_random=False))
def test_the_digest_knows_no_spelling(value: Any, dice: random.Random) -> None:
    texts = spellings(value, dice)
    assert len({digest(decode(text)) for text in texts}) <= 1


@settings(max_examples=300)
@given(VALUES, VALUES)
def test_equal_digests_mean_equal_values(one: Any, other: Any) -> None:
    dice = random.Random(1)
    texts = [spelled(value, dice).encode("utf-8", "surrogatepass") for value in (one, other)]
    documents = [values_of(text) for text in texts]
    if None not in documents:
        assert (digest(decode(texts[0])) == digest(decode(texts[1]))) is (documents[0] == documents[1])


@pytest.mark.parametrize(
    "text",
    ["01", "1.", "1e", ".5", "-", "+1", "--1", "1.5e+", "0x1", "1 2", "nul", "[1,]", '{"a":1,}', '{"a"}', '"\t"', '"\x00"',
     '"\\x41"', '"\\u12"', "'a'", "{1:2}", "\x0c1", "\xa01", "// x\n1", '{"a":1}}', "[NaN]", "Infinity", '"a'],
)  # fmt: skip
def test_no_json_for_the_standard_library_is_none_here(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        json.loads(text, parse_constant=lambda name: int(f"no {name}"))
    with pytest.raises(Unreadable) as caught:
        decode(text.encode())
    assert caught.value.reason is Reason.NOT_JSON


@settings(max_examples=300)
@given(st.data())
def test_a_torn_message_is_judged_as_the_standard_library_does(data: st.DataObject) -> None:
    text = written(bought(fx_rate=1.5, namespace_id="é\\ud83d\ude00", note=[True, None, -0.5e-3]))
    at = data.draw(st.integers(0, len(text)))
    torn = (
        text[:at]
        + data.draw(st.binary(max_size=2) | st.sampled_from([b"-", b"0", b"e", b".", b'"', b"\\", b",", b"}"]))
        + (text[at + data.draw(st.integers(0, 2)) :])
    )
    try:
        json.loads(torn.decode(), parse_constant=lambda name: int(f"no {name}"))
    except ValueError:
        assert refused(torn).reason is Reason.NOT_JSON
    else:
        assert decode(torn) is not None


# --- against the oracle -----------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None, "", 0, 1, -1, True, False, "1", "-1", "0.005", "1e3", 10, "x", "A-S1", [], {}, ["x"], "\ud800", 10**12, 10**12 + 1,
    "USD", "EUR", "usd", "premium", "free", "gitlab_com", "self_managed", "self_service", "EMEA", "SMB", "paid", "DE",
    "2026-03-01", "2026-02-30", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00+14:00", "x" * 256, "x" * 257, 1.5, "1.0837",
    "999999999999.999", "NaN", 2**63, -(2**63),
]  # fmt: skip
FIELDS = {
    "subscription": [*SUBSCRIPTION, "list_mrr", "fx_rate", "namespace_id", "license_sha256", "term_start", "term_end", "at_renewal"],
    "account": ["parent_account_id", "name", "country", "geo", "territory", "segment", "buyer_persona", "acquisition_channel", "acquisition_source"],
    "addon": ["addon", "quantity", "amount", "currency", "fx_rate"],
    "seat_sync": ["subscription_id", "billable_users", "max_users"],
    "": [],
}  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_it_reads_what_the_oracle_reads(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([*oracle.BLOCKS, "quantity_changed", "quantity_changed", "other", ""]))
    block = oracle.BLOCKS.get(kind, "")
    fields = dict(SUBSCRIPTION) if block == "subscription" else {}
    for name in data.draw(st.lists(st.sampled_from(FIELDS[block]), max_size=3)) if block else ():
        fields[name] = data.draw(st.sampled_from(ODD))
    document = event(kind, **({block: fields} if block else {}))
    for name in data.draw(st.lists(st.sampled_from([*document, "sequence", "channel"]), max_size=1)):
        document[name] = data.draw(st.sampled_from(ODD))
    value = written(document)
    rules = usage_oracle.Rules(as_of=dt.date(2026, 11, 20))
    try:
        parsed = usage_oracle.read_json(value, rules, parse_int=oracle.number, parse_float=oracle.number)
        expected: Any = oracle.read_event(parsed, "USD")
    except usage_oracle.Dead as dead:
        assert refused(value).reason == str(dead)
        return
    found = read(value)
    assert (found.event_id, found.type, found.sequence, found.account_id, found.channel) == (
        expected.event_id, expected.type, expected.sequence, expected.account_id, expected.channel
    )  # fmt: skip
    assert found.occurred_at == (expected.occurred_at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(
        microseconds=1
    )
    assert parts(found.profile) == parts(expected.profile)
    assert parts(found.sync) == parts(expected.sync)
    if expected.addon is not None:
        assert found.addon == Addon(expected.addon.addon, expected.addon.quantity, int(expected.addon.amount * 100))
    if expected.state is not None:
        state = expected.state
        if kind == "subscription_cancelled":  # the reader tells what the block says
            assert found.state is not None and (state.seats, state.mrr) == (0, 0)
            return
        assert found.state == State(
            state.subscription_id, state.deployment, state.plan, state.seats, int(state.mrr * 100), int(state.list_mrr * 100),
            state.namespace_id, state.license_sha256, fields.get("at_renewal") is True,
        )  # fmt: skip


def parts(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    names = getattr(value, "__struct_fields__", None) or value.__dataclass_fields__
    return {name: getattr(value, name) for name in names}


# --- the schema -------------------------------------------------------------------------------------------------------

BEYOND_A_SCHEMA = {
    "$.occurred_at": {"2026-02-29T12:00:00Z", "0000-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z",
                      "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"},
    "$.subscription.mrr": {"-0.01", "1000000000000", "1e12", "1e999"},
    "$.subscription.list_mrr": {"-1", "1e12"},
    "$.subscription.fx_rate": {"0", "0e5", "-1", "1000000000", "1e9"},
    "$.subscription.term_start": {"2026-02-30"},
    "$.subscription.term_end": {"2026-02-30T00:00:00Z", "0000-01-01"},
    "$.addon.amount": {"-1e12", "1e12"},
    "$.addon.fx_rate": {"0", "-1", "1e9"},
}  # fmt: skip
"""What no schema can say: days that exist, years, amounts in strings; nor what half a surrogate pair is."""


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def value_at(document: Any, path: str) -> Any:
    for name in path.split(".")[1:]:
        document = document.get(name)
    return document


@pytest.mark.parametrize("path", INVALID)
def test_the_schema_refuses_what_is_invalid(path: str, validator: jsonschema.Draft202012Validator) -> None:
    for document in INVALID[path]:
        value = value_at(document, path)
        if isinstance(value, str) and ("\ud800" in value or "\udfff" in value or value.endswith("\n")):
            continue  # Python's `$` lets a line end pass; ECMA 262, which a schema goes by, does not
        beyond = isinstance(value, str) and value in BEYOND_A_SCHEMA.get(path, ())
        assert validator.is_valid(document) is beyond, document


def test_the_schema_takes_what_is_read(validator: jsonschema.Draft202012Validator) -> None:
    good = [event(kind, subscription=SUBSCRIPTION) for kind in OF_A_SUBSCRIPTION]
    good += [event(kind) for kind in WITHOUT_BLOCK]
    good += [with_block(kind) for kind in ("account_updated", "addon_purchased", "seats_synced")]
    good += [
        event(x=1, subscription=7, account=None),
        event(sequence=None, channel=None),
        event(sequence=-(2**63), channel=""),
        bought(**{name: None for name in FIELDS["subscription"] if name not in SUBSCRIPTION}),
        bought(list_mrr="", fx_rate="", namespace_id="", license_sha256="", term_start="", term_end=""),
        bought(mrr="+1.", list_mrr=".5", fx_rate="1e-3", currency="EUR"),
        bought(fx_rate=1.0837, seats=10**12, at_renewal=True, term_start="2026-01-01", term_end="2026-01-01t00:00:00.123456789z"),
        updated(**dict.fromkeys(FIELDS["account"], "")),
        updated(**dict.fromkeys(FIELDS["account"])),
        purchased(amount="-1", quantity=-1, currency="", fx_rate=7),
        synced(subscription_id=None, billable_users=None, max_users=0),
        event(event_id="😀" * 256, occurred_at="1970-01-01 00:00:00+00:00"),
    ]  # fmt: skip
    for document in good:
        validator.validate(document)
        assert read(document).type == document["type"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_read_passes_the_schema(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(TYPES)))
    block = oracle.BLOCKS[kind]
    fields = dict(SUBSCRIPTION) if block == "subscription" else {}
    for name in data.draw(st.lists(st.sampled_from(FIELDS[block]), max_size=2)) if block else ():
        fields[name] = data.draw(st.sampled_from(ODD))
    document = event(kind, **({block: fields} if block else {}))
    try:
        read(document)
    except Unreadable:
        return
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(document)


def test_the_schema_is_one_object_with_a_model_a_kind() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema
    kinds = [schema["$defs"][branch["$ref"].removeprefix("#/$defs/")] for branch in schema["oneOf"]]
    assert {kind["properties"]["type"]["const"] for kind in kinds} == set(oracle.BLOCKS) == TYPES
    for kind in kinds:
        assert kind["description"] and {"event_id", "type", "occurred_at", "account_id"} <= set(kind["required"])
    subscription = schema["$defs"]["Subscription"]
    assert set(subscription["required"]) == set(SUBSCRIPTION)
    for block in (
        subscription,
        schema["$defs"]["Account"],
        schema["$defs"]["AddonPurchase"],
        schema["$defs"]["SeatSync"],
    ):
        assert all("description" in field or name == "plan" for name, field in block["properties"].items())
        assert "title" not in block["properties"].popitem()[1]


# --- the pages --------------------------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs"
SOURCES_PAGE = (DOCS / "billing-sources.md").read_text()


def examples(page: str) -> list[bytes]:
    return [block.encode() for block in re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)]


def test_the_worked_examples_of_the_sources_are_read(validator: jsonschema.Draft202012Validator) -> None:
    found = [read(example) for example in examples(SOURCES_PAGE)]
    for example in examples(SOURCES_PAGE):
        validator.validate(json.loads(example))
    assert len({(one.account_id, one.event_id) for one in found}) == len(found)
    assert [(one.type, one.state and (one.state.seats, one.state.mrr, one.state.list_mrr)) for one in found] == [
        ("trial_started", None),
        ("quantity_changed", (25, 475_00, 475_00)),
        ("account_updated", None),
        ("addon_purchased", None),
        ("subscription_renewed", (100, 9655_77, 10728_63)),  # 8910.00 x 1.0837 = 9655.767, 9900.00 x 1.0837 = 10728.63
        ("quantity_changed", (120, 11586_92, 12874_36)),  # 11586.9204 and 12874.356
        ("subscription_cancelled", (0, 0, 0)),
        ("license_issued", (120, 11586_92, 12874_36)),
        ("seats_synced", None),
    ]
    assert [one.addon for one in found if one.addon] == [Addon("ci_minutes", 5, 54_18)]  # 54.185, half to even
    assert [one.sync for one in found if one.sync] == [SeatSync("A-S00012345", 117, 123)]
    renewal, change = found[4:6]
    assert renewal.occurred_at == change.occurred_at and renewal.sequence < change.sequence
    assert change.state is not None and change.state.at_renewal


def test_the_tables_of_the_sources_name_fields_that_there_are() -> None:
    models = {"subscription": "Subscription", "account": "Account", "addon": "AddonPurchase", "seat_sync": "SeatSync"}
    fields = {block: set(json_schema()["$defs"][model]["properties"]) for block, model in models.items()}
    common = {"event_id", "type", "occurred_at", "sequence", "account_id", "channel"}
    named = set()
    for row in re.findall(r"^\|.*\|$", SOURCES_PAGE, re.MULTILINE):
        cells = row.strip("|").split("|")
        block = ""
        for name in re.findall(r"`([a-z_]*\.?[a-z_0-9]+)`", cells[1]) if len(cells) == 3 else ():
            block, _, field = name.rpartition(".") if not name.startswith(".") else (block, "", name[1:])
            if name in TYPES:
                continue
            assert field in (fields[block] if block else common), row
            named.add((block, field))
    assert {("", field) for field in common} <= named
    assert {("subscription", field) for field in fields["subscription"] - {"fx_rate", "at_renewal"}} <= named


def test_the_event_of_the_messages_page_has_every_field_of_its_block() -> None:
    page = (DOCS / "messages.md").read_text()
    (example,) = [example for example in examples(page) if b'"event_id"' in example]
    assert read(example).type == "quantity_changed"
    assert set(json.loads(example)["subscription"]) == set(json_schema()["$defs"]["Subscription"]["properties"])
    section = page[page.index("## Billing events") :]
    for name in [*TYPES, *(field for block in FIELDS.values() for field in block)]:
        assert f"`{name}`" in section


# --- how fast ---------------------------------------------------------------------------------------------------------


def test_an_event_is_read_in_microseconds() -> None:
    """Some 20 of them; the bound is for machines that are busy with other things."""
    value = written(
        bought(list_mrr="2280.00", currency="EUR", fx_rate="1.0837", term_start="2026-01-01", term_end="2026-12-31")
    )
    fastest = 1.0
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(200):
            read_billing_event(value, "USD", LIMIT)
        fastest = min(fastest, (time.perf_counter() - begun) / 200)
    assert fastest < 200e-6


@pytest.mark.parametrize(
    "tail",
    [b'"x":' + b"9" * 4_000_000, b'"x":0.' + b"9" * 4_000_000, b'"x":1e' + b"9" * 4_000_000, b'"x":"' + b"[" * 4_000_000 + b'"',
     b'"x":[' + b'"\\ud800",' * 90_000 + b"1]", b'"x":[' + b"1.5," * 90_000 + b"1]"],
    ids=["integer", "fraction", "exponent", "brackets", "surrogates", "numbers"],
)  # fmt: skip
def test_a_message_of_any_content_is_read_in_time(tail: bytes) -> None:
    begun = time.perf_counter()
    assert read(written(event())[:-1] + b"," + tail + b"}").event_id == "e"
    assert time.perf_counter() - begun < 20
