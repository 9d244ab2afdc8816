"""Read a Keras network: open the container, describe the configuration, bind the weights, build the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from niudao.errors import InvalidModel, ReadError, Refusal, Unsupported, UsageError, Where
from niudao.formats.keras import config as description
from niudao.formats.keras.build import GARBAGE, Runner
from niudao.formats.keras.config import Layer, Network
from niudao.formats.keras.layers import LAYERS, load_all
from niudao.formats.keras.opening import Container, open_container
from niudao.formats.keras.tensor import Tensor
from niudao.formats.keras.weights import Binder
from niudao.ir import card
from niudao.ir.build import Builder

NOTES = "niudao.notes"
"""Model metadata: a JSON list of sentences about what the reader left out."""

_INTEGERS = ("INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL")
_FLOATS = (None, "float16", "float32", "float64", "bfloat16", "mixed_float16", "mixed_bfloat16")
_TYPES = {t.lower(): ir.DataType[t] for t in _INTEGERS} | {t: ir.DataType.FLOAT for t in _FLOATS}
"""Floats of every width are read as float32, the only one that the network is computed in."""


def read(path: Path, *, weights: Path | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None) -> ir.Model:
    """Read a Keras network of any generation, without Keras.

    Args:
        path: HDF5 file, .keras archive, or JSON with HDF5 weights (either first).
        weights: The second file of a pair.
        shapes: Input name -> shape in Keras's own order, batch included, for what the file leaves open.

    Returns:
        The model. Images lie channels first (`niudao.layout` says how), outputs are named after their layers.

    Raises:
        ReadError: Broken, hostile, or only weights.
        Unsupported: Layers that no reader knows, all of them.
    """
    path = Path(path)
    box = open_container(path, weights)
    load_all()
    try:
        generation = _generation(box)
        network = description.network(box.config, generation, str(path))
        _refuse_unknown(network, str(path))
        return _build(box, network, generation, shapes or {})
    except InvalidModel as e:
        where = Where(file=str(path), node=e.where.node, attribute=e.where.attribute)
        raise ReadError(e.message, where=where, expected=e.expected, got=e.got, next=e.next) from e
    except GARBAGE as e:
        raise ReadError(f"the configuration is none that Keras writes: {type(e).__name__}: {str(e)[:120]}.", where=path) from e


def _generation(box: Container) -> int:
    """1, 2 or 3: by the version, else by the looks of the configuration."""
    if box.version[:1] in ("1", "2", "3") and not box.version[1:2].isdigit():
        return int(box.version[0])
    if box.version[:1] == "0":
        return 1
    return 3 if "registered_name" in box.config else 2


def _refuse_unknown(network: Network, file: str) -> None:
    """Every layer that no reader knows, in one pass, before anything is built."""
    found: dict[str, Refusal] = {}
    for name, class_name, operation in _classes(network):
        if name not in found and not known(class_name, operation):
            found[name] = Refusal(name[:120], class_name[:120], *_advice(class_name))
    if found:
        raise Unsupported("niudao's Keras reader", list(found.values()), where=Where(file=file))


def known(class_name: str, operation: bool = False) -> bool:
    """Whether a reader knows this class."""
    return class_name == "InputLayer" or (operation and f"ops.{class_name}" in LAYERS) or class_name in LAYERS


def _advice(class_name: str) -> tuple[str, str | None, tuple[str, ...], str]:
    if class_name == "Lambda":
        remedy = "replace it by a named layer, or register a reader for it with --plugin"
        return "it holds Python code, which is never executed", None, (), remedy
    return "no reader knows this class of layer", None, (), "register one with --plugin"


def _classes(network: Network) -> list[tuple[str, str, bool]]:
    """Name, class and kind of every leaf, those inside wrappers too."""
    found: list[tuple[str, str, bool]] = []
    for layer in network.layers:
        if layer.network is not None:
            found += _classes(layer.network)
        else:
            found.append((layer.name, layer.class_name, layer.operation))
            found += _wrapped(layer.name, layer.config)
    return found


def _wrapped(owner: str, config: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    found: list[tuple[str, str, bool]] = []
    for key in ("layer", "backward_layer"):
        inner = config.get(key)
        if not isinstance(inner, Mapping):
            continue
        below = inner.get("config")
        if description.is_network(inner):
            listed = below if isinstance(below, list) else below.get("layers") if isinstance(below, Mapping) else None
            entries = [x for x in listed or [] if isinstance(x, Mapping)] if isinstance(listed, list) else []
        else:
            entries = [inner]
        for entry in entries:
            settings = entry.get("config")
            settings = settings if isinstance(settings, Mapping) else {}
            if description.is_network(entry):
                found += _wrapped(owner, {"layer": entry})
            else:
                found.append((f"{owner}/{settings.get('name', '')}", str(entry.get("class_name")), False))
                found += _wrapped(owner, settings)
    return found


def _build(box: Container, network: Network, generation: int, shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    file = str(box.path)
    binder = Binder(box, generation, file)
    b = Builder(network.name)
    runner = Runner(b, binder.bind(network), generation, _tf_keras(box, generation), file)
    inputs = [_input(b, network, ref.layer, shapes, file, _noted(box, "inputs", i)) for i, ref in enumerate(network.inputs)]
    unknown = sorted(set(shapes) - {v.name for v in b.inputs})
    if unknown:
        raise UsageError(f"the network has no input {unknown[0]!r}.", where=box.path, expected=", ".join(str(v.name) for v in b.inputs))
    outputs = runner.network(network, inputs)
    b.layer = b.layer_type = ""
    taken: set[str] = set()
    for i, (ref, tensor) in enumerate(zip(network.outputs, outputs, strict=True)):
        name, k = ref.layer, 0
        while name in taken:
            k += 1
            name = f"{ref.layer}_{k}"
        taken.add(name)
        noted = _noted(box, "outputs", i)
        if noted is not None and len(noted) == tensor.rank:
            tensor = tensor.order(b, noted)
        elif tensor.rank not in (4, 5):
            tensor = tensor.source_order(b)
        elif tensor.perm != tuple(range(tensor.rank)):
            tensor = tensor.channels_first(b, tensor.perm[1])
        b.output(tensor.value, name, tensor.perm)
    model = b.model()
    card.set_source(model, "keras", version=box.version, backend=box.backend)
    _cards(model, box, inputs)
    notes = [f"stored but not part of the network: {name}" for name in binder.left_over()] + runner.notes()
    if notes:
        model.metadata_props[NOTES] = json.dumps(notes)
    return model


def _tf_keras(box: Container, generation: int) -> bool:
    """Whether a Keras 2 is TensorFlow's own: its versions are "2.2.4-tf" and, since TensorFlow 2.3, 2.4 and up."""
    if generation != 2:
        return False
    if box.version.endswith("-tf") or "tf" in box.version:
        return True
    parts = box.version.split(".")
    minor = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() and len(parts[1]) < 4 else 0
    return minor >= 4


