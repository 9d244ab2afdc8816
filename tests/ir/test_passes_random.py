"""Passes on random graphs: the network computes the same before and after, by ONNX Runtime with and without its own rewriting."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niudao.errors import Where
from niudao.ir.build import Builder
from niudao.ir.passes import PASSES, SIMPLIFY, load
from niudao.ir.passes.layout import turn
from niudao.ir.passes.transposes import count
from niudao.ir.session import run
from niudao.ir.validate import validate

load()
EVERY = [*SIMPLIFY, "fold_batchnorm", "raise_batchnorm", "remove_identity", "transposes", "remove_dead", "infer_shapes"]


class LastNet:
    """A random channels-last network, written as exporters of such frameworks write them."""

    def __init__(self, seed: int, steps: int, wild: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder("random")
        self.wild = wild
        x = self.b.input("x", (None, 6, 8, 4))
        self.pool = [x]
        self.flat: list[ir.Value] = []
        self.steps = steps

    def random(self) -> ir.Model:
        for i in range(self.steps):
            self.b.layer = f"layer{i}"
            self.step()
        last = self.pool[-1]
        if self.rng.random() < 0.5:
            last = self.head(last)
        self.b.output(last, "y")
        if self.rng.random() < 0.3 and len(self.pool) > 2:
            self.b.output(self.pool[-2], "z")
        if self.flat:
            self.b.output(self.flat[-1], "f")
        return self.b.model()

    def array(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)

    def weight(self, *shape: int) -> ir.Value:
        return self.b.weight(self.array(*shape), "w")

    def sizes(self, x: ir.Value) -> list[int]:
        return [d if isinstance(d, int) else -1 for d in x.shape]

    def pick(self) -> ir.Value:
        return self.pool[int(self.rng.integers(max(0, len(self.pool) - 3), len(self.pool)))]

    def first(self, x: ir.Value) -> ir.Value:
        return self.b.op("Transpose", x, perm=[0, 3, 1, 2])

    def last(self, x: ir.Value) -> ir.Value:
        return self.b.op("Transpose", x, perm=[0, 2, 3, 1])

    def step(self) -> None:
        x = self.pick()
        kinds = ["conv", "relu", "bias", "scale", "plane", "residual", "concat", "pad", "softmax", "max_pool", "squeeze_excite",
                 "batchnorm", "split", "slice", "resize", "reduce", "prelu", "clip", "argmax", "single", "gather", "units"]  # fmt: skip
        if self.wild:
            kinds += ["shuffle", "shuffle", "matmul"]
        kind = kinds[int(self.rng.integers(len(kinds)))]
        made = getattr(self, kind)(x)
        if made is not None:
            self.pool.append(made)

    def conv(self, x: ir.Value) -> ir.Value:
        c = self.sizes(x)[3]
        k = int(self.rng.integers(2, 6))
        y = self.b.op("Conv", self.first(x), self.b.weight(self.array(k, c, 3, 3) / c, "w"), pads=[1, 1, 1, 1])
        return self.last(y)

    def relu(self, x: ir.Value) -> ir.Value:
        return self.b.op(str(self.rng.choice(["Relu", "Sigmoid", "Tanh", "Elu", "Softplus"])), x)

    def bias(self, x: ir.Value) -> ir.Value:
        w = self.weight(self.sizes(x)[3])
        return self.b.op("Add", x, w) if self.rng.random() < 0.5 else self.b.op("Sub", w, x)

    def scale(self, x: ir.Value) -> ir.Value:
        return self.b.op("Mul", x, self.weight(1, 1, 1, self.sizes(x)[3]))

    def single(self, x: ir.Value) -> ir.Value:
        return self.b.op("Mul", x, self.b.const(0.5))

    def plane(self, x: ir.Value) -> ir.Value:
        _, h, w, _ = self.sizes(x)
        return self.b.op("Add", x, self.weight(h, w, 1))

    def residual(self, x: ir.Value) -> ir.Value | None:
        others = [o for o in self.pool if self.sizes(o) == self.sizes(x)]
        other = others[int(self.rng.integers(len(others)))]
        return self.b.op(str(self.rng.choice(["Add", "Mul", "Max"])), x, other)

    def concat(self, x: ir.Value) -> ir.Value:
        others = [o for o in self.pool if self.sizes(o)[:3] == self.sizes(x)[:3]]
        return self.b.op("Concat", x, others[int(self.rng.integers(len(others)))], axis=int(self.rng.choice([3, -1])))

    def pad(self, x: ir.Value) -> ir.Value:
        return self.b.op("Pad", x, self.b.const([0, 1, 0, 0, 0, 0, 2, 1]), self.b.const(0.25))

    def softmax(self, x: ir.Value) -> ir.Value:
        return self.b.op("Softmax", x, axis=int(self.rng.choice([-1, 1, 3])))

    def max_pool(self, x: ir.Value) -> ir.Value:
        if min(self.sizes(x)[1:3]) < 2:
            return self.relu(x)
        return self.last(self.b.op("MaxPool", self.first(x), kernel_shape=[2, 2], strides=[1, 1]))

    def squeeze_excite(self, x: ir.Value) -> ir.Value:
        c = self.sizes(x)[3]
        s = self.b.op("ReduceMean", x, self.b.const([1, 2]), keepdims=0)
        s = self.b.op("Sigmoid", self.b.op("MatMul", s, self.weight(c, c)))
        return self.b.op("Mul", x, self.b.op("Reshape", s, self.b.const([-1, 1, 1, c])))

    def batchnorm(self, x: ir.Value) -> ir.Value:
        c = self.sizes(x)[3]
        parts = [self.weight(c), self.weight(c), self.weight(c), self.b.weight(np.abs(self.array(c)) + 0.5, "var")]
        return self.last(self.b.op("BatchNormalization", self.first(x), *parts))

    def split(self, x: ir.Value) -> ir.Value | None:
        if self.sizes(x)[3] % 2:
            return None
        a, b = self.b.ops("Split", x, outputs=2, axis=3, num_outputs=2)
        self.pool.append(a)
        return b

    def slice(self, x: ir.Value) -> ir.Value | None:
        if self.sizes(x)[2] < 3:
            return None
        return self.b.op("Slice", x, self.b.const([1]), self.b.const([np.iinfo(np.int64).max]), self.b.const([-2]))

    def resize(self, x: ir.Value) -> ir.Value | None:
        if self.sizes(x)[1] > 20:
            return None
        return self.b.op("Resize", x, None, self.b.const(np.asarray([1, 2, 1, 1], dtype=np.float32)), mode="nearest", nearest_mode="floor")

    def reduce(self, x: ir.Value) -> ir.Value:
        return self.b.op("ReduceMax", x, self.b.const([int(self.rng.integers(1, 4))]), keepdims=1)

    def prelu(self, x: ir.Value) -> ir.Value:
        _, h, w, c = self.sizes(x)
        return self.b.op("PRelu", x, self.weight(c) if self.rng.random() < 0.5 else self.weight(h, w, c))

    def clip(self, x: ir.Value) -> ir.Value:
        return self.b.op("Clip", x, self.b.const(0.0), self.b.const(6.0))

    def argmax(self, x: ir.Value) -> None:
        self.flat.append(self.b.op("ArgMax", x, axis=-1, keepdims=0))

    def gather(self, x: ir.Value) -> ir.Value:
        c = self.sizes(x)[3]
        return self.b.op("Gather", x, self.b.const(self.rng.permutation(c).astype(np.int64)), axis=3)

    def units(self, x: ir.Value) -> ir.Value | None:
        one = self.b.op("ReduceMean", x, self.b.const([3]), keepdims=0)
        return self.b.op("Unsqueeze", one, self.b.const([3]))

    def shuffle(self, x: ir.Value) -> ir.Value:
        return self.b.op("Transpose", x, perm=[0, *(1 + self.rng.permutation(3)).tolist()])

    def matmul(self, x: ir.Value) -> ir.Value:
        return self.b.op("MatMul", x, self.weight(self.sizes(x)[3], 3))

    def head(self, x: ir.Value) -> ir.Value:
        k = int(np.prod(self.sizes(x)[1:]))
        flat = self.b.op("Flatten", x) if self.rng.random() < 0.5 else self.b.op("Reshape", x, self.b.const([-1, k]))
        if self.rng.random() < 0.5:
            flat = self.b.op("Relu", flat)
        if self.rng.random() < 0.3:
            flat = self.b.op("Add", flat, self.weight(k))
        y = self.b.op("Add", self.b.op("MatMul", flat, self.b.weight(self.array(k, 5) / k, "w")), self.weight(5))
        if self.rng.random() < 0.4:
            y = self.b.op("Gemm", y, self.weight(24, 5), self.weight(24), transB=1)
            y = self.b.op("Reshape", self.b.op("Relu", y), self.b.const([-1, 2, 3, 4]))
            y = self.conv(y)
        return y


def same(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    assert list(before) == list(after)
    for name, want in before.items():
        got = after[name]
        assert got.shape == want.shape, name
        assert np.abs(got.astype(float) - want.astype(float)).max(initial=0) <= 2e-5 * max(1.0, np.abs(want).max(initial=0)), name


def net(seed: int, steps: int, wild: bool) -> ir.Model:
    return LastNet(seed, steps, wild).random()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 14), wild=st.booleans())
def test_every_pass_keeps_the_network(seed: int, steps: int, wild: bool) -> None:
    model = net(seed, steps, wild)
    x = np.random.default_rng(seed).normal(size=(2, 6, 8, 4)).astype(np.float32)
    before = run(model, x, optimize=False)
    names = [v.name for v in (*model.graph.inputs, *model.graph.outputs)]
    transposes = count(model.graph)
    for name in EVERY:
        PASSES[name](model)
        validate(model, where=Where(node=name))
    assert [v.name for v in (*model.graph.inputs, *model.graph.outputs)] == names
    assert count(model.graph) <= transposes
    same(before, run(model, x, optimize=False))
    same(before, run(model, x))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 12))
def test_turning_the_layout_keeps_the_network(seed: int, steps: int) -> None:
    model = net(seed, steps, False)
    x = np.random.default_rng(seed).normal(size=(2, 6, 8, 4)).astype(np.float32)
    before = run(model, x, optimize=False)
    turn(model, [v.name or "" for v in (*model.graph.inputs, *model.graph.outputs) if v.shape is not None and len(v.shape) == 4])
    for name in ("infer_shapes", "fold_constants", "remove_identity", "transposes", "remove_dead"):
        PASSES[name](model)
    validate(model, where=Where())
    same(before, run(model, x, layout="source", optimize=False))


@pytest.mark.parametrize("seed", range(12))
def test_a_channels_last_cnn_ends_without_transposes(seed: int) -> None:
    built = LastNet(seed, 0, False)
    b = built.b
    kinds = (
        "conv",
        "relu",
        "bias",
        "scale",
        "plane",
        "pad",
        "max_pool",
        "squeeze_excite",
        "batchnorm",
        "prelu",
        "clip",
        "residual",
        "concat",
    )
    x = built.conv(built.pool[0])
    built.pool.clear()
    for kind in built.rng.choice(kinds, size=10):
        built.pool.append(x)
        x = getattr(built, str(kind))(x)
    k = int(np.prod(built.sizes(x)[1:]))
    b.output(b.op("MatMul", b.op("Flatten", x), b.weight(built.array(k, 5) / k, "w")), "logits")
    model = b.model()
    feed = built.array(2, 6, 8, 4)
    before = run(model, feed, optimize=False)
    turn(model, ["x"])
    for name in ("infer_shapes", "fold_constants", "transposes"):
        PASSES[name](model)
    assert count(model.graph) == 0
    same(before, run(model, feed, layout="source", optimize=False))
