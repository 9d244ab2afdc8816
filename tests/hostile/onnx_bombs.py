"""Small ONNX files that ask constant folding, shape inference, unfolding or counting for more than anybody has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from badfile import BadFile, Verdict, from_bytes
from onnx import TensorProto, helper, numpy_helper
from onnx_net import good, model_of, one, value
from onnx_traps import field_bytes, function, varint, wire, with_functions

BIG = 2**40


def case(name: str, data: bytes | Callable[[], bytes], verdict: Verdict = "either", says: str = "") -> BadFile:
    return from_bytes(name, data, ".onnx", says, verdict)


def network(nodes: list[onnx.NodeProto], last: str = "scores", **held: Any) -> Callable[[], bytes]:
    """Nodes over constants; a model without inputs of its own."""

    def make() -> bytes:
        tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in held.items()]
        return model_of(nodes, tensors, inputs=[], outputs=[value(last)]).SerializeToString()

    return make


def i64(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, "int64")


def folding() -> Iterator[BadFile]:
    """Constants that would have to be computed."""
    node = helper.make_node
    plain: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "constant-of-shape-1d": ("ConstantOfShape", {}, {"s": i64(BIG)}),
        "constant-of-shape-overflow": ("ConstantOfShape", {}, {"s": i64(2**32, 2**32, 2**32)}),
        "constant-of-shape-negative": ("ConstantOfShape", {}, {"s": i64(-5, 2**33)}),
        "constant-of-shape-rank": ("ConstantOfShape", {}, {"s": np.full(100_000, 2, "int64")}),
        "range-huge": ("Range", {}, {"a": np.int64(0), "b": np.int64(BIG), "c": np.int64(1)}),
        "range-float": ("Range", {}, {"a": np.float32(0), "b": np.float32(3e38), "c": np.float32(1e-30)}),
        "range-zero-step": ("Range", {}, {"a": np.int64(0), "b": np.int64(9), "c": np.int64(0)}),
        "range-overflow": ("Range", {}, {"a": np.int64(-(2**63)), "b": np.int64(2**63 - 1), "c": np.int64(1)}),
        "tile-constant": ("Tile", {}, {"x": np.ones(4, "float32"), "r": i64(BIG)}),
        "expand-constant": ("Expand", {}, {"x": np.ones(1, "float32"), "s": i64(2**20, 2**20)}),
        "pad-constant": ("Pad", {}, {"x": np.ones(1, "float32"), "p": i64(BIG, BIG)}),
        "one-hot": ("OneHot", {}, {"i": i64(1, 2), "d": np.int64(BIG), "v": np.array([0, 1], "float32")}),
        "one-hot-wide": ("OneHot", {}, {"i": np.zeros(4000, "int64"), "d": np.int64(2**20), "v": np.array([0, 1], "float32")}),
        "eye-like": ("EyeLike", {}, {"x": np.zeros((2000, 2000), "float32")}),
        "hann-window": ("HannWindow", {}, {"n": np.int64(BIG)}),
        "dft": ("DFT", {}, {"x": np.ones((1, 8, 1), "float32"), "n": np.int64(BIG)}),
        "mel-weights": (
            "MelWeightMatrix",
            {},
            {"a": np.int64(BIG), "b": np.int64(BIG), "c": np.int64(8000), "d": np.float32(0), "e": np.float32(4000)},
        ),
        "einsum": ("Einsum", {"equation": "a,b,c,d,e->abcde"}, {n: np.ones(500, "float32") for n in "vwxyz"}),
        "einsum-letters": ("Einsum", {"equation": "a" * 100_000 + "->a"}, {"x": np.ones((2, 2), "float32")}),
        "outer-product": ("MatMul", {}, {"a": np.ones((30_000, 1), "float32"), "b": np.ones((1, 30_000), "float32")}),
        "outer-add": ("Add", {}, {"a": np.ones((30_000, 1), "float32"), "b": np.ones((1, 30_000), "float32")}),
        "gather-rank": ("Gather", {"axis": 0}, {"x": np.ones((3000, 300), "float32"), "i": np.zeros((1000, 100), "int64")}),
        "resize-constant": (
            "Resize",
            {},
            {"x": np.ones((1, 1, 4, 4), "float32"), "r": np.zeros(0, "float32"), "s": np.array([1, 1, 1e6, 1e6], "float32")},
        ),
        "upsample-nan": (
            "Resize",
            {},
            {"x": np.ones((1, 1, 4, 4), "float32"), "r": np.zeros(0, "float32"), "s": np.array([1, 1, np.nan, np.inf], "float32")},
        ),
        "divide-by-zero": ("Div", {}, {"a": i64(7), "b": i64(0)}),
        "divide-min": ("Div", {}, {"a": i64(-(2**63)), "b": i64(-1)}),
        "modulo-zero": ("Mod", {}, {"a": i64(7), "b": i64(0)}),
        "shift-wide": ("BitShift", {"direction": "LEFT"}, {"a": np.array([1], "uint64"), "b": np.array([2**63], "uint64")}),
        "power-huge": ("Pow", {}, {"a": i64(10), "b": i64(2**62)}),
        "cumsum-axis": ("CumSum", {}, {"x": np.ones(4, "float32"), "a": np.int64(2**40)}),
        "top-k": ("TopK", {}, {"x": np.ones(4, "float32"), "k": i64(BIG)}),
        "split-many": ("Split", {"num_outputs": 2**31}, {"x": np.ones(4, "float32")}),
        "squeeze-far": ("Squeeze", {}, {"x": np.ones((1, 2), "float32"), "a": i64(2**62)}),
        "unsqueeze-many": ("Unsqueeze", {}, {"x": np.ones(2, "float32"), "a": np.arange(5000, dtype="int64")}),
        "reshape-overflow": ("Reshape", {}, {"x": np.ones(4, "float32"), "s": i64(2**62, 4)}),
        "reshape-rank": ("Reshape", {}, {"x": np.ones(4, "float32"), "s": np.ones(200_000, "int64")}),
        "slice-steps": ("Slice", {}, {"x": np.ones(4, "float32"), "a": i64(0), "b": i64(2**62), "c": i64(0), "d": i64(-(2**63))}),
        "max-pool-window": ("MaxPool", {"kernel_shape": [2**31, 2**31], "strides": [1, 1]}, {"x": np.ones((1, 1, 4, 4), "float32")}),
        "average-pool-pads": (
            "AveragePool",
            {"kernel_shape": [3, 3], "pads": [2**20] * 4},
            {"x": np.ones((1, 1, 4, 4), "float32")},
        ),
        "conv-dilation": (
            "Conv",
            {"dilations": [2**30, 2**30], "pads": [2**30] * 4},
            {"x": np.ones((1, 1, 9, 9), "float32"), "w": np.ones((1, 1, 3, 3), "float32")},
        ),
        "conv-transpose-stride": (
            "ConvTranspose",
            {"strides": [2**20, 2**20]},
            {"x": np.ones((1, 1, 9, 9), "float32"), "w": np.ones((1, 1, 3, 3), "float32")},
        ),
        "depth-to-space": ("DepthToSpace", {"blocksize": 2**31}, {"x": np.ones((1, 16, 4, 4), "float32")}),
        "space-to-depth-zero": ("SpaceToDepth", {"blocksize": 0}, {"x": np.ones((1, 16, 4, 4), "float32")}),
        "grid-sample": ("GridSample", {}, {"x": np.ones((1, 1, 4, 4), "float32"), "g": np.ones((1, 900, 900, 2), "float32")}),
        "non-max-suppression": (
            "NonMaxSuppression",
            {},
            {"b": np.zeros((1, 3000, 4), "float32"), "s": np.ones((1, 1, 3000), "float32"), "m": np.int64(2**62)},
        ),
        "random": ("RandomNormal", {"shape": [2**20, 2**20]}, {}),
        "multinomial": ("Multinomial", {"sample_size": 2**31 - 1}, {"x": np.ones((1, 4), "float32")}),
        "string-repeat": ("StringConcat", {}, {"a": np.array(["a" * 1000] * 100, object), "b": np.array([["b" * 1000]] * 1000, object)}),
        "regex": (
            "RegexFullMatch",
            {"pattern": "(a+)+$"},
            {"x": np.array(["a" * 40 + "!"], object)},
        ),
        "blackman": ("BlackmanWindow", {}, {"n": np.int64(2**33)}),
        "col2im": ("Col2Im", {}, {"x": np.ones((1, 4, 4), "float32"), "i": i64(2**20, 2**20), "b": i64(2, 2)}),
        "cast-string": ("Cast", {"to": TensorProto.STRING}, {"x": np.ones(300_000, "float32")}),
        "max-unpool": (
            "MaxUnpool",
            {"kernel_shape": [2, 2]},
            {"x": np.ones((1, 1, 2, 2), "float32"), "i": np.full((1, 1, 2, 2), BIG, "int64"), "s": i64(1, 1, 2**20, 2**20)},
        ),
    }
    for name, (op, attributes, held) in plain.items():
        yield case(f"fold-{name}", network([node(op, list(held), ["scores"], name="bomb", **attributes)], **held))
    chains = {
        "add-chain": [node("Add", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(3_000)],
        "concat-chain": [node("Concat", [f"x{i}"] * 2, [f"x{i + 1}"], axis=0) for i in range(40)],
        "concat-wide": [node("Concat", [f"x{i}"] * 1000, [f"x{i + 1}"], axis=0) for i in range(6)],
        "tile-chain": [node("Tile", [f"x{i}", "two"], [f"x{i + 1}"]) for i in range(60)],
        "matmul-chain": [node("MatMul", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(300)],
        "shape-powers": [node("Mul", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(60)],
        "string-doubling": [node("StringConcat", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(40)],
    }
    starts: dict[str, Any] = {
        "matmul-chain": np.ones((1000, 1000), "float32"),
        "shape-powers": i64(3),
        "string-doubling": np.array(["ab" * 500], object),
    }
    for name, nodes in chains.items():
        held = {"x0": starts.get(name, np.ones(8, "float32")), "two": i64(2)}
        yield case(f"fold-{name}", network(nodes, f"x{len(nodes)}", **held))


def powers() -> Iterator[BadFile]:
    """Integers that a shape computation squares again and again: Python's never overflow, they only grow."""
    for op in ("Mul", "Add"):
        start = [helper.make_node("Shape", ["image"], ["x0"])]
        nodes = start + [helper.make_node(op, [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(64)]
        nodes.append(helper.make_node("ConstantOfShape", ["x64"], ["scores"]))
        fixed = [value("image", 2, 3, 8, 8)]
        yield case(f"shape-{op.lower()}-squares", model_of(nodes, [], fixed, [value("scores")]).SerializeToString())
    wide = [helper.make_node("Shape", ["image"], ["s"])]
    wide += [helper.make_node("Expand", ["s", "big"], ["e"]), helper.make_node("Reshape", ["image", "e"], ["scores"])]
    data = model_of(wide, [numpy_helper.from_array(i64(2**33, 4), "big")], [value("image", 2, 3, 8, 8)], [value("scores")])
    yield case("shape-expand-of-shape", data.SerializeToString())
    yield case("shape-end-far", one("Shape", {"start": -(2**62), "end": 2**62}))
    names = [value("image", *(f"d{i}" for i in range(5000)))]
    yield case(
        "shape-rank-5000", model_of([helper.make_node("Relu", ["image"], ["scores"])], [], names, [value("scores")]).SerializeToString()
    )
    growing = [helper.make_node("Unsqueeze", [f"x{i}" if i else "image", "a"], [f"x{i + 1}"]) for i in range(3000)]
    data = model_of(growing, [numpy_helper.from_array(i64(0), "a")], outputs=[value("x3000")])
    yield case("shape-rank-grows", data.SerializeToString())
    product = [value("image", 2**62, 2**62, 2**62, 2**62)]
    yield case(
        "shape-product", model_of([helper.make_node("Flatten", ["image"], ["scores"])], [], product, [value("scores")]).SerializeToString()
    )


def bodies() -> Iterator[BadFile]:
    """Loop, Scan, If and SequenceMap."""
    truth = value("c", kind=TensorProto.BOOL)
    step = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Concat", ["v", "v"], ["v2"], axis=0)]
    inputs = [value("i", kind=TensorProto.INT64), truth, value("v", "n")]
    ends = [value("c2", kind=TensorProto.BOOL), value("v2", "m")]
    body = helper.make_graph(step, "body", inputs, ends)
    held = {"m": np.int64(BIG), "c": np.array(True), "v": np.ones(1, "float32")}
    yield case("loop-doubling", network([helper.make_node("Loop", ["m", "c", "v"], ["scores"], body=body)], **held))
    scan = helper.make_graph([helper.make_node("Add", ["a", "b"], ["s"])], "body", [value("a", 4), value("b", 4)], [value("s", 4)])
    node = helper.make_node("Scan", ["v", "x"], ["scores"], body=scan, num_scan_inputs=1)
    yield case("scan-long", network([node], v=np.ones(4, "float32"), x=np.ones((200_000, 4), "float32")))
    node = helper.make_node("Scan", ["v", "x"], ["scores"], body=scan, num_scan_inputs=2**40)
    yield case("scan-inputs-lie", network([node], v=np.ones(4, "float32"), x=np.ones((4, 4), "float32")))
    inner = helper.make_graph([helper.make_node("Relu", ["image"], ["r"])], "leaf", [], [value("r")])
    for i in range(14):  # both branches hold the same graph: the file doubles too, so this is as far as it goes
        condition = helper.make_node("If", ["c"], [f"r{i}"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([condition], f"g{i}", [], [value(f"r{i}")])
    outer = helper.make_node("If", ["c"], ["scores"], then_branch=inner, else_branch=inner)
    yield case("ifs-doubling", model_of([outer], [], [value("image", 1, 3, 8, 8), truth], [value("scores")]).SerializeToString())


def unfolding() -> Iterator[BadFile]:
    """Functions within a node budget whose unfolding costs more than nodes."""
    body = [helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(250_000, "float32")))]
    body += [helper.make_node("ReduceSum", ["k"], ["s"], keepdims=0), helper.make_node("Add", ["x", "s"], ["y"])]
    calls = [helper.make_node("f0", [f"t{i}" if i else "x"], [f"t{i + 1}" if i < 999 else "y"], domain="local") for i in range(1000)]
    yield case("functions-constants", with_functions([function("f0", body), function("f1", calls)], "f1"))
    long_names = [helper.make_node("Relu", ["x"], ["a" * 100_000]), helper.make_node("Neg", ["a" * 100_000], ["y"])]
    yield case("functions-long-names", with_functions([function("f0", long_names), function("f1", calls)], "f1"))
    wide = [helper.make_node("Relu", [f"t{i}" if i else "x"], [f"t{i + 1}" if i < 399 else "y"]) for i in range(400)]
    many = [helper.make_node("f0", [f"t{i}" if i else "x"], [f"t{i + 1}" if i < 399 else "y"], domain="local") for i in range(400)]
    yield case("functions-160000-nodes", with_functions([function("f0", wide), function("f1", many)], "f1"))
    unused = [function(f"g{i}", [helper.make_node("Relu", ["x"], ["y"])]) for i in range(20_000)]
    yield case("functions-unused", with_functions([*unused, function("f0", [helper.make_node("Relu", ["x"], ["y"])])], "f0"), "open")
    hidden = function("Relu", [helper.make_node("Relu", ["x"], ["y"])])
    hidden.domain = ""
    yield case("function-shadows-relu", with_functions([hidden], "f0"))
    same = model_of()
    same.functions.add(name="Relu", domain="", input=["x"], output=["y"]).node.extend([helper.make_node("Relu", ["x"], ["y"])])
    yield case("function-is-relu", same.SerializeToString())
    ours = model_of([helper.make_node("Frob", ["image"], ["scores"], domain="niudao")], [], outputs=[value("scores")])
    for i in range(30):
        held = [helper.make_node(f"F{i + 1}", ["x"], ["m"], domain="niudao"), helper.make_node(f"F{i + 1}", ["m"], ["y"], domain="niudao")]
        ours.functions.append(helper.make_function("niudao", f"F{i}", ["x"], ["y"], held, [helper.make_opsetid("niudao", 1)]))
    ours.graph.node[0].op_type = "F0"
    ours.opset_import.append(helper.make_opsetid("niudao", 1))
    yield case("functions-of-ours", ours.SerializeToString())


KIND = field_bytes(1, wire(1, 0, b"\x01") + field_bytes(2, b"".join(field_bytes(1, wire(1, 0, b"\x08")) for _ in range(4))))


def whole(nodes: bytes, last: bytes = b"y0") -> bytes:
    """A model around nodes, weights or anything else that stands in a graph."""
    ends = field_bytes(11, field_bytes(1, b"image") + field_bytes(2, KIND)) + field_bytes(12, field_bytes(1, last) + field_bytes(2, KIND))
    return wire(1, 0, b"\x08") + field_bytes(7, nodes + field_bytes(2, b"g") + ends) + field_bytes(8, wire(2, 0, b"\x11"))


def relu(source: bytes, made: bytes, more: bytes = b"") -> bytes:
    return field_bytes(1, field_bytes(1, source) + field_bytes(2, made) + field_bytes(4, b"Relu") + more)


def many(count: int, part: Callable[[int], bytes]) -> bytes:
    return b"".join(map(part, range(count)))


def listed(number: int, payload: bytes) -> bytes:
    """A Relu with an attribute that holds a list."""
    return relu(b"image", b"y0", field_bytes(5, field_bytes(1, b"axes") + wire(20, 0, varint(number)) + payload))


def counts() -> Iterator[BadFile]:
    """Many of everything."""
    one_ = relu(b"image", b"y0")
    chain = lambda i: relu(b"y%d" % (i - 1) if i else b"image", b"y%d" % i)  # noqa: E731
    number = wire(20, 0, b"\x02") + wire(3, 0, b"\x05")
    weight = lambda i: field_bytes(  # noqa: E731
        5, field_bytes(8, b"w%d" % i) + wire(1, 0, b"\x01") + wire(2, 0, b"\x01") + field_bytes(9, bytes(4))
    )
    empty = field_bytes(5, field_bytes(8, b"w") + wire(1, 0, b"\x00") + wire(2, 0, b"\x01"))
    texts = wire(1, 0, varint(1_500_000)) + wire(2, 0, b"\x08") + field_bytes(8, b"w")
    zero = wire(1, 0, varint(0)) + wire(1, 0, varint(2**62)) + wire(2, 0, b"\x01") + field_bytes(8, b"w") + field_bytes(9, b"")
    value_ = TensorProto(name="w", data_type=1, dims=[1], float_data=[1.0]).SerializeToString()
    index = TensorProto(name="i", data_type=7, dims=[1], int64_data=[0]).SerializeToString()
    sparse = field_bytes(15, field_bytes(1, value_) + field_bytes(2, index) + wire(3, 0, varint(2**20)))
    yield case("control-fan-3000", lambda: whole(many(3000, lambda i: relu(b"image", b"y%d" % i))), "open")
    made: dict[str, Callable[[], bytes]] = {
        "chain-1000000": lambda: whole(many(1_000_000, chain), b"y999999"),
        "inputs-1000000": lambda: whole(
            field_bytes(1, field_bytes(1, b"image") * 1_000_000 + field_bytes(2, b"y0") + field_bytes(4, b"Sum"))
        ),
        "outputs-1000000": lambda: whole(relu(b"image", b"y", many(1_000_000, lambda i: field_bytes(2, b"y%d" % i)))),
        "attributes-500000": lambda: whole(
            relu(b"image", b"y0", many(500_000, lambda i: field_bytes(5, field_bytes(1, b"a%d" % i) + number)))
        ),
        "ints-20000000": lambda: whole(listed(7, field_bytes(8, b"\x01" * 20_000_000))),
        "ints-unpacked": lambda: whole(listed(7, wire(8, 0, b"\x01") * 3_000_000)),
        "strings-3000000": lambda: whole(listed(8, field_bytes(9, b"") * 3_000_000)),
        "weights-same-300000": lambda: whole(one_ + empty * 300_000),
        "weights-20000": lambda: whole(one_ + many(20_000, weight)),
        "value-infos-100000": lambda: whole(
            one_ + many(100_000, lambda i: field_bytes(13, field_bytes(1, b"v%d" % i) + field_bytes(2, KIND)))
        ),
        "results-50000": lambda: whole(one_ + field_bytes(12, field_bytes(1, b"y0") + field_bytes(2, KIND)) * 50_000),
        "string-tensor": lambda: whole(one_ + field_bytes(5, texts + field_bytes(6, b"") * 1_500_000)),
        "zero-times-huge": lambda: whole(one_ + field_bytes(5, zero)),
        "opsets-200000": lambda: good() + field_bytes(8, field_bytes(1, b"x") + wire(2, 0, b"\x01")) * 200_000,
        "metadata-500000": lambda: good() + many(500_000, lambda i: field_bytes(14, field_bytes(1, b"k%d" % i) + field_bytes(2, b"v"))),
        "sparse-unfolding": lambda: whole(one_ + sparse * 200),
    }
    for name, make in made.items():
        yield case(f"count-{name}", make)


def more() -> Iterator[BadFile]:
    """Every case of this module."""
    yield from folding()
    yield from powers()
    yield from bodies()
    yield from unfolding()
    yield from counts()
