"""When days may leave the ledgers."""

from __future__ import annotations

from streams.ledger.watermarks import KEPT_DAYS, NO_DAY, SILENT_DAYS, Watermarks


def everybody_says(books: list[Watermarks], days: list[int], as_of: int) -> None:
    """Words go round until nobody has a new one; a partition of day NO_DAY has no messages."""
    moved = True
    while moved:
        words = [(p, word) for p, book in enumerate(books) if (word := book.move(days[p], as_of)) is not None]
        moved = bool(words)
        for partition, (source, low) in words:
            for book in books:
                book.hear(partition, source, low, as_of)


def new_books(partitions: int, as_of: int) -> list[Watermarks]:
    books = [Watermarks(p, partitions) for p in range(partitions)]
    for book in books:
        book.begin(as_of)
    return books


def test_the_floor_is_100_days_behind_the_smallest_watermark() -> None:
    books = new_books(3, 500)
    everybody_says(books, [400, 380, 390], 500)
    assert {book.floor for book in books} == {380 - 100}
    assert KEPT_DAYS == 28 + 36 + 36


def test_a_book_alone_has_to_hear_its_own_word() -> None:
    """What it sends to itself is on its way as well."""
    book = Watermarks(0, 1)
    book.begin(500)
    word = book.move(400, 500)
    assert word == (400, 400) and book.floor == NO_DAY
    book.hear(0, *word, 500)
    assert book.floor == 300
    assert book.move(400, 500) is None


def test_nothing_leaves_while_one_partition_was_never_heard_of() -> None:
    books = new_books(2, 500)
    everybody_says(books, [400, NO_DAY], 500)
    assert {book.floor for book in books} == {NO_DAY}


def test_what_comes_by_way_of_another_book_holds_the_floor() -> None:
    """Partition 0 is far ahead and everybody knows; book 1 has not passed on what partition 0 sent to it."""
    books = new_books(2, 500)
    everybody_says(books, [100, 100], 500)
    word = books[0].move(400, 500)
    assert word == (400, 100)
    books[0].hear(0, *word, 500)
    books[0].hear(1, 390, 100, 500)
    assert books[0].floor == 0, "the low word of book 1 is still the old one"


def test_a_partition_that_stays_silent_counts_as_where_the_others_are() -> None:
    books = new_books(3, 500)
    everybody_says(books, [400, 390, 395], 500)
    later = 500 + SILENT_DAYS
    everybody_says(books, [450, NO_DAY, 448], later - 1)
    assert {book.floor for book in books} == {390 - 100}, "35 days of the clock are no silence yet"
    everybody_says(books, [451, NO_DAY, 448], later)
    assert {book.floor for book in books} == {448 - 100}


def test_history_that_is_loaded_in_an_hour_is_no_silence() -> None:
    books = new_books(2, 500)
    everybody_says(books, [100, 100], 500)
    everybody_says(books, [499, 100], 500)
    assert {book.floor for book in books} == {0}


def test_days_never_fall_and_what_was_heard_outlives_a_restart() -> None:
    books = new_books(2, 500)
    everybody_says(books, [400, 390], 500)
    again = Watermarks(0, 2, books[0].heard)
    again.begin(600)
    assert again.floor == 290
    again.hear(1, 50, 20, 600)
    again.move(10, 600)
    assert again.floor == 290
