"""The billing event as it must be: a model for each kind, discriminated by `type` (contract, section 2.2).

The models say what is accepted and are published as JSON Schema; `schemas.billing` reads with them and judges what they
cannot say. A field that may be absent may also be null, and '' where it is a string. Other fields are ignored, blocks
that do not belong to the kind among them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NotRequired, get_args, get_type_hints

from msgspec import Meta
from pydantic import ConfigDict, Field, TypeAdapter, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

MAX_TEXT: Final = 256
MAX_NAME: Final = 1_024
MAX_QUANTITY: Final = 10**12
MAX_RATE: Final = 10**9
MAX_NUMERAL: Final = 64

NUMERAL = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
_MOMENT = rf"{_DATE}[Tt ]{_TIME}([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"

# `Meta` says the same as `Field` to the short way of reading, which knows no patterns (`schemas.billing_plain`).
Id = Annotated[str, Field(strict=True, min_length=1, max_length=MAX_TEXT), Meta(min_length=1, max_length=MAX_TEXT)]
Text = Annotated[str, Field(strict=True, max_length=MAX_TEXT), Meta(max_length=MAX_TEXT)]
Moment = Annotated[str, Field(strict=True, pattern=f"^{_MOMENT}$")]
Term = Annotated[str, Field(strict=True, max_length=MAX_TEXT, pattern=f"^({_DATE}|{_MOMENT})?$")]
Money = Annotated[str, Field(strict=True, max_length=MAX_NUMERAL, pattern=f"^{NUMERAL}$")]
OptionalMoney = Annotated[str, Field(strict=True, max_length=MAX_NUMERAL, pattern=f"^({NUMERAL})?$")]
Currency = Annotated[str, Field(strict=True, pattern="^[A-Z]{3}$")]
OptionalCurrency = Annotated[str, Field(strict=True, pattern="^([A-Z]{3})?$")]
Country = Annotated[str, Field(strict=True, pattern="^([A-Z]{2})?$")]
Seats = Annotated[int, Field(strict=True, ge=0, le=MAX_QUANTITY), Meta(ge=0, le=MAX_QUANTITY)]
Quantity = Annotated[
    int, Field(strict=True, ge=-MAX_QUANTITY, le=MAX_QUANTITY), Meta(ge=-MAX_QUANTITY, le=MAX_QUANTITY)
]
Sequence = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1), Meta(ge=-(2**63), le=2**63 - 1)]
Flag = Annotated[bool, Field(strict=True)]
# A JSON number comes as an int or a Decimal, with all its digits.
RateNumber = Annotated[
    Annotated[int, Field(strict=True, gt=0, lt=MAX_RATE)] | Annotated[Decimal, Field(strict=True, gt=0, lt=MAX_RATE)],
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": MAX_RATE}),
]
Rate = OptionalMoney | RateNumber

Channel = Literal["self_service", "sales_assisted", "automatic", "partner", ""]
Deployment = Literal["self_managed", "gitlab_com"]
Plan = Literal["free", "bronze", "silver", "gold", "starter", "premium", "ultimate"]
Geo = Literal["AMER", "EMEA", "APAC", "JIHU", ""]
Segment = Literal["SMB", "Mid-Market", "Large", "PubSec", ""]
AcquisitionChannel = Literal["paid", "earned", "social", "owned", ""]


class _Model(TypedDict):
    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]


class Account(_Model):
    """The whole profile of an account: what is missing is ''."""

    parent_account_id: NotRequired[Annotated[Text | None, Field(description="Account of the parent company.")]]
    name: NotRequired[
        Annotated[
            Annotated[str, Field(strict=True, max_length=MAX_NAME), Meta(max_length=MAX_NAME)] | None,
            Field(description="Name of the customer. Checked, not kept."),
        ]
    ]
    country: NotRequired[Annotated[Country | None, Field(description="ISO 3166 alpha-2, as in DE.")]]
    geo: NotRequired[Annotated[Geo | None, Field(description="Sales geography.")]]
    territory: NotRequired[Annotated[Text | None, Field(description="Sales territory.")]]
    segment: NotRequired[Annotated[Segment | None, Field(description="Sales segment.")]]
    buyer_persona: NotRequired[Annotated[Text | None, Field(description="Who buys there.")]]
    acquisition_channel: NotRequired[
        Annotated[AcquisitionChannel | None, Field(description="How the account was won.")]
    ]
    acquisition_source: NotRequired[Annotated[Text | None, Field(description="Where it was won.")]]


class Subscription(_Model):
    """The state of a subscription after the event."""

    subscription_id: Annotated[Id, Field(description="Unique within the account.")]
    deployment: Annotated[Deployment, Field(description="Where the product runs.")]
    plan: Plan
    seats: Annotated[Seats, Field(description="Seats bought, an integer.")]
    mrr: Annotated[
        Money,
        Field(
            description="Monthly recurring revenue, an exact decimal in a string, as in 1900.00; 0 or more, below 10^12."
        ),
    ]
    list_mrr: NotRequired[
        Annotated[
            OptionalMoney | None,
            Field(description="The same before discounts. 0 counts as absent.", examples=["2100.00"]),
        ]
    ]
    currency: Annotated[Currency, Field(description="ISO 4217, of mrr and list_mrr, as in EUR.")]
    fx_rate: NotRequired[
        Annotated[
            Rate | None,
            Field(
                description="Units of the reporting currency for one of `currency`, exact: above 0, below 10^9. Missing it is 1 for "
                "the reporting currency; another one needs it.",
                examples=["1.0837"],
            ),
        ]
    ]
    namespace_id: NotRequired[Annotated[Text | None, Field(description="Top-level group of GitLab.com that uses it.")]]
    license_sha256: NotRequired[
        Annotated[Text | None, Field(description="SHA-256 of the licence that was issued for it.")]
    ]
    term_start: NotRequired[
        Annotated[Term | None, Field(description="First day of the term: a date or an RFC 3339 moment.")]
    ]
    term_end: NotRequired[
        Annotated[Term | None, Field(description="End of the term, the same way. It ends nothing by itself.")]
    ]
    at_renewal: NotRequired[Annotated[Flag | None, Field(description="True when the change is part of a renewal.")]]


class AddonPurchase(_Model):
    """What was bought beside seats."""

    addon: NotRequired[Annotated[Text | None, Field(description="What it is, as in ci_minutes or storage.")]]
    quantity: NotRequired[Annotated[Quantity | None, Field(description="How many, an integer; missing is 0.")]]
    amount: NotRequired[
        Annotated[
            OptionalMoney | None,
            Field(
                description="Price of all of them, an exact decimal in a string; negative for a refund; missing is 0.",
                examples=["10.00"],
            ),
        ]
    ]
    currency: NotRequired[
        Annotated[OptionalCurrency | None, Field(description="ISO 4217, of amount; missing is the reporting currency.")]
    ]
    fx_rate: NotRequired[Annotated[Rate | None, Field(description="As in a subscription.")]]


class SeatSync(_Model):
    """What an installation or group counted itself."""

    subscription_id: NotRequired[
        Annotated[Text | None, Field(description="Whose seats they are; missing: of no subscription.")]
    ]
    billable_users: NotRequired[Annotated[Seats | None, Field(description="Users that need a seat.")]]
    max_users: NotRequired[Annotated[Seats | None, Field(description="Most such users there were in the term.")]]


class _Event(_Model):
    event_id: Annotated[Id, Field(description="Unique within the account.")]
    occurred_at: Annotated[
        Moment,
        Field(
            description="When it takes effect, RFC 3339 with an offset, from 1970 on.",
            json_schema_extra={"format": "date-time"},
        ),
    ]
    sequence: NotRequired[
        Annotated[
            Sequence | None, Field(description="Orders events of the account with the same occurred_at; missing is 0.")
        ]
    ]
    account_id: Id
    channel: NotRequired[Annotated[Channel | None, Field(description="How it came about.")]]


class SubscriptionEvent(_Event):
    """What all events of a subscription have."""

    subscription: Subscription


class AccountUpdated(_Event):
    """The profile of an account, whole."""

    type: Literal["account_updated"]
    account: Account


class TrialStarted(_Event):
    """A trial began. Its seats are no seats."""

    type: Literal["trial_started"]


class SubscriptionCreated(SubscriptionEvent):
    """A subscription was bought."""

    type: Literal["subscription_created"]


class QuantityChanged(SubscriptionEvent):
    """Seats were added or removed."""

    type: Literal["quantity_changed"]


class PlanChanged(SubscriptionEvent):
    """Another plan was chosen."""

    type: Literal["plan_changed"]


class PriceChanged(SubscriptionEvent):
    """The same for another price."""

    type: Literal["price_changed"]


class SubscriptionRenewed(SubscriptionEvent):
    """A new term began."""

    type: Literal["subscription_renewed"]


class SubscriptionCancelled(SubscriptionEvent):
    """It has 0 seats and 0 MRR from here on, whatever its block says."""

    type: Literal["subscription_cancelled"]


class AddonPurchased(_Event):
    """Something beside seats was bought."""

    type: Literal["addon_purchased"]
    addon: AddonPurchase


class LicenseIssued(SubscriptionEvent):
    """A licence was made for the subscription."""

    type: Literal["license_issued"]


class SeatsSynced(_Event):
    """Seats in use were told."""

    type: Literal["seats_synced"]
    seat_sync: SeatSync


class ReconciliationCharged(SubscriptionEvent):
    """Seats used beyond those bought were charged."""

    type: Literal["reconciliation_charged"]


class OutreachRequested(_Event):
    """The customer asked for somebody of sales."""

    type: Literal["outreach_requested"]


BillingMessage = Annotated[
    AccountUpdated
    | TrialStarted
    | SubscriptionCreated
    | QuantityChanged
    | PlanChanged
    | PriceChanged
    | SubscriptionRenewed
    | SubscriptionCancelled
    | AddonPurchased
    | LicenseIssued
    | SeatsSynced
    | ReconciliationCharged
    | OutreachRequested,
    Field(discriminator="type"),
]

MESSAGE: Final[TypeAdapter[BillingMessage]] = TypeAdapter(BillingMessage, config=ConfigDict(defer_build=True))
"""Built when it is first asked: most messages never come to it."""

_KINDS: Final = {
    kind: model for model in get_args(get_args(BillingMessage)[0]) for kind in get_args(get_type_hints(model)["type"])
}

TYPES: Final[frozenset[str]] = frozenset(_KINDS)
"""The kinds of event."""

BLOCKS: Final[dict[str, str]] = {
    kind: block
    for kind, model in _KINDS.items()
    for block in get_type_hints(model).keys() - get_type_hints(_Event).keys() - {"type"}
}
"""The block that a kind of event has; those without one are not in it."""


class _Schema(GenerateJsonSchema):
    """Without a title on each field: the name says it already."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a billing event, made from the models that read it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "billing-events",
        **MESSAGE.json_schema(schema_generator=_Schema),
    }
