"""Old operators against ONNX Runtime at their own opset, and against plain numpy where no runtime goes back so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from niudao.errors import ReadError, Unsupported
from niudao.formats.onnx.read import read
from niudao.ir import OPSET
from niudao.ir.session import Session

RNG = np.random.default_rng(0)
X4 = RNG.standard_normal((2, 3, 4, 6)).astype(np.float32)
X3 = RNG.standard_normal((2, 3, 4)).astype(np.float32)


def model(
    op: str,
    opset: int,
    inputs: list[Any],
    *,
    outputs: int = 1,
    constants: tuple[int, ...] = (),
    dynamic: bool = False,
    out_type: int | tuple[int, ...] = 1,
    ir_version: int | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node; the inputs named by number in `constants` are weights. With `dynamic` no dimension is declared."""
    names = [f"i{k}" if x is not None else "" for k, x in enumerate(inputs)]
    outs = [f"o{k}" for k in range(outputs)]
    node = helper.make_node(op, names, outs, name="n", **attributes)
    infos, weights = [], []
    for k, x in enumerate(inputs):
        if x is None:
            continue
        x = np.asarray(x)
        info = helper.make_tensor_value_info(names[k], helper.np_dtype_to_tensor_dtype(x.dtype), [None] * x.ndim if dynamic else x.shape)
        if k in constants:
            weights.append(numpy_helper.from_array(x, names[k]))
            if opset < 9:
                infos.append(info)
        else:
            infos.append(info)
    types = list(out_type) if isinstance(out_type, tuple) else [out_type] * outputs
    graph = helper.make_graph(
        [node], "g", infos, [helper.make_tensor_value_info(o, t, None) for o, t in zip(outs, types, strict=True)], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version or (3 if opset < 9 else 7))


def feeds(proto: onnx.ModelProto, inputs: list[Any]) -> dict[str, Any]:
    weights = {t.name for t in proto.graph.initializer}
    return {f"i{k}": np.asarray(x) for k, x in enumerate(inputs) if x is not None and f"i{k}" not in weights}


def ours(proto: onnx.ModelProto, given: dict[str, Any]) -> list[Any]:
    lifted = read(proto.SerializeToString())
    assert lifted.opset_imports[""] == OPSET
    with Session(lifted, optimize=False) as session:
        return list(session(given).values())


def theirs(proto: onnx.ModelProto, given: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, given)


