"""Random vision networks, each with inputs and agreed outputs.

A graph has 5 to 21 nodes of the operators that vision networks use, at opsets 11 to 20, on pictures that are never
square. It is grown node by node: every candidate node is run at once by ONNX Runtime on the values so far, so that
shapes are known and a node that cannot run, explodes or says nothing is dropped. A finished graph counts only if ONNX
Runtime with and without its optimiser and `onnx.reference` agree on it to 1e-4 of the largest value.

    for case in graphs(60, seed=1):
        model = nd.read(case.model)
        close(nd.run(model, case.feeds), case.expected)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

OPSETS = range(11, 21)
MAX_ELEMENTS = 20_000
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """One accepted graph.

    Attributes:
        seed: What `random_graph` made it from.
        model: The graph.
        feeds: Input name -> array.
        expected: Output name -> array, in the graph's order.
    """

    seed: int
    model: onnx.ModelProto
    feeds: dict[str, Array]
    expected: dict[str, Array]

    @property
    def opset(self) -> int:
        return int(self.model.opset_import[0].version)

    @property
    def operators(self) -> list[str]:
        return [n.op_type for n in self.model.graph.node]


class Skip(Exception):
    """This node does not fit here; another one is tried."""


def difference(got: Mapping[str, Array], want: Mapping[str, Array]) -> float:
    """Largest absolute difference over all outputs, in units of each output's largest value; infinite where shapes or NaNs differ."""
    worst = 0.0
    if list(got) != list(want):
        return math.inf
    for name, w in want.items():
        g = got[name]
        if g.shape != w.shape or g.dtype != w.dtype:
            return math.inf
        diff = float(np.abs(g.astype("f8") - w.astype("f8")).max() / (np.abs(w.astype("f8")).max() + 1e-12))
        if not diff <= 1e30:
            return math.inf
        worst = max(worst, diff)
    return worst


def ort_run(model: onnx.ModelProto, feeds: Mapping[str, Array], optimize: bool) -> dict[str, Array]:
    """ONNX Runtime's outputs, one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def reference_run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of the ONNX project's own evaluator in numpy."""
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        out = ReferenceEvaluator(model).run(None, dict(feeds))
    return {o.name: np.asarray(v) for o, v in zip(model.graph.output, out, strict=True)}


