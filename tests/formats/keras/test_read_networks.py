"""Networks of several parts (nested, shared, wrapped, with operations between layers), saved by real Keras in every container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import niudao

keras = pytest.importorskip("keras")
L = keras.layers


def nested_twice() -> Any:
    image = keras.Input((12, 10, 3), name="image")
    block = keras.Sequential([L.Conv2D(4, 3, name="c"), L.BatchNormalization(name="b"), L.Conv2D(5, 3, name="c2")], name="block")
    inner = keras.Model(image, [L.ReLU()(block(image)), L.Flatten()(block(image))], name="inner")
    x = keras.Input((12, 10, 3), name="x")
    a, b = inner(x)
    return keras.Model(x, {"first": L.GlobalMaxPooling2D(name="g")(a), "second": L.Dense(3, name="d")(b)})


def wrapped_network() -> Any:
    x = keras.Input((4, 12, 10, 3), name="video")
    parts = [L.Conv2D(3, 3, name="c"), L.Conv2D(4, 3, name="c_b"), L.BatchNormalization(), L.Flatten(), L.Dense(5)]
    return keras.Model(x, L.LSTM(3)(L.TimeDistributed(keras.Sequential(parts, name="encoder"), name="td")(x)))


def shared_and_repeated() -> Any:
    x = keras.Input((8,), name="x")
    d = L.Dense(8, name="d")
    return keras.Model(x, [L.Add()([d(x), d(d(x))]), d(x)])


def operations() -> Any:
    x = keras.Input((9, 9, 3), name="x")
    h = keras.ops.relu(L.Conv2D(4, 3, name="Conv")(x) * 2.0 + 1.0)
    h = keras.ops.concatenate([h, keras.ops.sigmoid(h)], axis=-1)
    return keras.Model(x, keras.ops.mean(h[:, 1:-1, :, :], axis=(1, 2)))


def states() -> Any:
    x, s0, s1 = keras.Input((6, 4), name="x"), keras.Input((5,), name="s0"), keras.Input((5,), name="s1")
    return keras.Model([x, s0, s1], L.LSTM(5, return_sequences=True, return_state=True, name="st")(x, initial_state=[s0, s1]))


def words() -> Any:
    x = keras.Input((6,), dtype="int32", name="ids")
    h = L.Bidirectional(L.GRU(4, return_sequences=True))(L.Embedding(20, 7)(x))
    return keras.Model(x, L.Dense(2)(L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 3)(h, h))))


def image_outputs() -> Any:
    x = keras.Input((10, 12, 3), name="x")
    bigger = L.Conv2D(2, 1, name="b")(L.UpSampling2D(2)(x))
    return keras.Model(x, [L.Conv2D(2, 3, activation="softmax", name="a")(x), L.Reshape((12, 30))(x), bigger])


NETWORKS = [nested_twice, wrapped_network, shared_and_repeated, operations, states, words, image_outputs]


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.filterwarnings("ignore")
def test_every_container_gives_what_keras_computes(make: Callable[[], Any], tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    network = make()
    rng = np.random.default_rng(2)
    for w in network.weights:
        drawn = rng.standard_normal(w.shape).astype(np.float32) * 0.3
        w.assign(np.abs(drawn) + 0.5 if "variance" in w.path else drawn)
    feeds = [
        rng.integers(0, 20, (2, *t.shape[1:])).astype(t.dtype) if "int" in t.dtype else rng.normal(size=(2, *t.shape[1:])).astype(t.dtype)
        for t in network.inputs
    ]
    made = network.predict(feeds if len(feeds) > 1 else feeds[0], verbose=0)
    wanted = list(made.values()) if isinstance(made, dict) else made if isinstance(made, (list, tuple)) else [made]
    network.save(tmp_path / "net.keras")
    network.save(tmp_path / "net.h5")
    network.save_weights(tmp_path / "pair.weights.h5")
    (tmp_path / "pair.json").write_text(network.to_json())
    for name in ("net.keras", "net.h5", "pair.json"):
        model = niudao.read(tmp_path / name)
        got = niudao.run(model, {v.name: x for v, x in zip(model.graph.inputs, feeds, strict=True)}, layout="source")
        assert "niudao.notes" not in model.metadata_props, name
        for mine, theirs in zip(got.values(), wanted, strict=True):
            assert mine.shape == theirs.shape
            np.testing.assert_allclose(mine, theirs, atol=1e-5, err_msg=name)
