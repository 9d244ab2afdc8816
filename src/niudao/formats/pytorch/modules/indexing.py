"""Elements taken out of tensors and put into them."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import indexing as f
from niudao.formats.pytorch.modules.shape import fixed
from niudao.formats.pytorch.modules.table import converts

_FAR = 2**31 - 1
"""Ends from here on mean "to the end", whatever the integer's width."""


@converts("Slice")
def cut(c: Call) -> Any:
    starts, ends, axes, steps = c.ints(1) or [], c.ints(2) or [], c.ints(3), c.ints(4)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    rank, known_axes, known_steps = c.rank(0), fixed(axes), fixed(steps)
    if known_axes is None or known_steps is None or min(known_steps, default=1) < 1 or rank is None:
        return c.call(f.slice_axes, c.x(0), starts, ends, axes, steps)
    cuts = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, known_axes, known_steps, strict=True):
        open_end = isinstance(end, int) and end >= _FAR
        open_start = isinstance(start, int) and start == 0
        cuts[axis % rank] = slice(None if open_start else start, None if open_end else end, None if step == 1 else step)
    last = max((i for i, s in enumerate(cuts) if s != slice(None)), default=-1)
    if last < 0:
        return c.x(0)
    return c.call(operator.getitem, c.x(0), tuple(cuts[: last + 1]))


@converts("Gather")
def gather(c: Call) -> Any:
    rank, axis = c.needs_rank(), c.attr("axis")
    axis = axis % rank if rank else 0
    known, sizes = c.known(1), c.dims(0)
    if known is not None and known.ndim == 0:
        return c.call(torch.select, c.x(0), axis, int(known))
    if c.is_weight(0) and axis == 0 and rank == 2 and sizes is not None and known is None:
        layer = c.weighted(lambda: nn.Embedding(sizes[0] or 0, sizes[1] or 0), {"weight": 0}, c.x(1))
        if layer is not None:
            return layer
    return c.call(f.take, c.x(0), c.x(1), axis)


@converts("GatherElements")
def gather_elements(c: Call) -> Any:
    return c.call(f.take_along, c.x(0), c.x(1), c.attr("axis"))


@converts("GatherND")
def gather_nd(c: Call) -> Any:
    return c.call(f.take_points, c.x(0), c.x(1), c.attr("batch_dims"))


@converts("ScatterElements", "Scatter")
def scatter_elements(c: Call) -> Any:
    return c.call(f.put_along, c.x(0), c.x(1), c.x(2), c.attr("axis"), c.attr("reduction", "none"))


@converts("ScatterND")
def scatter_nd(c: Call) -> Any:
    return c.call(f.put_points, c.x(0), c.x(1), c.x(2), c.attr("reduction"))


@converts("TensorScatter")
def tensor_scatter(c: Call) -> Any:
    return c.call(f.put_cache, c.x(0), c.x(1), c.x(2), c.attr("axis"), c.attr("mode") == "circular")


@converts("OneHot")
def one_hot(c: Call) -> Any:
    depth = c.known(1)
    if depth is not None:
        return c.call(f.one_hot, c.x(0), int(depth.reshape(-1)[0]), c.x(2), c.attr("axis"))
    return c.call(f.one_hot, c.x(0), c.call(int, c.method("item", c.x(1))), c.x(2), c.attr("axis"))


@converts("NonZero")
def non_zero(c: Call) -> Any:
    return c.call(torch.transpose, c.call(torch.nonzero, c.x(0)), 0, 1)


@converts("Compress")
def compress(c: Call) -> Any:
    return c.call(f.compress, c.x(0), c.x(1), c.attr("axis"))


@converts("Trilu")
def triangle(c: Call) -> Any:
    k = (c.ints(1) or [0])[0]
    return c.call(torch.triu if c.attr("upper") else torch.tril, c.x(0), k)


@converts("ReverseSequence")
def reverse_sequence(c: Call) -> Any:
    return c.call(f.reverse_sequences, c.x(0), c.x(1), c.attr("batch_axis"), c.attr("time_axis"))


@converts("TopK")
def top_k(c: Call) -> Any:
    k = (c.ints(1) or [1])[0]
    both = c.call(f.top_k, c.x(0), k, c.attr("axis"), bool(c.attr("largest")))
    return c.call(operator.getitem, both, 0), c.call(operator.getitem, both, 1)


@converts("Unique")
def unique(c: Call) -> Any:
    found = c.call(f.unique, c.x(0), c.attr("axis"), bool(c.attr("sorted")))
    return tuple(c.call(operator.getitem, found, i) for i in range(len(c.node.outputs)))
