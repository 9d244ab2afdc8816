"""Recurrent layers and attention as models, against torch itself: exported and traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lowering import Fn, Fn2, judged, ops
from scripting import trace_judged
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

SEQUENCE = (2, 6, 4)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTM(4, 5, batch_first=True),
    "lstm_two_ways": lambda: nn.LSTM(4, 5, batch_first=True, bidirectional=True),
    "lstm_three_layers": lambda: nn.LSTM(4, 5, 3, batch_first=True, bidirectional=True, dropout=0.2),
    "lstm_without_bias": lambda: nn.LSTM(4, 5, bias=False, batch_first=True),
    "lstm_projected": lambda: nn.LSTM(4, 5, 2, batch_first=True, proj_size=3),
    "lstm_projected_two_ways": lambda: nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True, proj_size=2),
    "gru": lambda: nn.GRU(4, 5, batch_first=True),
    "gru_two_ways": lambda: nn.GRU(4, 5, 2, batch_first=True, bidirectional=True),
    "gru_without_bias": lambda: nn.GRU(4, 3, bias=False, batch_first=True),
    "rnn": lambda: nn.RNN(4, 5, batch_first=True),
    "rnn_relu": lambda: nn.RNN(4, 5, 2, nonlinearity="relu", batch_first=True, bidirectional=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_exported(name: str) -> None:
    model = judged(LAYERS[name](), SEQUENCE)
    held = LAYERS[name]().state_dict()
    assert set(model.graph.initializers) & set(held)  # in ONNX's order, under torch's names


@pytest.mark.parametrize("name", LAYERS)
def test_traced(name: str) -> None:
    trace_judged(LAYERS[name](), SEQUENCE)


class Steps(nn.Module):
    """Cells called by hand; the second one's states are its inputs."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.a, self.b = kind(4, 4), kind(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        state: Any = self.a(x)
        for _ in range(2):
            state = self.b(x, state)
        return state


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(kind: type[nn.Module]) -> None:
    judged(Steps(kind), (2, 4))
    trace_judged(Steps(kind), (2, 4))


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(4, 5, 2), nn.GRU(5, 3)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> Any:
        y, (h, c) = self.lstm(x, (state, state * 0.5))
        return self.gru(y)[0], h, c


def test_states_that_are_given() -> None:
    judged(TimeFirst(), (6, 2, 4), (2, 2, 5), batch="fixed")


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(self.lstm(x)[0])[0]


def test_shared_weights_stay_shared() -> None:
    model = judged(Shared(), SEQUENCE)
    assert len([n for n in model.graph.initializers if n.startswith("lstm.")]) == 3


HEADS = (2, 2, 5, 4)
ATTENTION: dict[str, Callable[[torch.Tensor], Any]] = {
    "plain": lambda x: F.scaled_dot_product_attention(x, x + 1, x * 2),
    "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "scale": lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.3),
    "added": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.arange(25.0).view(5, 5) / 9),
    "masked": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(5, dtype=torch.bool)),
    "longer_keys": lambda x: F.scaled_dot_product_attention(x, torch.cat([x, x * 2], 2), torch.cat([x, x], 2)),
    "grouped": lambda x: F.scaled_dot_product_attention(x, x[:, :1], x[:, 1:], enable_gqa=True),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str) -> None:
    judged(Fn(ATTENTION[name]), HEADS)
    trace_judged(Fn(ATTENTION[name]), HEADS)


class Block(nn.Module):
    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: torch.Tensor) -> Any:
        y, weights = self.attention(x, x, x, need_weights=self.need_weights)
        return (y, weights) if self.need_weights else y


MODULES: dict[str, Callable[[], nn.Module]] = {
    "multi_head": lambda: Block(False),
    "multi_head_weights": lambda: Block(True),
    "encoder": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "encoder_first": lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", norm_first=True, batch_first=True),
}


@pytest.mark.parametrize("name", MODULES)
def test_blocks(name: str) -> None:
    judged(MODULES[name](), (2, 5, 8))
    trace_judged(MODULES[name](), (2, 5, 8))


def test_core_operators() -> None:
    """After `run_decompositions`, torch has other words for the same."""
    judged(Fn(lambda x: F.scaled_dot_product_attention(x, x, x).softmax(1).log_softmax(2)), HEADS, decompose=True)
    judged(Fn(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear").flip(2).amax((2, 3))), (2, 3, 4, 5), decompose=True)
    judged(Fn(lambda x: F.interpolate(F.pad(x, (1, 1, 2, 0), "reflect"), size=(9, 5))), (2, 3, 4, 5), decompose=True)
    judged(Fn(lambda x: torch.stack([x.var(1), x.std(1)], 1).roll(1, 1).to(torch.float64)), (2, 3, 4, 5), decompose=True)


def test_weight_norm() -> None:
    for wrapped in (parametrizations.weight_norm(nn.Conv2d(4, 5, 3)), parametrizations.weight_norm(nn.Conv2d(4, 5, 3), dim=1)):
        model = judged(wrapped, (2, 4, 6, 5))
        assert ops(model) == ["Conv"]
        assert "weight" in model.graph.initializers
    with pytest.warns(FutureWarning):
        old = weight_norm(nn.ConvTranspose1d(4, 5, 3))
    trace_judged(old, (2, 4, 6))


def test_two_sequences() -> None:
    judged(Fn2(lambda q, k: F.scaled_dot_product_attention(q, k, k)), (2, 2, 5, 4), (2, 2, 7, 4))
