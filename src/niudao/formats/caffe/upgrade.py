"""Files of every generation as today's layers, and training networks as networks for inference.

2013 (V0): `layers { layer { type: "conv" kernelsize: 5 } }`; 2014 (V1): `layers { type: CONVOLUTION }`; since then (V2):
`layer { type: "Convolution" }`. Sources: BVLC Caffe's upgrade_proto.cpp and net.cpp (FilterNet, StateMeetsRule).
"""

from __future__ import annotations

from typing import Any

from niudao.errors import LimitError, ReadError, Where
from niudao.formats.caffe.net import Input, Layer, Net
from niudao.formats.caffe.schema import schema
from niudao.formats.protobuf.message import Message, message

_V1 = {
    "ABSVAL": "AbsVal", "ACCURACY": "Accuracy", "ARGMAX": "ArgMax", "BNLL": "BNLL", "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss", "CONVOLUTION": "Convolution", "DATA": "Data", "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout", "DUMMY_DATA": "DummyData", "EUCLIDEAN_LOSS": "EuclideanLoss", "ELTWISE": "Eltwise", "EXP": "Exp",
    "FLATTEN": "Flatten", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "HINGE_LOSS": "HingeLoss", "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData", "INFOGAIN_LOSS": "InfogainLoss", "INNER_PRODUCT": "InnerProduct", "LRN": "LRN",
    "MEMORY_DATA": "MemoryData", "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss", "MVN": "MVN", "POOLING": "Pooling",
    "POWER": "Power", "RELU": "ReLU", "SIGMOID": "Sigmoid", "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence", "SOFTMAX": "Softmax", "SOFTMAX_LOSS": "SoftmaxWithLoss", "SPLIT": "Split", "SLICE": "Slice",
    "TANH": "TanH", "WINDOW_DATA": "WindowData", "THRESHOLD": "Threshold",
}  # fmt: skip
_V0 = {
    "conv": "Convolution", "pool": "Pooling", "relu": "ReLU", "lrn": "LRN", "innerproduct": "InnerProduct", "dropout": "Dropout",
    "softmax": "Softmax", "softmax_loss": "SoftmaxWithLoss", "concat": "Concat", "sigmoid": "Sigmoid", "tanh": "TanH",
    "flatten": "Flatten", "split": "Split", "data": "Data", "images": "ImageData", "bnll": "BNLL", "im2col": "Im2col",
    "accuracy": "Accuracy", "euclidean_loss": "EuclideanLoss", "hinge_loss": "HingeLoss", "infogain_loss": "InfogainLoss",
    "multinomial_logistic_loss": "MultinomialLogisticLoss", "hdf5_data": "HDF5Data", "hdf5_output": "HDF5Output",
    "window_data": "WindowData", "padding": "padding",
}  # fmt: skip
_V0_FIELDS = {
    # V0 field -> (sub-message, field there) by layer type; "" stands for the rest
    "num_output": {"Convolution": ("convolution_param", "num_output"), "InnerProduct": ("inner_product_param", "num_output")},
    "biasterm": {"Convolution": ("convolution_param", "bias_term"), "InnerProduct": ("inner_product_param", "bias_term")},
    "pad": {"Convolution": ("convolution_param", "pad"), "Pooling": ("pooling_param", "pad")},
    "kernelsize": {"Convolution": ("convolution_param", "kernel_size"), "Pooling": ("pooling_param", "kernel_size")},
    "group": {"Convolution": ("convolution_param", "group")},
    "stride": {"Convolution": ("convolution_param", "stride"), "Pooling": ("pooling_param", "stride")},
    "pool": {"Pooling": ("pooling_param", "pool")},
    "dropout_ratio": {"Dropout": ("dropout_param", "dropout_ratio")},
    "local_size": {"LRN": ("lrn_param", "local_size")},
    "alpha": {"LRN": ("lrn_param", "alpha")},
    "beta": {"LRN": ("lrn_param", "beta")},
    "k": {"LRN": ("lrn_param", "k")},
    "concat_dim": {"Concat": ("concat_param", "concat_dim")},
    "cropsize": {"": ("transform_param", "crop_size")},
    "scale": {"": ("transform_param", "scale")},
    "meanfile": {"": ("transform_param", "mean_file")},
    "mirror": {"": ("transform_param", "mirror")},
}

