"""A small Keras network described as each generation of Keras does, its weights, and every way to spoil the description."""

from __future__ import annotations

import base64
import copy
import json
import marshal
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from badfile import Verdict

Dialect = Literal["keras-2", "keras-3"]
Config = dict[str, Any]

SHAPES: dict[str, list[tuple[int, ...]]] = {"conv": [(3, 3, 3, 4), (4,)], "bn": [(4,), (4,), (4,), (4,)], "fc": [(256, 5), (5,)]}
PARTS = {"conv": ["kernel", "bias"], "bn": ["gamma", "beta", "moving_mean", "moving_variance"], "fc": ["kernel", "bias"]}
CANARY = "niudao-was-executed"


def arrays(layer: str) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(len(layer))
    return [rng.uniform(0.1, 1, s).astype("float32") for s in SHAPES[layer]]


def layer(dialect: Dialect, kind: str, name: str, feeds: list[str], /, **config: Any) -> Config:
    """A layer and the layers that feed it, in the dialect's words."""
    fields: Config = {"name": name, "trainable": True} | config
    made: Config = {"class_name": kind, "config": fields, "name": name}
    if dialect == "keras-2":
        made["inbound_nodes"] = [[[f, 0, 0, {}] for f in feeds]] if feeds else []
        return made
    made |= {"module": "keras.layers", "registered_name": None}
    links = [
        {"class_name": "__keras_tensor__", "config": {"shape": [None, 8, 8, 3], "dtype": "float32", "keras_history": [f, 0, 0]}}
        for f in feeds
    ]
    made["inbound_nodes"] = [{"args": links if len(links) == 1 else [links], "kwargs": {}}] if feeds else []
    return made


def network(dialect: Dialect) -> Config:
    """Conv2D, BatchNormalization, ReLU, Flatten, Dense on 8 x 8 pictures: the unbroken description."""
    shape_key = "batch_input_shape" if dialect == "keras-2" else "batch_shape"
    layers = [
        layer(dialect, "InputLayer", "image", [], **{shape_key: [None, 8, 8, 3]}, dtype="float32", sparse=False),
        layer(
            dialect,
            "Conv2D",
            "conv",
            ["image"],
            filters=4,
            kernel_size=[3, 3],
            strides=[1, 1],
            padding="same",
            data_format="channels_last",
            dilation_rate=[1, 1],
            activation="linear",
            use_bias=True,
        ),
        layer(
            dialect,
            "BatchNormalization",
            "bn",
            ["conv"],
            axis=[3] if dialect == "keras-2" else -1,
            momentum=0.99,
            epsilon=0.001,
            center=True,
            scale=True,
        ),
        layer(dialect, "Activation", "relu", ["bn"], activation="relu"),
        layer(dialect, "Flatten", "flat", ["relu"], data_format="channels_last"),
        layer(dialect, "Dense", "fc", ["flat"], units=5, activation="softmax", use_bias=True),
    ]
    inner = {"name": "net", "layers": layers, "input_layers": [["image", 0, 0]], "output_layers": [["fc", 0, 0]]}
    if dialect == "keras-2":
        return {"class_name": "Model", "config": inner}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": inner,
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
    }


def lambda_code() -> str:
    """What Keras stores of `lambda x: ...`: marshalled byte code, here one that leaves a file behind."""
    code = compile(f"open({CANARY!r}, 'w').close()", "lambda", "exec")
    return base64.b64encode(marshal.dumps(code)).decode()


Change = Callable[[Config], Any]


