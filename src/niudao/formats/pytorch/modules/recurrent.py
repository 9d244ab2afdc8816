"""Recurrent layers: torch's own where the weights can be its own, its kernels where only the numbers agree, else steps."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import recurrent as f
from niudao.formats.pytorch.modules.table import converts

_DEFAULTS = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, 0.0),
    "thresholdedrelu": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
}
"""Alpha and beta of the activations that have them."""
_BETAS = {"affine", "scaledtanh", "hardsigmoid"}
_PLAIN = {"sigmoid", "tanh", "relu", "softsign", "softplus"}


def activations(c: Call, usual: list[str]) -> list[f.Activation]:
    """Activations of all directions, each with its alpha and beta; one that takes them uses up the next of the node's lists."""
    count = len(usual) * (2 if c.attr("direction") == "bidirectional" else 1)
    said = c.attr("activations") if "activations" in c.node.attributes else None
    names = [n.lower() for n in said or usual * 2][:count]
    alphas, betas = list(c.attr("activation_alpha") or []), list(c.attr("activation_beta") or [])
    found = []
    for name in names:
        if name not in _PLAIN and name not in _DEFAULTS:
            c.refuse(f"has an activation that nobody knows, {name}", "activations")
        alpha, beta = _DEFAULTS.get(name, (0.0, 0.0))
        if name in _DEFAULTS and alphas:
            alpha = alphas.pop(0)
        if name in _BETAS and betas:
            beta = betas.pop(0)
        found.append((name, float(alpha), float(beta)))
    return found


def _usual(c: Call, found: list[f.Activation], usual: list[str]) -> bool:
    """Whether torch's own layers have these activations and no limits."""
    return [name for name, _, _ in found] == usual * (len(found) // len(usual)) and not c.attr("clip") and not c.has(4)


def _batch_second(c: Call, x: Any) -> Any:
    """A batch-first value as ONNX's usual layout has it."""
    return c.call(torch.transpose, x, 0, 1) if c.attr("layout") and x is not None else x


def _parts(c: Call, count: int, function: Callable[..., Any], *args: Any) -> tuple[fx.Node, ...]:
    made = c.call(function, *args)
    return tuple(c.call(operator.getitem, made, i) for i in range(count))


def _results(c: Call, parts: tuple[fx.Node, ...]) -> tuple[Any, ...]:
    """All states and the last ones, in the node's layout."""
    if not c.attr("layout"):
        return tuple(parts)
    return c.call(torch.permute, parts[0], (2, 0, 1, 3)), *(c.call(torch.transpose, p, 0, 1) for p in parts[1:])


def _layer(c: Call, kind: Callable[..., nn.Module], order: tuple[int, ...], states: list[Any], **extra: Any) -> tuple[fx.Node, ...] | None:
    """A torch layer that owns the node's weights; None where it cannot, or runs from the end only."""
    sizes, hidden, direction = c.dims(1), (c.dims(2) or [None])[-1], c.attr("direction")
    if sizes is None or None in sizes or hidden is None or direction == "reverse":
        return None
    owns: dict[str, Any] = {}
    for d, end in enumerate(["", "_reverse"][: sizes[0]]):
        owns[f"weight_ih_l0{end}"] = (1, _block(d, order))
        owns[f"weight_hh_l0{end}"] = (2, _block(d, order))
        if c.has(3):
            owns[f"bias_ih_l0{end}"] = (3, _block(d, order, 0))
            owns[f"bias_hh_l0{end}"] = (3, _block(d, order, 1))
    state = tuple(states) if len(states) > 1 else states[0]
    given = [] if all(s is None for s in states) else [state]
    if given and any(s is None for s in states):
        return None
    size, two, bias = sizes[2] or 0, sizes[0] == 2, c.has(3)
    made = c.weighted(lambda: kind(size, hidden, bias=bias, bidirectional=two, **extra), owns, _batch_second(c, c.x(0)), *given)
    if made is None:
        return None
    layer = c.building.layers[str(made.target)]
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, parameter)  # torch's recurrent layers keep a list of them, which only this renews
    y = c.call(f.directions_apart, c.call(operator.getitem, made, 0), sizes[0], False)
    last = c.call(operator.getitem, made, 1)
    return (y, last) if len(states) == 1 else (y, c.call(operator.getitem, last, 0), c.call(operator.getitem, last, 1))


def _block(direction: int, order: tuple[int, ...], half: int | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
    def pick(whole: torch.Tensor) -> torch.Tensor:
        part = whole[direction]
        return f.gates(part if half is None else part.chunk(2)[half], order)

    return pick


@converts("LSTM")
def lstm(c: Call) -> Any:
    acts = activations(c, ["sigmoid", "tanh", "tanh"])
    x, h, cell = (_batch_second(c, c.x(i)) for i in (0, 5, 6))
    if _usual(c, acts, ["sigmoid", "tanh", "tanh"]) and not c.has(7) and not c.attr("input_forget"):
        made = _layer(c, nn.LSTM, (0, 2, 3, 1), [h, cell])
        if made is None:
            made = _parts(c, 3, f.fused_lstm, x, c.x(1), c.x(2), c.x(3), h, cell, c.attr("direction"))
    else:
        coupled, clip = bool(c.attr("input_forget")), c.attr("clip") or 0.0
        made = _parts(c, 3, f.lstm, x, c.x(1), c.x(2), c.x(3), c.x(4), h, cell, c.x(7), c.attr("direction"), acts, clip, coupled)
    return _results(c, made)


@converts("GRU")
def gru(c: Call) -> Any:
    acts = activations(c, ["sigmoid", "tanh"])
    x, h = (_batch_second(c, c.x(i)) for i in (0, 5))
    after = bool(c.attr("linear_before_reset"))
    if _usual(c, acts, ["sigmoid", "tanh"]) and after:
        made = _layer(c, nn.GRU, (1, 0, 2), [h])
        if made is None:
            made = _parts(c, 2, f.fused_gru, x, c.x(1), c.x(2), c.x(3), h, c.attr("direction"))
    else:
        made = _parts(c, 2, f.gru, x, c.x(1), c.x(2), c.x(3), c.x(4), h, c.attr("direction"), acts, c.attr("clip") or 0.0, after)
    return _results(c, made)


@converts("RNN")
def rnn(c: Call) -> Any:
    acts = activations(c, ["tanh"])
    x, h = (_batch_second(c, c.x(i)) for i in (0, 5))
    name = acts[0][0]
    if name in ("tanh", "relu") and _usual(c, acts, [name]):
        made = _layer(c, nn.RNN, (0,), [h], nonlinearity=name)
        if made is None:
            made = _parts(c, 2, f.fused_rnn, x, c.x(1), c.x(2), c.x(3), h, c.attr("direction"), name)
    else:
        made = _parts(c, 2, f.rnn, x, c.x(1), c.x(2), c.x(3), c.x(4), h, c.attr("direction"), acts, c.attr("clip") or 0.0)
    return _results(c, made)
