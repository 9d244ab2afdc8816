"""Recurrent layers as torch modules: every setting judged by ONNX Runtime, torch's own layers by themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from niudao.formats.pytorch import from_module, to_module

sys.path.insert(0, str(Path(__file__).parent))
from torchjudge import build, differ, operator, runtime, torch_answer, values

Draw = Callable[[st.SearchStrategy[Any]], Any]
EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
OTHERS = ["Relu", "LeakyRelu", "HardSigmoid", "ScaledTanh", "Elu", "Softsign", "Softplus", "Affine"]


def one_of(*choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(choices)


def recurrent(draw: Draw, op: str) -> tuple[ir.Model, list[np.ndarray[Any, Any]]]:
    """A recurrent layer in some setting, and sequences for it."""
    gates, (time, batch, size, hidden) = GATES[op], (4, 3, 2, 3)
    direction = draw(one_of("forward", "reverse", "bidirectional"))
    d = 2 if direction == "bidirectional" else 1
    how: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    x = values(time, batch, size)
    held: list[Any] = [0.7 * values(d, gates * hidden, size), 0.7 * values(d, gates * hidden, hidden)]
    held += [values(d, 2 * gates * hidden) if draw(st.booleans()) else None]
    lengths = np.array([draw(st.integers(1, time)) for _ in range(batch)], np.int32) if draw(one_of(False, False, True)) else None
    held += [lengths, values(d, batch, hidden, seed=1) if draw(st.booleans()) else None]
    if op == "LSTM":
        held += [values(d, batch, hidden, seed=2) if draw(st.booleans()) else None]
        held += [values(d, 3 * hidden, seed=3) if draw(one_of(False, False, True)) else None]
    if draw(one_of(False, False, True)):
        how["clip"] = 0.5
    if op == "GRU":
        how["linear_before_reset"] = draw(one_of(0, 1))
    if draw(one_of(False, True)):
        names = [draw(one_of(*OTHERS)) if draw(st.booleans()) else n for n in USUAL[op]] * d
        how["activations"] = names
        how["activation_alpha"] = [0.3 for n in names if n in ("LeakyRelu", "HardSigmoid", "ScaledTanh", "Elu", "Affine")] or None
        how["activation_beta"] = [0.4 for n in names if n in ("HardSigmoid", "ScaledTanh", "Affine")] or None
    how = {k: v for k, v in how.items() if v is not None}
    return build([x], operator(op, *held, outputs=3 if op == "LSTM" else 2, **how)), [x]


@pytest.mark.parametrize("op", list(GATES))
def test_random_settings(op: str) -> None:
    @EXAMPLES
    @given(st.data())
    def judged(data: st.DataObject) -> None:
        model, arrays = recurrent(data.draw, op)
        wrong = differ(torch_answer(model, arrays), runtime(model, arrays), 1e-5)
        assert not wrong, wrong

    judged()


@pytest.mark.parametrize("names", ["source", "torch"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_a_layer_of_torch_comes_back(kind: type[torch.nn.Module], bidirectional: bool, names: Any) -> None:
    """Weights of a torch layer in ONNX's order give that layer's outputs; under torch's names it is that layer, and writes back."""
    torch.manual_seed(0)
    original = kind(3, 4, bidirectional=bidirectional)
    op, order = {"LSTM": ("LSTM", [0, 3, 1, 2]), "GRU": ("GRU", [1, 0, 2]), "RNN": ("RNN", [0])}[kind.__name__]
    ends = ["", "_reverse"] if bidirectional else [""]

    def stack(name: str) -> np.ndarray[Any, Any]:
        blocks = [[getattr(original, f"{name}_l0{e}").detach().chunk(GATES[op])[i] for i in order] for e in ends]
        return np.stack([torch.cat(b).numpy() for b in blocks])

    bias = np.concatenate([stack("bias_ih"), stack("bias_hh")], 1)
    how: dict[str, Any] = {"hidden_size": 4, "direction": "bidirectional" if bidirectional else "forward", "layer": "memory"}
    how |= {"linear_before_reset": 1} if op == "GRU" else {}
    x = values(5, 2, 3)
    model = build([x], operator(op, stack("weight_ih"), stack("weight_hh"), bias, outputs=3 if op == "LSTM" else 2, **how))
    network = to_module(model, names=names)
    got = network(torch.from_numpy(x))
    want, last = original(torch.from_numpy(x))
    want = want.reshape(5, 2, len(ends), 4).transpose(1, 2)
    for g, w in zip(got, (want, *(last if op == "LSTM" else (last,))), strict=True):
        torch.testing.assert_close(g, w, rtol=0, atol=1e-6)
    assert any(isinstance(m, kind) for m in network.modules()) == (names == "torch")
    if names == "torch":
        assert list(network.get_submodule("memory").state_dict()) == list(original.state_dict())
    loss = sum(g.square().sum() for g in got)
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    trained = [g.detach().numpy() for g in network(torch.from_numpy(x))]
    wrong = differ(trained, runtime(from_module(network), [x]))
    assert not wrong, wrong


@pytest.mark.parametrize("op", list(GATES))
def test_batch_first(op: str) -> None:
    """`layout` 1 is the same layer with the batch in front."""
    x = values(4, 3, 2)
    held = [values(1, GATES[op] * 3, 2), values(1, GATES[op] * 3, 3)]
    outputs = 3 if op == "LSTM" else 2
    plain = torch_answer(build([x], operator(op, *held, outputs=outputs, hidden_size=3)), [x])
    swapped = np.ascontiguousarray(x.swapaxes(0, 1))
    turned = torch_answer(build([swapped], operator(op, *held, outputs=outputs, hidden_size=3, layout=1)), [swapped])
    wrong = differ([turned[0].transpose(1, 2, 0, 3), *(t.swapaxes(0, 1) for t in turned[1:])], plain)
    assert not wrong, wrong


def test_coupled_gates() -> None:
    """`input_forget`: the forget gate is what the input gate leaves."""
    x = values(3, 2, 2)
    held = [values(1, 12, 2), values(1, 12, 3), values(1, 24)]
    model = build([x], operator("LSTM", *held, outputs=3, hidden_size=3, input_forget=1))
    wrong = differ(torch_answer(model, [x]), runtime(model, [x]))
    assert not wrong, wrong


@pytest.mark.parametrize("op", list(GATES))
def test_double_precision(op: str) -> None:
    """Gradients in double precision equal finite differences, by kernel and step by step."""
    x = values(3, 2, 2)
    held = [values(1, GATES[op] * 2, 2), values(1, GATES[op] * 2, 2), values(1, GATES[op] * 4)]
    for extra in ({}, {"clip": 3.0}):
        model = build([x], operator(op, *held, outputs=3 if op == "LSTM" else 2, shown=[0], hidden_size=2, **extra))
        assert torch.autograd.gradcheck(to_module(model).double(), torch.from_numpy(x).double().requires_grad_())
