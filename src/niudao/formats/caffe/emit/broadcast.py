"""Sums, products and maxima of blobs and constants that broadcast as NumPy's do: Caffe's Scale and Bias broadcast, Eltwise does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.cut import tiled
from niudao.formats.caffe.emit.graph import Array, Dim, Net, Top, Weight, constant, refuse
from niudao.formats.caffe.emit.view import linear, reshaped

Operand = Top | Array

MOST = 1 << 24
"""Numbers that a made weight or blob may hold (64 MB)."""


def operand(net: Net, value: ir.Value | None) -> Operand:
    """The blob of a value, or its array, float32, where it is a constant."""
    if value is not None and net.is_constant(value):
        array = net.constant(value)
        if array is not None:
            if array.dtype.kind in "iu" and array.size and max(abs(int(array.min())), abs(int(array.max()))) > 1 << 24:
                refuse("its constant holds whole numbers that float32 cannot")
            return np.asarray(array).astype(np.float32)
    made = batchless(net, value)
    return net.get(value) if made is None else made


def batchless(net: Net, value: ir.Value | None) -> Array | None:
    """What a value that depends on the size of the batch only is for every item (1, ...); None where it is no such thing."""
    if value is None or net.has(value):
        return None
    node = value.producer()
    if node is None or not node.inputs:
        return None
    if node.op_type in ("Identity", "Cast"):
        return batchless(net, node.inputs[0])
    size = node.inputs[-1]
    target = net.constant(size) if net.is_constant(size) else None
    if target is None or target.ndim != 1 or target.size < 1 or (target[1:] < 0).any():
        return None
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get("value")
        number = 0.0 if fill is None else float(fill.value.numpy().reshape(-1)[0])
        return np.full((1, *(int(d) for d in target[1:])), number, np.float32)
    if node.op_type == "Expand" and net.is_constant(node.inputs[0]):
        array = net.constant(node.inputs[0])
        if array is not None and (array.ndim < target.size or (array.ndim == target.size and array.shape[0] == 1)):
            return np.broadcast_to(array.astype(np.float32), np.broadcast_shapes(array.shape, (1, *(int(d) for d in target[1:]))))
    return None


def total(net: Net, terms: Sequence[Operand], signs: Sequence[float] | None = None, suffix: str = "") -> Top:
    """The sum of blobs and constants, each times a number."""
    signs = list(signs) if signs is not None else [1.0] * len(terms)
    tops = [(t, s) for t, s in zip(terms, signs, strict=True) if isinstance(t, Top)]
    arrays = [t * np.float32(s) for t, s in zip(terms, signs, strict=True) if not isinstance(t, Top)]
    if not tops:
        refuse("all its inputs are constants")
    if arrays and len(tops) == 1 and sum(a.size for a in arrays) == len(arrays):
        whole = float(sum(float(a.reshape(-1)[0]) for a in arrays))
        x, sign = tops[0]
        positive = x.nonnegative and whole >= 0 and sign > 0
        return linear(net, _ranked(net, x, max(a.ndim for a in arrays)), sign, _finite(whole), suffix, positive)
    y = _sum(net, [t for t, _ in tops], [s for _, s in tops], suffix if not arrays else "_sum")
    for k, a in enumerate(arrays):
        y = shifted(net, y, a, suffix if k == len(arrays) - 1 else f"_shift{k}")
    return y


def _sum(net: Net, tops: list[Top], signs: list[float], suffix: str) -> Top:
    if len(tops) == 1:
        return linear(net, tops[0], signs[0], 0, suffix)
    if all(t.shape == tops[0].shape for t in tops):
        flat = [part for t, s in zip(tops, signs, strict=True) for part in _terms(net, t, s)]
        y = net.eltwise("SUM", [t for t, _ in flat], [s for _, s in flat], suffix)
        return replace(y, nonnegative=all(t.nonnegative and s >= 0 for t, s in flat))
    tops = ranked(net, tops)
    while len(tops) > 1:
        a, b, suff = tops[0], tops[1], suffix if len(tops) == 2 else "_part"
        if a.shape == b.shape:
            y = net.eltwise("SUM", [a, b], signs[:2], suff)
        else:
            a, b = (linear(net, t, s, 0, n) for t, s, n in zip((a, b), signs, ("_signed", "_minus"), strict=False))
            y = _run(net, "Bias", *wide(net, a, b), suff)
        y = replace(y, nonnegative=all(t.nonnegative and s >= 0 for t, s in zip(tops[:2], signs[:2], strict=True)))
        tops, signs = [y, *tops[2:]], [1.0, *signs[2:]]
    return tops[0]


def _terms(net: Net, x: Top, sign: float) -> list[tuple[Top, float]]:
    """The summands of a sum made for the node at hand: Caffe's Eltwise takes any number, each with its factor."""
    if x.layer.node == net.title():
        if x.layer.type == "Eltwise" and x.layer.params.get("eltwise_param", {}).get("operation", "SUM") == "SUM":
            factors = x.layer.params.get("eltwise_param", {}).get("coeff") or [1.0] * len(x.layer.bottoms)
            return [(t, sign * c) for t, c in zip(x.layer.bottoms, factors, strict=True)]
        held = x.layer.params.get("power_param", {})
        if x.layer.type == "Power" and set(held) == {"scale"} and held["scale"] != 0:
            return [(x.layer.bottoms[0], sign * held["scale"])]
    return [(x, sign)]


