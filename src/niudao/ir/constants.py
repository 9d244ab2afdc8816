"""Values that are known without running the network: initializers, what is computed from them, and shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.ir import IR_VERSION, OPSET

Array = np.ndarray[Any, Any]

BATCH = -(1 << 30)
"""Stands for the free batch size inside a known shape, in every type of number; only operators that move elements let it through."""

_SMALL = 1 << 16
_KEEPS_ZERO = {"Expand", "Tile", "Unsqueeze", "Squeeze", "Concat", "Slice", "Identity", "Transpose", "Reshape", "Cast", "Split"}
_MOVES = {"Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Identity", "Cast", "Reshape", "Split"}


class Constants:
    """Knows constants, big ones by name only: their arrays are made when asked for, each time anew."""

    def __init__(self) -> None:
        self._made: dict[ir.Value, ir.Node] = {}
        self._cache: dict[ir.Value, Array] = {}

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether the value does not depend on the network's inputs."""
        return value is not None and (value.const_value is not None or value in self._made or value in self._cache)

    def fold(self, node: ir.Node) -> bool:
        """Take the node as a constant if it is one."""
        if node.op_type == "Constant":
            found = next((a.value for a in node.attributes.values()), None)
            array = found.numpy() if isinstance(found, ir.TensorProtocol) else np.asarray(found)
            self._cache[node.outputs[0]] = (
                array.astype(np.float32) if array.dtype == np.float64 and not isinstance(found, ir.TensorProtocol) else array
            )
            return True
        if node.op_type in ("Shape", "Size") and node.inputs[0] is not None and node.inputs[0].shape is not None:
            dims = [d if isinstance(d, int) else (BATCH if i == 0 else None) for i, d in enumerate(node.inputs[0].shape)]
            start = node.attributes["start"].as_int() if "start" in node.attributes else 0
            end = node.attributes["end"].as_int() if "end" in node.attributes else len(dims)
            dims = dims[start:end]
            if node.op_type == "Shape" and None not in dims:
                self._cache[node.outputs[0]] = np.array(dims, np.int64)
                return True
            return False
        inputs = [v for v in node.inputs if v is not None]
        if not inputs or node.domain not in ("", "ai.onnx") or not all(self.is_constant(v) for v in inputs):
            return False
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            return False
        if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial"):
            return False
        if node.op_type not in _MOVES and any(self._holds_batch(v) for v in inputs):
            return False
        for value in node.outputs:
            self._made[value] = node
        return True

    def _holds_batch(self, value: ir.Value) -> bool:
        size = value.shape.numpy() if value.shape is not None and value.shape.is_static() else (0,)
        if value.const_value is not None or int(np.prod(size)) > 64:
            return False
        array = self.constant(value)
        return array is not None and array.dtype.kind in "if" and bool((array == BATCH).any())

    def constant(self, value: ir.Value | None) -> Array | None:
        """The array of a constant, or None."""
        if value is None:
            return None
        if value in self._cache:
            return self._cache[value]
        if value.const_value is not None:
            return value.const_value.numpy()
        node = self._made.get(value)
        if node is None:
            return None
        for made, array in zip(node.outputs, evaluate(node, [self.constant(v) for v in node.inputs]), strict=False):
            if array.size <= _SMALL:
                self._cache[made] = array
            if made is value:
                result = array
        return result

    def is_zero(self, value: ir.Value) -> bool:
        """Whether a value is zeros, of whatever size: a recurrent network's first state may be made from the size of the batch."""
        if self.is_constant(value):
            array = self.constant(value)
            return array is not None and not array.any()
        node = value.producer()
        if node is None:
            return False
        if node.op_type == "ConstantOfShape":
            fill = node.attributes.get("value")
            return fill is None or not fill.value.numpy().any()
        if node.op_type in _KEEPS_ZERO:
            many = node.inputs if node.op_type == "Concat" else node.inputs[:1]
            return all(v is not None and self.is_zero(v) for v in many)
        return False

    def shape_of(self, value: ir.Value) -> tuple[int, ...]:
        """Shape of a constant, without making it where that can be avoided."""
        if value.const_value is not None:
            return tuple(int(d) for d in value.const_value.shape.numpy())
        if value.shape is not None and value.shape.is_static():
            return tuple(int(d) for d in value.shape.numpy())
        array = self.constant(value)
        return () if array is None else array.shape

    def loader(self, value: ir.Value, change: Callable[[Array], Array] = lambda a: a) -> Callable[[], Array]:
        """A function that makes the constant's array, changed as the target wants it."""

        def load() -> Array:
            array = self.constant(value)
            if array is None:
                raise ValueError(f"{value.name} is no constant")
            return np.ascontiguousarray(change(array), dtype=np.float32)

        return load


def evaluate(node: ir.Node, inputs: list[Array | None]) -> list[Array]:
    """Outputs of one node of the default domain on arrays, by ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    proto = ir.to_proto(node)
    names = [n for n in proto.input if n]
    infos = [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in dict.fromkeys(names)]
    outputs = [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in proto.output if n]
    graph = onnx.helper.make_graph([proto], "constant", infos, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    feeds = {n: a for n, a in zip(proto.input, inputs, strict=True) if n}
    return [np.asarray(a) for a in ReferenceEvaluator(model).run(None, feeds)]
