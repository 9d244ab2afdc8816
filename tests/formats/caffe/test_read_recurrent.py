"""LSTM and RNN against a loop over steps, and against real Caffe."""

from __future__ import annotations

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run

T, N, D, H = 5, 3, 4, 6


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def lstm_loop(x, cont, wx, b, wh, h, c, static=0.0):
    out = []
    for t in range(len(x)):
        going = cont[t][:, None]
        i, f, o, g = np.split(x[t] @ wx.T + b + static + (h * going) @ wh.T, 4, 1)
        c = going * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out), h[None], c[None]


def draw(*shapes):
    rng = np.random.default_rng(7)
    return [rng.standard_normal(s).astype(np.float32) * 0.5 for s in shapes]


def layer(kind, bottoms, tops, said=""):
    named = " ".join(f'bottom: "{b}"' for b in bottoms) + " " + " ".join(f'top: "{t}"' for t in tops)
    return f'layer {{ name: "r" type: "{kind}" {named} recurrent_param {{ num_output: {H} {said} }} }}'


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("static", [False, True])
def test_lstm_starts_anew_where_cont_is_zero(net, exposed, static) -> None:
    x, h, c, s = draw((T, N, D), (1, N, H), (1, N, H), (N, 2))
    wx, b, wh, ws = draw((4 * H, D), (4 * H,), (4 * H, H), (4 * H, 2))
    cont = (np.random.default_rng(1).random((T, N)) > 0.4).astype(np.float32)
    feeds = {"x": x, "cont": cont} | ({"s": s} if static else {}) | ({"h": h, "c": c} if exposed else {})
    tops = ["y", "hT", "cT"] if exposed else ["y"]
    blobs = [wx, b, ws, wh] if static else [wx, b, wh]
    model = net(
        layer("LSTM", feeds, tops, "expose_hidden: true" if exposed else ""), {"r": blobs}, **{k: v.shape for k, v in feeds.items()}
    )
    start = (h[0], c[0]) if exposed else (np.zeros((N, H)), np.zeros((N, H)))
    want = lstm_loop(x, cont, wx, b, wh, *start, s @ ws.T if static else 0.0)
    got = run(model, feeds)
    for top, value in zip(tops, want, strict=False):
        np.testing.assert_allclose(got[top], value, atol=1e-5)


def test_rnn_has_an_output_matrix_of_its_own(net) -> None:
    x, h0 = draw((T, N, D), (1, N, H))
    wx, b, wh, wo, bo = draw((H, D), (H,), (H, H), (H, H), (H,))
    cont = (np.random.default_rng(1).random((T, N)) > 0.4).astype(np.float32)
    feeds = {"x": x, "cont": cont, "h0": h0}
    model = net(
        layer("RNN", feeds, ["y", "hT"], "expose_hidden: true"), {"r": [wx, b, wh, wo, bo]}, x=x.shape, cont=cont.shape, h0=h0.shape
    )
    h, want = h0[0], []
    for t in range(T):
        h = np.tanh((h * cont[t][:, None]) @ wh.T + x[t] @ wx.T + b)
        want.append(np.tanh(h @ wo.T + bo))
    got = run(model, feeds)
    np.testing.assert_allclose(got["y"], np.stack(want), atol=1e-5)
    np.testing.assert_allclose(got["hT"], h[None], atol=1e-5)


def test_weights_lie_once_however_many_steps(net) -> None:
    model = net(layer("LSTM", ["x", "cont"], ["y"]), x=(T, N, D), cont=(T, N))
    assert {n for n in model.graph.initializers if n.startswith("r/")} == {"r/weight_xc", "r/bias", "r/weight_hc"}


@pytest.mark.parametrize(
    ("x", "cont", "said"),
    [
        ((T, N), (T, N), ""),
        ((T, N, D), (N, T), ""),
        ((T, N, D), (T, N), "expose_hidden: true"),
        ((100000, N, D), (100000, N), ""),
    ],
)
def test_impossible_settings_are_refused(net, x, cont, said) -> None:
    with pytest.raises(NiudaoError, match=r"'r'|r \("):
        net(layer("LSTM", ["x", "cont"], ["y"], said), x=x, cont=cont)


@pytest.mark.parametrize("said", ["", "num_output: 0", "num_output: 4000000000", "num_output: 100000"])
def test_impossible_sizes_are_refused(net, said) -> None:
    with pytest.raises(NiudaoError, match="'r'"):
        net(f'layer {{ name: "r" type: "RNN" bottom: "x" bottom: "cont" top: "y" recurrent_param {{ {said} }} }}', x=(T, N, D), cont=(T, N))


def test_as_real_caffe_ran(as_caffe_ran) -> None:
    assert as_caffe_ran("op_lstm") == 1