DATA = frozenset(
    "Data ImageData HDF5Data MemoryData WindowData DummyData Input AnnotatedData VideoData LmdbData BinaryData DenseImageData "
    "ImageSegData MultiLabelData CompactData".split()
)
"""Layers that make data."""

MAX_LAYERS = 10_000
"""The deepest networks that people trained in Caffe have a few thousand."""

MAX_INPUTS = 1000
"""And a handful of inputs."""

MAX_NAME = 1 << 16
"""Bytes of a layer's or blob's name: every value, node and weight of the layer carries it."""

LOSSES = {"SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid"}
"""Losses that hold the network's last activation."""

ENDS = frozenset(
    "Accuracy EuclideanLoss HingeLoss InfogainLoss ContrastiveLoss MultinomialLogisticLoss MultiBoxLoss SmoothL1Loss FocalLoss TripletLoss "
    "CenterLoss HDF5Output ImageOutput CtcLoss LabelsequenceAccuracy DetectionEvaluate SoftmaxWithFocalLoss".split()
)
"""Layers that only training and testing need."""


def layer_messages(net: Message) -> tuple[list[Message], str]:
    """The net's layers as today's LayerParameters, and the generation they came from.

    Raises:
        ReadError: A layer has a type that its generation does not know.
    """
    if net.has("layer"):
        return [m for m in net.all("layer")], "V2"
    old = net.all("layers")
    if any(m.has("layer") for m in old):
        return _folded([_from_v0(m) for m in old]), "V0"
    return [_from_v1(m) for m in old], "V1"


def _from_v1(old: Message) -> Message:
    kind = old.get("type")
    if kind == "NONE":
        kind = ""
    elif kind not in _V1:
        raise ReadError(f"layer {old.get('name')!r} has no type of a V1 network.", where=Where(line=old.line or None), got=str(kind)[:60])
    new = message(schema(), "LayerParameter", name=old.get("name"), type=_V1.get(kind, ""))
    new.line, new.column = old.line, old.column
    for name in ("bottom", "top", "blobs", "include", "exclude", "loss_weight"):
        if old.has(name):
            new.set(name, *old.fields[name])
    for name, values in old.fields.items():
        if name.endswith("_param"):
            new.set(name, *values)
    if old.has("param"):  # names of shared parameters
        new.set("param", *(message(schema(), "ParamSpec", name=n) for n in old.all("param")))
    new.unknown.extend(old.unknown)
    return new


def _from_v0(old: Message) -> Message:
    inner = old.sub("layer")
    name, stated = inner.get("name"), inner.get("type")
    if stated not in _V0:
        raise ReadError(
            f"layer {name!r} has no type of a V0 network.",
            where=Where(line=old.line or None),
            expected=", ".join(sorted(_V0)),
            got=str(stated)[:60],
        )
    kind = _V0[stated]
    new = message(schema(), "LayerParameter", name=name, type=kind)
    new.line, new.column = old.line, old.column
    for key in ("bottom", "top"):
        if old.has(key):
            new.set(key, *old.fields[key])
    if inner.has("blobs"):
        new.set("blobs", *inner.fields["blobs"])
    parts: dict[str, dict[str, Any]] = {}
    for key, places in _V0_FIELDS.items():
        place = places.get(kind) or places.get("")
        if inner.has(key) and place is not None and (place[0] != "transform_param" or kind in DATA):
            parts.setdefault(place[0], {})[place[1]] = inner.get(key)
    if kind == "padding":
        parts["convolution_param"] = {"pad": [inner.get("pad")]}
    for part, values in parts.items():
        field = schema().messages["LayerParameter"][part]
        repeated = schema().messages[field.type]
        held = {k: [v] if repeated[k].repeated and not isinstance(v, list) else v for k, v in values.items()}
        new.set(part, message(schema(), field.type, **held))
    return new


