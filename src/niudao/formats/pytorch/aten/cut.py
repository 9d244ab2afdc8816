"""Cutting and joining: slices, parts, concatenation, what is written into a slice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.shape import permute
from niudao.formats.pytorch.aten.sizes import Number, Sym
from niudao.formats.pytorch.aten.table import aten

END = (1 << 63) - 1
"""What an end that nobody stated is in files of PyTorch."""


def _bounds(c: Lowering, n: Number, start: Number | None, end: Number | None) -> tuple[Number, Number]:
    """Start and end counted from the front, inside the axis as far as that can be told."""

    def inside(i: Number | None, missing: Number) -> Number:
        if i is None:
            return missing
        if isinstance(i, Sym):
            return i
        if isinstance(n, int):
            return min(max(i + n if i < 0 else i, 0), n)
        return n if i >= END - 1 else n + i if i < 0 else i

    return inside(start, 0), inside(end, n)


def cut(c: Lowering, x: ir.Value, axis: int, start: Number, end: Number, step: int = 1) -> ir.Value:
    """x[start:end:step] along one axis, both bounds counted from the front."""
    n = c.size(x, axis)
    if start == 0 and end == n and step == 1:
        return x
    y = c.op("Slice", x, c.vector([start]), c.vector([END if end == n else end]), c.const([axis]), c.const([step]))
    dims: list[Number | None] = list(c.shape(x))
    if isinstance(start, int) and isinstance(end, int):
        dims[axis] = max(0, -(-(end - start) // step)) if isinstance(n, int) or step != 1 else None
    else:
        length = end - start
        dims[axis] = length if step == 1 else None
    return c.shaped(y, dims)


@aten("aten.slice.Tensor", "aten.slice")
def slice_(c: Lowering, self: ir.Value, dim: int = 0, start: Number | None = None, end: Number | None = None, step: int = 1) -> ir.Value:
    axis = c.axis(self, dim)
    return cut(c, self, axis, *_bounds(c, c.size(self, axis), start, end), c.whole(step, "step"))


@aten("aten.narrow")
def narrow(c: Lowering, self: ir.Value, dim: int, start: Number, length: Number) -> ir.Value:
    axis = c.axis(self, dim)
    first, _ = _bounds(c, c.size(self, axis), start, None)
    return cut(c, self, axis, first, first + length)


@aten("aten.select.int", "aten.select")
def select(c: Lowering, self: ir.Value, dim: int, index: Number) -> ir.Value:
    return c.op("Gather", self, c.const(index) if isinstance(index, int) else c.scalar(index), axis=c.axis(self, dim))


def write_slice(c: Lowering, x: ir.Value, src: ir.Value, axis: int, start: Number, end: Number, step: int = 1) -> ir.Value:
    """x with src in the place of x[start:end:step]."""
    n = c.size(x, axis)
    src = c.cast(src, c.dtype(x))
    if start == 0 and end == n and step == 1:
        return src
    if step == 1:
        before = [] if start == 0 else [cut(c, x, axis, 0, start)]
        behind = [] if end == n else [cut(c, x, axis, end, n)]
        return c.shaped(c.op("Concat", *before, src, *behind, axis=axis), c.shape(x))
    size = c.fixed(x, axis)
    order = np.arange(size)
    places = order[c.whole(start, "start") : c.whole(end, "end") : step]
    order[places] = size + np.arange(len(places))
    return c.op("Gather", c.op("Concat", x, src, axis=axis), c.const(order), axis=axis)


@aten("aten.slice_scatter")
def slice_scatter(
    c: Lowering, self: ir.Value, src: ir.Value, dim: int = 0, start: Number | None = None, end: Number | None = None, step: int = 1
) -> ir.Value:
    axis = c.axis(self, dim)
    return write_slice(c, self, src, axis, *_bounds(c, c.size(self, axis), start, end), c.whole(step, "step"))


@aten("aten.select_scatter")
def select_scatter(c: Lowering, self: ir.Value, src: ir.Value, dim: int, index: Number) -> ir.Value:
    axis = c.axis(self, dim)
    first, _ = _bounds(c, c.size(self, axis), index, None)
    return write_slice(c, self, c.op("Unsqueeze", src, c.const([axis])), axis, first, first + 1)


@aten("aten.cat", "aten.concat", "aten.concatenate")
def cat(c: Lowering, tensors: Sequence[ir.Value], dim: int = 0) -> ir.Value:
    """A tensor of shape (0,) beside others is left out, as torch does."""
    kept = [x for x in tensors if not (c.rank(x) == 1 and c.size(x, 0) == 0)] or list(tensors[:1])
    if not kept:
        c.refuse("it joins no tensors", "tensors")
    axis = c.axis(kept[0], dim)
    parts = c.promoted(*kept)
    if len(parts) == 1:
        return parts[0]
    total: Number = 0
    for x in kept:
        total = total + c.size(x, axis)
    dims = c.shape(kept[0])
    dims[axis] = total
    return c.shaped(c.op("Concat", *parts, axis=axis), dims)


@aten("aten.stack")
def stack(c: Lowering, tensors: Sequence[ir.Value], dim: int = 0) -> ir.Value:
    parts = c.promoted(*tensors)
    axis = c.axis(c.rank(tensors[0]) + 1, dim)
    return c.op("Concat", *(c.op("Unsqueeze", x, c.const([axis])) for x in parts), axis=axis)


def _at_least(c: Lowering, x: ir.Value, rank: int) -> ir.Value:
    dims = c.shape(x)
    if len(dims) >= rank:
        return x
    wide: list[Number] = [1] * rank if not dims else [*dims, 1] if len(dims) == 2 else [1, *dims, 1][:rank]
    return c.reshape(x, wide if rank > 1 else [1])


@aten("aten.hstack")
def hstack(c: Lowering, tensors: Sequence[ir.Value]) -> ir.Value:
    wide = [_at_least(c, x, 1) for x in tensors]
    return cat(c, wide, 0 if c.rank(wide[0]) == 1 else 1)


@aten("aten.vstack")
def vstack(c: Lowering, tensors: Sequence[ir.Value]) -> ir.Value:
    return cat(c, [_at_least(c, x, 2) for x in tensors], 0)


@aten("aten.dstack")
def dstack(c: Lowering, tensors: Sequence[ir.Value]) -> ir.Value:
    return cat(c, [_at_least(c, x, 3) for x in tensors], 2)


def parts_of(c: Lowering, x: ir.Value, axis: int, sizes: Sequence[Number]) -> list[ir.Value]:
    """x taken apart into parts of these sizes."""
    if len(sizes) == 1:
        return [x]
    found = c.ops("Split", x, c.vector(sizes), outputs=len(sizes), axis=axis)
    dims = c.shape(x)
    return [c.shaped(y, [*dims[:axis], n, *dims[axis + 1 :]]) for y, n in zip(found, sizes, strict=True)]


@aten("aten.split.Tensor", "aten.unsafe_split", "aten.split")
def split(c: Lowering, self: ir.Value, split_size: Number | Sequence[Number], dim: int = 0) -> list[ir.Value]:
    axis = c.axis(self, dim)
    if isinstance(split_size, (list, tuple)):
        return parts_of(c, self, axis, split_size)
    if c.size(self, axis) == split_size:
        return [self]
    n, size = c.fixed(self, axis), c.whole(split_size, "split_size")
    if size <= 0:
        c.refuse(f"parts of {size}", "split_size")
    return parts_of(c, self, axis, [min(size, n - i) for i in range(0, n, size)])


@aten("aten.split.sizes", "aten.split_with_sizes", "aten.unsafe_split_with_sizes")
def split_sizes(c: Lowering, self: ir.Value, split_sizes: Sequence[Number], dim: int = 0) -> list[ir.Value]:
    return parts_of(c, self, c.axis(self, dim), split_sizes)


@aten("aten.chunk", "aten.unsafe_chunk")
def chunk(c: Lowering, self: ir.Value, chunks: int, dim: int = 0) -> list[ir.Value]:
    axis = c.axis(self, dim)
    n, count = c.fixed(self, axis), c.whole(chunks, "chunks")
    size = max(1, -(-n // max(count, 1)))
    return parts_of(c, self, axis, [min(size, n - i) for i in range(0, n, size)])


@aten("aten.tensor_split.sections")
def tensor_split(c: Lowering, self: ir.Value, sections: int, dim: int = 0) -> list[ir.Value]:
    axis = c.axis(self, dim)
    n, count = c.fixed(self, axis), c.whole(sections, "sections")
    return parts_of(c, self, axis, [n // count + (i < n % count) for i in range(count)])


@aten("aten.tensor_split.indices")
def tensor_split_at(c: Lowering, self: ir.Value, indices: Sequence[int], dim: int = 0) -> list[ir.Value]:
    axis = c.axis(self, dim)
    n = c.fixed(self, axis)
    at = [0, *(min(i + n if i < 0 else i, n) for i in indices), n]
    return parts_of(c, self, axis, [max(b - a, 0) for a, b in pairwise(at)])


@aten("aten.unbind.int", "aten.unbind")
def unbind(c: Lowering, self: ir.Value, dim: int = 0) -> list[ir.Value]:
    axis = c.axis(self, dim)
    return [c.op("Gather", self, c.const(i), axis=axis) for i in range(c.fixed(self, axis))]


@aten("aten.flip")
def flip(c: Lowering, self: ir.Value, dims: Sequence[int]) -> ir.Value:
    axes = [c.axis(self, d) for d in dims]
    if not axes:
        return self
    n = len(axes)
    y = c.op("Slice", self, c.const([-1] * n), c.const([-END] * n), c.const(axes), c.const([-1] * n))
    return c.shaped(y, c.shape(self))


@aten("aten.fliplr")
def fliplr(c: Lowering, self: ir.Value) -> ir.Value:
    return flip(c, self, [1])


@aten("aten.flipud")
def flipud(c: Lowering, self: ir.Value) -> ir.Value:
    return flip(c, self, [0])


@aten("aten.rot90")
def rot90(c: Lowering, self: ir.Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> ir.Value:
    a, b = (c.axis(self, d) for d in dims)
    perm = list(range(c.rank(self)))
    perm[a], perm[b] = b, a
    turns = k % 4
    if turns == 2:
        return flip(c, self, [a, b])
    if turns == 0:
        return self
    turned: ir.Value = permute(c, flip(c, self, [b]), perm) if turns == 1 else flip(c, permute(c, self, perm), [b])
    return turned


@aten("aten.roll")
def roll(c: Lowering, self: ir.Value, shifts: int | Sequence[int], dims: int | Sequence[int] = ()) -> ir.Value:
    """The last elements go to the front."""
    steps = [shifts] if isinstance(shifts, (int, Sym)) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    if not axes:
        flat = c.reshape(self, [-1])
        return c.reshape(roll(c, flat, steps, [0]), c.shape(self))
    x = self
    for shift, dim in zip(steps, axes, strict=True):
        axis, by = c.axis(x, dim), c.whole(shift, "shifts")
        n = c.size(x, axis)
        by = by % n if isinstance(n, int) and n else by
        if by == 0:
            continue
        at: Number = n - by if by > 0 else -by
        x = c.shaped(c.op("Concat", cut(c, x, axis, at, n), cut(c, x, axis, 0, at), axis=axis), c.shape(self))
    return x


@aten("aten.unfold")
def unfold(c: Lowering, self: ir.Value, dimension: int, size: int, step: int) -> ir.Value:
    """Windows along an axis; the place inside the window becomes the last axis."""
    if c.rank(self) == 0:
        return c.reshape(self, [1])
    axis = c.axis(self, dimension)
    n, k, s = c.fixed(self, axis), c.whole(size, "size"), c.whole(step, "step")
    places = np.arange(0, n - k + 1, s)[:, None] + np.arange(k)[None]
    y = c.op("Gather", self, c.const(places), axis=axis)
    rank = c.rank(self)
    return permute(c, y, [*range(axis + 1), *range(axis + 2, rank + 1), axis + 1])


@aten("aten.im2col")
def im2col(
    c: Lowering, self: ir.Value, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> ir.Value:
    """Windows as columns, (N, C * kh * kw, L), by two Gathers of constant places."""
    if c.rank(self) == 3:
        batched = im2col(c, c.op("Unsqueeze", self, c.const([0])), kernel_size, dilation, padding, stride)
        return c.op("Squeeze", batched, c.const([0]))
    k, d, p, s = (
        c.wholes(v, n, 2) for v, n in ((kernel_size, "kernel_size"), (dilation, "dilation"), (padding, "padding"), (stride, "stride"))
    )
    x = self if not any(p) else c.op("Pad", self, c.const([0, 0, p[0], p[1], 0, 0, p[0], p[1]]), None, None, mode="constant")
    n, ch = c.size(self, 0), c.size(self, 1)
    count = []
    for i, axis in enumerate((2, 4)):
        size = c.fixed(self, i + 2) + 2 * p[i]
        count.append((size - d[i] * (k[i] - 1) - 1) // s[i] + 1)
        places = np.arange(k[i])[:, None] * d[i] + np.arange(count[i])[None] * s[i]
        x = c.op("Gather", x, c.const(places), axis=axis)
    x = c.shaped(x, [n, ch, k[0], count[0], k[1], count[1]])
    return c.reshape(permute(c, x, [0, 1, 2, 4, 3, 5]), [n, ch * (k[0] * k[1]), count[0] * count[1]])


@aten("aten.col2im")
def col2im(
    c: Lowering,
    self: ir.Value,
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> ir.Value:
    if c.rank(self) == 2:
        batched = col2im(c, c.op("Unsqueeze", self, c.const([0])), output_size, kernel_size, dilation, padding, stride)
        return c.op("Squeeze", batched, c.const([0]))
    k, d, p, s = (
        c.wholes(v, n, 2) for v, n in ((kernel_size, "kernel_size"), (dilation, "dilation"), (padding, "padding"), (stride, "stride"))
    )
    size = c.wholes(output_size, "output_size", 2)
    y = c.op("Col2Im", self, c.const(size), c.const(k), dilations=d, pads=[*p, *p], strides=s)
    return c.shaped(y, [c.size(self, 0), c.size(self, 1) // (k[0] * k[1]), *size])
