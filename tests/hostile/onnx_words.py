"""ONNX files with hostile names, texts, metadata and declarations, and files of other kinds under the ending."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from badfile import BadFile, Verdict, a_zip, from_bytes
from onnx import TensorProto, helper, numpy_helper
from onnx_net import changed, good, model_of, value, weight
from onnx_traps import external

ODD = {
    "nul": "a\0b",
    "newline": "a\nb\r\nc",
    "escape": "\x1b]0;owned\x07\x1b[2J",
    "c1": "\x9b31mred",
    "bidi": "\u202etxt.exe\u2066\u200f",
    "zero-width": "a\u200bb\ufeff\u2060",
    "tags": "\U000e0041\U000e007f",
    "private": "\ue000\uffff\U0010fffe",
    "combining": "a" + "\u0301" * 500,
    "html": "<script>alert(1)</script><!--",
    "markup": "[bold red]x[/] [link=http://evil.example]y[/link] {0} %s %n",
    "path": "../../../../etc/passwd",
    "long": "n" * 8000,
    "spaces": " " * 300,
    "empty": "",
}


def case(name: str, data: bytes | Callable[[], bytes], verdict: Verdict = "either", says: str = "") -> BadFile:
    return from_bytes(name, data, ".onnx", says, verdict)


def names() -> Iterator[BadFile]:
    """Every place that takes a name, with every odd one."""
    for key, odd in ODD.items():

        def everywhere(model: onnx.ModelProto, odd: str = odd) -> None:
            model.producer_name = model.producer_version = model.domain = model.doc_string = odd
            graph = model.graph
            graph.name = graph.doc_string = odd
            for i, node in enumerate(graph.node):
                node.name, node.doc_string = f"{odd}{i}" if odd else "", odd
            for old, new in (("image", f"{odd}in"), ("scores", f"{odd}out"), ("conv.w", f"{odd}w"), ("a", f"{odd}a")):
                for entry in (*graph.input, *graph.output, *graph.initializer):
                    entry.name = new if entry.name == old else entry.name
                for node in graph.node:
                    for names_ in (node.input, node.output):
                        for i, n in enumerate(names_):
                            names_[i] = new if n == old else n
            graph.input[0].type.tensor_type.shape.dim[0].dim_param = odd
            model.metadata_props.add(key=odd or "k", value=odd)
            graph.node[0].metadata_props.add(key="niudao.layer", value=odd)
            graph.node[0].metadata_props.add(key="niudao.layer_type", value=odd)
            model.metadata_props.add(key="niudao.classes", value=json.dumps([odd] * 5))
            model.metadata_props.add(key="niudao.notes", value=json.dumps([odd]))
            model.metadata_props.add(key="niudao.source", value=json.dumps({"format": odd, "version": odd, "notes": [odd], "from": {}}))

        yield case(f"odd-names-{key}", lambda e=everywhere: changed(e), "open")  # type: ignore[misc]


def declarations() -> Iterator[BadFile]:
    """What a file says about itself and its values."""

    def with_(name: str, change: Callable[[onnx.ModelProto], Any], verdict: Verdict = "either") -> BadFile:
        return case(name, lambda: changed(change), verdict)

    def meta(key: str, text: str) -> Callable[[onnx.ModelProto], Any]:
        return lambda m: m.metadata_props.add(key=key, value=text)

    junk = {
        "classes-many": ("niudao.classes", "[" + "1," * 1_900_000 + "1]"),
        "classes-more": ("niudao.classes", "[" + "1," * 10_000_000 + "1]"),
        "classes-nested": ("niudao.classes", "[" * 900 + "]" * 900),
        "classes-nan": ("niudao.classes", "[NaN, Infinity, 1e999]"),
        "notes-number": ("niudao.notes", "7"),
        "notes-true": ("niudao.notes", "true"),
        "notes-objects": ("niudao.notes", '[{"a": 1}, null]'),
        "source-notes": ("niudao.source", '{"format": "onnx", "notes": 7}'),
        "source-format": ("niudao.source", '{"format": ["keras"], "version": {}}'),
        "source-unknown": ("niudao.source", '{"format": "os.system", "version": "1"}'),
        "source-keras": ("niudao.source", '{"format": "keras", "version": "2.2.4"}'),
        "source-digits": ("niudao.source", '{"format": "onnx", "version": ' + "9" * 6000 + "}"),
        "source-from": ("niudao.source", '{"format": "onnx", "from": ' + '{"from": ' * 400 + "1" + "}" * 401),
        "card-other-input": ("niudao.card", '{"nowhere": {"mean": [1], "std": [0]}}'),
        "card-zero-std": ("niudao.card", '{"image": {"std": [0, 0, 0], "scale": 0}}'),
        "card-infinite": ("niudao.card", '{"image": {"mean": [1e999], "std": [NaN], "range": [2, 1]}}'),
        "card-order": ("niudao.card", '{"image": {"order": {"a": 1}, "layout": ["N"], "resize": 9, "guessed": 7}}'),
        "card-long": ("niudao.card", '{"image": {"mean": [' + "1," * 500_000 + "1]}}"),
        "card-text": ("niudao.card", '{"image": {"scale": "\\u001b[2J", "range": "ab"}}'),
    }
    for name, (key, text) in junk.items():
        yield with_(f"meta-{name}", meta(key, text))
    for text in (
        "[0,1,2]",
        "[3,2,1,0]",
        "[0,2,3,1]",
        "[true,false,2,3]",
        '["0","2","3","1"]',
        "[0.0,2.0,3.0,1.0]",
        "[0,1,2,3,4]",
        "[" * 3000,
    ):
        yield with_(f"layout-{text[:14]}", lambda m, t=text: m.graph.input[0].metadata_props.add(key="niudao.layout", value=t))
        yield with_(f"layout-out-{text[:14]}", lambda m, t=text: m.graph.output[0].metadata_props.add(key="niudao.layout", value=t))
    yield with_("doc-string-20-mb", lambda m: setattr(m, "doc_string", "d" * 20_000_000))
    yield with_("doc-string-nodes", lambda m: [setattr(n, "doc_string", "d" * 4_000_000) for n in m.graph.node])
    yield with_("name-10-mb", lambda m: setattr(m.graph.node[1], "name", "n" * 10_000_000), "refuse")
    yield with_("name-input-10-mb", lambda m: setattr(m.graph.input[0], "name", "n" * 10_000_000), "refuse")
    yield with_("metadata-20-mb", meta("x", "v" * 20_000_000))
    for number in (0, -1, -(2**63), 2**31, 999):
        yield with_(f"opset-domain-{number}", lambda m, n=number: m.opset_import.append(helper.make_opsetid("ai.onnx.ml", n)))
        yield with_(f"ir-version-{number}", lambda m, n=number: setattr(m, "ir_version", n))
    yield with_("opset-three", lambda m: m.opset_import.extend([helper.make_opsetid("", 7), helper.make_opsetid("ai.onnx", 21)]))
    lies = {
        "rank": value("a", 1),
        "type": value("a", "batch", 4, 8, 8, kind=7),
        "size": value("a", 9, 9, 9, 9),
        "huge": value("a", 2**62, 2**62),
    }
    for name, info in lies.items():
        yield with_(f"value-info-{name}", lambda m, v=info: m.graph.value_info.append(v))
    yield with_("value-info-negative", lambda m: m.graph.value_info.append(value("a", -5, -1, -(2**62), 8)))
    yield with_("result-type-lies", lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 7))
    yield with_("result-rank-lies", lambda m: m.graph.output[0].type.tensor_type.shape.dim.add(dim_value=3))
    yield with_("result-is-input", lambda m: m.graph.output.append(m.graph.input[0]))
    yield with_("result-is-weight", lambda m: m.graph.output.append(value("conv.w", 4, 3, 3, 3)))
    yield with_("input-shadows-weight", lambda m: m.graph.input.append(value("conv.w", 7, 7)))
    yield with_("input-sequence", lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent())
    yield with_("input-map", lambda m: setattr(m.graph.input[0].type.map_type, "key_type", 7))
    yield with_("input-optional", lambda m: m.graph.input[0].type.optional_type.elem_type.tensor_type.SetInParent())
    yield with_("input-same-symbol", lambda m: [setattr(d, "dim_param", "n") for d in m.graph.input[0].type.tensor_type.shape.dim])
    yield with_("input-batch-zero", lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 0))
    yield with_("input-batch-huge", lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2**40))
    yield with_("input-side-2-20", lambda m: [setattr(m.graph.input[0].type.tensor_type.shape.dim[i], "dim_value", 2**20) for i in (2, 3)])
    annotation = onnx.TensorAnnotation(tensor_name="nowhere")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="nowhere")
    yield with_("quantisation-annotation", lambda m: m.graph.quantization_annotation.append(annotation), "open")
    yield with_("training-info", lambda m: m.training_info.add().algorithm.CopyFrom(m.graph))
    strings = TensorProto(name="t", data_type=8, dims=[2], string_data=[b"\xff\xfe", b"x\0y"])
    text_node = helper.make_node("Identity", ["t"], ["u"])
    yield with_("control-text-weights", lambda m: (m.graph.initializer.append(strings), m.graph.node.append(text_node)), "open")
    for dtype in (2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 200, -1):
        yield with_(f"dtype-{dtype}", lambda m, t=dtype: weight(m, data_type=t))

    def packed(model: onnx.ModelProto) -> None:
        weight(model, data_type=TensorProto.INT8)
        model.graph.initializer[0].ClearField("raw_data")
        model.graph.initializer[0].int32_data.extend([2**31 - 1] * 108)

    yield with_("int32-data-overflows", packed)
    yield with_("dim-2-63", lambda m: weight(m, dims=[2**63 - 1, 2, 1, 1]), "refuse")
    yield with_("dims-wrap-to-right", lambda m: weight(m, dims=[2**32, 2**32, 108, 1]), "refuse")
    both = numpy_helper.from_array(np.ones(4, "float32"), "conv.b")
    yield with_("sparse-twin", lambda m: setattr(m.graph.sparse_initializer.add().values, "name", both.name))


def outside() -> Iterator[BadFile]:
    """More ways of external data to be somebody else's file."""
    yield external("external-checksum", "", "either", checksum="0" * 40)
    yield external("external-unknown-key", "", "either", basepath="/etc")
    yield external("external-dot", location=".")
    yield external("external-dot-slash", "", "either", location="./data.bin")
    yield external("external-double-slash", "", "either", location="sub//data.bin", prepare=_moved)
    yield external("external-newline", location="data.bin\n")
    yield external("external-proc", location="/proc/self/mem")
    yield external("external-tilde", location="~/secret.bin")
    yield external("external-percent", location="%2e%2e/secret.bin")
    yield external("external-long", location="d" * 5000)
    yield external("external-deep", location="/".join(["d"] * 2000))
    yield external("external-offset-odd", "", "refuse", offset="3")
    yield external("external-offset-float", offset="1e3")
    yield external("external-offset-underscore", "", "either", offset="0_0", length="4_3_2")
    yield external("external-offset-digits", offset="9" * 5000)
    yield external("external-offset-arabic", "", "either", offset="\u0660")
    yield external("external-socket", location="sock", prepare=_socket)
    yield external("external-sparse-file", "", "either", offset=str(2**40), length="432", prepare=lambda d: _sparse(d / "data.bin"))
    yield external("external-is-the-model", "", "either", location="net.onnx", offset="0", length="432")
    yield external("external-link-chain", "link", location="a", prepare=_chain)
    yield external("external-link-dangling", location="a", prepare=lambda d: (d / "a").symlink_to("nowhere"))


