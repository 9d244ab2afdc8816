"""Layers that change shape or order and no number.

Sources: BVLC Caffe's reshape, flatten, concat, tile and parameter layers; SSD's permute; the reverse layer of WarpCTC-Caffe;
ShuffleNet's shuffle_channel; YOLOv2's reorg (darknet's reorg_cpu).
"""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads
from niudao.formats.caffe.layers.call import HIGHEST, FixedBatch

Size = tuple[int, int]
"""(a, n): a size of a * batch ** n; n is 0 or 1 in every shape that Caffe's layers make of a free batch."""


@reads("Reshape")
def reshape(call: Call, x: ir.Value) -> ir.Value:
    """Other sizes for the axes from `axis` on, `num_axes` of them (-1: all): 0 copies the input's size, -1 takes what is left."""
    part = call.param("reshape_param")
    stated = [int(d) for d in part.sub("shape").all("dim")]
    if any(not -1 <= d < HIGHEST for d in stated) or stated.count(-1) > 1 or len(stated) > 32:
        raise call.bad("shape", "sizes, 0 to copy, and at most one -1", stated)
    old = _sizes(call, x)
    start = call.axis(int(part.get("axis")), len(old), extra=1)
    count = int(part.get("num_axes"))
    if not -1 <= count <= len(old) - start:
        raise call.bad("num_axes", f"-1 to {len(old) - start}", count)
    end = len(old) if count == -1 else start + count
    new: list[Size | None] = []
    for i, d in enumerate(stated):
        if d == 0 and start + i >= len(old):
            raise call.bad("shape", "0 only where the input has an axis to copy", stated)
        new.append(old[start + i] if d == 0 else None if d == -1 else (d, 0))
    if (1, 1) in old and start == 0 < end and stated and stated[0] > 0:
        raise FixedBatch  # a number where the batch was: it holds for the batch that the file states
    return _reshaped(call, x, old, [*old[:start], *new, *old[end:]], "shape")


@reads("Flatten")
def flatten(call: Call, x: ir.Value) -> ir.Value:
    """The axes from `axis` to `end_axis` become one."""
    part, old = call.param("flatten_param"), _sizes(call, x)
    start = call.axis(int(part.get("axis")), len(old))
    end = call.axis(int(part.get("end_axis")), len(old), "end_axis")
    if end < start - 1:
        raise call.bad("end_axis", f"{start} or above", end)
    flat = None if end >= start else (1, 0)  # no axis at all makes one of size 1, as in Caffe
    return x if start == end else _reshaped(call, x, old, [*old[:start], flat, *old[end + 1 :]], "axis")


def _sizes(call: Call, x: ir.Value) -> list[Size]:
    dims = call.dims(x)
    return [(1, 1) if dims and dims[0] is None and i == 0 else (call.sizes(x, i)[0], 0) for i in range(len(dims))]


