"""What a person would have written: a bias inside its layer, the activation inside the layer before it, no layer for nothing."""

from __future__ import annotations

from collections.abc import Callable

from niudao.formats.keras.emit.graph import Layer, Weight

Ref = tuple[Layer, int]

_HOLDS = (
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "Dense",
)
_INSIDE = {"relu", "sigmoid", "tanh", "elu", "selu", "softplus", "softsign", "swish", "gelu", "exponential", "softmax"}


def users(layers: list[Layer], outputs: list[Ref]) -> dict[Layer, list[Layer | None]]:
    """Who takes each layer's outputs, once per use; None stands for the network's own outputs."""
    found: dict[Layer, list[Layer | None]] = {x: [] for x in layers}
    for layer in layers:
        for source, _ in layer.inputs:
            found.setdefault(source, []).append(layer)
    for source, _ in outputs:
        found.setdefault(source, []).append(None)
    return found


def tidy(layers: list[Layer], outputs: list[Ref], separate: bool) -> list[Layer]:
    """The same network in fewer layers; `outputs` is changed in place where one of them moved.

    Args:
        layers: Layers in the order in which they were made.
        outputs: What the network returns.
        separate: Keep activations that the source had as layers of their own.
    """
    layers = alive(layers, outputs)
    if not separate:
        layers = _swish(layers, outputs)
    for rule in (_reshapes, _bias, _activation):
        taken = users(layers, outputs)
        moved: dict[Ref, Ref] = {}
        for layer in list(layers):
            layer.inputs = [_follow(moved, r) for r in layer.inputs]
            if len(layer.inputs) != 1 or layer.op:
                continue
            before = layer.inputs[0][0]
            only = [u for u in taken.get(before, []) if u is not None] == [layer] and None not in taken.get(before, [])
            if not only or before.op or len(before.shapes) > 1:
                continue
            if rule(before, layer, separate):
                moved[(layer, 0)] = (before, 0)
                taken[before] = taken.pop(layer)
                layers.remove(layer)
                before.shapes = layer.shapes
        outputs[:] = [_follow(moved, r) for r in outputs]
    return alive(layers, outputs)


def _follow(moved: dict[Ref, Ref], ref: Ref) -> Ref:
    while ref in moved:
        ref = moved[ref]
    return ref


def alive(layers: list[Layer], outputs: list[Ref]) -> list[Layer]:
    """The layers that an output needs, and every input."""
    needed = {x for x, _ in outputs}
    for layer in reversed(layers):
        if layer in needed:
            needed.update(x for x, _ in layer.inputs)
    return [x for x in layers if x in needed or x.kind == "InputLayer"]


def _swish(layers: list[Layer], outputs: list[Ref]) -> list[Layer]:
    """x * sigmoid(x) by its name."""
    taken = users(layers, outputs)
    for layer in layers:
        if layer.kind != "Multiply" or layer.op or len(layer.inputs) != 2:
            continue
        for gate, x in (layer.inputs, layer.inputs[::-1]):
            maker = gate[0]
            if maker.kind == "Activation" and maker.config == {"activation": "sigmoid"} and maker.inputs == [x] and taken[maker] == [layer]:
                layer.kind, layer.config, layer.inputs, layer.as_list = "Activation", {"activation": "swish"}, [x], False
                break
    return alive(layers, outputs)


def _reshapes(before: Layer, layer: Layer, separate: bool) -> bool:
    """Two reshapes in a row are one."""
    kinds = ("Reshape", "Flatten")
    if before.kind not in kinds or layer.kind not in kinds or before.steps != layer.steps:
        return False
    if before.wish == before.node or layer.wish == layer.node:
        return False
    before.kind, before.config, before.wish, before.node = layer.kind, layer.config, layer.wish, layer.node
    return True


def _bias(before: Layer, layer: Layer, separate: bool) -> bool:
    """A constant added right after a layer that has no bias yet."""
    frozen = layer.kind == "BatchNormalization" and layer.config.get("trainable") is False and before.steps == layer.steps
    if not frozen or before.kind not in _HOLDS or before.config.get("use_bias") is not False or before.config.get("activation") != "linear":
        return False
    if before.config.get("trainable") is False or layer.config.get("scale") or not layer.config.get("center"):
        return False
    beta = next(w for w in layer.weights if w.name == "beta")
    before.config["use_bias"] = True
    before.weights = (*before.weights, Weight("bias", "vars/1", beta.shape, beta.load))
    return True


def _activation(before: Layer, layer: Layer, separate: bool) -> bool:
    """An activation inside the layer before it."""
    name = layer.config.get("activation")
    if layer.kind != "Activation" or before.kind not in _HOLDS or before.config.get("activation") != "linear" or name not in _INSIDE:
        return False
    if before.config.get("trainable") is False or (separate and before.node != layer.node):
        return False
    before.config["activation"] = name
    return True


Rule = Callable[[Layer, Layer, bool], bool]
