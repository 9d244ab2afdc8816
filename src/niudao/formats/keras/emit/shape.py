"""Reshape, Transpose and their kind: mostly a new note on where the axes lie, a layer only where elements truly move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.activation import ELEMENTWISE, scale
from niudao.formats.keras.emit.attributes import attr
from niudao.formats.keras.emit.cut import by_matrix
from niudao.formats.keras.emit.graph import Arg, Dim, Net, Tensor, Weight, refuse
from niudao.formats.keras.emit.recurrent import sizes
from niudao.formats.keras.emit.steps import joined, split
from niudao.formats.keras.emit.table import emits

_WORDS = {ir.DataType.FLOAT: "float32", ir.DataType.INT64: "int32", ir.DataType.INT32: "int32"}


@emits("Identity", "Dropout")
def identity(net: Net, node: ir.Node) -> None:
    """Nothing, at inference."""
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        refuse("its mask is used")
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = net.constant(node.inputs[2])
        if training is None or training.any():
            refuse("it drops at inference too", "training_mode")
    net.put(node.outputs[0], net.raw(node.inputs[0]))


@emits("Cast")
def cast(net: Net, node: ir.Node) -> None:
    """Whole numbers to float by a Rescaling of 1; float to float is nothing, nor are floats that an Embedding takes as row numbers."""
    source, target = node.inputs[0], node.outputs[0]
    x = net.raw(source)
    floats = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
    if source is None or source.dtype is None or target.dtype is None:
        refuse("its type is unknown")
    whole = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8, ir.DataType.UINT8)
    if source.dtype == target.dtype or (source.dtype in whole and target.dtype in (ir.DataType.INT64, ir.DataType.INT32)):
        net.put(target, x)
    elif target.dtype == ir.DataType.FLOAT and source.dtype in whole:
        net.put(target, scale(net, x, 1, 0))
    elif target.dtype in _WORDS and source.dtype == ir.DataType.BOOL:
        kind = _WORDS[target.dtype]
        y = net.operation(
            "keras.src.ops.core", "Cast", "cast", [x], (Arg(0),), shape=x.shape, axes=x.axes, config={"dtype": kind}, dtype=kind
        )
        net.put(target, y)
    elif target.dtype in floats and source.dtype in floats and ir.DataType.FLOAT16 not in (source.dtype, target.dtype):
        net.put(target, x)
    elif target.dtype in whole and source.dtype == ir.DataType.FLOAT and _looked_up(net, target):
        net.put(target, x)  # Embedding cuts its input to whole numbers by itself
    else:
        refuse(f"it casts {source.dtype} to {target.dtype}", "to")


def _looked_up(net: Net, value: ir.Value) -> bool:
    """Whether every use is a row number of a constant matrix."""
    users = [(use.node, use.idx) for use in value.uses()]
    return (
        bool(users)
        and not value.is_graph_output()
        and all(n.op_type == "Gather" and i == 1 and net.is_constant(n.inputs[0]) and attr(n, "axis", 0) == 0 for n, i in users)
    )


@emits("Transpose")
def transpose(net: Net, node: ir.Node) -> None:
    """A new note."""
    x = net.get(node.inputs[0])
    perm = attr(node, "perm") or list(reversed(range(len(x.axes))))
    net.put(node.outputs[0], replace(x, axes=tuple(x.axes[p] for p in perm)))


@emits("Squeeze", "Unsqueeze")
def squeeze(net: Net, node: ir.Node) -> None:
    """Axes of size 1 go or come: a new note."""
    x = net.get(node.inputs[0])
    given = net.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if given is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        refuse("its axes are computed")
    if node.op_type == "Unsqueeze":
        rank = len(net.dims(node.outputs[0]))
        fresh = sorted(int(a) % rank for a in (given.reshape(-1) if given is not None else ()))
        old = list(x.axes)
        for a in fresh:
            old.insert(a, None)
        net.put(node.outputs[0], replace(x, axes=tuple(old)))
        return
    rank = len(x.axes)
    sizes = [1 if a is None else x.shape[a] for a in x.axes]
    gone = {int(a) % rank for a in given.reshape(-1)} if given is not None else {i for i in range(rank) if sizes[i] == 1 and x.axes[i] != 0}
    if any(x.axes[i] == 0 or sizes[i] not in (1, None) for i in gone):
        refuse("it drops the batch axis", rewrite="keep the batch on axis 0")
    if any(sizes[i] is None for i in gone):
        refuse("a size is free", rewrite="give the input sizes")
    net.put(node.outputs[0], replace(x, axes=tuple(a for i, a in enumerate(x.axes) if i not in gone)))


@emits("Expand")
def expand(net: Net, node: ir.Node) -> None:
    """Copies of an axis of size 1: a Dense layer of ones."""
    before, after = net.dims(node.inputs[0]) if node.inputs[0] is not None else (), net.dims(node.outputs[0])
    x = net.get(node.inputs[0])
    fresh = len(after) - len(before)
    if fresh and before and after[fresh:] != before:
        refuse("it moves the batch axis", rewrite="keep the batch on axis 0")
    x = replace(x, axes=(*([None] * fresh), *x.axes))
    for axis, (old, new) in enumerate(zip((1,) * fresh + before, after, strict=True)):
        if x.axes[axis] == 0 or old == new:
            continue
        if old != 1 or new is None:
            refuse("it repeats an axis of free size", rewrite="give the input sizes")
        net.note("copies of an axis made by a Dense layer of ones")
        x = by_matrix(net, x, axis, np.ones((1, new), np.float32), "_copies")
    net.put(node.outputs[0], x)


@emits("Flatten", "Reshape")
def reshape(net: Net, node: ir.Node) -> None:
    """A new cut of the same elements, sample by sample."""
    value, out = node.inputs[0], node.outputs[0]
    if value is None:
        refuse("an input is missing")
    x = net.raw(value)
    before, after = list(net.dims(value)), list(net.dims(out))
    here = x.axes.index(0) if 0 in x.axes else refuse("it has no batch axis")
    there = batch_place(before, after, here, value, out)
    if x.steps or (len(before) > 1 and _product(before[1:]) != _product(after[1:])):
        apart = split(net.get(value), before, after) if x.steps else joined(net, net.get(value), before, after)
        if apart is not None:
            net.put(out, apart)
            return
    front = [here, *(i for i in range(len(before)) if i != here)]
    back = [there, *(j for j in range(len(after)) if j != there)]
    before, after = same_batch([before[i] for i in front], [after[j] for j in back])
    if x.scramble is not None and len(after) == 2 and before[1:] == after[1:]:
        net.put(out, x)
        return
    x = net.get(value)
    y = regroup(net, replace(x, axes=tuple(x.axes[i] for i in front)), before, after, loose=feeds_dense(out))
    net.put(out, replace(y, axes=tuple(y.axes[back.index(j)] for j in range(len(back)))))


def _product(dims: Sequence[Dim]) -> tuple[int, int]:
    """Product of the known sizes, and how many are free."""
    return int(np.prod([d for d in dims if d is not None])), sum(d is None for d in dims)


def batch_place(before: list[Dim], after: list[Dim], here: int, value: ir.Value, out: ir.Value) -> int:
    """Which axis of the new shape is the batch: as much before it and after it as in the old one."""
    if here == 0 and after:
        return 0
    found = [
        j
        for j in range(len(after))
        if _product(after[:j]) == _product(before[:here]) and _product(after[j + 1 :]) == _product(before[here + 1 :])
    ]
    same = [j for j in found if value.shape is not None and out.shape is not None and str(out.shape[j]) == str(value.shape[here])]
    found = same or found
    if len(found) != 1:
        refuse("it moves the batch axis", rewrite="keep the batch on axis 0")
    return found[0]


def same_batch(before: list[Dim], after: list[Dim]) -> tuple[list[Dim], list[Dim]]:
    """The two shapes, batch first, made sure to keep every sample to itself."""
    (size, free), (new, loose) = _product(before[1:]), _product(after[1:])
    if loose == free + 1 and free == 0 and new and size % new == 0:  # shape inference gave up on one size that must fill the rest
        after = [after[0], *(size // new if d is None else d for d in after[1:])]
        new, loose = size, 0
    if isinstance(before[0], int) and isinstance(after[0], int) and before[0] != after[0]:
        refuse("it joins or splits the batch", rewrite="keep the batch on axis 0")
    if size != new or free != loose:
        refuse("it joins or splits the batch, or a size is free", rewrite="keep the batch on axis 0 and give the input sizes")
    return before, after


def feeds_dense(value: ir.Value) -> bool:
    """Whether every element of the value ends in the rows of a constant matrix, whatever their order."""
    if value.is_graph_output():
        return False
    users = [(n, i) for n, i in value.uses()]
    if not users:
        return False
    for user, index in users:
        if user.op_type in ("Gemm", "MatMul") and index == 0:
            weight = user.inputs[1]
            if attr(user, "transA", 0) or weight is None or weight.const_value is None:
                producer = weight.producer() if weight is not None else None
                if producer is None or any(v is None or v.const_value is None for v in producer.inputs):
                    return False
            continue
        if user.op_type in ELEMENTWISE and index == 0 and feeds_dense(user.outputs[0]):
            continue
        return False
    return True


def groups_of(before: Sequence[Dim], after: Sequence[Dim]) -> list[tuple[list[int], list[int]]]:
    """Runs of axes with equal products, batch left out: ([axes before], [axes after])."""
    a = [i for i in range(1, len(before)) if before[i] != 1]
    b = [j for j in range(1, len(after)) if after[j] != 1]
    found: list[tuple[list[int], list[int]]] = []
    while a or b:
        if not a or not b:
            refuse("its sizes do not agree")
        left, right = [a.pop(0)], [b.pop(0)]
        p, q = before[left[0]], after[right[0]]
        if (p is None) != (q is None):
            refuse("it cuts a free size", rewrite="give the input sizes")
        if p is not None and q is not None:
            while p != q:
                side, pool, sizes = (left, a, before) if p < q else (right, b, after)
                if not pool:
                    refuse("its sizes do not agree")
                nxt = pool.pop(0)
                size = sizes[nxt]
                if size is None:
                    refuse("it cuts a free size", rewrite="give the input sizes")
                side.append(nxt)
                p, q = (p * size, q) if side is left else (p, q * size)
        found.append((left, right))
    return found


def regroup(net: Net, x: Tensor, before: list[Dim], after: list[Dim], loose: bool = False) -> Tensor:
    """The tensor cut anew. Every run of axes that lies together is recut where it lies; only else are axes moved first."""
    groups = groups_of(before, after)
    order = [i for _, i in sorted((a, i) for i, a in enumerate(x.axes) if a) if before[i] != 1]
    if len(groups) == 1 and len(groups[0][1]) == 1 and groups[0][0] != order and loose:
        dims = tuple(int(before[i] or 1) for i in order)
        size = int(np.prod(dims))
        axes: list[int | None] = [0] + [None] * (len(after) - 1)
        axes[groups[0][1][0]] = 1
        if groups[0][1][0] == len(after) - 1:
            y = net.reshaped(x, (size,), axes)
            return replace(y, scramble=(dims, tuple(order.index(i) for i in groups[0][0])), nonnegative=x.nonnegative)
    if not _together(order, groups):
        groups.sort(key=lambda g: min(order.index(i) for i in g[0]))
        order = [i for left, _ in groups for i in left]
        x = net.arrange(x, [0, *order])
    where = {left[0]: (left, right) for left, right in groups}
    target: list[Dim] = []
    axes = [0] + [None] * (len(after) - 1)
    for i in order:
        if i in where:
            for j in where[i][1]:
                target.append(after[j])
                axes[j] = len(target)
    if target == list(x.shape[1:]):
        return replace(x, axes=tuple(axes))
    if not any(len(left) > 1 or len(right) > 1 for left, right in groups):  # only axes of size 1 come or go
        places = [x.axes[i] for i in order]
        for i, place in zip(order, places, strict=True):
            axes[where[i][1][0]] = place
        return replace(x, axes=tuple(axes))
    return replace(net.reshaped(x, target or [1], axes), nonnegative=x.nonnegative)


def _together(order: list[int], groups: list[tuple[list[int], list[int]]]) -> bool:
    for left, _ in groups:
        start = order.index(left[0])
        if order[start : start + len(left)] != left:
            return False
    return True


@emits("Concat")
def concat(net: Net, node: ir.Node) -> None:
    """Concatenate."""
    values = [v for v in node.inputs if v is not None]
    made = next((net.get(v) for v in values if net.has(v)), None)
    if made is None:
        refuse("all its inputs are constants")
    tensors = [net.get(v) if net.has(v) else constant_like(net, made, v) for v in values]
    axis = int(attr(node, "axis", -1))
    axis += len(tensors[0].axes) if axis < 0 else 0
    if len(tensors) == 1:
        net.put(node.outputs[0], tensors[0])
        return
    tensors = net.common(tensors, [axis])
    place = tensors[0].axes[axis]
    if not place:
        refuse("it joins along the batch", "axis")
    shape = list(tensors[0].shape)
    sizes = [t.shape[place] for t in tensors]
    shape[place] = None if any(s is None for s in sizes) else sum(s or 0 for s in sizes)
    config = {"axis": -1 if place == len(shape) - 1 else place}
    y = net.layer("Concatenate", tensors, config, shape=shape, axes=tensors[0].axes, nonnegative=all(t.nonnegative for t in tensors))
    net.put(node.outputs[0], y)


def constant_like(net: Net, x: Tensor, value: ir.Value) -> Tensor:
    """A constant for every sample: the bias of a Dense layer whose kernel is zeros."""
    array = net.constant(value)
    if array is None and net.is_zero(value):
        array = np.zeros((1, *(d or 0 for d in sizes(net, value)[1:])), np.float32)
    if array is None:
        refuse(f"its input {value.name!r} cannot be made in Keras")
    if array.ndim < 1 or array.size == 0 or array.shape[0] != 1 or array.dtype.kind != "f" or array.size > 1 << 20:
        refuse("one of its inputs is a constant that differs along the batch, or a large one")
    net.note("a constant input made by a Dense layer of zeros with that bias")
    if len(x.shape) > 5 or x.shape[-1] is None:
        refuse("one of its inputs is a constant")
    if len(x.shape) > 2:
        shape, rank = (None, x.shape[-1]), len(x.shape) - 2
        x = net.layer(
            f"GlobalMaxPooling{rank}D", x, {"data_format": "channels_last", "keepdims": False}, shape=shape, axes=(0, 1), suffix="_any"
        )
    size, count = array.size, int(x.shape[-1] or 0)
    flat = array.reshape(-1)
    weights = [
        Weight("kernel", "vars/0", (count, size), lambda: np.zeros((count, size), np.float32)),
        Weight("bias", "vars/1", (size,), lambda: np.ascontiguousarray(flat, np.float32)),
    ]
    config = {"units": size, "activation": "linear", "use_bias": True, "trainable": False}
    y = net.layer("Dense", x, config, shape=(None, size), axes=(0, 1), weights=weights, suffix="_constant")
    return net.reshaped(y, array.shape[1:], tuple(range(array.ndim)))


@emits("DepthToSpace", "SpaceToDepth")
def depth_space(net: Net, node: ir.Node) -> None:
    """Reshape, Permute, Reshape."""
    x = net.channels_last(net.get(node.inputs[0]))
    b = int(attr(node, "blocksize"))
    if len(x.shape) != 4 or any(d is None for d in x.shape[1:]):
        refuse("a size is free", rewrite="give the input sizes")
    h, w, c = (int(d or 0) for d in x.shape[1:])
    flat = (0, 1, 2, 3, 4, 5)
    if node.op_type == "SpaceToDepth":
        cut, order, out = [h // b, b, w // b, b, c], (0, 1, 3, 2, 4, 5), [h // b, w // b, b * b * c]
    elif attr(node, "mode", "DCR") == "DCR":
        cut, order, out = [h, w, b, b, c // (b * b)], (0, 1, 3, 2, 4, 5), [h * b, w * b, c // (b * b)]
    else:
        cut, order, out = [h, w, c // (b * b), b, b], (0, 1, 4, 2, 5, 3), [h * b, w * b, c // (b * b)]
    y = net.reshaped(x, cut, flat)
    y = net.permuted(y, order)
    net.put(node.outputs[0], replace(net.reshaped(y, out, x.axes), nonnegative=x.nonnegative))


@emits("Tile")
def tile(net: Net, node: ir.Node) -> None:
    """Whole copies along axes: Concatenate of the same tensor."""
    repeats = net.constant(node.inputs[1])
    if repeats is None:
        refuse("its repeats are computed")
    x = net.get(node.inputs[0])
    if int(repeats[0]) != 1:
        refuse("it repeats samples", "repeats")
    for axis, count in enumerate(int(r) for r in repeats):
        if count == 1:
            continue
        if not 1 <= count <= 64:
            refuse(f"{count} copies", "repeats")
        (x,) = net.common([x], [axis])
        place = x.axes[axis]
        assert place is not None
        shape = list(x.shape)
        size = shape[place]
        shape[place] = None if size is None else size * count
        x = net.layer("Concatenate", [x] * count, {"axis": place}, shape=shape, axes=x.axes, nonnegative=x.nonnegative)
    net.put(node.outputs[0], x)
