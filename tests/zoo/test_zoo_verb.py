"""`niudao zoo`: what it says, and that what it builds can be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from niudao import zoo
from niudao.cli.main import main
from niudao.cli.zoo import ArchitectureReport, ZooReport
from niudao.report import schema


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in zoo.names()) and "60,185,256" in said
    assert main(["zoo", "list", "MobileNet-v1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(schema.of(ZooReport)).validate(found)
    assert len(found["architectures"]) == 7
    assert main(["zoo", "list", "alexnet"]) == 2


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "show", "resnet50-v1.5"]) == 0
    said = capsys.readouterr().out
    assert "25,557,032" in said and "4,089,184,256" in said and "231,211,008" in said and "--arch resnet50_v1.5" in said
    assert main(["zoo", "show", "resnet50_v1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(schema.of(ArchitectureReport)).validate(found)
    assert found["alike"] == ["resnet50_v1.5"]
    assert main(["zoo", "show", "resnet50"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["zoo", "show"]) == 2


def test_wrong_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    assert main(["zoo", "show", "vgg11", str(target)]) == 2
    assert main(["zoo", "build", "vgg11"]) == 2
    assert main(["zoo", "build", "vgg11", str(tmp_path / "net.xyz")]) == 2
    assert main(["zoo", "build", "resnet20_cifar", str(target), "--classes", "0"]) == 2
    assert not target.exists()


def test_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is written is the seeded network, and costs what the table says."""
    import torch

    import niudao as nd

    target = tmp_path / "net.onnx"
    assert main(["zoo", "build", "resnet20_cifar_b", str(target), "--seed", "5", "--classes", "4"]) == 0, capsys.readouterr().err
    x = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    model = nd.read(target)
    (found,) = nd.run(model, {model.graph.inputs[0].name: x}).values()
    with torch.no_grad():
        expected = zoo.build("resnet20-cifar-b", 5, classes=4)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    entry = zoo.architecture("resnet20_cifar_b")
    cost = nd.inspect(target).cost
    assert cost is not None
    assert (cost.params, cost.macs) == (entry.parameters - 6 * 65, entry.macs - 6 * 64)
