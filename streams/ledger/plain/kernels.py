"""The arithmetic of a batch of plain pings, compiled: one call for the messages of many installations.

Ledgers are read and changed where they are: a directory (int64, a row a scope) holds the addresses and sizes of their arrays;
see `streams.ledger.directory`.
"""

from __future__ import annotations

import numba
import numpy as np

from streams.ledger.addresses import byte_at, int32s, put_word, uint64s, word_at
from streams.ledger.compiled import compiled
from streams.ledger.directory import (
    COUNT,
    DIRTY_FROM,
    FEATURE_ROOM,
    FEATURES,
    FIRST_PANE,
    FLOOR,
    MASKS,
    NAMES,
    NEWEST,
    OLDEST,
    PANES,
    RECORDED,
    ROOM,
    SLOT_COUNT,
    SLOTS,
    TOLD_FIRST,
    TOLD_LAST,
    UNSURE,
    USERS,
    WRITTEN_TO,
)
from streams.ledger.kernels import FULL, OK, WINDOW

NEVER = -(2**31)
FAR = 2**31 - 1

inlined = numba.njit(nogil=True, error_model="numpy", forceinline=True)
"""A part of a kernel: a call for each character would take longer than what it does."""

# ---- reading ---------------------------------------------------------------------------------------------------------

UUID, HOSTNAME, VERSION_TEXT, EDITION, PLAN, SUBSCRIPTION, SHA256, MD5 = range(8)
"""Texts of a ping, by their place in `spans`."""

REGISTERED, BILLABLE, SEATS, HISTORICAL = range(4)
"""Numbers of a ping, by their place in `numbers`."""

_TEXT_KEYS = (
    b"uuid", b"hostname", b"version", b"edition", b"license_plan", b"license_subscription_id", b"license_sha256",
    b"license_md5",
)  # fmt: skip
_NUMBER_KEYS = (b"active_user_count", b"license_billable_users", b"license_user_count", b"historical_max_users")
_OTHER_KEYS = (
    b"recorded_at", b"activity", b"namespace_id", b"namespace_plan", b"sessions", b"users_by", b"counts",
    b"usage_activity_by_stage_monthly", b"redis_hll_counters",
)  # fmt: skip
KEYS = (*_TEXT_KEYS, *_NUMBER_KEYS, *_OTHER_KEYS)
"""Keys of a ping that are read: texts, numbers, and others. What is behind `activity` is for the models."""

_KEY_TEXT = np.frombuffer(b"".join(KEYS), np.uint8)
_KEY_ENDS = np.cumsum([len(key) for key in KEYS])
_FIRST_NUMBER = len(_TEXT_KEYS)
_RECORDED_AT = _FIRST_NUMBER + len(_NUMBER_KEYS)
_ACTIVITY = _RECORDED_AT + 1
_KNOWN = len(KEYS)

MAX_UUID = 64
MAX_HOSTNAME = 255
MAX_NAME = 256
MAX_ENTRIES = 50_000
MAX_DIGITS = 18
MAX_ID_DIGITS = 19

NAME_ROOM = 1 << 14
"""Names of features that the short way knows; pings with others go the long way."""
NAME_TEXT = 1 << 20

PLACE = 6
"""Numbers of a name in `places`: three of `_pair`; where its spelling lies and its length, see `_remember_spelling`, from 0 on; the
name that has followed it, -1 while there is none."""
MAX_HEAD, MAX_REST = 32, 1024
"""Bytes of a spelling that are kept."""
GUESSES = 6
"""Names that the next entry is compared with: the one that followed last time, the one that followed that, and so on: features
come in one order, and some of them have no users on a day."""

LONG = 64
"""Bytes of users from which on it is looked whether an earlier entry has the same: fewer are read sooner than found."""

_ENTRY_DATE, _ENTRY_STAGE, _ENTRY_FEATURE, _ENTRY_USERS = 1, 2, 4, 8


@inlined
def _blank(base, p, end):  # type: ignore[no-untyped-def]
    """The first place from `p` on that is no white space."""
    while p < end and (
        byte_at(base + p) == 32 or byte_at(base + p) == 10 or byte_at(base + p) == 13 or byte_at(base + p) == 9
    ):
        p += 1
    return p


@inlined
def _string(base, p, end):  # type: ignore[no-untyped-def]
    """Where the string that opens at `p` closes; -1 when it is no string of printable ASCII without escapes."""
    if p >= end or byte_at(base + p) != 34:
        return -1
    p += 1
    while p < end and byte_at(base + p) != 34:
        c = byte_at(base + p)
        if c < 32 or c > 126 or c == 92:
            return -1
        p += 1
    return p if p < end else -1


