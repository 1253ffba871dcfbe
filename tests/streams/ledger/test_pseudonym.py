"""Pseudonyms: a published cipher for integers, a keyed digest for strings."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.ledger.kernels import speck_encrypt
from streams.ledger.pseudonym import Pseudonymiser, _round_keys

KEY = b"0123456789abcdef"


def test_speck64_128_gives_the_published_vector() -> None:
    """Beaulieu et al. 2013, appendix C: key 1b1a1918 13121110 0b0a0908 03020100, 3b726574 7475432d -> 8c6fa548 454e028b."""
    key = b"".join(word.to_bytes(4, "little") for word in (0x03020100, 0x0B0A0908, 0x13121110, 0x1B1A1918))
    blocks = np.array([0x3B7265747475432D], np.uint64)
    speck_encrypt(blocks, _round_keys(key))
    assert blocks.tolist() == [0x8C6FA548454E028B]


@given(st.sets(st.integers(0, 2**64 - 1), max_size=3_000))
def test_integers_stay_distinct(ids: set[int]) -> None:
    some = np.array(sorted(ids), np.uint64)
    Pseudonymiser(KEY).integers(some)
    assert len(np.unique(some)) == len(ids)


def test_the_same_digits_as_a_string_are_another_user_and_another_key_gives_other_pseudonyms() -> None:
    one, other = Pseudonymiser(KEY), Pseudonymiser(b"another key, 16+")
    ids = np.array([17], np.uint64)
    one.integers(ids)
    assert int(ids[0]) not in (17, one.string("17"))
    assert one.string("17") == Pseudonymiser(KEY).string("17") != other.string("17")
