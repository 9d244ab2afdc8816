"""Bad ONNX files: what tensors and graphs can get wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from badfile import BadFile, from_bytes, other_kinds
from onnx import TensorProto, helper, numpy_helper
from onnx_bombs import more
from onnx_net import changed, good, model_of, value, weight, weights
from onnx_traps import bombs, externals, functions, wires
from onnx_words import words


def tensors() -> Iterator[BadFile]:
    def bad(case: str, says: str = "", verdict: Any = "refuse", **fields: Any) -> BadFile:
        return from_bytes(f"weight-{case}", changed(lambda m: weight(m, **fields)), ".onnx", says, verdict)

    yield bad("huge", dims=[2**20, 2**20, 3, 3])
    yield bad("huge-no-data", dims=[2**40], raw_data=b"")
    yield bad("overflow", dims=[2**32, 2**32, 2**32, 2**32])
    yield bad("negative", dims=[-4, 3, 3, 3])
    yield bad("zero", dims=[0, 3, 3, 3], verdict="refuse")
    yield bad("short", raw_data=bytes(400))
    yield bad("long", raw_data=bytes(444))
    yield bad("odd-bytes", raw_data=bytes(431))
    yield bad("no-data", raw_data=b"")
    yield bad("unknown-type", data_type=99)
    yield bad("no-type", data_type=0)
    yield bad("string-type", data_type=TensorProto.STRING)
    yield bad("int8-type", data_type=TensorProto.INT8)
    yield bad("rank", dims=[108])
    yield bad("many-dims", dims=[1] * 5000 + [108])
    yield bad("channels", dims=[4, 9, 3, 1], says="conv")
    yield bad("renamed", name="other", says="conv.w")
    yield bad("no-name", name="")

    def floats(model: onnx.ModelProto) -> None:
        weight(model, raw_data=b"")
        model.graph.initializer[0].ClearField("raw_data")
        model.graph.initializer[0].float_data.extend([1.0] * 7)

    yield from_bytes("weight-float-data-short", changed(floats), ".onnx")

    def full(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].ClearField("raw_data")
        model.graph.initializer[0].float_data.extend([1.0] * 108)

    yield from_bytes("control-float-data", changed(full), ".onnx", verdict="open")
    yield from_bytes(
        "weight-both-kinds", changed(lambda m: m.graph.initializer[0].float_data.extend([1.0] * 108)), ".onnx", verdict="either"
    )
    yield from_bytes("weight-segment", changed(lambda m: setattr(m.graph.initializer[0].segment, "begin", 5)), ".onnx", verdict="either")

    def sparse(dims: list[int], indices: list[int], count: int) -> bytes:
        model = model_of(held=[w for w in weights() if w.name != "fc.b"])
        entry = model.graph.sparse_initializer.add()
        entry.values.CopyFrom(numpy_helper.from_array(np.ones(count, "float32"), "fc.b"))
        entry.indices.CopyFrom(numpy_helper.from_array(np.asarray(indices, "int64"), "i"))
        entry.dims.extend(dims)
        return model.SerializeToString()

    yield from_bytes("control-sparse", sparse([5], [1, 3], 2), ".onnx", verdict="open")
    yield from_bytes("sparse-huge", sparse([2**45], [1, 3], 2), ".onnx")
    yield from_bytes("sparse-outside", sparse([5], [1, 7], 2), ".onnx")
    yield from_bytes("sparse-negative", sparse([5], [-3, 1], 2), ".onnx")
    yield from_bytes("sparse-count", sparse([5], [1, 2, 3], 2), ".onnx")


def graphs() -> Iterator[BadFile]:
    def bad(name: str, change: Callable[[onnx.ModelProto], Any], says: str = "", verdict: Any = "refuse") -> BadFile:
        return from_bytes(name, changed(change), ".onnx", says, verdict)

    def node(i: int, **fields: Any) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            for key, v in fields.items():
                if isinstance(v, list):
                    del getattr(model.graph.node[i], key)[:]
                    getattr(model.graph.node[i], key).extend(v)
                else:
                    setattr(model.graph.node[i], key, v)

        return change

    def attribute(i: int, **made: Any) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            kept = [a for a in model.graph.node[i].attribute if a.name not in made]
            del model.graph.node[i].attribute[:]
            model.graph.node[i].attribute.extend(kept + [helper.make_attribute(k, v) for k, v in made.items()])

        return change

    yield bad("cycle", node(1, input=["d"]), "cycl|circle|order|before")
    yield bad("node-feeds-itself", node(1, input=["b"]), "cycl|circle|itself|order")
    yield bad("missing-input", node(1, input=["nowhere"]), "nowhere")
    yield bad("output-twice", node(1, output=["a"]), "twice|duplicate|two|more than|already")
    yield bad("output-named-like-input", node(1, output=["image"]), "twice|duplicate|two|image")
    yield bad("output-named-like-weight", node(1, output=["conv.w"]), "twice|duplicate|two|conv.w")
    yield bad("weight-twice", lambda m: m.graph.initializer.append(m.graph.initializer[0]), "twice|duplicate|two|conv.w")
    yield bad("input-twice", lambda m: m.graph.input.append(m.graph.input[0]), "twice|duplicate|two|image")
    yield bad("result-undefined", lambda m: setattr(m.graph.output[0], "name", "nowhere"), "nowhere")
    yield bad("no-results", lambda m: m.graph.ClearField("output"), "output")
    yield bad("no-nodes", lambda m: m.graph.ClearField("node"))
    yield bad("no-graph", lambda m: m.ClearField("graph"), "graph|output|network")
    yield bad("no-inputs", lambda m: m.graph.ClearField("input"), "image")
    yield bad("no-opset", lambda m: m.ClearField("opset_import"), "opset")
    yield bad("opset-999", lambda m: setattr(m.opset_import[0], "version", 999), "opset|999")
    yield bad("opset-negative", lambda m: setattr(m.opset_import[0], "version", -3), "opset|-3")
    yield bad("opset-zero", lambda m: setattr(m.opset_import[0], "version", 0), "opset", "either")
    yield bad("opset-int64", lambda m: setattr(m.opset_import[0], "version", 2**63 - 1), "opset")
    yield bad("opset-twice", lambda m: m.opset_import.append(helper.make_opsetid("", 7)), verdict="either")
    yield bad("ir-version-huge", lambda m: setattr(m, "ir_version", 2**40), verdict="either")
    yield bad("unknown-operator", node(1, op_type="Frobnicate"), "Frobnicate")
    yield bad("unknown-domain", node(1, op_type="Frobnicate", domain="com.example"), "Frobnicate|com.example")
    yield bad("no-operator", node(1, op_type=""))
    yield bad("relu-without-input", node(1, input=[]), "relu")
    yield bad("relu-with-many-inputs", node(1, input=["a"] * 5), "relu")
    yield bad("conv-strides-zero", attribute(0, strides=[0, 0]), "conv|stride")
    yield bad("conv-strides-negative", attribute(0, strides=[-1, -1]), "conv|stride")
    yield bad("conv-strides-text", attribute(0, strides="two"), "conv|stride")
    yield bad("conv-strides-short", attribute(0, strides=[1]), "conv|stride")
    yield bad("conv-kernel-lies", attribute(0, kernel_shape=[5, 5]), "conv|kernel")
    yield bad("conv-group-zero", attribute(0, group=0), "conv|group")
    yield bad("conv-group-huge", attribute(0, group=2**40), "conv|group")
    yield bad("conv-pads-huge", attribute(0, pads=[2**40] * 4), verdict="either")
    yield bad("conv-pads-negative", attribute(0, pads=[-20] * 4))
    yield bad("conv-auto-pad-unknown", attribute(0, auto_pad="SAME_SIDEWAYS"), "conv|auto_pad")
    yield bad("flatten-axis-out", attribute(3, axis=9), "flatten|axis")
    yield bad("gemm-trans-lies", attribute(4, transB=0), "fc|gemm")
    yield bad("attribute-of-graph-type", attribute(1, alpha=model_of().graph), verdict="either")
    yield bad("names-control", node(1, op_type="Frob\x1b[2J\x07nicate", name="evil\x1b]0;x\x07"))
    yield bad("names-bidi", node(1, op_type="Frob\u202enicate", name="\u202e\u2066evil"))
    yield bad("names-long", node(1, op_type="F" * 100_000))
    yield bad("control-names-odd", node(1, name="a/b:0 <script> \u00fc"), verdict="open")
    yield bad("control-no-names", lambda m: [n.ClearField("name") for n in m.graph.node], verdict="open")
    yield bad("control-order", lambda m: m.graph.node.insert(0, m.graph.node.pop(4)), verdict="either")
    yield bad("input-without-type", lambda m: m.graph.input[0].ClearField("type"), "image|type")
    yield bad("input-of-strings", lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 8))
    yield bad("input-type-99", lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99), "image|type")
    yield bad("input-negative-size", lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", -8), verdict="either")
    yield bad("input-huge-size", lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 2**62), verdict="either")
    yield bad("input-channels-lie", lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 5), "conv|image|channel")
    yield bad("result-shape-lies", lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 77), verdict="either")
    yield bad("value-info-lies", lambda m: m.graph.value_info.append(value("b", 1, 99, 99)), verdict="either")

    def meta(key: str, text: str) -> Callable[[onnx.ModelProto], Any]:
        return lambda m: m.metadata_props.add(key=key, value=text)

    yield bad("meta-card-list", meta("niudao.card", "[1,2]"), verdict="either")
    yield bad("meta-card-fields", meta("niudao.card", '{"image": {"mean": "lots", "frob": 1}}'), verdict="either")
    yield bad("meta-card-numbers", meta("niudao.card", '{"image": {"mean": [1e999], "scale": {}, "range": [1]}}'), verdict="either")
    yield bad("meta-card-deep", meta("niudao.card", "[" * 50_000), verdict="either")
    yield bad("meta-classes-number", meta("niudao.classes", "7"), verdict="either")
    yield bad("meta-source-text", meta("niudao.source", '"onnx"'), verdict="either")
    yield bad("meta-twice", lambda m: [m.metadata_props.add(key="a", value=v) for v in "bc"], verdict="either")
    for text in ("[0, 0, 0, 0]", "[9]", '"NHWC"', "[0, 3, 1, 2.5]", "[[0]]", "[0,3,1,1e99]"):
        yield bad(
            f"meta-layout-{text}", lambda m, t=text: m.graph.input[0].metadata_props.add(key="niudao.layout", value=t), verdict="either"
        )


def controls() -> Iterator[BadFile]:
    yield from_bytes("control-plain", good(), ".onnx", verdict="open")
    yield from_bytes("control-no-ending", good(), "", verdict="open")
    yield from_bytes("control-opset-9", model_of(opset=9).SerializeToString(), ".onnx", verdict="open")
    yield from_bytes("control-opset-22", model_of(opset=22).SerializeToString(), ".onnx", verdict="open")
    as_inputs = model_of(inputs=[value("image", 1, 3, 8, 8), *(value(w.name, *w.dims) for w in weights())])
    as_inputs.ir_version = 3
    yield from_bytes("control-weights-as-inputs", as_inputs.SerializeToString(), ".onnx", verdict="open")
    then = helper.make_graph([helper.make_node("Relu", ["image"], ["t"])], "then", [], [value("t", "batch", 3, 8, 8)])
    other = helper.make_graph([helper.make_node("Neg", ["image"], ["e"])], "else", [], [value("e", "batch", 3, 8, 8)])
    branches = model_of(
        [helper.make_node("If", ["c"], ["scores"], then_branch=then, else_branch=other, name="if")],
        [],
        inputs=[value("image", "batch", 3, 8, 8), value("c", kind=TensorProto.BOOL)],
        outputs=[value("scores", "batch", 3, 8, 8)],
    )
    yield from_bytes("control-if", branches.SerializeToString(), ".onnx", verdict="open")


def cases() -> Iterator[BadFile]:
    """Every bad ONNX file, with the unbroken ones among them."""
    yield from controls()
    yield from other_kinds(".onnx", good())
    yield from tensors()
    yield from graphs()
    yield from externals()
    yield from functions()
    yield from bombs()
    yield from wires()
    yield from more()
    yield from words()
