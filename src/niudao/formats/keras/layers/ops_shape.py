"""Operations that only look at axes: reshaping, transposing, joining, and numpy's basic indexing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.layers.merge import concat
from niudao.formats.keras.layers.ops import argument
from niudao.formats.keras.tensor import Tensor


@reads("ops.Reshape")
def reshape(call: Call, *xs: Tensor) -> Tensor:
    shape = argument(call, 1, "newshape", "shape")
    dims = [-1 if d is None else int(d) for d in shape]
    return Tensor.plain(call.b.op("Reshape", xs[0].source_order(call.b).value, call.b.const(dims)))


@reads("ops.Transpose")
def transpose(call: Call, *xs: Tensor) -> Tensor:
    x = xs[0]
    axes = argument(call, 1, "axes", "perm")
    order = [int(a) % x.rank for a in axes] if axes is not None else list(reversed(range(x.rank)))
    return Tensor(x.value, tuple(order.index(p) for p in x.perm), x.masked)


@reads("ops.ExpandDims")
def expand_dims(call: Call, *xs: Tensor) -> Tensor:
    x = xs[0].source_order(call.b)
    axis = argument(call, 1, "axis")
    axes = [int(a) for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
    return Tensor.plain(call.b.op("Unsqueeze", x.value, call.b.const(axes)))


@reads("ops.Squeeze")
def squeeze(call: Call, *xs: Tensor) -> Tensor:
    x = xs[0].source_order(call.b)
    axis = argument(call, 1, "axis")
    if axis is None:
        raise call.refuse("squeezing without an axis depends on the batch", attribute="axis")
    axes = [int(a) for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
    return Tensor.plain(call.b.op("Squeeze", x.value, call.b.const(axes)))


@reads("ops.Concatenate")
def concatenate(call: Call, *xs: Tensor) -> Tensor:
    return concat(call, xs, int(argument(call, 1, "axis", default=0)))


@reads("ops.GetItem")
def get_item(call: Call, *xs: Tensor) -> Tensor:
    return take(call, xs[0], argument(call, 1, "key"))


@reads("SlicingOpLambda")
def slicing(call: Call, *xs: Tensor) -> Tensor:
    call.get("function")
    return take(call, xs[0], call.kwargs.get("slice_spec"))


def take(call: Call, x: Tensor, key: Any) -> Tensor:
    """numpy's basic indexing: slices, numbers, an ellipsis, new axes."""
    items = list(key) if isinstance(key, (list, tuple)) else [key]
    b = call.b
    x = x.source_order(b)
    used = sum(1 for i in items if i is not None and not _ellipsis(i))
    starts: list[int] = []
    ends: list[int] = []
    axes: list[int] = []
    steps: list[int] = []
    gone: list[int] = []
    new: list[int] = []
    axis = 0
    for item in items:
        if item is None:
            new.append(axis - len(gone) + len(new))
        elif _ellipsis(item):
            axis += x.rank - used
        elif isinstance(item, int):
            starts.append(item)
            ends.append(item + 1 if item != -1 else 2**62)
            axes.append(axis)
            steps.append(1)
            gone.append(axis)
            axis += 1
        else:
            start, stop, step = _slice(call, item)
            if (start, stop, step) != (None, None, None):
                back = step is not None and step < 0
                starts.append((2**62 if back else 0) if start is None else start)
                ends.append((-(2**62) if back else 2**62) if stop is None else stop)
                axes.append(axis)
                steps.append(step or 1)
            axis += 1
    y = x.value
    if axes:
        y = b.op("Slice", y, b.const(starts), b.const(ends), b.const(axes), b.const(steps))
    if gone:
        y = b.op("Squeeze", y, b.const(gone))
    if new:
        y = b.op("Unsqueeze", y, b.const(new))
    return Tensor.plain(y)


def _ellipsis(item: Any) -> bool:
    return item is Ellipsis or item in ("...", "Ellipsis") or (isinstance(item, Mapping) and item.get("class_name") == "__ellipsis__")


def _slice(call: Call, item: Any) -> tuple[int | None, int | None, int | None]:
    if isinstance(item, slice):
        return item.start, item.stop, item.step
    if isinstance(item, Mapping):
        fields = item.get("config", item)
        values = tuple(fields.get(k) for k in ("start", "stop", "step"))
        if all(v is None or isinstance(v, int) for v in values):
            return values
    raise call.refuse(f"the index {item!r} is not read", attribute="key")
