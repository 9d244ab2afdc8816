"""The verbs on what torch writes: state dicts with an architecture, consent, the folder of a hub, live modules, what is raised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import niudao as nd
from niudao import zoo
from niudao.errors import ReadError, UsageError
from niudao.formats.pytorch import from_module, read_module, to_module
from niudao.ir import card

MINE = """
from pathlib import Path
import torch
from torch import nn

Path("ran.txt").write_text("ran")
example_inputs = (torch.zeros(1, 3, 8, 8),)


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.fc = nn.Linear(width * 36, 5)

    def forward(self, picture):
        return self.fc(torch.flatten(torch.relu(self.conv(picture)), 1))
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, nn.Module]:
    """A checkpoint of somebody's own network, whose source lies beside it and notes when it is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    scope: dict[str, object] = {}
    exec(MINE, scope)
    network = scope["Net"]()  # type: ignore[operator]
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "mine.pth")
    (tmp_path / "ran.txt").unlink()
    return tmp_path / "mine.pth", network.eval()


def test_the_users_own_source_is_run_with_consent_only(mine: tuple[Path, nn.Module]) -> None:
    path, network = mine
    with pytest.raises(ReadError, match="weights alone") as bare:
        nd.read(path)
    assert "mine.py" in str(bare.value.next)
    with pytest.raises(UsageError, match="would be run"):
        nd.read(path, arch="mine.py:Net")
    assert not Path("ran.txt").exists()
    model = nd.read(path, arch="mine.py:Net", trust=True)
    assert Path("ran.txt").exists()
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        want = network(x).numpy()
    np.testing.assert_allclose(nd.run(model, {"picture": x.numpy()})["output"], want, atol=1e-5)
    assert {"conv.weight", "fc.bias"} <= set(model.graph.initializers)


def test_another_architecture_is_one_sentence_with_the_nearest(tmp_path: Path) -> None:
    torch.save(zoo.build("resnet20_cifar").state_dict(), tmp_path / "net.pth")
    with pytest.raises(ReadError, match=r"lacks .* more") as e:
        nd.read(tmp_path / "net.pth", arch="ResNet32-CIFAR")
    assert "resnet20_cifar" in str(e.value.next) and "60 missing" in str(e.value.got)
    with pytest.raises(UsageError) as unknown:
        nd.read(tmp_path / "net.pth", arch="resnet21_cifar")
    assert "resnet20_cifar" in str(unknown.value.next)


def test_another_number_of_classes_is_found_in_the_file(tmp_path: Path) -> None:
    network = zoo.build("resnet20_cifar", seed=3, classes=7)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    assert "with 7 classes" in nd.inspect(tmp_path / "net.pth").notes[0]
    model = nd.read(tmp_path / "net.pth", arch="resnet20_cifar")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        want = network(x).numpy()
    assert want.shape == (2, 7)
    np.testing.assert_allclose(next(iter(nd.run(model, {model.graph.inputs[0].name: x.numpy()}).values())), want, atol=1e-4)


def test_the_folder_of_a_hub_brings_card_and_classes(tmp_path: Path) -> None:
    torch.save(zoo.build("resnet20_cifar").state_dict(), tmp_path / "pytorch_model.bin")
    labels = {str(i): f"class {i}" for i in range(10)}
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["ResNet"], "id2label": labels}))
    facts = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    model = nd.read(tmp_path, arch="resnet20_cifar")
    found = card.get_cards(model)[model.graph.inputs[0].name]
    assert found.mean == (0.5, 0.4, 0.3) and found.std == (0.2, 0.2, 0.2) and found.order == "RGB"
    assert card.get_classes(model)[9] == "class 9"
    assert len(nd.inspect(tmp_path).tensors) > 90


class Spelt(nn.Module):
    """Normalises across channels, which torch.export takes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 3), nn.LocalResponseNorm(5), nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(self.conv(x)))


