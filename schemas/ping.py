"""The usage ping as it comes: GitLab's Service Ping, read leniently, and our extension, read strictly.

Contract, section 2.1. GitLab's own fields may be absent, null or of any type: what cannot be used is None. The
extension (`namespace_id`, `namespace_plan`, `activity`, `sessions`, `users_by`) is strict: one bad entry makes the ping
`invalid`. `licensee` and `license_key` are not fields here, so nothing that goes on can hold them.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Collection
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from schemas.crowd import MAX_ENTRIES, MAX_VALUES, is_crowded, too_many
from schemas.dead_letters import Reason, Unreadable

MAX_DEPTH: Final = 100
"""Levels of nesting. GitLab's deepest payload has 6; a fixed limit makes the answer the same on every machine."""

MAX_HOSTNAME: Final = 255
MAX_INT64: Final = 2**63 - 1
MAX_ID: Final = 2**64 - 1

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
EPOCH_ORDINAL: Final = EPOCH.toordinal()

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Value = Annotated[str, Meta(max_length=256, description="'' stands for unknown.")]
Stage = Annotated[Name, Meta(description="Product stage, as in create.")]
Feature = Annotated[Name, Meta(description="Feature of that stage, as in merge_requests.")]
ShortText = Annotated[str, Meta(min_length=1, max_length=64)]
Instant = Annotated[dt.datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0, le=MAX_INT64)]
# msgspec compares with 64-bit signed limits at the most: the upper one is in the schema, and checked by hand when read.
UserNumber = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": MAX_ID})]
UserName = Annotated[str, Meta(min_length=1, max_length=128)]
Users = list[UserNumber | UserName]


class Session(Struct, frozen=True, gc=False):
    """One session: an entry of the session-level form."""

    user: Annotated[UserNumber | UserName, Meta(description="Pseudonymous id, unique within the installation.")]
    at: Annotated[Instant, Meta(description="When it began, RFC 3339 with an offset, from 1970 on.")]
    stage: Stage
    feature: Feature


class Activity(Struct, frozen=True, gc=False):
    """Who was active on a UTC day in a feature: an entry of the compact form."""

    date: Annotated[dt.date, Meta(description="UTC day.")]
    stage: Stage
    feature: Feature
    # Raw until it is known to be new.
    users: Annotated[
        Raw,
        Meta(
            description="Pseudonymous ids, unique within the installation (within GitLab.com for its groups): unsigned "
            "64-bit integers, written as integers, or strings. The same user in both forms is two users.",
            extra_json_schema=msgspec.json.schema(Users),
        ),
    ]
    sessions: Annotated[Count | None, Meta(description="Number of sessions, where it is known.")] = None


class UsersBy(Struct, frozen=True):
    """Registered users by dimension: how many there are of each value. An absent or null dimension tells nothing."""

    persona: Annotated[dict[Value, Count] | None, Meta(description="By user persona.")] = None
    acquisition_channel: Annotated[dict[Value, Count] | None, Meta(description="By acquisition channel.")] = None


