"""User ids are pseudonymised with a secret key before they reach state, topics or tables.

Integers go through a bijection of 64 bits, so two of them never meet: the block cipher Speck64/128 (Beaulieu et al., 2013,
"The SIMON and SPECK families of lightweight block ciphers"), 27 rounds. Strings go through keyed BLAKE2b cut to 64 bits.
With n ids of which some are strings the chance that any two meet is below n^2 / 2^65: 2.7e-6 for 10 million.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from streams.ledger.kernels import speck_encrypt

ROUNDS = 27
_WORD = 0xFFFFFFFF


class Pseudonymiser:
    """Turns ids into 64-bit pseudonyms. Two objects with one key agree; the key itself is not kept."""

    def __init__(self, key: bytes) -> None:
        self._strings = hashlib.blake2b(key, digest_size=32, person=b"pingstream.str").digest()
        self._schedule = _round_keys(hashlib.blake2b(key, digest_size=16, person=b"pingstream.int").digest())
        self.fingerprint = hashlib.blake2b(key, digest_size=8, person=b"pingstream.chk").digest()
        """Tells two keys apart and gives neither away; kept in the state, as a changed key makes every user a new one."""

    def integers(self, ids: npt.NDArray[np.uint64]) -> None:
        """Replaces unsigned 64-bit ids by their pseudonyms, in place."""
        speck_encrypt(ids, self._schedule)

    def string(self, user: str) -> int:
        """The pseudonym of a string id."""
        digest = hashlib.blake2b(user.encode(), digest_size=8, key=self._strings).digest()
        return int.from_bytes(digest, "little")


def _round_keys(key: bytes) -> npt.NDArray[np.uint32]:
    """Speck64/128's key schedule: 16 bytes of key to 27 words."""
    k, *rest = (int.from_bytes(key[at : at + 4], "little") for at in range(0, 16, 4))
    words = []
    for index in range(ROUNDS):
        words.append(k)
        mixed = ((rest[0] >> 8 | rest[0] << 24) + k & _WORD) ^ index
        rest = [*rest[1:], mixed]
        k = (k << 3 | k >> 29) & _WORD ^ mixed
    return np.array(words, np.uint32)
