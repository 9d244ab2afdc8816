"""Is a difference only rounding? The same networks in float64 say so: rounding shrinks there, a fault does not.

ONNX Runtime has float64 kernels for some operators only, so nodes are computed one by one: convolutions and average pools
here, by numpy; the rest by ONNX Runtime where it has the kernel, else by ONNX's reference implementation.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.errors import RunError
from niudao.ir import IR_VERSION, OPSET
from niudao.ir.operators import attribute
from niudao.ir.passes.evaluate import by_runtime

Array = np.ndarray[Any, Any]

_STAYS_SINGLE = {("Resize", 2): "scales", ("Upsample", 1): "scales"}
"""Inputs that ONNX wants in float32 whatever the data is."""

_REFERENCE_LIMIT = 1 << 21
"""Elements of an output beyond which the reference's Python loops take too long."""


def run_double(model: ir.Model, feeds: Mapping[str, Array], *, seconds: float = 20.0) -> dict[str, Array]:
    """Run a model with every float32 widened to float64.

    Args:
        model: The model; main graph without control flow.
        feeds: Inputs by name.
        seconds: Time after which it gives up.

    Returns:
        Output name -> array, in graph order.

    Raises:
        RunError: An operator has no float64 implementation, or the time is over.
    """
    end = time.monotonic() + seconds
    values: dict[str, Array] = {k: _double(np.asarray(v)) for k, v in feeds.items()}
    left = Counter(v.name for n in model.graph for v in n.inputs if v is not None)
    left.update(v.name for v in model.graph.outputs)
    for node in model.graph:
        if time.monotonic() > end:
            raise RunError("the check in float64 took too long.")
        inputs: list[Array | None] = []
        for i, value in enumerate(node.inputs):
            if value is None:
                inputs.append(None)
                continue
            held = values.get(value.name or "")
            if held is None:
                if value.const_value is None:
                    raise RunError(f"{value.name!r} has no value.")
                held = np.asarray(value.const_value.numpy())
                held = held if (node.op_type, i) in _STAYS_SINGLE else _double(held)
            inputs.append(held.astype(np.float32) if (node.op_type, i) in _STAYS_SINGLE else held)
        for value, array in zip(node.outputs, _compute(node, inputs), strict=False):
            values[value.name or ""] = array
        for value in node.inputs:
            if value is not None:
                left[value.name] -= 1
                if left[value.name] <= 0:
                    values.pop(value.name or "", None)
    return {v.name or "": values[v.name or ""] if v.name in values else _constant(v) for v in model.graph.outputs}


def _constant(value: ir.Value) -> Array:
    if value.const_value is None:
        raise RunError(f"{value.name!r} has no value.")
    return _double(np.asarray(value.const_value.numpy()))


