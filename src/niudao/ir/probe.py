"""Inputs for a comparison: drawn from a seed, in the range that the input card tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import LimitError, UsageError
from niudao.ir import card

Array = np.ndarray[Any, Any]
Dims = tuple[int | None, ...]
Signature = Mapping[str, tuple[np.dtype[Any], Dims]]

_FREE_IMAGE, _FREE_OTHER = 64, 16
_MOST_VALUES = 1 << 28


def signature(model: ir.Model) -> dict[str, tuple[np.dtype[Any], Dims]]:
    """Input name -> type and shape; an axis of any length is None."""
    result = {}
    for v in model.graph.inputs:
        dtype = v.dtype.numpy() if v.dtype is not None and v.dtype != ir.DataType.STRING else np.dtype(np.float32 if v.dtype is None else object)
        dims = tuple(int(d) if isinstance(d, int) else None for d in v.shape) if v.shape is not None else (None,)
        result[v.name or ""] = (np.dtype(dtype), dims)
    return result


def draw(inputs: Signature, model: ir.Model | None, *, samples: int, seed: int) -> tuple[dict[str, Array], list[str]]:
    """One array per input.

    Args:
        inputs: What the network takes, in our layout.
        model: Where the input cards and the bounds of integer inputs are read from, if there is a model.
        samples: Length of a free first axis.
        seed: Seed of the generator; the arrays depend on it and on the shapes alone.

    Returns:
        The arrays, and one sentence for every thing that had to be guessed.

    Raises:
        UsageError: An input of text, or a sample count below one.
        LimitError: An input of more than 2**28 values.
    """
    if samples < 1:
        raise UsageError(f"a comparison of {samples} samples proves nothing.", expected="at least 1")
    rng = np.random.default_rng(seed)
    cards = card.get_cards(model) if model is not None else {}
    values = {v.name or "": v for v in model.graph.inputs} if model is not None else {}
    arrays, notes = {}, []
    for name, (dtype, dims) in inputs.items():
        shape = tuple(_length(i, d, len(dims), samples) for i, d in enumerate(dims))
        free = [i for i, d in enumerate(dims) if d is None and i]
        if free:
            notes.append(f"Input {name!r} leaves {'axes' if len(free) > 1 else 'axis'} {', '.join(map(str, free))} open: compared at {list(shape)}.")
        if np.prod(shape, dtype=float) > _MOST_VALUES:
            raise LimitError(f"input {name!r} would hold {np.prod(shape, dtype=float):.3g} values.", expected=f"at most {_MOST_VALUES}")
        arrays[name], note = _values(rng, name, dtype, shape, cards.get(name), values.get(name))
        if note:
            notes.append(note)
    return arrays, notes


def _length(axis: int, dim: int | None, rank: int, samples: int) -> int:
    if dim is not None:
        return dim
    if axis == 0:
        return samples
    return _FREE_IMAGE if rank in (4, 5) and axis >= 2 else _FREE_OTHER


def _values(
    rng: np.random.Generator, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], known: card.InputCard | None, value: ir.Value | None
) -> tuple[Array, str]:
    if dtype.kind == "b":
        return rng.random(shape) < 0.5, ""
    if dtype.kind in "iu":
        bound = vocabulary(value) if value is not None else None
        note = "" if bound else f"Nothing tells the range of integer input {name!r}: compared on 0 and 1."
        return rng.integers(0, bound or 2, shape).astype(dtype), note
    if dtype.kind != "f" and dtype.itemsize > 2:
        raise UsageError(f"input {name!r} holds {dtype}: give it by hand.", next="--with input.npy")
    if known is not None and (known.scale is not None or known.mean is not None or known.std is not None):
        return _picture(rng, shape, known).astype(dtype), ""
    if known is not None and known.range is not None and len(known.range) == 2:
        low, high = known.range
        return rng.uniform(low, high, shape).astype(dtype), ""
    if len(shape) == 4 and shape[1] in (1, 3):
        return rng.random(shape).astype(dtype), f"The file does not tell the range of input {name!r}: compared on values of 0..1."
    return rng.standard_normal(shape).astype(dtype), f"The file does not tell the range of input {name!r}: compared on normal values."


def _picture(rng: np.random.Generator, shape: tuple[int, ...], known: card.InputCard) -> Array:
    """Smooth images of pixels 0..255, put through the card: (pixel * scale - mean) / std."""
    coarse = rng.uniform(0, 255, (*shape[:2], *(max(1, -(-n // 8)) for n in shape[2:])))
    for axis in range(2, len(shape)):
        coarse = coarse.repeat(8, axis=axis)
    pixels = coarse[tuple(slice(0, n) for n in shape)]
    for axis in range(2, len(shape)):  # neighbours mix, so that edges are not all steps
        pixels = (pixels + np.roll(pixels, 1, axis) + np.roll(pixels, 2, axis) + np.roll(pixels, 3, axis)) / 4
    pixels = np.rint(0.8 * pixels + 0.2 * rng.uniform(0, 255, shape))
    out = pixels * (known.scale if known.scale is not None else 1.0) - _per_channel(known.mean, 0.0, shape)
    return out / _per_channel(known.std, 1.0, shape)


def _per_channel(values: tuple[float, ...] | None, default: float, shape: tuple[int, ...]) -> Array:
    channels = shape[1] if len(shape) > 1 else 1
    if values is None or len(values) not in (1, channels):
        return np.asarray(default)
    return np.asarray(values, dtype=float).reshape(1, -1, *([1] * (len(shape) - 2))) if len(shape) > 1 else np.asarray(values, dtype=float)


_SAME_INTEGERS = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten"}


def vocabulary(value: ir.Value) -> int | None:
    """How many different integers an input may hold: the shortest table that a Gather looks up with it, or None."""
    bounds: list[int] = []
    todo, seen = [value], set()
    while todo:
        v = todo.pop()
        if id(v) in seen:
            continue
        seen.add(id(v))
        for use in v.uses():
            node = use.node
            if node.op_type in ("Gather", "OneHot"):
                bound = _bound(node, use.idx)
                if bound:
                    bounds.append(bound)
            elif node.op_type in _SAME_INTEGERS and use.idx == 0:
                todo += node.outputs
    return min(bounds, default=None)


def _bound(node: ir.Node, index: int) -> int | None:
    if node.op_type == "OneHot":
        depth = node.inputs[1].const_value if index == 0 and node.inputs[1] is not None else None
        return int(depth.numpy().reshape(-1)[0]) if depth is not None else None
    table = node.inputs[0]
    if index != 1 or table is None or table.shape is None or not len(table.shape):
        return None
    axis = node.attributes.get_int("axis", 0)
    size = table.shape[axis] if -len(table.shape) <= axis < len(table.shape) else None
    return size if isinstance(size, int) and size > 0 else None
