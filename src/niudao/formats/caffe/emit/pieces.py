"""Slice, Split, Concat, Pad and CumSum: what ONNX cuts, joins and pads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.broadcast import operand, shifted
from niudao.formats.caffe.emit.cut import filled, padded
from niudao.formats.caffe.emit.gather import taken
from niudao.formats.caffe.emit.graph import Array, Net, Top, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.ir.constants import BATCH
from niudao.ir.operators import attribute

_TAKERS = {"Conv", "AveragePool", "MaxPool"}
"""Operators that take zeros around their input into their own padding."""


@emits("Slice")
def _slice(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    given = [net.constant(v) if v is not None and net.is_constant(v) else None for v in node.inputs[1:]]
    if any(v is not None and g is None for v, g in zip(node.inputs[1:], given, strict=True)):
        refuse("where it cuts is computed", "starts")
    starts, ends = ([int(i) for i in np.asarray(g).reshape(-1)] for g in given[:2])
    axes = [int(i) % x.rank for i in given[2].reshape(-1)] if len(given) > 2 and given[2] is not None else list(range(len(starts)))
    steps = [int(i) for i in given[3].reshape(-1)] if len(given) > 3 and given[3] is not None else [1] * len(starts)
    wanted: list[tuple[int, range]] = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = x.shape[axis]
        if size is None:
            if (start, step) == (0, 1) and (end >= 1 << 31 or end == BATCH):
                continue
            refuse("it cuts the free batch", "axes", "fix the batch (--batch)")
        if size in (start, end) and BATCH in (start, end):
            refuse("where it cuts depends on the batch", "starts")
        picked = range(size)[slice(start, None if step < 0 and end < -size else end, step)]
        if not picked:
            refuse("it leaves nothing", "starts")
        if picked != range(size):
            wanted.append((axis, picked))
    net.put(node.outputs[0], _picked(net, x, wanted))


def _picked(net: Net, x: Top, wanted: list[tuple[int, range]]) -> Top:
    """Ranges of several axes; steps along both axes of a picture are one pooling."""
    stepped = {a: r for a, r in wanted if r.step > 1 and len(r) > 1}
    if x.rank == 4 and set(stepped) == {2, 3}:
        for axis, r in wanted:
            if axis in stepped or r.step > 0:
                x = net.piece(x, axis, r[0], r[-1] + 1, f"_slice{axis}")
        high, wide = stepped[2].step, stepped[3].step
        stride = {"stride": high} if high == wide else {"stride_h": high, "stride_w": wide}
        net.note("every so many elements by a pooling over one element")
        shape = (*x.shape[:2], len(stepped[2]), len(stepped[3]))
        x = net.layer("Pooling", x, {"pooling_param": {"pool": "MAX", "kernel_size": 1, **stride}}, shape=shape)
        wanted = [(a, r) for a, r in wanted if a not in stepped and r.step < 0]
    for k, (axis, r) in enumerate(wanted):
        x = taken(net, x, axis, r, "" if k == len(wanted) - 1 else f"_axis{axis}")
    return x


@emits("Split")
def _split(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    axis = int(attribute(node, "axis", 0)) % x.rank
    sizes = [net.dims(v)[axis] for v in node.outputs]
    if x.shape[axis] is None or any(s is None for s in sizes):
        refuse("it cuts the free batch", "axis", "fix the batch (--batch)")
    points = [int(p) for p in np.cumsum([s or 0 for s in sizes])[:-1]]
    for value, top in zip(node.outputs, net.slices(x, axis, points), strict=True):
        net.put(value, top)


@emits("Concat")
def _concat(net: Net, node: ir.Node) -> None:
    parts = [operand(net, v) for v in node.inputs]
    tops = [p for p in parts if isinstance(p, Top)]
    if not tops:
        refuse("all its inputs are constants")
    axis = int(attribute(node, "axis")) % tops[0].rank
    if len(tops) < len(parts):
        net.note("a constant among the joined blobs is made from the data, so that it follows the batch")
    made = [p if isinstance(p, Top) else _constant(net, tops[0], p, axis) for p in parts]
    if axis == 0 and len(made) > 1 and any(t.shape[0] is None for t in made):  # as many items as the batch has, so many times
        y = net.layer("Concat", made, {"concat_param": {"axis": 0}}, shape=(None, *made[0].shape[1:]))
    else:
        y = net.concat(made, axis)
    net.put(node.outputs[0], replace(y, nonnegative=all(t.nonnegative for t in made)))


def _constant(net: Net, like: Top, array: Array, axis: int) -> Top:
    """A constant as a blob with the batch of another one, from which it differs in size along `axis` only."""
    if axis == 0 and like.shape[0] is None:
        refuse("it joins batches of free size", rewrite="fix the batch (--batch)")
    if array.size and (array == array.reshape(-1)[0]).all():
        return filled(net, like, axis, array.shape[axis], float(array.reshape(-1)[0]))
    return shifted(net, filled(net, like, axis, array.shape[axis], 0.0), array, "_constant")


@emits("Pad")
def _pad(net: Net, node: ir.Node) -> None:
    value = node.inputs[0]
    x = net.raw(value)
    amounts = net.constant(node.inputs[1])
    if amounts is None:
        refuse("its amounts are computed", "pads")
    picked = net.constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    axes = [int(a) % x.rank for a in picked.reshape(-1)] if picked is not None else list(range(x.rank))
    flat = [int(a) for a in amounts.reshape(-1)]
    pads = [(0, 0)] * x.rank
    for k, axis in enumerate(axes):
        pads[axis] = (flat[k], flat[k + len(axes)])
    mode = attribute(node, "mode", "constant")
    if mode == "constant":
        given = node.inputs[2] if len(node.inputs) > 2 else None
        if given is not None and not net.is_constant(given):
            refuse("the value it pads with is computed", "constant_value")
        array = net.constant(given)
        fill = 0.0 if array is None or not array.size else float(array.reshape(-1)[0])
        users = [use.node.op_type for use in node.outputs[0].uses()]
        spatial = x.rank >= 3 and pads[:2] == [(0, 0)] * 2 and all(p >= 0 for pair in pads for p in pair)
        if fill == 0 and spatial and x.pads is None and users and set(users) <= _TAKERS and not node.outputs[0].is_graph_output():
            net.put(node.outputs[0], replace(x, pads=tuple(pads)))
            return
        net.note("padding by constant blobs made from the data")
        net.put(node.outputs[0], padded(net, net.get(value), pads, fill))
        return
    x = net.get(value)
    net.note(f"{mode} padding by cutting and joining")
    for axis, (before, after) in enumerate(pads):
        size = x.shape[axis]
        if (before, after) == (0, 0):
            continue
        if size is None:
            refuse("it pads the batch", "pads", "fix the batch (--batch)")
        kept = np.arange(size)[max(0, -before) : size - max(0, -after)]
        if not kept.size or (mode == "reflect" and kept.size == 1):
            refuse("it pads from too few elements", "pads")
        x = taken(net, x, axis, np.pad(kept, (max(0, before), max(0, after)), mode=mode).tolist(), f"_axis{axis}")
    net.put(node.outputs[0], x)


@emits("CumSum")
def _cumsum(net: Net, node: ir.Node) -> None:
    x, where = net.get(node.inputs[0]), net.constant(node.inputs[1])
    if where is None:
        refuse("its axis is computed", "axis")
    axis = int(where.reshape(-1)[0]) % x.rank
    size = x.shape[axis]
    if size is None:
        refuse("it adds along the free batch", rewrite="fix the batch (--batch)")
    if size > 64:
        refuse(f"it adds up {size} elements one by one", "axis")
    parts = list(net.slices(x, axis, range(1, size), "_slice")) if size > 1 else [x]
    backward, exclusive = bool(attribute(node, "reverse", 0)), bool(attribute(node, "exclusive", 0))
    parts = parts[::-1] if backward else parts
    sums = [parts[0]]
    for part in parts[1:]:
        sums.append(net.eltwise("SUM", [sums[-1], part], suffix="_sum"))
    if exclusive:
        sums = [net.power(parts[0], scale=0.0, suffix="_zero"), *sums[:-1]]
    net.put(node.outputs[0], net.concat(sums[::-1] if backward else sums, axis))
