"""What each scalar type of protobuf means.

Reference: protobuf.dev, "Encoding" and "Language Guide (proto 2)", scalar value types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
"""Wire types: how long the value behind a tag is."""

FIXED = {"float": "<f4", "double": "<f8", "fixed32": "<u4", "fixed64": "<u8", "sfixed32": "<i4", "sfixed64": "<i8"}
"""Types of fixed width, with their dtype."""

RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "sint32": (-(1 << 31), (1 << 31) - 1),
    "sfixed32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "sint64": (-(1 << 63), (1 << 63) - 1),
    "sfixed64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "fixed32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
    "fixed64": (0, (1 << 64) - 1),
}
"""Integer types, with the smallest and largest number each holds."""

ZERO: dict[str, Any] = {name: 0 for name in RANGES} | {"float": 0.0, "double": 0.0, "bool": False, "string": "", "bytes": b""}
"""Every scalar type, with the value of a field that is absent and has no default."""

DTYPES = FIXED | {"bool": "|b1"} | {n: ("<u" if lo == 0 else "<i") + ("8" if hi >> 32 else "4") for n, (lo, hi) in RANGES.items()}
"""Numeric types, with the dtype of an array of them."""


def wire_type(type: str) -> int:
    """The wire type of a scalar, an enum or a message that stands alone.

    Args:
        type: Name of a scalar type; any other name is an enum's ("enum") or a message's ("message").
    """
    if type in FIXED:
        return FIXED32 if FIXED[type][-1] == "4" else FIXED64
    return BYTES if type in ("string", "bytes", "message") else VARINT


def _signed(bits: int) -> Callable[[int], int]:
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    return lambda n: ((n & mask) ^ half) - half


def _zigzag(bits: int) -> Callable[[int], int]:
    mask = (1 << bits) - 1
    return lambda n: ((n & mask) >> 1) ^ -(n & 1)


from_varint: dict[str, Callable[[int], Any]] = {
    "int32": _signed(32),
    "int64": _signed(64),
    "uint32": lambda n: n & 0xFFFFFFFF,
    "uint64": lambda n: n,
    "sint32": _zigzag(32),
    "sint64": _zigzag(64),
    "bool": bool,
    "enum": _signed(32),
}
"""What the 64 bits of a varint mean for each type."""


def to_varint(type: str, value: int) -> int:
    """The 64 bits that stand for a value; negative numbers are extended to ten bytes, as protobuf does."""
    if type in ("sint32", "sint64"):
        return value * 2 if value >= 0 else -value * 2 - 1
    return int(value) & 0xFFFFFFFFFFFFFFFF


_FLOAT = struct.Struct("<f")


def single(value: float) -> float:
    """The nearest float32, as a Python float; infinity beyond its range.

    A value in a text and the same value in a binary file are then the same number.
    """
    try:
        return float(_FLOAT.unpack(_FLOAT.pack(value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