def _moved(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "data.bin").rename(folder / "sub" / "data.bin")


def _socket(folder: Path) -> None:
    import socket

    here = Path.cwd()
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("sock")
    os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as f:
        f.truncate(2**40 + 432)


def _chain(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to(folder.parent / "secret.bin")


def kinds() -> Iterator[BadFile]:
    """Other formats, whole ones, under the ending."""
    from google.protobuf import text_format

    yield case("kind-onnx-text", text_format.MessageToString(model_of()).encode(), "refuse")
    yield case("kind-onnx-printed", onnx.printer.to_text(model_of()).encode(), "refuse")
    yield case("kind-onnx-json", b'{"irVersion": "8", "graph": {}}', "refuse")
    yield case("kind-ort", b"\x1c\x00\x00\x00ORTM" + bytes(200), "refuse")
    yield case("kind-tflite", b"\x1c\x00\x00\x00TFL3" + bytes(200), "refuse")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    yield case("kind-safetensors", len(header).to_bytes(8, "little") + header + bytes(4), "refuse")
    yield case("kind-npz", a_zip({"w.npy": b"\x93NUMPY\x01\x00"}), "refuse")
    yield case("kind-zip-of-onnx", a_zip({"net.onnx": good()}), "refuse")
    yield case("kind-torch", a_zip({"archive/data.pkl": b"\x80\x02}q\x00.", "archive/version": b"3\n"}), "refuse")
    yield case("kind-tensor", numpy_helper.from_array(np.ones(3, "float32"), "t").SerializeToString(), "refuse")
    yield case("kind-graph", model_of().graph.SerializeToString(), "refuse")
    yield case("kind-bz2", b"BZh91AY&SY" + bytes(300), "refuse")
    yield case("kind-elf", b"\x7fELF\x02\x01\x01" + bytes(300), "refuse")
    yield case("kind-twice", good() + good())
    yield case("kind-after-zeros", bytes(512) + good(), "refuse")
    yield case("kind-before-zeros", good() + bytes(512), "refuse")


def words() -> Iterator[BadFile]:
    """Every case of this module."""
    yield from names()
    yield from declarations()
    yield from outside()
    yield from kinds()