class Ping(Struct, frozen=True):
    """A ping, decoded but for its activity entries (`decode_activity`), its counters (`count_leaves`) and what it reports
    (`schemas.reported`, which reads the raw blocks that the stage map names)."""

    uuid: Annotated[ShortText, Meta(description="Id of the installation; any text, it need not be a UUID.")]
    recorded_at: Annotated[
        Instant,
        Meta(
            description="When the ping was made, RFC 3339 with an offset, from 1970 on. With uuid, hostname and "
            "namespace_id it is the ping's identity."
        ),
    ]
    hostname: Annotated[
        Any,
        Meta(
            description="Host name. One of GitLab.com's makes it a ping of GitLab.com.",
            extra_json_schema={"maxLength": MAX_HOSTNAME},
        ),
    ] = None
    namespace_id: Annotated[
        ShortText | None, Meta(description="Extension: the top-level group of GitLab.com that the ping is of.")
    ] = None
    namespace_plan: Annotated[
        ShortText | None, Meta(description="Extension: the plan of that group, as in silver.")
    ] = None
    activity: Annotated[
        list[Annotated[Raw, Meta(extra_json_schema={"$ref": "#/$defs/Activity"})]] | None,
        Meta(description="Extension: exact activity in the compact form."),
    ] = None
    sessions: Annotated[
        list[Session] | None,
        Meta(
            description="Extension: exact activity in the session-level form, one entry a session. Merged with activity."
        ),
    ] = None
    users_by: Annotated[UsersBy | None, Meta(description="Extension: registered users by dimension.")] = None
    version: Annotated[Any, Meta(description="Version of the product, text as in 17.5.1-ee.")] = None
    edition: Annotated[Any, Meta(description="Edition, text: CE, EE, EES, EEP or EEU.")] = None
    license_plan: Annotated[Any, Meta(description="Plan of the licence, text as in ultimate.")] = None
    active_user_count: Annotated[Any, Meta(description="Registered users, an integer. Not MAU.")] = None
    license_billable_users: Annotated[Any, Meta(description="Users that need a seat, an integer.")] = None
    license_user_count: Annotated[Any, Meta(description="Seats of the licence, an integer.")] = None
    historical_max_users: Annotated[Any, Meta(description="Most billable users there ever were, an integer.")] = None
    license_subscription_id: Annotated[Any, Meta(description="Subscription of the licence, text.")] = None
    license_sha256: Annotated[Any, Meta(description="SHA-256 of the licence, text.")] = None
    license_md5: Annotated[Any, Meta(description="MD5 of the licence, text; read where license_sha256 is absent.")] = (
        None
    )
    counts: Annotated[
        Raw, Meta(description="Counters of all time: an object; numbers at any depth are counted, not read.")
    ] = Raw()
    usage_activity_by_stage_monthly: Annotated[
        Raw,
        Meta(
            description="Users of the last 28 days as the installation counted them: an object of stages, each an object "
            "of features, each an integer. Where it is an object the ping reports; -1 and the like are unknown."
        ),
    ] = Raw()
    redis_hll_counters: Annotated[
        Raw, Meta(description="More such counts, an object of categories; the stage map names those that are read.")
    ] = Raw()


class PingIdentity(Struct, frozen=True):
    """Only what names a ping: read from a ping that is otherwise invalid, to know whether it was sent before."""

    uuid: ShortText
    recorded_at: Instant
    hostname: Any = None
    namespace_id: ShortText | None = None


class _RawIdentity(Struct, frozen=True):
    """The same of a message that holds more than is read."""

    uuid: ShortText
    recorded_at: Instant
    hostname: Raw = Raw()
    namespace_id: ShortText | None = None


_ping_decoder = msgspec.json.Decoder(Ping)
_identity_decoder = msgspec.json.Decoder(PingIdentity)
_raw_identity_decoder = msgspec.json.Decoder(_RawIdentity)
_activity_decoder = msgspec.json.Decoder(Activity)
_users_decoder = msgspec.json.Decoder(Users)
_any_decoder = msgspec.json.Decoder()
_members_decoder = msgspec.json.Decoder(dict[str, Raw])
_raw_decoder = msgspec.json.Decoder(Raw)

decode_activity = _activity_decoder.decode
decode_activities = msgspec.json.Decoder(list[Activity]).decode


def count_openers(value: bytes) -> int:
    """How often [ and { stand in a message: a bound on its depth."""
    return value.count(b"[") + value.count(b"{")


def depth(value: bytes) -> int:
    """Deepest nesting of arrays and objects, strings left out. For any bytes; what follows a quote without its end is no
    string."""
    level = deepest = 0
    for found in _STRING_OR_BRACKETS.finditer(value) if b'"' in value else [value]:
        brackets = found if isinstance(found, bytes) else found[1] or found[2] or b""
        for bracket in brackets.translate(None, _NO_BRACKETS):
            if bracket in b"[{":
                level += 1
                deepest = max(deepest, level)
            else:
                level -= 1
    return deepest


