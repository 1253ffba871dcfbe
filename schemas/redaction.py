"""What must not be kept: the values of `licensee` and `license_key`, personal data, become null and nothing else changes."""

from __future__ import annotations

import codecs
import json
import re
from typing import Final

import msgspec

from schemas.crowd import is_crowded
from schemas.ping import MAX_DEPTH

SECRET_FIELDS = ("licensee", "license_key")

_decoder = json.JSONDecoder(parse_int=float)  # Python refuses integers of more than 4,300 digits, JSON does not
_SPACE = " \t\n\r"


def redact(value: bytes) -> tuple[bytes, list[str]]:
    """The message with the values of the secret fields of its top level replaced by null.

    Returns:
        The bytes, and the names of the fields that were replaced. A message that is no JSON object is left as it is: there
        is no telling where in it a value begins.
    """
    if not any(field.encode() in value for field in SECRET_FIELDS) and b"\\u" not in value:
        return value, []
    try:
        spans = _crowded_spans(value) if is_crowded(value) else None
        if spans is None:
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


def _crowded_spans(value: bytes) -> list[tuple[str, int, int]] | None:
    """The same of bytes, without making an object of each value: of hundreds of thousands of them. None where a value is nested
    deeper than in any message that is read.

    Raises:
        ValueError: no JSON.
    """
    utf8 = codecs.getincrementaldecoder("utf-8")()
    for at in range(0, len(value), _DECODED_AT_ONCE):
        utf8.decode(value[at : at + _DECODED_AT_ONCE], at + _DECODED_AT_ONCE >= len(value))
    _raw_decoder.decode(value)
    if not (found := _BEGIN.match(value)):
        return []
    spans: list[tuple[str, int, int]] = []
    at = found.end()
    while True:
        if others := _OTHERS.match(value, at):
            at = others.end()
        if _END.match(value, at):
            return spans
        if not (member := _MEMBER.match(value, at)):
            return None
        name, at = _decoder.decode(f'"{member[1].decode()}"'), member.end()
        if name in SECRET_FIELDS and member[2] != b"null":
            spans.append((name, *member.span(2)))


_DECODED_AT_ONCE: Final = 1 << 20
_TEXT: Final = rb'(?:[^"\\]++|\\.)*+'
_STRING: Final = rb'"%b"' % _TEXT


def _content(levels: int) -> bytes:
    """What stands between the brackets of an array or object, with so many levels in it."""
    content = b""
    for _ in range(levels):
        content = rb'(?:[^"\[\]{}]++|%b|[\[{]%b[\]}])*+' % (_STRING, content)
    return content


_SPACES: Final = rb"[ \t\n\r]*+"
_VALUE: Final = rb'(?:%b|[\[{]%b[\]}]|[^,\[\]{}" \t\n\r]++)' % (_STRING, _content(MAX_DEPTH))
_NEXT: Final = rb"%b(?:,|(?=}))" % _SPACES
_BEGIN: Final = re.compile(rb"%b\{" % _SPACES)
_OTHERS: Final = re.compile(
    rb'(?:%b"(?!(?:%b)")[^"\\]*+"%b:%b%b%b)*+'
    % (_SPACES, "|".join(SECRET_FIELDS).encode(), _SPACES, _SPACES, _VALUE, _NEXT),
    re.DOTALL,
)
"""Members of a well-formed object whose names are none of ours, gone through in one step."""

_MEMBER: Final = re.compile(rb'%b"(%b)"%b:%b(%b)%b' % (_SPACES, _TEXT, _SPACES, _SPACES, _VALUE, _NEXT), re.DOTALL)
_END: Final = re.compile(rb"%b}" % _SPACES)
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
