"""What lies at an address, for kernels. An array that a kernel hands to a part of itself has its references counted, which takes longer
than a small part's work; an address is just a number. So it keeps no array: one that a kernel makes itself is free after the last
place that names it. Ask for its address inside the loop in which it is read."""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def _pointer(context, address):  # type: ignore[no-untyped-def]
    """A number as a pointer."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@numba.njit(inline="always")
def uint64s(address, length):  # type: ignore[no-untyped-def]
    """The array of `length` numbers at an address."""
    return numba.carray(_pointer(address), length, np.uint64)


@numba.njit(inline="always")
def int64s(address, length):  # type: ignore[no-untyped-def]
    """The same, signed."""
    return numba.carray(_pointer(address), length, np.int64)


@numba.njit(inline="always")
def int32s(address, length):  # type: ignore[no-untyped-def]
    """The same, of 32 bits."""
    return numba.carray(_pointer(address), length, np.int32)


@numba.njit(inline="always")
def uint32s(address, length):  # type: ignore[no-untyped-def]
    """The same, of 32 bits and unsigned."""
    return numba.carray(_pointer(address), length, np.uint32)


@intrinsic
def byte_at(context, address):  # type: ignore[no-untyped-def]
    """The byte at an address, as a number."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        return builder.zext(builder.load(place), ir.IntType(64))

    return types.int64(types.int64), generate


@intrinsic
def word_at(context, address):  # type: ignore[no-untyped-def]
    """The 64-bit number at an address, which need not be aligned."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.int64(types.int64), generate


@intrinsic
def put_word(context, address, word):  # type: ignore[no-untyped-def]
    """Puts a 64-bit number to an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store(arguments[1], place, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def lowest_bit(context, word):  # type: ignore[no-untyped-def]
    """The number of the lowest bit that is set in a word of 64 bits; 64 where none is."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.int64(types.uint64), generate
