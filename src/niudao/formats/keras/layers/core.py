"""Dense layers, and those that only look at the order of axes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Array, Call
from niudao.formats.keras.tensor import Tensor
from niudao.ir.build import Builder


@dataclass(frozen=True)
class Flat(Tensor):
    """A flattened picture: `value` is flattened in our order, and only a Dense layer can make use of it as it is.

    Anybody else asks for the source's order and gets the picture transposed first.
    """

    picture: Tensor | None = None

    def order(self, b: Builder, perm: tuple[int, ...]) -> Tensor:
        return self.source_order(b)

    def source_order(self, b: Builder) -> Tensor:
        assert self.picture is not None
        return flat(b, self.picture.source_order(b))

    def row_order(self) -> list[int]:
        """Row i of a kernel in our order is this row in the source's."""
        assert self.picture is not None
        dims = [int(d) for d in self.picture.shape[1:] if isinstance(d, int)]
        index = np.arange(prod(dims)).reshape(dims)
        rows: list[int] = index.transpose([p - 1 for p in self.picture.perm[1:]]).reshape(-1).tolist()
        return rows


TAKE_FLAT = frozenset(("Dense", "Dropout", "ActivityRegularization", "GaussianNoise", "GaussianDropout", "AlphaDropout", "Identity"))
"""Layers that leave the order of a flattened picture to whoever comes next, or make use of it."""


def flat(b: Builder, x: Tensor) -> Tensor:
    """Everything but the batch in one axis, in the order in which it lies."""
    return Tensor.plain(b.op("Reshape", x.value, b.const([0, -1] if x.rank > 1 else [-1, 1])))


def settle(b: Builder, x: Tensor) -> Tensor:
    """A tensor that any layer may use: a flattened picture becomes what the source's own order gives."""
    return x.source_order(b) if isinstance(x, Flat) else x


@reads("Flatten")
def flatten(call: Call, x: Tensor) -> Tensor:
    """Row-major over the source's axes; `channels_first` means: over (H, W, C), whatever the axes are."""
    layout = call.choice("data_format", options=("channels_first", "channels_last", None), default=None)
    call.known()
    if layout == "channels_first" and x.rank > 2:
        perm = (0, *range(2, x.rank), 1)  # the order that Keras flattens in
        x = Tensor(x.value, tuple(perm.index(p) for p in x.perm))
    squeezable = sum(d != 1 for d in x.shape[1:]) <= 1
    known = all(isinstance(d, int) for d in x.shape[1:])
    if x.rank > 2 and not squeezable and known and x.perm != tuple(range(x.rank)):
        value = call.b.op("Flatten", x.value)
        return Flat(value, (0, 1), x.masked, picture=x)
    return flat(call.b, x if squeezable and known else x.source_order(call.b))


@reads("Dense", "TimeDistributedDense")
def dense(call: Call, x: Tensor) -> Tensor:
    """x @ kernel + bias over the last axis. Rows follow a flattened picture's order, so that no transposition remains."""
    units = call.integer("units", "output_dim")
    bias = call.flag("use_bias", "bias", default=True)
    b = call.b
    rows: list[int] | None = None
    if isinstance(x, Flat):
        rows = x.row_order()
    else:
        x = x.source_order(b)
    last = x.our_shape[-1]
    change = None if rows is None else lambda a: a[rows]
    kernel = call.weight("kernel", (last, units) if isinstance(last, int) else None, change, tag="" if rows is None else "ours")
    if x.rank == 2:
        y = b.op("Gemm", x.value, kernel, call.weight("bias", (units,)) if bias else None)
    else:
        y = b.op("MatMul", x.value, kernel)
        if bias:
            y = b.op("Add", y, call.weight("bias", (units,)))
    result = call.activate(Tensor.plain(y))
    call.known()
    return result


@reads("EinsumDense")
def einsum_dense(call: Call, x: Tensor) -> Tensor:
    equation, bias_axes = str(call.get("equation")), call.get("bias_axes")
    call.get("output_shape")
    b = call.b
    if "..." in equation:
        raise call.refuse("an equation with an ellipsis is not read", attribute="equation")
    y = b.op("Einsum", x.source_order(b).value, call.weight("kernel"), equation=equation)
    if bias_axes:
        out = equation.partition("->")[2]
        stored = call.stored("bias")
        sizes = iter(stored.shape)
        first = min(out.index(a) for a in bias_axes)
        shape = [next(sizes) if a in bias_axes else 1 for a in out][first:]
        y = b.op("Add", y, call.weight("bias", change=lambda a: a.reshape(shape)))
    result = call.activate(Tensor.plain(y))
    call.known()
    return result


