"""The shipped demo: sizes, hashes, images, labels, cards, and files that hold networks and nothing else.

Judges: Pillow, h5py, zipfile, onnx.reference's Resize, and Keras itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from niudao.demo import data
from niudao.errors import ReadError, UnknownName
from niudao.ir.card import InputCard

LAYERS = {
    "lenet.h5": {"Conv2D", "MaxPooling2D", "Flatten", "Dense"},
    "resnet.keras": {"InputLayer", "Conv2D", "BatchNormalization", "ReLU", "Add", "GlobalAveragePooling2D", "Dense"},
}


def model_config(network: str) -> dict[str, Any]:
    """The topology as the file holds it, read without Keras and without niudao's reader."""
    if network == "lenet.h5":
        with h5py.File(data.path(network), "r") as f:
            config = f.attrs["model_config"]
        return json.loads(config)
    with zipfile.ZipFile(data.path(network)) as z:
        return json.loads(z.read("config.json"))


def names(group: h5py.Group) -> list[str]:
    found: list[str] = []
    group.visit(found.append)
    return found


def count_values(file: h5py.File) -> int:
    """How many numbers all datasets of a file hold together."""
    return sum(file[name].size for name in names(file) if isinstance(file[name], h5py.Dataset))


def test_images_and_labels() -> None:
    images, labels = data.digits()
    assert images.shape == (100, 8, 8) and images.dtype == np.uint8
    assert labels.shape == (100,) and labels.dtype == np.uint8
    assert np.bincount(labels).tolist() == [10] * 10
    assert set(np.unique(images)) <= {round(level * 255 / 16) for level in range(17)}
    assert len({image.tobytes() for image in images}) == 100
    assert data.path("digits.npz").stat().st_size < 20_000


@pytest.mark.parametrize("digit", range(10))
def test_single_pictures_are_test_images(digit: int) -> None:
    images, labels = data.digits()
    with Image.open(data.path(f"digit-{digit}.png")) as picture:
        assert picture.mode == "L" and picture.size == (8, 8)
        assert np.array_equal(np.asarray(picture), images[labels == digit][0])


