"""Layers that run on every step of a sequence: between a Reshape that joins the steps to the batch and one that parts them again.

Keras's TimeDistributed is just that pair around one layer. So neither Reshape becomes a layer: the tensor notes its steps
(`Tensor.steps`), every layer on it is made as for a single step, and in the end stands inside a TimeDistributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from niudao.formats.keras.emit.graph import Dim, Layer, Net, Tensor, Weight
from niudao.formats.keras.emit.order import legal


def joined(net: Net, x: Tensor, before: Sequence[Dim], after: Sequence[Dim]) -> Tensor | None:
    """The tensor with its axis 1 taken into the batch, or None where the Reshape does something else."""
    steps = before[1]
    batch = after[0] is None if before[0] is None or steps is None else after[0] in (None, before[0] * steps)
    if steps is None or x.axes[0] != 0 or not batch or None in after[1:] or list(after[1:]) != list(before[2:]):
        return None
    held = sorted((a, i) for i, a in enumerate(x.axes) if a is not None and i > 1)
    x = net.arrange(x, [0, 1, *(i for _, i in held)])
    axes = [None if a is None else a - 1 for a in x.axes[2:]]
    return replace(x, shape=(None, *x.shape[2:]), axes=(0, *axes), steps=steps)


def split(x: Tensor, before: Sequence[Dim], after: Sequence[Dim]) -> Tensor | None:
    """The tensor with its steps at axis 1 again, or None where the Reshape does something else."""
    if x.axes[0] != 0 or len(after) < 2 or after[1] != x.steps or None in before[1:] or list(after[2:]) != list(before[1:]):
        return None
    axes = [None if a is None else a + 1 for a in x.axes[1:]]
    return replace(x, shape=(None, x.steps, *x.shape[1:]), axes=(0, 1, *axes), steps=0)


def wrap(layer: Layer, separate: bool) -> None:
    """Put a layer that runs step by step inside a TimeDistributed.

    Args:
        layer: The layer; changed in place.
        separate: Its name is that of Keras layers, wrapper and inner layer ("frames/conv2d"), from which the wrapper gets its own back.
    """
    if not layer.steps:
        return
    front, _, inner = layer.wish.rpartition("/")
    if separate and front:
        layer.wish = front
    config = {"name": legal(inner), **layer.config}
    held = {"module": "keras.layers", "class_name": layer.kind, "config": config, "registered_name": None}
    layer.kind, layer.config = "TimeDistributed", {"layer": held}
    layer.weights = tuple(Weight(w.name, f"layer/{w.slot}", w.shape, w.load) for w in layer.weights)