def product(net: Net, x: Operand, y: Operand, suffix: str = "") -> Top:
    """x * y."""
    if not isinstance(x, Top):
        x, y = y, x
    if not isinstance(x, Top):
        refuse("all its inputs are constants")
    if not isinstance(y, Top):
        return scaled(net, x, y, suffix)
    positive = x.nonnegative and y.nonnegative
    if x.shape == y.shape:
        if (x.layer, x.index) == (y.layer, y.index):
            return net.power(x, power=2.0, suffix=suffix, nonnegative=True)
        parts = [*_factors(net, x), *_factors(net, y)]
        return replace(net.eltwise("PROD", parts, suffix=suffix), nonnegative=positive)
    x, y = wide(net, *ranked(net, [x, y]))
    return replace(_run(net, "Scale", x, y, suffix), nonnegative=positive)


def _factors(net: Net, x: Top) -> list[Top]:
    held = x.layer.params.get("eltwise_param", {})
    return list(x.layer.bottoms) if x.layer.node == net.title() and x.layer.type == "Eltwise" and held.get("operation") == "PROD" else [x]


def greatest(net: Net, x: Operand, y: Operand, suffix: str = "") -> Top:
    """max(x, y)."""
    if not isinstance(x, Top):
        x, y = y, x
    if not isinstance(x, Top):
        refuse("all its inputs are constants")
    if not isinstance(y, Top):
        x = repeated(net, _ranked(net, x, y.ndim), y.shape)
        if y.size == 1:
            y = net.power(x, scale=0.0, shift=_finite(float(y.reshape(-1)[0])), suffix="_other")
        else:
            y = shifted(net, net.power(x, scale=0.0, suffix="_zero"), y, "_other")
    if x.shape != y.shape:
        x, y = wide(net, *ranked(net, [x, y]))
        y = _run(net, "Bias", net.power(x, scale=0.0, suffix="_zero"), y, "_other") if x.shape != y.shape else y
    held = x.layer.params.get("eltwise_param", {})
    merged = x.layer.node == net.title() and x.layer.type == "Eltwise" and held.get("operation") == "MAX"
    top = net.eltwise("MAX", [*x.layer.bottoms, y] if merged else [x, y], suffix=suffix)
    return replace(top, nonnegative=x.nonnegative or y.nonnegative)


def ranked(net: Net, tops: Sequence[Top]) -> list[Top]:
    """Blobs of one rank, axes of 1 in front of the shorter ones."""
    rank = max(t.rank for t in tops)
    return [_ranked(net, t, rank) for t in tops]


def _ranked(net: Net, x: Top, rank: int) -> Top:
    if x.rank >= rank:
        return x
    if x.shape[:1] == (None,):
        refuse("the free batch meets another axis", rewrite="fix the batch (--batch)")
    return reshaped(net, x, (1,) * (rank - x.rank) + x.shape)


def _covers(x: Top, y: Top) -> bool:
    """Whether y broadcasts to the shape of x."""
    return all(a == b or b == 1 for a, b in zip(x.shape, y.shape, strict=True))


