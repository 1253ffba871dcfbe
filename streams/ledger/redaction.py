"""What must not be kept: the values of `licensee` and `license_key`, personal data, become null and nothing else changes."""

from __future__ import annotations

import codecs
import json
from typing import Final

import msgspec
import numpy as np

from schemas.crowd import is_crowded
from streams.ledger import kernels

SECRET_FIELDS = ("licensee", "license_key")

_decoder = json.JSONDecoder(parse_int=float)  # Python refuses integers of more than 4,300 digits, JSON does not
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)
_SPACE = " \t\n\r"
_DECODED_AT_ONCE: Final = 1 << 20
_NAMES: Final = [np.frombuffer(field.encode(), np.uint8) for field in SECRET_FIELDS]


def redact(value: bytes) -> tuple[bytes, list[str]]:
    """The message with the values of the secret fields of its top level replaced by null.

    Returns:
        The bytes, and the names of the fields that were replaced. A message that is no JSON object is left as it is: there
        is no telling where in it a value begins.
    """
    if not any(field.encode() in value for field in SECRET_FIELDS) and b"\\u" not in value:
        return value, []
    try:
        if is_crowded(value):
            spans = _crowded_spans(value)
        else:
            text = value.decode()
            _decoder.decode(text)
            spans = [(name, len(text[:start].encode()), len(text[:end].encode())) for name, start, end in _spans(text)]
    except (ValueError, RecursionError):
        return value, []
    if not spans:
        return value, []
    pieces, at = [], 0
    for _, start, end in spans:
        pieces += [value[at:start], b"null"]
        at = end
    pieces.append(value[at:])
    return b"".join(pieces), sorted({field for field, _, _ in spans})


def _spans(text: str) -> list[tuple[str, int, int]]:
    """(field, start, end) of each secret value of the top-level object. `text` is valid JSON."""
    at = _skip(text, 0)
    if text[at] != "{":
        return []
    spans = []
    at = _skip(text, at + 1)
    while text[at] == '"':
        name, at = _decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        found, end = _decoder.raw_decode(text, start)
        if name in SECRET_FIELDS and found is not None:
            spans.append((name, start, end))
        at = _skip(text, end)
        if text[at] == "}":
            break
        at = _skip(text, at + 1)
    return spans


def _crowded_spans(value: bytes) -> list[tuple[str, int, int]]:
    """The same of bytes, without making an object of each value: of hundreds of thousands of them.

    Raises:
        ValueError: no JSON.
    """
    utf8 = codecs.getincrementaldecoder("utf-8")()
    for at in range(0, len(value), _DECODED_AT_ONCE):
        utf8.decode(value[at : at + _DECODED_AT_ONCE], at + _DECODED_AT_ONCE >= len(value))
    _raw_decoder.decode(value)
    spans = np.empty((len(value) // 12 + 1, 3), np.int64)
    count = kernels.secret_values(np.frombuffer(value, np.uint8), *_NAMES, spans)
    return [(SECRET_FIELDS[field], start, end) for field, start, end in spans[:count].tolist()]


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