# One pass over any bytes: a quote without its end takes all the rest, or each quote in it would look for its end again.
# Nothing is gathered: a message may be millions of small strings.
_STRING_OR_BRACKETS = re.compile(rb'"(?:[^"\\]*(?:\\.[^"\\]*)*"|(.*\Z))|([\[\]{}]+)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def decode_ping(
    value: bytes, max_bytes: int, openers: int | None = None, nesting: Callable[[bytes], int] = depth
) -> Ping:
    """Reads one message.

    Args:
        value: the message as it came.
        max_bytes: the setting MAX_MESSAGE_BYTES.
        openers: how often [ and { stand in it, when that is known already.
        nesting: a faster way to the depth of a message.

    Raises:
        Unreadable: `too_large`, `too_deep`, `not_json` or `invalid`, judged in this order. `too_large` is also what holds more
            values than may be read, once its depth and its JSON are known to be in order.
    """
    if len(value) > max_bytes:
        raise Unreadable(Reason.TOO_LARGE, f"the message has {len(value):,} bytes, more than the {max_bytes:,} allowed")
    if not value.isascii():
        refuse_encoding(value)
    if len(value) > MAX_VALUES and is_crowded(value):
        refuse_depth(value, nesting)
        return _decode_crowd(value)
    try:
        ping = _ping_decoder.decode(value)
        if _has_long_fraction(value, ping):
            ping = _ping_decoder.decode(_LONG_FRACTION.sub(rb"\1", value))
        # Each compact entry or session opens two at the most that count for the depth of nothing else.
        if (count_openers(value) if openers is None else openers) - 2 * (
            len(ping.activity or ()) + len(ping.sessions or ())
        ) > MAX_DEPTH - 4:
            refuse_depth(value, nesting)
        return _check(ping)
    except msgspec.ValidationError as exc:
        refuse_depth(value, nesting)
        refuse_json(value)  # what is no JSON further on is not merely invalid here
        if "out of range" in str(exc):
            return _decode_leniently(value)
        raise Unreadable(Reason.INVALID, _sentence(exc)) from None
    except RecursionError:
        refuse_depth(value, nesting)
        raise
    except msgspec.DecodeError:
        refuse_depth(value, nesting)
        return _decode_without_surrogates(value)
    except (OverflowError, ValueError) as exc:
        raise Unreadable(Reason.INVALID, f"{exc} - at `$`") from None


_LONG_FRACTION = re.compile(rb"(\d[Tt ]\d\d:\d\d:\d\d\.\d{6})\d+")
"""A moment with more digits than microseconds have. They are cut off: rounded up, a moment could be on the next day."""

_RECORDED_AT = b'"recorded_at"'


def _has_long_fraction(value: bytes, ping: Ping) -> bool:
    if ping.sessions:
        return _LONG_FRACTION.search(value) is not None
    at = max(value.find(_RECORDED_AT), 0)
    return value.find(b".", at, at + 60) >= 0 and _LONG_FRACTION.search(value, at, at + 100) is not None


_LENIENT: Final = frozenset(
    field.name for field in msgspec.structs.fields(Ping) if Any in (field.type, *get_args(field.type))
)
"""Fields that may hold anything."""

_lenient_decoder = msgspec.json.Decoder(
    msgspec.defstruct(
        "LenientPing",
        [
            (field.name, Raw, Raw()) if field.name in _LENIENT
            else (field.name, field.type) if field.required
            else (field.name, field.type, field.default)
            for field in msgspec.structs.fields(Ping)
        ],
        kw_only=True,
    )
)  # fmt: skip


def _decode_leniently(value: bytes) -> Ping:
    """Reads a ping, and of a field that may hold anything no more than one text or number: the rest of it is unknown, as a number
    beyond every machine type is."""
    try:
        raw = _lenient_decoder.decode(value)
    except msgspec.MsgspecError as exc:
        raise Unreadable(Reason.INVALID, _sentence(exc)) from None
    fields = {name: getattr(raw, name) for name in Ping.__struct_fields__}
    return _check(Ping(**fields | {name: _scalar(fields[name]) for name in _LENIENT}))


def _scalar(raw: Raw) -> Any:
    """The text or number in a raw field; of an array or object that it is one."""
    text = memoryview(raw)
    return decode_value(raw) if not len(text) or text[0] not in b"[{" else [] if text[0] == ord("[") else {}


