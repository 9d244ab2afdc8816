"""Is this model whole? Every reader's result passes here before anybody else sees it.

The rules are those of the canonical form: the pinned opset, every name defined once and before it is used, every operator
known, every weight as large as it says and of a shape that its operator can use. Nothing is allocated and nothing changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import onnx
import onnx_ir as ir

from niudao.errors import InvalidModel, Refusal, Unsupported, Where
from niudao.ir import OPSET, card
from niudao.ir.build import infer
from niudao.ir.spending import check_spending

MAX_NESTING = 100
"""Subgraphs inside subgraphs; deeper ones would exhaust the stack of whoever walks them."""


def validate(model: ir.Model, *, where: Where) -> None:
    """Check that a model keeps the rules of the intermediate representation; the model is left as it is.

    Args:
        model: The model.
        where: The file it came from, for the message.

    Raises:
        InvalidModel: A rule is broken; the message names the node or value.
        Unsupported: Operators that ONNX lacks at the pinned opset, all of them.
        LimitError: The network asks for more memory or work than its budget.
    """
    graphs = list(_graphs(model.graph, where))
    bodies = [f.graph for f in model.functions.values()]
    inner = [g for body in bodies for g in _graphs(body, where)]
    _check_opset(model, [n for g in (*graphs, *inner) for n in g], where)
    _check_operators(model, [n for g in (*graphs, *inner) for n in g], where)
    if not model.graph.outputs:
        raise InvalidModel("the network has no output.", where=where, expected="at least one graph output")
    for graph in graphs:
        for name, value in graph.initializers.items():
            _check_initializer(name, value, where)
    _check_scope(model.graph, {}, where)
    for body in bodies:
        _check_scope(body, {}, where)
    check_spending(model, where=where)
    for graph in graphs:
        for value in (*graph.inputs, *graph.outputs, *(v for n in graph for v in n.outputs)):
            _check_dims(value, where)
        for node in graph:
            check_weights(node, where)
            _check_rule(node, where)


def _graphs(graph: ir.Graph, where: Where, depth: int = 0) -> Iterator[ir.Graph]:
    """The graph and those inside it, outermost first, without recursion that a hostile file could exhaust."""
    stack = [(graph, depth)]
    while stack:
        current, level = stack.pop()
        if level > MAX_NESTING:
            raise InvalidModel("graphs are nested too deeply.", where=where, expected=f"at most {MAX_NESTING} levels")
        yield current
        stack.extend((g, level + 1) for node in current for g in subgraphs(node))


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """The bodies that a node carries as attributes (If, Loop, Scan, SequenceMap)."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def _at(where: Where, node: ir.Node) -> Where:
    return replace(where, node=card.layer_of(node))


def _check_opset(model: ir.Model, nodes: Iterable[ir.Node], where: Where) -> None:
    got = model.opset_imports.get("")
    if got != OPSET and any(n.domain in ("", "ai.onnx") for n in nodes):
        raise InvalidModel(
            "the network is not at the opset that models have in memory.",
            where=where,
            expected=f"opset {OPSET}",
            got=f"opset {got}" if got is not None else "no opset",
            next="niudao.read lifts files of any opset",
        )


def _check_operators(model: ir.Model, nodes: Iterable[ir.Node], where: Where) -> None:
    local = {(f.domain, f.name) for f in model.functions.values()}
    refused: list[Refusal] = []
    for node in nodes:
        if node.domain not in ("", "ai.onnx") or (node.domain, node.op_type) in local:
            continue
        schema = _schema(node.op_type)
        if schema is None:
            refused.append(Refusal(card.layer_of(node), node.op_type, "no ONNX operator has this name"))
        elif schema.deprecated:
            refused.append(Refusal(card.layer_of(node), node.op_type, "ONNX has withdrawn this operator"))
    if refused:
        raise Unsupported(f"ONNX at opset {OPSET}", refused, where=where)


def _schema(op_type: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, OPSET, "")
    except onnx.defs.SchemaError:
        return None


