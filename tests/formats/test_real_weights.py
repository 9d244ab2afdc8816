"""Networks trained by others, on the images they were made for: the published accuracy, before and after conversion."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

import niudao as nd


@pytest.fixture(scope="module")
def mnist(real_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 test images, uint8 (N, 28, 28, 1), and their labels."""
    folder = real_data / "mnist"
    if not (folder / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip(f"MNIST is not at {folder}")
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as f:
        images = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as f:
        labels = np.frombuffer(f.read(), np.uint8, offset=8)
    return images, labels


def _accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    model = nd.read(path)
    (scores,) = nd.run(model, images, layout="source").values()
    return float((scores.argmax(1) == labels).mean())


@pytest.mark.parametrize("target", [None, "net.onnx", "net.keras"])
def test_a_keras_network_keeps_its_accuracy(
    real_data: Path, mnist: tuple[np.ndarray, np.ndarray], tmp_path: Path, target: str | None
) -> None:
    path = real_data / "weights_small" / "mnist_keras" / "mnistCNN.h5"
    if target is not None:
        nd.write(nd.read(path), tmp_path / target)
        path = tmp_path / target
    images, labels = mnist
    assert round(_accuracy(path, images.astype(np.float32) / 255, labels), 4) == 0.9920


@pytest.mark.parametrize("target", [None, "net.onnx", "net.keras", "net.h5"])
def test_an_onnx_network_of_opset_7_keeps_its_answers(
    real_data: Path, mnist: tuple[np.ndarray, np.ndarray], tmp_path: Path, target: str | None
) -> None:
    path = real_data / "weights_small" / "mnist_onnx" / "mnist.onnx"
    images, labels = mnist[0][:1000], mnist[1][:1000]
    model = nd.read(path)
    if target is not None:
        from niudao.formats.extract import set_batch

        nd.write(set_batch(model, "dynamic"), tmp_path / target)
        model = nd.read(tmp_path / target)
    (scores,) = nd.run(model, images.transpose(0, 3, 1, 2).astype(np.float32)).values()
    assert (scores.argmax(1) == labels).mean() > 0.985
