"""Convolutions, pools, normalizations and arithmetic with random settings: ONNX Runtime and onnx.reference judge the module."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

import niudao as nd
from niudao.errors import NiudaoError, RunError, Unsupported
from niudao.formats.pytorch import to_module
from niudao.ir.build import Builder

Array = np.ndarray[Any, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
ACTIVATIONS = (
    "Relu LeakyRelu Elu Celu Selu Sigmoid HardSigmoid HardSwish Swish Mish Gelu Tanh Softplus Softsign ThresholdedRelu Shrink PRelu Clip"
).split()
EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
TOLERANCE = 1e-5


def small(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def many(low: int, high: int, count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=count, max_size=count)


def values(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.6).astype(np.float32)


def away(want: Array, got: Array) -> float:
    """Largest difference over the largest value; infinite where shapes or types differ."""
    if want.shape != got.shape or want.dtype != got.dtype:
        return float("inf")
    if not want.size:
        return 0.0
    return float(np.abs(got.astype("f8") - want).max() / max(1.0, np.abs(want).max()))


def runs(model: ir.Model, feeds: dict[str, Array], names: str = "source") -> list[Array]:
    network = to_module(model, names=names)  # type: ignore[arg-type]
    with torch.no_grad():
        out = network(*(torch.from_numpy(feeds[v.name or ""]) for v in model.graph.inputs))
    return [o.numpy() for o in (out if isinstance(out, tuple) else (out,))]


def check(model: ir.Model, *, referee: bool = True) -> None:
    """The module says what ONNX Runtime says, wherever onnx.reference does not say otherwise."""
    feeds = {}
    for v in model.graph.inputs:
        shape = [d if isinstance(d, int) else 2 for d in v.shape or ()]
        kind = v.dtype.numpy() if v.dtype is not None else np.float32
        feeds[v.name or ""] = (
            values(*shape, seed=1).astype(kind) if kind == np.float32 else np.random.default_rng(2).integers(1, 9, shape).astype(kind)
        )
    want = list(nd.run(model, feeds).values())
    if referee:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                second = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
        except Exception:
            second = want
        assume(all(away(w, np.asarray(s)) <= TOLERANCE for w, s in zip(want, second, strict=True)))
    for names in ("source", "torch"):
        got = runs(model, feeds, names)
        assert len(got) == len(want)
        for w, g in zip(want, got, strict=True):
            assert away(w, g) <= TOLERANCE, [(n.op_type, dict(n.attributes)) for n in model.graph]


def picture(b: Builder, draw: Draw, rank: int, channels: int | None = None) -> tuple[ir.Value, list[int]]:
    shape = [channels or draw(small(1, 4)), *draw(many(4, 9, rank))]
    return b.input("x", (None, *shape)), shape


def window(draw: Draw, rank: int, *, automatic: bool = True, dilate: bool = True) -> dict[str, Any]:
    kernel = draw(many(1, 3, rank))
    made: dict[str, Any] = {"kernel_shape": kernel, "strides": draw(many(1, 3, rank))}
    if dilate and draw(st.booleans()):
        made["dilations"] = draw(many(1, 2, rank))
    kind = draw(st.sampled_from(["none", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"] if automatic else ["none", "pads"]))
    if kind == "pads":
        made["pads"] = [draw(small(0, k - 1)) for k in kernel * 2]
    elif kind != "none":
        made["auto_pad"] = kind
    return made


def conv(b: Builder, draw: Draw) -> list[ir.Value]:
    rank, group = draw(small(1, 3)), draw(small(1, 2))
    x, (c, *_) = picture(b, draw, rank, group * draw(small(1, 2)))
    how = window(draw, rank)
    filters = group * draw(small(1, 3))
    shape = (filters, c // group, *how["kernel_shape"])
    named = draw(st.sampled_from(["conv.weight", "conv/kernel", "input"]))
    weight = b.input("w", shape) if named == "input" else b.weight(values(*shape), named)
    bias = [b.weight(values(filters), "conv.bias")] if draw(st.booleans()) else []
    return [b.op("Conv", x, weight, *bias, layer="conv", group=group, **how)]


def conv_transpose(b: Builder, draw: Draw) -> list[ir.Value]:
    rank, group = draw(small(1, 2)), draw(small(1, 2))
    x, (c, *sizes) = picture(b, draw, rank, group * draw(small(1, 2)))
    kernel, strides = draw(many(1, 4, rank)), draw(many(1, 3, rank))
    how: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "group": group}
    how["output_padding"] = [draw(small(0, s - 1)) for s in strides]
    if draw(st.booleans()):
        how["dilations"] = draw(many(1, 2, rank))
    kind = draw(st.sampled_from(["none", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "output_shape"]))
    if kind == "pads":
        how["pads"] = [draw(small(0, min(k - 1, 2))) for k in kernel * 2]
    elif kind == "output_shape":
        how["output_shape"] = [n * s + draw(small(-1, 2)) for n, s in zip(sizes, strides, strict=True)]
    elif kind != "none":
        how["auto_pad"] = kind
    filters = draw(small(1, 3))
    bias = [b.weight(values(filters * group), "up.bias")] if draw(st.booleans()) else []
    return [b.op("ConvTranspose", x, b.weight(values(c, filters, *kernel), "up.weight"), *bias, layer="up", **how)]


def max_pool(b: Builder, draw: Draw) -> list[ir.Value]:
    rank = draw(small(1, 3))
    x, _ = picture(b, draw, rank)
    how = window(draw, rank)
    if "dilations" in how:
        how.pop("auto_pad", None)  # runtimes do not agree what that pads
    count = draw(small(1, 2)) if "auto_pad" not in how else 1
    return list(b.ops("MaxPool", x, outputs=count, layer="pool", ceil_mode=draw(small(0, 1)), storage_order=draw(small(0, 1)), **how))


def average_pool(b: Builder, draw: Draw) -> list[ir.Value]:
    rank = draw(small(1, 3))
    x, _ = picture(b, draw, rank)
    how = window(draw, rank)
    if "dilations" in how:
        how.pop("auto_pad", None)
    return [b.op("AveragePool", x, layer="pool", count_include_pad=draw(small(0, 1)), ceil_mode=draw(small(0, 1)), **how)]


def lp_pool(b: Builder, draw: Draw) -> list[ir.Value]:
    rank = draw(small(1, 2))
    x, _ = picture(b, draw, rank)
    return [b.op("LpPool", x, layer="pool", p=draw(small(1, 3)), **window(draw, rank, automatic=False))]


def global_pool(b: Builder, draw: Draw) -> list[ir.Value]:
    x, _ = picture(b, draw, draw(small(1, 3)))
    return [b.op(draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])), x, layer="pool")]


def batch_norm(b: Builder, draw: Draw) -> list[ir.Value]:
    x, (c, *_) = picture(b, draw, draw(small(0, 3)))
    style = draw(st.sampled_from([("weight", "bias", "running_mean", "running_var"), ("gamma", "beta", "mean", "var")]))
    arrays = (values(c), values(c, seed=1), values(c, seed=2), values(c, seed=3) ** 2 + 0.1)
    stats = [b.weight(a, f"bn.{n}") for n, a in zip(style, arrays, strict=True)]
    return [b.op("BatchNormalization", x, *stats, layer="bn", epsilon=draw(st.sampled_from([1e-5, 1e-3])))]


def other_norm(b: Builder, draw: Draw) -> list[ir.Value]:
    kind = draw(st.sampled_from(["InstanceNormalization", "GroupNormalization", "LRN", "LpNormalization", "MeanVarianceNormalization"]))
    groups = draw(small(1, 2))
    x, (c, *_) = picture(b, draw, 2, groups * draw(small(1, 3)))
    scale = [b.weight(values(c), "norm.weight"), b.weight(values(c, seed=1), "norm.bias")]
    if kind == "InstanceNormalization":
        return [b.op(kind, x, *scale, layer="norm", epsilon=1e-3)]
    if kind == "GroupNormalization":
        return [b.op(kind, x, *scale, layer="norm", num_groups=groups)]
    if kind == "LRN":
        return [b.op(kind, x, layer="norm", size=draw(small(1, 6)), alpha=0.3, beta=0.6, bias=draw(st.sampled_from([1.0, 2.0])))]
    if kind == "LpNormalization":
        return [b.op(kind, x, layer="norm", axis=draw(small(-1, 3)), p=draw(small(1, 2)))]
    return [b.op(kind, x, layer="norm", axes=draw(st.sampled_from([[0, 2, 3], [2, 3], [1]])))]


def layer_norm(b: Builder, draw: Draw) -> list[ir.Value]:
    x, shape = picture(b, draw, 2)
    axis = draw(small(1, 3))
    trailing = shape[axis - 1 :]
    if draw(st.booleans()):
        trailing = trailing[-1:]
    scale = b.weight(values(*trailing), "norm.weight")
    bias = [b.weight(values(*trailing, seed=1), "norm.bias")] if draw(st.booleans()) else []
    if draw(st.booleans()):
        return [b.op("RMSNormalization", x, scale, layer="norm", axis=axis, epsilon=1e-3)]
    return list(b.ops("LayerNormalization", x, scale, *bias, outputs=1, layer="norm", axis=axis, epsilon=1e-3))


def activation(b: Builder, draw: Draw) -> list[ir.Value]:
    x, (c, *_) = picture(b, draw, 2)
    kind = draw(st.sampled_from(ACTIVATIONS))
    number = draw(st.sampled_from([0.1, 0.25, 1.0]))
    if kind in ("LeakyRelu", "Elu", "Celu", "HardSigmoid", "ThresholdedRelu", "Selu", "Swish"):
        return [b.op(kind, x, layer="act", alpha=number)]
    if kind == "Shrink":
        return [b.op(kind, x, layer="act", lambd=number, bias=draw(st.sampled_from([0.0, 0.1, number])))]
    if kind == "Gelu":
        return [b.op(kind, x, layer="act", approximate=draw(st.sampled_from(["none", "tanh"])))]
    if kind == "PRelu":
        shape = draw(st.sampled_from([(c, 1, 1), (1,), (1, 1, 1)]))
        return [b.op(kind, x, b.weight(values(*shape), "act.weight"), layer="act")]
    if kind == "Clip":
        low, high = draw(st.sampled_from([(0.0, 6.0), (None, 0.3), (-0.2, None), (0.0, None), (-0.1, 0.4), (0.5, 0.1), (None, None)]))
        bounds = [None if v is None else b.const(v) for v in (low, high)]
        return [b.op(kind, x, *bounds, layer="act")]
    return [b.op(kind, x, layer="act")]


def arithmetic(b: Builder, draw: Draw) -> list[ir.Value]:
    kind = draw(st.sampled_from("Add Sub Mul Div Pow Mod Max Min Mean Sum Greater LessOrEqual Equal".split()))
    whole = draw(st.booleans()) and kind != "Mean" and kind != "Sum"
    dtype = ir.DataType.INT64 if whole else ir.DataType.FLOAT
    x = b.input("x", (None, 3, 4), dtype)
    other = draw(st.sampled_from([(3, 4), (1, 4), (3, 1), (), (1,)]))
    array = np.random.default_rng(5).integers(1, 4, other).astype(np.int64) if whole else np.abs(values(*other)) + 0.5
    if draw(st.booleans()) and kind in ("Sub", "Div", "Mod"):
        array = -array
    if kind in ("Pow", "Mod") and not whole:
        x = b.op("Abs", x)
    y = b.weight(np.asarray(array), "other")
    fmod = {"fmod": 1 if not whole else draw(small(0, 1))} if kind == "Mod" else {}
    return [b.op(kind, x, y, layer="sum", **fmod)]


def dense(b: Builder, draw: Draw) -> list[ir.Value]:
    turn_a, turn_b = draw(small(0, 1)), draw(small(0, 1))
    n, k = draw(small(1, 4)), draw(small(1, 5))
    x = b.input("x", (k, 3) if turn_a else (None, k))
    weight = b.weight(values(*((n, k) if turn_b else (k, n))), "fc.weight")
    if draw(st.booleans()):
        if turn_b:
            weight = b.op("Transpose", weight, perm=[1, 0])
        y = b.op("MatMul", x if not turn_a else b.op("Transpose", x, perm=[1, 0]), weight, layer="fc")
        return [b.op("Add", b.weight(values(n), "fc.bias"), y, layer="fc")]
    alpha, beta = draw(st.sampled_from([(1.0, 1.0), (0.5, 2.0)]))
    shape = draw(st.sampled_from([None, (n,), (1, n), (1,)]))
    bias = [] if shape is None else [b.weight(values(*shape), "fc.bias")]
    return [b.op("Gemm", x, weight, *bias, layer="fc", alpha=alpha, beta=beta, transA=turn_a, transB=turn_b)]


FAMILIES = (
    conv, conv_transpose, max_pool, average_pool, lp_pool, global_pool, batch_norm, other_norm, layer_norm, activation, arithmetic, dense
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_the_module_says_what_the_runtime_says(family: Callable[[Builder, Draw], list[ir.Value]]) -> None:
    @EXAMPLES
    @given(st.data())
    def examples(data: st.DataObject) -> None:
        b = Builder("one")
        try:
            made = family(b, data.draw)
        except NiudaoError:
            assume(False)
        for i, value in enumerate(made):
            b.output(value, f"y{i}")
        model = b.model()
        shape = made[0].shape
        assume(shape is not None and all(not isinstance(d, int) or d > 0 for d in shape))
        try:
            check(model)
        except (RunError, Unsupported):
            assume(False)

    examples()
