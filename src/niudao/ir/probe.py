"""Inputs for proofs: drawn from a seed, like what the network was made for as far as its input card tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import RunError
from niudao.ir.card import InputCard
from niudao.ir.operators import dims, is_weight

Array = np.ndarray[Any, Any]
Dim = int | str | None
Inputs = Mapping[str, tuple[np.dtype[Any], tuple[Dim, ...]]]

PIXELS, DEPTH, LENGTH = 96, 16, 8
"""Sizes for axes that the file leaves open: of pictures, of volumes, of everything else."""

_THROUGH = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Split", "Clip", "Dropout"}


def sizes(shape: tuple[Dim, ...], batch: int, known: dict[str, int]) -> tuple[int, ...]:
    """An input's shape in numbers.

    Args:
        shape: Numbers, symbols, or None for "any".
        batch: Size of the first axis where that is free.
        known: Symbol -> number; symbols met for the first time are added, so that equal ones stay equal.
    """
    result: list[int] = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, int):
            result.append(dim)
        elif axis == 0:
            result.append(batch)
        else:
            guess = {4: 3 if axis == 1 else PIXELS, 5: 3 if axis == 1 else DEPTH}.get(len(shape), LENGTH)
            result.append(known.setdefault(dim, guess) if dim else guess)
    return tuple(result)


def draw(
    inputs: Inputs, cards: Mapping[str, InputCard], bounds: Mapping[str, int], batch: int, generator: np.random.Generator
) -> tuple[dict[str, Array], list[str]]:
    """One batch for every input, in our layout, and a sentence for each input whose range had to be guessed.

    Args:
        inputs: Name -> type and shape.
        cards: What is known of real inputs.
        bounds: Name -> number of words, for inputs that are looked up in a table.
        batch: Size of free first axes.
        generator: Where the numbers come from.

    Raises:
        RunError: An input takes something other than numbers.
    """
    feeds: dict[str, Array] = {}
    notes: list[str] = []
    known: dict[str, int] = {}
    for name, (dtype, shape) in inputs.items():
        size = sizes(shape, batch, known)
        if dtype.kind not in "fiub" and "float" not in dtype.name:
            raise RunError(f"input {name!r} takes {dtype}, which cannot be drawn.", next="give inputs of your own")
        if name in bounds:
            feeds[name] = generator.integers(0, max(bounds[name], 1), size).astype(dtype)
        elif dtype.kind == "b":
            feeds[name] = generator.random(size) < 0.5
        elif dtype.kind in "iu":
            picture = len(size) == 4 and size[1] in (1, 3) and dtype.itemsize == 1
            feeds[name] = generator.integers(0, 256 if picture and dtype.kind == "u" else 2, size).astype(dtype)
            notes.append(f"Input {name!r} takes whole numbers; 0..{255 if picture and dtype.kind == 'u' else 1} were drawn.")
        else:
            values, note = _numbers(name, cards.get(name, InputCard()), size, generator)
            feeds[name] = values.astype(dtype)
            notes += [note] if note else []
    return feeds, notes


def _numbers(name: str, card: InputCard, size: tuple[int, ...], generator: np.random.Generator) -> tuple[Array, str]:
    picture = len(size) == 4 and size[1] in (1, 3)
    if picture and (card.scale is not None or card.mean is not None or card.std is not None):
        values = smooth(size, generator) * 255.0 * (card.scale if card.scale is not None else 1.0)
        for field, sign in ((card.mean, -1.0), (card.std, 0.0)):
            if field is not None and len(field) in (1, size[1]):
                channels = np.asarray(field, np.float64).reshape(1, -1, 1, 1)
                values = values - channels if sign else values / channels
        return values, ""
    if card.range is not None:
        low, high = card.range
        values = smooth(size, generator) if picture else generator.random(size)
        return low + (high - low) * values, ""
    if picture:
        return generator.random(size), f"Nothing says what range input {name!r} takes; uniform numbers in 0..1 were drawn."
    return generator.standard_normal(size), ""


def smooth(size: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Pictures (N, C, H, W) that change slowly, as photographs do, with a little grain; [0, 1]."""
    n, c, height, width = size
    coarse = generator.random((n, c, 6, 6))

    def weights(length: int) -> Array:
        places = np.linspace(0, 5, length)
        return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(6)[None, :]))

    field = np.einsum("ha,ncab,wb->nchw", weights(height), coarse, weights(width))
    result: Array = np.clip(0.9 * field + 0.1 * generator.random(size), 0.0, 1.0)
    return result


def vocabulary(model: ir.Model | None) -> dict[str, int]:
    """Input name -> how many rows the smallest table has that the input is looked up in."""
    bounds: dict[str, int] = {}
    for value in model.graph.inputs if model is not None else ():
        seen, todo = set(), [value]
        while todo:
            here = todo.pop()
            if id(here) in seen:
                continue
            seen.add(id(here))
            for use in here.uses():
                rows = _rows(use.node, use.idx)
                if rows is not None:
                    bounds[value.name or ""] = min(rows, bounds.get(value.name or "", rows))
                elif use.node.op_type in _THROUGH and use.idx == 0:
                    todo += use.node.outputs
    return bounds


def _rows(node: ir.Node, position: int) -> int | None:
    """The bound that a table or a OneHot sets on its indices."""
    if position == 1 and node.op_type == "Gather":
        shape, axis = dims(node.inputs[0]), node.attributes.get_int("axis", 0)
        return shape[axis] if shape and -len(shape) <= axis < len(shape) else None
    if position == 0 and node.op_type == "OneHot":
        depth = node.inputs[1]
        if depth is not None and is_weight(depth) and depth.const_value is not None and depth.const_value.size == 1:
            return int(depth.const_value.numpy().reshape(-1)[0])
    return None
