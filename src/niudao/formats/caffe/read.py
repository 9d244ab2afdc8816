"""Read a Caffe network: open its files, turn them into today's layers, build the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import onnx_ir as ir

from niudao.errors import InvalidModel, LimitError, ReadError, Refusal, Unsupported, UsageError, Where
from niudao.formats.caffe.layers import LAYERS, load_all
from niudao.formats.caffe.layers.call import Call, FixedBatch
from niudao.formats.caffe.net import Input, Layer, Net
from niudao.formats.caffe.opening import Opened, open_net, relocate
from niudao.ir import card
from niudao.ir.build import Builder
from niudao.report.escape import visible

MAX_OUTPUTS = 1000
"""Of a network; people train with a handful."""
MAX_MADE = 1 << 24
"""Numbers of all constants that are made while reading, such as the grids of prior boxes; big stored blobs stay in their file."""
MAX_NODES = 30_000
"""Recurrent layers are written out step by step: one of 512 steps takes 4,600."""


def read(path: Path, *, weights: Path | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None) -> ir.Model:
    """Read a Caffe network of any generation, without Caffe.

    Args:
        path: A prototxt or a caffemodel (binary or HDF5); its partner is found beside it.
        weights: The other file of the pair.
        shapes: Input name -> shape, batch included, for what the file leaves open, or other sizes for a fully convolutional network.

    Returns:
        The model. The first axis of the inputs is a free batch unless a layer ties it down.

    Raises:
        ReadError: Broken, hostile, or not what it should be.
        Unsupported: Layers that no reader knows, all of them.
    """
    path = Path(path)
    opened = open_net(path, weights)
    load_all()
    file = str(path)
    _refuse_unknown(opened.net, file)
    try:
        try:
            return _Reading(opened, shapes or {}, file, free=True).model()
        except (FixedBatch, InvalidModel):
            return _Reading(opened, shapes or {}, file, free=False).model()
    except InvalidModel as e:
        raise relocate(e, file) from e
    except FixedBatch:
        raise ReadError(
            "the batch is tied down by a layer, and the file does not say it.", where=path, next="name it with --shape"
        ) from None


def _refuse_unknown(net: Net, file: str) -> None:
    """Every layer that no reader knows, in one pass, before anything is built."""
    refused = [Refusal(visible(x.name[:120]), visible(x.type[:120]), *_advice(x)) for x in net.layers if not _known(x)]
    if refused:
        raise Unsupported("niudao's Caffe reader", refused, where=Where(file=file))


def _known(layer: Layer) -> bool:
    if layer.type == "Python":
        return _python_class(layer) == "ProposalLayer"
    return layer.type in LAYERS


def _python_class(layer: Layer) -> str:
    return str(layer.message.sub("python_param").get("layer"))[:80]


def _advice(layer: Layer) -> tuple[str, str | None, tuple[str, ...], str]:
    remedy = "register a reader for it with --plugin"
    if layer.type == "Python":
        return f"it runs the Python class {_python_class(layer)!r}, which is never executed", None, (), remedy
    return "no reader knows this type of layer", None, (), remedy


class _Reading:
    """One attempt, with the batch free or as the file states it."""

    def __init__(self, opened: Opened, shapes: Mapping[str, tuple[int, ...]], file: str, free: bool) -> None:
        self.opened, self.net, self.file, self.free, self.shapes = opened, opened.net, file, free, shapes
        self.b = Builder(self.net.name or "caffe")
        self.values: dict[str, ir.Value] = {}
        self.made = 0
        self.scales = _pairs(self.net.layers)
        # inputs that list regions of pictures: their number is another one than that of the pictures
        self.regions = {x.bottoms[1] for x in self.net.layers if x.type in ("ROIPooling", "PSROIPooling") and len(x.bottoms) > 1}
        stated = {x.shape[0] for x in self.net.inputs if x.shape and x.name not in self.regions}
        self.one_batch = len(stated) < 2

    def model(self) -> ir.Model:
        for item in self.net.inputs:
            self.values[item.name] = self._input(item)
        unknown = sorted(set(self.shapes) - {v.name for v in self.b.inputs if v.name})
        if unknown:
            known = ", ".join(str(v.name) for v in self.b.inputs)
            raise UsageError(f"the network has no input {unknown[0]!r}.", where=Path(self.file), expected=known)
        used: dict[str, set[int]] = {}
        behind = set(self.scales.values())
        for layer in self.net.layers:
            if layer not in behind:
                self._layer(layer, used)
        self._outputs()
        model = self.b.model()
        self._facts(model, used)
        return model

    def _input(self, item: Input) -> ir.Value:
        shape = self.shapes.get(item.name, item.shape)
        where = Where(file=self.file, node=item.name)
        if item.name in self.shapes and item.shape is not None and len(item.shape) != len(shape or ()):
            raise UsageError(
                f"the shape given for {item.name!r} has another rank than the file.", where=where, expected=str(item.shape), got=str(shape)
            )
        if shape is not None and len(shape) == 4 and shape[1] is None:
            shape = (shape[0], self._channels(item.name), *shape[2:])
        if shape is None or any(d is None for d in shape[1:]):
            said = f"a layer of type {item.source} that reads them from elsewhere" if item.source != "Input" else "nothing"
            raise ReadError(
                f"the shape of the input {item.name!r} is not in the file.", where=where, got=said, next="name it with --shape, batch first"
            )
        if not 1 <= len(shape) <= 8 or not all(d is None or 0 < d < 1 << 31 for d in shape):
            raise ReadError(
                f"the input {item.name!r} has no usable shape.", where=where, expected="1 to 8 sizes from 1 on", got=str(shape)[:80]
            )
        free = self.free and self.one_batch and item.name not in self.shapes
        first = (f"{item.name}_0" if item.name in self.regions else None) if free else shape[0] or 1
        return self.b.input(item.name, (first, *shape[1:]))

    def _channels(self, name: str) -> int | None:
        """Channels of an input, from the weights of the convolution that takes it."""
        for layer in self.net.layers:
            blobs = self.net.blobs.get(layer.name)
            if name in layer.bottoms and layer.type == "Convolution" and blobs and len(blobs[0].shape) == 4:
                return blobs[0].shape[1] * int(layer.message.sub("convolution_param").get("group"))
        return 3

    def _layer(self, layer: Layer, used: dict[str, set[int]]) -> None:
        where = Where(file=self.file, line=layer.line or None, node=layer.name)
        missing = [b for b in layer.bottoms if b not in self.values]
        if missing:
            raise ReadError(
                f"layer {layer.name!r} takes {missing[0]!r}, which no layer before it makes.",
                where=where,
                expected=f"one of {', '.join(list(self.values)[-8:])}",
            )
        self.b.layer, self.b.layer_type = layer.name, layer.type
        call = self._call(layer)
        inputs = [self.values[b] for b in layer.bottoms]
        before = len(self.b.initializers)
        try:
            made = LAYERS[layer.type](call, *inputs)
        except TypeError as e:
            if "positional argument" not in str(e):
                raise
            raise InvalidModel(f"layer {layer.name!r} ({layer.type}) does not take {len(inputs)} bottoms.", where=where) from e
        made = tuple(made) if isinstance(made, (tuple, list)) else (made,)
        self._afford(where, before)
        tops = self.scales[layer].tops if layer in self.scales else layer.tops
        if len(made) < len(tops):
            raise InvalidModel(
                f"layer {layer.name!r} ({layer.type}) does not give {len(tops)} tops.", where=where, expected=f"at most {len(made)}"
            )
        self.values.update(zip(tops, made, strict=False))
        for part in (call, call.scale):
            if part is not None:
                used.setdefault(part.layer.name, set()).update(part.used)

    def _afford(self, where: Where, before: int) -> None:
        """Few layers can ask for many operators and constants; `before` is how many constants there were before this one."""
        fresh = islice(reversed(self.b.initializers.values()), len(self.b.initializers) - before)
        self.made += sum(v.const_value.size for v in fresh if isinstance(v.const_value, ir.Tensor))
        for what, count, most in (("operators", len(self.b.nodes), MAX_NODES), ("numbers in its constants", self.made, MAX_MADE)):
            if count > most:
                raise LimitError(f"the network has too many {what}.", where=where, expected=f"at most {most}", got=str(count))

    def _call(self, layer: Layer) -> Call:
        behind = self.scales.get(layer)
        blobs, weightless = self.net.blobs, self.opened.weights is None
        scale = Call(self.b, behind, blobs.get(behind.name, ()), weightless, file=self.file) if behind is not None else None
        return Call(self.b, layer, blobs.get(layer.name, ()), weightless, scale, self.file)

    def _outputs(self) -> None:
        """What no layer takes, in the order of the file; and what losses took."""
        self.b.layer = self.b.layer_type = ""
        names = self.net.outputs()
        if not names:
            raise ReadError("the network has no output.", where=Path(self.file))
        if len(names) > MAX_OUTPUTS:
            raise LimitError(
                "the network has too many outputs.", where=Path(self.file), expected=f"at most {MAX_OUTPUTS}", got=str(len(names))
            )
        for name in names:
            self.b.output(self.values[name], name)

    def _facts(self, model: ir.Model, used: Mapping[str, set[int]]) -> None:
        net = self.net
        _cards(model, self.opened)
        card.set_source(model, "caffe", version=net.generation, weights=self.opened.weights.name if self.opened.weights else None)
        notes = list(net.notes)  # after the cards, which may add to them
        stored = {x.name for x in net.layers}
        extra = sorted(n for n in net.blobs if n not in stored)
        if extra:
            notes.append(f"stored but not part of the network: {', '.join(extra[:10])}{', ...' if len(extra) > 10 else ''}")
        for layer in net.layers:
            rest = len(net.blobs.get(layer.name, ())) - len(used.get(layer.name, ()))
            if rest > 0 and layer.type in LAYERS:
                notes.append(f"{rest} stored blobs of layer {layer.name!r} were not used.")
            for path, unknown in layer.message.walk_unknown():
                field = f"{path}.{unknown.name}" if path else unknown.name
                notes.append(f"line {unknown.line}: the field {field} of layer {layer.name!r} is unknown and was skipped.")
        if notes:
            model.metadata_props[card.NOTES] = json.dumps(notes)


def _pairs(layers: list[Layer]) -> dict[Layer, Layer]:
    """BatchNorm -> the Scale behind it, where nothing else takes the normalised values: both become one BatchNormalization."""
    found: dict[Layer, Layer] = {}
    makers: dict[str, Layer] = {}
    takers: dict[Layer, list[Layer]] = {}
    for layer in layers:
        for bottom in layer.bottoms:
            if bottom in makers:
                takers.setdefault(makers[bottom], []).append(layer)
        for top in layer.tops:
            makers[top] = layer
    for layer in layers:
        users = takers.get(layer, [])
        if layer.type != "BatchNorm" or len(users) != 1 or len(layer.tops) != 1:
            continue
        scale, part = users[0], users[0].message.sub("scale_param")
        if scale.type == "Scale" and len(scale.bottoms) == 1 and part.get("axis") in (1, -3) and part.get("num_axes") == 1:
            found[layer] = scale
    return found


def _cards(model: ir.Model, opened: Opened) -> None:
    """The input card from transform_param and the mean file; Caffe takes (pixel - mean) * scale, BGR."""
    cards: dict[str, card.InputCard] = {}
    items = {x.name: x for x in opened.net.inputs}
    for value in model.graph.inputs:
        if value.shape is None or len(value.shape) != 4 or value.name is None:
            continue
        channels = value.shape[1] if isinstance(value.shape[1], int) else 0
        facts: dict[str, Any] = {"layout": "NCHW"}
        transform = items[value.name].transform if value.name in items else None
        first = value is model.graph.inputs[0]
        mean = opened.mean if first else ()
        if transform is not None or mean:
            scale = round(float(transform.get("scale")), 9) if transform is not None else 1.0
            per_channel = mean * channels if len(mean) == 1 and channels == 3 else mean
            taken = tuple(round(m * scale, 6) for m in per_channel) or (0.0,)
            if all(map(card.usable, (scale, *taken))):
                facts |= {"scale": scale, "mean": taken, "std": (1.0,)}
            else:
                opened.net.notes.append(f"the mean and scale of the input {value.name!r} are no numbers of a picture and were left out.")
            facts["order"] = "GREY" if channels == 1 else "BGR" if channels == 3 else None
            facts["guessed"] = ("order",) if channels == 3 else ()
            if transform is not None and int(transform.get("crop_size")):
                facts["resize"] = "crop"
        cards[value.name] = card.InputCard(**facts)
    card.set_cards(model, cards)
    outputs = model.graph.outputs[0].shape
    width = outputs[1] if outputs is not None and len(outputs) > 1 else None
    if opened.classes and (width is None or len(opened.classes) == width):
        card.set_classes(model, opened.classes)
