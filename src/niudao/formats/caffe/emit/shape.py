"""Shape and order: Reshape, Flatten, Tile and what is made of them."""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.caffe.emit.broadcast import repeated
from niudao.formats.caffe.emit.cut import tiled
from niudao.formats.caffe.emit.graph import Net, Top, refuse
from niudao.formats.caffe.emit.order import permuted
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import reshaped
from niudao.ir.operators import attribute


@emits("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(net: Net, node: ir.Node) -> None:
    x, target = net.get(node.inputs[0]), net.dims(node.outputs[0])
    if not target:
        refuse("it gives a single number without axes, and a blob has one at least")
    shuffled = _shuffle(net, node)
    if shuffled is not None:
        net.put(node.outputs[0], shuffled)
        return
    alone = node.metadata_props.get("niudao.layer_type", node.op_type) in ("Reshape", "Flatten", node.op_type)  # else part of another layer
    net.put(node.outputs[0], reshaped(net, x, target, "" if alone else "_reshape"))


def _shuffle(net: Net, node: ir.Node) -> Top | None:
    """The fork's one layer for (N, g * c, H, W) -> (N, g, c, H, W) -> (N, c, g, H, W) -> (N, c * g, H, W)."""
    if not net.knows("ShuffleChannel") or node.inputs[0] is None:
        return None
    order = node.inputs[0].producer()
    if order is None or order.op_type != "Transpose" or list(attribute(order, "perm", [])) != [0, 2, 1, 3, 4] or order.inputs[0] is None:
        return None
    split = order.inputs[0].producer()
    if split is None or split.op_type != "Reshape" or not net.has(split.inputs[0]):
        return None
    x, middle = net.get(split.inputs[0]), net.dims(order.inputs[0])
    groups = middle[1] or 1
    if x.rank != 4 or x.shape != net.dims(node.outputs[0]) or middle != (x.shape[0], groups, (x.shape[1] or 0) // groups, *x.shape[2:]):
        return None
    return net.layer("ShuffleChannel", x, {"shuffle_channel_param": {"group": groups} if groups != 1 else {}}, shape=x.shape)


@emits("Transpose")
def _transpose(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    order = attribute(node, "perm") or list(reversed(range(x.rank)))
    net.put(node.outputs[0], permuted(net, x, order))


@emits("Expand")
def _expand(net: Net, node: ir.Node) -> None:
    x, target = net.get(node.inputs[0]), net.dims(node.outputs[0])
    if x.rank < len(target):
        if x.shape[0] is None:
            refuse("the free batch meets another axis", rewrite="fix the batch (--batch)")
        x = reshaped(net, x, (1,) * (len(target) - x.rank) + x.shape)
    net.put(node.outputs[0], repeated(net, x, target))


@emits("Tile")
def _tile(net: Net, node: ir.Node) -> None:
    x, counts = net.get(node.inputs[0]), net.constant(node.inputs[1])
    if counts is None or (counts < 1).any():
        refuse("how often it repeats is computed", "repeats")
    made = [(axis, int(n)) for axis, n in enumerate(counts.reshape(-1)) if n != 1]
    for axis, n in made:
        x = tiled(net, x, axis, n, "" if len(made) == 1 else f"_axis{axis}")
    net.put(node.outputs[0], x)


@emits("DepthToSpace")
def _depth_to_space(net: Net, node: ir.Node) -> None:
    x, b = net.get(node.inputs[0]), int(attribute(node, "blocksize"))
    n, c, h, w = x.shape
    few = (c or 0) // (b * b)
    if attribute(node, "mode", "DCR") == "DCR":
        y = permuted(net, reshaped(net, x, (n, b, b, few, h, w), "_split"), (0, 3, 4, 1, 5, 2))
    else:
        y = permuted(net, reshaped(net, x, (n, few, b, b, h, w), "_split"), (0, 1, 4, 2, 5, 3))
    net.put(node.outputs[0], reshaped(net, y, (n, few, (h or 0) * b, (w or 0) * b), ""))


@emits("SpaceToDepth")
def _space_to_depth(net: Net, node: ir.Node) -> None:
    x, b = net.get(node.inputs[0]), int(attribute(node, "blocksize"))
    n, c, h, w = x.shape
    high, wide = (h or 0) // b, (w or 0) // b
    y = permuted(net, reshaped(net, x, (n, c, high, b, wide, b), "_split"), (0, 3, 5, 1, 2, 4))
    net.put(node.outputs[0], reshaped(net, y, (n, (c or 0) * b * b, high, wide), ""))
