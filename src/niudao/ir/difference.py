"""How far apart two arrays are, in the words of a report. Agreement is proven (`difference <= limit`), so that NaN never passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class OutputDifference:
    """Two answers to the same question.

    Attributes:
        name: Output of the first network.
        shape: Its shape; the second's stands in `reason` where it is another one.
        max_abs: Largest difference.
        max_rel: Largest difference over the largest magnitude of either answer; infinite where they cannot be compared.
        cosine: Of the two arrays as vectors; None where one of them is zero.
        top1_agreement: Share of rows with the same largest entry; None where rows are no scores.
        limit: Largest difference allowed, as `max_abs` counts it.
        same: The difference was shown to be within the limit.
        log_difference: Largest difference of log-probabilities over their largest magnitude, where rows are probabilities.
        reason: Why not the same, where it is no matter of numbers.
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    cosine: float | None
    top1_agreement: float | None
    limit: float
    same: bool
    log_difference: float | None = None
    reason: str = ""

    def worse(self, other: OutputDifference) -> OutputDifference:
        """Whichever of two batches says more against sameness."""
        if self.same != other.same:
            return other if self.same else self
        return self if self.max_rel > other.max_rel else other


def gap(a: Array, b: Array) -> tuple[float, float]:
    """Largest |a - b|, and largest finite magnitude of either; infinities of one sign are equal, a NaN makes the gap infinite."""
    if a.size == 0:
        return 0.0, 0.0
    x, y = (v.astype(np.float64) if v.dtype.kind != "c" else v for v in (a, b))
    with np.errstate(all="ignore"):
        d = np.where(x == y, 0.0, np.abs(x - y))
        largest = float(d.max())
        scale = max(float(np.abs(v[np.isfinite(v)]).max(initial=0.0)) for v in (x, y))
    return (largest if np.isfinite(largest) else float("inf")), scale


def relative(a: Array, b: Array) -> float:
    """Largest difference over the largest magnitude; infinite for another shape or kind, or a NaN."""
    if a.shape != b.shape or (a.dtype.kind != b.dtype.kind):
        return float("inf")
    largest, scale = gap(a, b)
    return 0.0 if largest == 0 else largest / scale if scale else float("inf")


def measure(name: str, a: Array, b: Array, rtol: float) -> OutputDifference:
    """Compare one output of two networks. Whole numbers and truth values must be equal."""
    a, b = np.asarray(a), np.asarray(b)
    inf = float("inf")
    reason = ""
    if a.shape != b.shape:
        reason = f"shape {list(a.shape)} against {list(b.shape)}"
    elif a.dtype != b.dtype:
        reason = f"type {a.dtype} against {b.dtype}"
    elif a.dtype.kind not in "fiub" and a.dtype.itemsize > 2:
        equal = bool(np.array_equal(a, b))
        return OutputDifference(name, a.shape, 0.0 if equal else inf, 0.0 if equal else inf, None, None, 0.0, equal, reason="" if equal else "other text")
    if reason:
        return OutputDifference(name, a.shape, inf, inf, None, None, 0.0, False, reason=reason)
    largest, scale = gap(a, b)
    limit = rtol * scale if a.dtype.kind not in "iub" else 0.0
    same = largest <= limit
    logs = _log_difference(a, b, rtol)
    if logs is not None and not logs <= rtol:
        same = False
        reason = "" if largest > limit else "log-probabilities differ"
    if np.isnan(np.asarray(a, dtype=np.float64)).any() or np.isnan(np.asarray(b, dtype=np.float64)).any():
        same, reason = False, "not a number"
    rel = 0.0 if largest == 0 else largest / scale if scale else inf
    return OutputDifference(name, a.shape, largest, rel, _cosine(a, b), _top1(a, b), limit, same, logs, reason)


def _cosine(a: Array, b: Array) -> float | None:
    x, y = np.asarray(a, dtype=np.float64).reshape(-1), np.asarray(b, dtype=np.float64).reshape(-1)
    with np.errstate(all="ignore"):
        length = float(np.sqrt(x @ x) * np.sqrt(y @ y))
        return float(np.clip((x @ y) / length, -1.0, 1.0)) if length and np.isfinite(length) else None


def _top1(a: Array, b: Array) -> float | None:
    if a.ndim != 2 or a.shape[1] < 2 or not a.shape[0] or a.dtype.kind in "iub":
        return None
    return float((a.argmax(1) == b.argmax(1)).mean())


def _log_difference(a: Array, b: Array, rtol: float) -> float | None:
    """Largest difference of log-probabilities over their largest magnitude; None where the rows are no probabilities.

    A softmax hides a wrong logit behind a saturated neighbour; its logarithm does not. Entries so small that storing them
    already rounds them are left out: below 1e-30, or below the limit where the limit says that the numbers are halves.
    """
    if a.dtype.kind not in "f" or a.ndim < 2 or a.shape[-1] < 2:
        return None
    for axis in {1, a.ndim - 1}:
        rows = [np.asarray(v, dtype=np.float64) for v in (a, b)]
        if all(np.isfinite(v).all() and v.min(initial=0.0) >= 0 and np.abs(v.sum(axis) - 1).max(initial=0.0) < 1e-3 for v in rows):
            floor = 1e-30 if rtol <= 1e-3 else 1e-4
            logs = [np.log(np.maximum(v, floor)) for v in rows]
            largest = float(np.abs(logs[0] - logs[1]).max(initial=0.0))
            scale = max(1.0, *(float(np.abs(v).max(initial=0.0)) for v in logs))
            return largest / scale
    return None
