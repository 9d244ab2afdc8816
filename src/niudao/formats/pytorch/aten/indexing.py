"""Reading and writing at places: tensors as indices, masks, the largest elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.cut import cut
from niudao.formats.pytorch.aten.lowering import Lowering, Tensor
from niudao.formats.pytorch.aten.shape import broadcast, expand, permute
from niudao.formats.pytorch.aten.sizes import Number, Sym
from niudao.formats.pytorch.aten.table import aten

_WHOLE = (ir.DataType.INT64, ir.DataType.INT32)


def places(c: Lowering, index: ir.Value) -> ir.Value:
    """An index of a type that ONNX takes."""
    if c.dtype(index) in (ir.DataType.BOOL, ir.DataType.UINT8):
        c.refuse("a mask as an index: how many elements it picks is known only when it runs", "indices", "use torch.where")
    return index if c.dtype(index) in _WHOLE else c.cast(index, ir.DataType.INT64)


def _unmasked(c: Lowering, indices: Sequence[ir.Value | None]) -> list[ir.Value | None]:
    """Constant masks as the places that they pick."""
    found: list[ir.Value | None] = []
    for index in indices:
        known = c.known(index) if index is not None and c.dtype(index) in (ir.DataType.BOOL, ir.DataType.UINT8) else None
        found += [index] if known is None else [c.const(p.astype(np.int64)) for p in np.nonzero(known)]
    return found


def _together(c: Lowering, indices: Sequence[ir.Value]) -> tuple[ir.Value, list[Number]]:
    """Several indices of a common shape as one, (..., how many); and that shape."""
    dims = broadcast(c, [c.shape(i) for i in indices])
    wide = [c.op("Unsqueeze", expand(c, c.cast(i, ir.DataType.INT64), dims), c.const([len(dims)])) for i in indices]
    return (wide[0] if len(wide) == 1 else c.op("Concat", *wide, axis=len(dims))), dims


@aten("aten.index.Tensor", "aten.index", "aten._unsafe_index")
def index(c: Lowering, self: ir.Value, indices: Sequence[ir.Value | None]) -> ir.Value:
    given = _unmasked(c, indices)
    used = [i for i, v in enumerate(given) if v is not None]
    if not used:
        return self
    picked = [places(c, v) for v in given if v is not None]
    if len(used) == 1:
        return c.op("Gather", self, picked[0], axis=used[0])
    rank = c.rank(self)
    rest = [i for i in range(rank) if i not in used]
    where, dims = _together(c, picked)
    y = c.op("GatherND", permute(c, self, [*used, *rest]), where)
    y = c.shaped(y, [*dims, *(c.size(self, i) for i in rest)])
    if used != list(range(used[0], used[0] + len(used))) or used[0] == 0:
        return y
    n, lead = len(dims), used[0]  # neighbours keep their place among the axes
    return permute(c, y, [*range(n, n + lead), *range(n), *range(n + lead, c.rank(y))])


@aten("aten.index_put", "aten._unsafe_index_put", "aten._index_put_impl")
def index_put(
    c: Lowering, self: ir.Value, indices: Sequence[ir.Value | None], values: ir.Value, accumulate: bool = False, unsafe: bool = False
) -> ir.Value:
    masks = [i for i in indices if i is not None and c.dtype(i) in (ir.DataType.BOOL, ir.DataType.UINT8) and c.known(i) is None]
    if masks:
        one = all(n == 1 for n in c.shape(values))
        if len(masks) != 1 or len([i for i in indices if i is not None]) != 1 or indices[0] is None or not one or accumulate:
            c.refuse("it writes several values at the places of a mask", "indices", "use torch.where")
        mask = c.cast(masks[0], ir.DataType.BOOL)
        mask = c.reshape(mask, c.shape(mask) + [1] * (c.rank(self) - c.rank(mask)))
        return c.op("Where", mask, c.cast(c.reshape(values, []), c.dtype(self)), self)
    given = _unmasked(c, indices)
    used = [i for i, v in enumerate(given) if v is not None]
    rest = [i for i in range(c.rank(self)) if i not in used]
    where, dims = _together(c, [places(c, v) for v in given if v is not None])
    neighbours = used == list(range(used[0], used[0] + len(used)))
    updates = c.cast(values, c.dtype(self))
    if neighbours and used[0]:
        lead, n = used[0], len(dims)
        target = [*(c.size(self, i) for i in rest[:lead]), *dims, *(c.size(self, i) for i in rest[lead:])]
        updates = permute(c, expand(c, updates, target), [*range(lead, lead + n), *range(lead), *range(lead + n, len(target))])
    else:
        updates = expand(c, updates, [*dims, *(c.size(self, i) for i in rest)])
    perm = [*used, *rest]
    y = c.op("ScatterND", permute(c, self, perm), where, updates, reduction="add" if accumulate else "none")
    return permute(c, y, [perm.index(i) for i in range(len(perm))])


@aten("aten.index_select")
def index_select(c: Lowering, self: ir.Value, dim: int, index: ir.Value) -> ir.Value:
    return c.op("Gather", self, places(c, index if c.rank(index) else c.reshape(index, [1])), axis=c.axis(self, dim))


@aten("aten.gather")
def gather(c: Lowering, self: ir.Value, dim: int, index: ir.Value, sparse_grad: bool = False) -> ir.Value:
    return c.op("GatherElements", self, places(c, index), axis=c.axis(self, dim))


@aten("aten.take")
def take(c: Lowering, self: ir.Value, index: ir.Value) -> ir.Value:
    return c.op("Gather", c.reshape(self, [-1]), places(c, index), axis=0)


@aten("aten.take_along_dim")
def take_along_dim(c: Lowering, self: ir.Value, indices: ir.Value, dim: int | None = None) -> ir.Value:
    if dim is None:
        return c.op("GatherElements", c.reshape(self, [-1]), c.reshape(places(c, indices), [-1]), axis=0)
    axis = c.axis(self, dim)
    own, other = c.shape(self), c.shape(indices)
    common = broadcast(c, [[n for i, n in enumerate(d) if i != axis] for d in (own, other)])
    wide = [[*common[:axis], d[axis], *common[axis:]] for d in (own, other)]
    return c.op("GatherElements", expand(c, self, wide[0]), expand(c, places(c, indices), wide[1]), axis=axis)


def _scattered(c: Lowering, x: ir.Value, dim: int, index: ir.Value, src: Tensor, reduction: str = "none") -> ir.Value:
    dims = c.shape(index)
    if isinstance(src, ir.Value) and c.rank(src) == c.rank(index):
        part = c.cast(src, c.dtype(x))
        for axis, n in enumerate(dims):  # the source may be larger than the index
            part = cut(c, part, axis, 0, n)
    else:
        part = expand(c, c.tensor(src, x), dims)
    return c.op("ScatterElements", x, places(c, index), part, axis=c.axis(x, dim), reduction=reduction)


@aten("aten.scatter.src", "aten.scatter")
def scatter(c: Lowering, self: ir.Value, dim: int, index: ir.Value, src: Tensor) -> ir.Value:
    return _scattered(c, self, dim, index, src)


@aten("aten.scatter.value")
def scatter_value(c: Lowering, self: ir.Value, dim: int, index: ir.Value, value: Tensor) -> ir.Value:
    return _scattered(c, self, dim, index, value)


@aten("aten.scatter_add")
def scatter_add(c: Lowering, self: ir.Value, dim: int, index: ir.Value, src: ir.Value) -> ir.Value:
    return _scattered(c, self, dim, index, src, "add")


@aten("aten.scatter.reduce", "aten.scatter_reduce.two", "aten.scatter_reduce", "aten.scatter.value_reduce")
def scatter_reduce(c: Lowering, self: ir.Value, dim: int, index: ir.Value, src: Tensor, reduce: str, include_self: bool = True) -> ir.Value:
    names = {"add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max", "amin": "min"}
    if reduce not in names or not include_self:
        c.refuse(f"scattering with reduce={reduce!r}, include_self={include_self}", "reduce")
    return _scattered(c, self, dim, index, src, names[reduce])


@aten("aten.index_add")
def index_add(c: Lowering, self: ir.Value, dim: int, index: ir.Value, source: ir.Value, alpha: float = 1) -> ir.Value:
    part = source if alpha == 1 else c.op("Mul", source, c.const(alpha, source))
    return _scattered(c, self, dim, _across(c, self, dim, index, source), part, "add")


@aten("aten.index_copy")
def index_copy(c: Lowering, self: ir.Value, dim: int, index: ir.Value, source: ir.Value) -> ir.Value:
    return _scattered(c, self, dim, _across(c, self, dim, index, source), source)


@aten("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor", "aten.index_fill")
def index_fill(c: Lowering, self: ir.Value, dim: int, index: ir.Value, value: Tensor) -> ir.Value:
    dims = c.shape(self)
    dims[c.axis(self, dim)] = c.size(index, 0)
    return _scattered(c, self, dim, _across(c, self, dim, index, None, dims), value)


def _across(c: Lowering, x: ir.Value, dim: int, index: ir.Value, like: ir.Value | None, dims: Sequence[Number] | None = None) -> ir.Value:
    """An index of one axis, spread over all the others."""
    axis = c.axis(x, dim)
    column = c.reshape(index, [-1 if i == axis else 1 for i in range(c.rank(x))])
    return expand(c, column, dims if dims is not None else c.shape(like) if like is not None else c.shape(x))


@aten("aten.masked_fill.Scalar", "aten.masked_fill.Tensor", "aten.masked_fill")
def masked_fill(c: Lowering, self: ir.Value, mask: ir.Value, value: Tensor) -> ir.Value:
    return c.op("Where", c.cast(mask, ir.DataType.BOOL), c.tensor(value, self), self)


@aten("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def where(c: Lowering, condition: ir.Value, self: Tensor, other: Tensor) -> ir.Value:
    a, b = c.promoted(self, other)
    return c.op("Where", c.cast(condition, ir.DataType.BOOL), a, b)


@aten("aten.nonzero", "aten.argwhere")
def nonzero(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Transpose", c.op("NonZero", self), perm=[1, 0])


@aten("aten.masked_select", "aten.where", "aten.where.default", "aten.masked_scatter", "aten.unique_dim", "aten._unique2")
def data_dependent(c: Lowering, *args: Any, **kwargs: Any) -> ir.Value:
    c.refuse("the shape of its result depends on the content of a tensor", rewrite="use torch.where with three arguments")


def _ranked(c: Lowering, x: ir.Value, k: Number, axis: int, largest: bool) -> tuple[ir.Value, ir.Value]:
    """The k largest or smallest along an axis and their places; equal ones in their order."""
    if c.dtype(x) == ir.DataType.BOOL:
        values, where = _ranked(c, c.cast(x, ir.DataType.INT32), k, axis, largest)
        return c.cast(values, ir.DataType.BOOL), where
    values, where = c.ops("TopK", x, c.vector([k]), outputs=2, axis=axis, largest=int(largest), sorted=1)
    dims = c.shape(x)
    dims[axis] = k
    return c.shaped(values, dims), c.shaped(where, dims)


@aten("aten.topk")
def topk(c: Lowering, self: ir.Value, k: Number, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[ir.Value, ir.Value]:
    return _ranked(c, self, k, c.axis(self, dim), largest)


@aten("aten.sort")
def sort(c: Lowering, self: ir.Value, dim: int = -1, descending: bool = False) -> tuple[ir.Value, ir.Value]:
    return _ranked(c, self, c.size(self, dim), c.axis(self, dim), descending)


@aten("aten.sort.stable")
def sort_stable(
    c: Lowering, self: ir.Value, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[ir.Value, ir.Value]:
    return _ranked(c, self, c.size(self, dim), c.axis(self, dim), descending)


@aten("aten.argsort")
def argsort(c: Lowering, self: ir.Value, dim: int = -1, descending: bool = False) -> ir.Value:
    return _ranked(c, self, c.size(self, dim), c.axis(self, dim), descending)[1]


@aten("aten.argsort.stable")
def argsort_stable(c: Lowering, self: ir.Value, stable: bool = False, dim: int = -1, descending: bool = False) -> ir.Value:
    return _ranked(c, self, c.size(self, dim), c.axis(self, dim), descending)[1]


@aten("aten.kthvalue")
def kthvalue(c: Lowering, self: ir.Value, k: int, dim: int = -1, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    axis, place = c.axis(self, dim), c.whole(k, "k")
    found = _ranked(c, self, place, axis, largest=False)
    last = [cut(c, x, axis, place - 1, place) for x in found]
    values, where = last if keepdim else [c.op("Squeeze", x, c.const([axis])) for x in last]
    return values, where


@aten("aten.median.dim")
def median_dim(c: Lowering, self: ir.Value, dim: int, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """The lower one of two middle elements."""
    return kthvalue(c, self, (c.fixed(self, dim) + 1) // 2, dim, keepdim)


@aten("aten.median")
def median(c: Lowering, self: ir.Value) -> ir.Value:
    return median_dim(c, c.reshape(self, [-1]), 0)[0]


@aten("aten.one_hot")
def one_hot(c: Lowering, self: ir.Value, num_classes: int = -1) -> ir.Value:
    n = c.whole(num_classes, "num_classes")
    if n < 0:
        c.refuse("the number of classes depends on the content of a tensor", "num_classes", "state num_classes")
    return c.op("OneHot", self, c.const(n), c.const([0, 1]), axis=-1)


@aten("aten.embedding")
def embedding(
    c: Lowering, weight: ir.Value, indices: ir.Value, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> ir.Value:
    return c.op("Gather", weight, places(c, indices), axis=0)


def _triangle(c: Lowering, x: ir.Value, diagonal: Number, upper: bool) -> ir.Value:
    if isinstance(diagonal, Sym):
        c.refuse("a diagonal that depends on a free size", "diagonal")
    if c.dtype(x) in (ir.DataType.BOOL, ir.DataType.INT32):
        wide = c.op("Trilu", c.cast(x, ir.DataType.INT64), c.const(diagonal), upper=int(upper))
        return c.cast(wide, c.dtype(x))
    return c.op("Trilu", x, c.const(diagonal), upper=int(upper))


@aten("aten.tril")
def tril(c: Lowering, self: ir.Value, diagonal: Number = 0) -> ir.Value:
    return _triangle(c, self, diagonal, upper=False)


@aten("aten.triu")
def triu(c: Lowering, self: ir.Value, diagonal: Number = 0) -> ir.Value:
    return _triangle(c, self, diagonal, upper=True)


@aten("aten.diagonal")
def diagonal(c: Lowering, self: ir.Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> ir.Value:
    a, b = c.axis(self, dim1), c.axis(self, dim2)
    rows, columns = c.fixed(self, a), c.fixed(self, b)
    held = np.arange(rows * columns).reshape(rows, columns).diagonal(offset)
    rest = [i for i in range(c.rank(self)) if i not in (a, b)]
    flat = c.reshape(permute(c, self, [*rest, a, b]), [*(c.size(self, i) for i in rest), rows * columns])
    return c.op("Gather", flat, c.const(held), axis=len(rest))
