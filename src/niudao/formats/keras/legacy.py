"""Weights of Keras 1 and of the Theano backend in the shapes of Keras 2.

Reference: `preprocess_weights_for_loading` of keras 2.2.4 (`keras/engine/saving.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from niudao.formats.keras.layers.call import Weight

Array = np.ndarray[Any, Any]
_CONV = frozenset(
    """Conv1D Conv2D Conv3D Conv2DTranspose Conv3DTranspose ConvLSTM2D Convolution1D Convolution2D Convolution3D Deconvolution2D
    AtrousConvolution1D AtrousConvolution2D DepthwiseConv2D SeparableConv1D SeparableConv2D SeparableConvolution2D""".split()
)


def changed(weight: Weight, change: Callable[[Array], Array], name: str | None = None) -> Weight:
    """The weight after a change of shape or order, still not loaded."""
    shape = change(np.broadcast_to(np.float32(0), weight.shape)).shape
    return replace(weight, name=name or weight.name, shape=shape, load=lambda: change(weight.load()), mapped=None)


def joined(weights: Sequence[Weight], name: str) -> Weight:
    """Several weights side by side along the last axis, still not loaded."""
    shape = np.concatenate([np.broadcast_to(np.float32(0), w.shape) for w in weights], axis=-1).shape
    return Weight(name, shape, lambda: np.concatenate([w.load() for w in weights], axis=-1))


def unflipped(class_name: str, config: Mapping[str, Any], found: dict[str, Weight]) -> dict[str, Weight]:
    """Theano convolves with the kernel turned by 180 degrees; everything else correlates."""
    inner = config.get("layer")
    if isinstance(inner, Mapping):
        class_name = str(inner.get("class_name"))
    if class_name not in _CONV:
        return found

    def turn(a: Array) -> Array:
        spatial = tuple(range(a.ndim - 2))
        return np.flip(a, spatial)

    return {n: changed(w, turn) if n.split("/")[-1] in ("kernel", "depthwise_kernel") and len(w.shape) > 2 else w for n, w in found.items()}


def keras1(class_name: str, config: Mapping[str, Any], stored: list[Weight], label: str) -> dict[str, Weight] | None:
    """The arrays of a Keras 1 layer under modern names and in modern shapes; None where nothing is special about them."""
    if not isinstance(config, Mapping):
        return None
    inner = config.get("layer")
    if class_name == "TimeDistributed" and isinstance(inner, Mapping):
        return keras1(str(inner.get("class_name")), inner.get("config") or {}, stored, label)
    if class_name == "Bidirectional" and isinstance(inner, Mapping):
        half = len(stored) // 2
        kind, below = str(inner.get("class_name")), inner.get("config") or {}
        ways = [keras1(kind, below, part, f"{label}/{way}") for way, part in (("forward", stored[:half]), ("backward", stored[half:]))]
        if ways[0] is None or ways[1] is None:
            return None
        return {f"forward/{n}": w for n, w in ways[0].items()} | {f"backward/{n}": w for n, w in ways[1].items()}
    gates = {("LSTM", 12): (0, 6, 3, 9), ("ConvLSTM2D", 12): (0, 6, 3, 9), ("GRU", 9): (0, 3, 6)}.get((class_name, len(stored)))
    if gates is not None:
        parts = [joined([stored[g + k] for g in gates], f"{label}/{n}") for k, n in enumerate(("kernel", "recurrent_kernel", "bias"))]
        if class_name == "ConvLSTM2D" and config.get("dim_ordering") == "th":
            raise_shape = [[changed(stored[g + k], lambda a: a.transpose(2, 3, 1, 0)) for g in gates] for k in (0, 1)]
            parts[:2] = [joined(w, f"{label}/{n}") for w, n in zip(raise_shape, ("kernel", "recurrent_kernel"), strict=True)]
        return dict(zip(("kernel", "recurrent_kernel", "bias"), parts, strict=True))
    theano_order = config.get("dim_ordering") == "th"
    moves: Callable[[Array], Array] | None = None
    if class_name in ("Convolution2D", "AtrousConvolution2D") and theano_order:
        moves = lambda a: a.transpose(2, 3, 1, 0)  # noqa: E731
    elif class_name == "Convolution3D" and theano_order:
        moves = lambda a: a.transpose(2, 3, 4, 1, 0)  # noqa: E731
    elif class_name == "Deconvolution2D":
        moves = (lambda a: a.transpose(2, 3, 0, 1)) if theano_order else (lambda a: a.transpose(0, 1, 3, 2))
    elif class_name in ("Convolution1D", "AtrousConvolution1D"):
        length, filters = config.get("filter_length"), config.get("nb_filter")

        def moves(a: Array) -> Array:
            modern = a.shape[:2] == (length, 1) and a.shape[3:] == (filters,)
            return (a if modern else a.transpose(2, 3, 1, 0))[:, 0]

    if moves is None or not stored or len(stored[0].shape) < 4:
        return None
    names = ["kernel", "bias"][: len(stored)]
    pairs = list(zip(names, stored, strict=False))
    return {n: changed(w, moves, f"{label}/{n}") if n == "kernel" else replace(w, name=f"{label}/{n}") for n, w in pairs}
