"""What readers build with: a graph under construction in which every value has a type, a shape and a name of its own.

`onnx_ir`'s own tape leaves type, shape and name of an output empty, takes Python attributes only and lets two
initializers of one name become one. Readers need shapes while they read (SAME padding, Flatten, negative axes), so every
`op` here infers its outputs at once, with the values of constant inputs known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.errors import InvalidModel, Where
from niudao.ir import IR_VERSION, OPSET, card
from niudao.ir.values import claim

Dim = int | str | None


class Builder:
    """A graph under construction.

    Args:
        name: Name of the graph.

    Example:
        >>> b = Builder("net")
        >>> x = b.input("x", (None, 3, 8, 8))
        >>> y = b.op("Relu", x, layer="relu1")
        >>> b.output(y, "y")
        >>> [v.shape[1] for v in b.model().graph.outputs]
        [3]
    """

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.inputs: list[ir.Value] = []
        self.outputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self.layer = ""
        self.layer_type = ""
        self._taken: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def unique(self, name: str) -> str:
        """`name`, or `name_1`, `name_2`, ... whichever is still free."""
        return claim(name, self._taken)

    def input(self, name: str, shape: Sequence[Dim], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        """A graph input. A dimension is a number, a symbol, or None for "any"; a free first axis is called `batch`."""
        if name in self._taken:
            raise InvalidModel(f"two inputs are called {name!r}.")
        dims: list[int | str] = []
        for i, d in enumerate(shape):
            dims.append(("batch" if i == 0 else f"{name}_{i}") if d is None else d)
        self._taken.add(name)
        value = ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(dtype))
        self.inputs.append(value)
        return value

    def weight(self, array: np.ndarray[Any, Any] | ir.TensorProtocol, name: str) -> ir.Value:
        """An initializer that keeps its source's name; takes arrays and lazy tensors."""
        name = self.unique(name)
        tensor = array if isinstance(array, ir.TensorProtocol) else ir.tensor(np.asarray(array, order="C"))
        tensor.name = name
        value = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.initializers[name] = value
        return value

    def lazy(
        self, load: Callable[[], np.ndarray[Any, Any]], shape: Sequence[int], name: str, dtype: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Value:
        """An initializer whose array is made when somebody asks for it, each time anew: weights stay on disk until then."""
        tensor = ir.LazyTensor(lambda: ir.Tensor(np.asarray(load(), order="C")), dtype=dtype, shape=ir.Shape(tuple(shape)), cache=False)
        return self.weight(tensor, name)

    def const(self, value: Any, dtype: Any = None) -> ir.Value:
        """A small constant (axes, pads, scalars); equal ones are shared. Python floats become float32, ints int64."""
        array = np.asarray(value, dtype=dtype)
        if dtype is None:
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64 if array.dtype.kind in "iu" else array.dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(array, f"const_{len(self._constants)}")
        return self._constants[key]

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        layer: str | None = None,
        domain: str = "",
        name: str | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """Append a node with one output and return that output, typed and shaped."""
        return self.ops(op_type, *inputs, outputs=1, layer=layer, domain=domain, name=name, **attributes)[0]

    def ops(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        outputs: int,
        layer: str | None = None,
        domain: str = "",
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[ir.Value, ...]:
        """Append a node with several outputs and return them.

        Raises:
            InvalidModel: The operator does not take these inputs or attributes, said with the layer's name.
        """
        layer = self.layer if layer is None else layer
        attrs = {k: plain(v) for k, v in attributes.items() if v is not None}
        given = list(inputs)
        while given and given[-1] is None:  # an empty name at the end is legal, and ONNX Runtime 1.32 crashes on some
            given.pop()
        node = ir.node(
            op_type, given, attributes=attrs, domain=domain, num_outputs=outputs, name=self.unique(name or layer or op_type.lower())
        )
        if layer:
            node.metadata_props[card.LAYER] = layer
        if self.layer_type:
            node.metadata_props[card.LAYER_TYPE] = self.layer_type
        for value in node.outputs:
            value.name = self.unique(f"{node.name}_out" if outputs == 1 else f"{node.name}_out{value.index()}")
        if domain == "":
            infer(node)
        self.nodes.append(node)
        return tuple(node.outputs)

    def output(self, value: ir.Value, name: str, layout: Sequence[int] | None = None) -> None:
        """Declare a graph output called `name` (made unique); `layout` as in `card.set_layout`."""
        if value.producer() is None or value in self.outputs:
            value = self.op("Identity", value, layer="")
        free = name not in self._taken or name == value.name
        if not free and not any(name == v.name for v in (*self.inputs, *self.outputs)):
            self._rename_inner(name)
            free = True
        value.name = name if free else self.unique(name)
        self._taken.add(value.name)
        card.set_layout(value, layout)
        self.outputs.append(value)

    def _rename_inner(self, name: str) -> None:
        """Give way: outputs keep the source's names, so an inner value or a weight that holds one is renamed."""
        for value in (*self.initializers.values(), *(v for n in self.nodes for v in n.outputs)):
            if value.name == name:
                new = self.unique(f"{name}_inner")
                if name in self.initializers:
                    self.initializers[new] = self.initializers.pop(name)
                    if value.const_value is not None:
                        value.const_value.name = new
                value.name = new
                return

    def model(self) -> ir.Model:
        """The finished model; unused initializers are dropped."""
        used = {id(v) for n in self.nodes for v in n.inputs if v is not None} | {id(v) for v in self.outputs}
        graph = ir.Graph(
            self.inputs,
            self.outputs,
            nodes=self.nodes,
            initializers=[v for v in self.initializers.values() if id(v) in used],
            opset_imports={"": OPSET},
            name=self.name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="niudao")


def plain(value: Any) -> Any:
    """An attribute value as the plain Python that `onnx_ir` accepts."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return ir.tensor(value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return int(value) if isinstance(value, bool) else value


_SMALL = 4096
_LIKE_INPUT = frozenset(("GroupNormalization", "RMSNormalization", "MeanVarianceNormalization", "Swish", "RotaryEmbedding"))
"""Operators whose schema leaves the shape to their function body, which is that of the first input."""


def infer(node: ir.Node, values: Mapping[str, np.ndarray[Any, Any]] | None = None) -> None:
    """Set type and shape of a node's outputs from its inputs, by ONNX's own rule for the operator.

    Args:
        node: A node of the default domain whose inputs have types and shapes.
        values: Known values of inputs that are not initializers, by name.

    Raises:
        InvalidModel: ONNX's rule rejects the inputs or attributes.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, OPSET, "")
    except onnx.defs.SchemaError as e:
        raise InvalidModel(f"ONNX has no operator {node.op_type}.", where=Where(node=card.layer_of(node))) from e
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for v in node.inputs:
        if v is None or v.type is None:
            continue
        types[v.name or ""] = type_proto(v)
        known = (values or {}).get(v.name or "")
        if known is None and v.const_value is not None and v.const_value.size <= _SMALL:
            known = v.const_value.numpy()
        if known is not None:
            data[v.name or ""] = onnx.numpy_helper.from_array(np.asarray(known), v.name or "")
    try:
        proto = ir.serde.serialize_node(node)  # to_proto asks slow questions first
        inferred = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
    except Exception as e:  # onnx raises several unrelated classes here
        reason = str(e).strip().splitlines()[-1] if str(e).strip() else type(e).__name__
        raise InvalidModel(
            f"{node.op_type} does not accept its inputs: {reason}",
            where=Where(node=card.layer_of(node)),
            got=", ".join(str(v.shape) if v is not None else "-" for v in node.inputs),
        ) from e
    for value in node.outputs:
        proto_type = inferred.get(value.name or "")
        if proto_type is None or not proto_type.HasField("tensor_type"):
            continue
        value.type = ir.TensorType(ir.DataType(proto_type.tensor_type.elem_type))
        if proto_type.tensor_type.HasField("shape"):
            value.shape = ir.serde.deserialize_type_proto_for_shape(proto_type)
    first = node.inputs[0] if node.inputs else None
    if node.op_type in _LIKE_INPUT and first is not None and node.outputs[0].shape is None:
        node.outputs[0].type, node.outputs[0].shape = first.type, first.shape


def type_proto(value: ir.Value) -> onnx.TypeProto:
    """The ONNX type of a value, shape included where it is known."""
    dims: list[int | str | None] | None = None
    if value.shape is not None:
        dims = [d if isinstance(d, int) else d.value for d in value.shape]
    dtype = value.dtype if value.dtype is not None else ir.DataType.FLOAT
    return onnx.helper.make_tensor_type_proto(int(dtype), dims)
