"""The few ways in which passes change a graph: every new node typed, shaped and named, and marked with its source layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir import card
from niudao.ir.build import infer, plain
from niudao.ir.validate import subgraphs
from niudao.ir.values import claim

Array = np.ndarray[Any, Any]


def graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph and every graph inside it."""
    stack = [model.graph]
    while stack:
        graph = stack.pop()
        yield graph
        stack.extend(g for node in graph for g in subgraphs(node))


class Edit:
    """Changes to one graph.

    Args:
        graph: The graph; names are kept unique within it, its subgraphs and its surroundings.
        model: The model it belongs to, whose names must not be taken again.
    """

    def __init__(self, graph: ir.Graph, model: ir.Model) -> None:
        self.graph = graph
        self._taken: set[str] = set()
        for g in graphs(model):
            self._taken |= {v.name or "" for v in g.inputs} | set(g.initializers)
            for node in g:
                self._taken |= {v.name or "" for v in node.outputs} | {node.name or ""}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def unique(self, name: str) -> str:
        """`name`, or `name_1`, `name_2`, ... whichever is still free."""
        return claim(name, self._taken)

    def const(self, value: Any, dtype: Any = np.int64) -> ir.Value:
        """A small constant; equal ones are shared."""
        array = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants or self._constants[key].name not in self.graph.initializers:
            self._constants[key] = self.weight(ir.tensor(array), "const")
        return self._constants[key]

    def weight(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """A new initializer."""
        name = self.unique(name)
        tensor.name = name
        value = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def lazy(self, load: Callable[[], Array], shape: Sequence[int], dtype: ir.DataType, name: str) -> ir.Value:
        """A new initializer that is computed when somebody asks for it: big weights are never held twice."""
        return self.weight(lazy_tensor(load, shape, dtype), name)

    def nodes(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        *,
        before: ir.Node,
        like: ir.Node,
        outputs: int = 1,
        name: str = "",
        **attributes: Any,
    ) -> list[ir.Value]:
        """Insert a node before another one; it belongs to the same source layer as `like`."""
        attrs = {k: plain(v) for k, v in attributes.items() if v is not None}
        node = ir.node(op_type, list(inputs), attributes=attrs, num_outputs=outputs, name=self.unique(name or like.name or op_type.lower()))
        carry(like, node)
        for value in node.outputs:
            value.name = self.unique(f"{node.name}_out" if outputs == 1 else f"{node.name}_out{value.index()}")
        infer(node)
        before.prepend(node)
        return list(node.outputs)

    def node(
        self, op_type: str, inputs: Sequence[ir.Value | None], *, before: ir.Node, like: ir.Node, name: str = "", **attributes: Any
    ) -> ir.Value:
        """`nodes` for the usual node with one output."""
        return self.nodes(op_type, inputs, before=before, like=like, name=name, **attributes)[0]

    def replace(self, old: ir.Value, new: ir.Value) -> bool:
        """Let everybody who used `old` use `new`, which takes over its place and name among the graph's outputs.

        Returns:
            False, and nothing done, where a graph output would become a graph input, a weight or another output.
        """
        if old.is_graph_output():
            if new.producer() is None or new.is_graph_output():
                return False
            if new.producer().graph is not self.graph:  # type: ignore[union-attr]
                return False
            name = old.name
            props = dict(old.metadata_props)
            old.name = self.unique(f"{name}_was")
            new.name = name
            new.metadata_props.update(props)
        elif new.producer() is not None and old.name and new.name and not new.is_graph_output() and new.name.endswith("_out"):
            # an inner value made by a pass takes the name it replaces, so that people find it
            new.name, old.name = old.name, new.name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        return True

    def drop(self, node: ir.Node) -> None:
        """Take a node out whose outputs nobody uses, and then those before it that only it used."""
        stack = [node]
        while stack:
            current = stack.pop()
            if current.graph is not self.graph or any(v.uses() or v.is_graph_output() for v in current.outputs):
                continue
            before = [v for v in current.inputs if v is not None]
            self.graph.remove(current, safe=True)
            for value in before:
                producer = value.producer()
                if producer is not None:
                    stack.append(producer)
                elif not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                    self.graph.initializers.pop(value.name or "", None)


def lazy_tensor(load: Callable[[], Array], shape: Sequence[int], dtype: ir.DataType) -> ir.LazyTensor:
    """A tensor that is computed when somebody asks for it, each time anew."""
    return ir.LazyTensor(
        lambda: ir.Tensor(np.asarray(load(), order="C"), dtype=dtype), dtype=dtype, shape=ir.Shape(tuple(shape)), cache=False
    )


def carry(old: ir.Node, new: ir.Node) -> None:
    """The new node answers to the old one's source layer."""
    for key in (card.LAYER, card.LAYER_TYPE):
        if key in old.metadata_props:
            new.metadata_props.setdefault(key, old.metadata_props[key])


def sole_user(value: ir.Value) -> ir.Node | None:
    """The one node that uses a value, which is no graph output; else None."""
    if value.is_graph_output():
        return None
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 else None


def array(value: ir.Value | None, limit: int = 1 << 22) -> Array | None:
    """The content of a weight of at most `limit` elements, else None."""
    if value is None or value.const_value is None or value.is_graph_input() or value.const_value.size > limit:
        return None
    return np.asarray(value.const_value.numpy())
