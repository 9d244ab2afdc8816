"""Which value of one network is which value of another.

Matched, in this order, and each value once:

    graph inputs and outputs, as the caller pairs them
    nodes of one source layer and operator, where both networks hold equally many
    what a layer hands on, where operators were fused or split
    nodes of one operator that are fed by matched values, from the inputs on; no name is needed
    nodes of one name and operator
    nodes of one operator in their order, where equally many are left over

Values without a partner are skipped: where two readers fuse differently there is nothing to compare.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from niudao.ir import card
from niudao.ir.operators import attribute, defaults, describe, dims, is_weight

_TRANSPARENT = ("Identity", "Dropout")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div")


@dataclass(frozen=True)
class Pair:
    """Two values that should be equal."""

    source: ir.Value
    target: ir.Value

    @property
    def layer(self) -> str:
        """Name of the source's layer."""
        node = self.source.producer()
        return card.layer_of(node) if node is not None else self.source.name or ""


def used(node: ir.Node) -> Iterator[ir.Value]:
    """Values a node needs that are no weights, with those that its subgraphs take from outside."""
    for value in node.inputs:
        if value is not None and not is_weight(value):
            yield value
    for held in node.attributes.values():
        if held.is_ref() or held.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            continue
        for graph in [held.as_graph()] if held.type == ir.AttributeType.GRAPH else held.as_graphs():
            inner = {id(v) for v in graph.inputs} | {id(v) for n in graph for v in n.outputs}
            yield from (v for n in graph for v in used(n) if id(v) not in inner)


class _Side:
    """One of the two networks, with what is asked of it again and again."""

    def __init__(self, model: ir.Model) -> None:
        self.nodes = [n for n in model.graph if n.op_type != "Constant"]
        self.place = {id(n): i for i, n in enumerate(self.nodes)}
        self.ends = {id(v) for v in model.graph.outputs}
        self.named: dict[tuple[str, str], list[ir.Node]] = defaultdict(list)
        self.layers: dict[str, list[ir.Node]] = defaultdict(list)
        for node in self.nodes:
            layer = node.metadata_props.get(card.LAYER)
            if layer:
                self.named[layer, node.op_type].append(node)
                self.layers[layer].append(node)

    def has_layer_of(self, value: ir.Value | None) -> bool:
        """Whether a node here belongs to the source layer that made a value there."""
        node = value.producer() if value is not None else None
        return node is not None and node.metadata_props.get(card.LAYER, "") in self.layers

    def users(self, value: ir.Value) -> list[ir.Node]:
        """Nodes that take a value, also through an Identity."""
        found: list[ir.Node] = []
        for use in value.uses():
            if use.node.op_type in _TRANSPARENT and use.idx == 0:
                found += self.users(use.node.outputs[0])
            elif id(use.node) in self.place:
                found.append(use.node)
        return list({id(n): n for n in found}.values())

    def affine(self, value: ir.Value) -> ir.Value | None:
        """The value behind a normalisation or an arithmetic with constants that alone takes this one."""
        users = self.users(value)
        if len(users) != 1 or id(value) in self.ends:
            return None
        node = users[0]
        constant = node.op_type in _ARITHMETIC and any(is_weight(v) for v in node.inputs)
        return node.outputs[0] if node.op_type == "BatchNormalization" or constant else None

    def exit(self, layer: str) -> ir.Value | None:
        """What a layer hands on, where that is one value."""
        inside = {id(n) for n in self.layers[layer]}
        found = [
            v for n in self.layers[layer] for v in n.outputs if id(v) in self.ends or any(id(use.node) not in inside for use in v.uses())
        ]
        return found[0] if len(found) == 1 else None