def _folded(layers: list[Message]) -> list[Message]:
    """V0 padding layers become the pad of the convolution or pooling behind them."""
    pads = {m.all("top")[0]: m for m in layers if m.get("type") == "padding" and m.all("top") and m.all("bottom")}
    out = []
    for m in layers:
        if m.get("type") == "padding":
            continue
        if m.all("bottom") and m.all("bottom")[0] in pads:
            padding = pads[m.all("bottom")[0]]
            part = {"Convolution": "convolution_param", "Pooling": "pooling_param"}.get(m.get("type"))
            if part is None:
                raise ReadError(
                    f"layer {m.get('name')!r} takes a padding layer, and is no convolution or pooling.", where=Where(line=m.line or None)
                )
            held = m.sub(part)
            held.set("pad", *padding.sub("convolution_param").all("pad"))
            m.set(part, held)
            m.set("bottom", padding.all("bottom")[0], *m.all("bottom")[1:])
        out.append(m)
    return out


def network(net: Message, file: str) -> Net:
    """A NetParameter as a network for inference: the layers of the test phase, data layers as inputs, losses as what they end with."""
    messages, generation = layer_messages(net)
    if len(messages) > MAX_LAYERS:
        raise LimitError(
            "the network has more layers than any of Caffe's.",
            where=Where(file=file),
            expected=f"at most {MAX_LAYERS}",
            got=str(len(messages)),
        )
    result = Net((net.get("name") or "")[:MAX_NAME], generation=generation)
    _declared_inputs(net, result, file)
    state = net.sub("state")
    level, stages = int(state.get("level")), frozenset(state.all("stage"))
    layers = []
    for m in messages:
        if not _kept(m, level, stages):
            continue
        names = tuple(str(n) for n in m.all("bottom")), tuple(str(n) for n in m.all("top"))
        layers.append(Layer(str(m.get("name")), str(m.get("type")), *names, m, m.line))
        if max(map(len, (layers[-1].name, *names[0], *names[1]))) > MAX_NAME:
            where = Where(file=file, line=m.line or None, node=layers[-1].name[:60])
            raise LimitError("a layer or a blob has a name that is too long.", where=where, expected=f"at most {MAX_NAME} letters")
    auxiliary, taken = _auxiliary(layers), set[str]()
    for layer in layers:
        if layer.type in DATA or (layer.type == "Python" and not layer.bottoms):
            _data(layer, result, file)
        elif layer.type in LOSSES and layer not in auxiliary and layer.bottoms:
            result.layers.append(_activation(layer, taken))
            taken.add(result.layers[-1].name)
        elif layer in auxiliary:
            result.notes.append(f"layer {layer.name!r} is an auxiliary loss and was left out.")
        elif layer.type in ENDS:
            result.ended += layer.bottoms[:1] if layer.type != "Accuracy" else ()
        else:
            result.layers.append(layer)
            taken.update(layer.tops, (layer.name,))
    _drop_auxiliary(result, auxiliary)
    _used_inputs(result)
    return result


def _declared_inputs(net: Message, result: Net, file: str) -> None:
    names, dims = net.all("input"), net.all("input_dim")
    shapes = [tuple(int(d) for d in s.all("dim")) for s in net.all("input_shape")]
    if dims and not shapes:
        if len(dims) != 4 * len(names):
            raise ReadError(
                "input_dim does not fit the inputs.",
                where=Where(file=file),
                expected=f"4 for each of {len(names)} inputs",
                got=f"{len(dims)} in all",
            )
        shapes = [tuple(int(d) for d in dims[i : i + 4]) for i in range(0, len(dims), 4)]
    if shapes and len(shapes) != len(names):
        raise ReadError(
            "input_shape does not fit the inputs.", where=Where(file=file), expected=f"{len(names)} shapes", got=f"{len(shapes)}"
        )
    for i, name in enumerate(names):
        _add(result, Input(str(name), tuple(shapes[i]) if shapes else None), file)


def _add(result: Net, item: Input, file: str) -> None:
    if len(result.inputs) >= MAX_INPUTS:
        raise LimitError("the network has more inputs than any of Caffe's.", where=Where(file=file), expected=f"at most {MAX_INPUTS}")
    if len(item.name) > MAX_NAME:
        raise LimitError("an input has a name that is too long.", where=Where(file=file), expected=f"at most {MAX_NAME} letters")
    result.inputs.append(item)


def _kept(layer: Message, level: int, stages: frozenset[str]) -> bool:
    """Whether a layer is there at test time, in a net of this level and these stages (net.cpp, FilterNet)."""
    include, exclude = layer.all("include"), layer.all("exclude")
    if include:
        return any(_meets(rule, level, stages) for rule in include)
    return not any(_meets(rule, level, stages) for rule in exclude)


