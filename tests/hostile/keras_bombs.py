"""Keras descriptions that ask for more than anybody has: sizes, counts, depths, names, and objects that would run code."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from badfile import Verdict
from keras_config import CANARY, Config, Dialect, layer, network

Entry = tuple[str, str, str, Verdict]
HUGE = 2**40


def dumps(config: Any) -> str:
    """JSON of any depth: the library's own encoder stops at Python's limit on recursion."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        return json.dumps(config)
    finally:
        sys.setrecursionlimit(limit)


SIZES: dict[str, list[Config]] = {
    "Conv2D": [
        {"filters": 4, "kernel_size": [2**31, 2**31], "padding": "same"},
        {"filters": 4, "kernel_size": [3, 3], "strides": [2**62, 2**62], "padding": "same"},
        {"filters": 4, "kernel_size": [3, 3], "dilation_rate": [2**30, 2**30], "padding": "same"},
        {"filters": 4, "kernel_size": [3, 3], "dilation_rate": [2**30, 2**30], "padding": "valid"},
        {"filters": 2**62, "kernel_size": [1, 1]},
        {"filters": 4, "kernel_size": [3, 3], "groups": 2**62},
        {"filters": "4", "kernel_size": [3, 3]},
        {"filters": 4, "kernel_size": [1e300, 1e300]},
        {"filters": 4, "kernel_size": {"a": 1}},
    ],
    "Conv1D": [{"filters": 4, "kernel_size": [3], "padding": "causal", "dilation_rate": [2**40]}],
    "Conv2DTranspose": [
        {"filters": 4, "kernel_size": [3, 3], "strides": [2**31, 2**31]},
        {"filters": 4, "kernel_size": [3, 3], "strides": [2, 2], "output_padding": [-5, 2**40]},
    ],
    "DepthwiseConv2D": [{"kernel_size": [3, 3], "depth_multiplier": HUGE}],
    "LocallyConnected2D": [{"filters": HUGE, "kernel_size": [1, 1]}],
    "Dense": [{"units": HUGE}, {"units": -1}, {"units": 5.5}, {"units": True}, {"units": [5]}],
    "UpSampling2D": [
        {"size": [HUGE, HUGE]},
        {"size": [0, 0]},
        {"size": [-2, 2]},
        {"size": HUGE},
        {"size": [2**16, 2**16]},
        {"size": [1.5, 2]},
    ],
    "UpSampling1D": [{"size": HUGE}],
    "ZeroPadding2D": [{"padding": [[2**31, 2**31], [2**31, 2**31]]}, {"padding": [[2**15, 2**15], [2**15, 2**15]]}, {"padding": HUGE}],
    "Cropping2D": [{"cropping": [[2**62, 0], [0, 0]]}, {"cropping": [[-1, -1], [-2, 5]]}],
    "RepeatVector": [{"n": HUGE}, {"n": -1}, {"n": "many"}],
    "Reshape": [
        {"target_shape": [HUGE, -1]},
        {"target_shape": [-1, -1]},
        {"target_shape": [0]},
        {"target_shape": [1] * 100_000},
        {"target_shape": [2**32, 2**32]},
        {"target_shape": ["a"]},
    ],
    "Permute": [{"dims": [2**62, 1, 2]}, {"dims": [3, 2, 1] * 1000}],
    "MaxPooling2D": [{"pool_size": [2**31, 2**31], "padding": "same"}, {"pool_size": [2, 2], "strides": [-1, -1]}],
    "AveragePooling2D": [{"pool_size": [2**31, 2**31], "padding": "same"}, {"pool_size": [2, 2], "strides": [0, 0]}],
    "Resizing": [{"height": HUGE, "width": HUGE}, {"height": 2**15, "width": 2**15}, {"height": 0, "width": 1}],
    "CenterCrop": [{"height": HUGE, "width": HUGE}],
    "Embedding": [{"input_dim": HUGE, "output_dim": HUGE}],
    "CategoryEncoding": [{"num_tokens": HUGE, "output_mode": "multi_hot"}],
    "Discretization": [{"bin_boundaries": [float(i) for i in range(300_000)]}],
    "GaussianNoise": [{"stddev": "x"}],
    "LSTM": [{"units": HUGE}, {"units": 4, "unroll": True}],
    "MultiHeadAttention": [{"num_heads": HUGE, "key_dim": HUGE}],
    "EinsumDense": [{"equation": "a" * 50_000 + "->a", "output_shape": [HUGE], "bias_axes": None}],
    "TimeDistributed": [{"layer": {"class_name": "Flatten", "config": {"name": "f"}}}],
    "Dot": [{"axes": [1, 1]}],
    "Softmax": [{"axis": [0, 1, 2, 3, 4, 5]}, {"axis": 2**62}],
    "LayerNormalization": [{"axis": [2**62]}, {"axis": list(range(10_000))}],
    "GroupNormalization": [{"groups": HUGE}, {"groups": 0}, {"groups": -1}],
    "UnitNormalization": [{"axis": "x"}],
    "Rescaling": [{"scale": [1.0] * 500_000, "offset": 0.0}, {"scale": 1e308, "offset": 1e308}],
    "Normalization": [{"axis": -1, "mean": [0.0] * 500_000, "variance": [1.0] * 500_000}],
    "ThresholdedReLU": [{"theta": [1, 2]}],
    "ELU": [{"alpha": {}}],
    "InputLayer": [{"batch_shape": [None, 8, 8, 3]}],
}


