"""One contract over every Keras layer that has a reader: it says what it is, and refuses a setting that it does not know."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from niudao.errors import InvalidModel, Unsupported
from niudao.formats.keras import config as description
from niudao.formats.keras.build import Runner
from niudao.formats.keras.layers import LAYERS, load_all, reads
from niudao.formats.keras.layers.call import Weight
from niudao.formats.keras.layers.core import identity
from niudao.formats.keras.tensor import Tensor
from niudao.ir.build import Builder

load_all()
NAMES = [name for name, _ in LAYERS.items()]

KERNEL = {"filters": 2, "kernel_size": 2}
NEEDED: dict[str, dict[str, Any]] = {
    "Activation": {"activation": "relu"},
    "Dense": {"units": 2},
    "TimeDistributedDense": {"output_dim": 2},
    "Highway": {"activation": "relu"},
    "EinsumDense": {"equation": "abc,cd->abd", "output_shape": [None, 2]},
    "Embedding": {"input_dim": 5, "output_dim": 2},
    "MaxoutDense": {"output_dim": 2, "nb_feature": 2},
    "MultiHeadAttention": {"num_heads": 2, "key_dim": 2},
    "Permute": {"dims": [2, 1]},
    "RepeatVector": {"n": 2},
    "Reshape": {"target_shape": [-1]},
    "Resizing": {"height": 2, "width": 2},
    "CenterCrop": {"height": 2, "width": 2},
    **{name: {"units": 2} for name in ("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU")},
    **{name: {"kernel_size": 2, "depth_multiplier": 1} for name in ("DepthwiseConv1D", "DepthwiseConv2D")},
    **{name: KERNEL for name in NAMES if "Conv" in name and "Depthwise" not in name},
    **{name: KERNEL for name in ("Deconvolution2D", "LocallyConnected1D", "LocallyConnected2D")},
}
"""What a layer cannot be without."""

STORED = {"EinsumDense": {"kernel": (4, 2)}, "MaxoutDense": {"kernel": (2, 6, 2)}}
"""Weights of layers that take their shape from the file."""

PAIRS = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot", "Merge"}
PAIRS |= {"Attention", "AdditiveAttention", "MultiHeadAttention"}

WHOLLY_REFUSED = {"ParametricSoftplus", "RandomCrop"}
"""Known by name only, so that the refusal can say what to write instead."""

NOTHING_AT_INFERENCE = {name for name, reader in LAYERS.items() if reader is identity}
"""What acts in training only gives its input back, whatever its settings are."""

RECORDED = {"TFOpLambda", "SlicingOpLambda"}
"""Functions of TensorFlow between layers; they have arguments of a call instead of settings."""

STRICT = [n for n in NAMES if not n.startswith("ops.") and n not in NOTHING_AT_INFERENCE | RECORDED]


def build(class_name: str, shape: tuple[int, ...], inputs: int, settings: dict[str, Any]) -> list[Tensor]:
    """Input layers and this one layer, described as Keras 3 does, with those weights that the layer says it misses."""
    names = [f"x{i}" for i in range(inputs)]
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "name": n, "config": {"name": n, "batch_shape": [None, *shape]}, "inbound_nodes": []} for n in names
    ]
    facts = {"shape": [None, *shape], "dtype": "float32"}
    tensors = [{"class_name": "__keras_tensor__", "config": facts | {"keras_history": [n, 0, 0]}} for n in names]
    layers.append({
        "module": "keras.layers",
        "class_name": class_name,
        "name": "odd",
        "config": {"name": "odd", "trainable": True} | settings,
        "inbound_nodes": [{"args": tensors if inputs == 1 else [tensors], "kwargs": {}}],
    })  # fmt: skip
    ends = {"input_layers": [[n, 0, 0] for n in names], "output_layers": [["odd", 0, 0]]}
    entry = {"class_name": "Functional", "config": {"name": "net", "layers": layers} | ends}
    network = description.network(entry, 3, "net.keras")
    layer = network.find("odd")
    assert layer is not None
    weights = {key: weight(key, size) for key, size in STORED.get(class_name, {}).items()}
    while True:
        b = Builder("net")
        runner = Runner(b, {layer: weights}, 3, False, "net.keras")
        try:
            return runner.network(network, [Tensor.plain(b.input(n, (None, *shape))) for n in names])
        except InvalidModel as e:
            key = e.where.attribute or ""
            if "no stored" in e.message and key not in weights:
                weights[key] = weight(key, ())
            elif "another shape" in e.message and weights[key].shape == ():
                weights[key] = weight(key, tuple(ast.literal_eval(e.expected or "")))
            else:
                raise


def weight(key: str, shape: tuple[int, ...]) -> Weight:
    return Weight(f"odd/{key}", shape, lambda: np.ones(shape, np.float32))


def tried(class_name: str, settings: dict[str, Any]) -> list[Exception | None]:
    """What building it says for inputs of every rank (a layer takes one or two of them)."""
    found: list[Exception | None] = []
    for shape in ((6,), (6, 4), (6, 5, 4), (6, 5, 4, 3)):
        try:
            build(class_name, shape, 2 if class_name in PAIRS else 1, settings)
            found.append(None)
        except Exception as e:
            found.append(e)
    return found


@pytest.mark.parametrize("name", STRICT)
def test_an_unknown_setting_is_refused_by_layer_and_key(name: str) -> None:
    errors = tried(name, NEEDED.get(name, {}) | {"mystery_setting": 3})
    assert None not in errors, "a network was built although a setting of it is unknown"
    refused = [e for e in errors if isinstance(e, Unsupported)]
    if name in WHOLLY_REFUSED:
        assert refused and all("odd" in str(e) and name in str(e) for e in refused)
        return
    named = [e for e in refused if "mystery_setting" in str(e)]
    assert named, errors
    for e in named:
        assert "odd" in str(e) and name in str(e)
        assert [(r.node, r.op, r.attribute) for r in e.refusals] == [("odd", name, "mystery_setting")]


@pytest.mark.parametrize("name", STRICT)
def test_a_setting_that_is_off_is_no_reason_to_refuse(name: str) -> None:
    """Newer versions add settings; as long as they are false or null, nothing has changed."""
    for e in tried(name, NEEDED.get(name, {}) | {"mystery_setting": None, "other_setting": False}):
        assert "_setting" not in str(e)


@pytest.mark.parametrize("name", sorted(NOTHING_AT_INFERENCE - {"InputLayer", *WHOLLY_REFUSED}))
def test_what_acts_in_training_only_gives_its_input_back(name: str) -> None:
    (y,) = build(name, (6, 5, 4), 1, {"rate": 0.5, "factor": 0.5, "stddev": 0.1})
    assert y.value.name == "x0"


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_says_what_it_is(name: str) -> None:
    """A docstring, a name of its own in the module, or a class name that it shares with an operation of a table there."""
    reader = LAYERS[name]
    module = inspect.getmodule(reader)
    assert module is not None and module.__doc__
    assert callable(reader)
    if reader.__doc__ or getattr(module, reader.__name__, None) is reader:
        return
    assert name.startswith("ops."), f"{name} is built by a nameless function"


def test_no_class_is_claimed_twice() -> None:
    """Within the sources: each name stands in one `@reads(...)`; at run time: a second claim is an error."""
    claims: Counter[str] = Counter()
    folder = Path(inspect.getfile(reads)).parent
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "reads":
                    claims.update(str(a.value) for a in mark.args if isinstance(a, ast.Constant))
    assert claims and max(claims.values()) == 1
    assert set(claims) <= set(NAMES)
    before = LAYERS["Dense"]
    with pytest.raises(ValueError, match="Dense"):
        reads("Dense")(lambda call, x: x)
    assert LAYERS["Dense"] is before
