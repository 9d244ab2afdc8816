"""Constants of a network as weights: nodes that hold one, and texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from niudao.errors import ReadError, Where


def constants_to_weights(model: ir.Model) -> None:
    """Constant nodes of the main graph and its subgraphs become initializers, small sparse and list forms included."""
    for graph in [model.graph, *model.graph.subgraphs()]:
        for node in [n for n in graph if n.op_type == "Constant" and n.domain == ""]:
            try:
                tensor = _constant(node)
            except (TypeError, ValueError, AttributeError) as e:
                raise ReadError("a Constant node does not hold what it says.", where=Where(node=node.name), got=str(e)[:200]) from e
            out = node.outputs[0]
            if tensor is None or out.is_graph_output():
                continue
            name = out.name or node.name or "constant"
            out.name = f"{name}_node"
            tensor.name = name
            value = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
            value.metadata_props.update(out.metadata_props)
            graph.register_initializer(value)
            out.replace_all_uses_with(value)
            graph.remove(node, safe=True)


def _constant(node: ir.Node) -> ir.TensorProtocol | None:
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        if name == "value":
            tensor = attribute.as_tensor()
            return tensor
        if name in ("value_int", "value_ints"):
            return ir.tensor(attribute.value, dtype=ir.DataType.INT64)
        if name in ("value_float", "value_floats"):
            return ir.tensor(attribute.value, dtype=ir.DataType.FLOAT)
        if name in ("value_string", "value_strings"):
            values = [attribute.value] if name == "value_string" else list(attribute.value)
            encoded = [v.encode() if isinstance(v, str) else v for v in values]
            return _objects(ir.StringTensor(encoded, shape=ir.Shape(() if name == "value_string" else (len(encoded),))))
    return None


def strings_as_objects(model: ir.Model) -> None:
    """Text tensors as arrays of objects: numpy's own fixed-width texts lose trailing zeros and have no ONNX type."""
    for graph in _graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype == ir.DataType.STRING:
                value.const_value = _objects(value.const_value)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    tensor = attribute.as_tensor()
                    if tensor.dtype == ir.DataType.STRING:
                        node.attributes[name] = ir.AttrTensor(name, _objects(tensor))


def _objects(tensor: ir.TensorProtocol) -> ir.StringTensor:
    held = list(tensor.string_data()) if isinstance(tensor, ir.StringTensor) else list(tensor.numpy().reshape(-1))
    array = np.empty(len(held), dtype=object)
    array[:] = held
    shape = tuple(int(d) for d in tensor.shape)  # type: ignore[arg-type]
    return ir.StringTensor(array.reshape(shape), shape=ir.Shape(shape), name=tensor.name)


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    for root in (model.graph, *(f.graph for f in model.functions.values())):
        yield root
        yield from root.subgraphs()
