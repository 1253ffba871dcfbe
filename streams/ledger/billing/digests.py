"""The digest of a JSON message, compiled: 64 bits that are equal when the values are, however they are spelled.

The order of names in an object, the spelling of a number (1, 1.0 and 1e0 are equal), escapes and white space do not matter;
of a name that stands twice in an object the last one counts. Strings are told apart to the letter. The slow form, over decoded
values, is in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from streams.ledger.compiled import compiled

LEVELS = 100
"""Deeper messages have no digest: none of them is read."""

MALFORMED, ODD, PLAIN = 0, 1, 2
"""What a message is: no JSON, or too deep; JSON; JSON without escapes and with each name once in an object."""

FEW = 16
"""So many members of an object are compared one by one; the names of more are sorted."""

LARGEST_EXPONENT = 10**18
"""Where an exponent stops: no two numbers that anybody means are equal beyond it."""

VALUE, VALUE_OR_END, NAME, NAME_OR_END, COLON, COMMA_OR_END, DONE = range(7)
"""What may come next; values and names first, which are asked for as ranges."""

BASIS, PRIME = 0xCBF29CE484222325, 0x100000001B3
"""FNV-1a of 64 bits, as published by its authors."""

GOLDEN = 0x9E3779B97F4A7C15
"""The golden ratio's fraction in 64 bits: its multiples lie far apart."""

TRUE, FALSE, NULL, STRING, NUMBER, ARRAY, OBJECT = (GOLDEN * (kind + 1) & (2**64 - 1) for kind in range(7))


def digests_of(values: Sequence[bytes]) -> tuple[list[int], list[int]]:
    """For each message its digest, and what it is: MALFORMED, ODD or PLAIN."""
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    digests, forms = np.zeros(len(values), np.uint64), np.zeros(len(values), np.int64)
    digest_messages(np.frombuffer(b"".join((*values, b'"')), np.uint8), ends, digests, forms)
    return digests.tolist(), forms.tolist()


