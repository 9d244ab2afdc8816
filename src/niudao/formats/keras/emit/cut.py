"""Pieces of an axis, padding of an axis, resampling along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.activation import scale
from niudao.formats.keras.emit.attributes import attr, axis_of
from niudao.formats.keras.emit.conv import cropped, padded, subsampled
from niudao.formats.keras.emit.graph import Arg, Array, Net, Tensor, Weight, refuse
from niudao.formats.keras.emit.table import emits
from niudao.ir.resampling import resampling

_INF = 1 << 62


def on_middle(net: Net, x: Tensor, place: int) -> tuple[Tensor, int, int]:
    """The tensor as (batch, before, axis, after), so that a layer of pictures can work on any axis."""
    if any(d is None for d in x.shape[1:]):
        refuse("a size is free", rewrite="give the input sizes")
    before = int(np.prod([d for d in x.shape[1:place] if d is not None]))
    after = int(np.prod([d for d in x.shape[place + 1 :] if d is not None]))
    return net.reshaped(x, [before, x.shape[place], after], (0, 1, 2, 3)), before, after


def piece(net: Net, x: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
    """Elements start, start + step, ... before stop of our axis `axis`."""
    if x.axes[axis] is None and (start, stop) == (0, 1):
        return x
    (x,) = net.common([x], [axis])
    place = x.axes[axis]
    if not place:
        refuse("it cuts the batch")
    size = x.shape[place]
    if size is None:
        refuse("it cuts an axis of free size", rewrite="give the input sizes")
    if (start, step) == (0, 1) and stop >= size:
        return x
    count = -(-(stop - start) // step)
    if count < 1 or step < 1:
        refuse("it takes nothing, or backwards")
    shape = list(x.shape)
    shape[place] = count
    rank = len(shape)
    inner = 3 <= rank <= 5 and 0 < place < rank - 1
    if net.operations and not (inner and step == 1):
        cuts = [_slice(None, None, None) for _ in shape]
        cuts[place] = _slice(start, stop, None if step == 1 else step)
        y = net.operation("keras.src.ops.numpy", "GetItem", "get_item", [x], (Arg(0), cuts), shape=shape, axes=x.axes)
        return replace(y, nonnegative=x.nonnegative)
    last = start + (count - 1) * step + 1
    if inner:
        pads = [(0, 0)] * (rank - 2)
        pads[place - 1] = (start, size - last)
        strides = [1] * (rank - 2)
        strides[place - 1] = step
        return subsampled(net, cropped(net, x, pads), strides)
    net.note("an axis cut as the middle one of a picture")
    y, _, _ = on_middle(net, x, place)
    y = subsampled(net, cropped(net, y, [(0, 0), (start, size - last)]), [1, step])
    return replace(net.reshaped(y, shape[1:], x.axes), nonnegative=x.nonnegative)


def _slice(start: int | None, stop: int | None, step: int | None) -> dict[str, object]:
    """A slice as Keras writes it in a configuration."""
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}


def by_matrix(net: Net, x: Tensor, axis: int, matrix: Array, suffix: str = "") -> Tensor:
    """Every row along our axis `axis` times a constant matrix (size, new size): a Dense layer without bias."""
    y = net.last_axis(x, axis)
    if len(y.shape) < 2 or y.axes[axis] in (None, 0):
        refuse("it works along the batch")
    matrix = np.ascontiguousarray(matrix, np.float32)
    shape = (*y.shape[:-1], matrix.shape[1])
    config = {"units": int(matrix.shape[1]), "activation": "linear", "use_bias": False, "trainable": False}
    weight = Weight("kernel", "vars/0", (int(matrix.shape[0]), int(matrix.shape[1])), lambda: matrix)
    return net.layer("Dense", y, config, shape=shape, axes=y.axes, weights=[weight], suffix=suffix)


@emits("Slice")
def cut(net: Net, node: ir.Node) -> None:
    """Cropping, or `x[...]` in a .keras archive."""
    x = net.get(node.inputs[0])
    rank = len(x.axes)
    given = [net.constant(v) if v is not None else None for v in (*node.inputs[1:5], None, None)[:4]]
    if given[0] is None or given[1] is None or any(v is not None and g is None for v, g in zip(node.inputs[1:5], given, strict=False)):
        refuse("its ends are computed")
    starts, stops = [[int(v) for v in g.reshape(-1)] for g in given[:2] if g is not None]
    axes = [int(v) % rank for v in given[2].reshape(-1)] if given[2] is not None else list(range(len(starts)))
    steps = [int(v) for v in given[3].reshape(-1)] if given[3] is not None else [1] * len(starts)
    value = node.inputs[0]
    assert value is not None
    dims = net.dims(value)
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        size = dims[axis]
        if start == 0 and step == 1 and (stop >= _INF - 1 or (size is not None and stop >= size)):
            continue
        if x.axes[axis] == 0:
            refuse("it cuts the batch")
        if size is None:
            refuse("it cuts an axis of free size", rewrite="give the input sizes")
        picked = range(size)[slice(start, stop, step)] if step > 0 else _backwards(size, start, stop, step)
        if len(picked) == 0:
            refuse("nothing is left of an axis")
        if step < 0:
            net.note("an axis turned round by a Dense layer of zeros and ones")
            x = by_matrix(net, x, axis, selection(size, list(picked)), "_pick")
        else:
            x = piece(net, x, axis, picked.start, picked[-1] + 1, step)
    net.put(node.outputs[0], x)


def _backwards(size: int, start: int, stop: int, step: int) -> range:
    begin = min(start + size if start < 0 else start, size - 1)
    end = -1 if stop < -size else (stop + size if stop < 0 else stop)
    return range(begin, end, step)


def selection(size: int, picked: Sequence[int]) -> Array:
    """The matrix that picks elements."""
    matrix = np.zeros((size, len(picked)), np.float32)
    matrix[list(picked), np.arange(len(picked))] = 1
    return matrix


@emits("Split")
def split(net: Net, node: ir.Node) -> None:
    """One piece per output."""
    value = node.inputs[0]
    x = net.get(value)
    axis = axis_of(node, len(x.axes), 0)
    start = 0
    for out in node.outputs:
        size = net.dims(out)[axis]
        if size is None:
            refuse("it cuts an axis of free size", rewrite="give the input sizes")
        if out.uses() or out.is_graph_output():
            net.put(out, piece(net, x, axis, start, start + size))
        start += size


@emits("Gather")
def gather(net: Net, node: ir.Node) -> None:
    """An Embedding where the table is constant; else one piece, or a Dense layer that picks."""
    table, index = node.inputs[0], node.inputs[1]
    if table is not None and net.is_constant(table):
        embedding(net, node, table, index)
        return
    x = net.get(table)
    axis = axis_of(node, len(x.axes), 0)
    picked = net.constant(index)
    if picked is None:
        refuse("its indices are computed")
    if x.axes[axis] == 0:
        refuse("it takes samples out of the batch", "axis")
    size = x.shape[x.axes[axis] or 0] if x.axes[axis] is not None else 1
    if size is None:
        refuse("it cuts an axis of free size", rewrite="give the input sizes")
    if picked.ndim > 1:
        refuse("its indices have more axes than one")
    rows = [int(i) % size for i in picked.reshape(-1)]
    if rows == list(range(rows[0], rows[0] + len(rows))):
        x = piece(net, x, axis, rows[0], rows[0] + len(rows))
    else:
        net.note("elements picked by a Dense layer of zeros and ones")
        x = by_matrix(net, x, axis, selection(size, rows), "_pick")
    if picked.ndim == 0:
        x = replace(x, axes=tuple(a for i, a in enumerate(x.axes) if i != axis))
    net.put(node.outputs[0], x)


def embedding(net: Net, node: ir.Node, table: ir.Value, index: ir.Value | None) -> None:
    """Embedding."""
    shape = net.shape_of(table)
    if attr(node, "axis", 0) != 0 or len(shape) != 2:
        refuse("only rows of a matrix can be looked up", "axis")
    x = net.natural(net.get(index))
    weight = Weight("embeddings", "vars/0", shape, net.loader(table))
    config = {"input_dim": shape[0], "output_dim": shape[1], "mask_zero": False}
    axes = tuple(range(len(x.shape) + 1))
    net.put(node.outputs[0], net.layer("Embedding", x, config, shape=(*x.shape, shape[1]), axes=axes, weights=[weight]))


@emits("Pad")
def pad(net: Net, node: ir.Node) -> None:
    """ZeroPadding; other modes as a Dense layer of zeros and ones along the axis."""
    x = net.get(node.inputs[0])
    rank = len(x.axes)
    pads = net.constant(node.inputs[1])
    value = net.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1, np.float32)
    picked = net.constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else np.arange(rank)
    if pads is None or value is None or picked is None:
        refuse("its sizes are computed")
    half = len(pads) // 2
    pairs = {int(a) % rank: (int(pads[i]), int(pads[half + i])) for i, a in enumerate(picked)}
    pairs = {a: p for a, p in pairs.items() if p != (0, 0)}
    mode, fill = attr(node, "mode", "constant"), float(value.reshape(-1)[0])
    if any(x.axes[a] == 0 for a in pairs):
        refuse("it pads the batch")
    if mode != "constant":
        for axis, (a, b) in pairs.items():
            size = net.dims(node.inputs[0])[axis] if node.inputs[0] is not None else None
            if size is None or (mode == "reflect" and max(a, b) >= size) or min(a, b) < 0:
                refuse("its size is free or too small", rewrite="give the input sizes")
            rows = np.pad(np.arange(size), (a, b), mode={"edge": "edge", "reflect": "reflect", "wrap": "wrap"}[mode])  # type: ignore[call-overload]
            net.note(f"{mode} padding as a Dense layer of zeros and ones along the axis")
            x = by_matrix(net, x, axis, selection(size, [int(r) for r in rows]), f"_{mode}")
        net.put(node.outputs[0], x)
        return
    if abs(fill) > 1e4:
        refuse(f"it pads with {fill:g}", "constant_value", "pad the pooling instead")
    if fill:
        net.note("padding with a constant as a shift, zeros, and back")
        x = scale(net, x, 1, -fill, "_shift")
    x = zeros(net, x, pairs)
    net.put(node.outputs[0], scale(net, x, 1, fill, "_back") if fill else x)


def zeros(net: Net, x: Tensor, pairs: dict[int, tuple[int, int]]) -> Tensor:
    """Zeros around our axes."""
    if not pairs:
        return x
    if len(x.axes) in (3, 4, 5) and 1 not in pairs:
        x = net.channels_last(x)
    else:
        (x,) = net.common([x], list(pairs))
    rank = len(x.shape)
    places = {x.axes[a] or 0: p for a, p in pairs.items()}
    if 3 <= rank <= 5 and rank - 1 not in places:
        return padded(net, x, [places.get(k, (0, 0)) for k in range(1, rank - 1)])
    for place, pair in places.items():
        net.note("an axis padded as the middle one of a picture")
        y, _, _ = on_middle(net, x, place)
        y = padded(net, y, [(0, 0), pair])
        shape = list(x.shape[1:])
        shape[place - 1] = y.shape[2]
        x = replace(net.reshaped(y, shape, x.axes), nonnegative=x.nonnegative)
    return x


@emits("Resize", "Upsample")
def resize(net: Net, node: ir.Node) -> None:
    """UpSampling where whole factors repeat or interpolate as Keras does; else a constant matrix along each axis."""
    value = node.inputs[0]
    x = net.get(value)
    if value is None:
        refuse("an input is missing")
    before, after = net.dims(value), net.dims(node.outputs[0])
    if (
        attr(node, "keep_aspect_ratio_policy", "stretch") != "stretch"
        or attr(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    ):
        refuse("it crops or keeps the ratio", "coordinate_transformation_mode")
    scales = net.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    picked = attr(node, "axes")
    axes = [int(a) % len(before) for a in picked] if picked is not None else list(range(len(before)))
    factors = {a: float(scales[i]) for i, a in enumerate(axes)} if scales is not None and scales.size else {}
    changed = [i for i in range(len(before)) if before[i] != after[i] or factors.get(i, 1.0) != 1.0]
    if 0 in changed and before[0] is None:
        changed.remove(0)
    if any(i < 1 or x.axes[i] == 0 for i in changed):
        refuse("it resizes the batch")
    if not changed:
        net.put(node.outputs[0], x)
        return
    if any(before[i] is None or after[i] is None for i in changed):
        if factors and all(factors[i] == int(factors[i]) for i in changed) and _free_repeat(node) and 1 not in changed:
            net.put(node.outputs[0], upsampled(net, x, [int(factors.get(i, 1)) for i in range(2, len(before))], "nearest"))
            return
        refuse("its sizes are free", rewrite="give the input sizes")
    mode = attr(node, "mode", "nearest")
    if any(max(int(before[i] or 0), int(after[i] or 0)) > 4096 for i in changed):
        refuse("its axis is too long")
    try:
        matrices = {i: resampling(node, int(before[i] or 0), int(after[i] or 0), factors.get(i)).T for i in changed}
    except ValueError as e:
        refuse(str(e), "mode")
    whole = {i: int(after[i] or 0) // int(before[i] or 1) for i in changed if int(after[i] or 0) % int(before[i] or 1) == 0}
    rank = len(before)
    if len(whole) == len(changed) and 1 not in changed and 3 <= rank <= 5:
        repeat = all(
            np.array_equal(matrices[i], np.repeat(np.eye(int(before[i] or 0), dtype=np.float32), whole[i], axis=1)) for i in changed
        )
        steps = [whole.get(i, 1) for i in range(2, rank)]
        if repeat:
            net.put(node.outputs[0], upsampled(net, x, steps, "nearest"))
            return
        half = attr(node, "coordinate_transformation_mode", "half_pixel") in ("half_pixel", "pytorch_half_pixel")
        if mode == "linear" and rank == 4 and half and not attr(node, "antialias", 0) and all(int(before[i] or 0) > 1 for i in changed):
            net.put(node.outputs[0], upsampled(net, x, steps, "bilinear"))
            return
    net.note("resampling as a Dense layer of constant weights along each axis")
    for axis in changed:
        x = by_matrix(net, x, axis, matrices[axis], f"_axis{axis}")
    net.put(node.outputs[0], x)


def _free_repeat(node: ir.Node) -> bool:
    """Whether nearest sampling by a whole factor repeats elements at every size."""
    modes = attr(node, "coordinate_transformation_mode", "half_pixel"), attr(node, "nearest_mode", "round_prefer_floor")
    return attr(node, "mode", "nearest") == "nearest" and modes in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))


def upsampled(net: Net, x: Tensor, factors: list[int], how: str) -> Tensor:
    """UpSampling1D, 2D or 3D."""
    x = net.channels_last(x)
    rank = len(factors)
    shape = [None, *(None if n is None else n * f for n, f in zip(x.shape[1:-1], factors, strict=True)), x.shape[-1]]
    config: dict[str, object] = {"size": factors[0] if rank == 1 else factors}
    if rank == 2:
        config |= {"interpolation": how}
    return net.layer(f"UpSampling{rank}D", x, config, shape=shape, axes=x.axes, nonnegative=x.nonnegative)
