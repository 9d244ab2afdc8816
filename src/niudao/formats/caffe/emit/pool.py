"""MaxPool, AveragePool, LpPool and the global ones, through Caffe's two-dimensional Pooling with its own rounding.

    out = ceil((in + 2 pad - kernel) / stride) + 1; one less where any axis pads and the last window began behind the image and its pad
    MAX  the largest element of the window inside the image
    AVE  the sum over the image, divided by the window's size inside the image and its pad

Windows of ONNX that Caffe does not have begin earlier and are cut off, or the image is grown first. Source: BVLC Caffe, pooling_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.conv import convolved
from niudao.formats.caffe.emit.cut import padded
from niudao.formats.caffe.emit.gather import taken
from niudao.formats.caffe.emit.graph import Array, Net, Top, constant, refuse
from niudao.formats.caffe.emit.reduce import reduced
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import linear, reshaped
from niudao.formats.caffe.emit.window import Window, cropped, plain, windows
from niudao.ir.operators import attribute

_LOOKS = 1 << 22
"""Elements that all windows along one axis may look at."""
_UNIT = Window(1, 1, 1, 1, 0, 0, 1)
Planar = Callable[[Top, Sequence[Window], str], Top]
Grow = Callable[[Top, int, Window], Top]


@emits("MaxPool")
def _max_pool(net: Net, node: ir.Node) -> None:
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        refuse("the places of its maxima are used", "Indices")
    x, w = _windows(net, node)
    nothing = [any((_inside(a) == 0).tolist()) for a in w]
    if x.pads is not None and (not x.nonnegative or any(nothing)):
        x = net.get(node.inputs[0])
        w = windows(net, node, x, attribute(node, "kernel_shape"))
        nothing = [any((_inside(a) == 0).tolist()) for a in w]
    if any(nothing):
        refuse("a window lies in the padding alone", "pads")
    x = plain(x)
    dilated = any(a.dilation > 1 for a in w)
    y = _taps(net, x, w) if dilated else _each(net, x, w, lambda t, pair, suffix: maximum(net, t, pair, suffix))
    net.put(node.outputs[0], replace(y, nonnegative=x.nonnegative))


@emits("AveragePool")
def _average_pool(net: Net, node: ir.Node) -> None:
    x, w = _windows(net, node)
    counted = bool(attribute(node, "count_include_pad", 0))
    divisors = [_padded_size(a) if counted else _real(a) for a in w]
    if any((d <= 0).any() for d in divisors):
        refuse("a window lies in the padding alone", "pads")
    net.put(node.outputs[0], _averaged(net, plain(x), w, divisors))


@emits("LpPool")
def _lp_pool(net: Net, node: ir.Node) -> None:
    x, w = _windows(net, node)
    p = int(attribute(node, "p", 2))
    net.note(f"a norm over windows as the mean of powers, times the window, to the power 1/{p}")
    y = _averaged(net, _powered(net, plain(x), p), w, [np.ones(a.out) for a in w], "_sum")
    net.put(node.outputs[0], _root(net, y, p))


@emits("GlobalMaxPool", "GlobalAveragePool")
def _global(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    if x.rank < 3:
        refuse("it has no spatial axes")
    flat = x if x.rank == 4 else reshaped(net, x, (*x.shape[:2], prod(d or 1 for d in x.shape[2:]), 1))
    params = {"pool": "MAX" if node.op_type == "GlobalMaxPool" else "AVE", "global_pooling": True}
    y = net.layer("Pooling", flat, {"pooling_param": params}, shape=(*flat.shape[:2], 1, 1), nonnegative=x.nonnegative)
    net.put(node.outputs[0], reshaped(net, y, (*x.shape[:2], *[1] * (x.rank - 2))))


@emits("GlobalLpPool")
def _global_lp(net: Net, node: ir.Node) -> None:
    x, p = net.get(node.inputs[0]), int(attribute(node, "p", 2))
    y = reduced(net, _powered(net, x, p), list(range(2, x.rank)), "SUM", suffix="_sum")
    net.put(node.outputs[0], _root(net, y, p))


def _powered(net: Net, x: Top, p: int) -> Top:
    """|x| ** p."""
    if p < 1:
        refuse(f"its p is {p}", "p")
    if p % 2 and not x.nonnegative:
        x = net.unary("AbsVal", x, suffix="_abs", nonnegative=True)
    return x if p == 1 else net.power(x, power=float(p), suffix="_powers", nonnegative=True)


def _root(net: Net, x: Top, p: int) -> Top:
    return x if p == 1 else net.power(x, power=1.0 / p, nonnegative=True)


def _windows(net: Net, node: ir.Node) -> tuple[Top, list[Window]]:
    x, kernel = net.raw(node.inputs[0]), [int(k) for k in attribute(node, "kernel_shape")]
    if not 1 <= len(kernel) <= 3:
        refuse(f"it has {len(kernel)} spatial axes")
    dilated = any(d != 1 and k > 1 for d, k in zip(attribute(node, "dilations") or [1] * len(kernel), kernel, strict=True))
    if dilated and attribute(node, "auto_pad", "NOTSET").startswith("SAME"):
        refuse("it is dilated and pads by itself, which runtimes compute differently", "auto_pad", "say the pads as numbers")
    w = windows(net, node, x, kernel)
    if any(a.out * a.kernel > _LOOKS for a in w):
        refuse("its windows are larger than any network needs", "kernel_shape")
    if attribute(node, "auto_pad", "NOTSET").startswith("SAME") and any(a.reach < a.zeros[1] for a in w):
        refuse("it pads by itself though its windows leave gaps, which runtimes compute differently", "auto_pad", "say the pads as numbers")
    return x, w


def _starts(a: Window) -> Array:
    return np.arange(a.out) * a.stride - a.before


def _places(a: Window) -> Array:
    """(out, kernel): where each window looks."""
    return _starts(a)[:, None] + a.dilation * np.arange(a.kernel)[None, :]


def _count(places: Array, low: int, high: int) -> Array:
    made: Array = ((places >= low) & (places < high)).sum(1)
    return made


def _inside(a: Window) -> Array:
    """How many elements of each window lie on the axis itself."""
    return _count(_places(a), 0, a.size)


def _real(a: Window) -> Array:
    """The same, zeros that a Pad put there counted too."""
    return _count(_places(a), -a.zeros[0], a.size + a.zeros[1])


def _padded_size(a: Window) -> Array:
    """How many of them lie on the axis and its padding."""
    return _count(_places(a), -a.before, a.size + a.after)


def _each(net: Net, x: Top, w: Sequence[Window], planar: Planar) -> Top:
    """One, two or three axes through a function of two."""
    n, c, *sizes = x.shape
    if len(w) == 2:
        return planar(x, w, "")
    if len(w) == 1:
        y = planar(reshaped(net, x, (n, c, *sizes, 1)), (w[0], _UNIT), "")
        return reshaped(net, y, (n, c, w[0].out))
    net.note("three axes as two and then one")
    y = planar(reshaped(net, x, (n, (c or 0) * (sizes[0] or 0), *sizes[1:])), w[1:], "_rows")
    y = reshaped(net, y, (n, c, sizes[0], w[1].out * w[2].out))
    rest = w[1].out * w[2].out
    y = planar(y, (w[0], Window(rest, 1, 1, 1, 0, 0, rest)), "")
    return reshaped(net, y, (n, c, *(a.out for a in w)))


def _layout(w: Sequence[Window], grown: Sequence[bool]) -> tuple[list[int], list[int], list[int]] | None:
    """Pads, windows in front, and how many windows Caffe makes; None where those are too few. As few in front as possible."""
    most = [0 if g else a.shift for a, g in zip(w, grown, strict=True)]
    for shifts in sorted(product(*(range(m + 1) for m in most)), key=sum):
        pads = [0 if g else a.before + s * a.stride for a, g, s in zip(w, grown, shifts, strict=True)]
        if any(p and p >= a.kernel for p, a in zip(pads, w, strict=True)):
            continue
        if any(not g and (a.out - 1) * a.stride - a.before >= a.size + p for a, g, p in zip(w, grown, pads, strict=True)):
            continue  # a window behind the padded image, whose divisor would be zero
        made = []
        for a, g, p in zip(w, grown, pads, strict=True):
            size = a.size + (a.before + max(a.reach, 0) if g else 0)
            out = -(-(size + 2 * p - a.kernel) // a.stride) + 1
            made.append(out - 1 if any(pads) and (out - 1) * a.stride >= size + p else out)
        if all(m >= s + a.out for m, s, a in zip(made, shifts, w, strict=True)):
            return pads, list(shifts), made
    return None


def _pooled(net: Net, x: Top, w: Sequence[Window], kind: str, grow: Grow, suffix: str) -> tuple[Top, list[Array]]:
    """The windows of a picture, and the divisor of each along both axes."""
    for grown in ((False, False), (True, False), (False, True), (True, True)):
        layout = _layout(w, grown)
        if layout is not None:
            break
    else:
        refuse("its windows cannot be laid out as Caffe's")
    pads, shifts, made = layout
    for i, g in enumerate(grown):
        if g:
            x = grow(x, 2 + i, w[i])
    kernel, stride = [a.kernel for a in w], [a.stride for a in w]
    params: dict[str, Any] = {"pool": kind}
    for long, short, values, default in (("kernel_size", "kernel", kernel, 0), ("stride", "stride", stride, 1), ("pad", "pad", pads, 0)):
        if values[0] != values[1]:
            params |= {f"{short}_h": values[0], f"{short}_w": values[1]}
        elif values[0] != default:
            params[long] = values[0]
    y = net.layer("Pooling", x, {"pooling_param": params}, shape=(*x.shape[:2], *made), suffix=suffix, nonnegative=x.nonnegative)
    if any(shifts):
        net.note("padding that differs between two sides by windows that begin earlier and are cut off")
    elif made != [a.out for a in w]:
        net.note("Caffe's rounding up gives more windows, which are cut off")
    y = replace(cropped(net, y, shifts, [a.out for a in w]), nonnegative=x.nonnegative)
    divisors = []
    for i, (a, g) in enumerate(zip(w, grown, strict=True)):
        ends = _starts(a) + a.kernel
        divisors.append(np.full(a.out, a.kernel) if g else np.minimum(ends, a.size + pads[i]) - _starts(a))
    return y, divisors


def maximum(net: Net, x: Top, w: Sequence[Window], suffix: str = "") -> Top:
    """The largest element of each window of a picture; every window holds one."""

    def grow(t: Top, axis: int, a: Window) -> Top:
        net.note("padding by copies of the edge, which every window that reaches there holds anyway")
        places = np.arange(-a.before, a.size + max(a.reach, 0)).clip(0, a.size - 1)
        return replace(taken(net, t, axis, places.tolist(), f"_grown{axis}"), nonnegative=t.nonnegative)

    return _pooled(net, x, w, "MAX", grow, suffix)[0]


def average(net: Net, x: Top, w: Sequence[Window], wanted: Sequence[Array], suffix: str = "") -> Top:
    """The sum over each window of a picture, divided by numbers along both axes."""

    def grow(t: Top, axis: int, a: Window) -> Top:
        net.note("padding by zeros made from the data")
        grown = padded(net, t, [(a.before, max(a.reach, 0)) if i == axis else (0, 0) for i in range(t.rank)], 0.0)
        return replace(grown, nonnegative=t.nonnegative)

    y, divisors = _pooled(net, x, w, "AVE", grow, suffix)
    return _weighed(net, y, [d / v for d, v in zip(divisors, wanted, strict=True)], suffix)


def _weighed(net: Net, x: Top, factors: Sequence[Array], suffix: str = "") -> Top:
    """A picture times a factor for each row and one for each column."""
    uneven = [i for i, f in enumerate(factors) if not np.allclose(f, f[0], rtol=1e-9)]
    whole = float(np.prod([1.0, *(f[0] for i, f in enumerate(factors) if i not in uneven)]))
    if not uneven:
        return linear(net, x, whole, 0, f"{suffix}_factor", x.nonnegative) if abs(whole - 1) > 1e-9 else x
    net.note("another divisor for windows at the edge by one factor a place")
    plane = factors[0][:, None] * factors[1][None, :] if len(uneven) == 2 else factors[uneven[0]] * whole
    y = net.scale(x, constant(plane), axis=2 + uneven[0], suffix=f"{suffix}_divisor")
    return replace(y, nonnegative=x.nonnegative)


def _averaged(net: Net, x: Top, w: Sequence[Window], wanted: Sequence[Array], suffix: str = "") -> Top:
    """Sums over windows of one to three axes, divided."""
    if any(a.dilation > 1 for a in w):
        return _dilated(net, x, w, wanted)
    given = {id(a): d for a, d in zip(w, wanted, strict=True)}

    def planar(t: Top, pair: Sequence[Window], own: str) -> Top:
        return average(net, t, pair, [given.get(id(a), np.ones(a.out)) for a in pair], own + suffix)

    return _each(net, x, w, planar)


def _dilated(net: Net, x: Top, w: Sequence[Window], wanted: Sequence[Array]) -> Top:
    channels = x.shape[1] or 0
    net.note("a mean over dilated windows as a convolution of each channel with ones")
    y = convolved(net, x, w, [constant(1.0, (channels, 1, *(a.kernel for a in w)))], channels, "_sum")
    if len(w) == 2:
        return _weighed(net, y, [1 / d for d in wanted])
    factor = np.ones(())
    for d in wanted:
        factor = factor[..., None] / d
    return net.scale(y, constant(factor), axis=2, suffix="_divisor")


def _taps(net: Net, x: Top, w: Sequence[Window]) -> Top:
    """A maximum over shifted copies, axis by axis; where one would lie outside, a neighbour of its window stands in."""
    net.note("a maximum over dilated windows as the maximum of shifted pieces")
    for i, a in enumerate(w):
        if a.kernel > 64:
            refuse(f"its dilated window holds {a.kernel} elements", "kernel_shape")
        rows = _places(a)
        held = (rows >= 0) & (rows < a.size)
        rows = np.where(held, rows, rows[np.arange(a.out), held.argmax(axis=1)][:, None])
        pieces = [taken(net, x, 2 + i, rows[:, k].tolist(), f"_axis{2 + i}_{k}") for k in range(a.kernel)]
        x = pieces[0] if len(pieces) == 1 else net.eltwise("MAX", pieces, suffix=f"_axis{2 + i}")
    return x
