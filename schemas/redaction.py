"""What must not be kept: the values of `licensee` and `license_key`, personal data, become null and nothing else changes."""

from __future__ import annotations

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
        text = value.decode()
        if is_crowded(value):
            _raw_decoder.decode(value)
            spans = _crowded_spans(text)
        else:
            _decoder.decode(text)
            spans = _spans(text)
    except (ValueError, RecursionError):
        return value, []
    if not spans:
        return value, []
    pieces, at = [], 0
    for _, start, end in spans:
        pieces += [text[at:start], "null"]
        at = end
    pieces.append(text[at:])
    return "".join(pieces).encode(), sorted({field for field, _, _ in spans})


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


def _crowded_spans(text: str) -> list[tuple[str, int, int]]:
    """The same without making an object of each value: of hundreds of thousands of them."""
    at = _skip(text, 0)
    if text[at] != "{":
        return []
    spans: list[tuple[str, int, int]] = []
    at += 1
    while True:
        if others := _OTHERS.match(text, at):
            at = others.end()
        if _END.match(text, at):
            return spans
        if not (member := _MEMBER.match(text, at)):
            return _spans(text)  # nested deeper than any message that is read
        name, at = member[1], member.end()
        if "\\" in name:
            name = _decoder.decode(f'"{name}"')
        if name in SECRET_FIELDS and member[2] != "null":
            spans.append((name, *member.span(2)))


_TEXT: Final = r'(?:[^"\\]++|\\.)*+'
_STRING: Final = f'"{_TEXT}"'


def _content(levels: int) -> str:
    """What stands between the brackets of an array or object, with so many levels in it."""
    content = ""
    for _ in range(levels):
        content = rf'(?:[^"\[\]{{}}]++|{_STRING}|[\[{{]{content}[\]}}])*+'
    return content


_SPACES: Final = r"[ \t\n\r]*+"
_VALUE: Final = rf'(?:{_STRING}|[\[{{]{_content(MAX_DEPTH)}[\]}}]|[^,\[\]{{}}" \t\n\r]++)'
_NEXT: Final = rf"{_SPACES}(?:,|(?=}}))"
_OTHERS: Final = re.compile(
    rf'(?:{_SPACES}"(?!(?:{"|".join(SECRET_FIELDS)})")[^"\\]*+"{_SPACES}:{_SPACES}{_VALUE}{_NEXT})*+', re.DOTALL
)
"""Members of a well-formed object whose names are none of ours, gone through in one step."""

_MEMBER: Final = re.compile(rf'{_SPACES}"({_TEXT})"{_SPACES}:{_SPACES}({_VALUE}){_NEXT}', re.DOTALL)
_END: Final = re.compile(rf"{_SPACES}}}")
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
