"""Counts against published ones, the receptive field against what a pixel really reaches."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from niudao.ir.build import Builder
from niudao.ir.cost import cost
from niudao.ir.session import run


def zeros(*shape: int) -> np.ndarray:
    return np.broadcast_to(np.float32(0), shape)


class Stack:
    """A chain of layers without weights worth storing."""

    def __init__(self, *shape: int) -> None:
        self.b = Builder()
        self.x = self.b.input("data", (None, *shape))

    def weight(self, *shape: int) -> ir.Value:
        return self.b.lazy(lambda: zeros(*shape), shape, "w")

    def conv(self, out: int, k: int, s: int = 1, p: int = 0, g: int = 1) -> Stack:
        channels = int(self.x.shape[1])
        w = self.weight(out, channels // g, k, k)
        self.x = self.b.op("Conv", self.x, w, self.weight(out), strides=[s, s], pads=[p] * 4, group=g)
        return self

    def op(self, op: str, **attributes: object) -> Stack:
        self.x = self.b.op(op, self.x, **attributes)
        return self

    def dense(self, out: int) -> Stack:
        if len(self.x.shape) > 2:
            self.op("Flatten")
        self.x = self.b.op("Gemm", self.x, self.weight(out, int(self.x.shape[1])), self.weight(out), transB=1)
        return self

    def pool(self, k: int, s: int) -> Stack:
        return self.op("MaxPool", kernel_shape=[k, k], strides=[s, s])

    def model(self) -> ir.Model:
        self.b.output(self.x, "y")
        return self.b.model()


def vgg19() -> Stack:
    net = Stack(3, 224, 224)
    for repeat, channels in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        for _ in range(repeat):
            net.conv(channels, 3, p=1).op("Relu")
        net.pool(2, 2)
    return net.dense(4096).op("Relu").dense(4096).op("Relu").dense(1000)


def alexnet() -> Stack:
    """The two-tower network of 2012 as Caffe writes it."""
    net = Stack(3, 227, 227)
    net.conv(96, 11, 4).op("Relu").op("LRN", size=5).pool(3, 2).conv(256, 5, p=2, g=2).op("Relu").op("LRN", size=5).pool(3, 2)
    net.conv(384, 3, p=1).op("Relu").conv(384, 3, p=1, g=2).op("Relu").conv(256, 3, p=1, g=2).op("Relu").pool(3, 2)
    return net.dense(4096).op("Relu").dense(4096).op("Relu").dense(1000)


def lenet() -> Stack:
    return Stack(1, 28, 28).conv(20, 5).pool(2, 2).conv(50, 5).pool(2, 2).dense(500).op("Relu").dense(10)


@pytest.mark.parametrize(
    ("make", "params", "macs"),
    [(vgg19, 143_667_240, 19_632_062_464), (alexnet, 60_965_224, 724_406_816), (lenet, 431_080, 2_293_000)],
)
def test_published_counts(make: object, params: int, macs: int) -> None:
    found = cost(make().model())  # type: ignore[operator]
    assert (found.params, found.macs, found.uncounted) == (params, macs, ())
    assert found.macs_text() == f"{macs:,}"


def test_the_batch_counts_once_per_image() -> None:
    model = lenet().model()
    one, eight = cost(model), cost(model, batch=8)
    assert eight.macs == 8 * one.macs and eight.peak_bytes == 8 * one.peak_bytes and eight.params == one.params
    assert eight.layers[0].output_shape == (8, 20, 24, 24)


def test_peak_memory_by_hand() -> None:
    b = Builder()
    x = b.input("x", (1, 10))
    a = b.op("Relu", x)  # x, a
    c = b.op("Concat", a, a, axis=1)  # a, c
    d = b.op("Add", c, c)  # c, d
    b.output(b.op("Reshape", d, b.const([4, 5])), "y")
    assert cost(b.model()).peak_bytes == 4 * (20 + 20)


def test_shared_weights_count_once_and_statistics_apart() -> None:
    b = Builder()
    x = b.input("x", (None, 4, 8, 8))
    w = b.weight(np.zeros((4, 4, 1, 1), np.float32), "w")
    x = b.op("Conv", b.op("Conv", x, w), w)
    x = b.op("BatchNormalization", x, *[b.weight(np.ones(4, np.float32), n) for n in "sbmv"])
    b.output(x, "y")
    found = cost(b.model())
    assert (found.params, found.statistics) == (16 + 8, 8)
    assert [r.params for r in found.layers][:3] == [16, 0, 8]


def test_recurrent_layers() -> None:
    b = Builder()
    x = b.input("x", (5, 2, 3))
    w, r = (b.weight(np.zeros((1, 16, n), np.float32), "w") for n in (3, 4))
    bias = np.zeros((1, 32), np.float32)
    bias[:, :16] = 1
    y, *_ = b.ops("LSTM", x, w, r, b.weight(bias, "b"), outputs=3, hidden_size=4)
    b.output(y, "y")
    found = cost(b.model())
    assert found.params == 16 * 3 + 16 * 4 + 16
    assert found.macs == 5 * 2 * (16 * 3 + 16 * 4)


def test_what_has_no_rule_makes_the_total_a_lower_bound() -> None:
    b = Builder()
    x = b.input("x", (2, 3, 4))
    b.output(b.op("Einsum", x, x, equation="bij,bkj->bik"), "y")
    found = cost(b.model())
    assert found.uncounted and found.macs_text() == ">= 0"


def test_receptive_field_is_what_a_pixel_reaches() -> None:
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", (1, 1, 61, 61))

    def w(*shape: int) -> ir.Value:
        return b.weight(rng.uniform(0.5, 1, size=shape).astype(np.float32), "w")

    y = b.op("Conv", x, w(2, 1, 3, 3), strides=[2, 1], pads=[1] * 4)
    y = b.op("Conv", y, w(2, 2, 3, 5), dilations=[2, 1], pads=[2] * 4)
    y = b.op("AveragePool", y, kernel_shape=[2, 3], strides=[2, 2])
    y = b.op("Add", b.op("Conv", y, w(2, 2, 3, 3), pads=[1] * 4), y)
    b.output(y, "y")
    model = b.model()
    field = cost(model).layers[-2 if model.graph[-1].op_type == "Identity" else -1].receptive_field
    base = run(model, np.zeros((1, 1, 61, 61), np.float32), optimize=False)["y"]
    _, _, h, wd = base.shape
    for axis, centre in ((0, h // 2), (1, wd // 2)):
        touched = []
        for i in range(61):
            probe = np.zeros((1, 1, 61, 61), np.float32)
            if axis == 0:
                probe[0, 0, i, :] = 1
                value = run(model, probe, optimize=False)["y"][0, 0, centre, wd // 2]
            else:
                probe[0, 0, :, i] = 1
                value = run(model, probe, optimize=False)["y"][0, 0, h // 2, centre]
            if value != 0:
                touched.append(i)
        assert touched[-1] - touched[0] + 1 == field[axis].size
    assert [f.stride for f in field] == [4, 2]
