"""Varints, the numbers of variable length: one at a time, and a whole array of them at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from niudao.formats.protobuf.scalars import DTYPES

LONGEST = 10
"""Bytes of the longest varint."""


def encode(n: int) -> bytes:
    """The bytes of a number in [0, 2**64)."""
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def length(n: int) -> int:
    """How many bytes `encode` makes."""
    return max(1, (n.bit_length() + 6) // 7)


def count(data: np.ndarray[Any, Any]) -> int | None:
    """How many varints lie wall to wall in these uint8; None if they are broken: cut off, or longer than ten bytes."""
    total = open = 0
    for at in range(0, len(data), 1 << 20):
        part = data[at : at + (1 << 20)]
        ends = np.flatnonzero(part < 0x80)
        if not len(ends):
            return None  # no varint is that long, and a shorter part is the last one
        if open + ends[0] >= LONGEST or (len(ends) > 1 and np.diff(ends).max() > LONGEST):
            return None
        total += len(ends)
        open = len(part) - 1 - int(ends[-1])
    return None if open else total


def decode(data: np.ndarray[Any, Any], type: str) -> np.ndarray[Any, Any]:
    """The numbers that lie wall to wall in these uint8, which `count` has checked.

    Args:
        data: shape (bytes,).
        type: A type of protobuf that is stored as varint, or "enum".

    Returns:
        shape (numbers,), in the type's dtype; of an enum int32.
    """
    ends = np.flatnonzero(data < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    sizes = ends - starts + 1
    bits = np.zeros(len(ends), np.uint64)
    for k in range(int(sizes.max(initial=0))):
        held = np.flatnonzero(sizes > k)
        bits[held] |= (data[starts[held] + k] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * k)
    if type == "bool":
        return bits.astype(np.bool_)
    if type in ("sint32", "sint64"):
        if type == "sint32":
            bits &= np.uint64(0xFFFFFFFF)
        bits = (bits >> np.uint64(1)) ^ (np.uint64(0) - (bits & np.uint64(1)))
    own = np.dtype(DTYPES.get(type, "<i4"))
    result: np.ndarray[Any, Any] = (bits.view(np.int64) if own.kind == "i" else bits).astype(own)
    return result