def _check_initializer(name: str, value: ir.Value, where: Where) -> None:
    tensor = value.const_value
    if tensor is None:
        raise InvalidModel(f"the weight {name!r} has no content.", where=where)
    dims = list(tensor.shape)
    if any(not isinstance(d, int) or d < 0 for d in dims):
        raise InvalidModel(f"the weight {name!r} has no proper shape.", where=where, expected="whole numbers of at least 0", got=str(dims))
    if value.shape is not None and list(value.shape) != dims:
        raise InvalidModel(
            f"the weight {name!r} is declared with another shape than it has.", where=where, expected=str(value.shape), got=str(dims)
        )
    if value.dtype is not None and value.dtype != tensor.dtype:
        raise InvalidModel(
            f"the weight {name!r} is declared with another type than it has.", where=where, expected=value.dtype.name, got=tensor.dtype.name
        )
    if tensor.dtype == ir.DataType.STRING:
        return
    count = 1
    for d in dims:
        count *= int(d)  # type: ignore[arg-type]  # Python integers: a product that overflows 64 bits must not wrap
    want, held = (count * tensor.dtype.bitwidth + 7) // 8, held_bytes(tensor)
    if held is not None and held != want:
        raise InvalidModel(
            f"the weight {name!r} holds {held:,} bytes.",
            where=where,
            expected=f"{want:,} bytes for {dims} {tensor.dtype.name}",
            got=f"{held:,}",
        )


def held_bytes(tensor: ir.TensorProtocol) -> int | None:
    """Bytes that a tensor really holds, where that can be told without making its array."""
    if isinstance(tensor, ir.ExternalTensor):
        return tensor.length
    if isinstance(tensor, ir.LazyTensor):
        return None
    raw = getattr(tensor, "raw", None)
    if isinstance(raw, onnx.TensorProto):
        return len(raw.raw_data) if raw.HasField("raw_data") else None
    held = getattr(raw, "nbytes", None)
    return int(held) if isinstance(held, int) and tensor.dtype.bitwidth >= 8 else None


def _check_dims(value: ir.Value, where: Where) -> None:
    for d in value.shape or ():
        if isinstance(d, int) and d < 0:
            raise InvalidModel(f"{value.name!r} has a negative dimension.", where=where, got=str(value.shape))


def _check_scope(graph: ir.Graph, outer: dict[str, ir.Value], where: Where) -> None:
    """Names are defined once and before they are used; subgraphs see what their surroundings have defined so far."""
    stack: list[tuple[ir.Graph, dict[str, ir.Value]]] = [(graph, outer)]
    while stack:
        current, seen_outside = stack.pop()
        seen = dict(seen_outside)
        own: set[str] = set()

        def define(value: ir.Value, what: str, seen: dict[str, ir.Value] = seen, own: set[str] = own) -> None:
            name = value.name
            if not name:
                raise InvalidModel(f"{what} has no name.", where=where)
            if name in own and seen[name] is not value:
                raise InvalidModel(f"two values are called {name!r}.", where=where, got=what)
            own.add(name)
            seen[name] = value

        for value in current.inputs:
            define(value, "a graph input")
        for value in current.initializers.values():
            define(value, "a weight")
        for node in current:
            for used in node.inputs:
                if used is not None and seen.get(used.name or "") is not used:
                    _undefined(current, node, used, where)
            stack.extend((g, dict(seen)) for g in subgraphs(node))
            for value in node.outputs:
                if value.name == "":  # an optional output that nobody wants
                    continue
                define(value, f"an output of {card.layer_of(node)!r}")
        for value in current.outputs:
            if seen.get(value.name or "") is not value:
                raise InvalidModel(f"nothing computes the output {value.name!r}.", where=where)


def _undefined(graph: ir.Graph, node: ir.Node, value: ir.Value, where: Where) -> None:
    producer = value.producer()
    if producer is None or producer.graph is not graph:
        raise InvalidModel(f"{card.layer_of(node)} ({node.op_type}) uses {value.name!r}, which nothing defines.", where=_at(where, node))
    fault = "its inputs depend on its own output" if _reaches(producer, node) else f"{value.name!r} is computed only later"
    raise InvalidModel(
        f"{card.layer_of(node)} ({node.op_type}) cannot be computed: {fault}.", where=_at(where, node), expected="an acyclic, sorted graph"
    )