def _noted(box: Container, kind: str, i: int) -> tuple[int, ...] | None:
    """The order of axes that our own writer noted for an input or output."""
    noted = box.extra.get("layouts")
    rows = noted.get(kind) if isinstance(noted, Mapping) else None
    row = rows[i] if isinstance(rows, list) and i < len(rows) else None
    if not isinstance(row, list) or not all(type(p) is int for p in row) or sorted(row) != list(range(len(row))):
        return None
    return tuple(row)


def _input(
    b: Builder, network: Network, name: str, shapes: Mapping[str, tuple[int, ...]], file: str, noted: tuple[int, ...] | None
) -> Tensor:
    layer = network.find(name)
    if layer is None or layer.class_name != "InputLayer":
        raise ReadError(f"the network's input {name!r} is no input layer.", where=Where(file=file, node=name))
    shape = input_shape(layer)
    if name in shapes:
        given = tuple(shapes[name])
        if shape is not None and (len(given) != len(shape) or any(s not in (None, g) for s, g in zip(shape, given, strict=True))):
            where = Where(file=file, node=name)
            raise UsageError(f"the shape given for {name!r} contradicts the file.", where=where, expected=str(shape), got=str(given))
        shape = given
    if shape is None:
        where = Where(file=file, node=name)
        raise ReadError(f"the shape of the input {name!r} is not in the file.", where=where, next="name it with --shape, batch first")
    if not 1 <= len(shape) <= 8 or not all(d is None or (isinstance(d, int) and 0 < d < 1 << 31) for d in shape):
        raise ReadError(f"the input {name!r} has no usable shape.", where=Where(file=file, node=name), got=str(shape)[:80])
    dtype = _dtype(layer, file)
    perm = tuple(range(len(shape)))
    if noted is not None and len(noted) == len(shape):
        perm = noted
    elif len(shape) in (4, 5) and not channels_first(network):
        perm = (0, len(shape) - 1, *range(1, len(shape) - 1))
    value = b.input(name, [shape[p] for p in perm], dtype)
    card.set_layout(value, perm)
    return Tensor(value, perm)