def wide(net: Net, x: Top, y: Top) -> tuple[Top, Top]:
    """The two blobs, of one rank, as (the one with the shape of the result, the other one)."""
    if _covers(x, y):
        return x, y
    if _covers(y, x):
        return y, x
    if y.shape[0] is None and x.shape[0] is not None:
        x, y = y, x
    return repeated(net, x, y.shape), y


def repeated(net: Net, x: Top, shape: Sequence[Dim]) -> Top:
    """x repeated along its axes of size 1 to broadcast with `shape`, of its rank or less."""
    shape = (1,) * (x.rank - len(shape)) + tuple(shape)
    for axis, (have, want) in enumerate(zip(x.shape, shape, strict=True)):
        if have == want or want == 1:
            continue
        if have is None or want is None:
            refuse("the free batch meets another size", rewrite="fix the batch (--batch)")
        if have != 1:
            refuse(f"its inputs' shapes {list(x.shape)} and {list(shape)} do not fit")
        x = tiled(net, x, axis, want, f"_tile{axis}")
    return x


def _run(net: Net, type: str, x: Top, y: Top, suffix: str) -> Top:
    """x * y or x + y through the two-bottom layer; y broadcasts to the shape of x."""
    full = [i for i, d in enumerate(y.shape) if d != 1]
    if not full:
        ones = [i for i, d in enumerate(x.shape) if d == 1]
        known = [i for i, d in enumerate(x.shape) if d is not None]
        if not known:
            refuse("the free batch meets a single number", rewrite="fix the batch (--batch)")
        axis = ones[0] if ones else min(known, key=lambda i: x.shape[i] or 0)
        y = reshaped(net, y, (1,), "_flat")
        return net.broadcast(type, x, tiled(net, y, 0, x.shape[axis] or 1, "_repeat"), axis, suffix)
    first, last = full[0], full[-1]
    inner = tuple(x.shape[i] if first < i < last else d for i, d in enumerate(y.shape))
    y = repeated(net, y, inner)
    y = reshaped(net, y, y.shape[first : last + 1], "_squeeze")
    return net.broadcast(type, x, y, first, suffix)


def scaled(net: Net, x: Top, factor: Array, suffix: str = "") -> Top:
    """x * constant."""
    if not np.isfinite(factor).all():
        refuse("its constant is not finite")
    positive = x.nonnegative and bool((factor >= 0).all())
    if factor.size == 1:
        number = float(factor.reshape(-1)[0])
        return linear(net, _ranked(net, x, factor.ndim), number, 0, suffix, positive)
    x, held, axis = _constant_run(net, x, factor)
    return replace(net.scale(x, held, axis=axis, suffix=suffix), nonnegative=positive)


def shifted(net: Net, x: Top, term: Array, suffix: str = "") -> Top:
    """x + constant."""
    if np.isnan(term).any():
        refuse("its constant is not finite")
    positive = x.nonnegative and bool((term >= 0).all())
    if term.size == 1:
        return linear(net, _ranked(net, x, term.ndim), 1, _finite(float(term.reshape(-1)[0])), suffix, positive)
    x, held, axis = _constant_run(net, x, term)
    return replace(net.bias(x, held, axis, suffix), nonnegative=positive)


def _constant_run(net: Net, x: Top, array: Array) -> tuple[Top, Weight, int]:
    """x with every axis that the result has, the constant as a run of its axes, and the first of them."""
    x = _ranked(net, x, array.ndim)
    full = array.reshape((1,) * (x.rank - array.ndim) + array.shape)
    if x.shape[0] is None and full.shape[0] != 1:
        refuse("its constant differs along the free batch", rewrite="fix the batch (--batch)")
    x = repeated(net, x, full.shape)
    if full.shape[0] != 1 and bool((full == full[:1]).all()):
        full = full[:1]
    axes = [i for i, d in enumerate(full.shape) if d != 1] or [x.rank - 1]
    first, last = axes[0], axes[-1]
    shape = tuple((x.shape[i] or 1) for i in range(first, last + 1))
    if math.prod(shape) > max(MOST, array.size):
        refuse("its constant would have to be stored for more than 64 MB")
    squeezed = full.reshape(full.shape[first : last + 1])
    return x, constant(squeezed, shape), first


def _finite(number: float) -> float:
    if not math.isfinite(number):
        refuse("its constant is not finite")
    return number