@inlined
def _integer(base, p, end):  # type: ignore[no-untyped-def]
    """(value, end) of an integer of up to 18 digits; the end is -1 when it is none, or has a fraction or an exponent."""
    minus = p < end and byte_at(base + p) == 45
    if minus:
        p += 1
    first = p
    value = 0
    while p < end and 48 <= byte_at(base + p) <= 57:
        value = value * 10 + (byte_at(base + p) - 48) if p - first < MAX_DIGITS else value
        p += 1
    digits = p - first
    if digits == 0 or digits > MAX_DIGITS or (digits > 1 and byte_at(base + first) == 48):
        return 0, -1
    if p < end and (byte_at(base + p) == 46 or byte_at(base + p) == 101 or byte_at(base + p) == 69):
        return 0, -1
    return (-value if minus else value), p


@inlined
def _literal(base, p, end):  # type: ignore[no-untyped-def]
    """Where true, false or null at `p` ends; -1 when it is none of them."""
    if (
        p + 4 <= end
        and byte_at(base + p) == 116
        and byte_at(base + p + 1) == 114
        and byte_at(base + p + 2) == 117
        and byte_at(base + p + 3) == 101
    ):
        return p + 4
    if (
        p + 4 <= end
        and byte_at(base + p) == 110
        and byte_at(base + p + 1) == 117
        and byte_at(base + p + 2) == 108
        and byte_at(base + p + 3) == 108
    ):
        return p + 4
    if (
        p + 5 <= end
        and byte_at(base + p) == 102
        and byte_at(base + p + 1) == 97
        and byte_at(base + p + 2) == 108
        and byte_at(base + p + 3) == 115
        and byte_at(base + p + 4) == 101
    ):
        return p + 5
    return -1


@inlined
def _two(base, p):  # type: ignore[no-untyped-def]
    """The number that two digits make; -1000 when they are none."""
    a, b = byte_at(base + p) - 48, byte_at(base + p + 1) - 48
    return a * 10 + b if 0 <= a <= 9 and 0 <= b <= 9 else -1000


@inlined
def _day(base, p):  # type: ignore[no-untyped-def]
    """Days since 1970 of the ten characters YYYY-MM-DD; -1 when they are no day from 1970 on."""
    century, year, month, day = _two(base, p), _two(base, p + 2), _two(base, p + 5), _two(base, p + 8)
    year = century * 100 + year
    if byte_at(base + p + 4) != 45 or byte_at(base + p + 7) != 45 or year < 1970 or month < 1 or month > 12 or day < 1:
        return -1
    days = 31
    if month == 2:
        days = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    elif month == 4 or month == 6 or month == 9 or month == 11:
        days = 30
    if day > days:
        return -1
    if month <= 2:  # years from March on: the leap day is their last
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469


