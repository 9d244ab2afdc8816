"""Resize along one axis as a matrix, whatever its mode: what targets without that way of sampling are given instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.ir import IR_VERSION, OPSET

Array = np.ndarray[Any, Any]


def resampling(node: ir.Node, size: int, new: int, factor: float | None) -> Array:
    """The matrix of a Resize along one axis, by running that very operator on the unit matrix.

    Args:
        node: The Resize.
        size: Size of the axis.
        new: Its size afterwards.
        factor: What the node's scales say of the axis; None where it states sizes.

    Returns:
        float32 (new, size): outputs are its products with the axis.

    Raises:
        ValueError: The runtime does not know this way of sampling, or gives another size; the text says which.
    """
    import onnxruntime as ort

    attributes = {a.name: a.value for a in node.attributes.values() if a.name != "axes" and a.value is not None}
    made = onnx.helper.make_node("Resize", ["x", "", "scales" if factor else "", "" if factor else "sizes"], ["y"])
    made.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())
    eye = np.eye(size, dtype=np.float32).reshape(size, 1, 1, size)
    if factor:
        table = onnx.numpy_helper.from_array(np.array([1, 1, 1, factor], np.float32), "scales")
    else:
        table = onnx.numpy_helper.from_array(np.array([size, 1, 1, new], np.int64), "sizes")
    x, y = (onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", eye.shape), ("y", None)))
    graph = onnx.helper.make_graph([made], "axis", [x], [y], [table])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        out = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": eye})[0]
    except Exception as e:  # onnxruntime's exceptions share no base class
        raise ValueError(f"its way of sampling is unknown: {type(e).__name__}") from e
    if out.shape != (size, 1, 1, new):
        raise ValueError("its sizes do not follow from its scales")
    return np.ascontiguousarray(np.asarray(out).reshape(size, new).T, dtype=np.float32)
