"""Types: a blob holds float32 and nothing else, so a Cast is nothing, or a comparison with zero, or cannot be done."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.activation import above
from niudao.formats.caffe.emit.graph import Net, refuse
from niudao.formats.caffe.emit.table import emits

_WHOLE = {"ArgMax", "ArgMin", "Floor", "Ceil", "Round", "Sign"}
_KEEP = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Relu", "Neg", "Abs", "Expand", "Tile", "Gather", "Slice"}


def integral(net: Net, value: ir.Value | None, depth: int = 8) -> bool:
    """Whether every element is known to be a whole number."""
    if value is None:
        return False
    if value.dtype is not None and (value.dtype == ir.DataType.BOOL or value.dtype.is_integer()):
        return True
    array = net.constant(value) if net.is_constant(value) else None
    if array is not None:
        return bool((array == np.trunc(array)).all())
    node = value.producer()
    if node is None or depth == 0:
        return False
    if node.op_type in _WHOLE:
        return True
    if node.op_type in ("Add", "Sub", "Mul", "Max", "Min", "Concat"):
        return all(integral(net, v, depth - 1) for v in node.inputs)
    return node.op_type in (*_KEEP, "Cast") and integral(net, node.inputs[0], depth - 1)


def _picks(value: ir.Value) -> bool:
    """Whether it only picks rows: Embed and BatchReindex cut off what stands behind the point by themselves."""
    uses = list(value.uses())
    return bool(uses) and not value.is_graph_output() and all(u.node.op_type == "Gather" and u.idx == 1 for u in uses)


_WIDTH = {"BOOL": 1, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16}


@emits("Cast", "CastLike")
def _cast(net: Net, node: ir.Node) -> None:
    value, output = node.inputs[0], node.outputs[0]
    to, source = output.dtype, value.dtype if value is not None else None
    if to is None or source is None:
        refuse("its types are unknown", "to")
    x = net.get(value)
    if not to.is_integer() and to.name not in ("BOOL", "FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"):
        refuse(f"blobs hold float32, not {to.name}", "to")
    if to == ir.DataType.BOOL and source != ir.DataType.BOOL:
        x = above(net, x if x.nonnegative else net.unary("AbsVal", x, suffix="_abs", nonnegative=True), 0, "")
    elif to.is_integer() and not integral(net, value) and not _picks(output):
        refuse("it cuts off what stands behind the point, and no Caffe layer does", "to", "keep the numbers as they are")
    elif to.is_integer() and source != ir.DataType.BOOL and _WIDTH.get(to.name, 32) < _WIDTH.get(source.name, 32):
        refuse(f"{source.name} does not fit into {to.name}, and blobs do not wrap round", "to")
    elif to.name in ("FLOAT16", "BFLOAT16") and source.name in ("FLOAT", "DOUBLE"):
        net.note(f"no rounding to {to.name}: blobs hold float32")
    net.put(output, x)