@numba.njit(inline="always")
def mix(bits):  # type: ignore[no-untyped-def]
    """Spreads 64 bits over 64 bits, one to one (the finalizer of SplitMix64)."""
    bits = np.uint64(bits)
    bits = np.uint64((bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    bits = np.uint64((bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    return np.uint64(bits ^ (bits >> np.uint64(31)))


@numba.njit(inline="always")
def eat(hashed, byte):  # type: ignore[no-untyped-def]
    """FNV-1a of one more byte."""
    return np.uint64((np.uint64(hashed) ^ np.uint64(byte)) * np.uint64(PRIME))


@numba.njit(inline="always")
def hex_digit(byte):  # type: ignore[no-untyped-def]
    """The value of a hexadecimal digit, -1 for any other byte."""
    if 48 <= byte <= 57:
        return byte - 48
    low = byte | 32
    return low - 87 if 97 <= low <= 102 else -1


@compiled
def code_unit(text, at, end):  # type: ignore[no-untyped-def]
    """The code unit whose four hexadecimal digits begin at `at`, behind \\u; -1 if there is none."""
    if at + 4 > end:
        return -1
    unit = 0
    for p in range(at, at + 4):
        digit = hex_digit(np.int64(text[p]))
        if digit < 0:
            return -1
        unit = unit << 4 | digit
    return unit


@compiled
def end_of_string(text, begin, end):  # type: ignore[no-untyped-def]
    """Place of the closing quote of a string whose text begins at `begin`, -1 when it is none."""
    p = begin
    while p < end and text[p] != 34:
        if text[p] < 32:
            return -1
        p += 2 if text[p] == 92 else 1
    return p if p < end else -1


@compiled
def digest_escaped(text):  # type: ignore[no-untyped-def]
    """FNV-1a of what a string with escapes stands for. Half a surrogate pair counts as the three bytes that UTF-8 would have for
    it, an escape that is none as itself."""
    hashed = np.uint64(BASIS)
    end = len(text)
    p = 0
    while p < end:
        kind = text[p]
        p += 1
        if kind != 92 or p == end:
            hashed = eat(hashed, kind)
            continue
        kind = text[p]
        p += 1
        point = int(kind)
        if kind == 98:
            point = 8
        elif kind == 102:
            point = 12
        elif kind == 110:
            point = 10
        elif kind == 114:
            point = 13
        elif kind == 116:
            point = 9
        elif kind == 117:
            unit = code_unit(text, p, end)
            if unit >= 0:
                point = unit
                p += 4
            if 0xD800 <= unit < 0xDC00 and p + 1 < end and text[p] == 92 and text[p + 1] == 117:
                second = code_unit(text, p + 2, end)
                if 0xDC00 <= second < 0xE000:
                    point = 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00)
                    p += 6
        if point < 0x80:
            hashed = eat(hashed, point)
            continue
        if point < 0x800:
            hashed = eat(hashed, 0xC0 | point >> 6)
        else:
            if point < 0x10000:
                hashed = eat(hashed, 0xE0 | point >> 12)
            else:
                hashed = eat(eat(hashed, 0xF0 | point >> 18), 0x80 | point >> 12 & 63)
            hashed = eat(hashed, 0x80 | point >> 6 & 63)
        hashed = eat(hashed, 0x80 | point & 63)
    return hashed


@compiled
def digest_number(text, begin, end):  # type: ignore[no-untyped-def]
    """(digest, place behind it) of a number; the place is -1 when it is none.

    A number is its sign, its digits without zeros at both ends, and the power of ten of the last of them; 0 has no sign.
    """
    hashed = np.uint64(BASIS)
    none = np.uint64(0), -1
    p = begin
    negative = text[p] == 45
    if negative:
        p += 1
    first = p
    zeros = 0  # behind the last digit that is not 0
    empty = True
    point = -1
    while p < end and (48 <= text[p] <= 57 or (text[p] == 46 and point < 0)):
        if text[p] == 46:
            point = p
        elif text[p] == 48:
            zeros += not empty
        else:
            for _ in range(zeros):
                hashed = eat(hashed, 48)
            hashed = eat(hashed, text[p])
            zeros = 0
            empty = False
        p += 1
    whole = (p if point < 0 else point) - first
    if whole == 0 or (whole > 1 and text[first] == 48) or point == p - 1:
        return none
    power = zeros - (p - point - 1 if point >= 0 else 0)
    if p < end and text[p] | 32 == 101:
        p += 1
        down = p < end and text[p] == 45
        if p < end and (text[p] == 45 or text[p] == 43):
            p += 1
        first = p
        exponent = 0
        while p < end and 48 <= text[p] <= 57:
            exponent = exponent * 10 + text[p] - 48 if exponent < LARGEST_EXPONENT // 10 else LARGEST_EXPONENT
            p += 1
        if p == first:
            return none
        power += -exponent if down else exponent
    if empty:
        return mix(np.uint64(NUMBER)), p
    return mix(mix(hashed ^ np.uint64(NUMBER)) + np.uint64(2 * power + negative)), p


@compiled
def is_word(text, begin, end, word):  # type: ignore[no-untyped-def]
    """Whether the text goes on with these bytes."""
    if begin + len(word) > end:
        return False
    same = True
    for b in range(len(word)):
        same &= text[begin + b] == word[b]
    return same


@compiled
def digest_members(names, parts):  # type: ignore[no-untyped-def]
    """(digest, whether each name stands once) of the members of an object: hashes of their names, in the order in which they
    stand, and their parts."""
    total = np.uint64(0)
    once = True
    count = len(names)
    if count <= FEW:
        for i in range(count):
            last = True
            for j in range(i + 1, count):
                last &= names[i] != names[j]
            if last:
                total += parts[i]
            once &= last
    else:
        order = np.argsort(names, kind="mergesort")
        for i in range(count):
            if i + 1 == count or names[order[i]] != names[order[i + 1]]:
                total += parts[order[i]]
            else:
                once = False
    return mix(total ^ np.uint64(OBJECT)), once


@compiled
def digest_messages(text, ends, digests, forms):  # type: ignore[no-untyped-def]
    """Reads messages that lie side by side in `text` (uint8) and end at `ends`, a quote behind the last.

    Args:
        digests: out, uint64.
        forms: out, MALFORMED, ODD or PLAIN.
    """
    true, false, null = (
        np.array([116, 114, 117, 101]),
        np.array([102, 97, 108, 115, 101]),
        np.array([110, 117, 108, 108]),
    )
    longest = ends[0] if len(ends) else 0
    for m in range(1, len(ends)):
        longest = max(longest, ends[m] - ends[m - 1])
    room = longest // 5 + 1  # a member has five bytes
    names, parts = np.empty(room, np.uint64), np.empty(room, np.uint64)  # members of the objects that are open
    is_object = np.empty(LEVELS, np.bool_)
    base = np.empty(LEVELS, np.int64)
    gathered = np.empty(LEVELS, np.uint64)  # of an array: the digest so far; of an object: the name whose value comes
    begin = 0
    for m in range(len(ends)):
        p, end = begin, ends[m]
        begin = end
        level = top = 0
        expected = VALUE
        plain = True
        digest = np.uint64(0)
        while p < end:
            c = text[p]
            if c == 32 or c == 10 or c == 13 or c == 9:
                p += 1
                continue
            if c == 34:
                named = NAME <= expected <= NAME_OR_END
                if not named and expected > VALUE_OR_END:
                    break
                q = np.uint64(
                    p + 1
                )  # an unsigned place is not counted from the end when it is below 0, which takes time
                hashed = np.uint64(BASIS)
                c = text[q]
                while c != 34 and c != 92 and c >= 32:
                    hashed = (hashed ^ np.uint64(c)) * np.uint64(PRIME)
                    q += np.uint64(1)
                    c = text[q]
                if c != 34:
                    plain = False
                    q = np.uint64(p + 1)
                    p = end_of_string(text, p + 1, end)
                    if p < 0:
                        break
                    hashed = digest_escaped(text[q:p])
                    p += 1
                else:
                    p = np.int64(q) + 1  # type: ignore[assignment]
                    if p > end:
                        break
                found = mix(hashed ^ np.uint64(STRING))
                if named:
                    gathered[level - 1] = found
                    expected = COLON
                    continue
            elif c == 44:
                if expected != COMMA_OR_END:
                    break
                expected = NAME if is_object[level - 1] else VALUE
                p += 1
                continue
            elif c == 58:
                if expected != COLON:
                    break
                expected = VALUE
                p += 1
                continue
            elif c == 123 or c == 91:
                if expected > VALUE_OR_END or level == LEVELS:
                    break
                is_object[level] = c == 123
                base[level] = top
                gathered[level] = np.uint64(ARRAY)
                level += 1
                expected = NAME_OR_END if c == 123 else VALUE_OR_END
                p += 1
                continue
            elif c == 125:
                if not (expected == NAME_OR_END or (expected == COMMA_OR_END and is_object[level - 1])):
                    break
                level -= 1
                found, once = digest_members(names[base[level] : top], parts[base[level] : top])
                plain &= once
                top = base[level]
                p += 1
            elif c == 93:
                if not (expected == VALUE_OR_END or (expected == COMMA_OR_END and not is_object[level - 1])):
                    break
                level -= 1
                found = mix(gathered[level])
                p += 1
            elif expected > VALUE_OR_END:
                break
            elif c == 45 or 48 <= c <= 57:
                found, p = digest_number(text, p, end)
                if p < 0:
                    break
            elif is_word(text, p, end, true):
                found = mix(np.uint64(TRUE))
                p += 4
            elif is_word(text, p, end, false):
                found = mix(np.uint64(FALSE))
                p += 5
            elif is_word(text, p, end, null):
                found = mix(np.uint64(NULL))
                p += 4
            else:
                break
            if level == 0:
                digest = found
                expected = DONE
            else:
                if is_object[level - 1]:
                    names[top] = gathered[level - 1]
                    parts[top] = mix(gathered[level - 1] * np.uint64(PRIME) + found)
                    top += 1
                else:
                    gathered[level - 1] = mix(gathered[level - 1] * np.uint64(PRIME) + found)
                expected = COMMA_OR_END
        if expected == DONE and p == end:
            digests[m] = digest
            forms[m] = PLAIN if plain else ODD
