"""Figures of many scopes, counted by one call."""

from __future__ import annotations

from streams.ledger.addresses import int64s, uint64s
from streams.ledger.compiled import compiled
from streams.ledger.directory import (
    COUNT,
    FEATURE_ROOM,
    FEATURES,
    FIRST_PANE,
    MASKS,
    NAMES,
    PANES,
    ROOM,
    SESSION_PANES,
    SESSIONS,
    STAGE_NAMES,
    STAGE_OF,
    STAGES,
)
from streams.ledger.kernels import PANE, count_figures


@compiled
def most_figures(directory, scopes, first, last):  # type: ignore[no-untyped-def]
    """(figures, rows) that the days first..last of each scope have at the most."""
    figures = 0
    rows = 0
    for k in range(len(scopes)):
        row = directory[scopes[k]]
        days = max(last[k] - first[k] + 1, 0)
        rows += days
        figures += days * (1 + row[STAGES] + row[FEATURES])
    return figures, rows


@compiled
def count_scopes(  # type: ignore[no-untyped-def]
    directory,
    scopes,
    first,
    last,
    out_name,
    out_dau,
    out_wau,
    out_mau,
    out_sessions,
    written,
    out_day,
    out_length,
    out_counted,
    out_rows,
):
    """Counts the days first..last of each scope, see `streams.ledger.kernels.count_figures`; days without a figure are left out.

    Args:
        directory: see `streams.ledger.directory`; scopes: numbers in it.
        out_name, out_dau, out_wau, out_mau, out_sessions: one element a figure from `written` on.
        out_day, out_length, out_counted: out, of each row: its day, elements, and how many of them are figures.
        out_rows: out, rows of each scope.

    Returns:
        The new `written`, and how many rows there are.
    """
    total = 0
    for k in range(len(scopes)):
        row = directory[scopes[k]]
        days = max(last[k] - first[k] + 1, 0)
        out_rows[k] = 0
        if not days:
            continue
        features = row[FEATURES]
        masks = uint64s(row[MASKS], row[PANES] * row[FEATURE_ROOM] * row[ROOM])
        sessions = int64s(row[SESSIONS], row[SESSION_PANES] * PANE * row[FEATURE_ROOM])
        written = count_figures(
            masks.reshape((row[PANES], row[FEATURE_ROOM], row[ROOM])),
            row[FIRST_PANE],
            row[COUNT],
            int64s(row[STAGE_OF], features),
            row[STAGES],
            sessions.reshape((row[SESSION_PANES], PANE, row[FEATURE_ROOM])),
            first[k],
            last[k],
            uint64s(row[NAMES], features),
            uint64s(row[STAGE_NAMES], row[STAGES]),
            out_name,
            out_dau,
            out_wau,
            out_mau,
            out_sessions,
            out_length[total:],
            out_counted[total:],
            written,
        )
        kept = total
        for day in range(days):
            if out_length[total + day]:
                out_day[kept] = first[k] + day
                out_length[kept] = out_length[total + day]
                out_counted[kept] = out_counted[total + day]
                kept += 1
        out_rows[k] = kept - total
        total = kept
    return written, total
