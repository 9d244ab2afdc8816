"""Growing concatenations, as dense blocks have them, written one step at a time: the numbers are the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

JOINS = (torch.cat, torch.concat, torch.concatenate)


def step_by_step(graph: fx.Graph) -> fx.Graph:
    """The graph, or a copy in which a concatenation takes the one that it continues: cat([cat([a, b]), c]) for cat([a, b, c])."""
    if not any(_is_join(n) and (len(n.args[0]) == 1 or _continued(n) is not None) for n in graph.nodes):
        return graph
    copy = fx.Graph()
    copy.output(copy.graph_copy(graph, {}))
    copy.owning_module = graph.owning_module
    for node in list(copy.nodes):
        if not _is_join(node):
            continue
        if len(node.args[0]) == 1:
            node.replace_all_uses_with(node.args[0][0])
            copy.erase_node(node)
    done: dict[fx.Node, tuple[Any, ...]] = {n: tuple(n.args[0]) for n in copy.nodes if _is_join(n)}
    earlier: dict[tuple[Any, ...], fx.Node] = {}
    for node, parts in done.items():
        axis = _axis(node)
        size = next((k for k in range(len(parts) - 1, 1, -1) if (axis, *parts[:k]) in earlier), 0)
        if size:
            node.args = ([earlier[(axis, *parts[:size])], *parts[size:]], *node.args[1:])
        earlier.setdefault((axis, *parts), node)
    return copy


def _is_join(node: fx.Node) -> bool:
    if node.op != "call_function" or node.target not in JOINS or not node.args:
        return False
    return isinstance(node.args[0], list | tuple) and all(isinstance(part, fx.Node) for part in node.args[0]) and len(node.args[0]) > 0


def _axis(node: fx.Node) -> Any:
    return node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)


def _continued(node: fx.Node) -> fx.Node | None:
    """A concatenation whose parts are the first ones of this."""
    parts = tuple(node.args[0])
    for other in parts[0].users:
        same = other is not node and _is_join(other) and _axis(other) == _axis(node)
        if same and 1 < len(other.args[0]) < len(parts) and tuple(other.args[0]) == parts[: len(other.args[0])]:
            return other
    return None
