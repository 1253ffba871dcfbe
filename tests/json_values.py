"""JSON values, and texts that spell them."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tests.oracle import billing as oracle

NUMERALS = [
    ["1", "1.0", "1e0", "10e-1", "0.1e1", "1E+0", "1.000"],
    ["0", "-0", "0.0", "-0e5", "0e99999999999999999999"],
    ["1.5e99999999999999999", "15e99999999999999998"],
    ["0.1", "1e-1", "0.10"],
    ["0.1000000000000000055511151231257827021181583404541015625"],
    ["-1.5", "-15e-1"],
    ["9007199254740993", "9007199254740993.0"],
    ["9007199254740992"],
    ["18446744073709551616", "1.8446744073709551616e19"],
    ["1" + "0" * 4299, "1e4299"],
    ["1" + "0" * 4300, "1e4300", "0.1e4301"],
    ["1" + "0" * 9000, "1.0e9000"],
    ["1e400", "10e399"],
    ["1e401"],
    ["1e-400"],
]
"""Each list is one number."""

EQUAL_OR_NOT = [
    ('{"a":1,"b":[1,{"c":2,"d":3}]}', '{ "b" : [1.0, {"d":3,"c":2e0}], "a":1 }', True),
    ('{"a":1,"a":2}', '{"a":2}', True),
    ('{"a":"\\ud800","a":1}', '{"a":1}', True),
    ('{"a":"\\u00e9\\/"}', '{"a":"é/"}', True),
    ('{"a":"\\ud83d\\ude00"}', '{"a":"😀"}', True),
    ('{"a":"\\ud800"}', '{"a":"\\uD800"}', True),
    ('{"a":{"\\ud800":1,"b":1.0}}', '{"a":{"b":1,"\\ud800":1}}', True),
    ('{"a":"\\ud800"}', '{"a":"\\udc00"}', False),
    ('{"a":"\\ud800"}', '{"a":"\\\\ud800"}', False),
    ('{"a":"\\ud800\\\\ud800"}', '{"a":"\\\\ud800\\ud800"}', False),
    ('{"a":"\\udc00\\ud800"}', '{"a":"\\ud800\\udc00"}', False),
    ('{"a":1}', '{"a":"1"}', False),
    ('{"a":1}', '{"a":true}', False),
    ('{"a":0}', '{"a":false}', False),
    ('{"a":null}', "{}", False),
    ('{"a":""}', '{"a":null}', False),
    ('{"a":[]}', '{"a":{}}', False),
    ('{"a":[1,2]}', '{"a":[2,1]}', False),
    ('{"a":"é"}', '{"a":"e\u0301"}', False),
    ('{"a":1,"b":2}', '{"a":2,"b":1}', False),
    ('{"a":"x\\u0000"}', '{"a":"x"}', False),
    ('{"a":0.1}', '{"a":0.1000000000000000055511151231257827}', False),
    ('{"a":9007199254740993}', '{"a":9007199254740992.0}', False),
]
"""Two texts, and whether they have the same values."""

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
    | st.text(st.characters(codec=None), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None), max_size=3), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def spelled(value: Any, dice: random.Random) -> str:
    """The value as JSON text, each time another one."""
    space = dice.choice(["", " ", "\n"])
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | Decimal):
        return dice.choice(
            [format(Decimal(value), "f"), f"{Decimal(value):f}" + "e0", numeral_with_exponent(value, dice)]
        )
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=dice.random() < 0.5 or not value.isprintable())
    if isinstance(value, list):
        return "[" + ",".join(space + spelled(part, dice) for part in value) + space + "]"
    names = list(value)
    dice.shuffle(names)
    members = [f"{spelled(name, dice)}{space}:{spelled(value[name], dice)}" for name in names]
    if names and dice.random() < 0.3:  # a name that stands twice: the last one counts
        members.insert(0, f"{spelled(names[-1], dice)}:[7]")
    return "{" + space + ",".join(members) + "}"


def spellings(value: Any, dice: random.Random) -> list[bytes]:
    """Up to three texts of the value; none where it holds half a surrogate pair that is not escaped."""
    texts = [spelled(value, dice).encode("utf-8", "surrogatepass") for _ in range(3)]
    return [text for text in texts if text.decode("utf-8", "replace").encode() == text]


def numeral_with_exponent(value: int | Decimal, dice: random.Random) -> str:
    sign, digits, exponent = Decimal(value).as_tuple()
    assert isinstance(exponent, int)
    zeros = dice.randrange(3) if value else 0
    return f"{'-' * sign}{''.join(map(str, digits))}{'0' * zeros}{dice.choice('eE')}{exponent - zeros}"


def values_of(text: bytes) -> list[Any] | None:
    """A value as the oracle has it, in a list, None where it is no UTF-8."""
    try:
        return [json.loads(text.decode(), parse_int=oracle.number, parse_float=oracle.number)]
    except UnicodeDecodeError:
        return None
