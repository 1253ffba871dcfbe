"""What a ping may be: GitLab's fields leniently, our extension strictly."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

import jsonschema
import msgspec
import pytest

from schemas.dead_letters import Reason, Unreadable
from schemas.ping import (
    MAX_DEPTH,
    Ping,
    count,
    count_leaves,
    decode_identity,
    decode_ping,
    decode_users,
    decode_value,
    depth,
    json_schema,
    micros,
    text,
    users_by_rows,
)
from tests.oracle import usage as oracle
from tests.strange import strange_records

LIMIT = 8 * 1024 * 1024


def ping(tail: str = "") -> bytes:
    return ('{"uuid":"u","recorded_at":"2026-01-02T03:04:05.678Z"' + (f",{tail}" if tail else "") + "}").encode()


def test_the_least_there_can_be() -> None:
    found = decode_ping(ping(), LIMIT)
    assert (found.uuid, found.hostname, found.namespace_id) == ("u", None, None)
    assert micros(found.recorded_at) == int(dt.datetime(2026, 1, 2, 3, 4, 5, 678_000, dt.UTC).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("value", "reason", "sentence"),
    [
        (b"", Reason.NOT_JSON, "Expecting value"),
        (ping()[:-5], Reason.NOT_JSON, "character"),
        (b"\xff\xfe", Reason.NOT_JSON, "not UTF-8 at byte 0"),
        (ping('"x":NaN'), Reason.NOT_JSON, "NaN is no JSON number"),
        (ping('"x":-Infinity'), Reason.NOT_JSON, "Infinity"),
        (ping('"uuid":7,"x":NaN'), Reason.NOT_JSON, "NaN"),
        (b"[]", Reason.INVALID, "Expected `object`, got `array` - at `$`"),
        (b"{}", Reason.INVALID, "missing required field `uuid`"),
        (ping('"uuid":""'), Reason.INVALID, "$.uuid"),
        (ping('"uuid":"' + "u" * 65 + '"'), Reason.INVALID, "$.uuid"),
        (ping('"recorded_at":"2026-01-02"'), Reason.INVALID, "$.recorded_at"),
        (ping('"recorded_at":"2026-01-02T03:04:05"'), Reason.INVALID, "timezone"),
        (ping('"recorded_at":"1969-12-31T23:59:59Z"'), Reason.INVALID, "1970"),
        (ping('"recorded_at":"0001-01-01T00:00:00+14:00"'), Reason.INVALID, "1970"),
        (ping('"hostname":"' + "h" * 256 + '"'), Reason.INVALID, "$.hostname"),
        (ping('"hostname":"\\ud800"'), Reason.INVALID, "surrogate"),
        (ping('"version":"\\ud800"'), Reason.INVALID, "$.version"),
        (ping('"namespace_id":9970'), Reason.INVALID, "$.namespace_id"),
        (ping('"activity":{}'), Reason.INVALID, "$.activity"),
        (ping('"sessions":[{"user":-1,"at":"2026-01-01T00:00:00Z","stage":"s","feature":"f"}]'), Reason.INVALID, "$.sessions[0].user"),
        (ping('"sessions":[{"user":18446744073709551616,"at":"2026-01-01T00:00:00Z","stage":"s","feature":"f"}]'), Reason.INVALID, "$.sessions[0].user"),
        (ping('"users_by":{"persona":{"developer":-1}}'), Reason.INVALID, "$.users_by.persona"),
        (ping('"x":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH), Reason.TOO_DEEP, "101 levels"),
        (ping('"x":' + "[" * 100_000 + "]" * 100_000), Reason.TOO_DEEP, "100,001 levels"),
        (ping('"usage_activity_by_stage_monthly":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH), Reason.TOO_DEEP, "101 levels"),
        (ping('"redis_hll_counters":{"\\ud800":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}"), Reason.TOO_DEEP, "102 levels"),
        (ping('"usage_activity_by_stage_monthly":{"\\q":1}'), Reason.NOT_JSON, "escape"),
        (ping('"x":"' + "x" * LIMIT + '"'), Reason.TOO_LARGE, "bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken(value: bytes, reason: Reason, sentence: str) -> None:
    with pytest.raises(Unreadable) as caught:
        decode_ping(value, LIMIT)
    assert caught.value.reason is reason
    assert sentence in caught.value.sentence


@pytest.mark.parametrize(
    "tail",
    [
        '"x":"\\ud800"', '"x":"\\\\ud800"', '"x":"\\ud83d\\ude00"', '"x":1' + "0" * 5_000, '"hostname":5', '"version":{}',
        '"active_user_count":1' + "0" * 1_000, '"activity":null', '"x":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1),
        '"x":"[[[' + "[" * 500 + '"', '"usage_activity_by_stage_monthly":{"\\ud800":{"\\udfff":1}}',
        '"redis_hll_counters":{"\\ud800":"\\udfff"}', '"counts":{"\\ud800":1e400}',
    ],
)  # fmt: skip
def test_what_is_out_of_the_way(tail: str) -> None:
    assert decode_ping(ping(tail), LIMIT).uuid == "u"


def test_unknown_values_are_none_and_never_zero() -> None:
    assert [count(value) for value in (0, 7, -1, -1000, 1.0, True, "7", None, 2**63)] == [0, 7] + [None] * 7
    assert [text(value) for value in ("x", "", None, 5, [])] == ["x", None, None, None, None]


def test_counters_are_numeric_leaves_of_any_depth() -> None:
    counts = msgspec.Raw(b'{"a":1,"b":{"c":0,"d":[2.5,-1,true,null,"3"]},"e":-1000}')
    assert count_leaves(counts) == (3, 2)
    assert count_leaves(msgspec.Raw(b"55")) == (0, 0)
    assert count_leaves(msgspec.Raw()) == (0, 0)


def test_numbers_that_no_machine_type_holds_are_counters_too() -> None:
    long = b"1" + b"0" * 5_000
    assert count_leaves(msgspec.Raw(b'{"a":' + long + b',"b":-' + long + b',"c":1e400,"d":-1e400}')) == (2, 2)
    assert decode_value(msgspec.Raw(b"[7,1e400]")) == [7, float("inf")]


@pytest.mark.parametrize(
    "users",
    [b"[1.0]", b"[-1]", b"[true]", b'[""]', b"[18446744073709551616]", b"[null]", b"{}", b'["' + b"x" * 129 + b'"]'],
)
def test_users_that_are_none(users: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_users(msgspec.Raw(users))


def test_users_of_both_forms() -> None:
    assert decode_users(msgspec.Raw(b'[0, 18446744073709551615, "b7e1c0"]')) == [0, 2**64 - 1, "b7e1c0"]


def test_the_identity_of_an_invalid_ping_is_read_and_of_one_without_is_not() -> None:
    identity = decode_identity(ping('"hostname":"h","activity":5'))
    assert identity is not None and (identity.uuid, identity.hostname) == ("u", "h")
    assert decode_identity(b'{"uuid":"u"}') is None
    assert decode_identity(b"\xff") is None


@pytest.mark.parametrize(
    ("value", "deepest"),
    [
        (b"", 0), (b"{}", 1), (b"[[]]", 2), (b"[][]", 1), (b']"', 0), (b'"[[["', 0), (b'["]",[', 2), (b'"\\"[[" [', 1),
        (b'"[[', 2), (b'"\\"[[', 2), (b'"\\', 0), (b"\xff[", 1),
    ],
)  # fmt: skip
def test_depth_of_any_bytes(value: bytes, deepest: int) -> None:
    assert depth(value) == deepest


def test_a_string_without_its_end_is_judged_in_one_pass() -> None:
    start = time.process_time()
    with pytest.raises(Unreadable) as caught:
        decode_ping(b'"' + b'\\"' * 1_000_000, LIMIT)
    assert caught.value.reason is Reason.NOT_JSON
    assert time.process_time() - start < 10  # looking for its end from each quote in it takes hours


def test_users_by_is_rows_and_none_where_it_is_absent() -> None:
    told = '"users_by":{"persona":{"developer":120,"designer":0},"acquisition_channel":{"paid":12},"shoe_size":{"9":1}}'
    assert users_by_rows(decode_ping(ping(told), LIMIT)) == [
        ("persona", "developer", 120), ("persona", "designer", 0), ("acquisition_channel", "paid", 12),
    ]  # fmt: skip
    for empty in ("{}", '{"persona":null}', '{"persona":{}}'):
        assert users_by_rows(decode_ping(ping(f'"users_by":{empty}'), LIMIT)) == []
    for absent in ("", '"users_by":null'):
        assert users_by_rows(decode_ping(ping(absent), LIMIT)) is None


def branch(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """What a schema asks of a value of this JSON type."""
    choices: list[dict[str, Any]] = schema.get("anyOf", [schema])
    return next(choice for choice in choices if choice.get("type") == kind)


def test_the_schema_of_a_ping() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["type"] == "object" and schema["additionalProperties"] is True
    assert schema["required"] == ["uuid", "recorded_at"]
    assert list(schema["properties"]) == list(Ping.__struct_fields__)
    assert json.loads(json.dumps(schema)) == schema
    models = schema["$defs"]
    assert set(models) == {"Activity", "Session", "UsersBy"}
    for model in (schema, *models.values()):
        assert model["description"] and all(field["description"] for field in model["properties"].values())


def test_the_schema_leaves_gitlabs_fields_free_and_holds_the_extension_to_the_letter() -> None:
    schema = json_schema()
    fields, models = schema["properties"], schema["$defs"]
    ours = {"uuid", "recorded_at", "namespace_id", "namespace_plan", "activity", "sessions", "users_by"}
    for name in fields.keys() - ours:
        assert fields[name].keys() - {"description", "default"} == ({"maxLength"} if name == "hostname" else set())
    assert fields["recorded_at"]["format"] == models["Session"]["properties"]["at"]["format"] == "date-time"
    assert models["Activity"]["properties"]["date"]["format"] == "date"
    assert (fields["uuid"]["minLength"], fields["uuid"]["maxLength"], fields["hostname"]["maxLength"]) == (1, 64, 255)
    for name in ("namespace_id", "namespace_plan"):
        assert (branch(fields[name], "string")["maxLength"], branch(fields[name], "null")) == (64, {"type": "null"})
    assert branch(fields["activity"], "array")["items"] == {"$ref": "#/$defs/Activity"}
    assert branch(fields["sessions"], "array")["items"] == {"$ref": "#/$defs/Session"}
    assert {"$ref": "#/$defs/UsersBy"} in fields["users_by"]["anyOf"]
    assert models["Activity"]["required"] == ["date", "stage", "feature", "users"]
    assert models["Session"]["required"] == ["user", "at", "stage", "feature"]
    for user in (models["Activity"]["properties"]["users"]["items"], models["Session"]["properties"]["user"]):
        number, name = branch(user, "integer"), branch(user, "string")
        assert (number["minimum"], number["maximum"]) == (0, 2**64 - 1)
        assert (name["minLength"], name["maxLength"]) == (1, 128)
    sessions = branch(models["Activity"]["properties"]["sessions"], "integer")
    assert (sessions["minimum"], sessions["maximum"]) == (0, 2**63 - 1)
    persona = branch(models["UsersBy"]["properties"]["persona"], "object")
    assert persona["propertyNames"]["maxLength"] == 256 and "minLength" not in persona["propertyNames"]
    assert persona["additionalProperties"] == {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1" + b"0" * 5000])
@pytest.mark.parametrize("field", [b"version", b"hostname", b"active_user_count", b"license_md5"])
def test_a_number_beyond_every_type_in_a_field_that_may_hold_anything_is_unknown(field: bytes, number: bytes) -> None:
    value = b'{"uuid":"u","recorded_at":"2026-01-01T00:00:00Z","edition":"EE","' + field + b'":' + number + b"}"
    ping = decode_ping(value, 10_000)
    assert (ping.uuid, ping.edition, ping.version if field != b"version" else None) == ("u", "EE", None)
    assert count(ping.active_user_count) is None
    with pytest.raises(Unreadable) as caught:
        decode_ping(value[:-1] + b',"sessions":[{"user":1e400}]}', 10_000)
    assert caught.value.reason is Reason.INVALID


@pytest.mark.parametrize("digits", ["", ".5", ".999999", ".9999999", ".999999999999999"])
def test_digits_behind_microseconds_are_cut_off(digits: str) -> None:
    moment = f"2026-01-01T23:59:59{digits}+00:00"
    document = {
        "recorded_at": moment,
        "uuid": "u",
        "sessions": [{"user": 1, "at": moment, "stage": "s", "feature": "f"}],
    }
    for some in (document, {name: document[name] for name in ("uuid", "recorded_at")}):
        ping = decode_ping(json.dumps(some).encode(), 10_000)
        for instant in (ping.recorded_at, *(session.at for session in ping.sessions or ())):
            assert instant.date() == dt.date(2026, 1, 1)
            assert instant.microsecond == int(digits.lstrip(".")[:6].ljust(6, "0"))


def test_the_schema_takes_what_is_read_and_refuses_what_is_invalid() -> None:
    """Of strange pings, as the oracle reads them; it knows more than a schema can say (calendar days, half surrogates)."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    taken = refused = 0
    for record in strange_records(3, 400, last_day=dt.date(2026, 3, 20)):
        try:
            document = oracle.read_json(record.value, oracle.Rules(dt.date(2026, 3, 20)))
        except oracle.Dead:
            continue
        try:
            oracle.read_identity(document)
            oracle.read_entries(document)
        except oracle.Dead:
            refused += not validator.is_valid(document)
            continue
        errors = [error.message for error in validator.iter_errors(document)]
        assert not errors, (errors, record.value[:300])
        taken += 1
    assert taken > 200 and refused > 20