@reads("Reshape")
def reshape(call: Call, x: Tensor) -> Tensor:
    target = call.whole_list(*call.given(("target_shape",)), n=None, low=-1)
    call.known()
    return Tensor.plain(call.b.op("Reshape", x.source_order(call.b).value, call.b.const([0, *target] if x.rank else target)))


@reads("Permute")
def permute(call: Call, x: Tensor) -> Tensor:
    """1-based dims, the batch stays; no node is needed, only the reading of the axes changes."""
    dims = call.whole_list(*call.given(("dims",)), n=None, low=1)
    call.known()
    if sorted(dims) != list(range(1, x.rank)):
        raise call.refuse(f"dims {dims} are no permutation of 1..{x.rank - 1}", attribute="dims")
    order = [0, *dims]  # new source axis i is old source axis order[i]
    return Tensor(x.value, tuple(order.index(p) for p in x.perm), x.masked)


@reads("RepeatVector")
def repeat_vector(call: Call, x: Tensor) -> Tensor:
    n = call.integer("n")
    call.known()
    b = call.b
    return Tensor.plain(b.op("Tile", b.op("Unsqueeze", x.source_order(b).value, b.const([1])), b.const([1, n, 1])))


@reads(
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "ActivityRegularizer",
    "Identity",
    "InputLayer",
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
    "RandomTranslation",
    "RandomContrast",
    "RandomBrightness",
    "RandomHeight",
    "RandomWidth",
    "RandomCrop",
    "StochasticDepth",
)
def identity(call: Call, *xs: Tensor) -> Tensor:
    """Layers that do nothing outside training."""
    if call.class_name == "RandomCrop":
        raise call.refuse("it crops the centre outside training, to a size that depends on the input", rewrite="use CenterCrop")
    return xs[0]


@reads("Highway")
def highway(call: Call, x: Tensor) -> Tensor:
    """Keras 1: h t + x (1 - t), with h = activation(x W + b) and the gate t = sigmoid(x W_carry + b_carry).

    Reference: Srivastava, Greff, Schmidhuber, "Highway Networks", 2015, equation 3.
    """
    call.get("input_dim", "transform_bias", "bias")
    b = call.b
    x = x.source_order(b)
    width = x.our_shape[-1]
    shapes = ((width, width), (width,)) if isinstance(width, int) else (None, None)

    def line(prefix: str) -> Tensor:
        bias = call.weight(f"{prefix}bias", shapes[1]) if call.has(f"{prefix}bias") else None
        return Tensor.plain(b.op("Gemm", x.value, call.weight(f"{prefix}kernel", shapes[0]), bias))

    gate = b.op("Sigmoid", line("carry_").value)
    h = call.activate(line(""))
    call.known()
    return Tensor.plain(b.op("Add", x.value, b.op("Mul", gate, b.op("Sub", h.value, x.value))))


@reads("MaxoutDense")
def maxout_dense(call: Call, x: Tensor) -> Tensor:
    """Keras 1: the largest of nb_feature linear maps; W (k, in, out), b (k, out)."""
    call.get("nb_feature", "output_dim", "bias")
    call.known()
    b = call.b
    stored = call.stored("kernel")
    features, inside, out = stored.shape
    joined = b.op(
        "MatMul", x.source_order(b).value, call.weight("kernel", change=lambda a: a.transpose(1, 0, 2).reshape(inside, features * out))
    )
    if call.has("bias"):
        joined = b.op("Add", joined, call.weight("bias", change=_flat_array))
    folded = b.op("Reshape", joined, b.const([0, features, out]))
    return Tensor.plain(b.op("ReduceMax", folded, b.const([1]), keepdims=0))


def _flat_array(a: Array) -> Array:
    return a.reshape(-1)


@reads("Masking")
def masking(call: Call, x: Tensor) -> Tensor:
    """Steps whose values all equal the mask value become zero; what the mask means to later layers is theirs to refuse."""
    value = call.number("mask_value", default=0.0)
    call.known()
    b = call.b
    x = x.source_order(b)
    differs = b.op("Cast", b.op("Not", b.op("Equal", x.value, b.const(value))), to=1)
    keep = b.op("ReduceMax", differs, b.const([-1]), keepdims=1)
    return Tensor(b.op("Mul", x.value, keep), x.perm, masked=True)
