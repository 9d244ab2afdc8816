"""Old operators in new words: every node of opset 1 to 28 becomes what it meant, said at the opset in memory.

An adapter is a small function that turns a node into its next version, in place. It is filed under the operator and the
opset at which the meaning changed:

    @until(13, "Squeeze", "Unsqueeze")
    def axes_as_input(lift: Lift, node: ir.Node) -> None: ...

A node of opset 9 runs through the adapters of its operator for 10, 11, 13, ... in order; when one renames the operator
(Upsample becomes Resize at 10) the rest of the new operator's adapters follow. Nodes an adapter puts beside it are written
in the newest form at once. Types and shapes are inferred node by node on the way, so that adapters may look at ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import Refusal, Where
from niudao.ir import card
from niudao.ir.build import plain
from niudao.ir.values import dims as dims
from niudao.ir.values import known as known
from niudao.ir.values import rank as rank
from niudao.ir.values import set_inputs as set_inputs

Adapter = Callable[["Lift", ir.Node], None]

ADAPTERS: dict[str, list[tuple[int, Adapter]]] = {}
"""Operator -> (opset at which the meaning changed, adapter), in ascending order of opset."""

_MODULES = ("experimental", "elementwise", "normalization", "shapes", "reductions", "images", "recurrent")
_loaded: list[str] = []


def until(opset: int, *ops: str) -> Callable[[Adapter], Adapter]:
    """File an adapter for nodes older than `opset`."""

    def decorate(adapter: Adapter) -> Adapter:
        for op in ops:
            ADAPTERS.setdefault(op, []).append((opset, adapter))
            ADAPTERS[op].sort(key=lambda pair: pair[0])
        return adapter

    return decorate


def next_adapter(op: str, version: int, done: int, past: Container[object]) -> tuple[int, Adapter] | None:
    """The next step of a node of opset `version` that already speaks opset `done`; `past` holds the steps taken."""
    if not _loaded:
        _loaded.extend(_MODULES)
        for module in _MODULES:
            import_module(f"{__name__}.{module}")
    steps = ADAPTERS.get(op, ())
    return next(((opset, step) for opset, step in steps if opset > version and opset >= done and step not in past), None)


class Lift:
    """One model on its way to the newest opset: what adapters build with, and what they have to say.

    Args:
        model: The model, changed in place.
        where: Its file.
    """

    def __init__(self, model: ir.Model, where: Where) -> None:
        self.model = model
        self.where = where
        self.notes: list[str] = []
        self.refusals: list[Refusal] = []
        self.taken: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes, int], ir.Value] = {}
        for graph in (model.graph, *model.graph.subgraphs(), *(f.graph for f in model.functions.values())):
            self.taken.update(v.name or "" for v in (*graph.inputs, *graph.initializers.values()))
            for node in graph:
                self.taken.add(node.name or "")
                self.taken.update(v.name or "" for v in node.outputs)

    def unique(self, name: str) -> str:
        """`name`, or `name_1`, `name_2`, ... whichever is still free."""
        candidate, k = name, 0
        while candidate in self.taken or not candidate:
            k += 1
            candidate = f"{name}_{k}"
        self.taken.add(candidate)
        return candidate

    def note(self, text: str) -> None:
        """Something the user should know, said once."""
        if text not in self.notes:
            self.notes.append(text)

    def refuse(self, node: ir.Node, reason: str, attribute: str | None = None) -> None:
        """This node cannot be said in new words."""
        op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        self.refusals.append(Refusal(card.layer_of(node), op, reason, attribute))

    def const(self, node: ir.Node, value: Any, dtype: ir.DataType | type[np.generic] = np.int64) -> ir.Value:
        """A small constant that `node` may read: a weight of the main graph, or a Constant node inside a function."""
        kind = dtype.numpy() if isinstance(dtype, ir.DataType) else np.dtype(dtype)
        array = np.asarray(value, dtype=kind)
        holder = node.graph
        inside = holder is not None and any(holder in (f, f.graph) for f in self.model.functions.values())
        key = (array.dtype.str, array.shape, array.tobytes(), id(holder) if inside else 0)
        if key in self._constants and not inside:
            return self._constants[key]
        name = self.unique(f"{node.name or node.op_type.lower()}_const")
        tensor = ir.Tensor(array, dtype=dtype if isinstance(dtype, ir.DataType) else None, name=name)
        if inside:
            return self.before(node, "Constant", value=tensor)
        made = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.model.graph.register_initializer(made)
        self._constants[key] = made
        return made

    def make(self, node: ir.Node, op: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], outputs: int = 1) -> ir.Node:
        """A new node that stands for a part of `node`, not yet in the graph."""
        attrs = {k: plain(v) for k, v in attributes.items() if v is not None}
        name = self.unique(f"{node.name or node.op_type.lower()}_{op.lower()}")
        new = ir.node(op, list(inputs), attributes=attrs, num_outputs=outputs, name=name)
        new.metadata_props.update(node.metadata_props)
        new.metadata_props.setdefault(card.LAYER, card.layer_of(node))
        for value in new.outputs:
            value.name = self.unique(f"{name}_out")
        return new

    def before(self, node: ir.Node, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Put a node, in the newest form, in front of `node`; returns its output, typed and shaped."""
        from niudao.formats.onnx.infer import infer_node

        new = self.make(node, op, inputs, attributes)
        holder = node.graph
        if holder is not None:
            holder.insert_before(node, new)
        infer_node(new)
        return new.outputs[0]

    def after(self, node: ir.Node, op: str, *inputs: ir.Value | None, output: int = 0, **attributes: Any) -> ir.Node:
        """Put a node, in the newest form, behind `node`: it takes the output's name and readers, and reads it as its first input."""
        old = node.outputs[output]
        new = self.make(node, op, [None, *inputs], attributes)
        holder = node.graph
        if holder is not None:
            holder.insert_after(node, new)
        self.take_over(old, new.outputs[0])
        new.replace_input_with(0, old)
        return new

    def take_over(self, old: ir.Value, new: ir.Value) -> None:
        """`new` becomes what `old` was: its name, its readers, its place among the outputs."""
        name = old.name
        new.shape, new.type = old.shape, old.type
        new.metadata_props.update(old.metadata_props)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = self.unique(f"{name}_inner")
        new.name = name

    def become(self, node: ir.Node, value: ir.Value) -> None:
        """Remove a node with one output; `value`, made by a node put before it, takes its place."""
        self.take_over(node.outputs[0], value)
        holder = node.graph
        if holder is not None:
            holder.remove(node, safe=True)

    def shorten(self, node: ir.Node, count: int) -> None:
        """Keep the first `count` outputs; those behind must be unused."""
        if len(node.outputs) > count:
            node.resize_outputs(count)


def used(value: ir.Value) -> bool:
    """Whether anything reads the value."""
    return bool(value.uses()) or value.is_graph_output()
