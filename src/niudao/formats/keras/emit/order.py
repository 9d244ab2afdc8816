"""Names that Keras takes, and the order in which Keras itself lists a network's layers.

Both generations find weights by position, so a file must list its layers as Keras will after rebuilding them: by depth
(the longest way to an output), and among equals as a search from the outputs meets them first. `.keras` archives then count
the layers of each class in that order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from niudao.formats.keras.emit.graph import Layer

Ref = tuple[Layer, int]


def legal(name: str) -> str:
    """A name that every backend of both generations takes: letters, digits, "_" and "-", a letter or digit first (torch allows no dot)."""
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    text = text.lstrip("_-") or "layer"
    return text[:200]


def give_names(layers: Iterable[Layer], inputs: Sequence[tuple[Layer, str]], outputs: Sequence[tuple[Ref, str]]) -> None:
    """Set every layer's final name: inputs and outputs as the graph calls them, the others as they wish, all different."""
    taken: set[str] = set()

    def free(wish: str) -> str:
        name, k = legal(wish), 0
        candidate = name
        while candidate.lower() in taken:  # TensorFlow's scopes do not tell upper from lower case
            k += 1
            candidate = f"{name}_{k}"
        taken.add(candidate.lower())
        return candidate

    for layer, name in inputs:
        layer.name = free(name)
    for (layer, _), name in outputs:
        if not layer.name:
            layer.name = free(name)
    for layer in layers:
        if not layer.name:
            layer.name = free(layer.wish)


def keras_order(layers: Sequence[Layer], outputs: Sequence[Ref]) -> list[Layer]:
    """The layers as Keras lists them (`map_graph` of Keras 3, `_map_graph_network` of tf.keras)."""
    met: dict[Layer, int] = {}
    done: list[Layer] = []
    finished: set[Layer] = set()
    for output, _ in outputs:
        stack: list[tuple[Layer, int]] = [(output, 0)]
        while stack:
            layer, k = stack.pop()
            if layer in finished:
                continue
            met.setdefault(layer, len(met))
            if k < len(layer.inputs):
                stack.append((layer, k + 1))
                stack.append((layer.inputs[k][0], 0))
            else:
                finished.add(layer)
                done.append(layer)
    depth: dict[Layer, int] = {}
    for layer in reversed(done):
        own = depth.setdefault(layer, 0)
        for source, _ in layer.inputs:
            depth[source] = max(own + 1, depth.get(source, 0))
    for layer in layers:
        if layer not in depth:
            depth[layer], met[layer] = 0, -1
    return sorted(depth, key=lambda x: (-depth[x], met[x]))
