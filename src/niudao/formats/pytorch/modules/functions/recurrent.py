"""Recurrent layers with ONNX's weights: by torch's own kernels where those say the same, else step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Activation = tuple[str, float, float]
Cell = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def activate(x: Tensor, how: Activation) -> Tensor:
    """An activation by its name, with its alpha and beta."""
    name, alpha, beta = how
    functional = torch.nn.functional
    if name == "sigmoid":
        return torch.sigmoid(x)
    if name == "tanh":
        return torch.tanh(x)
    if name == "relu":
        return torch.relu(x)
    if name == "affine":
        return alpha * x + beta
    if name == "leakyrelu":
        return functional.leaky_relu(x, alpha)
    if name == "thresholdedrelu":
        return torch.where(x > alpha, x, torch.zeros_like(x))
    if name == "scaledtanh":
        return alpha * torch.tanh(beta * x)
    if name == "hardsigmoid":
        return (alpha * x + beta).clamp(0, 1)
    if name == "elu":
        return functional.elu(x, alpha)
    if name == "softsign":
        return functional.softsign(x)
    return functional.softplus(x)


def limit(x: Tensor, clip: float) -> Tensor:
    """`x` within -clip and clip; 0 is no limit."""
    return x.clamp(-clip, clip) if clip else x


def turn(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Sequences (time, batch, size) from their end to their start, each within its own length."""
    if lengths is None:
        return x.flip(0)
    time = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return torch.gather(x, 0, torch.where(time < lengths, lengths - 1 - time, time).unsqueeze(2).expand_as(x))