def faults(dialect: Dialect) -> Iterator[tuple[str, str, str, Verdict]]:
    """Name, JSON text, what the answer must say, verdict."""

    def whole(name: str, change: Change, says: str = "", verdict: Verdict = "refuse") -> tuple[str, str, str, Verdict]:
        config = copy.deepcopy(network(dialect))
        replaced = change(config)
        return name, json.dumps(config if replaced is None else replaced), says, verdict

    def of(i: int, field: str, new: Any, says: str = "", verdict: Verdict = "refuse") -> tuple[str, str, str, Verdict]:
        """One field of one layer's own config."""

        def change(config: Config) -> None:
            config["config"]["layers"][i]["config"][field] = new

        name = config_names[i]
        return whole(f"{name}-{field}-{_short(new)}", change, says, verdict)

    config_names = ["image", "conv", "bn", "relu", "flat", "fc"]
    shape_key = "batch_input_shape" if dialect == "keras-2" else "batch_shape"

    for text, name in (
        ("", "empty-text"),
        ("null", "null"),
        ("[]", "list"),
        ("7", "number"),
        ('"net"', "string"),
        ("true", "true"),
        ("{}", "empty-object"),
    ):
        yield f"json-{name}", text, "", "refuse"
    good = json.dumps(network(dialect))
    yield "json-cut", good[: len(good) // 2], "", "refuse"
    yield "json-twice", good + good, "", "refuse"
    yield "json-single-quotes", good.replace('"', "'"), "", "refuse"
    yield "json-deep-lists", "[" * 100_000 + "]" * 100_000, "", "refuse"
    yield "json-deep-objects", '{"a":' * 50_000 + "1" + "}" * 50_000, "", "refuse"
    yield "json-deep-inside", good.replace('"softmax"', "[" * 3000 + "]" * 3000), "", "refuse"
    yield "json-huge-number", good.replace('"units": 5', '"units": ' + "9" * 5000), "", "refuse"
    yield "json-big-exponent", good.replace('"units": 5', '"units": 1e400'), "", "refuse"
    yield "json-nan-units", good.replace('"units": 5', '"units": NaN'), "", "refuse"
    yield "json-nan-epsilon", good.replace("0.001", "NaN"), "", "refuse"
    yield "json-infinite-epsilon", good.replace("0.001", "Infinity"), "", "refuse"
    yield "json-surrogate-name", good.replace('"relu"', '"\\ud800"'), "", "refuse"
    yield "json-nul-name", good.replace('"flat"', '"fl\\u0000at"'), "", "either"
    yield "control-json-bom-free", good, "", "open"
    yield "control-json-escapes", good.replace('"flat"', '"fl\\u00e4t <b>"'), "", "open" if dialect == "keras-3" else "either"
    yield "control-json-spaces", json.dumps(network(dialect), indent=4), "", "open"

    for field, news in {
        "class_name": [None, 7, [], {}, "Frobnicate", ""],
        "config": [None, 7, [], "text", {}],
    }.items():
        for new in news:
            says = "Frobnicate" if new == "Frobnicate" else ""
            # a class of the user's own may derive from Functional: its name at the top says nothing
            kind: Verdict = "either" if field == "class_name" and isinstance(new, str) else "refuse"
            yield whole(f"top-{field}-{_short(new)}", lambda c, f=field, n=new: c.__setitem__(f, n), says, kind)
            yield whole(f"layer-{field}-{_short(new)}", lambda c, f=field, n=new: c["config"]["layers"][3].__setitem__(f, n), says)
    yield whole("top-without-class", lambda c: c.pop("class_name") and None)
    for new in (None, 7, "text", {}, [], [None], [7], ["text"], [[]], [{}]):
        yield whole(f"layers-{_short(new)}", lambda c, n=new: c["config"].__setitem__("layers", n))
    for field in ("input_layers", "output_layers"):
        for new in (
            None,
            7,
            "x",
            [],
            [7],
            [["nowhere", 0, 0]],
            [["fc"]],
            [["fc", 5, 0]],
            [["fc", 0, 9]],
            [["fc", -1, 0]],
            [["fc", "a", {}]],
            [["fc", 2**70, 0]],
            [[["fc"]]],
        ):
            verdict: Verdict = "either" if field == "input_layers" else "refuse"  # the inputs can be found without the list
            yield whole(f"{field}-{_short(new)}", lambda c, f=field, n=new: c["config"].__setitem__(f, n), verdict=verdict)
    for new in (
        None,
        7,
        "x",
        [7],
        [[7]],
        {},
        [[["nowhere", 0, 0, {}]]],
        [[["bn", 3, 0, {}]]],
        [[["bn", 0, 7, {}]]],
        [[["bn", -1, 0, {}]]],
        [[[[], 0, 0, {}]]],
    ):
        yield whole(f"inbound-{_short(new)}", lambda c, n=new: c["config"]["layers"][3].__setitem__("inbound_nodes", n))

    def feeds(i: int, *names: str) -> Change:
        def change(config: Config) -> None:
            old = config["config"]["layers"][i]
            config["config"]["layers"][i] = layer(dialect, old["class_name"], old["name"], list(names), **old["config"])

        return change

    yield whole("link-to-nowhere", feeds(3, "nowhere"), "nowhere")
    yield whole("link-to-itself", feeds(3, "relu"), "cycl|circle|itself|order|relu|layer")
    yield whole("link-cycle", feeds(2, "relu"), "cycl|circle|itself|order|bn|relu|layer")
    yield whole("link-two-feeds", feeds(3, "bn", "conv"))
    yield whole("link-none", feeds(3))
    yield whole("layer-twice", lambda c: c["config"]["layers"].append(c["config"]["layers"][3]), "twice|two|relu|repeat|more")
    yield whole("layer-lost", lambda c: c["config"]["layers"].pop(2) and None, "bn")
    yield whole(
        "layer-many-calls",
        lambda c: c["config"]["layers"][3].__setitem__("inbound_nodes", c["config"]["layers"][3]["inbound_nodes"] * 20_000),
        verdict="either",
    )
    yield whole("itself-nested", lambda c: c["config"]["layers"][3].update(class_name=c["class_name"], config=copy.deepcopy(c["config"])))

    def deep(config: Config) -> Config:
        inner: Config = copy.deepcopy(config)
        for _ in range(120):
            holder = copy.deepcopy(network(dialect))
            holder["config"]["layers"] = [
                {"class_name": "Sequential", "name": "s", "inbound_nodes": [], "config": {"name": "s", "layers": [inner]}}
            ]
            inner = holder
        return inner

    yield whole("nested-models-120", deep)

    unknown = [
        "Frobnicate",
        "Lambda",
        "TFSMLayer",
        "os.system",
        "__import__",
        "../../evil",
        "Frob\x1b[31mnicate",
        "\u202eevil",
        "F" * 50_000,
    ]
    for kind in unknown:
        says = "Frobnicate" if kind == "Frobnicate" else "Lambda" if kind == "Lambda" else ""
        yield whole(f"unknown-layer-{_short(kind)}", lambda c, k=kind: c["config"]["layers"][3].update(class_name=k), says)
    code = {"class_name": "__lambda__", "config": {"code": lambda_code(), "defaults": None, "closure": None}}
    stored = {"keras-2": [lambda_code(), None, None], "keras-3": code}[dialect]

    def as_lambda(config: Config) -> None:
        old = config["config"]["layers"][3]
        old["class_name"] = "Lambda"
        old["config"] = {
            "name": "relu",
            "function": stored,
            "function_type": "lambda",
            "module": "__main__",
            "arguments": {},
            "safe_mode": False,
        }

    yield whole("lambda-code", as_lambda, "Lambda")

    def injected(config: Config) -> None:
        config["config"]["layers"][3].update(module="os", class_name="function", registered_name="system", config="touch " + CANARY)

    yield whole("module-injection", injected)
    yield of(3, "activation", {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "exec"})
    yield of(3, "activation", code)

    def many_unknown(config: Config) -> None:
        for i, word in ((2, "Frobone"), (3, "Frobtwo"), (4, "Frobthree")):
            config["config"]["layers"][i]["class_name"] = word

    yield whole("unknown-layers-all-named", many_unknown, "(?s)(?=.*Frobone)(?=.*Frobtwo)(?=.*Frobthree)")

    for new in (
        None,
        7,
        "8x8",
        [],
        [None],
        [None, 8, 8],
        [None, -8, 8, 3],
        [None, 0, 8, 3],
        [None, "a", 8, 3],
        [None, 8.5, 8, 3],
        [None, 8, 8, 5],
        [None, True, 8, 3],
        [None, [8], 8, 3],
        [None, 2**70, 8, 3],
        [None, {}, 8, 3],
    ):
        yield of(0, shape_key, new, verdict="either" if isinstance(new, list) and True in new else "refuse")
    for new in (None, 7, "float99", [], {}, "string", "complex64"):
        yield of(0, "dtype", new, verdict="either" if new is None else "refuse")
    for new in (None, 0, -4, "four", 4.5, [4], {}, 10**12, 2**70, 7):
        yield of(1, "filters", new, "conv")
    for new in (None, 0, "x", [], [3], [3, 3, 3], [0, 3], [-3, 3], [3, "a"], [3, None], [2**40, 3], {}, [5, 5]):
        yield of(1, "kernel_size", new, "conv")
    for new in ([0, 0], [-1, 1], "two", [1], [1, 1, 1], {}, [1, None], [2**70, 1]):
        yield of(1, "strides", new, "conv")
    for new in ("weird", 7, [], {}, "causal"):
        yield of(1, "padding", new, "conv")
    for new in ("channels_middle", 7, []):
        yield of(1, "data_format", new, "conv")
    for new in ([0, 0], [-1, 1], "two", [1, 1, 1]):
        yield of(1, "dilation_rate", new, "conv")
    for new in ("frobnicate", 7, [], {}, {"class_name": "Frob"}, {"class_name": 3}, "../x"):
        yield of(3, "activation", new)
    yield of(1, "use_bias", False, verdict="either")
    yield of(1, "use_bias", "maybe", verdict="either")
    yield of(1, "groups", 3, "conv")
    yield of(1, "groups", 0, "conv")
    for new in (9, -9, "last", [3, 2], None, {}, [], 2**70, 1.5):
        yield of(2, "axis", new)
    for new in ("small", None, [], {}, -1):
        yield of(2, "epsilon", new, verdict="either" if new == -1 else "refuse")
    for new in (None, 0, -5, "five", 10**12, [5], 6, 5.5):
        yield of(5, "units", new, "fc")
    for new in (7, [], {}, None):
        yield whole(
            f"layer-name-{_short(new)}",
            lambda c, n=new: (
                c["config"]["layers"][3].__setitem__("name", n),
                c["config"]["layers"][3]["config"].__setitem__("name", n),
                None,
            )[2],
        )
    yield whole(
        "layer-name-path", lambda c: c["config"]["layers"][3]["config"].__setitem__("name", "../../../../etc/passwd"), verdict="either"
    )

    def wrapped(kind: str, inner: Any) -> Change:
        def change(config: Config) -> None:
            old = config["config"]["layers"][3]
            old["class_name"], old["config"] = kind, {"name": "relu", "layer": inner}

        return change

    for kind in ("TimeDistributed", "Bidirectional", "Wrapper"):
        for inner in (None, 7, "x", {}, [], {"class_name": "Dense"}, {"class_name": "Lambda", "config": {}}):
            yield whole(f"{kind}-{_short(inner)}", wrapped(kind, inner))
    nest: Any = {"class_name": "Dense", "config": {"name": "d", "units": 2}}
    for _ in range(150):
        nest = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": nest}}
    yield whole("wrappers-150", wrapped("TimeDistributed", nest))

    spatial: dict[str, Config] = {
        "Reshape": {"target_shape": [7, 11]},
        "Permute": {"dims": [1, 1, 9]},
        "Cropping2D": {"cropping": [[9, 9], [9, 9]]},
        "ZeroPadding2D": {"padding": [[-3, 0], [0, 2**50]]},
        "UpSampling2D": {"size": [2**30, 2**30]},
        "MaxPooling2D": {"pool_size": [0, 0], "strides": [0, 0]},
        "AveragePooling2D": {"pool_size": "big"},
        "RepeatVector": {"n": 2**60},
        "Embedding": {"input_dim": 2**50, "output_dim": 2**10},
        "Concatenate": {"axis": 99},
        "Dot": {"axes": [9, 9]},
        "Resizing": {"height": -1, "width": 2**40},
        "LSTM": {"units": 2**40},
        "Rescaling": {"scale": "big"},
        "ReLU": {"max_value": "six"},
        "LeakyReLU": {"alpha": []},
        "PReLU": {"shared_axes": [9]},
        "Softmax": {"axis": 77},
        "GlobalAveragePooling2D": {"data_format": 3},
        "SeparableConv2D": {"filters": 3, "kernel_size": [3, 3]},
        "Conv2DTranspose": {"filters": 3, "kernel_size": [3, 3], "output_padding": [9, 9]},
    }
    for kind, fields in spatial.items():

        def put(config: Config, kind: str = kind, fields: Config = fields) -> None:
            old = config["config"]["layers"][3]
            old["class_name"], old["config"] = kind, {"name": "relu"} | fields

        yield whole(f"{kind}-impossible", put, verdict="either" if kind == "UpSampling2D" else "refuse")


def _short(new: Any) -> str:
    text = new if isinstance(new, str) else json.dumps(new)
    clean = "".join(c if c.isalnum() or c in "-_.[]{}" else "_" for c in text)
    return clean[:24] + (f"~{len(text)}" if len(clean) > 24 else "") or "empty"