def test_inputs_are_a_bilinear_stretch() -> None:
    """Pillow rounds to whole pixels; half-pixel bilinear interpolation without rounding is at most that far away."""
    import onnx.helper as h
    from onnx import TensorProto
    from onnx.reference import ReferenceEvaluator

    images, _ = data.digits()
    node = h.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel")
    x, y = (h.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy")
    sizes = h.make_tensor("sizes", TensorProto.INT64, [4], [2, 1, 28, 28])
    model = h.make_model(h.make_graph([node], "g", [x], [y], [sizes]), opset_imports=[h.make_opsetid("", 19)])
    (large,) = ReferenceEvaluator(model).run(None, {"x": images[:2, None].astype(np.float32)})

    ours = data.inputs(images[:2])
    assert ours.shape == (2, 28, 28, 1) and ours.dtype == np.float32
    assert np.abs(ours[..., 0] * 255 - large[:, 0]).max() < 1.01


def test_inputs_of_all_images() -> None:
    ours = data.inputs()
    assert ours.shape == (100, 28, 28, 1)
    assert ours.min() == 0 and ours.max() == 1


@pytest.mark.parametrize("network", data.NETWORKS)
def test_expected_probabilities(network: str) -> None:
    probabilities = data.expected(network)
    _, labels = data.digits()
    assert probabilities.shape == (100, 10) and probabilities.dtype == np.float32
    assert np.abs(probabilities.sum(1) - 1).max() < 1e-5
    right = int((probabilities.argmax(1) == labels).sum())
    assert right >= 97
    assert right == data.accuracy()["networks"][network]["accuracy"]["shipped"]["correct"]


def test_accuracy_counts() -> None:
    facts = data.accuracy()
    assert sum(facts["data"]["images"][part] for part in ("train", "validation", "test")) == 1797
    for network in data.NETWORKS:
        for part, count in facts["networks"][network]["accuracy"].items():
            assert count["images"] == facts["data"]["images"][part]
            assert count["accuracy"] == round(count["correct"] / count["images"], 4)


def test_files_are_the_ones_that_were_measured() -> None:
    sums = data.accuracy()["sha256"]
    assert {p.name for p in data.FOLDER.iterdir() if p.suffix in (".h5", ".keras", ".npy", ".npz", ".png")} == set(sums)
    for name, expected in sums.items():
        assert hashlib.sha256(data.path(name).read_bytes()).hexdigest() == expected, name
    assert sum(data.path(name).stat().st_size for name in data.NETWORKS) < 2_000_000


@pytest.mark.parametrize("network", data.NETWORKS)
def test_only_plain_layers(network: str) -> None:
    text = json.dumps(model_config(network))
    assert "Lambda" not in text and "__lambda__" not in text
    assert {layer["class_name"] for layer in model_config(network)["config"]["layers"]} == LAYERS[network]


def test_lenet_holds_weights_and_no_optimizer() -> None:
    with h5py.File(data.path("lenet.h5"), "r") as f:
        assert f.attrs["keras_version"] in ("2.2.4", b"2.2.4")
        assert set(f.attrs) == {"backend", "keras_version", "model_config"}
        assert list(f) == ["model_weights"]
        assert count_values(f) == data.accuracy()["networks"]["lenet.h5"]["parameters"] == 61_706


def test_resnet_holds_weights_and_no_optimizer() -> None:
    with zipfile.ZipFile(data.path("resnet.keras")) as z:
        assert z.testzip() is None
        assert sorted(z.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        assert json.loads(z.read("metadata.json"))["keras_version"] == "3.15.1"
        assert not model_config("resnet.keras").get("compile_config")
        weights = io.BytesIO(z.read("model.weights.h5"))
    with h5py.File(weights, "r") as f:
        assert not any("optimizer" in name for name in names(f))
        assert count_values(f) == data.accuracy()["networks"]["resnet.keras"]["parameters"]


@pytest.mark.parametrize(("network", "name"), [("lenet.h5", "conv1_input"), ("resnet.keras", "image")])
def test_cards(network: str, name: str) -> None:
    content = json.loads(data.path(f"{Path(network).stem}.card.json").read_text(encoding="utf-8"))
    card = InputCard.from_dict(content["card"][name])
    assert list(content["card"]) == [name]
    assert card.missing() == () and card.guessed == ()
    assert (card.layout, card.order, card.range, card.resize) == ("NHWC", "GREY", (0.0, 1.0), "stretch")
    assert content["classes"] == list("0123456789")

    images, _ = data.digits()  # the card says what `inputs` does
    large = np.asarray(Image.fromarray(images[0]).resize((28, 28), Image.Resampling.BILINEAR))
    assert card.scale is not None and card.mean is not None and card.std is not None
    assert np.abs((large * card.scale - card.mean[0]) / card.std[0] - data.inputs(images[:1])[0, :, :, 0]).max() < 1e-6


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    if "KERAS_BACKEND" not in os.environ:
        monkeypatch.setenv("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="Keras is not installed; pip install 'niudao[test]'")


def test_keras_computes_what_we_ship_for_the_resnet(keras: Any) -> None:
    model = keras.models.load_model(data.path("resnet.keras"), compile=False)
    assert np.abs(model.predict(data.inputs(), batch_size=100, verbose=0) - data.expected("resnet.keras")).max() < 1e-5


def test_keras_computes_what_we_ship_for_the_lenet(keras: Any) -> None:
    """Keras 3 takes the batch axis in `batch_input_shape` for one of the image's, so the layers are built here one by one."""
    layers = [keras.Input((28, 28, 1))]
    for layer in model_config("lenet.h5")["config"]["layers"]:
        config = {k: v for k, v in layer["config"].items() if k not in ("batch_input_shape", "dtype")}
        layers.append(getattr(keras.layers, layer["class_name"]).from_config(config))
    model = keras.Sequential(layers)
    with h5py.File(data.path("lenet.h5"), "r") as f:
        for layer in model.layers:
            group = f["model_weights"][layer.name]
            layer.set_weights([group[name.decode() if isinstance(name, bytes) else name][()] for name in group.attrs["weight_names"]])
    assert np.abs(model.predict(data.inputs(), batch_size=100, verbose=0) - data.expected("lenet.h5")).max() < 1e-5


def test_unknown_names() -> None:
    with pytest.raises(UnknownName, match=r"lenet\.h6"):
        data.path("lenet.h6")
    with pytest.raises(UnknownName, match=r"resnet\.h5"):
        data.expected("resnet.h5")
    with pytest.raises(UnknownName):
        data.path("../errors.py")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no array", b"\x80\x04N."])
def test_a_damaged_installation_is_one_sentence(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    with pytest.raises(ReadError, match="does not exist"):
        data.digits()
    loads = {"digits.npz": data.digits, "lenet.expected.npy": lambda: data.expected("lenet.h5"), "accuracy.json": data.accuracy}
    for name, load in loads.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReadError, match="damaged"):
            load()


def test_a_cut_archive_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(data.path("digits.npz"), tmp_path)
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    whole = (tmp_path / "digits.npz").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "digits.npz").write_bytes(whole[:size])
        with pytest.raises(ReadError):
            data.digits()
