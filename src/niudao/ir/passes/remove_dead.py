"""Drop what no output needs."""

from __future__ import annotations

import onnx_ir as ir

from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import graphs


@PASSES.register("remove_dead")
def remove_dead(model: ir.Model) -> Result:
    """Drop nodes, weights and local functions that no graph output depends on. Graph inputs stay, used or not.

    Requires: a sorted graph.
    Ensures: every node and weight is needed by an output.
    """
    nodes = weights = 0
    for graph in reversed(list(graphs(model))):  # inner graphs first: they use values of the outer ones
        for node in reversed(list(graph)):
            if not any(v.uses() or v.is_graph_output() for v in node.outputs):
                graph.remove(node, safe=True)
                nodes += 1
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del graph.initializers[name]
                weights += 1
    called = {(n.domain, n.op_type) for g in graphs(model) for n in g}
    stack = list(called)
    while stack:  # functions call functions
        function = next((f for f in model.functions.values() if (f.domain, f.name) == stack[-1]), None)
        stack.pop()
        for node in function or ():
            key = (node.domain, node.op_type)
            if key not in called:
                called.add(key)
                stack.append(key)
    unused = [k for k, f in model.functions.items() if (f.domain, f.name) not in called]
    for identifier in unused:
        del model.functions[identifier]
    changes = [f"removed {n} unused {what}" for n, what in ((nodes, "nodes"), (weights, "weights"), (len(unused), "functions")) if n]
    return Result(bool(changes), tuple(changes))
