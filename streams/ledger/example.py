"""The smallest ledger there is, for the compiler: every kernel runs once with the types it has in earnest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.billing import BillingEvent
from streams.ledger import kernels
from streams.ledger.billing.digests import digests_of
from streams.ledger.billing.facts import Facts
from streams.ledger.billing.history import History
from streams.ledger.billing.state import Fact, append
from streams.ledger.book import Book, Rules, UsageRows
from streams.ledger.cells import pack, pack_rows
from streams.ledger.names import Names
from streams.ledger.plain.kernels import gather, place_pairs
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.records import DAY_MS
from streams.ledger.state import Version
from streams.ledger.usage import Entries, Figures, UsageLedger


def run() -> None:
    """Parses, folds and counts one user's day, and reads one account."""
    text = np.frombuffer(b"[17]", np.uint8)
    kernels.count_openers(text, np.array([4]), np.empty(1, np.int64))
    kernels.nesting(text)
    kernels.murmur2(text)
    kernels.secret_values(text, text, text, np.empty((1, 3), np.int64))
    digests_of([b'{"a":[1.5,true,"\\u0061"]}'])
    ids, lengths, plain = np.empty(3, np.uint64), np.empty(1, np.int64), np.empty(1, np.bool_)
    kernels.parse_ids(text, np.array([0]), np.array([4]), ids, lengths, plain)
    kernels.speck_encrypt(ids[:1], np.arange(27, dtype=np.uint32))
    pack(np.ones((1, 1, 1), np.uint64), 1, 1)
    pack_rows(np.zeros(1, np.int32), np.ones(1, np.int64), 1)
    _fold_plain_ping()
    ledger = UsageLedger()
    column = ledger.column("create", "merge_requests", Names())
    entries = Entries(np.array([20_000]), np.array([column]), np.array([0]), lengths, ids)
    ledger.fold(entries, 0, 1)
    ledger.raise_sessions(20_000, column, 1)
    ledger.append_users(np.array([5], np.uint64))
    ledger.fold_rows(np.array([20_000]), np.array([column]), np.array([1]), np.array([1], np.int32))
    ledger.count_days(20_000, 20_000, Figures())
    event = BillingEvent("1", "trial_started", 0, 0, "1", "", 0, None, None, None, None)
    ((_, segment),), ((_, place),) = append(0, None, [Fact(event, 0, 0)], Version(1, 1))
    History(Facts(["1"], segment, np.array([place]), [1]))


class _Message(NamedTuple):
    """A record as the ledger asks for one."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int
    headers: Sequence[tuple[str, bytes]] = ()


def _fold_plain_ping() -> None:
    """A plain ping's whole way: read, folded, told to the state, counted, its texts gathered."""
    book = Book(0, {}, Names(), Pseudonymiser(b""), Rules())
    book.claim(20_000)
    value = (
        b'{"uuid":"a","hostname":"b","recorded_at":"2024-10-04T00:00:00Z","activity":'
        b'[{"date":"2024-10-04","stage":"create","feature":"merge_requests","users":[17]}]}'
    )
    folded = book.fold([_Message(None, value, 0, 20_000 * DAY_MS)], 20_000)
    book.rows(folded, UsageRows())
    one = np.array([1])
    gather(np.frombuffer(value, np.uint8), one, one, np.empty(2, np.int32), np.empty(0, np.uint8))
    place_pairs(np.zeros((1, 3), np.int64), 0, np.empty(1, np.uint8), np.empty(2, np.int32))
