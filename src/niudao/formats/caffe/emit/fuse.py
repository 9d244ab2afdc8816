"""What a person would have written: no layer for nothing, a bias inside its layer, every unused blob silenced."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from niudao.formats.caffe.emit.graph import Layer, Top

Ref = tuple[Layer, int]
Output = tuple[Top, str]

_BIASED = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Scale": "scale_param",
}
"""Layers that can hold a bias, and where they say so."""


def tidy(layers: list[Layer], outputs: list[Output], inputs: list[Layer], separate: bool) -> tuple[list[Layer], list[Output]]:
    """The same network in fewer layers.

    Args:
        layers: Layers in the order in which they were made.
        outputs: What the network returns, with the names it returns it by.
        inputs: Input layers, which stay.
        separate: Keep layers that the source had as layers of their own.

    Returns:
        The layers in order, and the outputs where they lie now.
    """
    layers = alive(layers, outputs, inputs)
    for rule in (_flatten, _bias):
        uses = users(layers, outputs)
        moved: dict[Ref, Top] = {}
        for layer in list(layers):
            layer.bottoms = [_follow(moved, t) for t in layer.bottoms]
            if len(layer.bottoms) != 1 or len(layer.shapes) != 1:
                continue
            before = layer.bottoms[0].layer
            alone = uses[(before, layer.bottoms[0].index)] == 1 and len(before.shapes) == 1
            if alone and (not separate or before.node == layer.node) and rule(before, layer):
                kept, gone = (layer, before) if rule is _flatten else (before, layer)
                layers.remove(gone)
                if gone is layer:
                    moved[(layer, 0)] = Top(kept, 0, layer.shapes[0])
                    uses[(kept, 0)] = uses[(layer, 0)]
        outputs = [(_follow(moved, t), name) for t, name in outputs]
    return _ends(layers, outputs)


def users(layers: list[Layer], outputs: list[Output]) -> Counter[Ref]:
    """How often each blob is taken, by layers and as an output."""
    return Counter([(t.layer, t.index) for x in layers for t in x.bottoms] + [(t.layer, t.index) for t, _ in outputs])


def _follow(moved: dict[Ref, Top], top: Top) -> Top:
    while (top.layer, top.index) in moved:
        there = moved[(top.layer, top.index)]
        top = replace(there, nonnegative=top.nonnegative)
    return top


def alive(layers: list[Layer], outputs: list[Output], inputs: list[Layer]) -> list[Layer]:
    """The layers that an output needs, and every input; Silence layers are made anew at the end."""
    needed = {t.layer for t, _ in outputs} | set(inputs)
    for layer in reversed(layers):
        if layer in needed:
            needed.update(t.layer for t in layer.bottoms)
    return [x for x in layers if x in needed]


def _flatten(before: Layer, layer: Layer) -> bool:
    """InnerProduct flattens by itself."""
    flat = before.type in ("Flatten", "Reshape") and before.node == layer.node and len(before.shapes[0]) == 2
    if not flat or layer.type != "InnerProduct" or layer.params["inner_product_param"].get("axis", 1) != 1:
        return False
    source = before.bottoms[0]
    if not source.shape or source.shape[0] != before.shapes[0][0]:
        return False
    layer.bottoms = [source]
    return True


def _bias(before: Layer, layer: Layer) -> bool:
    """A constant added right after a layer that has no bias yet."""
    part = _BIASED.get(before.type)
    if layer.type != "Bias" or part is None or not layer.weights or len(before.weights) != 1 or before.share or layer.share:
        return False
    settings, added = before.params.setdefault(part, {}), layer.params.get("bias_param", {})
    axis, bias = added.get("axis", 1), layer.weights[0]
    if before.type == "Scale":
        if settings.get("axis", 1) != axis or before.weights[0].shape != bias.shape or settings.get("bias_term"):
            return False
        settings["bias_term"] = True
    else:
        last = len(before.shapes[0]) - 1 if before.type == "InnerProduct" else 1
        if settings.get("bias_term", True) or axis not in (last, last - len(before.shapes[0])) or len(bias.shape) != 1:
            return False
        del settings["bias_term"]
    before.weights = (*before.weights, bias)
    before.shapes = layer.shapes
    return True


def _ends(layers: list[Layer], outputs: list[Output]) -> tuple[list[Layer], list[Output]]:
    """Caffe returns the blobs that nobody takes: outputs that are also used inside get a blob of their own, unused ones are silenced."""
    uses = users(layers, [])
    seen: Counter[Ref] = Counter()
    found: list[Output] = []
    for top, name in outputs:
        ref = (top.layer, top.index)
        seen[ref] += 1
        found.append((_split(layers, top, name) if uses[ref] or seen[ref] > 1 or top.layer.type == "Input" else top, name))
    layers, found = _in_order(layers, found)
    taken = users(layers, found)
    for layer in list(layers):
        unused = [Top(layer, i, s) for i, s in enumerate(layer.shapes) if not taken[(layer, i)]]
        if unused:
            layers.insert(layers.index(layer) + 1, Layer("Silence", f"{layer.wish}_silence", bottoms=unused, node=layer.node))
    return layers, found


def _split(layers: list[Layer], top: Top, name: str) -> Top:
    layer = Layer("Split", f"{name}_split", bottoms=[top], shapes=[top.shape], node=top.layer.node)
    layers.append(layer)
    return Top(layer, 0, top.shape)


def _in_order(layers: list[Layer], outputs: list[Output]) -> tuple[list[Layer], list[Output]]:
    """Outputs are made in the order in which the network returns them: layers stay where they are unless that order asks for another."""
    if not _sorted(layers, outputs):
        done: dict[Layer, None] = {x: None for x in layers if x.type == "Input"}
        for top, _ in outputs:
            stack = [(top.layer, 0)]
            while stack:
                layer, k = stack.pop()
                if layer in done:
                    continue
                if k < len(layer.bottoms):
                    stack += [(layer, k + 1), (layer.bottoms[k].layer, 0)]
                else:
                    done[layer] = None
        layers = list(done)
    if not _sorted(layers, outputs):  # several outputs of one layer, in another order than it makes them
        outputs = [(_split(layers, top, name), name) for top, name in outputs]
    return layers, outputs


def _sorted(layers: list[Layer], outputs: list[Output]) -> bool:
    place = {x: i for i, x in enumerate(layers)}
    made = [(place[t.layer], t.index) for t, _ in outputs]
    return made == sorted(made)
