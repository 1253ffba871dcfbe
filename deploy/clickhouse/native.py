"""ClickHouse's Native blocks as clients of a newer protocol revision expect them.

The embedded engine writes Native as it was before block headers. A client that names a revision in
`client_protocol_version` (clickhouse-go, and with it Grafana's data source) reads a block header, and from 54454 on
one byte before each column's data. To put it there one must know where columns end, which their types tell:
https://clickhouse.com/docs/interfaces/formats/Native
"""

from __future__ import annotations

import re
from functools import lru_cache

# The first revision with a byte before each column that tells an unusual serialisation. Clients of an older one
# (clickhouse-connect asks for 54405) find by a probe that they get plain blocks, and take them.
FIRST_REVISION = 54454

# is_overflows = 0 and bucket_num = -1, each behind its number; 0 ends the header.
_HEADER = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_ORDINARY = b"\x00"

_WIDTHS = {
    "Bool": 1, "Nothing": 1, "Int8": 1, "UInt8": 1, "Enum8": 1, "Int16": 2, "UInt16": 2, "Enum16": 2, "Date": 2, "BFloat16": 2,
    "Int32": 4, "UInt32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "IPv4": 4, "Time": 4, "Decimal32": 4,
    "Int64": 8, "UInt64": 8, "Float64": 8, "DateTime64": 8, "Time64": 8, "Decimal64": 8,
    "Int128": 16, "UInt128": 16, "UUID": 16, "IPv6": 16, "Decimal128": 16, "Int256": 32, "UInt256": 32, "Decimal256": 32,
}  # fmt: skip
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "Polygon": "Array(Ring)",
    "MultiLineString": "Array(LineString)",
    "MultiPolygon": "Array(Polygon)",
}
_TYPE = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)
_ELEMENT_NAME = re.compile(r"(?:\w+|`(?:[^`\\]|\\.)*`)\s+(?=\w)")


def with_headers(blocks: bytes) -> bytes:
    """Native blocks of the engine, one after the other, as blocks with headers.

    Raises:
        ValueError: a column type whose data cannot be told apart (Dynamic, JSON, Variant, aggregate states).
    """
    out: list[bytes] = []
    at = 0
    while at < len(blocks):
        out.append(_HEADER)
        done = at
        columns, at = _number(blocks, at)
        rows, at = _number(blocks, at)
        for _ in range(columns):
            _, at = _text(blocks, at)
            type_name, at = _text(blocks, at)
            out += (blocks[done:at], _ORDINARY)
            done = at
            if rows:
                # a LowCardinality type puts the version of its dictionary, 8 bytes, before all data of the column
                at = _end(type_name.decode(), rows, blocks, at + 8 * _dictionaries(type_name.decode()))
        out.append(blocks[done:at])
    return b"".join(out)


def _end(type_name: str, rows: int, data: bytes, at: int) -> int:
    """Where the data of `rows` values that begin at `at` end."""
    name, arguments = _parts(type_name)
    if name in _WIDTHS:
        return at + _WIDTHS[name] * rows
    if name.startswith("Interval"):
        return at + 8 * rows
    if name == "FixedString":
        return at + int(arguments[0]) * rows
    if name == "Decimal":
        digits = int(arguments[0])
        return at + rows * next(width for limit, width in ((9, 4), (18, 8), (38, 16), (76, 32)) if digits <= limit)
    if name == "String":
        for _ in range(rows):
            size, at = _number(data, at)
            at += size
        return at
    if name == "Nullable":
        return _end(arguments[0], rows, data, at + rows)
    if name == "SimpleAggregateFunction":
        return _end(arguments[1], rows, data, at)
    if name == "LowCardinality":
        return _dictionary_end(arguments[0], rows, data, at)
    if name in ("Array", "Map", "Nested"):
        at += 8 * rows
        elements = int.from_bytes(data[at - 8 : at], "little") if rows else 0
        for argument in arguments:
            at = _end(argument, elements, data, at)
        return at
    if name == "Tuple":
        for argument in arguments:
            at = _end(argument, rows, data, at)
        return at if arguments else at + rows
    raise ValueError(f"type {type_name} cannot be sent to a client of this protocol revision; cast it to String")


def _dictionary_end(type_name: str, rows: int, data: bytes, at: int) -> int:
    """Where a block's dictionary, its flags before it and the values' places in it behind it, ends."""
    if not rows:
        return at
    place_width = 1 << (data[at] & 0x03)
    entries = int.from_bytes(data[at + 8 : at + 16], "little")
    name, arguments = _parts(type_name)
    at = _end(arguments[0] if name == "Nullable" else type_name, entries, data, at + 16)
    return at + 8 + place_width * rows


@lru_cache(maxsize=1024)
def _dictionaries(type_name: str) -> int:
    name, arguments = _parts(type_name)
    if name == "LowCardinality":
        return 1
    if name in ("Nullable", "Array", "Map", "Tuple", "Nested"):
        return sum(map(_dictionaries, arguments))
    return _dictionaries(arguments[1]) if name == "SimpleAggregateFunction" else 0


@lru_cache(maxsize=1024)
def _parts(type_name: str) -> tuple[str, tuple[str, ...]]:
    """`Map(String, Array(UInt8))` as its name and arguments; names of a Tuple's elements are dropped."""
    match = _TYPE.fullmatch(_ALIASES.get(type_name, type_name))
    if match is None:
        raise ValueError(f"type {type_name} is not understood")
    name, inside = match.groups()
    if name.startswith("Enum") or not inside:
        return name, ()
    arguments, depth, begin = [], 0, 0
    for place, sign in enumerate(inside + ","):
        if sign == "," and depth == 0:
            arguments.append(inside[begin:place].strip())
            begin = place + 1
        depth += (sign == "(") - (sign == ")")
    if name in ("Tuple", "Nested"):
        arguments = [_ELEMENT_NAME.sub("", argument, count=1) for argument in arguments]
    return name, tuple(arguments)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _number(data, at)
    return data[at : at + size], at + size