F = np.float32
LONG = np.int64
CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    *(
        (op, opset, [X4], {"axis": axis})
        for op in ("Softmax", "LogSoftmax", "Hardmax")
        for opset, axis in [(7, 1), (9, 2), (11, 3), (11, -2), (12, 0)]
    ),
    ("Softmax", 8, [X4], {}),
    ("Softmax", 11, [X4], {"dynamic": True}),
    ("Softmax", 11, [X4[:, :, :1, :1]], {}),
    ("Softmax", 13, [X4], {"axis": 1}),
    ("Clip", 7, [X4], {"min": -0.5, "max": 0.25}),
    ("Clip", 10, [X4], {"min": 0.0}),
    ("Clip", 6, [X4], {}),
    ("Pad", 7, [X4], {"pads": [0, 1, 2, 0, 0, 0, 1, 3], "mode": "constant", "value": 1.5}),
    ("Pad", 10, [X4], {"pads": [0, 0, 1, 2, 0, 0, 1, 3], "mode": "reflect"}),
    ("Pad", 2, [X4], {"pads": [0, 0, 1, 2, 0, 0, 1, 3], "mode": "edge"}),
    ("Slice", 7, [X4], {"starts": [1, -3], "ends": [1000, -1], "axes": [1, 3]}),
    ("Slice", 9, [X4], {"starts": [1, 0], "ends": [2, 2]}),
    ("Squeeze", 7, [X4[:1, :, :1]], {"axes": [0, 2]}),
    ("Squeeze", 11, [X4[:1, :, :1]], {}),
    ("Unsqueeze", 9, [X3], {"axes": [0, 4]}),
    ("Split", 7, [X4], {"outputs": 2, "axis": 3, "split": [2, 4]}),
    ("Split", 11, [X4], {"outputs": 3, "axis": 3}),
    ("Split", 13, [X4, np.array([2, 4], LONG)], {"outputs": 2, "axis": 3, "constants": (1,)}),
    *(
        (f"Reduce{k}", 7, [np.abs(X4) + 0.1], {"axes": [1, 3]})
        for k in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
    ),
    *(
        (f"Reduce{k}", 12, [np.abs(X4) + 0.1], {"keepdims": 0})
        for k in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
    ),
    ("ArgMax", 7, [X4], {"axis": 1, "out_type": 7}),
    ("ArgMax", 11, [X4], {"axis": -1, "keepdims": 0, "out_type": 7}),
    ("TopK", 9, [X4], {"outputs": 2, "k": 2, "axis": 3, "out_type": (1, 7)}),
    ("Upsample", 7, [X4], {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    ("Upsample", 7, [X4], {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "linear"}),
    ("Upsample", 9, [X4, np.array([1, 1, 2, 2], F)], {"mode": "nearest", "constants": (1,)}),
    ("Upsample", 9, [X4, np.array([1, 1, 2, 3], F)], {"mode": "linear", "constants": (1,)}),
    ("Resize", 10, [X4, np.array([1, 1, 2, 2], F)], {"mode": "nearest", "constants": (1,)}),
    ("Resize", 10, [X4, np.array([1, 1, 0.6, 0.6], F)], {"mode": "nearest", "constants": (1,)}),
    ("Resize", 10, [X4, np.array([1, 1, 2, 0.5], F)], {"mode": "nearest", "constants": (1,)}),
    ("Resize", 10, [X4, np.array([1, 1, 1.5, 0.7], F)], {"mode": "nearest", "constants": (1,)}),
    ("Resize", 10, [X4, np.array([1, 1, 0.6, 1.5], F)], {"mode": "linear", "constants": (1,)}),
    *(
        (
            "Resize",
            11,
            [X4, np.array([], F), np.array([1, 1, 2, 1.5], F)],
            {"mode": m, "coordinate_transformation_mode": c, "constants": (1, 2)},
        )
        for m, c in [("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners"), ("cubic", "pytorch_half_pixel")]
    ),
    ("Resize", 11, [X4, np.array([], F), np.array([], F), np.array([2, 3, 7, 5], LONG)], {"mode": "linear", "constants": (1, 2, 3)}),
    *(
        (
            "Resize",
            11,
            [X4, np.array([], F), np.array([1, 1, h, w], F)],
            {"mode": "nearest", "nearest_mode": r, "coordinate_transformation_mode": "tf_half_pixel_for_nn", "constants": (1, 2)},
        )
        for h, w in [(2, 3), (0.5, 0.4)]
        for r in ("floor",)
    ),
    ("BatchNormalization", 7, [X4, *(np.abs(RNG.standard_normal((4, 3))).astype(F))], {"constants": (1, 2, 3, 4), "epsilon": 1e-3}),
    ("BatchNormalization", 8, [X4, *(np.abs(RNG.standard_normal((4, 3))).astype(F))], {"constants": (1, 2, 3, 4), "spatial": 1}),
    ("BatchNormalization", 9, [X4, *(np.abs(RNG.standard_normal((4, 3))).astype(F))], {"constants": (1, 2, 3, 4)}),
    ("Dropout", 7, [X4], {"ratio": 0.3}),
    ("Dropout", 10, [X4], {}),
    ("Dropout", 12, [X4], {}),
    ("Gemm", 7, [X4[0, 0], X4[1, 0], np.ones(4, F)], {"transB": 1, "alpha": 0.5}),
    ("Gemm", 9, [X4[0, 0], X4[1, 0].T.copy(), np.ones((1, 4), F)], {"beta": 2.0}),
    ("Scatter", 9, [X3, np.zeros((2, 1, 4), LONG), X3[:, :1]], {"axis": 1}),
    ("GlobalLpPool", 2, [X4], {"p": 3}),
    ("LpPool", 2, [X4], {"p": 2, "kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Flatten", 1, [X4], {}),
    ("Flatten", 9, [X4], {"axis": 2}),
    ("Concat", 4, [X4, X4], {"axis": 1}),
    ("Cast", 6, [X4], {"to": 7, "out_type": 7}),
    ("Cast", 9, [X4], {"to": 9, "out_type": 9}),
    ("Reshape", 5, [X4, np.array([0, -1], LONG)], {"constants": (1,)}),
    ("PRelu", 7, [X4, np.array([[[0.1]], [[0.2]], [[0.3]]], F)], {"constants": (1,)}),
    ("AveragePool", 7, [X4], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", 10, [X4], {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", 1, [X4], {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("MaxPool", 8, [X4], {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ("LRN", 1, [X4], {"size": 3, "alpha": 0.01}),
    ("InstanceNormalization", 6, [X4, np.ones(3, F), np.zeros(3, F)], {}),
    ("Elu", 6, [X4], {}),
    ("Selu", 6, [X4], {}),
    ("HardSigmoid", 6, [X4], {}),
    ("ThresholdedRelu", 10, [X4], {"alpha": 0.3}),
    ("DepthToSpace", 1, [np.concatenate([X4, X4[:, :1]], 1)], {"blocksize": 2}),
    ("DepthToSpace", 11, [np.concatenate([X4, X4[:, :1]], 1)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", 1, [X4], {"blocksize": 2}),
    ("Pow", 7, [np.abs(X4), np.array(2, F)], {}),
    ("Where", 9, [X4 > 0, X4, -X4], {}),
    ("Max", 8, [X4, X4[:1]], {}),
    ("Sum", 6, [X4, X4], {}),
    ("Equal", 7, [X4.astype(np.int32), X4[:1].astype(np.int32)], {"out_type": 9}),
    ("OneHot", 9, [np.array([0, 2], LONG), np.array(3, LONG), np.array([0, 1], F)], {}),
    ("NonZero", 9, [X4], {"out_type": 7}),
    ("CumSum", 11, [X4, np.array(1, np.int32)], {}),
    ("Einsum", 12, [X4], {"equation": "nchw->nhwc"}),
    ("Celu", 12, [X4], {"alpha": 0.5}),
    ("LayerNormalization", 17, [X4, np.ones(6, F)], {}),
    ("GridSample", 16, [X4, np.tanh(X4[:, :2].transpose(0, 2, 3, 1)).astype(F).copy()], {"mode": "bilinear", "align_corners": 1}),
    ("GridSample", 16, [X4, np.tanh(X4[:, :2].transpose(0, 2, 3, 1)).astype(F).copy()], {"padding_mode": "border"}),
    ("DFT", 17, [X4[..., :1].copy()], {"axis": 2}),
    ("Reshape", 13, [X4, np.array([0, -1], LONG)], {}),
    (
        "LSTM",
        7,
        [X3, RNG.standard_normal((1, 8, 4)).astype(F), RNG.standard_normal((1, 8, 2)).astype(F)],
        {"hidden_size": 2, "constants": (1, 2)},
    ),
    (
        "GRU",
        7,
        [X3, RNG.standard_normal((1, 6, 4)).astype(F), RNG.standard_normal((1, 6, 2)).astype(F)],
        {"hidden_size": 2, "constants": (1, 2)},
    ),
    (
        "RNN",
        7,
        [X3, RNG.standard_normal((1, 2, 4)).astype(F), RNG.standard_normal((1, 2, 2)).astype(F)],
        {"hidden_size": 2, "constants": (1, 2)},
    ),
    ("Conv", 1, [X4, RNG.standard_normal((2, 3, 3, 3)).astype(F)], {"pads": [1, 1, 1, 1], "constants": (1,)}),
    (
        "ConvTranspose",
        1,
        [X4, RNG.standard_normal((3, 2, 3, 3)).astype(F)],
        {"strides": [2, 2], "output_padding": [1, 1], "constants": (1,)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{c[1]}-{i}" for i, c in enumerate(CASES)])
def test_same_as_the_runtime_at_the_old_opset(case: tuple[str, int, list[Any], dict[str, Any]]) -> None:
    op, opset, inputs, options = case
    proto = model(op, opset, inputs, **options)
    given = feeds(proto, inputs)
    want = theirs(proto, given)
    got = ours(proto, given)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-5, atol=1e-6)


def gemm_broadcast(a: Any, b: Any, c: Any) -> Any:
    return a @ b + c


B3 = RNG.standard_normal(3).astype(F)
B34 = RNG.standard_normal((3, 4)).astype(F)
STATS = np.abs(RNG.standard_normal((4, 3, 4, 6))).astype(F)
NUMPY: list[tuple[str, int, list[Any], dict[str, Any], Any]] = [
    ("Add", 6, [X4, B3], {"axis": 1, "broadcast": 1}, X4 + B3[:, None, None]),
    ("Mul", 1, [X4, B34], {"axis": 1, "broadcast": 1}, X4 * B34[:, :, None]),
    ("Sub", 6, [X4, B3], {"axis": -3, "broadcast": 1}, X4 - B3[:, None, None]),
    ("Div", 6, [X4, X4[0, 0, 0]], {"broadcast": 1}, X4 / X4[0, 0, 0]),
    ("Pow", 1, [np.abs(X4), np.array([2], F)], {"broadcast": 1}, X4**2),
    ("Add", 1, [X4, X4], {"consumed_inputs": [0, 0]}, X4 + X4),
    ("Greater", 1, [X4, B3], {"axis": 1, "broadcast": 1, "out_type": 9}, B3[:, None, None] < X4),
    ("PRelu", 6, [X4, B3], {"constants": (1,)}, np.where(X4 > 0, X4, X4 * B3[:, None, None])),
    ("PRelu", 9, [X4, B3], {"constants": (1,)}, np.where(X4 > 0, X4, X4 * B3[:, None, None])),
    ("PRelu", 1, [X4, np.array([0.1], F)], {"constants": (1,)}, np.where(X4 > 0, X4, X4 * F(0.1))),
    ("Relu", 1, [X4], {"consumed_inputs": [0]}, np.maximum(X4, 0)),
    ("Reshape", 1, [X4], {"shape": [2, -1]}, X4.reshape(2, -1)),
    ("Cast", 1, [X4], {"to": "INT32", "out_type": 6}, X4.astype(np.int32)),
    ("Concat", 1, [X4, X4], {}, np.concatenate([X4, X4], 1)),
    ("Pad", 1, [X4], {"paddings": [0, 0, 1, 0, 0, 0, 0, 2], "value": 2.0}, np.pad(X4, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=2)),
    ("Gemm", 6, [X4[0, 0], X4[0, 0].T.copy(), B3[:1]], {"broadcast": 1}, gemm_broadcast(X4[0, 0], X4[0, 0].T, B3[:1])),
    ("Tile", 1, [X4, np.array(2, LONG), np.array(1, LONG)], {"constants": (1, 2)}, np.concatenate([X4, X4], 1)),
    ("Upsample", 1, [X4], {"height_scale": 2.0, "width_scale": 3.0}, X4.repeat(2, 2).repeat(3, 3)),
    ("GlobalLpPool", 1, [X4], {"p": 2.0}, np.sqrt((X4**2).sum((2, 3), keepdims=True))),
    ("Selu", 1, [X4], {}, 1.0507 * np.where(X4 > 0, X4, 1.6732 * (np.exp(X4) - 1))),
    ("Dropout", 6, [X4], {"is_test": 1, "ratio": 0.4}, X4),
    (
        "BatchNormalization",
        6,
        [X4, *STATS],
        {"constants": (1, 2, 3, 4), "is_test": 1, "spatial": 0},
        (X4 - STATS[2]) / np.sqrt(STATS[3] + 1e-5) * STATS[0] + STATS[1],
    ),
    (
        "BatchNormalization",
        8,
        [X4, *STATS[:, :, 0, 0]],
        {"constants": (1, 2, 3, 4), "spatial": 0},
        (X4 - STATS[2, :, :1, :1]) / np.sqrt(STATS[3, :, :1, :1] + 1e-5) * STATS[0, :, :1, :1] + STATS[1, :, :1, :1],
    ),
    ("Affine", 7, [X4], {"alpha": 2.0, "beta": -1.0}, 2 * X4 - 1),
    ("Scale", 1, [X4], {"scale": 0.5}, 0.5 * X4),
    ("ScaledTanh", 6, [X4], {"alpha": 1.5, "beta": 0.5}, 1.5 * np.tanh(0.5 * X4)),
    ("ParametricSoftplus", 6, [X4], {"alpha": 1.5, "beta": 0.5}, 1.5 * np.log1p(np.exp(0.5 * X4))),
    ("ImageScaler", 6, [X4], {"scale": 2.0, "bias": [1.0, 2.0, 3.0]}, 2 * X4 + np.array([1, 2, 3])[:, None, None]),
    ("Crop", 6, [X4], {"border": [1, 0, 2, 1]}, X4[:, :, :3, 1:4]),
    ("Crop", 6, [X4], {"border": [1, 2, 0, 0], "scale": [2, 3]}, X4[:, :, 2:4, 1:4]),
    ("MeanVarianceNormalization", 1, [X4], {"normalize_variance": 0}, X4 - X4.mean((2, 3), keepdims=True)),
    ("ConstantFill", 9, [np.array([2, 3], LONG)], {"input_as_shape": 1, "value": 0.5}, np.full((2, 3), 0.5)),
    ("ConstantFill", 9, [X3], {"value": 0.5, "extra_shape": [2]}, np.full((2, 3, 4, 2), 0.5)),
    ("ConstantFill", 9, [], {"value": 0.5, "shape": [2, 2]}, np.full((2, 2), 0.5)),
    ("GivenTensorFill", 1, [], {"values": [1.0, 2.0], "shape": [2]}, np.array([1, 2])),
    ("ThresholdedRelu", 1, [X4], {"alpha": 0.3}, np.where(X4 > 0.3, X4, 0)),
    ("GroupNormalization", 18, [np.concatenate([X4, X4[:, :1]], 1), np.array([2, 3], F), np.array([1, -1], F)], {"num_groups": 2}, None),
    ("Swish", 24, [X4], {"alpha": 0.5}, X4 / (1 + np.exp(-0.5 * X4))),
    ("SwiGLU", 28, [X4, X4], {}, X4 * X4 / (1 + np.exp(-X4))),
    ("Mod", 28, [X4, -np.abs(X4[0])], {}, np.mod(X4, -np.abs(X4[0]))),
    (
        "SpaceToDepth",
        28,
        [X4],
        {"blocksize": 2, "mode": "CRD"},
        X4.reshape(2, 3, 2, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 12, 2, 3),
    ),
]


@pytest.mark.parametrize("case", NUMPY, ids=[f"{c[0]}-{c[1]}-{i}" for i, c in enumerate(NUMPY)])
def test_same_as_numpy(case: tuple[str, int, list[Any], dict[str, Any], Any]) -> None:
    op, opset, inputs, options, want = case
    if op == "GroupNormalization":
        x, scale, bias = inputs
        groups = x.reshape(2, 2, -1)
        unit = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(groups.var(-1, keepdims=True) + 1e-5)
        want = (unit * scale[:, None] + bias[:, None]).reshape(x.shape)
    proto = model(op, opset, inputs, **options)
    (got,) = ours(proto, feeds(proto, inputs))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


def test_training_mode_is_read_as_inference() -> None:
    stats = STATS[:, :, 0, 0]
    proto = model("BatchNormalization", 15, [X4, *stats], outputs=3, constants=(1, 2, 3, 4), training_mode=1)
    got = ours(proto, {"i0": X4})
    calm = model("BatchNormalization", 15, [X4, *stats], constants=(1, 2, 3, 4))
    np.testing.assert_allclose(got[0], theirs(calm, {"i0": X4})[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got[1], stats[2])
    np.testing.assert_array_equal(got[2], stats[3])


def test_subgraphs_are_lifted_too() -> None:
    def branch(name: str, **clip: float) -> onnx.GraphProto:
        node = helper.make_node("Clip", ["x"], [name], **clip)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, 1, [4])])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("a", max=0.1), else_branch=branch("b", min=0.2))
    infos = [helper.make_tensor_value_info("c", 9, []), helper.make_tensor_value_info("x", 1, [4])]
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", 1, [4])])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=5)
    x = np.array([-1, 0, 0.15, 1], F)
    for c in (True, False):
        np.testing.assert_array_equal(ours(proto, {"c": np.array(c), "x": x})[0], np.minimum(x, F(0.1)) if c else np.maximum(x, F(0.2)))


def test_functions_are_unfolded_each_at_its_own_opset() -> None:
    body = [helper.make_node("Clip", ["a"], ["b"], min=0.0), helper.make_node("Softmax", ["b"], ["c"])]
    function = helper.make_function("mine", "Squash", ["a"], ["c"], body, [helper.make_opsetid("", 9)])
    graph = helper.make_graph(
        [helper.make_node("Squash", ["x"], ["y"], domain="mine")],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3, 4])],
        [helper.make_tensor_value_info("y", 1, [2, 3, 4])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    flat = np.maximum(X3, 0).reshape(2, -1)
    want = (np.exp(flat) / np.exp(flat).sum(1, keepdims=True)).reshape(X3.shape)
    np.testing.assert_allclose(ours(proto, {"x": X3})[0], want, rtol=1e-5)
    assert not read(proto).functions


def test_unknown_operators_are_all_named() -> None:
    nodes = [helper.make_node("ATen", ["x"], ["a"], name="first"), helper.make_node("Foo", ["a"], ["y"], name="second", domain="their.own")]
    infos = [helper.make_tensor_value_info(n, 1, [2]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9), helper.make_opsetid("their.own", 1)])
    with pytest.raises(Unsupported) as e:
        read(proto)
    assert [r.node for r in e.value.refusals] == ["first", "second"]


def test_a_node_without_its_attributes_is_one_sentence() -> None:
    with pytest.raises(ReadError, match="Pad"):
        read(model("Pad", 7, [X4]))


def test_double_constants_give_way_and_gemm_is_flattened() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2.0))),
        helper.make_node("Mul", ["x", "two"], ["m"]),
        helper.make_node("Gemm", ["m", "w", "b"], ["y"], transB=1),
    ]
    w = RNG.standard_normal((5, 72)).astype(F)
    weights = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.ones(5, F), "b")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [2, 3, 4, 6])], [helper.make_tensor_value_info("y", 1, [2, 5])], weights
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    np.testing.assert_allclose(ours(proto, {"x": X4})[0], 2 * X4.reshape(2, -1) @ w.T + 1, rtol=1e-4, atol=1e-5)


def test_types_that_came_with_opset_28_are_refused_by_node() -> None:
    with pytest.raises(Unsupported, match="n \\(Celu\\)"):
        read(model("Celu", 28, [X4.astype(np.float16)], out_type=10))
    assert ours(model("Celu", 28, [X4]), {"i0": X4})[0].shape == X4.shape


def test_our_own_functions_survive() -> None:
    body = [helper.make_node("Add", ["a", "a"], ["t"]), helper.make_node("Clip", ["t"], ["b"], min=0.0)]
    function = helper.make_function("niudao", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 9)])
    infos = [helper.make_tensor_value_info(n, 1, [2, 3, 4]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Twice", ["x"], ["y"], domain="niudao")], "g", infos[:1], infos[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("niudao", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    assert [f.name for f in read(proto).functions.values()] == ["Twice"]
    np.testing.assert_array_equal(ours(proto, {"x": X3})[0], np.maximum(2 * X3, 0))
