"""The network that `to_module` makes, and the way back into a model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn

from niudao.errors import InvalidModel, Unsupported
from niudao.formats.pytorch.modules.build import Building
from niudao.formats.pytorch.modules.table import load_all
from niudao.formats.pytorch.modules.weights import Stored, gather
from niudao.ir.passes.infer_shapes import infer_shapes


class Network(fx.GraphModule):
    """A model as a torch module: straight-line code over named layers.

    `forward` takes the tensors of the model's inputs in their order, and gives a tensor for one output, a tuple for several.

    Attributes:
        model: The model that it was made from.
        names: Whose names the state dict has, "source" or "torch".
        initializers: Key of the state dict -> name of the initializer that it holds.
        stored: The same, with how an entry lies in its initializer.
    """

    model: ir.Model | None
    names: str
    stored: dict[str, Stored]

    @property
    def initializers(self) -> dict[str, str]:
        """Key of the state dict -> name of the initializer that it holds."""
        return {key: entry.initializer for key, entry in self.stored.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """The graph itself, where torch would trace the code anew: that ends at the first function that looks at a shape."""
        held = {k: v for k, v in self.__dict__.items() if k not in ("_graph", "_code", "_lineno_map", "_prologue_start")}
        return _restore, (copy.deepcopy(self.graph), held)

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        model, self.__dict__["model"] = self.model, None  # the copy remembers the same model
        try:
            twin: Network = super().__deepcopy__(memo)
        finally:
            self.__dict__["model"] = model
        twin.model, twin.names, twin.stored = model, self.names, dict(self.stored)
        twin.train(self.training)
        return twin


def _restore(graph: fx.Graph, held: dict[str, Any]) -> Network:
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
        InvalidModel: An operator does not accept its inputs.
    """
    load_all()
    shaped = model.clone()
    infer_shapes(shaped)
    building = Building(shaped, names)
    building.run()
    if building.refusals:
        raise Unsupported("PyTorch", building.refusals)
    root = building.root
    for path in sorted(building.layers, key=lambda p: p.count(".")):
        _add(root, path, building.layers[path])
    building.weights.register(root, building.layers)
    _remove_unused(building.graph)
    building.graph.lint()
    network = Network(root, building.graph, class_name="Network")
    network.model, network.names = model, names
    keys = set(network.state_dict())
    network.stored = {key: entry for key, entry in building.weights.stored.items() if key in keys}
    network.eval()
    return network


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
    model = model if model is not None else network.model
    if model is None:
        raise InvalidModel("this network does not remember its model.", next="from_module(network, model)")
    initializers = dict(model.graph.initializers)
    state: dict[str, torch.Tensor] = network.state_dict()
    for name, array in gather(stored, state, initializers).items():
        value = initializers[name]
        tensor = ir.Tensor(np.ascontiguousarray(array), dtype=value.const_value.dtype, name=name)  # type: ignore[union-attr]
        value.const_value = tensor
    return model