_fields_decoder = msgspec.json.Decoder(
    msgspec.defstruct("Fields", [(field.name, Raw, Raw()) for field in msgspec.structs.fields(Ping)])
)


def _decode_crowd(value: bytes) -> Ping:
    """Reads a message of more values than any field may have: what nobody reads may be as large as the message.

    Raises:
        Unreadable: `not_json`, `too_large` where a field that is read holds more than it may, or `invalid`.
    """
    mended = _readable(value)
    if mended is not value:
        _refuse_noncharacters(value)
    fields: Any
    try:
        fields = _fields_decoder.decode(mended)
    except msgspec.MsgspecError as exc:  # no object
        raise Unreadable(Reason.INVALID, _sentence(exc)) from None
    for name in ("counts", "usage_activity_by_stage_monthly", "redis_hll_counters", "users_by"):
        if is_crowded(bytes(getattr(fields, name))):
            raise too_many("values", MAX_VALUES, f"$.{name}")
    activity = bytes(fields.activity)
    if is_crowded(activity, MAX_ENTRIES, b"{"):
        raise too_many("entries", MAX_ENTRIES, "$.activity")
    if is_crowded(activity):
        try:
            decode_activities(activity)  # ends at what is no entry, where a list of anything would gather it
        except msgspec.MsgspecError as exc:
            raise Unreadable(Reason.INVALID, _sentence(exc).replace("`$", "`$.activity", 1)) from None
    read = _once(fields)
    ping = _decode_leniently(_LONG_FRACTION.sub(rb"\1", read) if len(fields.sessions) else read)
    if not ping.sessions and _has_long_fraction(read, ping):
        ping = _decode_leniently(_LONG_FRACTION.sub(rb"\1", read))
    if mended is not value and (path := _surrogate_path(ping)):
        raise _half_a_pair(path)
    return ping


def _once(fields: msgspec.Struct) -> bytes:
    """A message of the fields that are read, each once: of a key that stands twice, only the last was looked at."""
    raws = ((name, getattr(fields, name)) for name in fields.__struct_fields__)
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in raws if len(raw)) + b"}"


def _readable(value: bytes) -> bytes:
    """The message as msgspec can read it, without a tree of millions of objects. Raises `not_json` as `refuse_json` does."""
    try:
        _raw_decoder.decode(value)
    except msgspec.DecodeError:
        mended = _without_surrogates(value)
        try:
            _raw_decoder.decode(mended)
        except msgspec.DecodeError as exc:
            raise Unreadable(Reason.NOT_JSON, f"no JSON: {exc}") from None
        return mended
    return value


def decode_identity(value: bytes) -> PingIdentity | None:
    """The identity of a ping whose rest is invalid, None where it has none."""
    try:
        identity = _identity_decoder.decode(value) if not is_crowded(value) else _crowded_identity(value)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    return identity if identity.recorded_at >= EPOCH and _hostname_fits(identity.hostname) else None


def _crowded_identity(value: bytes) -> PingIdentity:
    raw = _raw_identity_decoder.decode(value)
    return PingIdentity(raw.uuid, raw.recorded_at, _scalar(raw.hostname), raw.namespace_id)


def decode_users(users: Raw) -> list[int | str]:
    """User ids of one activity entry: unsigned 64-bit integers or strings of 1 to 128 characters.

    Raises:
        msgspec.ValidationError: with the path inside the list.
    """
    ids = _users_decoder.decode(users)
    for index, user in enumerate(ids):
        if isinstance(user, int) and user > MAX_ID:
            raise msgspec.ValidationError(f"Expected `int` <= 2**64 - 1 - at `$[{index}]`")
    return ids


def activity_sentence(exc: msgspec.MsgspecError, entry: int, field: str = "") -> str:
    """The sentence of an error inside `activity[entry]` with its whole path."""
    return _sentence(exc).replace("`$", f"`$.activity[{entry}]{field}", 1)


def micros(instant: dt.datetime) -> int:
    """Microseconds since 1970, UTC."""
    delta = instant - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def text(value: object) -> str | None:
    """A string of GitLab's own fields; None for null, another type and an empty string."""
    return value if isinstance(value, str) and value else None