class Growing:
    """A graph under construction, with the value of everything in it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = int(self.rng.choice(OPSETS))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.values: dict[str, Array] = {}
        self.used: set[str] = set()
        self.inputs: list[str] = []
        self.symbolic = bool(self.rng.random() < 0.5)
        self.batch = int(self.rng.integers(1, 4))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.values[name].shape)

    def const(self, array: Any, dtype: str = "float32") -> str:
        name = f"w{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def normal(self, *shape: int, scale: float = 1.0, loc: float = 0.0) -> str:
        return self.const(self.rng.normal(loc, scale, shape))

    def ints(self, *values: int) -> str:
        return self.const(values, "int64")

    def add(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> str:
        """Append a node if ONNX Runtime can run it on the values so far and its outputs are worth having.

        Raises:
            Skip: It cannot, or they are not.
        """
        names = [f"v{len(self.nodes)}" if outputs == 1 else f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        node = helper.make_node(op, inputs, names, name=f"{op.lower()}_{len(self.nodes)}", **attributes)
        results = self._run(node)
        for array in results:
            if array.size == 0 or array.size > MAX_ELEMENTS or not np.isfinite(array.astype("f8")).all():
                raise Skip(op)
            if array.dtype == np.float32 and (np.abs(array).max() > 1e3 or (array.size > 4 and array.std() < 1e-4)):
                raise Skip(op)
        self.nodes.append(node)
        self.values.update(zip(names, results, strict=True))
        self.used.update(i for i in inputs if i in self.values)
        return names[0]

    def _run(self, node: onnx.NodeProto) -> list[Array]:
        feeds = {i: self.values[i] for i in node.input if i in self.values}
        inputs = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()]
        held = [numpy_helper.from_array(self.constants[i], i) for i in dict.fromkeys(node.input) if i in self.constants]
        outputs = [helper.make_empty_tensor_value_info(o) for o in node.output]
        model = self._model(helper.make_graph([node], "one", inputs, outputs, held))
        try:
            return list(ort_run(model, feeds, optimize=False).values())
        except Exception as e:  # onnxruntime's exceptions share no base class
            raise Skip(node.op_type) from e

    def _model(self, graph: onnx.GraphProto) -> onnx.ModelProto:
        ir_version = 7 if self.opset < 15 else 8 if self.opset < 19 else 9
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir_version, producer_name="randomgraphs"
        )

    def choose(self, ranks: tuple[int, ...]) -> str:
        """A float value of one of these ranks: mostly the newest, so that graphs grow deep."""
        fit = [k for k, v in self.values.items() if v.ndim in ranks and v.dtype == np.float32]
        if not fit:
            raise Skip("no such value")
        return fit[-1] if self.chance(0.75) else fit[int(self.rng.integers(len(fit)))]

    def partner(self, x: str) -> str:
        """Another value of the same shape, or a constant that broadcasts to it."""
        same = [k for k, v in self.values.items() if k != x and v.shape == self.shape(x) and v.dtype == np.float32]
        if same and self.chance(0.6):
            return same[int(self.rng.integers(len(same)))]
        shape = self.shape(x)
        kind = self.integer(0, 3)
        if kind == 0 or len(shape) < 2:
            return self.const(self.rng.normal(1.0, 0.5))
        if kind == 1:
            return self.normal(*((shape[1],) + (1,) * (len(shape) - 2)), loc=1.0, scale=0.5)
        if kind == 2:
            return self.normal(*shape[1:], loc=1.0, scale=0.5)
        return self.normal(*((1,) * (len(shape) - 1) + (shape[-1],)), loc=1.0, scale=0.5)


Grow = Callable[[Growing], str]
OPERATORS: list[tuple[float, Grow]] = []


def op(weight: float) -> Callable[[Grow], Grow]:
    def register(function: Grow) -> Grow:
        OPERATORS.append((weight, function))
        return function

    return register


def window(g: Growing, x: str, *, dilate: bool = False) -> dict[str, Any]:
    """Kernel, stride, pads or auto_pad, and dilation of a convolution or a pooling over x."""
    sizes = g.shape(x)[2:]
    kernel = [min(g.integer(1, 4), s) for s in sizes]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [g.integer(1, 2) for _ in sizes]}
    if dilate and g.chance(0.25):
        attributes["dilations"] = [g.integer(1, 2) for _ in sizes]
    way = g.rng.random()
    if way < 0.45:
        half = [(k - 1) // 2 for k in kernel]
        attributes["pads"] = half + half
    elif way < 0.7:
        attributes["pads"] = [g.integer(0, k - 1) for k in kernel * 2]
    elif way < 0.85 and "dilations" not in attributes:
        attributes["auto_pad"] = g.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    return attributes


@op(6)
def conv(g: Growing) -> str:
    x = g.choose((4,))
    channels = g.shape(x)[1]
    attributes = window(g, x, dilate=True)
    groups = g.pick(*[d for d in range(1, channels + 1) if channels % d == 0]) if g.chance(0.35) else 1
    out = groups * g.integer(1, max(1, 8 // groups))
    fan = channels // groups * math.prod(attributes["kernel_shape"])
    inputs = [x, g.normal(out, channels // groups, *attributes["kernel_shape"], scale=1.5 / math.sqrt(fan))]
    if g.chance(0.7):
        inputs.append(g.normal(out, scale=0.3))
    if groups > 1:
        attributes["group"] = groups
    return g.add("Conv", inputs, **attributes)


@op(1.2)
def conv_transpose(g: Growing) -> str:
    x = g.choose((4,))
    channels = g.shape(x)[1]
    groups = g.pick(1, 1, channels)
    out = g.integer(1, 3)
    kernel = [g.integer(2, 4), g.integer(2, 4)]
    strides = [g.integer(1, 2), g.integer(1, 2)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if groups > 1:
        attributes["group"] = groups
    if g.chance(0.5):
        attributes["pads"] = [g.integer(0, 1) for _ in range(4)]
    if g.chance(0.3):
        attributes["output_padding"] = [s - 1 for s in strides]
    inputs = [x, g.normal(channels, out, *kernel, scale=1 / math.sqrt(channels // groups * 4))]
    if g.chance(0.6):
        inputs.append(g.normal(out * groups, scale=0.3))
    return g.add("ConvTranspose", inputs, **attributes)


@op(2)
def max_pool(g: Growing) -> str:
    x = g.choose((4,))
    attributes = window(g, x, dilate=True)
    if g.chance(0.35):
        attributes["ceil_mode"] = 1
    return g.add("MaxPool", [x], **attributes)


@op(2)
def average_pool(g: Growing) -> str:
    x = g.choose((4,))
    attributes = window(g, x, dilate=g.opset >= 19)
    if g.chance(0.3):
        attributes["ceil_mode"] = 1
    if g.chance(0.5):
        attributes["count_include_pad"] = 1
    return g.add("AveragePool", [x], **attributes)


@op(0.7)
def global_pool(g: Growing) -> str:
    return g.add(g.pick("GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"), [g.choose((4,))])


@op(2.2)
def batch_normalization(g: Growing) -> str:
    x = g.choose((4, 4, 2))
    c = g.shape(x)[1]
    variance = g.const(g.rng.uniform(0.3, 2.0, c))
    inputs = [x, g.normal(c, loc=1, scale=0.3), g.normal(c, scale=0.3), g.normal(c, scale=0.3), variance]
    return g.add("BatchNormalization", inputs, epsilon=g.pick(1e-5, 1e-3, 1e-2))


@op(0.6)
def instance_normalization(g: Growing) -> str:
    x = g.choose((4,))
    c = g.shape(x)[1]
    if math.prod(g.shape(x)[2:]) < 4:
        raise Skip("too few pixels")
    return g.add("InstanceNormalization", [x, g.normal(c, loc=1, scale=0.3), g.normal(c, scale=0.3)], epsilon=1e-3)


@op(0.7)
def lrn(g: Growing) -> str:
    return g.add("LRN", [g.choose((4,))], size=g.pick(1, 3, 5), alpha=g.pick(1e-4, 0.1), beta=g.pick(0.75, 0.5), bias=g.pick(1.0, 2.0))


@op(6)
def activation(g: Growing) -> str:
    x = g.choose((4, 3, 2))
    kind = g.pick(
        "Relu", "Relu", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "HardSigmoid", "ThresholdedRelu",
        "Clip", "Clip", "PRelu", "Abs", "Neg", "Exp", "Sqrt", "HardSwish", "Mish", "Gelu", "Swish",
    )  # fmt: skip
    attributes: dict[str, Any] = {}
    inputs = [x]
    if kind in ("LeakyRelu", "Elu"):
        attributes["alpha"] = g.pick(0.1, 0.3)
    elif kind == "ThresholdedRelu":
        attributes["alpha"] = 0.25
        if np.abs(g.values[x] - 0.25).min() < 1e-3:  # a jump: rounding could decide it
            raise Skip(kind)
    elif kind == "HardSigmoid" and g.chance(0.5):
        attributes["alpha"] = 1 / 6
    elif kind == "Clip":
        low, high = g.pick((0.0, 6.0), (-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5))
        inputs += [g.const(low), g.const(high)]
        if g.chance(0.15):
            inputs.pop()
    elif kind == "PRelu":
        shape = g.shape(x)
        inputs.append(g.const(g.rng.uniform(0.05, 0.5, (shape[1],) + (1,) * (len(shape) - 2)) if g.chance(0.7) else [0.25]))
    elif kind == "Exp" and np.abs(g.values[x]).max() > 4:
        raise Skip(kind)
    elif kind == "Sqrt":
        inputs = [g.add("Add", [g.add(g.pick("Relu", "Abs"), [x]), g.const(0.1)])]
    elif g.opset < {"HardSwish": 14, "Mish": 18, "Gelu": 20}.get(kind, 0):
        raise Skip(kind)
    elif kind == "Gelu":
        attributes["approximate"] = g.pick("none", "tanh")
    elif kind == "Swish":  # as exporters of these opsets write it
        return g.add("Mul", [x, g.add("Sigmoid", [x])])
    return g.add(kind, inputs, **attributes)


@op(3.5)
def binary(g: Growing) -> str:
    x = g.choose((4, 3, 2))
    y = g.partner(x)
    kind = g.pick("Add", "Add", "Add", "Mul", "Mul", "Sub", "Div", "Max", "Min", "Sum", "Mean", "Pow")
    if kind in ("Div", "Pow"):
        c = g.shape(x)[1]
        shape = (c,) + (1,) * (len(g.shape(x)) - 2)
        if kind == "Div":
            return g.add("Div", [x, g.const(g.rng.uniform(0.5, 2, shape))])
        return g.add("Pow", [x, g.const(2.0)])
    if kind in ("Sum", "Mean") and y in g.constants:
        raise Skip(kind)
    pair = [x, y] if g.chance(0.8) or kind in ("Sum", "Mean") else [y, x]
    return g.add(kind, pair)


@op(1)
def squeeze_and_excite(g: Growing) -> str:
    x = g.choose((4,))
    c = g.shape(x)[1]
    if math.prod(g.shape(x)[2:]) < 2:
        raise Skip("no image")
    pooled = g.add("GlobalAveragePool", [x])
    mixed = g.add("Conv", [pooled, g.normal(c, c, 1, 1, scale=1 / math.sqrt(c)), g.normal(c)], kernel_shape=[1, 1])
    return g.add("Mul", [x, g.add(g.pick("Sigmoid", "HardSigmoid"), [mixed])])


@op(2)
def concat(g: Growing) -> str:
    x = g.choose((4, 3, 2))
    shape = g.shape(x)
    axis = 1 if g.chance(0.75) or len(shape) < 3 else g.integer(2, len(shape) - 1)
    rest = shape[:axis] + shape[axis + 1 :]
    fit = [
        k for k, v in g.values.items() if v.dtype == np.float32 and v.ndim == len(shape) and v.shape[:axis] + v.shape[axis + 1 :] == rest
    ]
    others = [fit[int(g.rng.integers(len(fit)))] for _ in range(g.integer(1, 2))]
    return g.add("Concat", [x, *others], axis=axis if g.chance(0.8) else axis - len(shape))


@op(1)
def split(g: Growing) -> str:
    x = g.choose((4, 3))
    axis = 1 if g.chance(0.8) else len(g.shape(x)) - 1
    size = g.shape(x)[axis]
    if size < 2:
        raise Skip("one channel")
    cut = g.integer(1, size - 1)
    if g.opset < 13:
        first = g.add("Split", [x], 2, axis=axis, split=[cut, size - cut])
    elif g.opset >= 18 and size % 2 == 0 and g.chance(0.5):
        first = g.add("Split", [x], 2, axis=axis, num_outputs=2)
    else:
        first = g.add("Split", [x, g.ints(cut, size - cut)], 2, axis=axis)
    return first[:-1] + g.pick("0", "1")


@op(1.2)
def slice_(g: Growing) -> str:
    x = g.choose((4, 3))
    axes = sorted({g.integer(1, len(g.shape(x)) - 1) for _ in range(g.integer(1, 2))})
    starts, ends, steps = [], [], []
    for axis in axes:
        size = g.shape(x)[axis]
        way = g.rng.random()
        if way < 0.25:
            starts, ends, steps = [*starts, -1], [*ends, -(2**31)], [*steps, -1]
        else:
            first = g.integer(0, max(0, size // 2 - 1))
            starts, steps = [*starts, first], [*steps, g.pick(1, 1, 1, 2)]
            ends = [*ends, g.pick(2**31 - 1, size, max(first + 1, size - 1), -1 if size - first > 1 else size)]
    return g.add("Slice", [x, g.ints(*starts), g.ints(*ends), g.ints(*axes), g.ints(*steps)])


@op(1.2)
def pad(g: Growing) -> str:
    x = g.choose((4,))
    mode = g.pick("constant", "constant", "reflect", "edge")
    h, w = g.shape(x)[2:]
    pads = [g.integer(0, min(2, s - 1 if mode == "reflect" else 2)) for s in (h, w, h, w)]
    if not any(pads):
        raise Skip("no pads")
    inputs = [x, g.ints(0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3])]
    if mode == "constant" and g.chance(0.5):
        inputs.append(g.const(g.pick(0.0, 0.0, 1.0, -0.5)))
    return g.add("Pad", inputs, mode=mode)


@op(1.6)
def resize(g: Growing) -> str:
    x = g.choose((4,))
    h, w = g.shape(x)[2:]
    mode = g.pick("nearest", "nearest", "linear", "linear", "cubic")
    attributes: dict[str, Any] = {"mode": mode}
    attributes["coordinate_transformation_mode"] = g.pick("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    if mode == "nearest":
        attributes["nearest_mode"] = g.pick("round_prefer_floor", "floor", "ceil", "round_prefer_ceil")
        if g.chance(0.5):  # what exporters write
            attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if mode == "cubic":
        attributes["cubic_coeff_a"] = g.pick(-0.75, -0.5)
    by_scale = g.chance(0.6)
    if by_scale:
        factors = g.pick((2, 2), (2, 2), (2, 3), (1, 2), (1.5, 1.5), (0.5, 0.5))
        return g.add("Resize", [x, g.const(np.zeros(0)), g.const([1, 1, *factors])], **attributes)
    sizes = (max(1, h + g.integer(-3, 5)), max(1, w + g.integer(-3, 5)))
    if g.symbolic:
        raise Skip("a size for a free batch")
    return g.add("Resize", [x, g.const(np.zeros(0)), g.const(np.zeros(0)), g.ints(*g.shape(x)[:2], *sizes)], **attributes)


@op(0.8)
def transpose(g: Growing) -> str:
    x = g.choose((4, 3))
    rank = len(g.shape(x))
    return g.add("Transpose", [x], perm=[0, *(1 + int(i) for i in g.rng.permutation(rank - 1))])


@op(0.6)
def reshape(g: Growing) -> str:
    x = g.choose((4, 3))
    shape = g.shape(x)
    way = g.integer(0, 2)
    if way == 0:
        return g.add("Reshape", [x, g.ints(0, 0, -1)])
    if way == 1 and len(shape) == 4:
        c = shape[1]
        groups = [d for d in range(2, c) if c % d == 0]
        if not groups:
            raise Skip("prime channels")
        d = g.pick(*groups)  # channel shuffle
        parts = g.add("Reshape", [x, g.ints(0, d, c // d, shape[2], shape[3])])
        return g.add("Reshape", [g.add("Transpose", [parts], perm=[0, 2, 1, 3, 4]), g.ints(0, c, shape[2], shape[3])])
    if len(shape) == 4:
        return g.add("Reshape", [x, g.ints(0, shape[1] * shape[2], shape[3], 1)])
    raise Skip("nothing to do")


@op(0.6)
def squeeze(g: Growing) -> str:
    x = g.choose((4, 3))
    ones = [i for i, s in enumerate(g.shape(x)) if s == 1 and i > 0]
    if not ones:
        raise Skip("no axis of size 1")
    return g.add("Squeeze", [x, g.ints(*ones)]) if g.opset >= 13 else g.add("Squeeze", [x], axes=ones)


@op(0.6)
def unsqueeze(g: Growing) -> str:
    """Back to an image of one column, or one pixel."""
    x = g.choose((3, 2))
    axes = list(range(len(g.shape(x)), 4))
    return g.add("Unsqueeze", [x, g.ints(*axes)]) if g.opset >= 13 else g.add("Unsqueeze", [x], axes=axes)


@op(0.6)
def flatten(g: Growing) -> str:
    x = g.choose((4, 3))
    if math.prod(g.shape(x)[1:]) > 1500:
        raise Skip("too long")
    return g.add("Flatten", [x]) if g.chance(0.7) else g.add("Reshape", [x, g.ints(0 if g.chance(0.5) else -1, math.prod(g.shape(x)[1:]))])


@op(2)
def dense(g: Growing) -> str:
    x = g.choose((2,))
    n, out = g.shape(x)[1], g.integer(2, 10)
    scale = 1.5 / math.sqrt(n)
    way = g.integer(0, 2)
    if way == 0:
        return g.add("Gemm", [x, g.normal(out, n, scale=scale), g.normal(out, scale=0.3)], transB=1)
    if way == 1:
        return g.add("Gemm", [x, g.normal(n, out, scale=scale), g.normal(1, out, scale=0.3)], alpha=g.pick(1.0, 0.5), beta=g.pick(1.0, 2.0))
    return g.add("Add", [g.add("MatMul", [x, g.normal(n, out, scale=scale)]), g.normal(out, scale=0.3)])


@op(0.6)
def matmul(g: Growing) -> str:
    x = g.choose((4, 3))
    n = g.shape(x)[-1]
    return g.add("MatMul", [x, g.normal(n, g.integer(2, 8), scale=1.5 / math.sqrt(n))])


@op(0.8)
def softmax(g: Growing) -> str:
    x = g.choose((4, 3, 2))
    rank = len(g.shape(x))
    axis = g.pick(1, -1, rank - 1)
    if g.shape(x)[axis] < 2:
        raise Skip("one class")
    return g.add(g.pick("Softmax", "Softmax", "LogSoftmax"), [x], axis=axis)


@op(1)
def reduce(g: Growing) -> str:
    x = g.choose((4, 3))
    rank = len(g.shape(x))
    kind = g.pick("ReduceMean", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2")
    axes = g.pick([2, 3], [1], [-1], [2, 3]) if rank == 4 else g.pick([1], [2], [-1])
    keep = int(g.chance(0.6))
    by_input = g.opset >= (13 if kind == "ReduceSum" else 18)
    return g.add(kind, [x, g.ints(*axes)], keepdims=keep) if by_input else g.add(kind, [x], axes=axes, keepdims=keep)


@op(0.7)
def blocks(g: Growing) -> str:
    x = g.choose((4,))
    _, c, h, w = g.shape(x)
    if c % 4 == 0 and g.chance(0.6):
        return g.add("DepthToSpace", [x], blocksize=2, mode=g.pick("DCR", "CRD"))
    if h % 2 or w % 2:
        raise Skip("odd size")
    return g.add("SpaceToDepth", [x], blocksize=2)


@op(0.5)
def gather(g: Growing) -> str:
    x = g.choose((4, 3, 2))
    axis = g.integer(1, len(g.shape(x)) - 1)
    size = g.shape(x)[axis]
    return g.add("Gather", [x, g.ints(*(int(i) for i in g.rng.integers(0, size, g.integer(1, min(6, size)))))], axis=axis)


@op(0.4)
def tile_or_expand(g: Growing) -> str:
    x = g.choose((4, 3))
    shape = g.shape(x)
    if g.chance(0.5):
        return g.add("Tile", [x, g.ints(1, *(g.pick(1, 1, 2) for _ in shape[1:]))])
    ones = [i for i, s in enumerate(shape) if s == 1 and i > 0]
    if not ones:
        raise Skip("no axis of size 1")
    target = [3 if i in ones else 1 for i in range(len(shape))]
    return g.add("Expand", [x, g.ints(*target)])


@op(0.4)
def where(g: Growing) -> str:
    x = g.choose((4, 2))
    y = g.partner(x)
    limit = float(np.round(np.median(g.values[x]), 2))
    if np.abs(g.values[x] - limit).min() < 1e-3:  # a jump: rounding could decide it
        raise Skip("too close")
    return g.add("Where", [g.add(g.pick("Greater", "Less"), [x, g.const(limit)]), x, y])


@op(0.3)
def arg_max(g: Growing) -> str:
    x = g.choose((4, 2))
    if g.shape(x)[1] < 2:
        raise Skip("one class")
    top = np.sort(g.values[x], axis=1)
    if (top[:, -1] - top[:, -2]).min() < 1e-3:  # a tie: rounding could decide it
        raise Skip("too close")
    return g.add("Cast", [g.add(g.pick("ArgMax", "ArgMax"), [x], axis=1, keepdims=int(g.chance(0.5)))], to=TensorProto.FLOAT)


@op(0.3)
def quiet(g: Growing) -> str:
    """What exporters leave behind."""
    x = g.choose((4, 2))
    return g.add(g.pick("Identity", "Dropout"), [x])


def random_graph(seed: int) -> onnx.ModelProto:
    """A graph of about 5 to 21 nodes; the same for the same seed and the same versions of numpy and ONNX Runtime."""
    return _finish(_grow(seed))


def _grow(seed: int) -> Growing:
    g = Growing(seed)
    for i in range(1 if g.chance(0.85) else 2):
        name = "image" if i == 0 else "image_2"
        height = g.integer(7, 18)
        width = height + g.pick(-3, -2, -1, 1, 2, 3, 4)
        g.values[name] = g.rng.normal(0, 1, (g.batch, g.pick(1, 3, 3, 4, 6, 8), height, width)).astype("float32")
        g.inputs.append(name)
    weights = np.array([w for w, _ in OPERATORS])
    target = g.integer(6, 24)
    for _ in range(400):
        if len(g.nodes) >= target:
            break
        before = len(g.nodes)
        try:
            OPERATORS[int(g.rng.choice(len(OPERATORS), p=weights / weights.sum()))][1](g)
        except Skip:
            # the first nodes of a group that failed half way would hang in the air
            for node in g.nodes[before:]:
                for o in node.output:
                    g.values.pop(o, None)
            del g.nodes[before:]
    return g


def feeds_for(model: onnx.ModelProto, seed: int, batch: int = 2) -> dict[str, Array]:
    """Normal noise for every input; `batch` where the batch axis is free.

    A case's own feeds keep clear of the jumps of ThresholdedRelu, Where and ArgMax; these may not.
    """
    rng = np.random.default_rng([seed, 77])
    feeds = {}
    for value in model.graph.input:
        shape = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = rng.normal(0, 1, shape).astype("float32")
    return feeds


def _finish(g: Growing) -> onnx.ModelProto:
    """The graph with its sinks as outputs, and without what no output needs."""
    consumed = {i for n in g.nodes for i in n.input}
    sinks = [o for n in g.nodes for o in n.output if o not in consumed and g.values[o].dtype == np.float32]
    outputs = [s for s in sinks if not s.endswith("_0") or len(sinks) == 1][-3:] or sinks[-1:]
    needed, nodes = set(outputs), []
    for node in reversed(g.nodes):
        if needed & set(node.output):
            nodes.insert(0, node)
            needed.update(node.input)
    first: Any = "batch" if g.symbolic else g.batch
    float_ = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(i, float_, [first, *g.values[i].shape[1:]]) for i in g.inputs if i in needed]
    declared = [helper.make_tensor_value_info(o, float_, [first, *g.values[o].shape[1:]]) for o in outputs]
    held = [numpy_helper.from_array(v, k) for k, v in g.constants.items() if k in needed]
    return g._model(helper.make_graph(nodes, "random", inputs, declared, held))


def accept(seed: int) -> Case | None:
    """The case of this seed, or None where the graph is too small or its judges disagree."""
    grown = _grow(seed)
    model = _finish(grown)
    if not 5 <= len(model.graph.node) <= 21 or not model.graph.input:
        return None
    feeds = {i.name: grown.values[i.name] for i in model.graph.input}
    try:
        onnx.checker.check_model(model, full_check=True)
        plain = ort_run(model, feeds, optimize=False)
        fused = ort_run(model, feeds, optimize=True)
        reference = reference_run(model, feeds)
    except Exception:  # any judge may refuse, each in its own way
        return None
    finite = all(np.isfinite(v).all() for v in plain.values())
    if not finite or not difference(fused, plain) <= TOLERANCE or not difference(reference, plain) <= TOLERANCE:
        return None
    return Case(seed, model, feeds, plain)


def graphs(n: int, seed: int = 0) -> Iterator[Case]:
    """The first n accepted graphs of a sequence that the seed decides."""
    found = 0
    for i in range(20 * n + 20):
        if found == n:
            return
        case = accept(seed * 1_000_003 + i)
        if case is not None:
            found += 1
            yield case
    raise RuntimeError(f"only {found} of {n} graphs were accepted")
