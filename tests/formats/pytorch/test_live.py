"""Modules in memory: exported in evaluation, left as they were, their first axis free where they allow it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from niudao.errors import Unsupported, UsageError
from niudao.formats.pytorch.aten.build import build
from niudao.formats.pytorch.program.live import program_of

sys.path.insert(0, str(Path(__file__).parent))
from lowering import Fn, Fn2, agrees, drawn, judged, tensors

Pair = namedtuple("Pair", ["left", "right"])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        return self.act(torch.tanh(self.bn1(self.conv1(y))) + x)


def test_torch_logs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="does not run on these inputs"):
        program_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), tensors([(2, 3, 5)]))
    assert capfd.readouterr().err == "" and logging.root.manager.disable == 0


def test_modes_are_put_back() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), Block())
    net.train()
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    program_of(net, tensors([(2, 4, 5, 5)]))
    assert [m.training for m in net] == [True, False, True, True]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_layers_called_twice_and_functions_in_blocks() -> None:
    net = nn.Sequential(OrderedDict(first=Block(), second=Block()))
    model = judged(net, (2, 4, 5, 5))
    layers = [node.metadata_props["niudao.layer"] for node in model.graph]
    assert layers.count("first.conv1") == 2
    assert "first.tanh" in layers and "second.add" in layers
    assert all(set(p.name for p in model.graph.initializers.values()) >= {f"{b}.conv1.weight"} for b in ("first", "second"))


@pytest.mark.parametrize(
    ("give", "names"),
    [
        (lambda x: x + 1, ["output"]),
        (lambda x: (x + 1, x * 2), ["output", "output_1"]),
        (lambda x: [x + 1, None, x * 2], ["output", "output_2"]),
        (lambda x: {"b": x + 1, "a": x * 2}, ["b", "a"]),
        (lambda x: {"b": [x + 1, x * 3], "a": x * 2}, ["b.0", "b.1", "a"]),
        (lambda x: Pair(x + 1, x * 2), ["left", "right"]),
        (lambda x: (x, x), ["output", "output_1"]),
    ],
)
def test_names_of_outputs(give: Any, names: list[str]) -> None:
    model = build(program_of(Fn(give).eval(), tensors([(2, 3)])))
    got = [v.name for v in model.graph.outputs]
    assert got == names if "output_2" not in names else len(got) == 2


def test_several_inputs_keep_their_names() -> None:
    model = judged(Fn2(lambda x, y: x + y.mean((1, 2))[:, None]), (2, 3), (2, 4, 5))
    assert [(v.name, str(v.shape)) for v in model.graph.inputs] == [("x", "[batch,3]"), ("y", "[batch,4,5]")]


def test_a_fixed_batch_is_noted() -> None:
    module = Fn(lambda x: x.reshape(4, 3) + 1)
    program = program_of(module, [torch.rand(2, 6)])
    assert program.inputs[0].shape == (2, 6)
    assert "the batch is fixed to 2" in program.notes[0]
    agrees(build(program), module, [torch.rand(2, 6)])
    assert program_of(module, [torch.rand(2, 6)], batch="fixed").notes == ()


def test_a_batch_of_one_is_freed_too() -> None:
    program = program_of(nn.Linear(6, 3), [torch.rand(1, 6)])
    model = build(program)
    assert str(model.graph.inputs[0].shape) == "[batch,6]"


def test_reshapes_keep_the_batch_free() -> None:
    def steps(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.size()
        y = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, -1, h, w)
        y = y.reshape(n * c, h * w).view(n, c, h, w)
        return y.flatten(1).view(x.size(0), -1) + torch.zeros(n, 1)

    model = judged(Fn(steps), (2, 4, 3, 5))
    assert str(model.graph.outputs[0].shape) == "[batch,60]"
    assert not any(node.op_type == "Shape" for node in model.graph if node.metadata_props["niudao.layer"].startswith(("view", "reshape")))


def test_double_and_half_inputs() -> None:
    program = program_of(Fn(lambda x: x * 2), [torch.rand(2, 3, dtype=torch.float64)])
    assert program.inputs[0].dtype == "float64"


def test_faults_of_the_caller() -> None:
    with pytest.raises(UsageError, match="example inputs"):
        program_of(nn.ReLU(), [])
    with pytest.raises(UsageError, match="does not run"):
        program_of(nn.Linear(3, 4), [torch.rand(2, 5)])
    with pytest.raises(UsageError, match="batch"):
        program_of(nn.ReLU(), [torch.rand(2, 5)], batch="any")


def test_what_cannot_be_followed() -> None:
    module = Fn(lambda x: x + 1 if x.sum() > 0 else x - 1)
    with pytest.raises(Unsupported, match=r"torch\.export"):
        program_of(module, [torch.rand(2, 5)])


def test_modules_of_torchscript() -> None:
    """Scripted, and a part that only a trace can follow: torch.export does not look into scripted functions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        whole = torch.jit.script(drawn(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))))
    program = program_of(whole, [torch.rand(2, 6)])
    model = build(program)
    assert str(model.graph.inputs[0].shape) == "[batch,6]"
    assert set(model.graph.initializers) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    agrees(model, whole, [torch.rand(3, 6)])


def test_a_trace_where_export_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no way")

    monkeypatch.setattr(torch.export, "export", gives_up)
    module = drawn(Block())
    program = program_of(module, tensors([(2, 4, 5, 5)]))
    assert "traced" in program.notes[-1] and "no way" in program.notes[-1]
    agrees(build(program), module, tensors([(2, 4, 5, 5)]))
    with pytest.raises(Unsupported, match="no way"):  # a trace would take one branch for good
        program_of(Fn(lambda x: x + 1 if x.sum() > 0 else x - 1), [torch.rand(2, 5)])


def test_a_network_that_trained() -> None:
    net = drawn(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)))
    net.train()
    model = build(program_of(net, tensors([(2, 4, 6, 6)])))
    agrees(model, net.eval(), tensors([(3, 4, 6, 6)]))
