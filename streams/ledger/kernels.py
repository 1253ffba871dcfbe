"""The arithmetic over arrays, compiled: plain loops, each named by what it computes.

Days are numbers: days since 1970-01-01, UTC. Bit i of pane p of a user's mask in a feature is set when the user was
active there on day 64 p + i, so a window of 28 days is cut out of at most two 64-bit words. The numpy and pure Python
forms of the same computations are in the tests, which compare them.

`python -m streams.ledger.kernels` compiles everything into the cache, so that a worker starts at once.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from streams.ledger.addresses import lowest_bit, uint32s, uint64s
from streams.ledger.compiled import compiled

WINDOW = 28
PANE = 64

OK, FULL = 0, 1

STRIP = 8
"""Days that are counted at once, a feature after the other: its masks are fetched from memory once for all of them."""


@compiled
def count_openers(text, ends, counts):  # type: ignore[no-untyped-def]
    """How often [ and { stand in each of the messages that lie side by side in `text` (uint8) and end at `ends`."""
    start = 0
    for m in range(len(ends)):
        found = 0
        for p in range(start, ends[m]):
            found += (text[p] | 32) == 123
        counts[m] = found
        start = ends[m]


@compiled
def nesting(text):  # type: ignore[no-untyped-def]
    """How deep arrays and objects are nested (uint8), strings left out. For any bytes; what follows a quote without its end is
    no string."""
    level = 0
    deepest = 0
    strings = True
    p = 0
    while p < len(text):
        c = text[p]
        if c == 34 and strings:
            start = p
            p += 1
            while p < len(text) and text[p] != 34:
                p += 2 if text[p] == 92 else 1
            if p >= len(text):
                strings = False
                p = start
        elif c == 91 or c == 123:
            level += 1
            deepest = max(deepest, level)
        elif c == 93 or c == 125:
            level -= 1
        p += 1
    return deepest


@compiled
def secret_values(text, first, second, spans):  # type: ignore[no-untyped-def]
    """Where the values of two fields of a JSON object stand that are not null: `spans` (int64, a row each) gets the field
    (0, 1), the start and the end.

    Args:
        text: valid JSON (uint8), nested however deep; of what is no object there is nothing.
        first, second: names of the fields (uint8): lower-case letters and _.
        spans: has room for a row for every 12 bytes of `text`.

    Returns:
        How many there are.
    """
    found = 0
    p = _after_space(text, 0)
    if p >= len(text) or text[p] != 123:
        return found
    p = _after_space(text, p + 1)
    while p < len(text) and text[p] == 34:
        end = _after_value(text, p)
        field = 0 if _spells(text, p + 1, end - 1, first) else 1 if _spells(text, p + 1, end - 1, second) else -1
        start = _after_space(text, _after_space(text, end) + 1)
        end = _after_value(text, start)
        if field >= 0 and text[start] != 110:
            spans[found] = field, start, end
            found += 1
        p = _after_space(text, _after_space(text, end) + 1)
    return found


@compiled
def _after_space(text, p):  # type: ignore[no-untyped-def]
    while p < len(text) and (text[p] == 32 or text[p] == 10 or text[p] == 13 or text[p] == 9):
        p += 1
    return p


@compiled
def _after_value(text, p):  # type: ignore[no-untyped-def]
    level = 0
    while p < len(text):
        c = text[p]
        if c == 34:
            p += 1
            while text[p] != 34:
                p += 2 if text[p] == 92 else 1
        elif c == 91 or c == 123:
            level += 1
        elif c == 93 or c == 125:
            level -= 1
        elif level == 0:  # a number or a word
            while p < len(text) and text[p] > 32 and text[p] != 44 and text[p] != 93 and text[p] != 125:
                p += 1
            return p
        p += 1
        if level == 0:
            return p
    return p


@compiled
def _spells(text, p, end, name):  # type: ignore[no-untyped-def]
    for letter in name:
        if p >= end:
            return False
        c = np.uint32(text[p])
        p += 1
        if c == 92:
            if text[p] != 117:
                return False
            c = np.uint32(0)
            for digit in text[p + 1 : p + 5]:
                c = c * 16 + (digit - 48 if digit < 58 else (digit | 32) - 87)
            p += 5
        if c != letter:
            return False
    return p == end


@partial(compiled, lets_others_run=False)  # keeps the interpreter's lock: waiting for it takes longer than a key
def murmur2(key):  # type: ignore[no-untyped-def]
    """Murmur2 of 32 bits with Kafka's seed, of a key (uint8)."""
    mixer = np.uint32(0x5BD1E995)
    found = np.uint32(0x9747B28C) ^ np.uint32(len(key))
    words = len(key) // 4
    for w in range(words):
        word = np.uint32(0)
        for b in range(4):
            word |= np.uint32(np.uint32(key[4 * w + b]) << np.uint32(8 * b))
        word = np.uint32(word * mixer)
        word = np.uint32((word ^ (word >> np.uint32(24))) * mixer)
        found = np.uint32(found * mixer) ^ word
    left = len(key) % 4
    if left:
        for b in range(left):
            found ^= np.uint32(np.uint32(key[4 * words + b]) << np.uint32(8 * b))
        found = np.uint32(found * mixer)
    found = np.uint32((found ^ (found >> np.uint32(13))) * mixer)
    return found ^ (found >> np.uint32(15))


@compiled
def parse_ids(text, starts, ends, ids, lengths, plain):  # type: ignore[no-untyped-def]
    """Reads JSON arrays of unsigned integers.

    Args:
        text: uint8, the arrays' JSON, already known to be well formed.
        starts, ends: where each lies in `text`.
        ids: out, uint64; room for one id per two bytes and one per array.
        lengths: out, ids of each array.
        plain: out, False where it is no array, or holds anything but integers of fewer than 20 digits: it is left out, for
            the slow reader.

    Returns:
        How many ids were written.
    """
    written = 0
    for e in range(len(starts)):
        first = written
        value = np.uint64(0)
        digits = 0
        good = ends[e] - starts[e] >= 2 and text[starts[e]] == 91 and text[ends[e] - 1] == 93
        for p in range(starts[e] + 1, ends[e]):
            c = text[p]
            if 48 <= c <= 57:
                value = value * np.uint64(10) + np.uint64(c - 48)
                digits += 1
            elif c == 44 or (c == 93 and p == ends[e] - 1):
                if digits:
                    ids[written] = value
                    written += 1
                    good = good and digits < 20  # 19 digits always fit; 20 may not
                value = np.uint64(0)
                digits = 0
            elif c != 32 and c != 10 and c != 13 and c != 9:
                good = False
                break
        if good:
            lengths[e] = written - first
        else:
            written = first
            lengths[e] = 0
        plain[e] = good
    return written


@compiled
def speck_encrypt(blocks, keys):  # type: ignore[no-untyped-def]
    """Speck64 over an array of 64-bit blocks in place, a round at a time over a strip that stays in the cache."""
    strip = 1024
    x = np.empty(strip, np.uint32)
    y = np.empty(strip, np.uint32)
    for at in range(0, len(blocks), strip):
        n = min(strip, len(blocks) - at)
        for i in range(n):
            x[i] = np.uint32(blocks[at + i] >> np.uint64(32))
            y[i] = np.uint32(blocks[at + i] & np.uint64(0xFFFFFFFF))
        for k in keys:
            for i in range(n):
                a = ((x[i] >> np.uint32(8)) | (x[i] << np.uint32(24))) + y[i]
                a = np.uint32(a) ^ k
                x[i] = a
                y[i] = ((y[i] << np.uint32(3)) | (y[i] >> np.uint32(29))) ^ a
        for i in range(n):
            blocks[at + i] = (np.uint64(x[i]) << np.uint64(32)) | np.uint64(y[i])


@compiled
def index_users(users, count, slots):  # type: ignore[no-untyped-def]
    """Fills an open-addressing table: `slots` (int32, a power of two long, all -1) -> row of the user."""
    last = np.uint64(len(slots) - 1)
    for row in range(count):
        h = users[row] & last
        while slots[h] >= 0:
            h = (h + np.uint64(1)) & last
        slots[h] = row


@compiled
def fold_entries(  # type: ignore[no-untyped-def]
    users,
    count,
    slots,
    masks,
    first_pane,
    days,
    columns,
    starts,
    lengths,
    lo,
    hi,
    at,
    ids,
    new_rows,
    new_counts,
    new_total,
):
    """Folds activity entries lo..hi into a ledger's masks: sets the day's bit of each user in the entry's feature.

    Args:
        users, count, slots: the ledger's users (uint64), how many there are, and their index.
        masks: uint64 [panes, features, users], changed in place; pane 0 is `first_pane`.
        days, columns, starts, lengths: of each entry: day, feature's column, where its ids lie in `ids`.
        at: where in entry `lo` to go on, after FULL.
        new_rows, new_counts, new_total: out: rows whose bit was not set before, entry after entry; how many of each.

    Returns:
        (OK or FULL, count, entry, at, new_total). FULL: no room for another user; grow and call again from (entry, at).
    """
    last = np.uint64(len(slots) - 1)
    room = min(len(users), len(slots) // 2)
    for e in range(lo, hi):
        day = days[e]
        mask = masks[(day >> 6) - first_pane, columns[e]]
        bit = np.uint64(1) << np.uint64(day & 63)
        first = starts[e]
        for i in range(at, lengths[e]):
            user = ids[first + i]
            h = user & last
            row = slots[h]
            while row >= 0 and users[row] != user:
                h = (h + np.uint64(1)) & last
                row = slots[h]
            if row < 0:
                if count >= room:
                    return FULL, count, e, i, new_total
                row = np.int32(count)
                users[count] = user
                slots[h] = row
                count += 1
            if mask[row] & bit == 0:
                mask[row] |= bit
                new_rows[new_total] = row
                new_total += 1
                new_counts[e] += 1
        at = 0
    return OK, count, hi, 0, new_total


@compiled
def set_rows(masks, first_pane, days, columns, lengths, rows):  # type: ignore[no-untyped-def]
    """Sets bits by row numbers: what `fold_entries` reported as new, read back from state."""
    k = 0
    for e in range(len(days)):
        mask = masks[(days[e] >> 6) - first_pane, columns[e]]
        bit = np.uint64(1) << np.uint64(days[e] & 63)
        for _ in range(lengths[e]):
            mask[rows[k]] |= bit
            k += 1


@compiled
def sort_rows(rows, counts, users, steps):  # type: ignore[no-untyped-def]
    """Sorts row numbers in groups, each of them once in its group: they are marked, and read in the order of the marks.

    Args:
        rows: below `users`; counts: of each group.
        steps: out, uint32: each row's distance from the one before it in its group, from 0 of the first one.
    """
    marks = np.zeros((users + 63) // 64, np.uint64)
    at = np.int64(0)
    for group in range(len(counts)):
        end = at + np.int64(counts[group])
        lowest, highest = np.int64(len(marks)), np.int64(-1)
        for k in range(at, end):
            word = np.int64(rows[k]) >> 6
            marks[word] |= np.uint64(1) << np.uint64(rows[k] & 63)
            lowest = min(lowest, word)
            highest = max(highest, word)
        before = 0
        for place in range(lowest, highest + 1):
            left = marks[place]
            marks[place] = np.uint64(0)
            while left:
                row = 64 * place + lowest_bit(left)
                left &= left - np.uint64(1)
                steps[at] = row - before
                before = row
                at += np.int64(1)


@compiled
def find_cells(masks, features, users, counts, steps, words):  # type: ignore[no-untyped-def]
    """The cells of masks [panes, features, users] that hold a bit, of one pane or more, in the order of features and users.

    Args:
        features, users: how many of each are looked at.
        counts: out, of each feature; steps: out, how far each cell's user is from that of the feature's cell before it.
        words: out [pane, cell]: the masks. `steps` and `words` have room for all cells.

    Returns:
        How many there are.
    """
    panes = masks.shape[0]
    seen = np.empty(users, np.uint64)
    at = np.empty(users, np.uint32)
    found = np.int64(0)
    for feature in range(features):
        seen[:] = masks[0, feature, :users]
        for pane in range(1, panes):
            of_pane = masks[pane, feature]
            for user in range(users):
                seen[user] |= of_pane[user]
        number = np.int64(0)
        for user in range(users):  # without a branch, which would be guessed wrong every other time
            at[number] = np.uint32(user)
            number += np.int64(seen[user] != 0)
        before = np.uint32(0)
        for cell in range(number):
            steps[found + cell] = at[cell] - before
            before = at[cell]
        for pane in range(panes):
            of_pane = masks[pane, feature]
            for cell in range(number):
                words[pane, found + cell] = of_pane[at[cell]]
        counts[feature] = number
        found += number
    return found


@compiled
def cut_bytes(words, byte, out):  # type: ignore[no-untyped-def]
    """One byte of each word (uint64), the lowest is 0."""
    down = np.uint64(8 * byte)
    for w in range(len(words)):
        out[w] = np.uint8(words[w] >> down)


@compiled
def _count_column(here, up, down, earlier, back, count, joint):  # type: ignore[no-untyped-def]
    """(daily, weekly, monthly) active users of a feature on a day. The 28 days of each of them, the day at bit 27, are cut out of one
    pane or two.

    Args:
        here, earlier: addresses of the masks of the day's pane, to be shifted `up` and then `down`, and of the one before, `back`.
        joint: address of the 28 days of each user in the features of a stage (uint32): those of this feature are put to them.
    """
    masks, before, windows = uint64s(here, count), uint64s(earlier, count), uint32s(joint, count)
    daily, weekly, monthly = np.uint32(0), np.uint32(0), np.uint32(0)
    for row in range(count):
        w = np.uint32((((masks[row] << up) >> down) & np.uint64(0xFFFFFFF)) | (before[row] >> back))
        windows[row] |= w
        daily += w >> np.uint32(27)
        weekly += np.uint32(w >= np.uint32(1 << 21))
        monthly += np.uint32(w != np.uint32(0))
    return daily, weekly, monthly


@compiled
def _count_windows(found, count, joint):  # type: ignore[no-untyped-def]
    """The same of windows that are cut out already, at an address, and put to those at `joint`."""
    ones, windows = uint32s(found, count), uint32s(joint, count)
    daily, weekly, monthly = np.uint32(0), np.uint32(0), np.uint32(0)
    for row in range(count):
        w = ones[row]
        windows[row] |= w
        daily += w >> np.uint32(27)
        weekly += np.uint32(w >= np.uint32(1 << 21))
        monthly += np.uint32(w != np.uint32(0))
    return daily, weekly, monthly


@compiled
def _sum_sessions(sessions, day, first_pane, stage_of, stages, sums):  # type: ignore[no-untyped-def]
    """A day's sessions of the total, of each stage and of each feature; -1 where none is known."""
    sums[:] = -1
    pane = (day >> 6) - first_pane
    if 0 <= pane < sessions.shape[0]:
        for column in range(len(stage_of)):
            number = sessions[pane, day & 63, column]
            if number >= 0:
                sums[1 + stages + column] = number
                for k in (0, 1 + stage_of[column]):
                    sums[k] = max(sums[k], 0) + number


@compiled
def count_figures(  # type: ignore[no-untyped-def]
    masks,
    first_pane,
    count,
    stage_of,
    stages,
    sessions,
    first,
    last,
    names,
    stage_names,
    out_name,
    out_dau,
    out_wau,
    out_mau,
    out_sessions,
    out_rows,
    out_counted,
    written,
):
    """Counts dau, wau and mau of the days first..last: in total, of each stage, of each feature.

    A figure is written when its mau is above 0, and once at 0 on the day it falls to 0. Behind a day's figures stand names
    that have a number of sessions and no figure, with zeros: a population's sessions are sums over its scopes' numbers.

    Args:
        masks, first_pane, count: the ledger's masks and number of users.
        stage_of: stage number of each feature's column; `stages`: how many there are.
        sessions: int64 [panes, 64, features], -1 unknown; panes may be 0 when no number is known at all.
        names, stage_names: id of each feature's and each stage's name; the total has id 0.
        out_*: one element a figure from `written` on; out_sessions -1 = unknown.
        out_rows, out_counted: elements of each day first..last; how many of them are figures.

    Returns:
        The new `written`.
    """
    features = len(stage_of)
    figures = 1 + stages + features
    known = sessions.shape[0] > 0
    nothing = np.zeros(count, np.uint64)
    of_stage = np.empty((STRIP, count), np.uint32)
    of_total = np.empty((STRIP, count), np.uint32)
    before = np.zeros(figures, np.uint32)
    dau = np.empty((STRIP, figures), np.uint32)
    wau = np.empty((STRIP, figures), np.uint32)
    mau = np.empty((STRIP, figures), np.uint32)
    session_sum = np.empty(figures, np.int64)
    panes, room, size = masks.shape[0], masks.shape[2], 4 * count
    for begin in range(first - 1, last + 1, STRIP):
        days = min(STRIP, last + 1 - begin)
        # Asked for here and not before the loop: an array lives up to the last place that names it, whoever has its address.
        none, of_masks = np.int64(nothing.ctypes.data), np.int64(masks.ctypes.data)
        stage_at, total_at = np.int64(of_stage.ctypes.data), np.int64(of_total.ctypes.data)
        of_total[:days] = 0
        for stage in range(stages):
            of_stage[:days] = 0
            for column in range(features):
                if stage_of[column] == stage:
                    at = 1 + stages + column
                    for d in range(days):
                        pane, bit = ((begin + d) >> 6) - first_pane, (begin + d) & 63
                        here = of_masks + 8 * room * (pane * masks.shape[1] + column)
                        dau[d, at], wau[d, at], mau[d, at] = _count_column(
                            here if 0 <= pane < panes else none,
                            np.uint64(max(27 - bit, 0)),
                            np.uint64(max(bit - 27, 0)),
                            here - 8 * room * masks.shape[1] if bit < 27 and 0 < pane <= panes else none,
                            np.uint64(min(37 + bit, 63)),
                            count,
                            stage_at + d * size,
                        )
            at = 1 + stage
            for d in range(days):
                dau[d, at], wau[d, at], mau[d, at] = _count_windows(stage_at + d * size, count, total_at + d * size)
        for d in range(days):
            dau[d, 0], wau[d, 0], mau[d, 0] = _count_windows(total_at + d * size, count, total_at + d * size)
            day = begin + d
            if day >= first:
                if known:
                    _sum_sessions(sessions, day, first_pane, stage_of, stages, session_sum)
                else:
                    session_sum[:] = -1
                start = written
                for alone in range(1 + known):
                    for k in range(figures):
                        figure = mau[d, k] > 0 or before[k] > 0
                        if (session_sum[k] >= 0 and not figure) if alone else figure:
                            if k == 0:
                                out_name[written] = np.uint64(0)
                            elif k <= stages:
                                out_name[written] = stage_names[k - 1]
                            else:
                                out_name[written] = names[k - 1 - stages]
                            out_dau[written] = dau[d, k]
                            out_wau[written] = wau[d, k]
                            out_mau[written] = mau[d, k]
                            out_sessions[written] = session_sum[k]
                            written += 1
                    if not alone:
                        out_counted[day - first] = written - start
                out_rows[day - first] = written - start
            before[:] = mau[d]
    return written


def compile_all() -> None:
    """Compiles each kernel for the types it is called with, on a ledger of one user and an account of one event."""
    from streams.ledger.example import run

    run()


if __name__ == "__main__":
    compile_all()