def bombs(dialect: Dialect) -> Iterator[Entry]:
    """Name, JSON text, what the answer must say, verdict."""

    def whole(name: str, change: Callable[[Config], Any], says: str = "", verdict: Verdict = "refuse") -> Entry:
        config = copy.deepcopy(network(dialect))
        replaced = change(config)
        return name, dumps(config if replaced is None else replaced), says, verdict

    for kind, all_ in SIZES.items():
        for i, fields in enumerate(all_):

            def put(config: Config, kind: str = kind, fields: Config = fields) -> None:
                old = config["config"]["layers"][3]
                old["class_name"], old["config"] = kind, {"name": "relu"} | fields

            yield whole(f"size-{kind}-{i}", put, verdict="either")

    def sized(config: Config, size: list[Any]) -> None:
        shape_key = "batch_input_shape" if dialect == "keras-2" else "batch_shape"
        config["config"]["layers"][0]["config"][shape_key] = size

    for size in ([None, 2**31, 2**31, 3], [2**31, 8, 8, 3], [None, 2**62, 2**62, 3], [None, 8, 8, 3, *[1] * 500], [HUGE] * 4, [-1] * 4):
        yield whole(f"input-{str(size)[:30]}", lambda c, s=size: sized(c, s), verdict="either")
    yield from _counts(dialect, whole)
    yield from _depths(dialect, whole)
    yield from _words(dialect, whole)


def _chain(dialect: Dialect, count: int, kind: str = "Activation", **config: Any) -> Config:
    made = network(dialect)
    layers = made["config"]["layers"]
    head, tail = layers[:3], layers[4:]
    names = ["bn", *(f"a{i}" for i in range(count))]
    middle = [layer(dialect, kind, names[i + 1], [names[i]], **config) for i in range(count)]
    tail[0] = layer(dialect, "Flatten", "flat", [names[-1]], data_format="channels_last")
    made["config"]["layers"] = head + middle + tail
    return made


Whole = Callable[..., Entry]


def _counts(dialect: Dialect, whole: Whole) -> Iterator[Entry]:
    relu = {"activation": "relu"}
    yield whole("control-count-layers-300", lambda c: _chain(dialect, 300, **relu), verdict="open")
    yield whole("count-layers-20000", lambda c: _chain(dialect, 20_000, **relu), verdict="either")
    yield whole("count-layers-100001", lambda c: _chain(dialect, 100_001, **relu), verdict="either")
    yield whole("count-doubling", lambda c: _chain(dialect, 30, "UpSampling2D", size=[2, 2]), verdict="either")
    yield whole("count-padding", lambda c: _chain(dialect, 40, "ZeroPadding2D", padding=[[2**20] * 2] * 2), verdict="either")

    def concatenated(config: Config) -> Config:
        made = network(dialect)
        layers = made["config"]["layers"]
        names = ["bn", *(f"a{i}" for i in range(30))]
        middle = [layer(dialect, "Concatenate", names[i + 1], [names[i]] * 2, axis=-1) for i in range(30)]
        layers[4] = layer(dialect, "Flatten", "flat", [names[-1]], data_format="channels_last")
        made["config"]["layers"] = [*layers[:3], *middle, *layers[4:]]
        return made

    yield whole("count-concat-doubling", concatenated, verdict="either")

    def wide(config: Config) -> None:
        config["config"]["layers"][3] = layer(dialect, "Add", "relu", ["bn"] * 100_000)

    yield whole("count-feeds-100000", wide, verdict="either")

    def shared(config: Config) -> Config:
        """A network called twice by a network called twice by ...: 2^20 layers out of twenty."""
        inner = network(dialect)
        inner["config"]["layers"] = [
            inner["config"]["layers"][0],
            layer(dialect, "Activation", "act", ["image"], activation="relu"),
        ]
        inner["config"]["output_layers"] = [["act", 0, 0]]
        for i in range(20):
            holder = network(dialect)
            first = holder["config"]["layers"][0]
            first_call = layer(dialect, inner["class_name"], "inner", ["image"])
            if dialect == "keras-2":
                twice: Any = [[["image", 0, 0, {}]], [["inner", 1, 0, {}]]]
                last = ["inner", 2, 0]
            else:
                again = copy.deepcopy(first_call["inbound_nodes"][0])
                again["args"][0]["config"]["keras_history"] = ["inner", 0, 0]
                twice, last = [first_call["inbound_nodes"][0], again], ["inner", 1, 0]
            entry = first_call | {"config": inner["config"], "inbound_nodes": twice}
            holder["config"] = {"name": f"h{i}", "layers": [first, entry], "input_layers": [["image", 0, 0]], "output_layers": [last]}
            inner = holder
        return inner

    yield whole("count-shared-networks", shared)
    yield whole("count-extra-keys", lambda c: c["config"].update({f"k{i}": i for i in range(200_000)}), verdict="either")


