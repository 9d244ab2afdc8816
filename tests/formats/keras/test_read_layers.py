"""Every layer against Keras itself: a small model is built and saved by Keras 3, read by niudao, and both are run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import niudao as nd

keras = pytest.importorskip("keras", reason="Keras 3 is not installed (pip install 'niudao[test]')")
L = keras.layers

IMAGE, SERIES, CUBE, VECTOR = (9, 7, 4), (6, 5), (5, 4, 3, 2), (6,)

CASES: dict[str, tuple[tuple[int, ...], Callable[[], Any]]] = {
    "conv2d same stride": (IMAGE, lambda: L.Conv2D(5, 3, strides=2, padding="same", activation="relu")),
    "conv2d dilated": (IMAGE, lambda: L.Conv2D(5, (3, 2), dilation_rate=2)),
    "conv2d grouped": (IMAGE, lambda: L.Conv2D(6, 3, groups=2, padding="same", use_bias=False)),
    "conv2d softmax": (IMAGE, lambda: L.Conv2D(5, 1, activation="softmax")),
    "conv1d causal": (SERIES, lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=2)),
    "conv1d strided": (SERIES, lambda: L.Conv1D(3, 2, strides=2, padding="same")),
    "conv3d": (CUBE, lambda: L.Conv3D(3, 2, padding="same")),
    "depthwise": (IMAGE, lambda: L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)),
    "depthwise 1d": (SERIES, lambda: L.DepthwiseConv1D(3, depth_multiplier=2)),
    "separable": (IMAGE, lambda: L.SeparableConv2D(6, 3, padding="same", activation="elu")),
    "separable 1d": (SERIES, lambda: L.SeparableConv1D(6, 3)),
    "transposed same": (IMAGE, lambda: L.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "transposed valid": (IMAGE, lambda: L.Conv2DTranspose(3, (2, 4), strides=3, activation="tanh")),
    "transposed even": (IMAGE, lambda: L.Conv2DTranspose(3, 4, strides=2, padding="same", use_bias=False)),
    "transposed 1d": (SERIES, lambda: L.Conv1DTranspose(3, 3, strides=2, padding="same")),
    "max pool": (IMAGE, lambda: L.MaxPooling2D(3, 2, padding="same")),
    "average pool same": (IMAGE, lambda: L.AveragePooling2D(3, 2, padding="same")),
    "pool 1d": (SERIES, lambda: L.AveragePooling1D(2)),
    "pool 3d": (CUBE, lambda: L.MaxPooling3D(2)),
    "global average": (IMAGE, lambda: L.GlobalAveragePooling2D()),
    "global max keep": (IMAGE, lambda: L.GlobalMaxPooling2D(keepdims=True)),
    "global 1d": (SERIES, lambda: L.GlobalMaxPooling1D()),
    "batch norm": (IMAGE, lambda: L.BatchNormalization(scale=False)),
    "batch norm on height": (IMAGE, lambda: L.BatchNormalization(axis=1, center=False)),
    "batch norm vector": (VECTOR, lambda: L.BatchNormalization()),
    "layer norm": (IMAGE, lambda: L.LayerNormalization()),
    "layer norm height": (IMAGE, lambda: L.LayerNormalization(axis=1)),
    "group norm": (IMAGE, lambda: L.GroupNormalization(groups=2)),
    "unit norm": (VECTOR, lambda: L.UnitNormalization()),
    "dense": (VECTOR, lambda: L.Dense(4, activation="gelu")),
    "dense on a picture": (IMAGE, lambda: L.Dense(3, activation="softmax")),
    "flatten": (IMAGE, lambda: L.Flatten()),
    "reshape": (IMAGE, lambda: L.Reshape((7, -1, 6))),
    "permute": (IMAGE, lambda: L.Permute((3, 1, 2))),
    "repeat": (VECTOR, lambda: L.RepeatVector(3)),
    "zero padding": (IMAGE, lambda: L.ZeroPadding2D(((1, 2), (0, 3)))),
    "cropping": (IMAGE, lambda: L.Cropping2D(((1, 2), (0, 3)))),
    "up nearest": (IMAGE, lambda: L.UpSampling2D((2, 3))),
    "up bilinear": (IMAGE, lambda: L.UpSampling2D(2, interpolation="bilinear")),
    "rescaling": (IMAGE, lambda: L.Rescaling(1 / 127.5, offset=-1)),
    "prelu": (IMAGE, lambda: L.PReLU(alpha_initializer="uniform")),
    "prelu shared": (IMAGE, lambda: L.PReLU(alpha_initializer="uniform", shared_axes=[1, 2])),
    "relu of all kinds": (IMAGE, lambda: L.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2)),
    "relu6": (IMAGE, lambda: L.ReLU(6)),
    "leaky": (IMAGE, lambda: L.LeakyReLU(negative_slope=0.2)),
    "elu": (IMAGE, lambda: L.ELU(0.5)),
    "softmax": (IMAGE, lambda: L.Softmax(axis=1)),
    "lstm": (SERIES, lambda: L.LSTM(4, return_sequences=True)),
    "lstm last": (SERIES, lambda: L.LSTM(4, recurrent_activation="hard_sigmoid", go_backwards=True, use_bias=False)),
    "gru": (SERIES, lambda: L.GRU(4, bias_initializer="uniform")),
    "gru before": (SERIES, lambda: L.GRU(4, reset_after=False, return_sequences=True, bias_initializer="uniform")),
    "rnn": (SERIES, lambda: L.SimpleRNN(4, bias_initializer="uniform")),
    "bidirectional": (SERIES, lambda: L.Bidirectional(L.LSTM(3, return_sequences=True))),
    "bidirectional sum": (SERIES, lambda: L.Bidirectional(L.GRU(3), merge_mode="sum")),
    "time distributed": ((3, 6, 5, 2), lambda: L.TimeDistributed(L.Conv2D(3, 3, padding="same", activation="relu"))),
}
CASES |= {
    f"activation {name}": (IMAGE, lambda name=name: L.Activation(name))
    for name in """
    relu sigmoid tanh elu selu softplus softsign exponential hard_sigmoid swish hard_swish gelu mish softmax log_softmax relu6 leaky_relu
    celu hard_tanh hard_shrink soft_shrink tanh_shrink log_sigmoid squareplus linear
    """.split()
}


def _random_weights(model: Any) -> None:
    rng = np.random.default_rng(1)
    for w in model.weights:
        value = rng.standard_normal(w.shape).astype(np.float32) * 0.4
        w.assign(np.abs(value) + 0.5 if "variance" in w.path else value)


def _same(model: Any, path: Path, feeds: dict[str, np.ndarray]) -> None:
    want = model(list(feeds.values()) if len(feeds) > 1 else next(iter(feeds.values())), training=False)
    want = [keras.ops.convert_to_numpy(w) for w in (want if isinstance(want, (list, tuple)) else [want])]
    net = nd.read(path)
    names = [v.name for v in net.graph.inputs]
    got = list(nd.run(net, dict(zip(names, feeds.values(), strict=True)), layout="source").values())
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, atol=1e-5 * max(1.0, float(np.abs(w).max())))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("case", list(CASES))
def test_a_layer_computes_what_keras_computes(case: str, ending: str, tmp_path: Path) -> None:
    shape, make = CASES[case]
    inputs = keras.Input(shape, name="x")
    try:
        model = keras.Model(inputs, make()(inputs))
        _random_weights(model)
        model(np.zeros((1, *shape), np.float32), training=False)
    except (NotImplementedError, ValueError, RuntimeError) as e:
        pytest.skip(f"Keras on this backend cannot run it: {str(e)[:80]}")
    model.save(tmp_path / f"net{ending}")
    x = np.random.default_rng(2).standard_normal((3, *shape)).astype(np.float32)
    _same(model, tmp_path / f"net{ending}", {"x": x})


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("layer", ["Add", "Multiply", "Subtract", "Maximum", "Minimum", "Average", "Concatenate"])
def test_merges_broadcast_as_keras_does(layer: str, ending: str, tmp_path: Path) -> None:
    a, b = keras.Input((4, 5, 3), name="a"), keras.Input((4, 5, 3), name="b")
    y = getattr(L, layer)()([L.Conv2D(3, 1)(a), b])
    if layer in ("Add", "Multiply"):
        y = getattr(L, layer)()([y, L.GlobalAveragePooling2D(keepdims=True)(b)])
    model = keras.Model([a, b], y)
    _random_weights(model)
    model.save(tmp_path / f"net{ending}")
    rng = np.random.default_rng(3)
    _same(model, tmp_path / f"net{ending}", {k: rng.standard_normal((2, 4, 5, 3)).astype(np.float32) for k in "ab"})


def test_flatten_then_dense_leaves_no_transposition(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((5, 4, 3)), L.Conv2D(4, 3), L.Flatten(), L.Dense(3)])
    _random_weights(model)
    model.save(tmp_path / "net.keras")
    net = nd.read(tmp_path / "net.keras")
    assert "Transpose" not in {n.op_type for n in net.graph}
    _same(model, tmp_path / "net.keras", {"x": np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)})


def test_operations_between_layers(tmp_path: Path) -> None:
    x = keras.Input((6, 5, 4), name="x")
    y = L.Conv2D(4, 1)(x)
    y = keras.ops.concatenate([y * 2.0 + x, keras.ops.relu(y)], axis=-1)[:, 1:, ::2]
    z = keras.ops.mean(keras.ops.transpose(y, (0, 3, 1, 2)), axis=(2, 3))
    model = keras.Model(x, [y, 1.0 / (1.0 + keras.ops.exp(-z))])
    _random_weights(model)
    model.save(tmp_path / "net.keras")
    _same(model, tmp_path / "net.keras", {"x": np.random.default_rng(0).standard_normal((2, 6, 5, 4)).astype(np.float32)})


def test_multi_head_attention_and_states(tmp_path: Path) -> None:
    x = keras.Input((6, 8), name="x")
    y = L.MultiHeadAttention(2, 3, value_dim=4)(x, x)
    out, h, c = L.LSTM(5, return_state=True)(y)
    model = keras.Model(x, [y, out, h, c])
    _random_weights(model)
    model.save(tmp_path / "net.keras")
    _same(model, tmp_path / "net.keras", {"x": np.random.default_rng(0).standard_normal((2, 6, 8)).astype(np.float32)})


def test_shared_and_nested_models(tmp_path: Path) -> None:
    tower = keras.Sequential([keras.Input((6, 5, 2)), L.Conv2D(3, 3, activation="relu"), L.GlobalAveragePooling2D()], name="tower")
    a, b = keras.Input((6, 5, 2), name="a"), keras.Input((6, 5, 2), name="b")
    shared = L.Dense(4)
    model = keras.Model([a, b], [L.Subtract()([shared(tower(a)), shared(tower(b))]), tower(b)])
    _random_weights(model)
    rng = np.random.default_rng(0)
    feeds = {k: rng.standard_normal((2, 6, 5, 2)).astype(np.float32) for k in "ab"}
    for ending in (".keras", ".h5"):
        model.save(tmp_path / f"net{ending}")
        _same(model, tmp_path / f"net{ending}", feeds)


def test_a_lambda_is_never_executed(tmp_path: Path) -> None:
    canary = str(tmp_path / "canary")
    x = keras.Input((4,), name="x")
    y = L.Lambda(lambda t: (t, __import__("pathlib").Path(canary).touch())[0], output_shape=(4,), name="mine")(x)
    model = keras.Model(x, L.Dense(2)(y))
    Path(canary).unlink(missing_ok=True)
    model.save(tmp_path / "net.keras")
    with pytest.raises(nd.NiudaoError, match="mine"):
        nd.read(tmp_path / "net.keras")
    assert not Path(canary).exists()