def _meets(rule: Message, level: int, stages: frozenset[str]) -> bool:
    if rule.has("phase") and rule.get("phase") != "TEST":
        return False
    if rule.has("min_level") and level < rule.get("min_level"):
        return False
    if rule.has("max_level") and level > rule.get("max_level"):
        return False
    return stages.issuperset(rule.all("stage")) and stages.isdisjoint(rule.all("not_stage"))


def _data(layer: Layer, result: Net, file: str) -> None:
    """The tops of a data layer are inputs; only the first is a picture."""
    m = layer.message
    transform = m.sub("transform_param") if m.has("transform_param") else None
    for i, top in enumerate(layer.tops):
        shape: tuple[int | None, ...] | None = None
        if layer.type in ("Input", "DummyData"):
            shape = _stated(m.sub("input_param" if layer.type == "Input" else "dummy_data_param"), i)
        elif i == 0 and layer.type == "MemoryData":
            p = m.sub("memory_data_param")
            shape = tuple(int(p.get(k)) for k in ("batch_size", "channels", "height", "width"))
        elif i == 0 and transform is not None and int(transform.get("crop_size")):
            side = int(transform.get("crop_size"))
            shape = (None, None, side, side)
        if any(x.name == top for x in result.inputs):
            raise ReadError(f"two data layers give a blob {top!r}.", where=Where(file=file, line=layer.line or None, node=layer.name))
        _add(result, Input(top, shape, transform if i == 0 else None, layer.type), file)


def _stated(param: Message, i: int) -> tuple[int | None, ...] | None:
    shapes = param.all("shape")
    if shapes:
        return tuple(int(d) for d in shapes[min(i, len(shapes) - 1)].all("dim"))
    if param.kind == "DummyDataParameter" and param.has("num"):
        rows = [param.all(k) or [1] for k in ("num", "channels", "height", "width")]
        return tuple(int(r[min(i, len(r) - 1)]) for r in rows)
    return None


def _auxiliary(layers: list[Layer]) -> dict[Layer, None]:
    """Losses that count less than the main one: they pull at the middle of a network while it is trained."""
    losses = [x for x in layers if x.type in LOSSES]
    weight = {x: float((x.message.all("loss_weight") or [1.0])[0]) for x in losses}
    most = max(weight.values(), default=0.0)
    return {x: None for x in losses if weight[x] < most}


def _activation(loss: Layer, taken: set[str]) -> Layer:
    """What a loss computes before it compares: the network's last activation, under a name that no layer before it has."""
    top = "prob" if "prob" not in taken else loss.name
    kind = LOSSES[loss.type]
    m = message(schema(), "LayerParameter", name=top, type=kind, bottom=[loss.bottoms[0]], top=[top])
    if loss.message.has("softmax_param") and kind == "Softmax":
        m.set("softmax_param", loss.message.sub("softmax_param"))
    return Layer(top, kind, loss.bottoms[:1], (top,), m, loss.line)


def _drop_auxiliary(result: Net, auxiliary: dict[Layer, None]) -> None:
    """Without its loss, nothing needs an auxiliary branch any more."""
    if not auxiliary:
        return
    now: dict[str, Layer] = {}  # blob -> the layer that made it last; layers in place make it anew
    feeds: dict[Layer, list[Layer]] = {}
    fed: set[Layer] = set()
    for layer in [*result.layers, *auxiliary]:
        feeds[layer] = [now[b] for b in layer.bottoms if b in now]
        fed.update(feeds[layer])
        now.update(dict.fromkeys(layer.tops, layer))
    needed = {x for x in result.layers if x not in fed} | {now[b] for b in result.ended if b in now}
    for layer in reversed(result.layers):
        if layer in needed:
            needed.update(feeds[layer])
    result.layers = [x for x in result.layers if x in needed]


def _used_inputs(result: Net) -> None:
    """Labels, which only losses took, are no inputs any more."""
    used = {b for x in result.layers for b in x.bottoms}
    rest = [x for x in result.inputs if x.name in used or x.source == "Input"]
    result.inputs = rest or result.inputs[:1]
