"""The two containers of a Keras model, written without Keras: the .keras archive of Keras 3, and HDF5 for Keras 2 and 3.

Reference: `keras.src.saving.saving_lib` (archive), `keras.src.legacy.saving.legacy_h5_format` (HDF5) of Keras 3.15, and the
same module of tf.keras 2.13.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from niudao.errors import WriteError
from niudao.formats.keras.emit.graph import Arg, Layer
from niudao.formats.keras.emit.network import Network

KERAS_3, KERAS_2 = "3.15.1", "2.13.1"
"""The versions that our files name as their writers."""

_STAMP = (1980, 1, 1, 0, 0, 0)
_CHUNK = 60_000


def snake(name: str) -> str:
    """Keras's own way from a class name to a file's path."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def tidy_numbers(value: Any) -> Any:
    """Numbers that came as float32 in their shortest form: 1e-3 and not 0.0010000000474974513; the same float32 when read."""
    if isinstance(value, float):
        short = float(str(np.float32(value)))
        return short if float(np.float32(value)) == value else value
    if isinstance(value, (list, tuple)):
        return [tidy_numbers(v) for v in value]
    if isinstance(value, dict):
        return {k: tidy_numbers(v) for k, v in value.items()}
    return value


def write_archive(network: Network, path: Path, extra: str) -> None:
    """Write a .keras archive; `extra` is the text of its member `niudao.json`, which Keras ignores."""
    weights = path.with_name(path.name + ".weights")
    write_weights(network, weights)
    metadata = {"keras_version": KERAS_3, "date_saved": "1980-01-01@00:00:00"}
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, text in (
                ("metadata.json", json.dumps(metadata)),
                ("config.json", json.dumps(config_3(network))),
                ("niudao.json", extra),
            ):
                archive.writestr(zipfile.ZipInfo(name, _STAMP), text)
            info = zipfile.ZipInfo("model.weights.h5", _STAMP)
            info.file_size = weights.stat().st_size
            with open(weights, "rb") as source, archive.open(info, "w", force_zip64=info.file_size > 1 << 31) as target:
                while block := source.read(1 << 20):
                    target.write(block)
    finally:
        weights.unlink(missing_ok=True)


def write_weights(network: Network, path: Path) -> None:
    """Write a `.weights.h5` file of Keras 3: arrays under `layers/<class>[_k]/...`, counted per class."""
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        file.create_group("vars").attrs["name"] = network.name
        for layer in network.layers:
            if layer.op:
                continue
            kind = snake(layer.kind)
            k = counts.get(kind, 0)
            counts[kind] = k + 1
            group = file.create_group(f"layers/{kind}_{k}" if k else f"layers/{kind}")
            group.create_group("vars").attrs["name"] = layer.name
            for weight in layer.weights:
                _store(group, weight.slot, weight, layer)


def _store(group: h5py.Group, name: str, weight: Any, layer: Layer) -> None:
    array = weight.load()
    if array.shape != weight.shape:
        raise WriteError(f"the {weight.name} of layer {layer.name!r} has another shape.", expected=str(weight.shape), got=str(array.shape))
    data = group.create_dataset(name, shape=array.shape, dtype="<f4")
    data[...] = array


def write_h5(network: Network, path: Path, extra: str, version: str = KERAS_2) -> None:
    """Write one HDF5 file that Keras 3 and tf.keras 2 load alike."""
    with h5py.File(path, "w") as file:
        _text(file, "model_config", json.dumps(config_2(network)))
        file.attrs["keras_version"] = version
        file.attrs["backend"] = "tensorflow"
        _text(file, "niudao", extra)
        write_h5_weights(network, file.create_group("model_weights"), version)


def _text(file: h5py.File, name: str, text: str) -> None:
    """An attribute of any length: HDF5 keeps long ones apart only in files of its newer form, so as one string of variable length."""
    file.attrs.create(name, text, dtype=h5py.string_dtype())