def _depths(dialect: Dialect, whole: Whole) -> Iterator[Entry]:
    def nested(depth: int) -> Config:
        inner: Config = layer(dialect, "Activation", "act", [], activation="relu")
        for i in range(depth):
            inner = {"class_name": "Sequential", "name": f"s{i}", "config": {"name": f"s{i}", "layers": [inner]}}
        return inner

    for depth in (20, 45, 500):
        yield whole(f"nested-sequentials-{depth}", lambda c, d=depth: c["config"]["layers"][3].update(nested(d)), verdict="either")

    def wrapped(depth: int, kind: str) -> Config:
        inner: Config = {"class_name": "Activation", "config": {"name": "a", "activation": "relu"}}
        for _ in range(depth):
            inner = {"class_name": kind, "config": {"name": "t", "layer": inner}}
        return inner["config"]

    for kind in ("TimeDistributed", "Bidirectional", "SpectralNormalization"):
        for depth in (2, 45, 400):
            yield whole(
                f"wrapped-{kind}-{depth}",
                lambda c, k=kind, d=depth: c["config"]["layers"][3].update(class_name=k, config=wrapped(d, k) | {"name": "relu"}),
                verdict="either",
            )
    deep: Any = 0
    for _ in range(90):
        deep = [deep]
    yield whole("deep-kwargs", lambda c: c["config"]["layers"][3]["config"].update(activation=deep), verdict="either")
    yield whole("deep-inbound", lambda c: c["config"]["layers"][3].update(inbound_nodes=deep), verdict="either")
    yield whole("deep-inputs", lambda c: c["config"].update(input_layers=deep), verdict="either")


def _words(dialect: Dialect, whole: Whole) -> Iterator[Entry]:
    def entry(field: str, new: Any) -> Callable[[Config], None]:
        return lambda c: c["config"]["layers"][3].__setitem__(field, new)

    for module in ("os", "builtins", "keras.src.saving.serialization_lib", "../../evil", "subprocess"):
        yield whole(f"module-{module[:12]}", entry("module", module), verdict="either")
    for name in ("os>system", "builtins>exec", "Custom>Activation", "\u202e"):
        yield whole(f"registered-{len(name)}-{name[:2]}", entry("registered_name", name), verdict="either")
    yield whole("safe-mode-false", lambda c: c.update(safe_mode=False), verdict="either")
    call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
    for field in ("kernel_initializer", "kernel_regularizer", "kernel_constraint", "bias_initializer", "activation", "dtype"):
        yield whole(f"call-in-{field}", lambda c, f=field: c["config"]["layers"][1]["config"].__setitem__(f, call), verdict="either")
    yield whole("compile-config", lambda c: c.update(compile_config={"optimizer": call, "loss": call}), verdict="either")
    yield whole("build-config", lambda c: c.update(build_config={"input_shape": call}), verdict="either")
    sav = {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"name": "relu", "filepath": "/etc", "call_endpoint": "serve"}}
    yield whole("tfsm-layer", lambda c: c["config"]["layers"][3].update(sav), "TFSMLayer")
    lookup = {"class_name": "StringLookup", "config": {"name": "relu", "vocabulary": "/etc/passwd"}}
    yield whole("vocabulary-path", lambda c: c["config"]["layers"][3].update(lookup))
    code = {"class_name": "Lambda", "config": {"name": "relu", "function": {"class_name": "__lambda__", "config": {"code": CANARY}}}}
    yield whole("lambda-dressed", lambda c: c["config"]["layers"][3].update(code), "Lambda")
    for length in (10_000, 30_000):
        yield whole(f"name-{length}", lambda c, n=length: c["config"]["layers"][3]["config"].update(name="n" * n), verdict="either")
    text = json.dumps(network(dialect))
    for name, old, new in (
        ("duplicate-keys", '"units": 5', '"units": 9, "units": 5'),
        ("duplicate-layers", '"layers": [', '"layers": [], "layers": ['),
        ("huge-float-int", '"units": 5', '"units": 5' + "0" * 400 + ".0"),
        ("minus-zero", '"units": 5', '"units": -0'),
        ("number-tail", '"units": 5', '"units": 5e-999'),
        ("epsilon-tiny", "0.001", "1e-320"),
        ("epsilon-negative", "0.001", "-1e30"),
        ("key-nul", '"units"', '"un\\u0000its"'),
        ("key-surrogate", '"units"', '"\\udc80units"'),
        ("comment", '"units": 5', '"units": /* five */ 5'),
        ("single-commas", '"units": 5', '"units": 5,'),
    ):
        yield f"text-{name}", text.replace(old, new), "", "either"
    yield "text-null-bytes", text + "\0" * 100, "", "refuse"
    yield "text-newline-names", text.replace('"flat"', '"fl\\nat\\r\\u001b[2J"'), "", "either"
    yield "text-bidi-names", text.replace('"flat"', '"fl\\u202eat\\u2066"'), "", "either"
    yield "text-surrogate-everywhere", text.replace('"flat"', '"fl\\udfffat"').replace('"image"', '"im\\ud83dage"'), "", "either"
