"""ResNet-20 and ResNet-56 with their published weights: the accuracy that their README states, and after every detour.

Reference: github.com/akamaster/pytorch_resnet_cifar10, test errors 8.27 % and 6.61 %.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from PIL import Image

import niudao as nd
from niudao import zoo
from niudao.formats.pytorch import to_module

RIGHT = {"resnet20_cifar": ("resnet20-12fca82f.th", 9173), "resnet56_cifar": ("resnet56-4bfd9763.th", 9339)}
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def cifar(real_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 lossless test pictures, normalised, (N, 3, 32, 32), and their classes."""
    files = sorted((real_data / "cifar10").glob("test_*.webp"))
    if len(files) != 10:
        pytest.skip(f"the CIFAR-10 test pictures are not at {real_data / 'cifar10'}")
    pictures, labels = [], []
    for path in files:
        with Image.open(path) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
        tiles = pixels.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)[:1000]
        pictures.append(tiles)
        labels += [int(path.name.split("_")[1])] * len(tiles)
    x = (np.concatenate(pictures).astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), np.array(labels)


@pytest.fixture(scope="module", params=RIGHT)
def network(request: pytest.FixtureRequest, real_data: Path) -> tuple[ir.Model, Path, int, str]:
    """The network as read from its checkpoint, the file, what it gets right, and its name."""
    file, right = RIGHT[request.param]
    path = real_data / "weights_small" / "resnet_cifar10" / file
    if not path.exists():
        pytest.skip(f"{file} is not at {path.parent}")
    return nd.read(path, arch=request.param), path, right, request.param


def right(model: ir.Model, x: np.ndarray, labels: np.ndarray) -> int:
    (scores,) = nd.run(model, {model.graph.inputs[0].name: x}).values()
    return int((scores.argmax(1) == labels).sum())


def right_in_torch(module: torch.nn.Module, x: np.ndarray, labels: np.ndarray) -> int:
    with torch.no_grad():
        scores = [module(torch.from_numpy(part)).argmax(1).numpy() for part in np.split(x, 20)]
    return int((np.concatenate(scores) == labels).sum())


def test_in_onnx_runtime(network: tuple[ir.Model, Path, int, str], cifar: tuple[np.ndarray, np.ndarray]) -> None:
    assert right(network[0], *cifar) == network[2]


def test_the_published_code_and_our_module_say_the_same(
    network: tuple[ir.Model, Path, int, str], cifar: tuple[np.ndarray, np.ndarray]
) -> None:
    model, path, _, name = network
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    published = zoo.ARCHITECTURES[name].build()
    published.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    x = torch.from_numpy(cifar[0][::40])
    with torch.no_grad():
        torch.testing.assert_close(to_module(model)(x), published.eval()(x), rtol=0, atol=1e-5)


def test_after_caffe_and_keras_and_torch_again(
    network: tuple[ir.Model, Path, int, str], cifar: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    model, _, wanted, _ = network
    nd.write(model, tmp_path / "net.prototxt")
    nd.write(nd.read(tmp_path / "net.prototxt"), tmp_path / "net.keras")
    nd.write(nd.read(tmp_path / "net.keras"), tmp_path / "net.safetensors")
    home = nd.read(tmp_path / "net.safetensors", trust=True)
    assert right_in_torch(to_module(home), *cifar) == wanted
