"""The unbroken ONNX network, and the ways to make others of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def value(name: str, *shape: Any, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weights() -> list[onnx.TensorProto]:
    rng = np.random.default_rng(0)
    made = {"conv.w": (4, 3, 3, 3), "conv.b": (4,), "fc.w": (5, 4), "fc.b": (5,)}
    return [numpy_helper.from_array(rng.normal(size=s).astype("float32"), n) for n, s in made.items()]


def nodes() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Conv", ["image", "conv.w", "conv.b"], ["a"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
        helper.make_node("Flatten", ["c"], ["d"], name="flatten"),
        helper.make_node("Gemm", ["d", "fc.w", "fc.b"], ["scores"], name="fc", transB=1),
    ]


def model_of(
    nodes_: list[onnx.NodeProto] | None = None,
    held: list[onnx.TensorProto] | None = None,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    opset: int = 17,
    **more: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes() if nodes_ is None else nodes_,
        "net",
        [value("image", "batch", 3, 8, 8)] if inputs is None else inputs,
        [value("scores", "batch", 5)] if outputs is None else outputs,
        weights() if held is None else held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)


def good() -> bytes:
    """The unbroken network that the others are made from."""
    return model_of().SerializeToString()


def changed(change: Callable[[onnx.ModelProto], Any]) -> bytes:
    model = model_of()
    change(model)
    return model.SerializeToString()


def weight(model: onnx.ModelProto, **fields: Any) -> None:
    """Change fields of the first weight."""
    tensor = model.graph.initializer[0]
    for key, v in fields.items():
        if isinstance(v, list):
            del getattr(tensor, key)[:]
            getattr(tensor, key).extend(v)
        else:
            setattr(tensor, key, v)


def one(
    op: str, attributes: dict[str, Any] | None = None, *held: tuple[str, Any], inputs: list[str] | None = None, domain: str = ""
) -> bytes:
    """A network of a single node on an image, with constants."""
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in held]
    node = helper.make_node(op, inputs or ["image", *(n for n, _ in held)], ["scores"], name="node", domain=domain, **(attributes or {}))
    return model_of([node], tensors, outputs=[value("scores")]).SerializeToString()
