"""What the pipeline asks of a topic's half of the product: usage or billing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from streams.ledger.forwarding import Forward
from streams.ledger.records import Change, Letter, Record, Tally
from streams.ledger.state import Version

LetterRow = tuple[Any, ...]
"""A row of `letter`, in the order of its columns."""

WriteState = Callable[[Mapping[int, list[Change]]], Awaitable[None]]
"""Changes of partitions to the changelog; returns once they are acknowledged and kept."""


class Folded(Protocol):
    """What came of a batch: letters and forwards are acknowledged first, then the changes, then rows go to the sink."""

    @property
    def letters(self) -> Sequence[Letter]: ...
    @property
    def forwards(self) -> Sequence[Forward]: ...
    @property
    def changes(self) -> list[Change]: ...
    @property
    def tally(self) -> Tally: ...


F = TypeVar("F", bound=Folded)
F_co = TypeVar("F_co", bound=Folded, covariant=True)
F_contra = TypeVar("F_contra", bound=Folded, contravariant=True)


class Book(Protocol[F_co]):
    """One partition's part of the state, and what is known of the partition as a whole."""

    partition: int
    epoch: int
    rolled_to: int
    settled: bool
    found: bool
    outrun: bool
    newest_timestamp: int

    @property
    def version(self) -> Version: ...
    @property
    def read_to(self) -> int | None: ...
    @property
    def scopes(self) -> int: ...
    def claim(self, as_of: int) -> Change: ...
    def own(self, late: Iterable[bytes]) -> list[Change]: ...
    def settle(self, newest_epoch: int) -> None: ...
    def fold(self, records: Sequence[Record], as_of: int, forwarded: Sequence[Record] = ()) -> F_co: ...
    def needs_roll(self, as_of: int) -> bool: ...
    def rolled(self, as_of: int) -> Change: ...


B = TypeVar("B", bound=Book[Any])


class Side(Protocol, Generic[B, F_contra]):
    """Makes books, writes their rows, shows their live figures.

    Attributes:
        flush_bytes, flush_records: a flush takes this many bytes of messages, or this many of them, and no more events after
            them: what it holds in memory is a few times that.
    """

    flush_bytes: int
    flush_records: int

    def open(self, partition: int, values: Mapping[bytes, bytes], generation: int) -> B:
        """A book of recovered state, for its owner in a generation of the consumer group."""

    def prepare(self, books: Mapping[int, B], folded: Mapping[int, F_contra]) -> Any:
        """What can be made of a flush's rows while its state is on the way to the changelog."""

    async def write(
        self,
        books: Mapping[int, B],
        folded: Mapping[int, F_contra],
        prepared: Any,
        letters: Sequence[LetterRow],
        behind: bool,
        write_state: WriteState,
        still_ours: Callable[[], bool],
    ) -> bool:
        """Writes the rows of a flush whose state is durable. False when the assignment changed while the sink was away.

        Args:
            behind: much more is waiting: rows that the state knows to be missing may be left for later.
        """

    async def roll(self, book: B, as_of: int, write_state: WriteState, still_ours: Callable[[], bool]) -> bool:
        """Writes the rows that a new as-of day brings; returns as `write` does."""

    def taken_over(self) -> None:
        """The books are others than before: live figures begin anew."""

    def note(self, books: Mapping[int, B], folded: Mapping[int, F_contra], prepared: Any, as_of: int) -> None:
        """A flush is done: counts it, and what it touched for the live figures."""

    def count_live(self, books: Mapping[int, B], day: int) -> bool:
        """Counts live figures of `day` that no message has touched, some at a time. False when none are left."""

    def refresh(self) -> None:
        """Brings the gauges of the live figures up to date."""
