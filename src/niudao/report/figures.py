"""How numbers look: short for people, exact for programs."""

from __future__ import annotations

import math
from numbers import Integral, Real

HUGE = 10**300
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def si(value: float) -> str:
    """Three significant digits and a prefix.

    Example:
        >>> si(1_248_424), si(861e6), si(512)
        ('1.25 M', '861 M', '512')
    """
    found = _finite(value)
    if isinstance(found, str):
        return found
    size, step = abs(found), 0
    while step < len(_PREFIXES) - 1 and float(f"{size:.3g}") >= 1000:
        size, step = size / 1000, step + 1
    if step == 0 and size < 1000:
        return short(found)
    return f"{'-' if found < 0 else ''}{float(f'{size:.3g}'):g} {_PREFIXES[step]}".rstrip()


def size(count: float) -> str:
    """Bytes, with decimal prefixes.

    Example:
        >>> size(4_812_000), size(97)
        ('4.81 MB', '97 B')
    """
    text = si(count)
    return text + "B" if text[-1:].isalpha() and " " in text else text + " B"


def short(value: float) -> str:
    """A number as a table for people shows it: integers grouped by thousands, others to four digits or as powers of ten.

    Example:
        >>> short(513000), short(0.8312345), short(1.234e-7)
        ('513,000', '0.8312', '1.2e-07')
    """
    found = _finite(value)
    if isinstance(found, str):
        return found
    if isinstance(found, int):
        return f"{found:,}" if abs(found) < 10**15 else f"{found:.3e}"
    if found == 0:
        return "0"
    if abs(found) < 1e-3:
        return f"{found:.1e}"
    if abs(found) >= 1e15:
        return f"{found:.3e}"
    return f"{found:,.0f}" if abs(found) >= 1e4 else f"{found:.4g}"


def exact(value: object) -> str:
    """A number as a program wants it: no grouping, every digit that float32 has."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    number = _finite(value) if isinstance(value, Real) else str(value)
    return number if isinstance(number, str) else str(number) if isinstance(number, int) else f"{number:.9g}"


def number(value: object) -> float | None:
    """The finite float behind a cell, or None where there is none to draw."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _finite(value: Real | float) -> float | int | str:
    """A Python number, or words: nan, inf, -inf, and for whole numbers that no double holds, that they are huge."""
    if isinstance(value, Integral):
        whole = int(value)
        return whole if abs(whole) < HUGE else "over 1e300" if whole > 0 else "under -1e300"
    value = float(value)
    return value if math.isfinite(value) else str(value)
