"""How far two arrays are apart, said so that nothing that is not a number can pass."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import inf, nan, sqrt
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 20
"""Elements that are widened to float64 at a time."""

TINY_PROBABILITY = 1e-30


@dataclass(frozen=True)
class Difference:
    """What separates an array from another.

    Attributes:
        max_abs: Largest |a - b|; NaN where either holds one, infinite where the arrays cannot be laid on each other.
        max_rel: `max_abs` over the largest magnitude of `b`.
        cosine: Of the angle between the two, taken as vectors; NaN where one of them is zero.
        scale: Largest finite magnitude of `b`.
        reason: Why they cannot be the same whatever the limit, or "".
    """

    max_abs: float
    max_rel: float
    cosine: float
    scale: float
    reason: str = ""

    def within(self, rtol: float) -> bool:
        """Accepted only if the difference is known to be small: a NaN is not."""
        return not self.reason and self.max_abs <= rtol * self.scale


def difference(a: Array, b: Array) -> Difference:
    """Compare two arrays of any shape, block by block.

    Equal infinities are equal; a NaN differs from everything. Numbers that are not floats have to be equal.
    """
    if a.shape != b.shape:
        return Difference(inf, inf, nan, 0.0, f"shape {_shape(a)} against {_shape(b)}")
    if a.dtype != b.dtype:
        return Difference(inf, inf, nan, 0.0, f"type {a.dtype} against {b.dtype}")
    if a.dtype.kind not in "fiubc" and "float" not in a.dtype.name:
        equal = bool(np.array_equal(a, b))
        return Difference(0.0 if equal else inf, 0.0 if equal else inf, 1.0 if equal else nan, 1.0, "" if equal else "other content")
    largest = scale = dot = norm_a = norm_b = 0.0
    nans = [0, 0]
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    for start in range(0, flat_a.size, _BLOCK):
        x, y = (_wide(v[start : start + _BLOCK]) for v in (flat_a, flat_b))
        nans = [nans[0] + int(np.isnan(x).sum()), nans[1] + int(np.isnan(y).sum())]
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.where(x == y, 0.0, np.abs(x - y))
        largest = max(largest, float(np.nan_to_num(gap, nan=0.0, posinf=inf).max()))
        x, y = (np.where(np.isfinite(v), v, 0.0) for v in (x, y))
        scale = max(scale, float(np.abs(y).max()))
        with np.errstate(over="ignore", under="ignore"):
            dot, norm_a, norm_b = dot + float((x * np.conj(y)).real.sum()), norm_a + _square(x), norm_b + _square(y)
    cosine = dot / sqrt(norm_a * norm_b) if 0 < norm_a * norm_b < inf else 1.0 if norm_a == norm_b == 0 else nan
    if any(nans):
        return Difference(nan, nan, nan, scale, f"NaN at {nans[0]} places against {nans[1]}")
    relative = largest / scale if scale > 0 else (0.0 if largest == 0 else inf)
    exact = a.dtype.kind in "iub" and largest > 0
    return Difference(largest, relative, cosine, scale, "whole numbers that differ" if exact else "")


def aligned(a: Array, b: Array, rtol: float) -> Difference:
    """As `difference` for inner values, whose axes two readers may order or squeeze in their own way.

    Only arrays of different shape are turned: the order of axes under which they agree best counts. Floats of another width
    are compared as numbers, since inside a network the width is the network's own affair.
    """
    if a.dtype != b.dtype and a.dtype.kind == b.dtype.kind == "f":
        a, b = a.astype(np.float64), b.astype(np.float64)
    if a.shape == b.shape or a.size != b.size:
        return difference(a, b)
    x, y = (v.reshape([d for d in v.shape if d != 1]) for v in (a, b))
    if x.shape == y.shape:
        return difference(x, y)
    if sorted(x.shape) != sorted(y.shape) or x.ndim > 5:
        return difference(a, b)
    best = difference(a, b)
    for order in permutations(range(x.ndim)):
        if tuple(x.shape[i] for i in order) == y.shape:
            found = difference(np.ascontiguousarray(x.transpose(order)), np.ascontiguousarray(y))
            if found.within(rtol):
                return found
            best = min(best, found, key=lambda d: d.max_abs if d.max_abs == d.max_abs else inf)
    return best


def top1_agreement(a: Array, b: Array) -> float | None:
    """Share of places whose best class is the same; None where the array holds no classes.

    Classes lie along axis 1 of images (N, C, H, W) and along the last axis of everything else.
    """
    if a.shape != b.shape or a.ndim < 2 or a.dtype.kind != "f" or a.size == 0:
        return None
    axis = 1 if a.ndim >= 4 else -1
    return float((a.argmax(axis) == b.argmax(axis)).mean()) if a.shape[axis] > 1 else None


def log_probabilities(p: Array) -> Array:
    """What a softmax was fed, up to the shift that it forgets; probabilities below 1e-30 count as that."""
    result: Array = np.log(np.clip(_wide(p), TINY_PROBABILITY, None))
    return result


def _wide(x: Array) -> Array:
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def _square(x: Array) -> float:
    return float((np.abs(x) ** 2).sum())


def _shape(a: Array) -> str:
    return "x".join(map(str, a.shape)) or "scalar"