def _reshaped(call: Call, x: ir.Value, old: list[Size], new: list[Size | None], key: str) -> ir.Value:
    """A Reshape that holds for every batch; None stands for what is left.

    Raises:
        FixedBatch: It can hold for one batch only.
        InvalidModel: It can hold for none.
    """
    free = (1, 1) in old
    have, want = _product(old), _product([s for s in new if s is not None])
    if None in new:
        rest = have[1] - want[1]
        if want[0] == 0 or have[0] % want[0] or rest not in (0, 1):
            raise FixedBatch if free else call.bad(key, f"sizes that divide the input's {have[0]} numbers", want[0])
        sizes = [(have[0] // want[0], rest) if s is None else s for s in new]
    else:
        sizes = [s for s in new if s is not None]
        if have != want:
            raise FixedBatch if free else call.bad(key, f"sizes for the input's {have[0]} numbers", want[0])
    if sizes == old:
        return x
    target = [a if not n else 0 if i == 0 and a == 1 and free else -1 for i, (a, n) in enumerate(sizes)]
    return call.b.op("Reshape", x, call.b.const(target, "int64"))


def _product(sizes: list[Size]) -> Size:
    return prod(a for a, _ in sizes), sum(n for _, n in sizes)


@reads("Permute")
def permute(call: Call, x: ir.Value) -> ir.Value:
    """Axes in another order; those that are not named follow as they are."""
    rank, order = call.rank(x), [int(o) for o in call.param("permute_param").all("order")]
    if len(set(order)) != len(order) or any(o >= rank for o in order):
        raise call.bad("order", f"each of 0 to {rank - 1} at most once", order)
    order += [i for i in range(rank) if i not in order]
    return x if order == list(range(rank)) else call.b.op("Transpose", x, perm=order)


@reads("Concat")
def concat(call: Call, *values: ir.Value) -> ir.Value:
    """Values one behind the other along one axis."""
    part = call.param("concat_param")
    if not values:
        raise call.bad("bottom", "at least one", "none")
    if part.has("concat_dim") and part.has("axis"):
        raise call.bad("concat_dim", "axis or concat_dim, not both", "both")
    key = "concat_dim" if part.has("concat_dim") else "axis"
    rank = call.rank(values[0])
    axis = call.axis(int(part.get(key)), rank, key)
    first = call.dims(values[0])
    for other in values[1:]:
        dims = call.dims(other)
        for i in range(max(rank, len(dims))):
            if len(dims) != rank or (i != axis and dims[i] != first[i]):
                if len(dims) == rank and i == 0 and None in (dims[0], first[0]):
                    raise FixedBatch
                raise call.bad("bottom", f"inputs like {values[0].shape} but on axis {axis}", other.shape)
    return values[0] if len(values) == 1 else call.b.op("Concat", *values, axis=axis)


@reads("Tile")
def tile(call: Call, x: ir.Value) -> ir.Value:
    """The value `tiles` times behind itself along one axis."""
    part, rank = call.param("tile_param"), call.rank(x)
    axis, tiles = call.axis(int(part.get("axis")), rank), call.integer(part, "tiles", 1)
    call.bounded((*call.dims(x), tiles), "tiles")
    return x if tiles == 1 else call.b.op("Tile", x, call.b.const([tiles if i == axis else 1 for i in range(rank)]))


@reads("Reverse")
def reverse(call: Call, x: ir.Value) -> ir.Value:
    """The other way round along one axis, the first by default."""
    axis = call.axis(int(call.param("reverse_param").get("axis")), call.rank(x))
    return call.b.op("Slice", x, call.b.const([-1]), call.b.const([-(1 << 62)]), call.b.const([axis]), call.b.const([-1]))


@reads("Parameter")
def parameter(call: Call) -> ir.Value:
    """A stored blob as a value of the graph."""
    shape = [int(d) for d in call.param("parameter_param").sub("shape").all("dim")]
    if any(not 0 < d < HIGHEST for d in shape) or len(shape) > 32:
        raise call.bad("shape", "sizes from 1 on", shape)
    call.bounded(shape, "shape")
    call.expect(1)
    return call.weight(0, shape, "weight")


@reads("ShuffleChannel")
def shuffle_channel(call: Call, x: ir.Value) -> ir.Value:
    """Channels of every group in turn: channel i of group g becomes channel i * groups + g."""
    call.rank(x, 4)
    groups, (channels, height, width) = call.integer(call.param("shuffle_channel_param"), "group", 1), call.sizes(x)
    if channels % groups:
        raise call.bad("group", f"a number that divides {channels} channels", groups)
    if groups in (1, channels):
        return x
    split = call.b.op("Reshape", x, call.b.const([0, groups, channels // groups, height, width]))
    return call.b.op("Reshape", call.b.op("Transpose", split, perm=[0, 2, 1, 3, 4]), call.b.const([0, channels, height, width]))


@reads("Reorg")
def reorg(call: Call, x: ir.Value) -> ir.Value:
    """Darknet's space to depth, which reads its input as if it had stride ** 2 times fewer channels and larger rows; or back.

    With `reverse`, channel c of (C, H, W) is written to channel c % (C / s^2) of (C / s^2, sH, sW), at the place c // (C / s^2)
    of every s x s square. Without it the same index map is gone the other way on the same memory.
    """
    call.rank(x, 4)
    part = call.param("reorg_param")
    s, (c, h, w) = call.integer(part, "stride", 1, 1 << 16), call.sizes(x)
    back = bool(part.get("reverse"))
    if c % (s * s):
        raise call.bad("stride", f"a number whose square divides {c} channels", s)
    if s == 1:
        return x
    few = c // (s * s)
    if back:
        y = call.b.op("Reshape", x, call.b.const([0, s, s, few, h, w]))
        return call.b.op("Reshape", call.b.op("Transpose", y, perm=[0, 3, 4, 1, 5, 2]), call.b.const([0, few, h * s, w * s]))
    if h % s or w % s:
        raise call.bad("stride", f"a number that divides the picture's {h} x {w}", s)
    y = call.b.op("Reshape", x, call.b.const([0, few, h, s, w, s]))
    return call.b.op("Reshape", call.b.op("Transpose", y, perm=[0, 3, 5, 1, 2, 4]), call.b.const([0, c * s * s, h // s, w // s]))
