"""The reading of kept events, compiled: plain loops over the bytes of many of them (msgpack, as `state` writes it).

What they find is compared with what msgspec decodes in the tests.
"""

from __future__ import annotations

import numpy as np

from streams.ledger.billing.digests import BASIS, GOLDEN, PRIME
from streams.ledger.compiled import compiled

AT, SEQUENCE, BLOCKS, SEATS, MRR, LIST_MRR, AT_RENEWAL, QUANTITY, AMOUNT, BILLABLE, MOST = range(11)
NUMBERS = 11
"""Rows of numbers of an event, 0 where it has no such block. BLOCKS: the sum of the blocks it has. BILLABLE, MOST: -1 is
unknown."""

EVENT_ID, TYPE, CHANNEL, PROFILE, SUBSCRIPTION, DEPLOYMENT, PLAN, NAMESPACE, LICENSE, ADDON, SYNCED = range(11)
TEXTS = 11
"""Rows of strings of an event, empty where it has no such block. PROFILE: the bytes of the whole block. SUBSCRIPTION: of a
state; SYNCED: of a `seats_synced`."""

HAS_PROFILE, HAS_STATE, HAS_ADDON, HAS_SYNC = 1, 2, 4, 8

NIL, FALSE, TRUE = 0xC0, 0xC2, 0xC3


@compiled
def read_int(text, p, end):  # type: ignore[no-untyped-def]
    """(number, place behind it) of the integer at `p`; the place is -1 where there is none. It has at most 64 bits, signed."""
    if p >= end:
        return 0, -1
    c = np.int64(text[p])
    if c < 0x80:
        return c, p + 1
    if c >= 0xE0:
        return c - 0x100, p + 1
    if c < 0xCC or c > 0xD3:
        return 0, -1
    width = 1 << (c & 3)
    stop = p + 1 + width
    if stop > end:
        return 0, -1
    value = np.int64(0)
    for at in range(p + 1, stop):
        value = value << 8 | np.int64(text[at])
    if c >= 0xD0 and width < 8 and value >> (8 * width - 1):
        value -= 1 << 8 * width
    return value, stop


@compiled
def read_text(text, p, end):  # type: ignore[no-untyped-def]
    """(start, end) of the bytes of the string whose head is at `p`; the end is -1 where there is none."""
    if p >= end:
        return 0, -1
    c = np.int64(text[p])
    start = p + 1
    if 0xA0 <= c <= 0xBF:
        length = np.int64(c & 31)
    elif 0xD9 <= c <= 0xDB:
        width = 1 << (c - 0xD9)
        start += width
        if start > end:
            return 0, -1
        length = np.int64(0)
        for at in range(p + 1, start):
            length = length << 8 | np.int64(text[at])
    else:
        return 0, -1
    if start + length > end:
        return 0, -1
    return start, start + length


@compiled
def read_texts(text, p, end, starts, stops, n, first, last):  # type: ignore[no-untyped-def]
    """Reads the strings that follow each other from `p` on into rows `first` to `last` of event `n`; returns the place behind them,
    -1 where one is none."""
    for row in range(first, last + 1):
        starts[row, n], p = read_text(text, p, end)
        if p < 0:
            return p
        stops[row, n] = p
    return p


@compiled
def read_ints(text, p, end, numbers, n, first, last):  # type: ignore[no-untyped-def]
    """The same of integers."""
    for row in range(first, last + 1):
        numbers[row, n], p = read_int(text, p, end)
        if p < 0:
            return p
    return p


@compiled
def lay_facts(data, places, text, ends):  # type: ignore[no-untyped-def]
    """Lays facts side by side, so that what reads them after that finds them in the processor's cache.

    Args:
        data: uint8.
        places: int64, where each begins in `data`: its length in 4 bytes, and itself; none twice.
        text: out, uint8, as long as `data`: the facts without their lengths.
        ends: out, int64: where each ends in `text`.

    Returns:
        The number of the first one that is not whole, -1 when there is none.
    """
    end = np.int64(0)
    for n in range(len(places)):
        p = places[n] + 4
        if p > len(data):
            return n
        length = np.int64(0)
        for at in range(p - 4, p):
            length = length << 8 | np.int64(data[at])
        if p + length > len(data) or end + length > len(text):
            return n
        for at in range(length):
            text[end + at] = data[p + at]
        end += length
        ends[n] = end
    return -1


