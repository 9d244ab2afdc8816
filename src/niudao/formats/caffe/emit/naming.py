"""Names of layers and blobs: a blob is called after its layer, works in place where a person would let it, and outputs keep their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from niudao.formats.caffe.emit.fuse import Output, Ref, users
from niudao.formats.caffe.emit.graph import Layer

_IN_PLACE = frozenset("ReLU PReLU ELU BatchNorm Scale Bias Dropout Sigmoid TanH ReLU6".split())
"""Layers that people write in place; all of them can be (each reads an element before it writes it)."""

_SHARING = frozenset(("Reshape", "Flatten", "Split"))
"""Layers whose output is their input's memory: what overwrites it overwrites the input too."""


@dataclass(frozen=True)
class Named:
    """A layer with the names of its blobs."""

    layer: Layer
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]


def clean(name: str) -> str:
    """A name without white space and control characters, of a length that people read."""
    text = re.sub(r"[\s\x00-\x1f\x7f\"'\\]+", "_", name)
    return text[:200] or "layer"


def give_names(layers: Sequence[Layer], outputs: Sequence[Output]) -> list[Named]:
    """Name every layer and blob.

    Args:
        layers: Layers in order.
        outputs: Outputs, each taken by no layer, with the names they must have.
    """
    blobs: dict[Ref, str] = {}
    taken_blobs: set[str] = set()
    for layer in layers:
        if layer.type == "Input":
            blobs[(layer, 0)] = _free(clean(layer.wish), taken_blobs)
    for top, name in outputs:
        blobs[(top.layer, top.index)] = _free(clean(name), taken_blobs)
    uses = users(list(layers), list(outputs))
    taken_layers: set[str] = set()
    found = []
    for layer in layers:
        wish = clean(layer.wish)
        name = _free(wish if wish not in taken_layers else f"{wish}_{layer.type.lower()}", taken_layers)
        bottoms = tuple(blobs[(t.layer, t.index)] for t in layer.bottoms)
        for i in range(len(layer.shapes)):
            if (layer, i) in blobs:
                continue
            if _in_place(layer, uses):
                blobs[(layer, i)] = bottoms[0]
            else:
                blobs[(layer, i)] = _free(name if len(layer.shapes) == 1 else f"{name}_{i}", taken_blobs)
        found.append(Named(layer, name, bottoms, tuple(blobs[(layer, i)] for i in range(len(layer.shapes)))))
    return found


def _in_place(layer: Layer, uses: dict[Ref, int]) -> bool:
    """Whether a layer may overwrite its input: nobody else may see those numbers, under whatever name."""
    if layer.type not in _IN_PLACE or len(layer.bottoms) != 1:
        return False
    bottom = layer.bottoms[0]
    while bottom.layer.type in _SHARING:
        if uses[(bottom.layer, bottom.index)] != 1 or len(bottom.layer.shapes) != 1:
            return False
        bottom = bottom.layer.bottoms[0]
    return bottom.layer.type != "Input" and uses[(bottom.layer, bottom.index)] == 1


def _free(name: str, taken: set[str]) -> str:
    candidate, k = name, 0
    while candidate in taken:
        k += 1
        candidate = f"{name}_{k}"
    taken.add(candidate)
    return candidate
