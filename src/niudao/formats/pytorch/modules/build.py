"""A network under construction: values of the model as FX nodes, constants kept out of the graph, layers put at their paths."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn

from niudao.errors import Refusal
from niudao.formats.pytorch.modules.call import Call, Refused, short
from niudao.formats.pytorch.modules.folding import CONFIGURES, Folding, Held
from niudao.formats.pytorch.modules.names import Paths, identifier, path_of
from niudao.formats.pytorch.modules.numbers import Number, Numbers
from niudao.formats.pytorch.modules.sizes import arithmetic
from niudao.formats.pytorch.modules.table import CONVERTERS
from niudao.formats.pytorch.modules.weights import DTYPES, Own, Pick, Weights
from niudao.ir import card
from niudao.ir.operators import is_weight

if TYPE_CHECKING:
    from typing import Literal

_OF_THE_CODE = frozenset("self torch device inf nan getattr slice float int len math operator".split())
"""Names that the network's code uses, so that no input may have them."""


class Building:
    """What `to_module` fills while it walks the model.

    Args:
        model: A model with types and shapes inferred; it is only read.
        names: As in `to_module`.
    """

    def __init__(self, model: ir.Model, names: Literal["source", "torch"]) -> None:
        self.model = model
        self.names = names
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.weights = Weights(self.graph)
        self.refusals: list[Refusal] = []
        self.paths = Paths(path_of(card.layer_of(n)) for n in model.graph)
        self.layers: dict[str, nn.Module] = {}
        self._held: dict[ir.Value, Held] = {}
        self._constants = Folding(self._held)
        self._absorbed: set[ir.Node] = set()
        self._owners: dict[tuple[Any, ...], str] = {}
        self._reference: fx.Node | None = None

    # the walk

    def run(self) -> None:
        """Build the whole graph; what could not be said is in `refusals`."""
        graph = self.model.graph
        for value in graph.inputs:
            node = self.graph.placeholder(self._free_name(value.name or "input"))
            self._held[value] = node
            if self._reference is None and value.dtype == ir.DataType.FLOAT:
                self._reference = node
        self.walk(graph)
        outputs = []
        try:
            outputs = [self.tensor(v) for v in graph.outputs] if not self.refusals else []
        except Refused as e:
            self.refusals.append(e.refusal)
        self.graph.output(outputs[0] if len(outputs) == 1 else tuple(outputs))

    def _free_name(self, name: str) -> str:
        name, taken = identifier(name, "input"), {n.target for n in self.graph.nodes} | _OF_THE_CODE
        while name in taken:
            name += "_"
        return name

    def walk(self, graph: ir.Graph) -> None:
        """Convert the nodes in order."""
        for node in graph:
            if node not in self._absorbed and not self._constants.fold(node):
                self._convert(node)

    def absorb(self, node: ir.Node, result: Held) -> None:
        """A later node that has been said already, by this value."""
        self._absorbed.add(node)
        self._held[node.outputs[0]] = result

    def inline(self, graph: ir.Graph, inputs: Sequence[Held]) -> tuple[Held, ...]:
        """A graph's outputs, built here on these inputs; a graph can be inlined several times."""
        for value, held in zip(graph.inputs, inputs, strict=False):
            self._held[value] = held
        for node in graph:
            self._constants.forget(node)
            for value in node.outputs:
                self._held.pop(value, None)
        self.walk(graph)
        return tuple(self.held(v) for v in graph.outputs)

    def _convert(self, node: ir.Node) -> None:
        call = Call(self, node)
        last = next(iter(reversed(self.graph.nodes)), None)
        made: Any = None
        try:
            made = arithmetic(call)
            if made is None:
                made = self._by_table(call)
        except Refused as e:
            self.refusals.append(e.refusal)
        results = made if isinstance(made, tuple) else (made,)
        for i, value in enumerate(node.outputs):
            result = results[i] if i < len(results) else None
            if result is None and (value.uses() or value.is_graph_output()):
                if not self.refusals:
                    self.refusals.append(Refusal(call.layer, call.op, f"its output {i} is not made"))
                result = self.graph.call_function(_refused, ())
            if result is not None:
                self._held[value] = result
        for step in reversed(self.graph.nodes):  # the source writer asks whose layer a call belongs to
            if step is last:
                break
            step.meta.setdefault("niudao.layer", call.layer)

    def _by_table(self, call: Call) -> Any:
        convert = CONVERTERS.get(call.op)
        if convert is not None:
            return convert(call)
        function = self.model.functions.get((call.node.domain, call.node.op_type, call.node.overload or ""))
        if function is not None:
            return self._function(call, function)
        call.refuse("torch has no such operator in niudao's table")

    def _function(self, call: Call, function: ir.Function) -> tuple[Held, ...]:
        clone = function.graph.clone() if hasattr(function.graph, "clone") else function.graph
        for node in clone:
            for name, attribute in list(node.attributes.items()):
                if attribute.is_ref():
                    given = call.node.attributes.get(attribute.ref_attr_name or "") or function.attributes.get(
                        attribute.ref_attr_name or ""
                    )
                    node.attributes.pop(name)
                    if given is not None and given.value is not None:
                        node.attributes[name] = ir.Attr(name, given.type, given.value)
            node.metadata_props.setdefault(card.LAYER, call.layer)
        inputs: list[Held] = []
        for inner, outer in zip(clone.inputs, call.node.inputs, strict=False):
            if outer is not None:
                inner.type, inner.shape = outer.type, outer.shape
                if is_weight(outer):
                    inner.const_value = outer.const_value
            inputs.append(self.held(outer) if outer is not None else self.graph.call_function(_refused, ()))
        self._infer(clone)
        return self.inline(clone, inputs)

    def _infer(self, graph: ir.Graph) -> None:
        from niudao.errors import InvalidModel
        from niudao.ir.build import infer

        for node in graph:
            for i, value in enumerate(node.outputs):
                value.name = value.name or f"{node.op_type}_{i}"
            if node.domain in ("", "ai.onnx"):
                with contextlib.suppress(InvalidModel):  # a shape that stays unknown is refused by whoever needs it
                    infer(node)

    # values

    def known(self, value: ir.Value) -> np.ndarray[Any, Any] | None:
        """A value's content where it does not depend on the network's inputs."""
        return self._constants.known(value)

    def held(self, value: ir.Value) -> Held:
        """What a value is in the graph: a tensor, or numbers."""
        found = self._held.get(value)
        return found if found is not None else self.tensor(value)

    def tensor(self, value: ir.Value, *, statistic: bool = False) -> fx.Node:
        """A value as a tensor in the graph."""
        held = self._held.get(value)
        if isinstance(held, fx.Node):
            return held
        if isinstance(held, Numbers):
            return self._literal(held.values[0] if held.scalar else list(held.values), value.dtype)
        if is_weight(value):
            if value.const_value is not None and value.const_value.dtype not in DTYPES:
                raise Refused(Refusal(value.name or "", "initializer", f"torch has no type for {value.const_value.dtype.name}"))
            return self.weights.node(value, statistic=statistic)
        array = self.known(value)
        if array is None:
            raise Refused(Refusal(value.name or "", "value", "is used before it is made"))
        if array.size > CONFIGURES:
            tensor = ir.Tensor(np.ascontiguousarray(array), name=value.name)
            made = ir.Value(name=value.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
            node = self.weights.node(made, statistic=True)
        else:
            node = self._literal(array.tolist(), value.dtype or ir.DataType.from_numpy(array.dtype))
        self._held[value] = node
        return node

    def _literal(self, content: Any, dtype: ir.DataType | None) -> fx.Node:
        """A tensor written out in the code, on the device of the network's first input."""
        wanted = DTYPES.get(dtype or ir.DataType.INT64, torch.int64)
        given: dict[str, Any] = {"dtype": wanted}
        first = next((n for n in self.graph.nodes if n.op == "placeholder"), None)
        if wanted is torch.float32 and self._reference is not None:
            given["dtype"] = self.graph.call_function(getattr, (self._reference, "dtype"))
        if first is not None:
            given["device"] = self.graph.call_function(getattr, (first, "device"))
        return self.graph.call_function(torch.tensor, (content,), given)

    def numbers(self, value: ir.Value, call: Call) -> Numbers:
        """A value as Python numbers."""
        held = self._held.get(value)
        if isinstance(held, Numbers):
            return held
        array = self.known(value)
        if array is not None:
            return Numbers(tuple(array.reshape(-1).tolist()), array.ndim == 0)
        if not isinstance(held, fx.Node):
            call.refuse(f"{value.name} is not known")
        if value.shape is None or not value.shape.is_static():
            call.refuse(f"how many numbers {value.name} holds is known only while the network runs")
        if len(value.shape) == 0:
            return Numbers((self.graph.call_method("item", (held,)),), True)
        items = self.graph.call_method("tolist", (held,))
        return Numbers(tuple(self.graph.call_function(operator.getitem, (items, i)) for i in range(math.prod(value.shape.numpy()))))

    def single(self, value: ir.Value) -> Number | None:
        """The one number that a value holds, where no tensor is needed for it."""
        held = self._held.get(value)
        if isinstance(held, Numbers):
            return held.values[0] if len(held.values) == 1 else None
        array = self.known(value) if self._constants.folded(value) else None
        return short(array.reshape(-1)[0].item()) if array is not None and array.size == 1 else None

    def is_numbers(self, value: ir.Value | None) -> bool:
        """Whether a value is held as numbers of which some are known only while the network runs."""
        return value is not None and isinstance(self._held.get(value), Numbers)

    def floating(self, x: Any) -> fx.Node:
        """A tensor in the float type of the network's first float input."""
        if self._reference is None:
            return self.graph.call_method("to", (x, torch.float32))
        return self.graph.call_method("type_as", (x, self._reference))

    # layers

    def layer_path(self, node: ir.Node, kind: str) -> str:
        """A free path for a layer of this node."""
        return self.paths.layer(path_of(card.layer_of(node)), kind)

    def place(self, layer: nn.Module, path: str, args: Sequence[Any]) -> fx.Node:
        """Put a layer at a path that was taken for it, and call it."""
        self.layers[path] = layer
        return self.graph.create_node("call_module", path, tuple(args), {}, name=identifier(path.replace(".", "_"), "layer"))

    def weighted(self, call: Call, make: Callable[[], nn.Module], owns: Mapping[str, Own], xs: Sequence[Any]) -> fx.Node | None:
        """As `Call.weighted`."""
        values: dict[str, tuple[ir.Value, Pick | None]] = {}
        for name, place in owns.items():
            i, pick = place if isinstance(place, tuple) else (place, None)
            value = call.value(i) if isinstance(i, int) else i
            if value is None:
                continue
            if not is_weight(value) or value.const_value is None or value.const_value.dtype not in DTYPES:
                return None
            values[name] = (value, pick)
        try:
            with torch.device("meta"):
                layer = make()
        except ValueError as e:
            call.refuse(f"torch's own layer refuses: {e}")
        key = (type(layer).__name__, layer.extra_repr(), tuple(sorted((n, v.name, repr(p)) for n, (v, p) in values.items())))
        if key in self._owners:
            path = self._owners[key]
            return self.graph.create_node("call_module", path, tuple(xs), {}, name=identifier(path.replace(".", "_"), "layer"))
        if any(self.weights.owned(v) for v, _ in values.values()):
            return None
        picked = [v for v, pick in values.values() if pick is not None]
        if self.names == "source":
            owner = _owner({n: v.name or "" for n, (v, _) in values.items()})
            if picked or owner is None or not self.paths.free(owner):
                return None
            path = self.paths.take(owner)
        else:
            if any(self.weights.seen(v) or len({u.node for u in v.uses()}) > 1 or v.is_graph_output() for v in picked):
                return None
            owner = _owner({n: v.name or "" for n, (v, _) in values.items()}, all_of_them=False)
            free = owner is not None and self.paths.free(owner)
            path = self.paths.take(owner) if owner and free else self.layer_path(call.node, type(layer).__name__.lower())
        self._owners[key] = path
        try:
            self.weights.give(layer, path, values)
        except ValueError as e:
            call.refuse(str(e))
        for name, buffer in list(layer.named_buffers(recurse=False)):
            if buffer.is_meta:
                layer.register_buffer(name, torch.zeros(buffer.shape, dtype=buffer.dtype))
        return self.place(layer, path, xs)


def _owner(names: Mapping[str, str], *, all_of_them: bool = True) -> str | None:
    """The path whose own parameters these initializers are by name, all or some of them; None if there is none that stays as it is."""
    owners = {n.removesuffix(f".{own}") for own, n in names.items() if n.endswith(f".{own}")}
    if len(owners) != 1 or (all_of_them and not all(n.endswith(f".{own}") for own, n in names.items())):
        return None
    owner = owners.pop()
    return owner if owner and path_of(owner) == owner else None


def _refused() -> None:
    """Stands in a graph that is never run, where a node was refused."""
