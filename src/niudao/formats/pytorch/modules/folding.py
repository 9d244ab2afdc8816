"""What a network computes only from its own constants: kept out of the graph, and made when somebody asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from torch import fx

from niudao.formats.pytorch.modules.numbers import Numbers
from niudao.ir.constants import evaluate
from niudao.ir.operators import describe, is_weight

Held: TypeAlias = fx.Node | Numbers

CONFIGURES = 64
"""An integer initializer of at most so many elements may be a setting; a larger one is data."""

_LARGEST, _DEEPEST = 1 << 26, 100
"""Constants of more elements, or computed in more steps, are left to the network."""


class Folding:
    """Knows constants, initializers among them.

    Args:
        held: What each value of the walk is in the graph; only looked at.
    """

    def __init__(self, held: dict[ir.Value, Held]) -> None:
        self._held = held
        self._arrays: dict[ir.Value, np.ndarray[Any, Any]] = {}
        self._folded: set[ir.Value] = set()
        self._depths: dict[ir.Node, int | None] = {}

    def folded(self, value: ir.Value) -> bool:
        """Whether the value's node was kept out of the graph."""
        return value in self._folded

    def forget(self, node: ir.Node) -> None:
        """The node will be seen anew, with other inputs."""
        self._depths.pop(node, None)
        for value in node.outputs:
            self._arrays.pop(value, None)
            self._folded.discard(value)

    def known(self, value: ir.Value) -> np.ndarray[Any, Any] | None:
        """A value's content where it does not depend on the network's inputs."""
        if value in self._arrays:
            return self._arrays[value]
        if is_weight(value) and value.const_value is not None:
            return value.const_value.numpy()
        held = self._held.get(value)
        if isinstance(held, Numbers):
            if any(isinstance(n, fx.Node) for n in held.values):
                return None
            array = np.array(held.values, value.dtype.numpy() if value.dtype is not None else np.int64)
            return array.reshape(()) if held.scalar else array
        node = value.producer()
        if node is None or self._depth(node) is None or _LARGEST < self._count(value, node) < math.inf or not self._make(node):
            return None
        return self._arrays.get(value)

    def _make(self, node: ir.Node) -> bool:
        """Compute a constant node's outputs; False where that fails, as it may on what a file says."""
        try:
            if node.op_type == "CastLike" and node.inputs[0] is not None and node.outputs[0].dtype is not None:
                whole = self.known(node.inputs[0])
                made = [] if whole is None else [whole.astype(node.outputs[0].dtype.numpy())]
            else:
                made = evaluate(node, [None if v is None else self.known(v) for v in node.inputs])
        except Exception:  # the evaluator's errors share no class
            return False
        self._arrays.update(zip(node.outputs, made, strict=False))
        return True

    def _depth(self, node: ir.Node) -> int | None:
        """How many nodes lie between a constant node and the initializers; None where it depends on the network's inputs."""
        if node not in self._depths:
            self._depths[node] = self._measure(node)
        return self._depths[node]

    def _measure(self, node: ir.Node) -> int | None:
        if node.domain not in ("", "ai.onnx") or describe(node).kind == "random":
            return None
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) or a.is_ref() for a in node.attributes.values()):
            return None
        if node.op_type in ("Shape", "Size") or (not node.inputs and node.op_type != "Constant"):
            return None  # shapes become numbers when the walk comes by
        depth = 0
        for value in _read(node):
            if value is None or is_weight(value) or value in self._arrays:
                continue
            held, maker = self._held.get(value), value.producer()
            if isinstance(held, Numbers):
                if any(isinstance(n, fx.Node) for n in held.values):
                    return None
                continue
            below = None if maker is None else self._depths.get(maker)
            if below is None:
                return None
            depth = max(depth, below)
        return depth + 1 if depth < _DEEPEST else None

    def fold(self, node: ir.Node) -> bool:
        """Keep a node out of the graph if it only computes settings: from small integers, single numbers and shapes."""
        if self._depth(node) is None or not all(v is None or self._is_setting(v) for v in _read(node)):
            return False
        small = all(self._count(v, node) <= CONFIGURES for v in node.outputs)
        if not (small or node.op_type == "Constant") or not self._make(node):
            return False
        self._folded.update(node.outputs)
        return True

    def _count(self, value: ir.Value, node: ir.Node) -> float:
        """How many elements a constant will have, without making it."""
        if value.shape is not None and value.shape.is_static():
            return math.prod(value.shape.numpy())
        shape = self.known(node.inputs[-1]) if node.op_type in ("Expand", "ConstantOfShape") and node.inputs[-1] is not None else None
        return math.inf if shape is None else math.prod(max(int(d), 1) for d in shape.reshape(-1))

    def _is_setting(self, value: ir.Value) -> bool:
        held = value.const_value if is_weight(value) else None
        if held is not None:
            return held.size <= 1 or (held.size <= CONFIGURES and not held.dtype.is_floating_point())
        return value in self._folded or isinstance(self._held.get(value), Numbers)


def _read(node: ir.Node) -> Sequence[ir.Value | None]:
    """The inputs whose content matters: of CastLike's second only the type does."""
    return node.inputs[:1] if node.op_type == "CastLike" else node.inputs
