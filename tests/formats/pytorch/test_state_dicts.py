"""State dicts with the network that they belong to: however they were saved, the answers are those of torch with the same weights."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lowering import agrees
from torch import nn

import niudao as nd
from niudao import zoo
from niudao.errors import ReadError, UsageError
from niudao.formats.pytorch.bare import bare
from niudao.ir import card

FILE = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
import beside

@dataclass
class Width:
    channels: int = beside.CHANNELS

def make():
    print("made")
    return nn.Sequential(nn.Conv2d(3, Width().channels, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))

def wide(): return make().double()
def needs(channels): return make()
def leaves(): raise SystemExit(3)
def fails(): raise ValueError("no" + chr(10) + "way")
def example_inputs(): return torch.zeros(1, 3, 8, 8)
"""
X = (torch.randn(2, 3, 8, 8),)
State = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("CHANNELS = 4\n")
    return tmp_path


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    made[1].running_mean.normal_()
    made[1].running_var.uniform_(0.5, 2)
    return made


def read(value: Any, folder: Path, factory: str = "make", **options: Any) -> Any:
    torch.save(value, folder / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nd.read(folder / "w.pth", arch=f"{folder / 'net.py'}:{factory}", trust=True, **options)


def under(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "a name that nobody knows": lambda s: {"state_dict": under("net.", s)},
    "beside a loss": lambda s: {"state_dict": {**under("net.", s), "criterion.weight": torch.ones(3)}},
    "averaged": lambda s: {"n_averaged": torch.tensor(3), **under("module.", s)},
    "compiled and spread": lambda s: under("_orig_mod.module.", s),
    "of contrast": lambda s: {
        **under("module.encoder_q.", s),
        **under("module.encoder_k.", {k: v * 2 for k, v in s.items()}),
        "module.queue": torch.zeros(9),
    },
    "a tuple": lambda s: (3, s, {"state": {0: {"exp_avg": torch.ones(9)}}, "param_groups": []}),
    "a list in a dictionary": lambda s: {"models": [s]},
    "five deep": lambda s: {"a": {"b": {"c": {"state_dict": s}}}},
    "under a number": lambda s: {0: s},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_the_network_is_found(how: str, net: nn.Module, folder: Path) -> None:
    agrees(read(WRAPPED[how](net.state_dict()), folder), net, X, 1e-5)


def test_what_was_left_is_told(net: nn.Module, folder: Path) -> None:
    model = read(WRAPPED["of contrast"](net.state_dict()), folder)
    notes = " ".join(card.get_json(model.metadata_props, card.NOTES))
    assert "'module.encoder_q.' was taken, not 'module.encoder_k.'" in notes and "queue" in notes


def test_more_under_the_network_s_own_names_is_refused(net: nn.Module, folder: Path) -> None:
    with pytest.raises(ReadError, match=r"has besides 9\.weight"):
        read(under("net.", {**net.state_dict(), "9.weight": torch.ones(3)}), folder)
    short = under("net.", net.state_dict())
    del short["net.4.bias"]
    with pytest.raises(ReadError, match=r"lacks 4\.bias\."):
        read(short, folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_network_s_numbers_are_of_its_own_type(dtype: torch.dtype, net: nn.Module, folder: Path) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    judge = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    judge.load_state_dict(state)
    model = read(state, folder)
    agrees(model, judge, X, 1e-5)
    name = str(dtype).removeprefix("torch.")
    assert f"weights that the file holds as {name} are float32 in the network" in card.get_json(model.metadata_props, card.NOTES)


def test_fractions_do_not_become_whole_numbers(folder: Path) -> None:
    text = "import torch\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    text += "        self.register_buffer('n', torch.ones(3, dtype=torch.int64))\n    def forward(self, x): return x * self.n\n"
    (folder / "net.py").write_text(text)
    with pytest.raises(ReadError, match="of type float32, and the network counts in int64"):
        read({"n": torch.ones(3)}, folder, "Net", shapes={"x": (1, 3)})


def test_a_network_in_double(net: nn.Module, folder: Path) -> None:
    model = read(net.state_dict(), folder, "wide", shapes={"anything": (1, 3, 8, 8)})
    assert {str(v.dtype) for v in model.graph.inputs} == {"DOUBLE"}
    assert {v.const_value.dtype.name for v in model.graph.initializers.values() if v.name == "0.weight"} == {"DOUBLE"}


def test_the_file_runs_as_python_would_run_it(net: nn.Module, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.path)
    read(net.state_dict(), folder)
    assert sys.path == before and "beside" not in sys.modules
    said = capsys.readouterr()
    assert said.out == "" and "made" in said.err
    (folder / "beside.py").write_text("CHANNELS = 5\n")
    with pytest.raises(ReadError, match="instead of"):
        read(net.state_dict(), folder)


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        ("needs", UsageError, r"needs of net\.py cannot be called without arguments"),
        ("leaves", ReadError, "SystemExit: 3"),
        ("fails", ReadError, "ValueError: no way$"),
        ("nothing", UsageError, r"net\.py has no nothing"),
    ],
)
def test_factories_that_make_nothing(factory: str, error: type[Exception], said: str, net: nn.Module, folder: Path) -> None:
    with pytest.raises(error) as e:
        read(net.state_dict(), folder, factory)
    assert re.search(said, e.value.message.rstrip("."))


ODD = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.o = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.o.weight = self.e.weight
        self.register_buffer("scale", torch.arange(5.0), persistent=False)
    def get_extra_state(self): return {"version": 1}
    def set_extra_state(self, state): pass
    def forward(self, x): return self.o(self.e(x)) * self.scale

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.LazyLinear(4)
    def forward(self, first, second): return self.l(first) - second

made = Lazy()
def example_inputs(): return torch.zeros(2, 4, dtype=torch.int64)
"""


@pytest.mark.parametrize("left_out", ["e.weight", "o.weight", "", "twice"])
def test_tied_weights_under_one_name_or_two(left_out: str, folder: Path) -> None:
    (folder / "net.py").write_text(ODD)
    scope: dict[str, Any] = {}
    exec(ODD, scope)
    judge = scope["Tied"]()
    state = {k: v for k, v in judge.state_dict().items() if k != left_out}
    if left_out == "twice":
        state["o.weight"] = state["o.weight"] * 2
        judge.load_state_dict(state)
    model = read(state, folder, "Tied")
    agrees(model, judge, (torch.randint(0, 5, (2, 4)),), 1e-5)


def test_lazy_layers_and_a_network_that_is_made_already(folder: Path) -> None:
    (folder / "net.py").write_text(ODD)
    layer = nn.Linear(3, 4)
    state = {"l.weight": layer.weight, "l.bias": layer.bias}
    for factory in ("Lazy", "made"):
        model = read(state, folder, factory, shapes={"second": (1, 4), "first": (1, 3)})
        assert [v.name for v in model.graph.inputs] == ["first", "second"]
    with pytest.raises(UsageError, match="takes no 'third'"):
        read(state, folder, "Lazy", shapes={"first": (1, 3), "third": (1, 4)})


def test_a_network_is_recognised_under_its_prefix(tmp_path: Path) -> None:
    state = zoo.build("resnet20_cifar").state_dict()
    torch.save({**under("net.", state), "loss.weight": torch.ones(2)}, tmp_path / "w.pth")
    found = bare(tmp_path / "w.pth")
    assert found.fits == ("resnet20_cifar",) and "fits resnet20_cifar, under 'net.'" in found.notes
    seven = {**state, "linear.weight": state["linear.weight"][:7], "linear.bias": state["linear.bias"][:7]}
    torch.save(under("net.", seven), tmp_path / "w.pth")
    model = nd.read(tmp_path / "w.pth", arch="resnet20_cifar")
    assert model.graph.outputs[0].shape is not None and model.graph.outputs[0].shape[1] == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ('{"image_size": "big"}', "size of the pictures"),
        (json.dumps({"id2label": {"0": "a", "1": "b"}}), "names 2 classes, and the network has 5"),
    ],
)
def test_what_lies_beside_and_is_of_another_program(text: str, said: str, net: nn.Module, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    torch.save(net.state_dict(), folder / "pytorch_model.bin")
    model = nd.read(folder / "pytorch_model.bin", arch=f"{folder / 'net.py'}:make", trust=True)
    assert any(said in note for note in card.get_json(model.metadata_props, card.NOTES)) and not card.get_classes(model)


def test_an_index_of_files_of_torch_save(net: nn.Module, folder: Path) -> None:
    items = list(under("model.", net.state_dict()).items())
    placed = {}
    for i, part in enumerate((items[:3], items[3:])):
        torch.save(dict(part), folder / f"pytorch_model-{i}.bin")
        placed |= {k: f"pytorch_model-{i}.bin" for k, _ in part}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nd.read(index, arch=f"{folder / 'net.py'}:make", trust=True)
    agrees(model, net, X, 1e-5)
    assert np.shape(model.graph.initializers["0.weight"].const_value) == (4, 3, 3, 3)