class _Matcher:
    def __init__(self, source: ir.Model, target: ir.Model) -> None:
        self.a, self.b = _Side(source), _Side(target)
        self.partner: dict[int, ir.Value] = {}
        self.taken: set[int] = set()
        self.pairs: list[Pair] = []

    def free(self, va: ir.Value, vb: ir.Value) -> bool:
        return id(va) not in self.partner and id(vb) not in self.taken

    def pair(self, va: ir.Value, vb: ir.Value, *, count: bool = True) -> None:
        if not self.free(va, vb):
            return
        self.partner[id(va)] = vb
        self.taken.add(id(vb))
        if count:
            self.pairs.append(Pair(va, vb))

    def settle(self, va: ir.Value, vb: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Step over a BatchNormalization or a bias that one side has as a node and the other has folded into this layer."""
        for _ in range(4):
            behind_a, behind_b = self.a.affine(va), self.b.affine(vb)
            if (behind_a is None) == (behind_b is None):
                break
            if self.b.has_layer_of(behind_a) or self.a.has_layer_of(behind_b):
                break  # the other side has that layer too, somewhere: nothing was folded
            va, vb = behind_a or va, behind_b or vb
        return va, vb

    def nodes(self, na: ir.Node, nb: ir.Node) -> None:
        linear = describe(na).kind in ("conv", "matrix")
        for va, vb in zip(na.outputs, nb.outputs, strict=False):
            if self.free(va, vb):
                self.pair(*(self.settle(va, vb) if linear else (va, vb)))

    def by_layer(self) -> None:
        for key, found in self.a.named.items():
            others = self.b.named.get(key, [])
            if len(found) == len(others):
                for na, nb in zip(found, others, strict=True):
                    self.nodes(na, nb)
        for layer in self.a.layers:
            va, vb = self.a.exit(layer), self.b.exit(layer) if layer in self.b.layers else None
            if va is not None and vb is not None and self.free(va, vb) and _class(va) == _class(vb):
                self.pair(*self.settle(va, vb))

    def by_structure(self) -> None:
        for na in self.a.nodes:
            needs = [v for v in na.inputs if v is not None and not is_weight(v)]
            if na.op_type in _TRANSPARENT and na.inputs and na.inputs[0] is not None:
                if id(na.inputs[0]) in self.partner:
                    self.partner.setdefault(id(na.outputs[0]), self.partner[id(na.inputs[0])])
                continue
            if not needs or id(na.outputs[0]) in self.partner or any(id(v) not in self.partner for v in needs):
                continue
            wanted = [id(_origin(self.partner[id(v)])) for v in needs]
            candidates = []
            for nb in self.b.users(_origin(self.partner[id(needs[0])])):
                given = [id(_origin(v)) for v in nb.inputs if v is not None and not is_weight(v)]
                same = given == wanted or (describe(na).commutes and sorted(given) == sorted(wanted))
                if nb.op_type == na.op_type and nb.domain == na.domain and same and id(nb.outputs[0]) not in self.taken:
                    candidates.append(nb)
            if candidates:
                self.nodes(na, max(candidates, key=lambda nb: (_likeness(na, nb), -self.b.place[id(nb)])))

    def by_name(self) -> None:
        others = {n.name: n for n in self.b.nodes if n.name}
        for na in self.a.nodes:
            nb = others.get(na.name or "")
            if nb is not None and nb.op_type == na.op_type:
                self.nodes(na, nb)

    def by_order(self) -> None:
        left_a, left_b = _left(self.a, set(self.partner)), _left(self.b, self.taken)
        for op, found in left_a.items():
            others = left_b.get(op, [])
            if len(found) == len(others) and all(dims(x.outputs[0]) == dims(y.outputs[0]) for x, y in zip(found, others, strict=True)):
                for na, nb in zip(found, others, strict=True):
                    self.nodes(na, nb)


def _left(side: _Side, done: set[int]) -> dict[str, list[ir.Node]]:
    left: dict[str, list[ir.Node]] = defaultdict(list)
    for node in side.nodes:
        if node.outputs and id(node.outputs[0]) not in done and node.op_type not in _TRANSPARENT:
            left[node.op_type].append(node)
    return left


def _origin(value: ir.Value) -> ir.Value:
    """The value behind Identities."""
    node = value.producer()
    while node is not None and node.op_type in _TRANSPARENT and node.inputs and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _class(value: ir.Value) -> str:
    """Operators that readers turn into each other count as one."""
    node = value.producer()
    if node is None:
        return ""
    return "linear" if describe(node).kind in ("conv", "matrix", "normalization", "shape") or node.op_type in _ARITHMETIC else node.op_type


def _likeness(na: ir.Node, nb: ir.Node) -> tuple[int, int, int, float]:
    """How much two nodes resemble each other: name, shapes of their weights, attributes, content of the weights."""
    shapes = [dims(v) for v in na.inputs if is_weight(v)] == [dims(v) for v in nb.inputs if is_weight(v)]
    names = {*na.attributes, *nb.attributes} - {"name"}
    equal = sum(str(attribute(na, n)) == str(attribute(nb, n)) for n in names)
    content = 0.0
    for va, vb in zip(na.inputs, nb.inputs, strict=False):
        if shapes and is_weight(va) and is_weight(vb) and dims(va) == dims(vb):
            assert va is not None and va.const_value is not None and vb is not None and vb.const_value is not None
            if va.const_value.dtype.is_floating_point() and vb.const_value.dtype.is_floating_point() and va.const_value.size <= 1 << 22:
                x, y = (np.asarray(v.const_value.numpy(), np.float32).reshape(-1) for v in (va, vb) if v.const_value is not None)
                content += float(np.mean(np.abs(x - y) <= 1e-5 * np.abs(y) + 1e-12)) if x.size else 0.0
    return int(na.name == nb.name), int(shapes), equal - len(names), content


def match(source: ir.Model, target: ir.Model, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> list[Pair]:
    """Pairs of inner values and graph outputs, in the source's topological order.

    Args:
        source: One network.
        target: The other.
        inputs: Name of each input of the source -> name in the target.
        outputs: Name of each output of the source -> name in the target.
    """
    matcher = _Matcher(source, target)
    for ours, theirs, names, count in (
        (source.graph.inputs, target.graph.inputs, inputs, False),
        (source.graph.outputs, target.graph.outputs, outputs, True),
    ):
        by_name = {v.name or "": v for v in theirs}
        for value in ours:
            other = by_name.get(names.get(value.name or "", ""))
            if other is not None:
                matcher.pair(value, other, count=count)
    matcher.by_layer()
    matcher.by_structure()
    matcher.by_name()
    matcher.by_structure()
    matcher.by_order()
    order = {id(v): i for i, n in enumerate(source.graph) for v in n.outputs}
    kept = [p for p in matcher.pairs if id(p.source) in order and _is_tensor(p.source) and _is_tensor(p.target)]
    return sorted(kept, key=lambda p: order[id(p.source)])


def _is_tensor(value: ir.Value) -> bool:
    return bool(value.name) and (value.type is None or isinstance(value.type, ir.TensorType)) and value.producer() is not None


def side_by_side(a: ir.Node | None, b: ir.Node | None) -> list[tuple[str, str, str]]:
    """Attribute, the source's, the target's; defaults written out, weights by shape and content."""
    names = sorted({n for node in (a, b) if node is not None for n in (*node.attributes, *defaults(node.op_type))})
    rows = [(n, _say(a, n), _say(b, n)) for n in names]
    for i in range(max(len(node.inputs) if node is not None else 0 for node in (a, b))):
        weights = [node.inputs[i] if node is not None and i < len(node.inputs) and is_weight(node.inputs[i]) else None for node in (a, b)]
        if any(w is not None for w in weights):
            rows.append((f"input {i}", *(_describe(w) for w in weights)))  # type: ignore[arg-type]
    return rows


def _say(node: ir.Node | None, name: str) -> str:
    value = attribute(node, name) if node is not None else None
    return "-" if value is None else value if isinstance(value, str) else str(value)[:80]


def _describe(value: ir.Value | None) -> str:
    """A weight in figures that tell apart what names and shapes do not: its norm, and one that sees the order."""
    if value is None or value.const_value is None:
        return "-"
    text = "x".join(map(str, dims(value) or ())) or "scalar"
    if value.const_value.dtype.is_floating_point():
        array = np.asarray(value.const_value.numpy(), np.float64).reshape(-1)
        ramp = float((array * np.linspace(-1.0, 1.0, array.size)).sum()) if array.size else 0.0
        text += f", norm {float(np.linalg.norm(array)):.6g}, moment {ramp:.6g}"
    elif value.const_value.size <= 16:
        text += f", {value.const_value.numpy().reshape(-1).tolist()}"
    return text
