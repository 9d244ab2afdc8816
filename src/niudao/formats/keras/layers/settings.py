"""What a value in a configuration may be: a whole number, a finite number, a switch. JSON knows more kinds than Keras means."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

HIGHEST = (1 << 31) - 1
"""No size, count or axis of a real layer is larger; TensorFlow's own kernels count in 32 bits."""

REQUIRED: Any = object()
"""In the place of a default: the setting must be there."""


def whole(value: Any, low: int, high: int = HIGHEST) -> int | None:
    """The value as a whole number in [low, high], or None if it is none. 4.0 is one, 4.5, True and "4" are not."""
    if isinstance(value, float) and isfinite(value) and value == int(value):
        value = int(value)
    return value if type(value) is int and low <= value <= high else None


def finite(value: Any) -> float | None:
    """The value as a finite number, or None if it is none; Keras may have written it as an array of one number.

    Example:
        >>> finite({"type": "ndarray", "value": [0.5]}), finite(float("nan")), finite("0.5")
        (0.5, None, None)
    """
    while isinstance(value, Mapping):
        value = value.get("value", value.get("config"))
    while isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def shown(value: Any) -> str:
    """The value for a message, cut to a length that a sentence can hold."""
    text = repr(value) if not isinstance(value, int) or isinstance(value, bool) or value.bit_length() < 200 else "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."