@compiled
def read_facts(text, ends, numbers, starts, stops):  # type: ignore[no-untyped-def]
    """Reads facts that lie side by side.

    Args:
        text: uint8.
        ends: int64, where each ends.
        numbers: out, int64 (NUMBERS, facts), zeros.
        starts, stops: out, int64 (TEXTS, facts), zeros: where each string lies in `text`.

    Returns:
        The number of the first fact that cannot be read, -1 when there is none.
    """
    last = 0
    for n in range(len(ends)):
        p, end = last, ends[n]
        last = end
        # a fact is an array of more than the event, an event one of 11
        if p + 2 > end or text[p] & 0xF0 != 0x90 or text[p + 1] != 0x9B:
            return n
        p += 2
        p = read_texts(text, p, end, starts, stops, n, EVENT_ID, TYPE)
        if p < 0:
            return n
        p = read_ints(text, p, end, numbers, n, AT, SEQUENCE)
        if p < 0:
            return n
        _, p = read_text(text, p, end)  # account_id
        if p < 0:
            return n
        p = read_texts(text, p, end, starts, stops, n, CHANNEL, CHANNEL)
        if p < 0:
            return n
        _, p = read_int(text, p, end)  # digest
        if p < 0 or p >= end:
            return n
        if text[p] == NIL:
            p += 1
        elif text[p] == 0x98:
            numbers[BLOCKS, n] |= HAS_PROFILE
            starts[PROFILE, n] = p
            p += 1
            for _ in range(8):
                _, p = read_text(text, p, end)
                if p < 0:
                    return n
            stops[PROFILE, n] = p
        else:
            return n
        if p >= end:
            return n
        if text[p] == NIL:
            p += 1
        elif text[p] == 0x99:
            numbers[BLOCKS, n] |= HAS_STATE
            p = read_texts(text, p + 1, end, starts, stops, n, SUBSCRIPTION, PLAN)
            if p < 0:
                return n
            p = read_ints(text, p, end, numbers, n, SEATS, LIST_MRR)
            if p < 0:
                return n
            p = read_texts(text, p, end, starts, stops, n, NAMESPACE, LICENSE)
            if p < 0 or p >= end or (text[p] != FALSE and text[p] != TRUE):
                return n
            numbers[AT_RENEWAL, n] = text[p] == TRUE
            p += 1
        else:
            return n
        if p >= end:
            return n
        if text[p] == NIL:
            p += 1
        elif text[p] == 0x93:
            numbers[BLOCKS, n] |= HAS_ADDON
            p = read_texts(text, p + 1, end, starts, stops, n, ADDON, ADDON)
            if p < 0:
                return n
            p = read_ints(text, p, end, numbers, n, QUANTITY, AMOUNT)
            if p < 0:
                return n
        else:
            return n
        if p >= end:
            return n
        if text[p] == NIL:
            continue
        if text[p] != 0x93:
            return n
        numbers[BLOCKS, n] |= HAS_SYNC
        p = read_texts(text, p + 1, end, starts, stops, n, SYNCED, SYNCED)
        if p < 0:
            return n
        for row in (BILLABLE, MOST):
            if p < end and text[p] == NIL:
                numbers[row, n] = -1
                p += 1
            else:
                numbers[row, n], p = read_int(text, p, end)
                if p < 0:
                    return n
    return -1


@compiled
def number_texts(text, starts, stops, owners, slots, numbers, firsts):  # type: ignore[no-untyped-def]
    """Numbers strings from 0 on in the order in which they come, equal ones of one owner alike.

    Args:
        text: uint8.
        starts, stops: int64, where each lies in `text`.
        owners: int64.
        slots: int64, all -1: a power of two, more than there are strings.
        numbers: out, int64, of each string.
        firsts: out, int64: the first string of each number.

    Returns:
        How many different ones there are.
    """
    count = 0
    mask = len(slots) - 1
    for i in range(len(starts)):
        start = starts[i]
        length = stops[i] - start
        mixed = np.uint64(owners[i]) * np.uint64(GOLDEN) ^ np.uint64(BASIS)
        for p in range(start, start + length):
            mixed = (mixed ^ np.uint64(text[p])) * np.uint64(PRIME)
        slot = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(mask))
        while True:
            number = slots[slot]
            if number < 0:
                slots[slot] = count
                firsts[count] = i
                numbers[i] = count
                count += 1
                break
            first = firsts[number]
            if owners[first] == owners[i] and stops[first] - starts[first] == length:
                p = 0
                while p < length and text[starts[first] + p] == text[start + p]:
                    p += 1
                if p == length:
                    numbers[i] = number
                    break
            slot = (slot + 1) & mask
    return count


@compiled
def copy_texts(text, starts, stops, out):  # type: ignore[no-untyped-def]
    """Lays strings side by side in `out` (uint8)."""
    at = 0
    for i in range(len(starts)):
        for p in range(starts[i], stops[i]):
            out[at] = text[p]
            at += 1