def unroll(cell: Cell, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None, backwards: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a cell over time: the first part of its state at every step, zero behind a sequence's end, and the last state."""
    x = turn(x, lengths) if backwards else x
    outputs = []
    for t in range(x.shape[0]):
        new = cell(x[t], state)
        if lengths is None:
            state = new
            outputs.append(new[0])
        else:
            going = (t < lengths).unsqueeze(1)
            state = tuple(torch.where(going, n, s) for n, s in zip(new, state, strict=True))
            outputs.append(torch.where(going, new[0], torch.zeros_like(new[0])))
    y = torch.stack(outputs)
    return (turn(y, lengths) if backwards else y), state


def gates(weight: Tensor, order: Sequence[int]) -> Tensor:
    """Rows of a weight or bias, one block for each gate, in another order of gates."""
    blocks = weight.chunk(len(order), 0)
    return torch.cat([blocks[i] for i in order], 0)


def fused_weights(w: Tensor, r: Tensor, b: Tensor | None, order: Sequence[int]) -> list[Tensor]:
    """Weights of all directions as torch's kernels take them."""
    weights = []
    for d in range(w.shape[0]):
        weights += [gates(w[d], order), gates(r[d], order)]
        if b is not None:
            half = b.shape[1] // 2
            weights += [gates(b[d, :half], order), gates(b[d, half:], order)]
    return weights


def directions_apart(y: Tensor, directions: int, backwards: bool) -> Tensor:
    """(time, batch, directions * hidden) -> (time, directions, batch, hidden)."""
    y = y.reshape(y.shape[0], y.shape[1], directions, -1).transpose(1, 2)
    return y.flip(0) if backwards else y


def fused_lstm(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, h: Tensor | None, c: Tensor | None, direction: str
) -> tuple[Tensor, Tensor, Tensor]:
    """LSTM with sigmoid and tanh, as `torch.nn.LSTM` computes it.

    Args:
        x: (time, batch, size).
        w: (directions, 4 * hidden, size), gates in the order i, o, f, c.
        r: (directions, 4 * hidden, hidden).
        b: (directions, 8 * hidden).
        h: First hidden state (directions, batch, hidden); zeros where it is not given.
        c: First cell state, likewise.
        direction: "forward", "reverse" or "bidirectional".

    Returns:
        All hidden states (time, directions, batch, hidden), the last ones, and the last cell states.
    """
    directions, backwards = w.shape[0], direction == "reverse"
    zero = torch.zeros(directions, x.shape[1], r.shape[2], dtype=x.dtype, device=x.device)
    state = (zero if h is None else h, zero if c is None else c)
    weights = fused_weights(w, r, b, (0, 2, 3, 1))
    x = x.flip(0) if backwards else x
    y, h, c = torch.lstm(x, state, weights, b is not None, 1, 0.0, False, directions == 2, False)
    return directions_apart(y, directions, backwards), h, c


def fused_gru(x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, h: Tensor | None, direction: str) -> tuple[Tensor, Tensor]:
    """GRU whose reset gate comes after the recurrent product, as `torch.nn.GRU` computes it; gates in the order z, r, h."""
    directions, backwards = w.shape[0], direction == "reverse"
    state = torch.zeros(directions, x.shape[1], r.shape[2], dtype=x.dtype, device=x.device) if h is None else h
    weights = fused_weights(w, r, b, (1, 0, 2))
    x = x.flip(0) if backwards else x
    y, h = torch.gru(x, state, weights, b is not None, 1, 0.0, False, directions == 2, False)
    return directions_apart(y, directions, backwards), h


def fused_rnn(x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, h: Tensor | None, direction: str, name: str) -> tuple[Tensor, Tensor]:
    """Plain recurrence with "tanh" or "relu", as `torch.nn.RNN` computes it."""
    directions, backwards = w.shape[0], direction == "reverse"
    state = torch.zeros(directions, x.shape[1], r.shape[2], dtype=x.dtype, device=x.device) if h is None else h
    weights = fused_weights(w, r, b, (0,))
    x = x.flip(0) if backwards else x
    kernel = torch.rnn_tanh if name == "tanh" else torch.rnn_relu
    y, h = kernel(x, state, weights, b is not None, 1, 0.0, False, directions == 2, False)
    return directions_apart(y, directions, backwards), h


def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    h: Tensor | None,
    c: Tensor | None,
    peepholes: Tensor | None,
    direction: str,
    activations: Sequence[Activation],
    clip: float,
    coupled: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """LSTM of any kind, step by step; shapes as in `fused_lstm`.

    Args:
        x: (time, batch, size).
        w: Input weights.
        r: Recurrent weights.
        b: Biases.
        lengths: Length of each sequence (batch,), or None where all are as long as `x`.
        h: First hidden state.
        c: First cell state.
        peepholes: (directions, 3 * hidden) for i, o, f.
        direction: "forward", "reverse" or "bidirectional".
        activations: Three for each direction: of the gates, the cell's input, the cell's output.
        clip: Limit of what enters an activation; 0 is none.
        coupled: The forget gate is one minus the input gate.
    """
    outputs, hidden, cells = [], [], []
    for d in range(w.shape[0]):
        bias = 0 if b is None else b[d, : b.shape[1] // 2] + b[d, b.shape[1] // 2 :]
        zero = torch.zeros(x.shape[1], r.shape[2], dtype=x.dtype, device=x.device)
        pi, po, pf = (zero[0],) * 3 if peepholes is None else peepholes[d].chunk(3)

        def cell(
            step: Tensor,
            state: tuple[Tensor, ...],
            d: int = d,
            bias: Tensor | int = bias,
            pi: Tensor = pi,
            po: Tensor = po,
            pf: Tensor = pf,
        ) -> tuple[Tensor, ...]:
            h, c = state
            of_gates, of_cell, of_output = activations[3 * d : 3 * d + 3]
            i, o, f, g = (step @ w[d].t() + h @ r[d].t() + bias).chunk(4, 1)
            i = activate(limit(i + pi * c, clip), of_gates)
            f = 1 - i if coupled else activate(limit(f + pf * c, clip), of_gates)
            c = f * c + i * activate(limit(g, clip), of_cell)
            o = activate(limit(o + po * c, clip), of_gates)
            return o * activate(c, of_output), c

        first = (zero if h is None else h[d], zero if c is None else c[d])
        y, (last_h, last_c) = unroll(cell, x, first, lengths, direction == "reverse" or d == 1)
        outputs.append(y)
        hidden.append(last_h)
        cells.append(last_c)
    return torch.stack(outputs, 1), torch.stack(hidden), torch.stack(cells)


def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    h: Tensor | None,
    direction: str,
    activations: Sequence[Activation],
    clip: float,
    reset_after: bool,
) -> tuple[Tensor, Tensor]:
    """GRU of any kind, step by step; arguments as in `lstm`, two activations for each direction.

    `reset_after`: the reset gate comes after the recurrent product, not before it.
    """
    outputs, hidden = [], []
    for d in range(w.shape[0]):
        zero = torch.zeros(x.shape[1], r.shape[2], dtype=x.dtype, device=x.device)
        size = r.shape[2]
        bw, br = (zero[0].repeat(3),) * 2 if b is None else b[d].chunk(2)

        def cell(
            step: Tensor, state: tuple[Tensor, ...], d: int = d, size: int = size, bw: Tensor = bw, br: Tensor = br
        ) -> tuple[Tensor, ...]:
            (h,) = state
            of_gates, of_candidate = activations[2 * d : 2 * d + 2]
            entering = step @ w[d].t() + bw
            both = entering[:, : 2 * size] + h @ r[d, : 2 * size].t() + br[: 2 * size]
            z, reset = activate(limit(both, clip), of_gates).chunk(2, 1)
            if reset_after:
                recurrent = reset * (h @ r[d, 2 * size :].t() + br[2 * size :])
            else:
                recurrent = (reset * h) @ r[d, 2 * size :].t() + br[2 * size :]
            candidate = activate(limit(entering[:, 2 * size :] + recurrent, clip), of_candidate)
            return ((1 - z) * candidate + z * h,)

        y, (last,) = unroll(cell, x, (zero if h is None else h[d],), lengths, direction == "reverse" or d == 1)
        outputs.append(y)
        hidden.append(last)
    return torch.stack(outputs, 1), torch.stack(hidden)


def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    h: Tensor | None,
    direction: str,
    activations: Sequence[Activation],
    clip: float,
) -> tuple[Tensor, Tensor]:
    """Plain recurrence of any kind, step by step; arguments as in `lstm`, one activation for each direction."""
    outputs, hidden = [], []
    for d in range(w.shape[0]):
        bias = 0 if b is None else b[d, : b.shape[1] // 2] + b[d, b.shape[1] // 2 :]

        def cell(step: Tensor, state: tuple[Tensor, ...], d: int = d, bias: Tensor | int = bias) -> tuple[Tensor, ...]:
            return (activate(limit(step @ w[d].t() + state[0] @ r[d].t() + bias, clip), activations[d]),)

        first = torch.zeros(x.shape[1], r.shape[2], dtype=x.dtype, device=x.device) if h is None else h[d]
        y, (last,) = unroll(cell, x, (first,), lengths, direction == "reverse" or d == 1)
        outputs.append(y)
        hidden.append(last)
    return torch.stack(outputs, 1), torch.stack(hidden)
