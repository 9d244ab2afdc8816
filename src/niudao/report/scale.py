"""Axes: values to pixels, and round numbers to write beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from niudao.report import figures


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels.

    Attributes:
        low: Value at `start`; on a log axis its logarithm. `high` likewise, at `end`.
        ticks: Values with their words.
        zero: Pixel of a value that a log axis has no place for.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[tuple[float, str], ...]
    zero: float | None = None

    def __call__(self, value: float) -> float:
        if self.log:
            if value <= 0:
                return self.start if self.zero is None else self.zero
            value = math.log10(value)
        span = self.high / 2 - self.low / 2  # halves, because the difference of two doubles may overflow
        place = min(max((value / 2 - self.low / 2) / span, 0.0), 1.0) if span > 0 else 0.5
        return self.start + place * (self.end - self.start)


def as_float(value: float) -> float:
    """The double nearest to any number; infinite for whole numbers beyond all doubles."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def linear_axis(values: list[float], start: float, end: float, count: int, *, pad: bool = True) -> Axis:
    """An axis of about `count` steps of 1, 2 or 5 times a power of ten; `pad` widens it to whole steps."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    step = _step(low, high, count)
    far = max(abs(low), abs(high))
    if not 0 < step < math.inf or far > 1e300 or far + step == far:  # a span beyond, or below, what doubles can step through
        return Axis(low, high, start, end, False, ((low, figures.short(low)), (high, figures.short(high))))
    if pad:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple(
        (i * step, figures.short(int(i * step) if float(i * step).is_integer() else float(f"{i * step:.6g}")))
        for i in range(first, last + 1)
    )
    return Axis(low, high, start, end, False, ticks)


def _step(low: float, high: float, count: int) -> float:
    """The step between ticks; not a number where the span is beyond doubles."""
    rough = high / count - low / count
    if not 0 < rough < math.inf:
        return math.nan
    size = 10.0 ** math.floor(math.log10(rough))
    return next((size * m for m in (1, 2, 5) if size * m >= rough * 0.999), size * 10)


def log_axis(values: list[float], bottom: float, top: float, most: int) -> Axis:
    """An axis of whole decades with at most about `most` ticks, and below it a place for values that are not positive."""
    positive = [v for v in values if v > 0]
    first, last = math.floor(math.log10(min(positive)) + 1e-9), math.ceil(math.log10(max(positive)) - 1e-9)
    last = max(last, first + 1)
    every = max(1, math.ceil((last - first) / most))
    ticks = tuple((10.0**e, f"1e{e}" if not 0 <= e <= 3 else str(10**e)) for e in range(first, last + 1, every) if -308 <= e <= 308)
    zeros = any(v <= 0 for v in values)
    return Axis(first, last, bottom - (26 if zeros else 0), top, True, ticks, zero=bottom - 6 if zeros else None)
