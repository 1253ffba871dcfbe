"""Personal fields become null, every other byte stays."""

from __future__ import annotations

import pytest

from schemas.crowd import MAX_VALUES
from streams.ledger.redaction import _crowded_spans, _spans, redact
from tests.schemas.test_crowd import many


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (b'{"a": 1}', b'{"a": 1}', []),
        (b'{"licensee": {"Name": "A, }"}, "b": 2 }', b'{"licensee": null, "b": 2 }', ["licensee"]),
        (b' {"x":[1,{"y":"}"}],"license_key" : "k" }\n', b' {"x":[1,{"y":"}"}],"license_key" : null }\n', ["license_key"]),
        (b'{"licensee":1,"licensee":[2],"license_key":"k"}', b'{"licensee":null,"licensee":null,"license_key":null}', ["license_key", "licensee"]),
        (b'{"licensee":null}', b'{"licensee":null}', []),
        (b'{"licens\\u0065e":"x"}', b'{"licens\\u0065e":null}', ["licensee"]),
        ('{"é":"ü","licensee":"ñ"}'.encode(), '{"é":"ü","licensee":null}'.encode(), ["licensee"]),
        (b'{"n":1' + b"0" * 5000 + b',"licensee":"x"}', b'{"n":1' + b"0" * 5000 + b',"licensee":null}', ["licensee"]),
        (b'{"licensee": "cut', b'{"licensee": "cut', []),
        (b'["licensee"]', b'["licensee"]', []),
        (b'{"licensee":"\xff"}', b'{"licensee":"\xff"}', []),
    ],
)  # fmt: skip
def test_redact(before: bytes, after: bytes, fields: list[str]) -> None:
    assert redact(before) == (after, fields)


@pytest.mark.parametrize(
    "text",
    [
        '{"licensee": {"Name": "A, }"}, "b": 2 }', ' {"x":[1,{"y":"}"}],"license_key" : "k" }\n', "{ }", "{}", '["licensee"]',
        '{"licensee":1,"licensee":[2],"license_key":"k"}', '{"licensee":null}', '{"licens\\u0065e":"x"}', '{"a":1,"b":2}',
        '{"licensee":-1.5e3,"a":[[[[]]],{"licensee":4}],"license_key":true}', '{"a":"\\"","licensee":"\\\\"}',
        '{"\\u006c\\u0069\\u0063\\u0065\\u006E\\u0073\\u0065\\u0065":1,"licens\\u00656":2,"licens\\u0065":3,"licensee\\n":4}',
        '{"l\\u0269censee":1,"":2,"licensee":"","l":null,"\\u006cicense_key" :\tnull , "license_key":[] }',
        '{"a":1,"licensee":2,"b":3,"license_key":{},"x":[],"licensee":"x"}', '{"licensee_":1,"xlicensee":2,"licensee" : 3}',
    ],
)  # fmt: skip
def test_secrets_are_found_in_a_crowd_as_elsewhere(text: str) -> None:
    assert _crowded_spans(text.encode()) == _spans(text)


@pytest.mark.parametrize("levels", [1, 150, 900])
def test_a_crowd_may_be_nested_deep(levels: int) -> None:
    deep = b'{"a":[' + many(b"[" * levels + b"]" * levels, 2 * MAX_VALUES // levels) + b'],"licensee":3}'
    assert redact(deep) == (deep.replace(b":3", b":null"), ["licensee"])


def test_a_crowded_message_is_redacted() -> None:
    crowd = '"é💡":['.encode() + many('["💡é"]'.encode(), 3 * MAX_VALUES) + b"]"
    assert redact(b'{"licensee":{"a":[1]},' + crowd + b"}") == (b'{"licensee":null,' + crowd + b"}", ["licensee"])
    assert redact(b'{"x":"\xff","licensee":1,' + crowd + b"}")[1] == []
    assert redact(b'{"licensee":1,' + crowd) == (b'{"licensee":1,' + crowd, [])
