"""Digests of messages: equal for equal values, by the kernel and by a slow form of it; what is JSON and what is plain."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ping import MAX_DEPTH, depth
from streams.ledger.billing import digests
from streams.ledger.billing.digests import MALFORMED, ODD, PLAIN, digests_of
from tests.json_values import EQUAL_OR_NOT, NUMERALS, VALUES, spelled, spellings, values_of

WORD = 2**64 - 1


def mix(bits: int) -> int:
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & WORD
    return bits ^ (bits >> 31)


def fnv(data: bytes) -> int:
    hashed = digests.BASIS
    for byte in data:
        hashed = (hashed ^ byte) * digests.PRIME & WORD
    return hashed


class Members(list[tuple[str, Any]]):
    """An object as it is written."""


def slow_digest(value: Any) -> int:
    """Of a decoded value: numbers as Decimals, objects as Members."""
    if value is None or isinstance(value, bool):
        return mix({None: digests.NULL, True: digests.TRUE, False: digests.FALSE}[value])
    if isinstance(value, str):
        return mix(fnv(value.encode("utf-8", "surrogatepass")) ^ digests.STRING)
    if isinstance(value, Decimal):
        if not value:
            return mix(digests.NUMBER)
        sign, digits, power = value.as_tuple()
        assert isinstance(power, int)
        text = "".join(map(str, digits)).lstrip("0")
        power += len(text) - len(text.rstrip("0"))
        return mix(mix(fnv(text.rstrip("0").encode()) ^ digests.NUMBER) + 2 * power + sign & WORD)
    if isinstance(value, Members):
        total = 0
        for name, part in dict(value).items():
            hashed = slow_digest(name)
            total += mix(hashed * digests.PRIME + slow_digest(part) & WORD)
        return mix(total & WORD ^ digests.OBJECT)
    gathered = digests.ARRAY
    for part in value:
        gathered = mix(gathered * digests.PRIME + slow_digest(part) & WORD)
    return mix(gathered)


def decoded(text: bytes) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal, object_pairs_hook=Members)


def digest(text: str | bytes) -> int:
    """Of JSON, which it must be."""
    found, forms = digests_of([text.encode() if isinstance(text, str) else text])
    assert forms[0] != MALFORMED, text
    return found[0]


def test_numbers_are_equal_by_value_however_they_are_spelled() -> None:
    found = [{digest(numeral) for numeral in some} for some in NUMERALS]
    assert [len(some) for some in found] == [1] * len(NUMERALS)
    assert len(set.union(*found)) == len(NUMERALS)


@pytest.mark.parametrize(("one", "other", "equal"), EQUAL_OR_NOT)
def test_what_is_equal(one: str, other: str, equal: bool) -> None:
    assert (digest(one) == digest(other)) is equal


@settings(max_examples=200)
@given(VALUES, st.randoms(use_true_random=False))
def test_the_digest_knows_no_spelling_and_is_that_of_the_slow_form(value: Any, dice: random.Random) -> None:
    texts = spellings(value, dice)
    found = {digest(text) for text in texts}
    assert found == {slow_digest(decoded(text)) for text in texts}
    assert len(found) <= 1


@settings(max_examples=300)
@given(VALUES, VALUES)
def test_equal_digests_mean_equal_values(one: Any, other: Any) -> None:
    dice = random.Random(1)
    texts = [spelled(value, dice).encode("utf-8", "surrogatepass") for value in (one, other)]
    documents = [values_of(text) for text in texts]
    if None not in documents:
        assert (digest(texts[0]) == digest(texts[1])) is (documents[0] == documents[1])


@pytest.mark.parametrize("count", [0, 1, digests.FEW, digests.FEW + 1, 200])
def test_objects_of_any_size(count: int) -> None:
    dice = random.Random(count)
    members = [(f"n{dice.randrange(count)}", k) for k in range(count)]
    text = "{" + ",".join(f'"{name}":{k}' for name, k in members) + "}"
    last = list(dict(members).items())
    dice.shuffle(last)
    assert digest(text) == digest(json.dumps(dict(last))) == slow_digest(decoded(text.encode()))
    once = len(last) == count
    assert digests_of([text.encode()])[1] == [PLAIN if once else ODD]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('{"a":1.50e3,"b":[true,false,null,{}],"c":"é"}', PLAIN),
        (' [ 1 , "" ] ', PLAIN),
        ('{"a":1,"b":{"a":2}}', PLAIN),
        ('{"a":1,"a":1}', ODD),
        ('{"a":"\\n"}', ODD),
        ('{"\\u0061":1}', ODD),
        ('"\\ud800"', ODD),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, PLAIN),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), MALFORMED),
    ],
)
def test_what_a_message_is(text: str, form: int) -> None:
    assert digests_of([text.encode()])[1] == [form]


BROKEN = (
    "", " ", "{", "}", "[", "]", '"', '"a', "{]", "[}", "[1}", '{"a":1]', "[1,]", "[,1]", "[1 2]", '{"a"}', '{"a":}', '{"a":1,}', "{,}",
    '{"a" 1}', "{1:2}", '{"a":1 "b":2}', "1 2", '{} "x"', "{}{}", "nul", "nulll", "True", "NaN", "Infinity", "-", "+1", "01", "-01",
    "1.", ".5", "1.e5", "1e", "1e+", "0x1", "1_0", "--1", "'a'", '"\t"', '"\\"', "\ufeff{}", "/**/{}", ":", ",",
)  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_json_is_malformed_and_spoils_no_neighbour(text: str) -> None:
    values = [b'{"a":1}', text.encode(), b'["b"]']
    found, forms = digests_of(values)
    assert forms in ([PLAIN, MALFORMED, PLAIN], [PLAIN, ODD, PLAIN])
    assert (forms[1] == MALFORMED) == (not is_json(text.encode()))
    assert [found[0], found[2]] == [digest(values[0]), digest(values[2])]


def is_json(text: bytes) -> bool:
    def never(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text.decode("utf-8", "replace"), parse_constant=never)
    except (ValueError, RecursionError):
        return False
    return True


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        '"a"',
        '"b"',
        "1",
        "0",
        "-",
        ".5",
        "e1",
        "true",
        "null",
        " ",
        "\\",
        "\\u0061",
        "\n",
    ]
)


@settings(max_examples=500)
@given(st.lists(st.lists(PIECES, max_size=12).map("".join), min_size=1, max_size=4))
def test_any_text_is_json_or_not_as_others_say(texts: list[str]) -> None:
    values = [text.encode() for text in texts]
    found, forms = digests_of(values)
    escapes = [text.count("\\u0061") == text.count("\\") for text in texts]
    for value, one, form, known in zip(values, found, forms, escapes, strict=True):
        if known:  # an escape that is none is told by whoever decodes the message
            assert (form != MALFORMED) == (is_json(value) and depth(value) <= MAX_DEPTH)
        assert digests_of([value]) == ([one], [form])
