"""Pools that exporters wrote as reductions or as windows of the image's own size: global average and max pooling."""

from __future__ import annotations

import onnx_ir as ir

from niudao.ir.operators import attribute, dims
from niudao.ir.passes.chain import Maker, Match, Rules, axes_of, floats, made_by

_GLOBAL = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool", "AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}


def _reduction(node: ir.Node) -> Match | None:
    """ReduceMean or ReduceMax over all pixels of a channels-first image, in one step or in one for each axis."""
    op = _GLOBAL[node.op_type]
    x, axes, kept = node.inputs[0], axes_of(node), bool(attribute(node, "keepdims", 1))
    before = made_by(x, node.op_type)
    if before is not None and axes is not None and bool(attribute(before, "keepdims", 1)) == kept:
        first = axes_of(before)
        if first is not None and before.inputs[0] is not None and before.inputs[0].shape is not None:
            left = [i for i in range(len(before.inputs[0].shape)) if kept or i not in first]
            x, axes = before.inputs[0], sorted({*first, *(left[a] for a in axes)})
    if x is None or x.shape is None or len(x.shape) < 4 or x.dtype != ir.DataType.FLOAT or axes != list(range(2, len(x.shape))):
        return None
    return _global(op, x, node, kept)


def _global(op: str, x: ir.Value, node: ir.Node, kept: bool) -> Match:
    def emit(make: Maker) -> ir.Value:
        pooled = make.op(op, x)
        return pooled if kept else make.op("Flatten", pooled, axis=1)

    return Match(op, (x,), node.outputs[0], emit)


def _whole_window(node: ir.Node) -> Match | None:
    """A pool whose one window is the whole image."""
    x, out = node.inputs[0], dims(node.outputs[0])
    shape = dims(x)
    kernel = list(attribute(node, "kernel_shape") or ())
    if x is None or shape is None or out is None or not floats(x) or kernel != shape[2:] or any(d != 1 for d in out[2:]):
        return None
    if any(attribute(node, "pads") or ()) or (len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output())):
        return None
    plain = all(d == 1 for d in attribute(node, "dilations") or ()) and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return _global(_GLOBAL[node.op_type], x, node, True) if plain else None


RULES: Rules = {
    "ReduceMean": (_reduction,),
    "ReduceMax": (_reduction,),
    "AveragePool": (_whole_window,),
    "MaxPool": (_whole_window,),
}
