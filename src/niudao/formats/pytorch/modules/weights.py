"""Initializers as parameters and buffers: where each lives in the network, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn

from niudao.errors import InvalidModel
from niudao.formats.pytorch.modules.names import identifier, path_of, prefixes

Pick = Callable[[torch.Tensor], torch.Tensor]
"""How a layer's own parameter lies in an initializer: elements may be moved or left out, never computed."""

Own = int | ir.Value | tuple[int | ir.Value, Pick]
"""What a layer owns: an input of the node by its number, or a value, and how the layer's parameter lies in it."""

DTYPES: dict[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
}

_AS_BITS = {torch.bfloat16: np.int16, torch.float8_e4m3fn: np.int8, torch.float8_e5m2: np.int8}


def to_tensor(array: np.ndarray[Any, Any], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of its own with an array's content; bfloat16 and float8 arrays as `ml_dtypes` has them."""
    array = np.array(array, order="C", copy=True)
    bits = _AS_BITS.get(dtype)
    return torch.from_numpy(array.view(bits)).view(dtype) if bits is not None else torch.from_numpy(array)


def to_array(tensor: torch.Tensor, dtype: ir.DataType) -> np.ndarray[Any, Any]:
    """The way back: an array of the initializer's own type, which may share the tensor's memory."""
    wanted = DTYPES[dtype]
    tensor = tensor.detach().to("cpu", wanted).contiguous()
    bits = _AS_BITS.get(wanted)
    if bits is None:
        return np.asarray(tensor.numpy())
    return np.asarray(tensor.view(torch.int16 if bits is np.int16 else torch.int8).numpy()).view(dtype.numpy())


@dataclass(frozen=True)
class Stored:
    """What one entry of the state dict holds.

    Attributes:
        initializer: Name of the initializer.
        pick: How the entry lies in the initializer; None where they are the same.
        use: The only place that this entry stands for, as a node's first output and the number of its input, where a file has one
            initializer for several things that a training network keeps apart.
    """

    initializer: str
    pick: Pick | None = None
    use: tuple[str, int] | None = None


@dataclass
class Weights:
    """The initializers of a network under construction.

    Attributes:
        graph: Where `get_attr` nodes are made.
        stored: Key of the state dict -> what it holds.
    """

    graph: fx.Graph
    stored: dict[str, Stored] = field(default_factory=dict)
    _owners: dict[ir.Value, list[str]] = field(default_factory=dict)
    _nodes: dict[ir.Value, fx.Node] = field(default_factory=dict)
    _statistics: set[ir.Value] = field(default_factory=set)
    _private: dict[ir.Value, Stored] = field(default_factory=dict)

    def private(self, value: ir.Value, name: str, node: ir.Node, i: int) -> ir.Value:
        """A weight of one input alone, with the content of an initializer that others use too."""
        made = ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)
        self._private[made] = Stored(value.name or "", use=(node.outputs[0].name or "", i))
        return made

    def _entry(self, value: ir.Value, pick: Pick | None = None) -> Stored:
        return self._private.get(value) or Stored(value.name or "", pick)

    def owned(self, value: ir.Value) -> bool:
        """Whether a layer holds this initializer already."""
        return value in self._owners

    def seen(self, value: ir.Value) -> bool:
        """Whether the initializer is used by itself, outside a layer that owns it."""
        return value in self._nodes

    def node(self, value: ir.Value, *, statistic: bool = False) -> fx.Node:
        """The initializer in the graph; where it will be registered is settled by `register`."""
        if statistic:
            self._statistics.add(value)
        if value not in self._nodes:
            node = self.graph.create_node(
                "get_attr", "pending", (), {}, name=identifier((value.name or "weight").rsplit(".", 1)[-1], "weight")
            )
            self._nodes[value] = node
        return self._nodes[value]

    def give(self, layer: nn.Module, path: str, owns: Mapping[str, tuple[ir.Value, Pick | None]]) -> None:
        """Make the initializers the layer's own parameters and buffers, in place of those it was made with.

        Raises:
            ValueError: A shape differs from what the layer was made with.
        """
        buffers = dict(layer.named_buffers(recurse=False))
        for name, (value, pick) in owns.items():
            tensor = tensor_of(value)
            tensor = tensor if pick is None else pick(tensor).contiguous()
            made = getattr(layer, name)
            if tuple(made.shape) != tuple(tensor.shape):
                raise ValueError(f"{value.name} has shape {tuple(tensor.shape)}, the layer's {name} {tuple(made.shape)}")
            if name in buffers:
                layer.register_buffer(name, tensor)
            else:
                layer.register_parameter(name, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
            key = f"{path}.{name}"
            self.stored[key] = self._entry(value, pick)
            self._owners.setdefault(value, []).append(key)

    def register(self, root: nn.Module, layers: Iterable[str], *, apart: bool) -> None:
        """Register what no layer owns at the root, dots nesting, and point the `get_attr` nodes at it; `apart` from layers of torch's."""
        leaves = set(layers)
        for value, node in self._nodes.items():
            if node._erased:
                continue
            keys = self._owners.get(value)
            if keys and self.stored[keys[0]].pick is None:
                node.target = keys[0]
                continue
            key = path_of(value.name or "")
            trained = _trains(value) and value not in self._statistics
            if apart and key.rpartition(".")[0] in leaves:
                key = key.replace(".", "_")
            while not _attach(root, key, tensor_of(value), parameter=trained, leaves=leaves):
                key = f"{key.replace('.', '_')}_"
            node.target = key
            self.stored[key] = self._entry(value)


def tensor_of(value: ir.Value) -> torch.Tensor:
    """An initializer's content as a tensor of its own."""
    held = value.const_value
    if held is None or held.dtype not in DTYPES:
        raise TypeError(f"{value.name} holds {held.dtype if held is not None else 'nothing'}, which torch has no type for")
    return to_tensor(held.numpy(), DTYPES[held.dtype])


def _trains(value: ir.Value) -> bool:
    held = value.const_value
    return held is not None and held.size > 1 and held.dtype.is_floating_point() and held.dtype.bitwidth >= 16


def _attach(root: nn.Module, key: str, tensor: torch.Tensor, *, parameter: bool, leaves: set[str]) -> bool:
    """Register under a dotted name; False where something stands in the way."""
    holder = root
    for inner in prefixes(key):
        name = inner.rsplit(".", 1)[-1]
        below = holder._modules.get(name)
        if below is None:
            if hasattr(holder, name):
                return False
            below = nn.Module()
            holder.add_module(name, below)
        holder = below
    name = key.rsplit(".", 1)[-1]
    if hasattr(holder, name) or key in leaves:
        return False
    if parameter:
        holder.register_parameter(name, nn.Parameter(tensor))
    else:
        holder.register_buffer(name, tensor)
    return True


def gather(
    stored: Mapping[str, Stored], state: Mapping[str, torch.Tensor], values: Mapping[str, ir.Value]
) -> dict[str, np.ndarray[Any, Any]]:
    """Initializer name (key of the state where that stands for one use alone) -> new content, from a network's state.

    Args:
        stored: What each entry of the state holds.
        state: The network's state dict.
        values: The initializers of the model to write into, by name.

    Raises:
        InvalidModel: An entry is missing, or has another shape than its initializer.
    """
    made: dict[str, torch.Tensor] = {}
    for key, entry in stored.items():
        value = values.get(entry.initializer)
        if value is None or value.const_value is None:
            raise InvalidModel(f"the model holds no weight {entry.initializer!r}, which the network's {key!r} was made from.")
        if key not in state:
            raise InvalidModel(f"the network has lost its entry {key!r}, which holds the weight {entry.initializer!r}.")
        tensor = state[key].detach().to("cpu")
        name = entry.initializer if entry.use is None else key
        if name not in made:
            made[name] = tensor_of(value)
        whole = made[name]
        wanted = whole.shape if entry.pick is None else entry.pick(whole).shape
        if tensor.shape != wanted:
            raise InvalidModel(
                f"the network's {key!r} has another shape than the model's weight {entry.initializer!r}: it was changed, not only trained.",
                expected=str(tuple(wanted)),
                got=str(tuple(tensor.shape)),
                next="read the changed network itself: niudao.formats.pytorch.read_module",
            )
        _put(whole, entry.pick, tensor)
    types = {entry.initializer if entry.use is None else key: values[entry.initializer].const_value for key, entry in stored.items()}
    return {name: to_array(tensor, types[name].dtype) for name, tensor in made.items()}  # type: ignore[union-attr]


def _put(whole: torch.Tensor, pick: Pick | None, part: torch.Tensor) -> None:
    """Write the part back to where `pick` takes it from: through the view, or through the places of its elements."""
    target = whole if pick is None else pick(whole)
    if pick is None or target.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr():
        target.copy_(part)
        return
    places = pick(torch.arange(whole.numel()).reshape(whole.shape))
    whole.view(-1)[places.reshape(-1)] = part.to(whole.dtype).reshape(-1)
