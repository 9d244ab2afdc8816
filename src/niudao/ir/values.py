"""Small questions to a value, and a node's list of inputs set anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


def claim(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`, `name_2`, ... whichever is still free; taken from then on."""
    candidate, k, step = name, 0, 1
    while candidate in taken:  # in leaps: thousands of values may share a name
        k, step = k + step, step * 2
        candidate = f"{name}_{k}"
    low = k - step // 2
    while k - low > 1:  # back to the first free one of a run
        middle = (low + k) // 2
        low, k = (middle, k) if f"{name}_{middle}" in taken else (low, middle)
    candidate = f"{name}_{k}" if k else name
    taken.add(candidate)
    return candidate


def rank(value: ir.Value | None) -> int | None:
    """Number of axes, where it is known."""
    if value is None:
        return None
    if value.shape is not None:
        return len(value.shape)
    return len(value.const_value.shape) if value.const_value is not None else None


def dims(value: ir.Value | None) -> list[int | None] | None:
    """Sizes of the axes, None for those that are open; None where even the rank is."""
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else None for d in value.shape]


def known(value: ir.Value | None, limit: int = 1 << 16) -> np.ndarray[Any, Any] | None:
    """The array of a small constant."""
    if value is None or value.const_value is None or value.const_value.size > limit:
        return None
    return value.const_value.numpy()


def set_inputs(node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
    """Give a node another list of inputs; trailing gaps are dropped."""
    wanted = list(inputs)
    while wanted and wanted[-1] is None:
        wanted.pop()
    node.resize_inputs(len(wanted))
    for i, value in enumerate(wanted):
        node.replace_input_with(i, value)
