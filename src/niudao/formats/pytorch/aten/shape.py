"""Views: other shapes, other orders of axes, copies along axes. What arrives as a view leaves as Reshape, Transpose, Expand, Tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.sizes import Number, Sym, product
from niudao.formats.pytorch.aten.table import aten


@aten("aten.view", "aten._unsafe_view")
def view(c: Lowering, self: ir.Value, size: Sequence[Number]) -> ir.Value:
    return c.reshape(self, size)


@aten("aten.reshape")
def reshape(c: Lowering, self: ir.Value, shape: Sequence[Number]) -> ir.Value:
    return c.reshape(self, shape)


@aten("aten.view.dtype")
def view_dtype(c: Lowering, self: ir.Value, dtype: str) -> ir.Value:
    if c.cast(self, dtype) is not self:
        c.refuse(f"it takes the bytes of its input for {dtype}", "dtype")
    return self


@aten("aten.view_as", "aten.reshape_as")
def view_as(c: Lowering, self: ir.Value, other: ir.Value) -> ir.Value:
    return c.reshape(self, c.shape(other))


@aten("aten.flatten.using_ints", "aten.flatten")
def flatten(c: Lowering, self: ir.Value, start_dim: int = 0, end_dim: int = -1) -> ir.Value:
    rank = c.rank(self)
    if rank == 0:
        return c.reshape(self, [1])
    first, last = c.axis(self, start_dim), c.axis(self, end_dim)
    dims = c.shape(self)
    if first == 1 and last == rank - 1 and rank > 2:
        return c.shaped(c.op("Flatten", self, axis=1), [dims[0], product(dims[1:])])
    return self if first == last else c.reshape(self, [*dims[:first], product(dims[first : last + 1]), *dims[last + 1 :]])


@aten("aten.ravel")
def ravel(c: Lowering, self: ir.Value) -> ir.Value:
    return c.reshape(self, [-1])


@aten("aten.unflatten.int", "aten.unflatten")
def unflatten(c: Lowering, self: ir.Value, dim: int, sizes: Sequence[Number]) -> ir.Value:
    axis, dims, parts = c.axis(self, dim), c.shape(self), list(sizes)
    if -1 in parts:
        rest = product(p for p in parts if p != -1)
        whole = dims[axis]
        exact = whole.divided(rest) if isinstance(whole, Sym) else whole // rest if isinstance(rest, int) and rest else None
        if exact is not None:
            parts[parts.index(-1)] = exact
    return c.reshape(self, [*dims[:axis], *parts, *dims[axis + 1 :]])


@aten("aten.permute")
def permute(c: Lowering, self: ir.Value, dims: Sequence[int]) -> ir.Value:
    perm = [c.axis(self, d) for d in dims]
    return self if perm == list(range(len(perm))) else c.shaped(c.op("Transpose", self, perm=perm), [c.size(self, p) for p in perm])


@aten("aten.transpose.int", "aten.transpose", "aten.swapdims", "aten.swapaxes")
def transpose(c: Lowering, self: ir.Value, dim0: int, dim1: int) -> ir.Value:
    perm = list(range(c.rank(self)))
    a, b = c.axis(self, dim0), c.axis(self, dim1)
    if perm:
        perm[a], perm[b] = b, a
    return permute(c, self, perm)


@aten("aten.t")
def t(c: Lowering, self: ir.Value) -> ir.Value:
    return permute(c, self, list(reversed(range(c.rank(self)))))


@aten("aten.numpy_T")
def reversed_axes(c: Lowering, self: ir.Value) -> ir.Value:
    return t(c, self)


@aten("aten.mT", "aten.mH", "aten.adjoint", "aten.matrix_H")
def matrix_transpose(c: Lowering, self: ir.Value) -> ir.Value:
    return transpose(c, self, -2, -1)


@aten("aten.movedim", "aten.moveaxis")
def movedim(c: Lowering, self: ir.Value, source: int | Sequence[int], destination: int | Sequence[int]) -> ir.Value:
    sources = c.axes(self, source)
    places = c.axes(self, destination)
    rest = iter(a for a in range(c.rank(self)) if a not in sources)
    return permute(c, self, [sources[places.index(i)] if i in places else next(rest) for i in range(c.rank(self))])


@aten("aten.unsqueeze")
def unsqueeze(c: Lowering, self: ir.Value, dim: int) -> ir.Value:
    rank = c.rank(self) + 1
    return c.op("Unsqueeze", self, c.const([c.axis(rank, dim)]))


@aten("aten.squeeze")
def squeeze(c: Lowering, self: ir.Value) -> ir.Value:
    return squeeze_dims(c, self, list(range(c.rank(self))))


@aten("aten.squeeze.dim", "aten.squeeze.dims")
def squeeze_dims(c: Lowering, self: ir.Value, dim: int | Sequence[int]) -> ir.Value:
    """A free size counts as one that is not 1."""
    dims = [dim] if isinstance(dim, int) else list(dim)
    axes = sorted({c.axis(self, d) for d in dims}) if c.rank(self) else []
    ones = [a for a in axes if c.size(self, a) == 1]
    return c.op("Squeeze", self, c.const(ones)) if ones else self


@aten("aten.expand", "aten.broadcast_to")
def expand(c: Lowering, self: ir.Value, size: Sequence[Number], implicit: bool = False) -> ir.Value:
    own = c.shape(self)
    lead = len(size) - len(own)
    dims: list[Number] = [own[i - lead] if isinstance(d, int) and d == -1 and i >= lead else d for i, d in enumerate(size)]
    if dims == own:
        return self
    # Expand broadcasts both ways, so an own free size needs no number
    target: list[Number] = [1 if i >= lead and own[i - lead] == d else d for i, d in enumerate(dims)]
    return c.shaped(c.op("Expand", self, c.vector(target)), dims)


@aten("aten.expand_as")
def expand_as(c: Lowering, self: ir.Value, other: ir.Value) -> ir.Value:
    return expand(c, self, c.shape(other))


@aten("aten.broadcast_tensors")
def broadcast_tensors(c: Lowering, tensors: Sequence[ir.Value]) -> list[ir.Value]:
    dims = broadcast(c, [c.shape(x) for x in tensors])
    return [expand(c, x, dims) for x in tensors]


def broadcast(c: Lowering, shapes: Sequence[Sequence[Number]]) -> list[Number]:
    """The common shape of several; a free size wins over 1 only, and equals itself."""
    rank = max((len(s) for s in shapes), default=0)
    dims: list[Number] = []
    for i in range(rank):
        sizes = [s[i - rank + len(s)] for s in shapes if i - rank + len(s) >= 0]
        other = list(dict.fromkeys(d for d in sizes if d != 1))
        if len(other) > 1:
            c.refuse(f"sizes {' and '.join(str(d) for d in other)} do not fit each other")
        dims.append(other[0] if other else 1)
    return dims


@aten("aten.repeat", "aten.tile")
def repeat(c: Lowering, self: ir.Value, repeats: Sequence[Number] | None = None, dims: Sequence[Number] | None = None) -> ir.Value:
    times = list(repeats if repeats is not None else dims or ())
    rank = c.rank(self)
    times = [*([1] * (rank - len(times))), *times]  # only tile may name fewer
    x = c.reshape(self, [*([1] * (len(times) - rank)), *c.shape(self)]) if len(times) > rank else self
    if all(n == 1 for n in times):
        return x
    return c.shaped(c.op("Tile", x, c.vector(times)), [n * s for n, s in zip(times, c.shape(x), strict=True)])


@aten("aten.repeat_interleave.self_int")
def repeat_interleave(c: Lowering, self: ir.Value, repeats: Number, dim: int | None = None, output_size: Any = None) -> ir.Value:
    x = self if dim is not None else c.reshape(self, [-1])
    axis = c.axis(x, dim if dim is not None else 0)
    dims = c.shape(x)
    spread = c.op("Unsqueeze", x, c.const([axis + 1]))
    target: list[Number] = [1] * (len(dims) + 1)
    target[axis + 1] = repeats
    wide = c.op("Expand", spread, c.vector(target))
    c.shaped(wide, [*dims[: axis + 1], repeats, *dims[axis + 1 :]])
    return c.reshape(wide, [*dims[:axis], repeats * dims[axis], *dims[axis + 1 :]])


@aten("aten.repeat_interleave.self_Tensor")
def repeat_interleave_by(c: Lowering, self: ir.Value, repeats: ir.Value, dim: int | None = None, output_size: Any = None) -> ir.Value:
    import numpy as np

    times = c.known(repeats)
    if times is None:
        c.refuse("how often it repeats is computed by the network", "repeats")
    x = self if dim is not None else c.reshape(self, [-1])
    axis = c.axis(x, dim if dim is not None else 0)
    n = c.fixed(x, axis)
    return c.op("Gather", x, c.const(np.repeat(np.arange(n), times)), axis=axis)


@aten("aten.pixel_shuffle")
def pixel_shuffle(c: Lowering, self: ir.Value, upscale_factor: int) -> ir.Value:
    if c.rank(self) == 4:
        n, ch, h, w = c.shape(self)
        k = c.whole(upscale_factor, "upscale_factor")
        return c.shaped(c.op("DepthToSpace", self, blocksize=k, mode="CRD"), [n, ch // (k * k), h * k, w * k])
    *lead, ch, h, w = c.shape(self)
    k = c.whole(upscale_factor, "upscale_factor")
    x = c.reshape(self, [product(lead), ch, h, w])
    return c.reshape(pixel_shuffle(c, x, k), [*lead, ch // (k * k), h * k, w * k])


@aten("aten.pixel_unshuffle")
def pixel_unshuffle(c: Lowering, self: ir.Value, downscale_factor: int) -> ir.Value:
    """ONNX's SpaceToDepth puts the block in front of the channels; torch behind them."""
    *lead, ch, h, w = c.shape(self)
    k = c.whole(downscale_factor, "downscale_factor")
    x = c.reshape(self, [product(lead), ch, h // k, k, w // k, k])
    return c.reshape(permute(c, x, [0, 1, 3, 5, 2, 4]), [*lead, ch * (k * k), h // k, w // k])


@aten("aten.channel_shuffle", "aten.native_channel_shuffle")
def channel_shuffle(c: Lowering, self: ir.Value, groups: int) -> ir.Value:
    n, ch, *rest = c.shape(self)
    x = c.reshape(self, [n, groups, ch // groups, *rest])
    return c.reshape(transpose(c, x, 1, 2), [n, ch, *rest])


@aten("aten.as_strided")
def as_strided(c: Lowering, self: ir.Value, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> ir.Value:
    c.refuse("it takes memory apart by strides", rewrite="use unfold, slices or reshape")
