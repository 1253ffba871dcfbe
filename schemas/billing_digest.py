"""JSON values and their digest: two documents are the same message when their values are equal, however they are spelled.

The order of names in an object and the spelling of a number do not matter (1, 1.0 and 1e0 are equal), strings count
to the letter, and of a name that stands twice the last one counts. Numbers keep all their digits: none becomes a float.
"""

from __future__ import annotations

import decimal
import json
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Raw

from schemas.ping import refuse_json

EXACT: Final = decimal.Context(prec=decimal.MAX_PREC, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
"""Arithmetic that rounds nothing by itself."""

_MAX_DIGITS: Final = 4_300
"""Integers up to here are written out: what Python, and msgspec with it, reads as an int. Longer ones have an exponent."""


def decode(value: bytes) -> Any:
    """The values of a message that is UTF-8 and not too deep.

    Integers are ints, or Decimals beyond 4,300 digits. All other numbers are Decimals, those that are integers too, or
    Raw where even a Decimal has no room for the exponent.

    Raises:
        Unreadable: `not_json`.
    """
    try:
        return _decoder.decode(value)
    except msgspec.MsgspecError:  # no JSON, half a surrogate pair, or an integer of thousands of digits
        refuse_json(value)
        return json.loads(value, parse_float=_number, parse_int=_integer)


def digest_before(value: bytes) -> int:
    """The digest of a message that was read already, as states of format 2 and before have it."""
    return digest(decode(value))


def digest(values: Any) -> int:
    """64 bits, unsigned, of what `decode` returned: equal for equal values."""
    try:
        canonical = _encoder.encode(values)
    except UnicodeEncodeError:  # half a surrogate pair somewhere; no other message's form begins so
        canonical = b"\xff" + _encoder.encode(_spelled_out(values))
    return int.from_bytes(blake2b(canonical, digest_size=8).digest(), "big")


def _integer(literal: str) -> int | Decimal | Raw:
    return int(literal) if len(literal) <= _MAX_DIGITS else _number(literal)


def _number(literal: str) -> Decimal | Raw:
    """The one form of a number: an integer without exponent, anything else without zeros at its end."""
    try:
        number = EXACT.normalize(Decimal(literal))
    except decimal.InvalidOperation:
        return _beyond_decimals(literal)
    if not number:
        return _ZERO
    if 0 <= number.adjusted() < _MAX_DIGITS and number == (whole := EXACT.to_integral_value(number)):
        return EXACT.quantize(whole, _ONE)
    return number


def _beyond_decimals(literal: str) -> Decimal | Raw:
    """A number whose exponent has some 19 digits or more, written as a Decimal would be."""
    mantissa, _, exponent = literal.lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    number = EXACT.normalize(
        Decimal(whole + fraction)
    )  # by 10 to the power of the exponent, less the fraction's digits
    if not number:
        return _ZERO
    sign, digits, zeros = number.as_tuple()
    power = EXACT.add(Decimal(exponent), Decimal(int(zeros) + len(digits) - 1 - len(fraction)))
    first, *others = map(str, digits)
    return Raw(f"{'-' * sign}{first}{'.' * bool(others)}{''.join(others)}E{power:+f}".encode())


def _spelled_out(values: Any) -> Any:
    """The same with each half of a surrogate pair written as an escape, and each backslash as two."""
    if isinstance(values, str):
        return values.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode()
    if isinstance(values, list):
        return [_spelled_out(value) for value in values]
    if isinstance(values, dict):
        return {_spelled_out(name): _spelled_out(value) for name, value in values.items()}
    return values


_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)
_decoder = msgspec.json.Decoder(float_hook=_number)
_encoder = msgspec.json.Encoder(order="deterministic", decimal_format="number")