@inlined
def _moment(base, start, end):  # type: ignore[no-untyped-def]
    """Microseconds since 1970 of YYYY-MM-DDTHH:MM:SS[.ffffff]Z; -1 when it is written otherwise."""
    if end - start < 20 or byte_at(base + start + 10) != 84 or byte_at(base + end - 1) != 90:
        return -1
    day = _day(base, start)
    hour, minute, second = _two(base, start + 11), _two(base, start + 14), _two(base, start + 17)
    if day < 0 or byte_at(base + start + 13) != 58 or byte_at(base + start + 16) != 58:
        return -1
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return -1
    micros = 0
    if end - start > 20:
        digits = end - start - 21
        if byte_at(base + start + 19) != 46 or digits < 1 or digits > 6:
            return -1
        for p in range(start + 20, end - 1):
            if byte_at(base + p) < 48 or byte_at(base + p) > 57:
                return -1
            micros = micros * 10 + (byte_at(base + p) - 48)
        for _ in range(6 - digits):
            micros *= 10
    return ((day * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + micros


@inlined
def _key(base, start, end):  # type: ignore[no-untyped-def]
    """Number of a key in KEYS; their number when it is none of them."""
    begin = 0
    for key in range(_KNOWN):
        if _KEY_ENDS[key] - begin == end - start:
            p = 0
            while p < end - start and _KEY_TEXT[begin + p] == byte_at(base + start + p):
                p += 1
            if p == end - start:
                return key
        begin = _KEY_ENDS[key]
    return _KNOWN


@inlined
def _same(base, p, other, q, size):  # type: ignore[no-untyped-def]
    """Whether `size` bytes at two addresses are the same, by words of eight."""
    at = 0
    while at + 8 <= size:
        if word_at(base + p + at) != word_at(other + q + at):
            return False
        at += 8
    while at < size:
        if byte_at(base + p + at) != byte_at(other + q + at):
            return False
        at += 1
    return True


@inlined
def _pair_hash(base, first, first_end, second, second_end):  # type: ignore[no-untyped-def]
    """FNV-1a of two strings and of the length of the first, its upper half folded into the lower."""
    h = np.uint64(0xCBF29CE484222325) ^ np.uint64(first_end - first)
    for p in range(first, first_end):
        h = (h ^ np.uint64(byte_at(base + p))) * np.uint64(0x100000001B3)
    for p in range(second, second_end):
        h = (h ^ np.uint64(byte_at(base + p))) * np.uint64(0x100000001B3)
    return h ^ (h >> np.uint64(32))


@compiled
def _pair(text, first, first_end, second, second_end, places, known, slots, state):  # type: ignore[no-untyped-def]
    """Number of a pair of strings, which is remembered when it is new; -1 when there is no room.

    Args:
        places: [number]: where the pair lies in `known`, and the lengths of both; other columns are the caller's.
        slots: open-addressing table -> number, -1 free; no more than half of it is taken.
        state: how many pairs there are, and bytes of `known`.
    """
    base, other = text.ctypes.data, known.ctypes.data
    sizes = first_end - first, second_end - second
    last = np.uint64(len(slots) - 1)
    slot = _pair_hash(base, first, first_end, second, second_end) & last
    while slots[slot] >= 0:
        found = np.int64(slots[slot])
        at = places[found, 0]
        if (
            places[found, 1] == sizes[0]
            and places[found, 2] == sizes[1]
            and _same(base, first, other, at, sizes[0])
            and _same(base, second, other, at + sizes[0], sizes[1])
        ):
            return found
        slot = (slot + np.uint64(1)) & last
    number, at = state[0], state[1]
    if number >= len(places) or 2 * number >= len(slots) or at + sizes[0] + sizes[1] > len(known):
        return -1
    slots[slot] = number
    places[number, 0], places[number, 1], places[number, 2] = at, sizes[0], sizes[1]
    for p in range(first, first_end):
        known[at] = text[p]
        at += 1
    for p in range(second, second_end):
        known[at] = text[p]
        at += 1
    state[0] = number + 1
    state[1] = at
    return number


@compiled
def _remember_spelling(text, head, day, rest, users, number, places, name_text, name_state):  # type: ignore[no-untyped-def]
    """Keeps how an entry of a name is spelled, where none is known yet and there is room: the bytes before its day, in `head`, and
    those from behind it to its first user. The next entry of this name is most likely spelled alike."""
    if name_state[2] == 0 and day - head <= MAX_HEAD and name_state[1] + day - head <= len(name_text):
        name_state[2], name_state[3] = name_state[1], day - head
        for p in range(head, day):
            name_text[name_state[1]] = text[p]
            name_state[1] += 1
    size = users - rest
    if places[number, 4] == 0 and size <= MAX_REST and name_state[1] + size <= len(name_text):
        places[number, 3], places[number, 4] = name_state[1], size
        for p in range(rest, users):
            name_text[name_state[1]] = text[p]
            name_state[1] += 1


@inlined
def _spelled(base, p, end, guess, places, known):  # type: ignore[no-untyped-def]
    """The name at `p`, behind a day, that is spelled as it is known, up to its first user: `guess` or one of those that follow
    it; -1 when it is none of them."""
    number = guess
    for _ in range(GUESSES):
        if number < 0:
            break
        place = places + 8 * PLACE * number
        size = word_at(place + 32)
        if size > 0 and p + size <= end and _same(base, p, known, word_at(place + 24), size):
            return number
        number = word_at(place + 40)
    return -1


@inlined
def _users(base, p, end, ids, total):  # type: ignore[no-untyped-def]
    """(end, total) of a list of unsigned integers behind its bracket; they are put to the address
    `ids`, behind `total` others. The end is -1 when it is none,
    or one of them has 20 digits or more."""
    p = _blank(base, p, end)
    if p < end and byte_at(base + p) == 93:
        return p + 1, total
    while True:
        value = 0
        first = p
        while p < end:
            c = byte_at(base + p) - 48
            if c < 0 or c > 9:
                break
            value = value * 10 + c  # of 19 digits it may turn negative, and is the right one of 64 bits all the same
            p += 1
        digits = p - first
        if digits == 0 or digits > MAX_ID_DIGITS or (digits > 1 and byte_at(base + first) == 48) or p >= end:
            return -1, total
        put_word(ids + 8 * total, value)
        total += 1
        if byte_at(base + p) != 44:
            p = _blank(base, p, end)
            if p < end and byte_at(base + p) == 93:
                return p + 1, total
            if p >= end or byte_at(base + p) != 44:
                return -1, total
        p += 1
        if p < end and byte_at(base + p) <= 32:
            p = _blank(base, p, end)


@compiled
def _entry(  # type: ignore[no-untyped-def]
    text, p, end, e, days, names, starts, lengths, ids, total, places, name_text, name_slots, name_state
):
    """(end, total) of the entry of `activity` that opens at `p`, which becomes entry `e`; the end is -1 when it is not plain."""
    base = text.ctypes.data
    if p >= end or text[p] != 123:
        return -1, total
    seen, head, date, users = 0, p, 0, 0
    in_order = False
    stage, stage_end, feature, feature_end = 0, 0, 0, 0
    p += 1
    while True:
        p = _blank(base, p, end)
        key = p + 1
        p = _string(base, p, end)
        if p < 0:
            return -1, total
        size = p - key
        p = _blank(base, p + 1, end)
        if p >= end or text[p] != 58:
            return -1, total
        p = _blank(base, p + 1, end)
        c = text[key] if size else np.uint8(0)
        if size == 4 and c == 100 and text[key + 1] == 97 and text[key + 2] == 116 and text[key + 3] == 101:
            field = _ENTRY_DATE
            date = p + 1
            p = _string(base, p, end)
            if p - date != 10:
                return -1, total
            days[e] = _day(base, date)
            if days[e] < 0:
                return -1, total
            p += 1
        elif (
            size == 5
            and c == 115
            and text[key + 1] == 116
            and text[key + 2] == 97
            and text[key + 3] == 103
            and text[key + 4] == 101
        ):
            field = _ENTRY_STAGE
            stage = p + 1
            stage_end = p = _string(base, p, end)
            if p - stage < 1 or p - stage > MAX_NAME:
                return -1, total
            p += 1
        elif (
            size == 7
            and c == 102
            and text[key + 1] == 101
            and text[key + 2] == 97
            and text[key + 3] == 116
            and text[key + 4] == 117
            and text[key + 5] == 114
            and text[key + 6] == 101
        ):
            field = _ENTRY_FEATURE
            feature = p + 1
            feature_end = p = _string(base, p, end)
            if p - feature < 1 or p - feature > MAX_NAME:
                return -1, total
            p += 1
        elif (
            size == 5
            and c == 117
            and text[key + 1] == 115
            and text[key + 2] == 101
            and text[key + 3] == 114
            and text[key + 4] == 115
        ):
            field = _ENTRY_USERS
            starts[e] = total
            if p >= end or text[p] != 91:
                return -1, total
            users = p + 1
            p, total = _users(base, users, end, ids.ctypes.data, total)
            if p < 0:
                return -1, total
            in_order = seen == _ENTRY_DATE | _ENTRY_STAGE | _ENTRY_FEATURE and date < stage < feature
            lengths[e] = total - starts[e]
        else:  # `sessions`, or a key that nobody reads: for the models
            return -1, total
        if seen & field:
            return -1, total
        seen |= field
        p = _blank(base, p, end)
        if p >= end:
            return -1, total
        if text[p] == 125:
            break
        if text[p] != 44:
            return -1, total
        p += 1
    if seen != 15:
        return -1, total
    names[e] = _pair(text, stage, stage_end, feature, feature_end, places, name_text, name_slots, name_state)
    if names[e] < 0:
        return -1, total
    if in_order:
        _remember_spelling(text, head, date, date + 10, users, names[e], places, name_text, name_state)
    return p + 1, total


@inlined
def _known_entry(base, p, end, guess, places, known, head, head_size):  # type: ignore[no-untyped-def]
    """Where the users of an entry start, behind their bracket, with its day and its name, where it is spelled as one before it was; -1
    when it is not."""
    if head_size == 0 or p + head_size + 10 > end or not _same(base, p, known, head, head_size):
        return -1, 0, 0
    p += head_size
    day = _day(base, p)
    name = _spelled(base, p + 10, end, guess, places, known)
    if day < 0 or name < 0:
        return -1, 0, 0
    return p + 10 + word_at(places + 8 * (PLACE * name + 4)), day, name


@inlined
def _installation(base, start, end):  # type: ignore[no-untyped-def]
    """A number that pings of one installation share, and others hardly ever, of its uuid; 0 while that has not come."""
    if end - start < 8:
        return np.uint64(end - start)
    h = np.uint64(word_at(base + start)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word_at(base + end - 8))
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xFF51AFD7ED558CCD)
    return h ^ (h >> np.uint64(32))


@inlined
def _is_long(base, p, end):  # type: ignore[no-untyped-def]
    """Whether LONG bytes from `p` on hold no closing bracket, by words of eight."""
    if p + LONG > end:
        return False
    for at in range(0, LONG, 8):
        word = np.uint64(word_at(base + p + at)) ^ np.uint64(0x5D5D5D5D5D5D5D5D)
        if (word - np.uint64(0x0101010101010101)) & ~word & np.uint64(0x8080808080808080):
            return False
    return True


@inlined
def _place_of(installation, day, name, last):  # type: ignore[no-untyped-def]
    """Where in the table of entries one of an installation, a day and a name stands."""
    h = (installation ^ np.uint64(day * NAME_ROOM + name)) * np.uint64(0x9E3779B97F4A7C15)
    return (h >> np.uint64(32)) & last


@compiled
def read_pings(  # type: ignore[no-untyped-def]
    text,
    ends,
    spans,
    numbers,
    moments,
    entry_from,
    entry_to,
    first_day,
    last_day,
    plain,
    days,
    names,
    starts,
    lengths,
    echoes,
    ids,
    places,
    name_text,
    name_slots,
    name_state,
    user_spans,
    newest,
):
    """Reads the messages that are plain: an object of texts, numbers and `activity`, printable ASCII without escapes, each key
    once, ids that are integers. All others are for the models, which alone say what is wrong.

    A ping tells again what the one before it told of yesterday. Where an earlier entry of the batch tells the same day, name and users,
    byte by byte, the ids are those that were read there.

    Args:
        text, ends: the messages, side by side, uint8, and where each of them ends.
        spans: out [message, text]: where a text starts and ends; both 0 where it is absent.
        numbers: out [message, number]: -1 where it is unknown.
        moments: out, `recorded_at` in microseconds since 1970.
        entry_from, entry_to: out, entries of each message; none where it is not plain.
        first_day, last_day: out, of the entries; FAR and -1 where there are none.
        plain: out, which messages were read.
        days, names, starts, lengths: out, of each entry; its ids are ids[start : start + length]. Room for an entry per 40 bytes.
        echoes: out, of each entry: an earlier message that tells the same day, name and users, -1 where none was found.
        ids: out, uint64; room for an id per two bytes.
        places, name_text, name_slots, name_state: names of features, see `_pair` and `_remember_spelling`; `name_state` has five numbers,
            the last of them the name that has come first.
        user_spans: [entry]: where its users lie in the text, up to their closing bracket, and its message; int64, of the same room.
        newest: the newest entry of an installation, a day and a name by `_place_of` (int32, a power of two long, all -1).

    Returns:
        How many entries and ids were written.
    """
    base, known, id_base, place_base = text.ctypes.data, name_text.ctypes.data, ids.ctypes.data, places.ctypes.data
    last = np.uint64(len(newest) - 1)
    entries = 0
    total = 0
    begin = 0
    for m in range(len(ends)):
        end = ends[m]
        first_entry, first_id = entries, total
        p = _blank(base, begin, end)
        begin = end
        for k in range(spans.shape[1]):
            spans[m, k, 0] = 0
            spans[m, k, 1] = 0
        for k in range(numbers.shape[1]):
            numbers[m, k] = -1
        moments[m] = -1
        first_day[m] = FAR
        last_day[m] = -1
        seen = 0
        good = p < end and byte_at(base + p) == 123
        p += 1
        while good:
            p = _blank(base, p, end)
            start = p + 1
            p = _string(base, p, end)
            if p < 0:
                good = False
                break
            key = _key(base, start, p)
            p = _blank(base, p + 1, end)
            if p >= end or byte_at(base + p) != 58 or (key < _KNOWN and seen >> key & 1):
                good = False
                break
            p = _blank(base, p + 1, end)
            seen |= 1 << key if key < _KNOWN else 0
            c = byte_at(base + p) if p < end else 0
            if key > _ACTIVITY and key < _KNOWN:
                good = False
            elif key == _ACTIVITY:
                good = c == 91
                p = _blank(base, p + 1, end)
                if good and p < end and byte_at(base + p) == 93:
                    p += 1
                else:
                    guess = name_state[4]
                    while good:
                        start = p
                        first = total
                        p, day, name = _known_entry(
                            base, p, end, guess, place_base, known, name_state[2], name_state[3]
                        )
                        echoes[entries] = -1
                        if p >= 0:
                            days[entries], names[entries] = day, name
                            users = p
                            echo = -1
                            if _is_long(base, p, end):
                                place = _place_of(
                                    _installation(base, spans[m, UUID, 0], spans[m, UUID, 1]), day, name, last
                                )
                                echo = int(newest[place])
                                newest[place] = entries
                            if (
                                0 <= echo < entries
                                and days[echo] == day
                                and names[echo] == name
                                and 0 < user_spans[echo, 1] < end - p
                                and _same(base, p, base, user_spans[echo, 0], user_spans[echo, 1])
                            ):
                                echoes[entries] = user_spans[echo, 2]
                                starts[entries], lengths[entries] = starts[echo], lengths[echo]
                                p += user_spans[echo, 1]
                            else:
                                p, total = _users(base, p, end, id_base, total)
                                starts[entries], lengths[entries] = first, total - first
                            user_spans[entries, 0], user_spans[entries, 1], user_spans[entries, 2] = users, p - users, m
                            if p >= 0 and p < end and byte_at(base + p) == 125:
                                p += 1
                            else:
                                p, total = -1, first
                        if p < 0:
                            echoes[entries], user_spans[entries, 1] = -1, 0
                            p, total = _entry(
                                text, start, end, entries, days, names, starts, lengths, ids, total, places, name_text,
                                name_slots, name_state,
                            )  # fmt: skip
                            if p >= 0 and entries > first_entry:
                                places[names[entries - 1], 5] = names[entries]
                            elif p >= 0:
                                name_state[4] = names[entries]
                        if p < 0 or entries - first_entry >= MAX_ENTRIES:
                            good = False
                            break
                        guess = places[names[entries], 5]
                        first_day[m] = min(first_day[m], days[entries])
                        last_day[m] = max(last_day[m], days[entries])
                        entries += 1
                        p = _blank(base, p, end)
                        if p < end and byte_at(base + p) == 44:
                            p = _blank(base, p + 1, end)
                        elif p < end and byte_at(base + p) == 93:
                            p += 1
                            break
                        else:
                            good = False
            elif key == _RECORDED_AT or key < _FIRST_NUMBER:
                start = p + 1
                if c == 110 and key != _RECORDED_AT and key != UUID and key != HOSTNAME:
                    p = _literal(base, p, end)
                    good = p >= 0
                else:
                    p = _string(base, p, end)
                    good = p >= 0
                    if key == _RECORDED_AT:
                        moments[m] = _moment(base, start, p) if good else -1
                    else:
                        spans[m, key, 0] = start
                        spans[m, key, 1] = p
                    p += 1
            elif c == 34:
                p = _string(base, p, end) + 1
                good = p > 0
            elif c == 116 or c == 102 or c == 110:
                p = _literal(base, p, end)
                good = p >= 0
            else:
                value, p = _integer(base, p, end)
                good = p >= 0
                if good and key < _KNOWN:
                    numbers[m, key - _FIRST_NUMBER] = max(value, -1)
            if not good:
                break
            p = _blank(base, p, end)
            if p < end and byte_at(base + p) == 44:
                p += 1
            elif p < end and byte_at(base + p) == 125:
                p = _blank(base, p + 1, end)
                good = p == end
                break
            else:
                good = False
        uuid = spans[m, UUID, 1] - spans[m, UUID, 0]
        host = spans[m, HOSTNAME, 1] - spans[m, HOSTNAME, 0]
        good = good and moments[m] >= 0 and 1 <= uuid <= MAX_UUID and 1 <= host <= MAX_HOSTNAME
        if not good:
            entries, total = first_entry, first_id
        plain[m] = good
        entry_from[m] = first_entry
        entry_to[m] = entries
    return entries, total


@compiled
def place_pairs(places, count, known, slots):  # type: ignore[no-untyped-def]
    """Puts the first `count` pairs into a new table; see `_pair`."""
    base = known.ctypes.data
    last = np.uint64(len(slots) - 1)
    for number in range(count):
        first, second = places[number, 0], places[number, 0] + places[number, 1]
        slot = _pair_hash(base, first, second, second, second + places[number, 2]) & last
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & last
        slots[slot] = number


@compiled
def number_pings(text, spans, chosen, start, places, known, slots, state, numbers):  # type: ignore[no-untyped-def]
    """Gives the messages `chosen` from the one at `start` on the number of their (uuid, hostname); see `_pair`.

    Returns:
        The first that there is no room for, or how many there are.
    """
    for k in range(start, len(chosen)):
        m = chosen[k]
        numbers[k] = _pair(
            text, spans[m, UUID, 0], spans[m, UUID, 1], spans[m, HOSTNAME, 0], spans[m, HOSTNAME, 1],
            places, known, slots, state,
        )  # fmt: skip
        if numbers[k] < 0:
            return k
    return len(chosen)


@compiled
def gather(text, starts, ends, offsets, out):  # type: ignore[no-untyped-def]
    """Copies pieces of `text` side by side into `out`; `offsets` (int32, one more than pieces) receives where they lie."""
    at = 0
    offsets[0] = 0
    for k in range(len(starts)):
        for p in range(starts[k], ends[k]):
            out[at] = text[p]
            at += 1
        offsets[k + 1] = at


# ---- folding ---------------------------------------------------------------------------------------------------------


@compiled
def rising(numbers, moments, newest, good):  # type: ignore[no-untyped-def]
    """Whether all pings of a scope come in the order of `recorded_at`, each newer than those that are known.

    Args:
        numbers: scope of each ping, in the order of the messages; below 0 it is left out.
        newest: of each scope what is known, changed; good: out, of each scope, True before.
    """
    for m in range(len(numbers)):
        n = numbers[m]
        if n >= 0:
            if moments[m] <= newest[n]:
                good[n] = False
            newest[n] = max(newest[n], moments[m])


@compiled
def find_columns(directory, order, scopes, entry_from, entry_to, names, digests, columns):  # type: ignore[no-untyped-def]
    """The column of each entry's feature in its scope's ledger, -1 where it has none; returns how many have none.

    Args:
        order: messages; scopes: the scope of each of them.
        names: number of each entry's name; digests: the number by which a ledger knows it.
    """
    missing = 0
    for k in range(len(order)):
        m = order[k]
        row = directory[scopes[k]]
        known = uint64s(row[NAMES], row[FEATURES])
        column = -1
        for e in range(entry_from[m], entry_to[m]):
            digest = digests[names[e]]
            column += 1
            if column >= len(known) or known[column] != digest:
                column = 0
                while column < len(known) and known[column] != digest:
                    column += 1
                if column >= len(known):
                    column = -1
                    missing += 1
            columns[e] = column
    return missing


@compiled
def fold_pings(  # type: ignore[no-untyped-def]
    directory,
    order,
    scopes,
    owners,
    entry_from,
    entry_to,
    days,
    columns,
    starts,
    lengths,
    echoes,
    ids,
    new_rows,
    new_counts,
    at,
):
    """Folds pings into the ledgers of their scopes: sets the day's bit of each user in the entry's feature.

    Args:
        order, scopes: messages by scope, in the order in which they came, and the scope of each.
        owners: [message]: its scope, -1 where it is not in `order`.
        entry_from, entry_to, days, columns, starts, lengths, echoes, ids: their entries; one that echoes a message of its own scope is
            folded already.
        new_rows, new_counts: out: rows whose bit was not set before, entry after entry; how many of each.
        at: where to go on after FULL: message in `order`, entry, user, rows written.

    Returns:
        OK, or FULL: no room for another user of that scope; grow its ledger and call again.
    """
    k, total = at[0], at[3]
    while k < len(order):
        m = order[k]
        row = directory[scopes[k]]
        room = row[ROOM]
        users = uint64s(row[USERS], room)
        slots = int32s(row[SLOTS], row[SLOT_COUNT])
        masks = uint64s(row[MASKS], row[PANES] * row[FEATURE_ROOM] * room)
        last = np.uint64(row[SLOT_COUNT] - 1)
        count = row[COUNT]
        limit = min(room, row[SLOT_COUNT] // 2)
        for e in range(max(entry_from[m], at[1]), entry_to[m]):
            if echoes[e] >= 0 and owners[echoes[e]] == scopes[k]:
                continue
            day = days[e]
            begin = (((day >> 6) - row[FIRST_PANE]) * row[FEATURE_ROOM] + columns[e]) * room
            bit = np.uint64(1) << np.uint64(day & 63)
            first = starts[e]
            before = total
            for i in range(at[2], lengths[e]):
                user = ids[first + i]
                h = user & last
                place = slots[h]
                while place >= 0 and users[place] != user:
                    h = (h + np.uint64(1)) & last
                    place = slots[h]
                if place < 0:
                    if count >= limit:
                        new_counts[e] += total - before
                        at[0], at[1], at[2], at[3] = k, e, i, total
                        row[COUNT] = count
                        return FULL
                    place = np.int32(count)
                    users[count] = user
                    slots[h] = place
                    count += 1
                if masks[begin + place] & bit == 0:
                    masks[begin + place] |= bit
                    new_rows[total] = place
                    total += 1
            at[2] = 0
            new_counts[e] += total - before
            if lengths[e]:
                row[NEWEST] = max(row[NEWEST], day)
                row[OLDEST] = min(row[OLDEST], day)
        row[COUNT] = count
        at[1] = 0
        k += 1
    at[3] = total
    return OK


@compiled
def summarise(order, groups, entry_from, entry_to, days, lengths, new_counts, facts):  # type: ignore[no-untyped-def]
    """What folding found in each group of messages, those of one scope.

    Args:
        groups: the first of each group in `order`, and the end.
        facts: out [group]: new rows, entries with new rows, first and last day with any (FAR and NEVER), users in all entries.
    """
    for g in range(len(groups) - 1):
        rows = 0
        changed = 0
        first = FAR
        last = NEVER
        told = 0
        for k in range(groups[g], groups[g + 1]):
            m = order[k]
            for e in range(entry_from[m], entry_to[m]):
                told += lengths[e]
                if new_counts[e]:
                    rows += new_counts[e]
                    changed += 1
                    first = min(first, days[e])
                    last = max(last, days[e])
        facts[g, 0], facts[g, 1], facts[g, 2], facts[g, 3], facts[g, 4] = rows, changed, first, last, told


@compiled
def mark(directory, scopes, facts, rolled_to, floor, as_of, first, last, final_before):  # type: ignore[no-untyped-def]
    """Which rows of each scope have to be written; see `Book._mark`, which does the same for one.

    Args:
        scopes, facts: of each group, see `summarise`.
        first, last: out: days; first > last where there is nothing to write.
        final_before: out: see `Scope.final_before`, as it was before this flush.
    """
    for g in range(len(scopes)):
        row = directory[scopes[g]]
        first[g], last[g] = 1, 0
        before = max(row[WRITTEN_TO], rolled_to)
        sure = min(before, row[DIRTY_FROM] - 1) if row[UNSURE] else before
        final_before[g] = min(floor, sure + 1 - WINDOW)
        reach = max(row[NEWEST], row[TOLD_LAST])
        if reach < 0:
            continue
        horizon = max(before, min(reach, as_of))
        row[WRITTEN_TO] = max(row[WRITTEN_TO], min(reach, as_of))
        again = row[UNSURE] and row[DIRTY_FROM] > NEVER
        row[UNSURE] = 0
        begin = min(before + 1, facts[g, 2])
        end = horizon
        if again:
            begin = min(begin, row[DIRTY_FROM])
        elif horizon <= before:
            end = min(facts[g, 3] + WINDOW, horizon)
        newest = row[NEWEST]
        begin = max(begin, min(row[OLDEST], row[TOLD_FIRST]), row[FLOOR] + WINDOW)
        end = min(end, max(newest + WINDOW, row[TOLD_LAST]) if newest >= 0 else row[TOLD_LAST])
        if begin <= end:
            first[g], last[g] = begin, end
            row[DIRTY_FROM] = begin


@compiled
def note_recorded(directory, order, scopes, moments):  # type: ignore[no-untyped-def]
    """The newest `recorded_at` of each scope."""
    for k in range(len(order)):
        row = directory[scopes[k]]
        row[RECORDED] = max(row[RECORDED], moments[order[k]])


# ---- state -----------------------------------------------------------------------------------------------------------


@inlined
def _put_integer(out, at, value):  # type: ignore[no-untyped-def]
    out[at] = 0xD3
    for b in range(8):
        out[at + 1 + b] = (value >> (56 - 8 * b)) & 0xFF
    return at + 9


@inlined
def _put_size(out, at, mark, size):  # type: ignore[no-untyped-def]
    """A type's mark and a size of 16 bits."""
    out[at] = mark
    out[at + 1] = size >> 8
    out[at + 2] = size & 0xFF
    return at + 3


@inlined
def _put_little(out, at, value, size):  # type: ignore[no-untyped-def]
    for b in range(size):
        out[at + b] = (value >> (8 * b)) & 0xFF
    return at + size


@inlined
def _put_text(out, at, text, start, end):  # type: ignore[no-untyped-def]
    out[at] = 0xD9
    out[at + 1] = end - start
    at += 2
    for p in range(start, end):
        out[at] = text[p]
        at += 1
    return at


@compiled
def measure_deltas(order, groups, facts, spans, new_users, sizes):  # type: ignore[no-untyped-def]
    """Bytes of the body of each group's delta, see `write_deltas`."""
    for g in range(len(groups) - 1):
        size = 1 + 4 * 9 + 1 + 5 * 3 + 8 * new_users[g] + 10 * facts[g, 1] + 2 * facts[g, 0] + 1 + 3
        for k in range(groups[g], groups[g + 1]):
            m = order[k]
            for span in (UUID, HOSTNAME):
                size += 2 + spans[m, span, 1] - spans[m, span, 0]
            size += 1 + 1 + 3 * 9
        sizes[g] = size


@compiled
def write_deltas(  # type: ignore[no-untyped-def]
    directory,
    order,
    groups,
    scopes,
    facts,
    chosen,
    bases,
    known_users,
    text,
    spans,
    moments,
    offsets,
    partition,
    entry_from,
    entry_to,
    days,
    columns,
    new_counts,
    new_rows,
    row_starts,
    out,
    out_starts,
):
    """Writes what was new as bodies of `streams.ledger.state.Delta`, in MessagePack.

    Args:
        chosen: groups to write, each of fewer than 2**16 entries, users, rows and pings.
        bases: [group]: epoch and revision of the scope's base.
        known_users: [group]: users that were in the state before.
        text, spans, moments, offsets, partition: of the messages: the pings that are told.
        new_rows, row_starts: rows of all groups, and where those of each group start.
        out, out_starts: uint8, and where each chosen group's body starts; there is room for `measure_deltas`.
    """
    for c in range(len(chosen)):
        g = chosen[c]
        row = directory[scopes[g]]
        at = out_starts[c]
        out[at] = 0x9C  # an array of twelve
        at = _put_integer(out, at + 1, bases[g, 0])
        at = _put_integer(out, at, bases[g, 1])
        at = _put_integer(out, at, row[WRITTEN_TO])
        at = _put_integer(out, at, row[DIRTY_FROM])
        out[at] = 0x90  # no new features
        users = uint64s(row[USERS], row[COUNT])
        at = _put_size(out, at + 1, 0xC5, 8 * (row[COUNT] - known_users[g]))
        for u in range(known_users[g], row[COUNT]):
            at = _put_little(out, at, users[u], 8)
        for part in range(3):
            at = _put_size(out, at, 0xC5, (2 if part == 1 else 4) * facts[g, 1])
            for k in range(groups[g], groups[g + 1]):
                m = order[k]
                for e in range(entry_from[m], entry_to[m]):
                    if new_counts[e]:
                        if part == 0:
                            at = _put_little(out, at, days[e], 4)
                        elif part == 1:
                            at = _put_little(out, at, columns[e], 2)
                        else:
                            at = _put_little(out, at, new_counts[e], 4)
        at = _put_size(out, at, 0xC5, 2 * facts[g, 0])
        for r in range(row_starts[g], row_starts[g] + facts[g, 0]):
            at = _put_little(out, at, new_rows[r], 2)
        out[at] = 0x90  # no sessions
        at = _put_size(out, at + 1, 0xDC, groups[g + 1] - groups[g])
        for k in range(groups[g], groups[g + 1]):
            m = order[k]
            out[at] = 0x96
            at = _put_text(out, at + 1, text, spans[m, UUID, 0], spans[m, UUID, 1])
            at = _put_text(out, at, text, spans[m, HOSTNAME, 0], spans[m, HOSTNAME, 1])
            out[at] = 0xA0  # no namespace
            at = _put_integer(out, at + 1, moments[m])
            at = _put_integer(out, at, partition)
            at = _put_integer(out, at, offsets[m])