def _reaches(start: ir.Node, goal: ir.Node) -> bool:
    """Whether `start` needs what `goal` computes."""
    seen: set[ir.Node] = set()
    stack = [start]
    while stack:
        node = stack.pop()
        if node is goal:
            return True
        if node not in seen:
            seen.add(node)
            stack.extend(p for v in node.inputs if v is not None and (p := v.producer()) is not None)
    return False


def _dims(node: ir.Node, i: int) -> list[int | None] | None:
    value = node.inputs[i] if i < len(node.inputs) else None
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else None for d in value.shape]


def _want(node: ir.Node, i: int, got: int | None, want: int | None, what: str, where: Where) -> None:
    if got is not None and want is not None and got != want:
        value = node.inputs[i]
        raise InvalidModel(
            f"the weight {value.name if value else ''!r} of {card.layer_of(node)} ({node.op_type}) does not fit: {what}.",
            where=_at(where, node),
            expected=str(want),
            got=str(got),
        )


def check_weights(node: ir.Node, where: Where) -> None:
    """Channels, groups and vector lengths that ONNX's own shape rules let pass.

    Raises:
        InvalidModel: A weight does not fit its operator.
    """
    if node.domain not in ("", "ai.onnx"):
        return
    x, w = _dims(node, 0), _dims(node, 1)
    op = node.op_type
    if op in ("Conv", "ConvTranspose") and w is not None:
        group = node.attributes["group"].as_int() if "group" in node.attributes else 1
        if group < 1 or len(w) < 3:
            raise InvalidModel(
                f"{card.layer_of(node)} ({op}) has no proper kernel.",
                where=_at(where, node),
                expected="groups >= 1 and a kernel of rank >= 3",
                got=f"{group} groups, kernel {w}",
            )
        if x is not None and len(x) != len(w):
            raise InvalidModel(
                f"{card.layer_of(node)} ({op}) has a kernel of another rank than its input.",
                where=_at(where, node),
                expected=str(x),
                got=str(w),
            )
        channels = x[1] if x is not None else None
        if op == "Conv":
            _want(
                node,
                1,
                w[1] * group if w[1] is not None else None,
                channels,
                "kernel channels times groups are not the input's channels",
                where,
            )
        else:
            _want(node, 1, w[0], channels, "kernel channels are not the input's channels", where)
        first = w[0]
        if first is not None and first % group:
            raise InvalidModel(
                f"{card.layer_of(node)} ({op}): {first} channels cannot be split into {group} groups.", where=_at(where, node)
            )
        out = w[0] if op == "Conv" else w[1] * group if w[1] is not None else None
        bias = _dims(node, 2)
        if bias is not None and out is not None:
            _want(node, 2, bias[0] if len(bias) == 1 else -len(bias), out, "there must be one bias per output channel", where)
    elif op in ("BatchNormalization", "InstanceNormalization") and x is not None and len(x) > 1:
        for i in range(1, len(node.inputs)):
            vector = _dims(node, i)
            if vector is not None:
                _want(node, i, vector[0] if len(vector) == 1 else -len(vector), x[1], "there must be one number per channel", where)


def _check_rule(node: ir.Node, where: Where) -> None:
    """ONNX's shape rule for the operator accepts the inputs, and what it finds does not contradict the declared shapes."""
    if node.domain not in ("", "ai.onnx") or subgraphs(node) or any(v is not None and v.type is None for v in node.inputs):
        return
    saved = [(v, v.type, v.shape) for v in node.outputs]
    try:
        infer(node)
        found = [(v.type, v.shape) for v in node.outputs]
    except InvalidModel as e:
        raise InvalidModel(e.message, where=_at(where, node), expected=e.expected, got=e.got) from e
    finally:
        for value, type_, shape in saved:
            value.type, value.shape = type_, shape
    for (value, _, declared), (_, shape) in zip(saved, found, strict=True):
        if declared is None or shape is None:
            continue
        same = len(declared) == len(shape) and all(
            not (isinstance(a, int) and isinstance(b, int)) or a == b for a, b in zip(declared, shape, strict=True)
        )
        if not same:
            raise InvalidModel(
                f"{value.name!r}, computed by {card.layer_of(node)} ({node.op_type}), is declared with another shape than it has.",
                where=_at(where, node),
                expected=str(shape),
                got=str(declared),
            )
