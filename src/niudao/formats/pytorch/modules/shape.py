"""Changes of shape, and tensors made from a shape."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import fx

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions.reshape import arange, expand, eye_like, flatten, split_evenly, unsqueeze
from niudao.formats.pytorch.modules.functions.reshape import reshape as reshape_like
from niudao.formats.pytorch.modules.functions.reshape import squeeze as squeeze_axes
from niudao.formats.pytorch.modules.table import converts
from niudao.formats.pytorch.modules.weights import DTYPES


def fixed(values: Sequence[Any] | None) -> list[int] | None:
    """Sizes or places that are all plain numbers, else None."""
    if values is None or any(isinstance(v, fx.Node) for v in values):
        return None
    return [int(v) for v in values]


def device_of(c: Call, x: Any = None) -> fx.Node:
    """The device of a tensor, else of the network's first input."""
    first = x if x is not None else next((n for n in c.building.graph.nodes if n.op == "placeholder"), None)
    return c.call(getattr, first, "device") if first is not None else c.call(torch.device, "cpu")


def in_network_type(c: Call, made: fx.Node, dtype: torch.dtype) -> fx.Node:
    """A tensor that the network makes of nothing; single precision follows the network, which may have become double."""
    return c.floating(made) if dtype == torch.float32 else made


def _may_be_zero(value: Any) -> bool:
    """Whether a size that the network computes may be 0: those of tensors are not, what a tensor holds may be anything."""
    if not isinstance(value, fx.Node):
        return False
    if value.op == "call_method":
        return bool(value.target != "size")
    return any(_may_be_zero(a) for a in value.all_input_nodes)


@converts("Reshape")
def reshape(c: Call) -> Any:
    shape = c.ints(1) or []
    if c.attr("allowzero"):
        return c.call(torch.reshape, c.x(0), shape)
    if any(_may_be_zero(n) for n in shape):
        return c.call(reshape_like, c.x(0), shape)
    sizes = c.dims(0)
    filled: list[Any] = []
    for i, n in enumerate(shape):
        copied = not isinstance(n, fx.Node) and n == 0
        known = sizes[i] if copied and sizes is not None and i < len(sizes) else None
        filled.append(n if not copied else known if known is not None else c.size(_tensor(c), i))
    return c.call(torch.reshape, c.x(0), filled)


def _tensor(c: Call, i: int = 0) -> fx.Node:
    x = c.x(i)
    return x if x is not None else c.refuse(f"its input {i} is missing")


@converts("Flatten")
def flatten_matrix(c: Call) -> Any:
    rank = c.needs_rank()
    axis = c.attr("axis")
    axis = axis + rank if axis < 0 else axis
    if axis == 1 and rank > 1:
        return c.call(torch.flatten, c.x(0), 1)
    if axis == 0:
        return c.call(torch.reshape, c.x(0), [1, -1])
    return c.call(flatten, c.x(0), axis)


@converts("Squeeze")
def squeeze(c: Call) -> Any:
    if not c.has(1):
        sizes = c.dims(0)
        if sizes is None or None in sizes:
            return c.call(squeeze_axes, c.x(0), [])
        axes: list[Any] = [i for i, n in enumerate(sizes) if n == 1]
    else:
        axes = c.ints(1) or []
    if fixed(axes) is None:
        return c.call(squeeze_axes, c.x(0), axes)
    if not axes:
        return c.x(0)
    return c.call(torch.squeeze, c.x(0), axes[0] if len(axes) == 1 else tuple(axes))


@converts("Unsqueeze")
def insert_axes(c: Call) -> Any:
    axes = c.ints(1) or []
    known, rank = fixed(axes), c.rank(0)
    if known is None or rank is None:
        return c.call(unsqueeze, c.x(0), axes)
    x = c.x(0)
    for axis in sorted(a % (rank + len(known)) for a in known):
        x = c.call(torch.unsqueeze, x, axis)
    return x


@converts("Transpose")
def transpose(c: Call) -> Any:
    perm = c.attr("perm")
    return c.call(torch.permute, c.x(0), tuple(perm) if perm is not None else tuple(reversed(range(c.needs_rank()))))


@converts("Shape", "Size")
def shape_of(c: Call) -> Any:
    """Shapes become numbers before a converter is asked; only one of unknown rank comes here."""
    c.refuse("the rank of its input is not known")


@converts("Identity")
def identity(c: Call) -> Any:
    return c.x(0)


@converts("ConstantOfShape")
def constant_of_shape(c: Call) -> Any:
    held = c.attr("value")
    dtype = DTYPES.get(held.dtype if held is not None else ir.DataType.FLOAT)
    if dtype is None:
        c.refuse("torch has no type for its value", "value")
    value = held.numpy().reshape(-1)[0].item() if held is not None else 0.0
    return in_network_type(c, c.call(torch.full, c.ints(0), value, dtype=dtype, device=device_of(c)), dtype)


@converts("Expand")
def expand_to(c: Call) -> Any:
    shape, sizes = c.ints(1) or [], c.dims(0)
    known = fixed(shape)
    if known is not None and sizes is not None and len(known) >= len(sizes):
        lead = len(known) - len(sizes)
        pairs = list(zip(sizes, known[lead:], strict=True))
        if all(n != 1 or have == 1 for have, n in pairs):
            return c.method("expand", c.x(0), *known)
        if all(have is not None for have, _ in pairs):
            return c.method("expand", c.x(0), *known[:lead], *(have if n == 1 else n for have, n in pairs))
    return c.call(expand, c.x(0), shape)


@converts("Tile")
def tile(c: Call) -> Any:
    return c.method("repeat", c.x(0), *(c.ints(1) or []))


@converts("Concat")
def concat(c: Call) -> Any:
    return c.call(torch.cat, c.xs(), c.attr("axis"))


@converts("Split")
def split(c: Call) -> Any:
    axis, count, sizes = c.attr("axis"), len(c.node.outputs), c.dims(0)
    lengths = c.ints(1)
    size = sizes[axis] if sizes is not None else None
    if lengths is None and size is not None:
        piece = -(-size // count)
        lengths = [min(piece, max(size - i * piece, 0)) for i in range(count)]
    parts = c.call(split_evenly, c.x(0), count, axis) if lengths is None else c.call(torch.split, c.x(0), lengths, axis)
    return tuple(c.call(operator.getitem, parts, i) for i in range(count))


@converts("EyeLike")
def eye(c: Call) -> Any:
    to = c.attr("dtype")
    dtype = DTYPES.get(ir.DataType(to)) if to is not None else c.dtype(0)
    if dtype is None:
        c.refuse("torch has no such type", "dtype")
    return in_network_type(c, c.call(eye_like, c.x(0), c.attr("k"), dtype), dtype)


@converts("Range")
def sequence(c: Call) -> Any:
    values = [c.ints(i) for i in range(3)] if not c.dtype(0).is_floating_point else None
    if values is not None and all(v is not None for v in values):
        start, limit, delta = (v[0] for v in values if v is not None)
        return c.call(torch.arange, start, limit, delta, dtype=c.dtype(0), device=device_of(c))
    return c.call(arange, c.x(0), c.x(1), c.x(2))