def test_a_live_module_is_proven_in_torch_and_what_was_raised_is_told(tmp_path: Path) -> None:
    module = Spelt().train()
    report = nd.convert(module, tmp_path / "net.prototxt", example_inputs=(torch.randn(1, 3, 9, 9),))
    assert report.ok and report.proof.source.startswith("torch ") and module.training
    assert any("1 LRN (proven" in line for line in report.raised)
    assert "As one operator again: " in report.to_text()
    assert 'type: "LRN"' in (tmp_path / "net.prototxt").read_text()
    model = read_module(module, (torch.randn(1, 3, 9, 9),))
    assert [n.op_type for n in model.graph] == ["Conv", "LRN", "Dropout"]
    assert isinstance(to_module(model).drop, nn.Dropout)


def test_trained_values_go_home(tmp_path: Path, small_net: object) -> None:
    network = to_module(small_net)  # type: ignore[arg-type]
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x = torch.randn(6, 3, 9, 7)
    for _ in range(3):
        optimizer.zero_grad()
        network(x)[:, 0].log().sum().backward()
        optimizer.step()
    with torch.no_grad():
        want = network.eval()(x).numpy()
    for ending in (".h5", ".prototxt", ".onnx", ".pt2"):
        nd.write(from_module(network), tmp_path / f"net{ending}")
        np.testing.assert_allclose(nd.run(nd.read(tmp_path / f"net{ending}"), {"image": x.numpy()})["prob"], want, atol=1e-5)


def test_looking_into_a_checkpoint_imports_no_torch(tmp_path: Path) -> None:
    torch.save(zoo.build("squeezenet1_1").state_dict(), tmp_path / "net.pth")
    code = "import sys, niudao as nd; r = nd.inspect(sys.argv[1]); print(r.notes[0], len(r.tensors)); sys.exit('torch' in sys.modules)"
    env = os.environ | {"PYTHONPATH": str(Path(nd.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "net.pth")], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stdout.split("\n")[0] == "fits squeezenet1_1 52", done.stdout + done.stderr


def test_what_the_file_says_has_precedence_over_its_folder(tmp_path: Path, small_net: object) -> None:
    mine = card.InputCard(order="BGR", scale=0.5, mean=(1.0, 2.0, 3.0))
    card.set_cards(small_net, {"image": mine})  # type: ignore[arg-type]
    nd.write(small_net, tmp_path / "model.safetensors")  # type: ignore[arg-type]
    facts = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    assert card.get_cards(nd.read(tmp_path / "model.safetensors", trust=True))["image"] == mine
    torch.save(zoo.build("resnet20_cifar").state_dict(), tmp_path / "other.pth")
    assert not card.get_cards(nd.read(tmp_path / "other.pth", arch="resnet20_cifar"))


def test_consent_runs_what_arch_names_and_nothing_else(mine: tuple[Path, nn.Module]) -> None:
    path, _ = mine
    nd.write(nd.read(path, arch="mine.py:Net", trust=True), path.with_name("w.safetensors"))
    path.with_name("w.py").write_text("raise SystemExit('an unrelated file was run')")
    report = nd.convert(path.with_name("w.safetensors"), path.with_name("w.onnx"), arch="mine.py:Net", trust=True)
    assert report.ok


def test_a_scale_and_a_bias_alone_stay_what_they_are() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.alpha, self.beta = (
                nn.Conv2d(3, 4, 1),
                nn.Parameter(torch.rand(1, 4, 1, 1)),
                nn.Parameter(torch.rand(1, 4, 1, 1)),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).relu() * self.alpha + self.beta

    model = read_module(Affine(), (torch.rand(1, 3, 5, 5),))
    assert [n.op_type for n in model.graph] == ["Conv", "Relu", "Mul", "Add"]
    assert {"alpha", "beta"} <= set(model.graph.initializers)
    to_module(model).train()(torch.rand(2, 3, 5, 5)).sum().backward()


@pytest.mark.parametrize("ending", [".PT2", ".SAFETENSORS"])
def test_an_ending_in_capitals_is_the_same_ending(tmp_path: Path, small_net: object, ending: str) -> None:
    assert nd.convert(small_net, tmp_path / f"net{ending}").ok