def _double(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype in (np.float32, np.float16) else array


def _compute(node: ir.Node, inputs: list[Array | None]) -> list[Array]:
    if node.domain not in ("", "ai.onnx"):
        raise RunError(f"{node.domain}.{node.op_type} has no float64 implementation.")
    x = inputs[0] if inputs else None
    if node.op_type == "Conv" and x is not None:
        return [_conv(node, x, inputs)]
    if node.op_type == "AveragePool" and x is not None and not attribute(node, "ceil_mode", 0):
        return [_average(node, x)]
    if node.op_type in ("Identity", "Dropout") and x is not None:
        return [x]
    proto = ir.to_proto(node)
    for held in proto.attribute:
        if held.name == "to" and held.i == onnx.TensorProto.FLOAT:
            held.i = onnx.TensorProto.DOUBLE
        if held.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise RunError(f"{node.op_type} has no float64 implementation.")
    given = {f"i{i}": a for i, a in enumerate(inputs) if a is not None}
    del proto.input[:], proto.output[:]
    proto.input.extend(f"i{i}" if a is not None else "" for i, a in enumerate(inputs))
    proto.output.extend(f"o{i}" if v.name else "" for i, v in enumerate(node.outputs))
    kinds = [v.dtype if v.dtype != ir.DataType.FLOAT else ir.DataType.DOUBLE for v in node.outputs]
    graph = onnx.helper.make_graph(
        [proto],
        "one",
        [onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for k, a in given.items()],
        [
            onnx.helper.make_tensor_value_info(o, int(kind) if kind is not None else onnx.TensorProto.DOUBLE, None)
            for o, kind in zip(proto.output, kinds, strict=True)
            if o
        ],
    )
    single = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    try:
        return [_double(a) for a in by_runtime(single, given)]
    except Exception:  # onnxruntime's exceptions share no base class
        return _by_reference(single, given, node)


def _by_reference(model: onnx.ModelProto, given: dict[str, Array], node: ir.Node) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    if sum(a.size for a in given.values()) > _REFERENCE_LIMIT:
        raise RunError(f"{node.op_type} takes too long in float64.")
    try:
        found = [np.asarray(a) for a in ReferenceEvaluator(model).run(None, given)]
    except Exception as e:  # numpy and the reference raise whatever they like
        raise RunError(f"{node.op_type} cannot be computed in float64: {e}") from e
    return [_double(a) for a in found]


def _windows(node: ir.Node, x: Array, kernel: list[int], fill: float) -> tuple[Array, int]:
    """x padded and cut into windows: (N, C, out..., kernel...), and the number of spatial axes."""
    rank = x.ndim - 2
    strides = attribute(node, "strides") or [1] * rank
    dilations = attribute(node, "dilations") or [1] * rank
    pads = attribute(node, "pads") or [0] * (2 * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [max((-(-n // s) - 1) * s + span - n, 0) for n, s, span in zip(x.shape[2:], strides, spans, strict=True)]
        low = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
        pads = [*low, *(t - a for t, a in zip(total, low, strict=True))]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    places = tuple(slice(None, None, s) for s in strides)
    inside = tuple(slice(None, None, d) for d in dilations)
    return views[(slice(None), slice(None), *places, *inside)], rank


def _conv(node: ir.Node, x: Array, inputs: list[Array | None]) -> Array:
    w, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
    if w is None:
        raise RunError("Conv has no weight.")
    groups = int(attribute(node, "group", 1))
    windows, rank = _windows(node, x, list(w.shape[2:]), 0.0)
    per, out = x.shape[1] // groups, w.shape[0] // groups
    parts = []
    for g in range(groups):
        axes = ([1, *range(2 + rank, 2 + 2 * rank)], list(range(1, 2 + rank)))
        parts.append(np.tensordot(windows[:, g * per : (g + 1) * per], w[g * out : (g + 1) * out], axes=axes))
    y = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    return y if bias is None else y + bias.reshape(1, -1, *[1] * rank)


def _average(node: ir.Node, x: Array) -> Array:
    kernel = list(attribute(node, "kernel_shape"))
    windows, rank = _windows(node, x, kernel, 0.0)
    axes = tuple(range(2 + rank, 2 + 2 * rank))
    if attribute(node, "count_include_pad", 0):
        result: Array = windows.mean(axis=axes)
        return result
    counts, _ = _windows(node, np.ones((1, 1, *x.shape[2:])), kernel, 0.0)
    result = windows.sum(axis=axes) / counts.sum(axis=axes)
    return result


def explain(
    source: ir.Model,
    target: ir.Model,
    feeds: Mapping[str, Array],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    differs: Mapping[str, float],
) -> str | None:
    """A sentence if the difference is nothing but rounding: in float64 it is at least a hundred times smaller. Else None.

    Args:
        source: One network.
        target: The other.
        feeds: Inputs by the source's names.
        inputs: Name of each input of the source -> name in the target; `outputs` likewise.
        differs: Source's name of each output that differs -> its relative difference in float32.
    """
    try:
        one = run_double(source, feeds)
        other = run_double(target, {inputs[k]: v for k, v in feeds.items()})
    except RunError:
        return None
    from niudao.ir.difference import difference

    worst = single = 0.0
    for name, error in differs.items():
        found = difference(one[name], other[outputs[name]])
        if found.reason or not found.max_rel <= error / 100:
            return None
        worst, single = max(worst, found.max_rel), max(single, error)
    return (
        f"Only rounding: in float64 the same two networks agree to {worst:.1e}, in float32 to {single:.1e}. "
        "Such noise grows with the number of layers and is no fault of one of them."
    )