def count(value: object) -> int | None:
    """A count of GitLab's own fields; None (unknown) for null, another type and what is negative or beyond 64 bits."""
    return value if type(value) is int and 0 <= value <= MAX_INT64 else None


def hostname(value: object) -> str:
    """The host name, '' where it is absent or no string."""
    return value if isinstance(value, str) else ""


def decode_value(raw: Raw) -> Any:
    """The value of a raw field, None where it is absent. A number beyond every machine type is a float, infinite if need be."""
    if not len(raw):
        return None
    try:
        return _any_decoder.decode(raw)
    except msgspec.ValidationError:  # 1e400, or an integer of thousands of digits
        return json.loads(bytes(raw), parse_int=_integer)


def decode_members(raw: Raw, names: Collection[str]) -> dict[str, Any]:
    """Those of the named members that an object in a raw field has; {} where there is no object."""
    if not len(raw):
        return {}
    try:
        members = _members_decoder.decode(raw)
    except msgspec.ValidationError:
        return {}
    return {name: decode_value(members[name]) for name in names if name in members}


def is_text(name: str) -> bool:
    """Whether a name in a raw field is text that can be kept: not empty, and it held no half of a surrogate pair."""
    return bool(name) and _NONCHARACTER not in name


def users_by_rows(ping: Ping) -> list[tuple[str, str, int]] | None:
    """What a ping tells of its registered users: (dimension, value, users), 0 too. None where it has no `users_by`."""
    if ping.users_by is None:
        return None
    return [
        (dimension, value, users)
        for dimension in ping.users_by.__struct_fields__
        for value, users in (getattr(ping.users_by, dimension) or {}).items()
    ]


