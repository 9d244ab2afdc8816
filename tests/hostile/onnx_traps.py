"""ONNX files that reach outside, blow up, or break the protobuf encoding."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from badfile import BadFile, from_bytes
from onnx import TensorProto, helper, numpy_helper
from onnx_net import good, model_of, one, value


def external(
    name: str, says: str = "", verdict: Any = "refuse", *, prepare: Callable[[Path], Any] | None = None, **entries: str
) -> BadFile:
    """A network whose first weight lies in a data file; `entries` are location, offset, length."""

    def make(folder: Path) -> Path:
        inner = folder / "model"
        inner.mkdir()
        (folder / "secret.bin").write_bytes(bytes(432))
        (inner / "data.bin").write_bytes(np.ones(108, "float32").tobytes())
        if prepare is not None:
            prepare(inner)
        model = model_of()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, v in ({"location": "data.bin"} | entries).items():
            tensor.external_data.add(key=key, value=v.replace("$FOLDER", str(folder)))
        (inner / "net.onnx").write_bytes(model.SerializeToString())
        return inner / "net.onnx"

    return BadFile(name, make, says, verdict)


def externals() -> Iterator[BadFile]:
    yield external("control-external", verdict="open")
    yield external("control-external-offset", verdict="open", offset="0", length="432")
    yield external("control-external-in-folder", verdict="open", location="sub/data.bin", prepare=lambda d: _moved(d))
    yield external("external-parent", "outside|folder", location="../secret.bin")
    yield external("external-parent-inside", "outside|folder", location="sub/../../secret.bin")
    yield external("external-absolute", "outside|folder", location="$FOLDER/secret.bin")
    yield external("external-device", "outside|folder", location="/dev/zero")
    yield external("external-backslash", location="..\\secret.bin")
    yield external("external-nul", location="data.bin\0.txt")
    yield external("external-no-name", location="")
    yield external("external-url", location="https://example.org/data.bin")
    yield external("external-missing", "missing|exist", location="nowhere.bin")
    yield external("external-link", "link", location="link.bin", prepare=lambda d: (d / "link.bin").symlink_to(d.parent / "secret.bin"))
    yield external("external-hard-link", location="hard.bin", prepare=lambda d: os.link(d.parent / "secret.bin", d / "hard.bin"))
    yield external("external-linked-folder", "link", location="sub/secret.bin", prepare=lambda d: (d / "sub").symlink_to(d.parent))
    yield external("external-fifo", location="pipe.bin", prepare=lambda d: os.mkfifo(d / "pipe.bin"))
    yield external("external-is-folder", location="sub", prepare=lambda d: (d / "sub").mkdir())
    yield external("external-offset-past-end", offset="400")
    yield external("external-offset-huge", offset=str(2**62), length="432")
    yield external("external-offset-negative", offset="-8")
    yield external("external-offset-no-number", offset="many")
    yield external("external-offset-nan", offset="nan")
    yield external("external-length-wrong", length="12")
    yield external("external-length-huge", length=str(2**63))
    yield external("external-length-negative", length="-432")
    yield external("external-too-short", prepare=lambda d: (d / "data.bin").write_bytes(bytes(100)))
    yield external("external-itself", location="net.onnx", verdict="either")


def _moved(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "data.bin").rename(folder / "sub" / "data.bin")


def wire(field: int, kind: int, payload: bytes = b"") -> bytes:
    return varint(field << 3 | kind) + payload


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field_bytes(field: int, data: bytes) -> bytes:
    return wire(field, 2, varint(len(data)) + data)


def nested_ifs(depth: int) -> bytes:
    """A graph whose If holds a graph whose If ... Written from the inside out, so that no library limits the depth."""
    condition = field_bytes(1, b"c") + field_bytes(2, b"y") + field_bytes(4, b"If")
    inner = field_bytes(1, field_bytes(1, b"c") + field_bytes(2, b"y") + field_bytes(4, b"Identity")) + field_bytes(
        12, field_bytes(1, b"y")
    )
    for _ in range(depth):
        attributes = b"".join(field_bytes(5, field_bytes(1, n) + field_bytes(6, inner) + wire(20, 0, varint(5))) for n in (b"then_branch",))
        inner = field_bytes(1, condition + attributes) + field_bytes(12, field_bytes(1, b"y"))
    kind = field_bytes(1, wire(1, 0, varint(9)) + field_bytes(2, b""))
    graph = inner + field_bytes(2, b"g") + field_bytes(11, field_bytes(1, b"c") + field_bytes(2, kind))
    return wire(1, 0, b"\x08") + field_bytes(7, graph) + field_bytes(8, wire(2, 0, b"\x11"))


def function(name: str, body: list[onnx.NodeProto]) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["x"], ["y"], body, opsets)


def with_functions(functions: list[onnx.FunctionProto], call: str) -> bytes:
    model = model_of(
        [helper.make_node(call, ["image"], ["scores"], domain="local", name="call")], [], outputs=[value("scores", "batch", 3, 8, 8)]
    )
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.extend(functions)
    return model.SerializeToString()


def functions() -> Iterator[BadFile]:
    def chain(name: str, *calls: str) -> onnx.FunctionProto:
        names = ["x", *(f"t{i}" for i in range(len(calls) - 1)), "y"]
        return function(
            name,
            [helper.make_node(c, [names[i]], [names[i + 1]], domain="local" if c.startswith("f") else "") for i, c in enumerate(calls)],
        )

    yield from_bytes("control-function", with_functions([chain("f0", "Relu", "Neg")], "f0"), ".onnx", verdict="open")
    doubling = [chain("f0", "Relu", "Neg"), *(chain(f"f{i}", f"f{i - 1}", f"f{i - 1}") for i in range(1, 40))]
    yield from_bytes("functions-exponential", with_functions(doubling, "f39"), ".onnx", "function|limit|nodes")
    wide = [chain("f0", "Relu"), *(chain(f"f{i}", *[f"f{i - 1}"] * 50) for i in range(1, 6))]
    yield from_bytes("functions-wide", with_functions(wide, "f5"), ".onnx", "function|limit|nodes")
    yield from_bytes("function-recursive", with_functions([chain("f0", "f0")], "f0"), ".onnx", "itself|recurs|cycl|function")
    yield from_bytes(
        "functions-mutual", with_functions([chain("f0", "f1"), chain("f1", "f0")], "f0"), ".onnx", "itself|recurs|cycl|function"
    )
    yield from_bytes("function-absent", with_functions([], "f0"), ".onnx", "f0|local")
    long = [chain("f0", "Relu"), *(chain(f"f{i}", f"f{i - 1}") for i in range(1, 3000))]
    yield from_bytes("functions-deep", with_functions(long, "f2999"), ".onnx", verdict="either")
    yield from_bytes("function-twice", with_functions([chain("f0", "Relu"), chain("f0", "Neg")], "f0"), ".onnx", verdict="either")
    broken = function("f0", [helper.make_node("Relu", ["nowhere"], ["y"])])
    yield from_bytes("function-missing-input", with_functions([broken], "f0"), ".onnx")


def bombs() -> Iterator[BadFile]:
    """Small files that ask for much; a reader may open them, but must not do what they ask."""
    shape = np.array([2**20, 2**20], "int64")
    yield from_bytes("bomb-constant-of-shape", one("ConstantOfShape", None, ("s", shape), inputs=["s"]), ".onnx", verdict="either")
    yield from_bytes("bomb-expand", one("Expand", None, ("s", np.array([2**18, 3, 2**18, 8], "int64"))), ".onnx", verdict="either")
    yield from_bytes("bomb-tile", one("Tile", None, ("s", np.array([1, 2**16, 2**16, 2**16], "int64"))), ".onnx", verdict="either")
    limits = [("s", np.int64(0)), ("e", np.int64(2**40)), ("d", np.int64(1))]
    yield from_bytes("bomb-range", one("Range", None, *limits, inputs=["s", "e", "d"]), ".onnx", verdict="either")
    pads = np.array([0, 0, 2**20, 2**20] * 2, "int64")
    yield from_bytes("bomb-pad", one("Pad", None, ("s", pads)), ".onnx", verdict="either")
    hidden = model_of(
        [
            helper.make_node("ConstantOfShape", ["s"], ["big"], name="big"),
            helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0, name="sum"),
            helper.make_node("Add", ["image", "sum"], ["scores"], name="add"),
        ],
        [numpy_helper.from_array(shape, "s")],
        outputs=[value("scores", "batch", 3, 8, 8)],
    )
    yield from_bytes("bomb-folded-away", hidden.SerializeToString(), ".onnx", verdict="either")
    resize = [("r", np.zeros(0, "float32")), ("s", np.array([1, 1, 1e6, 1e6], "float32"))]
    yield from_bytes("bomb-resize", one("Resize", None, *resize), ".onnx", verdict="either")
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "v"], ["v2"])],
        "body",
        [value("i", kind=TensorProto.INT64), value("c", kind=TensorProto.BOOL), value("v", 1)],
        [value("c2", kind=TensorProto.BOOL), value("v2", 1)],
    )
    loop = [("m", np.int64(2**60)), ("c", np.array(True)), ("v", np.ones(1, "float32"))]
    yield from_bytes("bomb-loop", one("Loop", {"body": body}, *loop, inputs=["m", "c", "v"]), ".onnx", verdict="either")
    doubling = [helper.make_node("Concat", [f"x{i}", f"x{i}"], [f"x{i + 1}"], axis=0, name=f"n{i}") for i in range(60)]
    doubled = model_of(doubling, [numpy_helper.from_array(np.ones(8, "float32"), "x0")], inputs=[], outputs=[value("x60")])
    yield from_bytes("bomb-doubling", doubled.SerializeToString(), ".onnx", verdict="either")
    chain = [helper.make_node("Relu", [f"x{i}" if i else "image"], [f"x{i + 1}"], name=f"n{i}") for i in range(5000)]
    yield from_bytes(
        "control-long-chain", model_of(chain, [], outputs=[value("x5000", "batch", 3, 8, 8)]).SerializeToString(), ".onnx", verdict="open"
    )
    for depth in (150, 1000, 5000):
        yield from_bytes(f"nested-ifs-{depth}", nested_ifs(depth), ".onnx")
    yield from_bytes("reshape-nowhere", one("Reshape", None, ("s", np.array([7, 11], "int64"))), ".onnx", verdict="either")
    yield from_bytes("transpose-perm-wrong", one("Transpose", {"perm": [0, 0, 1, 9]}), ".onnx")
    yield from_bytes("concat-axis-out", one("Concat", {"axis": 12}), ".onnx")
    yield from_bytes("split-sizes-wrong", one("Split", {"axis": 1}, ("s", np.array([7, 11], "int64"))), ".onnx", verdict="either")
    yield from_bytes("cast-to-nothing", one("Cast", {"to": 4711}), ".onnx")


def wires() -> Iterator[BadFile]:
    """Faults below the schema: the protobuf encoding itself."""
    base = good()
    yield from_bytes("wire-garbage-after", base + b"\x07\xff\xff garbage", ".onnx")
    yield from_bytes("wire-unknown-field", base + field_bytes(999, b"hello"), ".onnx", verdict="either")
    yield from_bytes("wire-varint-endless", b"\x08" + b"\xff" * 30 + base, ".onnx")
    yield from_bytes("wire-length-past-end", b"\x08\x08" + wire(7, 2, varint(2**31)), ".onnx")
    yield from_bytes("wire-length-2-63", b"\x08\x08" + wire(7, 2, varint(2**63)), ".onnx")
    yield from_bytes("wire-length-2-64", b"\x08\x08" + wire(7, 2, varint(2**64 - 1)), ".onnx")
    yield from_bytes("wire-group-open", b"\x08\x08" + wire(7, 3) * 3000, ".onnx")
    yield from_bytes("wire-groups-deep", b"\x08\x08" + wire(50, 3) * 20_000 + wire(50, 4) * 20_000, ".onnx")
    yield from_bytes("wire-type-7", b"\x08\x08" + wire(7, 7, b"1234"), ".onnx")
    yield from_bytes("wire-graph-as-number", b"\x08\x08" + wire(7, 0, b"\x05"), ".onnx")
    yield from_bytes("wire-field-zero", b"\x08\x08" + wire(0, 2, b"\x01a") + base[2:], ".onnx")
    yield from_bytes("wire-graph-twice", base + field_bytes(7, model_of().graph.SerializeToString()), ".onnx", verdict="either")
    yield from_bytes("wire-not-utf8-name", base.replace(b"relu", b"r\xff\xfeu"), ".onnx", verdict="either")
    yield from_bytes("wire-not-utf8-operator", base.replace(b"Relu", b"R\xff\xfeu"), ".onnx")
    yield from_bytes("wire-nul-in-name", base.replace(b"relu", b"re\0u"), ".onnx", verdict="either")
    yield from_bytes("wire-ir-version-last", base[2:] + base[:2], ".onnx", verdict="either")