def write_h5_weights(network: Network, root: h5py.Group, version: str = KERAS_2) -> None:
    """The weights as Keras 2 groups them: by layer, in its order, each array under its own name."""
    root.attrs["keras_version"] = version
    root.attrs["backend"] = "tensorflow"
    layers = [x for x in network.layers if not x.op]
    _names(root, "layer_names", [x.name for x in layers])
    for layer in layers:
        group = root.create_group(layer.name)
        names = [f"{layer.name}/{w.name}:0" for w in layer.weights]
        _names(group, "weight_names", names)
        for name, weight in zip(names, layer.weights, strict=True):
            _store(group, name, weight, layer)


def _names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    """A list of names, cut into numbered attributes where one would be too long for HDF5."""
    data = np.array([n.encode() for n in names]) if names else np.zeros((0,), "S1")
    if data.nbytes <= _CHUNK:
        group.attrs[attribute] = data
        return
    parts = -(-data.nbytes // _CHUNK)
    for k, part in enumerate(np.array_split(data, parts)):
        group.attrs[f"{attribute}{k}"] = part


# configurations


def config_3(network: Network) -> dict[str, Any]:
    """`config.json` of a Keras 3 archive."""
    inputs = [[x.name, 0, 0] for x in network.inputs]
    outputs = [[x.name, 0, i] for x, i in network.outputs]
    config = {
        "name": network.name,
        "trainable": True,
        "layers": [_layer_3(x) for x in network.layers],
        "input_layers": inputs[0] if len(inputs) == 1 else inputs,
        "output_layers": outputs[0] if len(outputs) == 1 else outputs,
    }
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config, "registered_name": "Functional"}


def _layer_3(layer: Layer) -> dict[str, Any]:
    if layer.kind == "InputLayer":
        shape = list(layer.shapes[0])
        config: dict[str, Any] = {"batch_shape": shape, "dtype": layer.dtype, "sparse": False, "ragged": False, "name": layer.name}
        return {
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": config,
            "registered_name": None,
            "name": layer.name,
            "inbound_nodes": [],
        }
    tensors = [_tensor(x, i) for x, i in layer.inputs]
    if layer.op:
        args = [_filled(a, tensors) for a in layer.args]
        module, registered = layer.op.split(":")[0], layer.kind
        config = {"name": layer.name, **layer.config}
    else:
        args = [tensors] if layer.as_list else tensors
        module, registered = "keras.layers", None
        config = {"name": layer.name, "trainable": True, "dtype": _POLICY, **tidy_numbers(layer.config)}
    return {
        "module": module,
        "class_name": layer.kind,
        "config": config,
        "registered_name": registered,
        "name": layer.name,
        "inbound_nodes": [{"args": args, "kwargs": {}}],
    }


_POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}


def _tensor(layer: Layer, index: int) -> dict[str, Any]:
    shape = list(layer.shapes[index])
    return {"class_name": "__keras_tensor__", "config": {"shape": shape, "dtype": layer.dtype, "keras_history": [layer.name, 0, index]}}


def _filled(arg: Any, tensors: list[dict[str, Any]]) -> Any:
    return tensors[arg.index] if isinstance(arg, Arg) else arg


def config_2(network: Network) -> dict[str, Any]:
    """`model_config` of an HDF5 file."""
    config = {
        "name": network.name,
        "trainable": True,
        "layers": [_layer_2(x) for x in network.layers],
        "input_layers": [[x.name, 0, 0] for x in network.inputs],
        "output_layers": [[x.name, 0, i] for x, i in network.outputs],
    }
    return {"class_name": "Functional", "config": config}


_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}


def _layer_2(layer: Layer) -> dict[str, Any]:
    if layer.kind == "InputLayer":
        shape = list(layer.shapes[0])
        config: dict[str, Any] = {"batch_input_shape": shape, "dtype": layer.dtype, "sparse": False, "ragged": False, "name": layer.name}
        return {"class_name": "InputLayer", "config": config, "name": layer.name, "inbound_nodes": []}
    names = _RENAMED.get(layer.kind, {})
    config = {"name": layer.name, "trainable": True, "dtype": "float32"}
    config |= {names.get(k, k): tidy_numbers(v) for k, v in layer.config.items()}
    return {
        "class_name": layer.kind,
        "config": config,
        "name": layer.name,
        "inbound_nodes": [[[x.name, 0, i, {}] for x, i in layer.inputs]],
    }
