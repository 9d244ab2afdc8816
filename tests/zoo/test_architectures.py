"""Every architecture: the counts are the published ones, seeded networks behave, published weights load and classify."""

from __future__ import annotations

import csv
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from niudao import zoo
from niudao.errors import UnknownName

FULL_SIZE = "googlenet_v1_lrn inception_v3 inception_v4 resnet50_v1 resnet152_v2 vgg16 mobilenet_v1_1.0_224 xception squeezenet1_1".split()
QUICK = "resnet20_cifar resnet20_cifar_b mobilenet_v1_0.25_224 squeezenet1_1".split()


def counted(name: str) -> tuple[int, int, tuple[int, ...]]:
    """Parameters, multiply-adds of Conv2d and Linear, and the shape of the answer, by hooks and without memory."""
    entry, macs = zoo.architecture(name), []
    with torch.device("meta"):
        network = entry.build().eval()

    def note(layer: nn.Module, given: object, answer: torch.Tensor) -> None:
        macs.append(answer[0].numel() * prod(layer.weight.shape[1:]))

    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(note)
    answer = network(torch.empty(2, *entry.input, device="meta"))
    return sum(p.numel() for p in network.parameters()), sum(macs), tuple(answer.shape)


@pytest.mark.parametrize("name", zoo.names())
def test_counts(name: str) -> None:
    entry = zoo.architecture(name)
    assert counted(name) == (entry.parameters, entry.macs, (2, entry.classes))


def test_counts_are_those_of_other_programs(real_data: Path) -> None:
    """The table of counts that torchvision, timm, mxnet, pytorchcv, Keras and Caffe files gave; option B stands in a remark."""
    table = real_data.parent / "docs" / "zoo" / "zoo_reference.csv"
    if not table.is_file():
        pytest.skip(f"the table of published counts is not at {table}")
    with table.open(encoding="utf-8") as f:
        rows = {r["name"]: r for r in csv.DictReader(f)}
    ours = [n for n in zoo.names() if not n.endswith("_b")]
    for name in ours:
        entry, row = zoo.architecture(name), rows[name]
        assert (entry.parameters, entry.macs) == (int(row["params_trainable"]), int(row["macs_conv_fc"])), name
        assert "x".join(map(str, entry.input)) == row["input"], name
    for name in set(zoo.names()) - set(ours):
        entry = zoo.architecture(name)
        assert f"option B projection: {entry.parameters} / {entry.macs}" in rows[name.removesuffix("_b")]["other_counts_seen"]


def test_every_named_network_is_there() -> None:
    assert set(FULL_SIZE + QUICK) <= set(zoo.names())
    assert len(zoo.names()) == 43


@pytest.mark.parametrize("name", QUICK)
def test_seeded_networks_behave(name: str) -> None:
    network, entry = zoo.build(name, seed=1), zoo.architecture(name)
    again, other = zoo.build(name, seed=1), zoo.build(name, seed=2)
    first = torch.cat([p.flatten() for p in network.state_dict().values()])
    assert torch.equal(first, torch.cat([p.flatten() for p in again.state_dict().values()]))
    assert not torch.equal(first, torch.cat([p.flatten() for p in other.state_dict().values()]))
    assert not network.training and {p.dtype for p in network.parameters()} == {torch.float32}
    for draw in (torch.rand, torch.randn):
        x = draw(8, *entry.input, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            y = network(x)
            exact = network.double()(x[:1].double())
        network.float()
        assert y.isfinite().all() and 0.1 < y.std(1).mean() < 100
        assert len(set(y.argmax(1).tolist())) > 1, "the answer is the same for every picture"
        assert (exact - y[:1]).abs().max() <= 5e-5 * exact.abs().max(), "rounding is as large as what it decides"
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean.std() > 0.01 and layer.running_var.std() > 1e-3
            assert layer.weight.std() > 0.01 and layer.bias.std() > 0.01 and layer.momentum == 0.1


def test_number_of_classes() -> None:
    network = zoo.build("resnet20-cifar", classes=7)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_option_a_pads_with_zeros_on_both_sides() -> None:
    """Of shortcuts that change shape only every second pixel and the middle channels are left."""
    from niudao.zoo.resnet_cifar import Subsample

    x = torch.arange(2 * 3 * 3, dtype=torch.float32).reshape(1, 2, 3, 3) + 1
    y = Subsample(2)(x)
    assert y.shape == (1, 4, 2, 2) and not y[:, 0].any() and not y[:, 3].any()
    assert torch.equal(y[0, 1], torch.tensor([[1.0, 3.0], [7.0, 9.0]]))


@pytest.mark.parametrize("name,file", [("resnet20_cifar", "resnet20-12fca82f.th"), ("resnet56_cifar", "resnet56-4bfd9763.th")])
def test_published_weights_load_and_classify(real_data: Path, name: str, file: str) -> None:
    path = real_data / "weights_small" / "resnet_cifar10" / file
    if not path.is_file():
        pytest.skip(f"{file} is not at {path}")
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    state = {k.removeprefix("module."): v for k, v in state.items()}
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    assert zoo.fitting(shapes) == [zoo.Fit(name, "exact", 10)]
    network = zoo.architecture(name).build().eval()
    network.load_state_dict(state, strict=True)
    pictures = sorted((real_data / "cifar10").glob("test_*.webp"))
    if not pictures:
        pytest.skip(f"the test pictures of CIFAR-10 are not at {real_data / 'cifar10'}")
    rows = np.stack([np.asarray(Image.open(p).crop((0, 0, 1280, 32))) for p in pictures])  # of each class one row of 40 tiles
    tiles = rows.reshape(10, 32, 40, 32, 3).transpose(0, 2, 4, 1, 3).reshape(400, 3, 32, 32)
    x = torch.from_numpy(tiles / np.float32(255))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    with torch.no_grad():
        found = network((x - mean) / deviation).argmax(1)
    share = (found == torch.arange(10).repeat_interleave(40)).float().mean().item()
    assert share > 0.88, f"91.73 and 93.39 % of the whole test set are known; {share:.1%} of these 400 pictures are right"


def test_names() -> None:
    assert zoo.architecture(" ResNet50-V1.5 ").name == "resnet50_v1.5"
    with pytest.raises(UnknownName, match="unknown architecture 'resnet_50'") as caught:
        zoo.architecture("resnet-50")
    assert "resnet50_v1" in str(caught.value.next)


def test_facts_need_no_torch() -> None:
    code = (
        "import sys; from niudao import zoo; zoo.names(); zoo.fitting({'a': (1,)}); zoo.classes_in('vgg16', {}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_networks_can_be_moved_about() -> None:
    """Float64, channels last and training mode, which users of plain modules expect."""
    network = zoo.build("mobilenet_v1_0.25_224").train()
    x = torch.rand(2, 3, 64, 64)
    network(x.to(memory_format=torch.channels_last)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