def _dtype(layer: Layer, file: str) -> ir.DataType:
    said = layer.config.get("dtype")
    if isinstance(said, Mapping) and isinstance(said.get("config"), Mapping):  # Keras 3: a policy
        said = said["config"].get("name")
    if not (said is None or isinstance(said, str)) or said not in _TYPES:
        where = Where(file=file, node=layer.name)
        raise ReadError(f"the input {layer.name!r} has no usable type.", where=where, expected="float32 or the like", got=repr(said)[:60])
    return _TYPES[said]


def input_shape(layer: Layer) -> tuple[Any, ...] | None:
    """An input layer's shape, batch included, or None."""
    for key in ("batch_shape", "batch_input_shape"):
        shape = layer.config.get(key)
        if isinstance(shape, (list, tuple)):
            return (None, *shape[1:]) if shape else None
    for key in ("input_shape", "shape"):
        shape = layer.config.get(key)
        if isinstance(shape, (list, tuple)):
            return (None, *shape)
    return None


def channels_first(network: Network) -> bool:
    """Whether the network takes images channels first: the first layer that says so speaks for all."""
    for layer in network.layers:
        if layer.network is not None:
            if says := _layouts(layer.network):
                return says[0]
        elif (said := _layout(layer.config)) is not None:
            return said
    return False


def _layouts(network: Network) -> list[bool]:
    found: list[bool] = []
    for layer in network.layers:
        said = _layouts(layer.network) if layer.network is not None else [_layout(layer.config)]
        found += [s for s in said if s is not None]
    return found


def _layout(config: Mapping[str, Any]) -> bool | None:
    inner = config.get("layer")
    while isinstance(inner, Mapping) and isinstance(inner.get("config"), Mapping):
        config = inner["config"]
        inner = config.get("layer")
    said = config.get("data_format", config.get("dim_ordering"))
    return said in ("channels_first", "th") if isinstance(said, str) else None


def _cards(model: ir.Model, box: Container, inputs: Sequence[Tensor]) -> None:
    """The input cards that niudao wrote into the file, else what the layout tells."""
    cards: dict[str, card.InputCard] = {}
    for value, tensor in zip(model.graph.inputs, inputs, strict=True):
        if tensor.rank == 4 and value.name is not None:
            cards[value.name] = card.InputCard(layout="NCHW" if tensor.perm == (0, 1, 2, 3) else "NHWC")
    written = box.extra.get("card")
    names = {v.name for v in model.graph.inputs}
    if isinstance(written, Mapping):
        for name, fields in written.items():
            if name in names and isinstance(fields, Mapping):
                layout = cards[name].layout if name in cards else None
                cards[name] = card.InputCard.from_dict(dict(fields) | ({"layout": layout} if layout else {}))
    card.set_cards(model, cards)
    classes = box.extra.get("classes")
    if isinstance(classes, list):
        card.set_classes(model, [str(c) for c in classes])
    origin = box.extra.get("source")
    if isinstance(origin, Mapping) and origin:
        card.set_source(model, "keras", version=box.version, backend=box.backend, origin=origin)
