"""Networks that others trained in Caffe, on the images they were made for, before and after conversion."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

import niudao as nd


def existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not at {path.parent}")
    return path


def through(model: ir.Model, target: str | None, folder: Path) -> ir.Model:
    """The model, or what is read back after it was written."""
    if target is None:
        return model
    nd.write(model, folder / target)
    return nd.read(folder / target)


TARGETS = [None, "net.prototxt", "net.onnx", "net.keras"]


@pytest.mark.parametrize("target", TARGETS)
def test_lenet_reads_9914_of_10000_digits(real_data: Path, tmp_path: Path, target: str | None) -> None:
    """The accuracy that `lenet_iter_10000.caffemodel` has; its input is the pixel / 256."""
    folder = existing(real_data / "weights_small" / "lenet_caffe")
    with gzip.open(existing(real_data / "mnist" / "t10k-images-idx3-ubyte.gz")) as f:
        images = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32) / 256
    with gzip.open(real_data / "mnist" / "t10k-labels-idx1-ubyte.gz") as f:
        labels = np.frombuffer(f.read(), np.uint8, offset=8)
    model = through(nd.read(folder / "lenet.prototxt", weights=folder / "lenet_iter_10000.caffemodel"), target, tmp_path)
    (scores,) = nd.run(model, {"data": images}).values()
    assert int((scores.argmax(1) == labels).sum()) == 9914


def pictures(real_data: Path, size: int, grey: bool) -> np.ndarray:
    """Crops of real photographs, as the networks take them: NCHW."""
    files = sorted((real_data / "weights_face" / "deep_landmark").glob("*.jpg"))
    if not files:
        pytest.skip("the photographs of deep_landmark are absent")
    crops = []
    for path in files:
        with Image.open(path) as image:
            small = image.convert("L" if grey else "RGB").resize((4 * size, 3 * size))
        array = np.asarray(small, np.float32)
        array = array[None] if grey else array[..., ::-1].transpose(2, 0, 1)
        crops += [array[:, y : y + size, x : x + size] for y in range(0, 2 * size, size) for x in range(0, 3 * size, size)]
    return np.stack(crops)


LANDMARKS = ["1_F", *(f"{level}_{part}{k}" for level in (2, 3) for part in ("LE", "RE", "N", "LM", "RM") for k in (1, 2))]


@pytest.mark.parametrize("name", LANDMARKS)
def test_the_nets_of_the_landmark_cascade_keep_their_answers(real_data: Path, tmp_path: Path, name: str) -> None:
    path = existing(real_data / "weights_face" / "deep_landmark" / f"{name}.prototxt")
    model = nd.read(path)
    x = pictures(real_data, 39 if name == "1_F" else 15, grey=True)
    x = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    (before,) = nd.run(model, {"data": x}).values()
    assert before.shape == (len(x), 10 if name == "1_F" else 2) and float(before.std()) > 0
    for target in TARGETS[1:]:
        (after,) = nd.run(through(model, target, tmp_path), {"data": x}).values()
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6 * np.abs(before).max())


def in_torch(stored: dict, name: str, x: np.ndarray) -> list[np.ndarray]:
    """P-Net and R-Net as facenet-pytorch wrote them, on the very weights; its pictures are transposed (the first authors used MATLAB)."""
    from torch import from_numpy
    from torch.nn.functional import conv2d, linear, max_pool2d, prelu

    y = from_numpy(np.ascontiguousarray(x.transpose(0, 1, 3, 2)))
    pools = {"pnet": {1: (2, 2)}, "rnet": {1: (3, 2), 2: (3, 2)}}[name]
    for k in (1, 2, 3):
        y = prelu(conv2d(y, stored[f"conv{k}.weight"], stored[f"conv{k}.bias"]), stored[f"prelu{k}.weight"])
        if k in pools:
            y = max_pool2d(y, *pools[k], ceil_mode=True)
    if name == "pnet":
        heads = [conv2d(y, stored[f"conv4_{k}.weight"], stored[f"conv4_{k}.bias"]) for k in (1, 2)]
        return [heads[0].softmax(1).numpy().transpose(0, 1, 3, 2), heads[1].numpy().transpose(0, 1, 3, 2)]
    y = y.permute(0, 3, 2, 1).reshape(len(x), -1)
    y = prelu(linear(y, stored["dense4.weight"], stored["dense4.bias"]), stored["prelu4.weight"])
    heads = [linear(y, stored[f"dense5_{k}.weight"], stored[f"dense5_{k}.bias"]) for k in (1, 2)]
    return [heads[0].softmax(1).numpy(), heads[1].numpy()]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("caffe", "name", "size", "outputs"), [("det1", "pnet", 12, ("prob1", "conv4-2")), ("det2", "rnet", 24, ("prob1", "conv5-2"))]
)
def test_mtcnn_answers_as_the_torch_files_of_the_same_weights(
    real_data: Path, tmp_path: Path, caffe: str, name: str, size: int, outputs: tuple[str, str], target: str | None
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'niudao[test]')")
    folder = existing(real_data / "weights_face" / "mtcnn")
    model = through(nd.read(folder / "caffe" / f"{caffe}.prototxt"), target, tmp_path)
    stored = torch.load(folder / "torch" / f"{name}.pt", weights_only=True)
    x = (pictures(real_data, size, grey=False) - 127.5) / 128
    got = nd.run(model, {"data": x})
    for output, want in zip(outputs, in_torch(stored, name, x), strict=True):
        mine = next(v for k, v in got.items() if k.replace("_", "-") == output)  # Keras takes no "-" in front of a digit's name everywhere
        np.testing.assert_allclose(mine, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("target", TARGETS)
def test_squeezenet_of_deep_compression_keeps_its_answers(real_data: Path, tmp_path: Path, target: str | None) -> None:
    folder = existing(real_data / "weights_imagenet" / "squeezenet_v10_deep_compression")
    model = nd.read(folder / "SqueezeNet_deploy.prototxt", weights=folder / "compressed_SqueezeNet.net")
    x = photographs(real_data)
    (before,) = nd.run(model, {"data": x}).values()
    (after,) = nd.run(through(model, target, tmp_path), {"data": x}).values()
    np.testing.assert_allclose(after.reshape(before.shape), before, rtol=0, atol=1e-6 * np.abs(before).max())
    assert (after.reshape(len(x), -1).argmax(1) == before.reshape(len(x), -1).argmax(1)).all()


def photographs(real_data: Path) -> np.ndarray:
    """Photographs, 227 x 227, BGR minus the mean of ImageNet."""
    arrays = []
    with zipfile.ZipFile(existing(real_data / "imagenet_photos" / "photos_240.zip")) as archive:
        names = sorted(n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg", ".png")))
        for name in names[:: len(names) // 8][:8]:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                arrays.append(np.asarray(image.convert("RGB").resize((227, 227)), np.float32)[..., ::-1].transpose(2, 0, 1))
    return np.stack(arrays) - np.array([104, 117, 123], np.float32).reshape(3, 1, 1)
