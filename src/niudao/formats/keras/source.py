"""Readable Python source that builds the same model in Keras 3."""

from __future__ import annotations

import keyword
import re
from typing import Any

from niudao.formats.keras.archive_out import tidy_numbers
from niudao.formats.keras.emit.graph import Arg, Layer
from niudao.formats.keras.emit.network import Network

_DEFAULTS: dict[str, Any] = {
    "data_format": "channels_last",
    "dilation_rate": 1,
    "groups": 1,
    "activation": "linear",
    "use_bias": True,
    "padding": "valid",
    "center": True,
    "scale": True,
    "axis": -1,
    "momentum": 0.99,
    "strides": 1,
    "keepdims": False,
    "depth_multiplier": 1,
    "negative_slope": 0.0,
    "threshold": 0.0,
    "mask_zero": False,
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "interpolation": "nearest",
    "normalize": False,
    "shared_axes": None,
    "max_value": None,
    "reset_after": True,
    "merge_mode": "concat",
}
_MATTERS = {("Rescaling", "scale"), ("LeakyReLU", "negative_slope"), ("MaxPooling", "strides"), ("AveragePooling", "strides")}
_LEADING = ("filters", "units", "kernel_size", "pool_size", "size", "padding_", "target_shape", "dims", "input_dim", "output_dim")


def source_of(network: Network, weights: str) -> str:
    """The module's text; `weights` is the name of the file beside it."""
    names = variables(network)
    lines = ['"""A Keras 3 model; its weights lie beside this file."""', ""]
    arrays = ["import numpy as np"] if any(isinstance(a, dict) for x in network.layers for a in x.args) else []
    lines += ["from pathlib import Path", "", "import keras", *arrays, "from keras import layers", "", ""]
    lines += ["def build() -> keras.Model:", '    """The network, its weights not yet loaded."""']
    for layer in network.layers:
        lines.append(f"    {names[layer]} = {_call(layer, names)}")
    inputs = ", ".join(names[x] for x in network.inputs)
    outputs = ", ".join(_value(x, i, names) for x, i in network.outputs)
    one = len(network.inputs) == 1, len(network.outputs) == 1
    lines.append(
        f"    return keras.Model({inputs if one[0] else f'[{inputs}]'}, {outputs if one[1] else f'[{outputs}]'}, name={network.name!r})"
    )
    lines += ["", "", "def load() -> keras.Model:", '    """The network with its weights."""', "    model = build()"]
    lines += [f"    model.load_weights(Path(__file__).with_name({weights!r}))", "    return model", ""]
    lines += ["", 'if __name__ == "__main__":', "    load().summary()", ""]
    return "\n".join(lines)


def variables(network: Network) -> dict[Layer, str]:
    """A Python name for each layer."""
    names: dict[Layer, str] = {}
    taken = {"keras", "layers", "np", "Path", "build", "load", "float", "slice"}
    for layer in network.layers:
        name = re.sub(r"\W", "_", layer.name, flags=re.ASCII)
        name = f"x_{name}" if not name[:1].isalpha() else name
        name = f"{name}_" if keyword.iskeyword(name) else name
        while name in taken:
            name += "_"
        taken.add(name)
        names[layer] = name
    return names


def _value(layer: Layer, index: int, names: dict[Layer, str]) -> str:
    return f"{names[layer]}[{index}]" if len(layer.shapes) > 1 else names[layer]


def _call(layer: Layer, names: dict[Layer, str]) -> str:
    if layer.kind == "InputLayer":
        dtype = "" if layer.dtype == "float32" else f", dtype={layer.dtype!r}"
        return f"keras.Input({_plain(list(layer.shapes[0][1:]))}{dtype}, name={layer.name!r})"
    values = [_value(x, i, names) for x, i in layer.inputs]
    if layer.op:
        return _operation(layer, values)
    config = _config(layer)
    arguments = ", ".join([*(f"{k}={v}" if k else v for k, v in config), f"name={layer.name!r}"])
    called = f"[{', '.join(values)}]" if layer.as_list else ", ".join(values)
    return f"layers.{layer.kind}({arguments})({called})"


def _operation(layer: Layer, values: list[str]) -> str:
    """A call of a function of `keras.ops`."""
    function = layer.op.split(":")[1]
    if function == "get_item":
        cuts = ", ".join(_slice(c["config"]) for c in layer.args[1])
        return f"{values[0]}[{cuts}]"
    arguments = [values[a.index] if isinstance(a, Arg) else _plain(a) for a in layer.args]
    arguments += [f"{k}={_plain(v)}" for k, v in layer.config.items()]
    return f"keras.ops.{function}({', '.join(arguments)})"


def _slice(config: dict[str, Any]) -> str:
    text = ":".join("" if config[k] is None else str(config[k]) for k in ("start", "stop"))
    return text + (f":{config['step']}" if config["step"] is not None else "")


def _config(layer: Layer) -> list[tuple[str, str]]:
    """Constructor arguments without those that say what Keras assumes anyway; the first one stands without its word."""
    found: list[tuple[str, str]] = []
    config = dict(layer.config)
    if layer.kind in ("Bidirectional", "TimeDistributed"):
        inner = config["layer"]
        held = Layer(inner["class_name"], "", {k: v for k, v in inner["config"].items() if k != "name"})
        arguments = ", ".join(f"{k}={v}" if k else v for k, v in _config(held))
        return [("", f"layers.{inner['class_name']}({arguments})")]
    for key, value in config.items():
        plain = _short(value) if key in ("kernel_size", "strides", "dilation_rate", "pool_size", "size") else value
        matters = any(layer.kind.startswith(kind) and key == k for kind, k in _MATTERS)
        matters = matters or (layer.kind in ("LSTM", "GRU", "SimpleRNN") and key == "activation")
        if key in _DEFAULTS and plain == _DEFAULTS[key] and not matters:
            continue
        if (layer.kind.startswith(("MaxPooling", "AveragePooling")) and key == "strides") and plain == _short(config["pool_size"]):
            continue
        first = not found and key in (*_LEADING, "activation", "cropping", "padding", "scale") and key == next(iter(config))
        found.append(("" if first else key, _plain(plain)))
    return found


def _short(value: Any) -> Any:
    """One number for a list of equal ones."""
    return value[0] if isinstance(value, list) and value and all(v == value[0] for v in value) else value


def _plain(value: Any) -> str:
    if isinstance(value, dict) and value.get("class_name") == "__numpy__":
        held = value["config"]
        return f"np.array({tidy_numbers(held['value'])}, {held['dtype']!r})"
    value = tidy_numbers(value)
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_plain(v) for v in value)}{',' if len(value) == 1 else ''})"
    return repr(value)
