"""The value of one node whose inputs are all known."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.errors import RunError
from niudao.ir import IR_VERSION, OPSET

Array = np.ndarray[Any, Any]


def evaluate(node: ir.Node) -> list[Array]:
    """Compute a node of the default domain by ONNX Runtime, or by ONNX's reference where that lacks a kernel.

    Raises:
        RunError: Neither can.
    """
    inputs = {v.name or "": np.asarray(v.const_value.numpy()) for v in node.inputs if v is not None and v.const_value is not None}
    proto = ir.to_proto(node)
    kinds = {v.name: int(v.dtype) for v in node.inputs if v is not None and v.dtype is not None}
    graph = onnx.helper.make_graph(
        [proto],
        "one",
        [onnx.helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=v.name) for v in node.outputs if v.name],
    )
    for entry, value in zip(graph.output, (v for v in node.outputs if v.name), strict=True):
        if value.dtype is not None:
            entry.type.tensor_type.elem_type = int(value.dtype)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    try:
        return by_runtime(model, inputs)
    except Exception:  # onnxruntime's exceptions share no base class
        return _by_reference(model, inputs, node)


def by_runtime(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """The outputs of a small model, by ONNX Runtime with one thread and nothing fused."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(a) for a in session.run(None, inputs)]


def _by_reference(model: onnx.ModelProto, inputs: dict[str, Array], node: ir.Node) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    try:
        return [np.asarray(a) for a in ReferenceEvaluator(model).run(None, inputs)]
    except Exception as e:  # numpy and the reference raise whatever they like
        raise RunError(f"{node.op_type} cannot be computed from its constants: {e}") from e
