"""Cut a named part out of a network, as a network; and set its batch."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import onnx_ir as ir

from niudao.errors import UsageError
from niudao.ir import card
from niudao.ir.passes.infer_shapes import infer_shapes
from niudao.ir.passes.remove_dead import remove_dead


def find(model: ir.Model, name: str) -> ir.Value:
    """The value of that name, or the last output of the node or source layer of that name.

    Raises:
        UsageError: Nothing has this name; says the nearest ones.
    """
    values: dict[str, ir.Value] = {v.name: v for v in model.graph.inputs if v.name}
    layers: dict[str, ir.Value] = {}
    for node in model.graph:
        for value in node.outputs:
            if value.name:
                values[value.name] = value
        if node.outputs:
            layers[card.layer_of(node)] = node.outputs[0]
            layers.setdefault(node.name or "", node.outputs[0])
    if name in values:
        return values[name]
    if name in layers:
        return layers[name]
    close = get_close_matches(name, [*layers, *values], n=3, cutoff=0.5)
    raise UsageError(
        f"the network has no value or layer called {name!r}.",
        next=f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "niudao inspect lists the layers",
    )


def extract(model: ir.Model, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> ir.Model:
    """A named part of a network as a network of its own.

    Args:
        model: The whole; left as it is.
        inputs: Values or layers whose outputs become the inputs; empty for the network's own.
        outputs: Values or layers whose outputs become the outputs, in this order; empty for the network's own.

    Returns:
        A model that shares its weights with `model`. A cut output is named after the layer that was asked for.

    Raises:
        UsageError: A name is unknown, or the outputs depend on inputs that were cut away.
    """
    part = model.clone()
    graph = part.graph
    # names are resolved before anything is rewired, so that a value asked for as input and output means the old one
    cut_in = [find(part, name) for name in inputs]
    cut_out = [(name, find(part, name)) for name in outputs]
    replaced: dict[int, ir.Value] = {}
    if cut_in:
        new_inputs = []
        for name, value in zip(inputs, cut_in, strict=True):
            if value.producer() is None:
                new_inputs.append(value)
                continue
            old_name = value.name
            value.name = f"{old_name}_cut"
            fresh = ir.Value(name=old_name if old_name == name else name, shape=value.shape, type=value.type)
            for use in list(value.uses()):
                use.node.replace_input_with(use.idx, fresh)
            replaced[id(value)] = fresh
            new_inputs.append(fresh)
        graph.inputs.clear()
        graph.inputs.extend(new_inputs)
    if cut_out:
        graph.outputs.clear()
        taken: set[str] = set()
        for name, value in cut_out:
            value = replaced.get(id(value), value)
            if value.producer() is None or id(value) in {id(v) for v in graph.outputs}:
                node = ir.node("Identity", [value], name=f"{name}_out")
                node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
                graph.append(node)
                value = node.outputs[0]
            if name not in taken and not any(v.name == name for v in graph.inputs):
                value.name = name
            taken.add(value.name or "")
            graph.outputs.append(value)
    remove_dead(part)
    _check_reachable(graph)
    return part


def _check_reachable(graph: ir.Graph) -> None:
    known = {id(v) for v in graph.inputs} | {id(v) for v in graph.initializers.values()}
    for node in graph:
        for value in node.inputs:
            if value is not None and id(value) not in known and value.producer() is None:
                raise UsageError(
                    f"the outputs still need {value.name!r}, which the new inputs do not give.",
                    next=f"add {value.name!r} to --inputs",
                )
        known.update(id(v) for v in node.outputs)


def set_batch(model: ir.Model, batch: int | str) -> ir.Model:
    """The same network with another first dimension on every input: a number, or "dynamic".

    Reshapes that hold the old batch as a literal are loosened where the first dimension alone is concerned.

    Raises:
        UsageError: Not a positive number and not "dynamic".
    """
    if batch != "dynamic" and not (str(batch).isdigit() and int(batch) > 0):
        raise UsageError(f"--batch {batch!r} is no batch.", expected="a positive number, or dynamic")
    copy = model.clone()
    dim: int | str = "batch" if batch == "dynamic" else int(batch)
    old = {v.shape[0] for v in copy.graph.inputs if v.shape is not None and len(v.shape)}
    for value in copy.graph.inputs:
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape([dim, *list(value.shape)[1:]])
    for node in copy.graph:
        if node.op_type == "Reshape" and len(old) == 1:
            _loosen(copy, node, next(iter(old)))
    for node in copy.graph:
        for value in node.outputs:
            value.shape = None
    infer_shapes(copy)
    return copy


def _loosen(model: ir.Model, node: ir.Node, old: object) -> None:
    """Reshape(x, [1, 128]) becomes Reshape(x, [0, 128]) where the batch was 1 and x's first axis is the batch."""
    shape = node.inputs[1]
    tensor = shape.const_value if shape is not None else None
    data = node.inputs[0]
    if tensor is None or data is None or data.shape is None or not isinstance(old, int):
        return
    dims = tensor.numpy().tolist()
    if dims and dims[0] == old and len(data.shape) and data.shape[0] == old and -1 not in dims[1:]:
        name = f"{node.name}_shape_any_batch"
        free = ir.Value(name=name, shape=ir.Shape([len(dims)]), type=ir.TensorType(ir.DataType.INT64))
        free.const_value = ir.tensor([-1, *dims[1:]], name=name)
        model.graph.initializers[name] = free
        node.replace_input_with(1, free)
