"""The network that `to_module` makes, and the way back into a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from niudao.errors import InvalidModel, Unsupported
from niudao.formats.pytorch.modules.build import Building
from niudao.formats.pytorch.modules.table import load_all
from niudao.formats.pytorch.modules.weights import Stored, gather
from niudao.ir import OPSET
from niudao.ir.passes.infer_shapes import infer_shapes
from niudao.ir.values import claim


class Network(fx.GraphModule):
    """A model as a torch module: straight-line code over named layers.

    `forward` takes the tensors of the model's inputs in their order, and gives a tensor for one output, a tuple for several.

    Attributes:
        remembered: The model that it was made from; None in a network that was pickled, whose file holds the weights once.
        model: The same, where no layer of the network is called "model".
        names: Whose names the state dict has, "source" or "torch".
        initializers: Key of the state dict -> name of the initializer that it holds.
        stored: The same, with how an entry lies in its initializer.
    """

    model: ir.Model | None
    remembered: ir.Model | None
    names: str
    stored: dict[str, Stored]

    @property
    def initializers(self) -> dict[str, str]:
        """Key of the state dict -> name of the initializer that it holds."""
        return {key: entry.initializer for key, entry in self.stored.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """The graph itself, row after row, where torch would trace the code anew: that ends at the first function that looks at a shape."""
        held = {k: v for k, v in self.__dict__.items() if k not in ("_graph", "_code", "_lineno_map", "_prologue_start")}
        held |= {k: None for k in ("model", "remembered") if k in held}
        return _restore, (_rows(self.graph), held)

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        model = self.remembered
        memo[id(model)] = model  # the copy remembers the same model
        twin: Network = super().__deepcopy__(memo)
        _remember(twin, model)
        twin.names, twin.stored = self.names, dict(self.stored)
        twin.training = self.training  # and each layer keeps its own
        return twin


@dataclass(frozen=True)
class _Row:
    """Stands for the node of a row; the nodes themselves hold one another, deeper than pickle goes."""

    number: int


def _rows(graph: fx.Graph) -> list[tuple[Any, ...]]:
    number = {node: _Row(i) for i, node in enumerate(graph.nodes)}

    def flat(held: Any) -> Any:
        return map_aggregate(held, lambda a: number[a] if isinstance(a, fx.Node) else a)

    return [(n.op, n.target, flat(n.args), flat(n.kwargs), n.name) for n in graph.nodes]


def _restore(rows: list[tuple[Any, ...]], held: dict[str, Any]) -> Network:
    graph, nodes = fx.Graph(), list[fx.Node]()

    def whole(held: Any) -> Any:
        return map_aggregate(held, lambda a: nodes[a.number] if isinstance(a, _Row) else a)

    for op, target, args, kwargs, name in rows:
        nodes.append(graph.create_node(op, target, whole(args), whole(kwargs), name))
    root = nn.Module()
    root.__dict__.update({k: held[k] for k in ("_parameters", "_buffers", "_modules")})
    network = Network(root, graph, class_name="Network")
    network.__dict__.update(held)
    return network


def to_module(model: ir.Model, *, names: Literal["source", "torch"] = "source") -> Network:
    """A model as a `torch.nn.Module` that runs, trains, exports and compiles.

    Args:
        model: The model; it is not changed.
        names: "source": the state dict's keys are the initializers' names. "torch": every weight lives in the layer that uses
            it, under torch's own name ("conv1.weight", "bn1.running_mean").

    Returns:
        The network in eval mode. `network.initializers` maps each key of its state dict to an initializer.

    Raises:
        Unsupported: Nodes that torch cannot say; all of them are named.
        InvalidModel: An operator does not accept its inputs, or the model is of another opset than those in memory are.
    """
    opset = model.opset_imports.get("", OPSET)
    if opset != OPSET:
        raise InvalidModel(
            "to_module takes models as niudao.read gives them: operators of other opsets bear the same names and mean other things.",
            expected=f"opset {OPSET}",
            got=f"opset {opset}",
            next="niudao.read reads an onnx.ModelProto too, whatever its opset",
        )
    load_all()
    shaped = model.clone()
    for weight in shaped.graph.initializers.values():
        if weight.shape is None and weight.const_value is not None:
            weight.shape = ir.Shape(weight.const_value.shape.numpy())
    infer_shapes(shaped)
    building = Building(shaped, names)
    building.run()
    if building.refusals:
        raise Unsupported("PyTorch", building.refusals)
    root = building.root
    for path in sorted(building.layers, key=lambda p: p.count(".")):
        _add(root, path, building.layers[path])
    building.weights.register(root, building.layers, apart=names == "torch")
    _remove_unused(building.graph)
    building.graph.lint()
    network = Network(root, building.graph, class_name="Network")
    _remember(network, model)
    network.names = names
    keys = set(network.state_dict())
    network.stored = {key: entry for key, entry in building.weights.stored.items() if key in keys}
    network.eval()
    return network


def _remember(network: Network, model: ir.Model | None) -> None:
    network.remembered = model
    if "model" not in network._modules:
        network.model = model


def _remove_unused(graph: fx.Graph) -> None:
    """Take out what no output needs; inputs stay."""
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)


def _add(root: nn.Module, path: str, layer: nn.Module) -> None:
    holder = root
    *inner, last = path.split(".")
    for name in inner:
        below = holder._modules.get(name)
        if below is None:
            below = nn.Module()
            holder.add_module(name, below)
        holder = below
    holder.add_module(last, layer)


def from_module(network: Network, model: ir.Model | None = None) -> ir.Model:
    """Write the trained values of a network back into its model's initializers.

    Args:
        network: A network of `to_module`, trained or changed in its values.
        model: The model to write into; the one that the network was made from if None.

    Returns:
        The same model, changed in place.

    Raises:
        InvalidModel: The network is none of `to_module`'s, has lost an entry, or one has another shape than its initializer.
    """
    stored: Mapping[str, Stored] | None = getattr(network, "stored", None)
    if stored is None:
        raise InvalidModel(
            "this module was not made by to_module, so nobody knows which weight is which.",
            got=type(network).__name__,
            next="niudao.formats.pytorch.read_module reads any module",
        )
    model = model if model is not None else network.remembered
    if model is None:
        raise InvalidModel("this network does not remember its model.", next="from_module(network, model)")
    initializers = dict(model.graph.initializers)
    state: dict[str, torch.Tensor] = network.state_dict()
    made = gather(stored, state, initializers)
    alone = {key: entry for key, entry in stored.items() if entry.use is not None}
    for name, array in made.items():
        if name not in alone:
            _fill(initializers[name], array)
    nodes = {node.outputs[0].name: node for node in model.graph.all_nodes() if node.outputs} if alone else {}
    for key, entry in alone.items():
        output, i = entry.use or ("", 0)
        if output not in nodes:
            raise InvalidModel(f"the model has no value {output!r}, whose node uses what the network's {key!r} was made from.")
        _set_apart(model.graph, nodes[output], i, key, made[key])
    return model


def _fill(value: ir.Value, array: np.ndarray[Any, Any]) -> None:
    held = value.const_value
    array = np.asarray(array, order="C")  # np.ascontiguousarray would give a single number an axis
    value.const_value = ir.Tensor(array, dtype=held.dtype if held is not None else None, name=value.name)


def _set_apart(graph: ir.Graph, node: ir.Node, i: int, key: str, array: np.ndarray[Any, Any]) -> None:
    """Give one input of a node this content, and an initializer of its own if others use the one that it has."""
    value = node.inputs[i]
    if value is None or value.const_value is None or np.array_equal(value.const_value.numpy(), array):
        return
    if len(value.uses()) > 1 or value.is_graph_output():
        own = ir.Value(name=claim(key, set(graph.initializers)), shape=value.shape, type=value.type, const_value=value.const_value)
        graph.register_initializer(own)
        node.replace_input_with(i, own)
        value = own
    _fill(value, array)
