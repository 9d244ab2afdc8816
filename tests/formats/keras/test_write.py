"""The Keras writer: what it writes is loaded and run by Keras itself, and compared with ONNX Runtime on the model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx_ir as ir
import pytest

from niudao.errors import Unsupported, UsageError
from niudao.formats.keras import write as keras_write
from niudao.ir import card, session
from niudao.ir.build import Builder

Array = np.ndarray[Any, Any]
NETS: dict[str, Callable[[], ir.Model]] = {}


def net(make: Callable[[Builder], None]) -> Callable[[Builder], None]:
    def build() -> ir.Model:
        b = Builder(make.__name__)
        make(b)
        return b.model()

    NETS[make.__name__] = build
    return make


def draw(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed + sum(shape)).standard_normal(shape) * 0.4).astype(np.float32)


@net
def classifier(b: Builder) -> None:
    x = b.input("data", (None, 3, 10, 7))
    y = b.op("Conv", x, b.weight(draw(4, 3, 3, 3), "w"), b.weight(draw(4), "b"), layer="stem/conv", pads=[1, 1, 1, 1])
    y = b.op("Relu", y, layer="stem/relu")
    y = b.op("MaxPool", y, layer="pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = b.op("Conv", y, b.weight(draw(4, 1, 3, 3), "dw"), layer="dw", group=4, strides=[2, 2], pads=[0, 0, 1, 1])
    stats = [b.weight(w, n) for n, w in (("g", draw(4) + 1), ("o", draw(4)), ("m", draw(4)), ("v", draw(4) ** 2 + 0.5))]
    y = b.op("BatchNormalization", y, *stats, layer="bn")
    y = b.op("Flatten", y, layer="flat")
    y = b.op("Gemm", y, b.weight(draw(16, 5), "fw"), b.weight(draw(5), "fb"), layer="fc")
    b.output(b.op("Softmax", y, layer="prob", axis=-1), "prob")


@net
def squeeze_and_excite(b: Builder) -> None:
    x = b.input("x", (None, 4, 6, 5))
    g = b.op("GlobalAveragePool", x, layer="gap")
    g = b.op("Sigmoid", b.op("Conv", g, b.weight(draw(4, 4, 1, 1), "w"), layer="fc"), layer="gate")
    y = b.op("Mul", x, g, layer="scale")
    b.output(y, "out", (0, 3, 1, 2))
    b.output(b.op("ReduceMean", y, b.const([2, 3]), keepdims=0, layer="mean"), "mean")


@net
def channel_shuffle(b: Builder) -> None:
    x = b.input("x", (None, 6, 4, 5))
    y = b.op("Reshape", x, b.const([0, 2, 3, 4, 5]))
    y = b.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    b.output(b.op("Reshape", y, b.const([0, 6, 4, 5])), "y", (0, 3, 1, 2))


@net
def transposed(b: Builder) -> None:
    x = b.input("x", (None, 4, 4, 5))
    for i, (pads, extra) in enumerate((([1, 1, 1, 1], [1, 1]), ([0, 0, 0, 0], [0, 0]), ([1, 0, 1, 2], [0, 1]))):
        weight = b.weight(draw(4, 3, 3, 4, seed=i), f"w{i}")
        y = b.op("ConvTranspose", x, weight, b.weight(draw(3), f"b{i}"), strides=[2, 2], pads=pads, output_padding=extra)
        b.output(y, f"y{i}", (0, 3, 1, 2))
    y = b.op("ConvTranspose", x, b.weight(draw(4, 2, 2, 2), "g"), group=2, strides=[2, 2])
    b.output(y, "grouped", (0, 3, 1, 2))


@net
def pools(b: Builder) -> None:
    x = b.input("x", (None, 2, 9, 8))
    cases: list[dict[str, Any]] = [
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 2], "strides": [1, 1], "pads": [2, 1, 2, 0]},
    ]
    for i, case in enumerate(cases):
        for kind in ("MaxPool", "AveragePool"):
            b.output(b.op(kind, x, **case), f"{kind}{i}", (0, 3, 1, 2))
    b.output(b.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), "counted", (0, 3, 1, 2))


@net
def normalised(b: Builder) -> None:
    x = b.input("x", (None, 4, 5, 3))
    y = b.op("InstanceNormalization", x, b.weight(draw(4), "s"), b.weight(draw(4), "o"))
    y = b.op("Mul", y, b.weight(draw(1, 4, 1, 1), "scale"))
    y = b.op("Add", y, b.weight(draw(4, 5, 3), "everywhere"))
    y = b.op("PRelu", y, b.weight(draw(4, 1, 1), "slope"))
    y = b.op("HardSwish", y)
    b.output(b.op("Clip", y, b.const(-0.2), b.const(0.7)), "y", (0, 3, 1, 2))


@net
def frames(b: Builder) -> None:
    x = b.input("x", (None, 3, 4, 6, 5))
    y = b.op("Reshape", b.op("Transpose", x, perm=[0, 2, 1, 3, 4]), b.const([-1, 3, 6, 5]), layer="join")
    y = b.op("Conv", y, b.weight(draw(4, 3, 3, 3), "w"), b.weight(draw(4), "b"), layer="conv", pads=[1, 1, 1, 1])
    y = b.op("LeakyRelu", y, layer="act", alpha=0.3)
    y = b.op("MaxPool", y, layer="pool", kernel_shape=[2, 2], strides=[2, 2])
    y = b.op("Gemm", b.op("Flatten", y, layer="flat"), b.weight(draw(24, 5), "fw"), b.weight(draw(5), "fb"), layer="fc")
    y = b.op("Softmax", y, layer="prob", axis=-1)
    b.output(b.op("Reshape", y, b.const([-1, 4, 5]), layer="split"), "y")


def _recurrent(op: str, gates: int, **attributes: Any) -> Callable[[], ir.Model]:
    def build() -> ir.Model:
        b = Builder(op.lower())
        ways = 2 if attributes.get("direction") == "bidirectional" else 1
        x = b.op("Transpose", b.input("x", (None, 6, 3)), perm=[1, 0, 2])
        arrays = [b.weight(draw(ways, gates * 4, n, seed=n), f"w{n}") for n in (3, 4)]
        bias = b.weight(draw(ways, gates * 8), "bias")
        outputs = b.ops(op, x, *arrays, bias, outputs=2, hidden_size=4, layer="cell", **attributes)
        y = b.op("Reshape", b.op("Transpose", outputs[0], perm=[2, 0, 1, 3]), b.const([0, 0, -1]))
        b.output(y, "sequence")
        b.output(b.op("Reshape", b.op("Transpose", outputs[1], perm=[1, 0, 2]), b.const([0, -1])), "state")
        return b.model()

    return build


NETS |= {
    "lstm": _recurrent("LSTM", 4),
    "lstm_both": _recurrent("LSTM", 4, direction="bidirectional"),
    "gru_after": _recurrent("GRU", 3, linear_before_reset=1),
    "gru_before_both": _recurrent("GRU", 3, direction="bidirectional"),
    "rnn_back": _recurrent("RNN", 1, direction="reverse"),
}


def feeds_of(model: ir.Model) -> dict[str, Array]:
    """Two samples for every input, in our layout."""
    return {
        v.name or "": draw(2, *(int(d) for d in (v.shape or ())[1:] if isinstance(d, int)), seed=i)
        for i, v in enumerate(model.graph.inputs)
    }


def as_keras(value: ir.Value, array: Array) -> Array:
    return np.moveaxis(array, 1, -1) if array.ndim in (4, 5) else array


def predict(keras: Any, path: Path, model: ir.Model) -> list[Array]:
    loaded = keras.models.load_model(path, compile=False)
    feeds = feeds_of(model)
    values = [as_keras(v, feeds[v.name or ""]) for v in model.graph.inputs]
    out = loaded.predict(values if len(values) > 1 else values[0], verbose=0)
    return list(out) if isinstance(out, (list, tuple)) else [out]


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras", reason="Keras itself is not installed (pip install 'niudao[keras]')")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", NETS)
def test_keras_computes_the_same(keras: Any, tmp_path: Path, name: str, ending: str) -> None:
    model = NETS[name]()
    keras_write.write(model, tmp_path / f"net{ending}")
    got = predict(keras, tmp_path / f"net{ending}", model)
    want = session.run(model, feeds_of(model), optimize=False)
    assert len(got) == len(want)
    for value, mine in zip(model.graph.outputs, got, strict=True):
        expected = as_keras(value, want[value.name or ""])
        assert mine.shape == expected.shape
        assert np.abs(mine - expected).max() <= 1e-5 * np.abs(expected).max()


def test_reads_as_a_person_would_write_it(tmp_path: Path) -> None:
    keras_write.write(NETS["classifier"](), tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    assert [x["class_name"] for x in layers] == [
        "InputLayer", "Conv2D", "ZeroPadding2D", "MaxPooling2D", "ZeroPadding2D", "DepthwiseConv2D", "BatchNormalization",
        "Flatten", "Dense",
    ]  # fmt: skip
    by = {x["name"]: x["config"] for x in layers}
    assert by["stem_conv"]["padding"] == "same" and by["stem_conv"]["activation"] == "relu"
    assert by["prob"]["activation"] == "softmax"
    assert by["data"]["batch_shape"] == [None, 10, 7, 3]


def test_shuffle_has_one_permute(tmp_path: Path) -> None:
    keras_write.write(NETS["channel_shuffle"](), tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5") as f:
        layers = json.loads(f.attrs["model_config"])["config"]["layers"]
    assert [x["class_name"] for x in layers] == ["InputLayer", "Reshape", "Permute", "Reshape"]


def test_swish_by_its_name(tmp_path: Path) -> None:
    b = Builder("swish")
    y = b.op("Conv", b.input("x", (None, 3, None, None)), b.weight(draw(4, 3, 1, 1), "w"), layer="conv")
    b.output(b.op("Mul", b.op("Sigmoid", y), y), "y", (0, 3, 1, 2))
    keras_write.write(b.model(), tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    assert [(x["class_name"], x["config"].get("activation")) for x in layers] == [("InputLayer", None), ("Conv2D", "swish")]


def test_source_builds_the_same(keras: Any, tmp_path: Path) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    model = NETS["classifier"]()
    report = keras_write.write(model, tmp_path / "net.py")
    assert [Path(f).name for f in report.files] == ["net.py", "net.weights.h5"]
    spec = spec_from_file_location("net", tmp_path / "net.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    feeds = feeds_of(model)
    got = module.load().predict(np.moveaxis(feeds["data"], 1, -1), verbose=0)
    assert np.abs(got - session.run(model, feeds)["prob"]).max() < 1e-6


def test_card_and_classes_travel(tmp_path: Path) -> None:
    model = NETS["classifier"]()
    card.set_cards(model, {"data": card.InputCard(layout="NCHW", order="BGR", mean=(103.9, 116.8, 123.7))})
    card.set_classes(model, ["a", "ü", "c", "d", "e"])
    keras_write.write(model, tmp_path / "net.keras")
    keras_write.write(model, tmp_path / "net.h5")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        first = json.loads(archive.read("niudao.json"))
    with h5py.File(tmp_path / "net.h5") as f:
        second = json.loads(f.attrs["niudao"])
    assert first == second
    assert first["card"]["data"]["order"] == "BGR" and first["classes"][1] == "ü"


def test_refuses_everything_at_once_and_writes_nothing(tmp_path: Path) -> None:
    b = Builder("odd")
    x = b.input("x", (None, 3, 8, 8))
    y = b.op("Hardmax", b.op("Relu", x), layer="first")
    y = b.op("CumSum", y, b.const(1), layer="second")
    b.output(y, "y")
    target, model = tmp_path / "net.keras", b.model()
    with pytest.raises(Unsupported) as caught:
        keras_write.write(model, target)
    assert [r.node for r in caught.value.refusals] == ["first", "second"]
    assert list(tmp_path.iterdir()) == []
    assert [r.op for r in keras_write.refusals(model)] == ["Hardmax", "CumSum"]


def test_hdf5_holds_layers_only(tmp_path: Path) -> None:
    b = Builder("root")
    b.output(b.op("Sqrt", b.input("x", (None, 4)), layer="root"), "y")
    model = b.model()
    keras_write.write(model, tmp_path / "net.keras")
    with pytest.raises(Unsupported, match="keras"):
        keras_write.write(model, tmp_path / "net.h5")


def test_hard_sigmoid_gates_need_a_version(tmp_path: Path) -> None:
    model = _recurrent("LSTM", 4, activations=["HardSigmoid", "Tanh", "Tanh"])()
    with pytest.raises(Unsupported, match="version='2'"):
        keras_write.write(model, tmp_path / "net.h5")
    keras_write.write(model, tmp_path / "net.h5", version="2")
    with h5py.File(tmp_path / "net.h5") as f:
        assert "hard_sigmoid" in f.attrs["model_config"]


@pytest.mark.filterwarnings("ignore")
def test_hard_sigmoid_is_right_in_keras_3(keras: Any, tmp_path: Path) -> None:
    model = _recurrent("LSTM", 4, activations=["HardSigmoid", "Tanh", "Tanh"])()
    keras_write.write(model, tmp_path / "net.keras")
    got = predict(keras, tmp_path / "net.keras", model)
    want = session.run(model, feeds_of(model))
    assert np.abs(got[0] - want["sequence"]).max() < 1e-6


def test_versions(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        keras_write.write(NETS["classifier"](), tmp_path / "net.keras", version="2")
    with pytest.raises(UsageError):
        keras_write.write(NETS["classifier"](), tmp_path / "net.h5", version="7")