def count_leaves(counts: Raw) -> tuple[int, int]:
    """Numeric leaves anywhere under `counts`: (of 0 or more, negative). No booleans."""
    known = failed = 0
    root = decode_value(counts)
    todo = [root] if isinstance(root, (dict, list)) else []
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, (int, float)) and not isinstance(node, bool):
            known, failed = (known + 1, failed) if node >= 0 else (known, failed + 1)
    return known, failed


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a ping, made from the models that read it: our extension strictly, GitLab's fields with
    any value."""
    ping = msgspec.defstruct(
        "Ping",
        # msgspec cannot write the default of a raw field, an empty one, as JSON.
        [(f.name, f.type) if f.required else (f.name, f.type, None) for f in msgspec.structs.fields(Ping)],
        namespace={
            "__doc__": "GitLab's Service Ping with an extension for exact figures. GitLab's own fields may be absent, null or "
            "of any type: what cannot be used is unknown. The extension is strict. Other fields are ignored."
        },
    )
    _, models = msgspec.json.schema_components((ping, Activity), ref_template="#/$defs/{name}")
    root = models.pop("Ping") | {"title": "usage-pings", "additionalProperties": True}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": models}


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 1_000 else float(digits)  # Python refuses integers of more than 4,300 digits


def _check(ping: Ping) -> Ping:
    if ping.recorded_at < EPOCH:
        raise Unreadable(Reason.INVALID, "recorded_at lies before 1970 - at `$.recorded_at`")
    if not _hostname_fits(ping.hostname):
        raise Unreadable(Reason.INVALID, f"the host name has more than {MAX_HOSTNAME} characters - at `$.hostname`")
    for index, session in enumerate(ping.sessions or ()):
        if isinstance(session.user, int) and session.user > MAX_ID:
            raise Unreadable(Reason.INVALID, f"Expected `int` <= 2**64 - 1 - at `$.sessions[{index}].user`")
        if session.at < EPOCH:
            raise Unreadable(Reason.INVALID, f"the session lies before 1970 - at `$.sessions[{index}].at`")
    return ping


def _hostname_fits(value: object) -> bool:
    return len(hostname(value)) <= MAX_HOSTNAME


def _sentence(exc: Exception) -> str:
    sentence = str(exc)
    return sentence if "- at `$" in sentence else f"{sentence} - at `$`"


def refuse_depth(value: bytes, nesting: Callable[[bytes], int] = depth) -> None:
    """Raises `too_deep` for a message nested deeper than MAX_DEPTH, JSON or not.

    Args:
        nesting: a faster way to the depth.
    """
    if count_openers(value) > MAX_DEPTH and (deepest := nesting(value)) > MAX_DEPTH:
        raise Unreadable(Reason.TOO_DEEP, f"nested {deepest:,} levels deep, more than the {MAX_DEPTH} allowed")


def refuse_encoding(value: bytes) -> None:
    """Raises `not_json` for what is not UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError as exc:
        raise Unreadable(Reason.NOT_JSON, f"not UTF-8 at byte {exc.start}") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def refuse_json(value: bytes) -> None:
    """Raises `not_json` for what the standard library, whose grammar is the judge, cannot read."""
    if is_crowded(value):
        _readable(value)
        return
    try:
        # Numbers and objects are True: there may be millions of them, and nobody asks for any.
        json.loads(value.decode(), parse_constant=_refuse_constant, parse_int=bool, parse_float=bool, object_hook=bool)
    except json.JSONDecodeError as exc:
        raise Unreadable(Reason.NOT_JSON, f"no JSON: {exc.msg} at character {exc.pos}") from None
    except UnicodeDecodeError as exc:
        raise Unreadable(Reason.NOT_JSON, f"not UTF-8 at byte {exc.start}") from None
    except ValueError as exc:
        raise Unreadable(Reason.NOT_JSON, f"no JSON: {exc}") from None


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""An escape; half a surrogate pair is in its group."""

_NONCHARACTER = "\ufdd0"
_ESCAPED_NONCHARACTER = re.compile(rb"\\u[fF][dD][dD]0")
_TEXTS = (
    "uuid", "hostname", "namespace_id", "namespace_plan", "version", "edition", "license_plan", "license_subscription_id",
    "license_sha256", "license_md5",
)  # fmt: skip


def _decode_without_surrogates(value: bytes) -> Ping:
    """Half a surrogate pair is allowed by JSON's grammar and is no text: in a key or field that we do not read it is out
    of the way, in one that we read it is invalid."""
    refuse_json(value)
    _refuse_noncharacters(value)
    try:
        ping = _check(_ping_decoder.decode(_without_surrogates(value)))
    except msgspec.MsgspecError as exc:
        raise Unreadable(Reason.INVALID, _sentence(exc)) from None
    if path := _surrogate_path(ping):
        raise _half_a_pair(path)
    return ping


def _refuse_noncharacters(value: bytes) -> None:
    """What stands in place of half a pair must not be there by itself."""
    if _NONCHARACTER.encode() in value or _ESCAPED_NONCHARACTER.search(value):
        raise _half_a_pair("$")


def _half_a_pair(path: str) -> Unreadable:
    return Unreadable(Reason.INVALID, f"a string holds half a surrogate pair - at `{path}`")


def _without_surrogates(value: bytes) -> bytes:
    """The message with a character that stands for nothing in place of each half of a pair."""
    halves = value.count(b"\\ud") + value.count(b"\\uD")
    if not halves:
        return value
    if halves > MAX_VALUES:
        raise too_many("escaped halves of pairs", MAX_VALUES)
    pieces, at = [], 0
    for escape in _ESCAPE.finditer(value):
        if escape[1] is not None:
            pieces += [value[at : escape.start()], _NONCHARACTER.encode()]
            at = escape.end()
    return b"".join([*pieces, value[at:]])


def _surrogate_path(ping: Ping) -> str | None:
    for name in _TEXTS:
        if _NONCHARACTER in str(getattr(ping, name)):
            return f"$.{name}"
    for index, raw in enumerate(ping.activity or ()):
        if _NONCHARACTER.encode() in bytes(raw):
            return f"$.activity[{index}]"
    for index, session in enumerate(ping.sessions or ()):
        if any(_NONCHARACTER in str(part) for part in (session.user, session.stage, session.feature)):
            return f"$.sessions[{index}]"
    if ping.users_by is not None and _NONCHARACTER in repr(msgspec.to_builtins(ping.users_by)):
        return "$.users_by"
    return None
