"""Reading the attributes of a node, with ONNX's defaults given where they are asked for."""

from __future__ import annotations

from typing import Any, TypeVar

import onnx_ir as ir

T = TypeVar("T")


def attr(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute as plain Python: numbers, text, lists of them."""
    found = node.attributes.get(name)
    if found is None or found.value is None:
        return default
    if found.type == ir.AttributeType.STRING:
        return found.as_string()
    if found.type == ir.AttributeType.STRINGS:
        return list(found.as_strings())
    if found.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
        return list(found.value)
    return found.value


def axis_of(node: ir.Node, rank: int, default: int = -1, name: str = "axis") -> int:
    """An axis attribute counted from the front."""
    axis = int(attr(node, name, default))
    return axis + rank if axis < 0 else axis
