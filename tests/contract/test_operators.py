"""Operators with random attributes: written as Keras layers and read back, or read from old ONNX files.

Two programs that are not ours judge: ONNX Runtime without its optimiser, and `onnx.reference`. Where these two disagree with each
other about the original, the example says nothing about us and is left out.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import niudao as nd
from niudao.ir import OPSET
from niudao.ir.build import Builder

Array = np.ndarray[Any, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
TOLERANCE = 1e-5
EXAMPLES = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


def close(got: Array, want: Array) -> bool:
    """Equal shapes, types and not-a-numbers, and values within 1e-5 of the largest."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    finite = want[np.isfinite(want)] if want.dtype.kind == "f" else want
    scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
    return bool(np.allclose(got, want, rtol=0, atol=TOLERANCE * scale, equal_nan=True))


def runtime(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """ONNX Runtime's answer."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, feeds)]


def reference(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """The answer of the ONNX project's evaluator in numpy."""
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [np.asarray(y) for y in ReferenceEvaluator(proto).run(None, feeds)]


def agreed(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """What both judges say; an example on which one fails or they differ is dropped."""
    try:
        want = runtime(proto, feeds)
        judged = reference(proto, feeds)
    except Exception as e:  # the judges' errors share no class
        event(f"dropped: a judge fails ({type(e).__name__})")
        assume(False)
        raise
    same = len(want) == len(judged) and all(close(j, w) for j, w in zip(judged, want, strict=True))
    if not same:
        event("dropped: the judges differ")
    assume(same)
    event("judged")
    return want


def seconded(model: ir.Model, feeds: dict[str, Array]) -> list[Array]:
    """What the reference says of a model that we read; nothing where it takes the pads of a MaxPool for (top, bottom, left, right).

    onnx 1.23.2 does so for windows without dilation; AveragePool and dilated windows it computes right.
    """
    for node in model.graph:
        if node.op_type != "MaxPool" or "pads" not in node.attributes:
            continue
        pads = list(node.attributes["pads"].as_ints())
        dilated = "dilations" in node.attributes and any(d != 1 for d in node.attributes["dilations"].as_ints())
        if len(pads) == 4 and pads[1] != pads[2] and not dilated:
            event("the reference misreads the pads of what was read")
            return []
    return reference(ir.to_proto(model), feeds)


def values(*shape: int, seed: int = 0) -> Array:
    """Numbers around zero that are all different."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.6).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------------
# the IR, written as .keras and read back


def small(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def many(low: int, high: int, count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=count, max_size=count)


Made = tuple[ir.Value, tuple[int, ...]]


def picture(b: Builder, draw: Draw, channels: int | None = None) -> Made:
    shape = (channels or draw(small(1, 4)), draw(small(5, 9)), draw(small(4, 8)))
    return b.input("x", (None, *shape)), shape


def window(draw: Draw, pads: bool = True, dilate: bool = False) -> dict[str, Any]:
    """Kernel, strides, and a padding smaller than the kernel or one of the automatic ones."""
    kernel = draw(many(1, 3, 2))
    made: dict[str, Any] = {"kernel_shape": kernel, "strides": draw(many(1, 3, 2))}
    if dilate and draw(st.booleans()):
        made["dilations"] = draw(many(1, 2, 2))
    kind = draw(st.sampled_from(["none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"] if pads else ["none"]))
    if kind == "pads":
        made["pads"] = [draw(small(0, k - 1)) for k in kernel * 2]
    elif kind != "none":
        made["auto_pad"] = kind
    return made


def conv(b: Builder, draw: Draw) -> ir.Value:
    group = draw(small(1, 2))
    x, (c, _, _) = picture(b, draw, group * draw(small(1, 2)))
    how = window(draw, dilate=True)
    filters = group * draw(small(1, 3))
    extra = [b.weight(values(filters), "bias")] if draw(st.booleans()) else []
    return b.op("Conv", x, b.weight(values(filters, c // group, *how["kernel_shape"]), "kernel"), *extra, layer="conv", group=group, **how)


def depthwise(b: Builder, draw: Draw) -> ir.Value:
    x, (c, _, _) = picture(b, draw)
    how = window(draw, dilate=True)
    times = draw(small(1, 2))
    kernel = b.weight(values(c * times, 1, *how["kernel_shape"]), "kernel")
    return b.op("Conv", x, kernel, b.weight(values(c * times), "bias"), layer="depthwise", group=c, **how)


def conv_transpose(b: Builder, draw: Draw) -> ir.Value:
    group = draw(small(1, 2))
    x, (c, _, _) = picture(b, draw, group * draw(small(1, 2)))
    kernel, strides = draw(many(1, 4, 2)), draw(many(1, 3, 2))
    how: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "group": group}
    how["pads"] = [draw(small(0, min(k - 1, 2))) for k in kernel * 2]
    how["output_padding"] = [draw(small(0, s - 1)) for s in strides]
    if draw(st.booleans()):
        how["dilations"] = draw(many(1, 2, 2))
    filters = draw(small(1, 3))
    return b.op("ConvTranspose", x, b.weight(values(c, filters, *kernel), "kernel"), b.weight(values(filters * group), "bias"), **how)


def max_pool(b: Builder, draw: Draw) -> ir.Value:
    x, _ = picture(b, draw)
    how = window(draw, dilate=True)
    if "dilations" in how and str(how.get("auto_pad")).startswith("SAME"):
        del how["auto_pad"]  # runtimes do not agree what that pads; the writer refuses it
    return b.op("MaxPool", x, layer="pool", ceil_mode=draw(small(0, 1)), **how)


def average_pool(b: Builder, draw: Draw) -> ir.Value:
    x, _ = picture(b, draw)
    return b.op("AveragePool", x, layer="pool", count_include_pad=draw(small(0, 1)), ceil_mode=draw(small(0, 1)), **window(draw))


def global_pool(b: Builder, draw: Draw) -> ir.Value:
    x, _ = picture(b, draw)
    return b.op(draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"])), x, layer="pool")


def pad(b: Builder, draw: Draw) -> ir.Value:
    x, _ = picture(b, draw)
    amounts = draw(many(0, 3, 4))
    pads = [0, 0, *amounts[:2], 0, 0, *amounts[2:]]
    mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
    fill = [b.const(draw(st.sampled_from([0.0, 1.5, -2.0])))] if mode == "constant" else []
    return b.op("Pad", x, b.const(pads), *fill, layer="pad", mode=mode)


def crop(b: Builder, draw: Draw) -> ir.Value:
    x, shape = picture(b, draw)
    axes = draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3, unique=True))
    starts = [draw(small(0, shape[a - 1] - 1)) for a in axes]
    ends = [draw(small(s + 1, shape[a - 1])) for s, a in zip(starts, axes, strict=True)]
    steps = [draw(small(1, 2)) for _ in axes]
    return b.op("Slice", x, b.const(starts), b.const(ends), b.const(axes), b.const(steps), layer="crop")


def up_sampling(b: Builder, draw: Draw) -> ir.Value:
    x, _ = picture(b, draw)
    scales = np.array([1, 1, *draw(many(1, 3, 2))], np.float32)
    how = draw(st.sampled_from([
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    ]))  # fmt: skip
    return b.op("Resize", x, None, b.const(scales), layer="up", **how)


def batch_norm(b: Builder, draw: Draw) -> ir.Value:
    x, (c, _, _) = picture(b, draw)
    stats = [values(c, seed=1) + 1, values(c, seed=2), values(c, seed=3), values(c, seed=4) ** 2 + 0.1]
    weights = [b.weight(a, n) for a, n in zip(stats, ("gamma", "beta", "mean", "var"), strict=True)]
    return b.op("BatchNormalization", x, *weights, layer="bn", epsilon=draw(st.sampled_from([1e-5, 1e-3, 0.1])))


def other_norm(b: Builder, draw: Draw) -> ir.Value:
    x, (c, _, _) = picture(b, draw, 4)
    scale, shift, epsilon = b.weight(values(c) + 1, "gamma"), b.weight(values(c, seed=2), "beta"), draw(st.sampled_from([1e-5, 1e-3]))
    kind = draw(st.sampled_from(["InstanceNormalization", "GroupNormalization", "LayerNormalization", "LRN"]))
    if kind == "LRN":
        how = {"alpha": draw(st.sampled_from([1e-4, 0.5])), "beta": draw(st.sampled_from([0.5, 0.75])), "bias": 2.0}
        return b.op("LRN", x, layer="lrn", size=draw(st.sampled_from([1, 3, 5])), **how)
    if kind == "LayerNormalization":
        y = b.op("LayerNormalization", b.op("Transpose", x, perm=[0, 2, 3, 1]), scale, shift, layer="ln", axis=-1, epsilon=epsilon)
        return b.op("Transpose", y, perm=[0, 3, 1, 2])
    groups = {"num_groups": draw(st.sampled_from([1, 2, 4]))} if kind == "GroupNormalization" else {}
    return b.op(kind, x, scale, shift, layer="norm", epsilon=epsilon, **groups)


def activation(b: Builder, draw: Draw) -> ir.Value:
    x, (c, _, _) = picture(b, draw)
    number = st.sampled_from([0.05, 0.25, 1.0, 1.5])
    plain = "Relu Sigmoid Tanh Softplus Softsign Exp Mish HardSwish Selu Erf Abs Neg".split()
    others = "LeakyRelu Elu Celu ThresholdedRelu HardSigmoid Gelu PRelu Clip Softmax LogSoftmax".split()
    kind = draw(st.sampled_from([*plain, *others]))
    if kind in ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu"):
        return b.op(kind, x, layer="act", alpha=draw(number))
    if kind == "HardSigmoid":
        return b.op(kind, x, layer="act", alpha=draw(st.sampled_from([0.2, 1 / 6, 0.3])), beta=draw(st.sampled_from([0.5, 0.4])))
    if kind == "Gelu":
        return b.op(kind, x, layer="act", approximate=draw(st.sampled_from(["none", "tanh"])))
    if kind == "PRelu":
        return b.op(kind, x, b.weight(values(*draw(st.sampled_from([(1,), (c, 1, 1)]))), "alpha"), layer="act")
    if kind == "Clip":
        low, high = draw(st.sampled_from([(0.0, 6.0), (-1.0, 1.0), (None, 0.5), (-0.25, None)]))
        return b.op(kind, x, None if low is None else b.const(low), None if high is None else b.const(high), layer="act")
    if kind in ("Softmax", "LogSoftmax"):
        return b.op(kind, x, layer="act", axis=draw(st.sampled_from([1, 2, 3, -1, -3])))
    return b.op(kind, x, layer="act")


KERAS = [conv, depthwise, conv_transpose, max_pool, average_pool, global_pool, pad, crop, up_sampling, batch_norm, other_norm, activation]


@pytest.mark.parametrize("make", KERAS, ids=lambda f: f.__name__)
def test_written_as_keras_and_read_back(make: Callable[[Builder, Draw], ir.Value]) -> None:
    @EXAMPLES
    @given(st.data())
    def check(data: st.DataObject) -> None:
        b = Builder("net")
        try:
            y = make(b, data.draw)
        except nd.NiudaoError:
            assume(False)  # ONNX has no such node: nothing would be left of an axis
            raise
        b.output(y, "y", (0, 3, 1, 2))
        model = b.model()
        dims = [int(d) for d in model.graph.inputs[0].shape[1:]]
        assume(all(not isinstance(d, int) or d > 0 for d in y.shape))
        feeds = {"x": values(2, *dims, seed=9)}
        want = agreed(ir.to_proto(model), feeds)
        with tempfile.TemporaryDirectory() as folder:
            nd.write(model, Path(folder) / "net.keras")
            back = nd.read(Path(folder) / "net.keras")
            got = nd.run(back, feeds, optimize=False)
            judged = seconded(back, feeds)
        assert list(got) == ["y"]
        for ours in (got["y"], *judged):
            np.testing.assert_allclose(ours, want[0], rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(want[0]).max())))

    check()


# ---------------------------------------------------------------------------------------------------------------------------
# old ONNX files


Node = tuple[str, list[Array | None], dict[str, Any], int]
"""Operator, inputs (the first is fed, the others are weights), attributes, number of outputs."""


def numbers(items: Sequence[int]) -> Array:
    return np.array(items, np.int64)


def image(draw: Draw, channels: int | None = None) -> Array:
    return values(draw(small(1, 2)), channels or draw(small(1, 4)), draw(small(5, 8)), draw(small(4, 7)), seed=7)


def old_conv(draw: Draw, opset: int) -> Node:
    group = draw(small(1, 2))
    x = image(draw, 2 * group)
    how = window(draw, dilate=True)
    w = values(group * 2, 2, *how["kernel_shape"])
    return "Conv", [x, w, values(group * 2) if draw(st.booleans()) else None], how | {"group": group}, 1


def old_conv_transpose(draw: Draw, opset: int) -> Node:
    x, kernel, strides = image(draw, 2), draw(many(1, 3, 2)), draw(many(1, 3, 2))
    how: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "output_padding": [draw(small(0, s - 1)) for s in strides]}
    kind = draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID", "output_shape"]))
    if kind == "pads":
        how["pads"] = [draw(small(0, k - 1)) for k in kernel * 2]
    elif kind == "output_shape":
        how["output_shape"] = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        del how["output_padding"]
    else:
        how["auto_pad"] = kind
    return "ConvTranspose", [x, values(2, 3, *kernel), values(3)], how, 1


def old_max_pool(draw: Draw, opset: int) -> Node:
    how = window(draw, dilate=opset >= 10)
    return "MaxPool", [image(draw)], how | ({"ceil_mode": draw(small(0, 1))} if opset >= 10 else {}), 1


def old_average_pool(draw: Draw, opset: int) -> Node:
    how = window(draw, dilate=opset >= 19) | {"count_include_pad": draw(small(0, 1))}
    return "AveragePool", [image(draw)], how | ({"ceil_mode": draw(small(0, 1))} if opset >= 10 else {}), 1


def old_batch_norm(draw: Draw, opset: int) -> Node:
    x = image(draw)
    c = x.shape[1]
    how: dict[str, Any] = {"epsilon": draw(st.sampled_from([1e-5, 1e-2])), "momentum": 0.8}
    if opset < 9 and draw(st.booleans()):
        how["spatial"] = 1
    return "BatchNormalization", [x, values(c, seed=1), values(c, seed=2), values(c, seed=3), values(c, seed=4) ** 2 + 0.1], how, 1


def old_lrn(draw: Draw, opset: int) -> Node:
    how: dict[str, Any] = {"size": draw(st.sampled_from([1, 3, 5]))}
    for key, choices in (("alpha", [1e-3, 0.5]), ("beta", [0.5, 0.75]), ("bias", [1.0, 2.0])):
        if draw(st.booleans()):
            how[key] = draw(st.sampled_from(choices))
    return "LRN", [image(draw)], how, 1


def old_pad(draw: Draw, opset: int) -> Node:
    x = image(draw)
    mode = draw(st.sampled_from(["constant", "reflect", "edge", *(["wrap"] if opset >= 19 else [])]))
    amounts = draw(many(-1 if mode == "constant" else 0, 3, 8))
    pads = [p if n > 3 else max(p, 0) if mode == "constant" else 0 for p, n in zip(amounts, x.shape * 2, strict=True)]
    fill = draw(st.sampled_from([None, 1.5]))
    if opset < 11:
        return "Pad", [x], {"mode": mode, "pads": pads} | ({"value": fill} if fill is not None else {}), 1
    value = np.float32(fill) if fill is not None else None
    if opset >= 18 and draw(st.booleans()):
        axes = draw(st.sampled_from([[2, 3], [3, -2], [-1]]))
        return "Pad", [x, numbers([pads[a % 4 + 4 * side] for side in (0, 1) for a in axes]), value, numbers(axes)], {"mode": mode}, 1
    return "Pad", [x, numbers(pads), value], {"mode": mode}, 1


def old_slice(draw: Draw, opset: int) -> Node:
    x = image(draw)
    axes = draw(st.lists(st.sampled_from([0, 1, 2, 3] if opset < 10 else [0, 1, -2, 3]), min_size=1, max_size=4, unique=True))
    starts = [draw(st.sampled_from([0, 1, -2, -3])) for _ in axes]
    ends = [draw(st.sampled_from([2, -1, 5, 2**31 - 1])) for _ in axes]
    if opset < 10:
        return "Slice", [x], {"axes": axes, "starts": starts, "ends": ends}, 1
    steps = [draw(st.sampled_from([1, 2, -1])) for _ in axes]
    ends = [-(2**31) if s < 0 else e for e, s in zip(ends, steps, strict=True)]
    return "Slice", [x, numbers(starts), numbers(ends), numbers(axes), numbers(steps)], {}, 1


def old_resize(draw: Draw, opset: int) -> Node:
    x = image(draw)
    scales = np.array([1, 1, *draw(st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]), min_size=2, max_size=2))], np.float32)
    if opset < 11:
        scales = np.ceil(scales).astype(np.float32)
        mode = draw(st.sampled_from(["nearest", "linear"]))
        if opset < 9:
            return "Upsample", [x], {"mode": mode, "scales": scales.tolist()}, 1
        return ("Upsample" if opset == 9 else "Resize"), [x, scales], {"mode": mode}, 1
    how: dict[str, Any] = {"mode": draw(st.sampled_from(["nearest", "linear", "cubic"]))}
    how["coordinate_transformation_mode"] = draw(
        st.sampled_from(
            ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", *(["half_pixel_symmetric"] if opset >= 19 else [])]
        )
    )
    if how["mode"] == "nearest":
        how["nearest_mode"] = draw(st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]))
    if how["mode"] == "cubic":
        how |= {"cubic_coeff_a": draw(st.sampled_from([-0.5, -0.75])), "exclude_outside": draw(small(0, 1))}
    if opset >= 18 and draw(st.booleans()):
        how["axes"], scales = [2, 3], scales[2:]
        if how["mode"] == "linear":
            how["antialias"] = draw(small(0, 1))
    roi = None if opset >= 13 else np.zeros(0, np.float32)
    if draw(st.booleans()):
        sizes = numbers([int(n * s) for n, s in zip(x.shape[-len(scales) :], scales, strict=True)])
        return "Resize", [x, roi, None if opset >= 13 else np.zeros(0, np.float32), sizes], how, 1
    return "Resize", [x, roi, scales], how, 1


def old_softmax(draw: Draw, opset: int) -> Node:
    axes = [None, 0, 1, 2, 3, *([-1, -2] if opset >= 11 else [])]
    axis = draw(st.sampled_from(axes))
    return draw(st.sampled_from(["Softmax", "LogSoftmax", "Hardmax"])), [image(draw)], {} if axis is None else {"axis": axis}, 1


def old_clip(draw: Draw, opset: int) -> Node:
    low, high = draw(st.sampled_from([(-0.5, 0.25), (None, 0.5), (0.0, None), (None, None)]))
    if opset < 11:
        return "Clip", [image(draw)], {k: v for k, v in (("min", low), ("max", high)) if v is not None}, 1
    return "Clip", [image(draw), *(None if v is None else np.float32(v) for v in (low, high))], {}, 1


def old_reduce(draw: Draw, opset: int) -> Node:
    kind = draw(st.sampled_from("Mean Sum Max Min Prod L1 L2 SumSquare LogSumExp".split()))
    pool = [[0], [1], [2, 3], [1, 3], [0, 1, 2, 3], *([[-1], [-3, 3]] if opset >= 11 else [])]
    axes, keep = draw(st.sampled_from([None, *pool])), draw(small(0, 1))
    how: dict[str, Any] = {"keepdims": keep} if draw(st.booleans()) else {}
    if opset >= (13 if kind == "Sum" else 18):
        if axes is None and draw(st.booleans()):
            how["noop_with_empty_axes"] = 1
        return f"Reduce{kind}", [image(draw), None if axes is None else numbers(axes)], how, 1
    return f"Reduce{kind}", [image(draw)], how | ({} if axes is None else {"axes": axes}), 1


def old_split(draw: Draw, opset: int) -> Node:
    axis, count = draw(st.sampled_from([0, 1, 2, 3, *([-1, -3] if opset >= 11 else [])])), draw(small(1, 3))
    shape = [2, 3, 4, 5]
    equal = draw(st.booleans())
    sizes = [draw(small(1, 2)) for _ in range(count)]
    how: dict[str, Any] = {"axis": axis}
    if not equal:
        shape[axis] = sum(sizes)
        x = values(*shape)
        return ("Split", [x], how | {"split": sizes}, count) if opset < 13 else ("Split", [x, numbers(sizes)], how, count)
    if opset >= 18:
        shape[axis] = max(shape[axis], 2 * count - 1)
        return "Split", [values(*shape)], how | {"num_outputs": count}, count
    shape[axis] = count * 2
    return "Split", [values(*shape)], how, count


def old_squeeze(draw: Draw, opset: int) -> Node:
    axes = draw(st.sampled_from([None, [1], [1, 3], [3, 1], *([[-1], [-3, 3]] if opset >= 11 else [])]))
    kind = draw(st.sampled_from(["Squeeze", "Unsqueeze"]))
    x = values(2, 1, 3, 1)
    if kind == "Unsqueeze":
        axes = axes or [0]
    if opset < 13:
        return kind, [x], {} if axes is None else {"axes": axes}, 1
    return kind, [x, None if axes is None else numbers(axes)], {}, 1


def old_gemm(draw: Draw, opset: int) -> Node:
    m, k, n = draw(small(1, 4)), draw(small(1, 4)), draw(small(1, 4))
    a, b = draw(small(0, 1)), draw(small(0, 1))
    how: dict[str, Any] = {"transA": a, "transB": b}
    for key in ("alpha", "beta"):
        if draw(st.booleans()):
            how[key] = draw(st.sampled_from([0.5, 2.0, -1.0]))
    bias = draw(st.sampled_from([(n,), (m, n), (1, n), (m, 1), (1,), *([None] if opset >= 11 else [])]))
    x, w = values(*((k, m) if a else (m, k))), values(*((n, k) if b else (k, n)), seed=1)
    return "Gemm", [x, w, None if bias is None else values(*bias, seed=2)], how, 1


OLD = [
    old_conv, old_conv_transpose, old_max_pool, old_average_pool, old_batch_norm, old_lrn, old_pad, old_slice, old_resize, old_softmax,
    old_clip, old_reduce, old_split, old_squeeze, old_gemm,
]  # fmt: skip


def old_model(node: Node, opset: int, fed: bool) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The file; its other inputs are weights, or inputs too where `fed` (but those that say shapes and axes never are)."""
    kind, inputs, attributes, outputs = node
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    names = ["" if x is None else f"i{k}" for k, x in enumerate(inputs)]
    infos, weights, feeds = [], [], {}
    for k, (name, x) in enumerate(zip(names, inputs, strict=True)):
        if x is None:
            continue
        x = np.asarray(x)
        info = helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        if k == 0 or (fed and x.dtype.kind == "f" and kind in ("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "Clip")):
            infos.append(info)
            feeds[name] = x
        else:
            weights.append(numpy_helper.from_array(x, name))
            if opset < 9:  # up to IR version 3 a weight is an input with a default
                infos.append(info)
    outs = [f"o{k}" for k in range(outputs)]
    made = helper.make_node(kind, names, outs, name="node", **attributes)
    ends = [helper.make_tensor_value_info(o, 1, None) for o in outs]
    graph = helper.make_graph([made], "graph", infos, ends, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if opset < 9 else 8)
    return proto, feeds


@pytest.mark.parametrize("make", OLD, ids=lambda f: f.__name__.removeprefix("old_"))
def test_an_old_file_means_what_it_meant(make: Callable[[Draw, int], Node]) -> None:
    @EXAMPLES
    @given(st.data())
    def check(data: st.DataObject) -> None:
        opset = data.draw(st.integers(7, 26), label="opset")
        proto, feeds = old_model(make(data.draw, opset), opset, data.draw(st.booleans()))
        want = agreed(proto, feeds)
        assume(all(w.size for w in want))
        model = nd.read(proto.SerializeToString())
        assert model.opset_imports[""] == OPSET
        got = nd.run(model, feeds, optimize=False)
        judged = seconded(model, feeds)
        assert list(got) == [o.name for o in proto.graph.output]
        for ours, w in zip(got.values(), want, strict=True):
            assert close(ours, w), "run by ONNX Runtime"
        for ours, w in zip(judged, want if judged else [], strict=True):
            assert close(ours, w), "run by onnx.reference"

    check()
