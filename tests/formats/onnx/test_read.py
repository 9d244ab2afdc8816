"""Broken, hostile and odd files: one sentence each, and right files keep what they hold."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from niudao.errors import LimitError, NiudaoError, ReadError, UsageError
from niudao.formats.onnx import checks
from niudao.formats.onnx.read import read
from niudao.ir import card, wire
from niudao.ir.session import Session, run

F = np.float32
RNG = np.random.default_rng(1)
DATA = Path(os.environ.get("NIUDAO_TEST_DATA", Path(__file__).parents[3].parent / "shared" / "data")) / "frameworks"


def info(name: str, *shape: Any, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def net(nodes: list[Any], weights: list[Any] = (), inputs: Any = None, outputs: Any = None, **options: Any) -> onnx.ModelProto:  # type: ignore[assignment]
    graph = helper.make_graph(nodes, "g", inputs or [info("x", "N", 4)], outputs or [info("y", "N", None)], list(weights))
    options.setdefault("opset_imports", [helper.make_opsetid("", 13)])
    options.setdefault("ir_version", 7)
    return helper.make_model(graph, **options)


W = RNG.standard_normal((4, 5000)).astype(F)
MATMUL = [helper.make_node("MatMul", ["x", "w"], ["y"], name="n")]
X = RNG.standard_normal((2, 4)).astype(F)


def saved(tmp_path: Path, proto: onnx.ModelProto) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def fault(source: Any, match: str | None, kind: type[NiudaoError] = ReadError, **options: Any) -> NiudaoError:
    with pytest.raises(kind, match=match) as e:
        read(source, **options)
    return e.value


def test_big_weights_stay_in_their_file(tmp_path: Path) -> None:
    path = saved(tmp_path, net(MATMUL, [numpy_helper.from_array(W, "w")]))
    model = read(path)
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    assert path.read_bytes()[tensor.offset : tensor.offset + tensor.length] == W.tobytes()  # type: ignore[operator, misc]
    np.testing.assert_array_equal(tensor.numpy(), W)
    np.testing.assert_allclose(run(model, X)["y"], X @ W, rtol=1e-5, atol=1e-5)


def test_packed_floats_are_mapped_too(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=1, dims=W.shape, float_data=W.reshape(-1))
    model = read(saved(tmp_path, net(MATMUL, [weight])))
    assert isinstance(model.graph.initializers["w"].const_value, ir.ExternalTensor)
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), W)


def test_a_large_file_is_read_without_its_weights(tmp_path: Path) -> None:
    side = np.zeros((4096, 4096), F)
    path = saved(
        tmp_path, net([helper.make_node("MatMul", ["x", "w"], ["y"])], [numpy_helper.from_array(side, "w")], [info("x", "N", 4096)])
    )
    code = (
        "import re, sys; from pathlib import Path; from niudao.formats.onnx.read import read; "
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]); "
        "a = peak(); read(Path(sys.argv[1])); print(peak() - a)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from /proc, which is not here")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 32 << 10  # kB, of a file of 64 MiB


def test_external_data(tmp_path: Path) -> None:
    proto = net(MATMUL, [numpy_helper.from_array(W, "w")])
    onnx.save_model(proto, str(tmp_path / "net.onnx"), save_as_external_data=True, location="net.bin", size_threshold=0)
    model = read(tmp_path / "net.onnx")
    np.testing.assert_allclose(run(model, X)["y"], X @ W, rtol=1e-5, atol=1e-5)
    fault((tmp_path / "net.onnx").read_bytes(), "another file")
    whole = (tmp_path / "net.bin").read_bytes()
    (tmp_path / "net.bin").write_bytes(whole[:-4])
    fault(tmp_path / "net.onnx", "too short")
    (tmp_path / "net.bin").unlink()
    fault(tmp_path / "net.onnx", "missing")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "", "a\\b"])
def test_external_data_stays_in_its_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(W.tobytes())
    weight = TensorProto(name="w", data_type=1, dims=W.shape, data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    (tmp_path / "in").mkdir()
    fault(saved(tmp_path / "in", net(MATMUL, [weight])), "outside its folder")


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (TensorProto(name="w", data_type=1, dims=[4, 5], raw_data=b"\0" * 79), "does not hold"),
        (TensorProto(name="w", data_type=1, dims=[4, 5], float_data=[0.0] * 19), "does not hold"),
        (TensorProto(name="w", data_type=1, dims=[1 << 40, 1 << 40], raw_data=b"\0" * 8), "does not hold"),
        (TensorProto(name="w", data_type=1, dims=[1 << 32, 1 << 32], raw_data=b""), "does not hold"),
        (TensorProto(name="w", data_type=1, dims=[-4, -5], raw_data=b"\0" * 80), "impossible shape"),
        (TensorProto(name="w", data_type=77, dims=[4, 5], raw_data=b"\0" * 80), "no type"),
        (TensorProto(name="w", dims=[4, 5]), "no type"),
    ],
)
def test_tensors_that_lie(weight: TensorProto, match: str) -> None:
    error = fault(net(MATMUL, [weight]), match)
    assert "'w'" in str(error.where)


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([helper.make_node("Relu", ["z"], ["y"], name="n")], "nothing makes"),
        ([helper.make_node("Relu", ["x"], ["q"], name="n")], "made by no node"),
        ([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["x"], ["y"])], "two things"),
        (
            [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["a"], ["y"])],
            "circle",
        ),
        ([helper.make_node("MatMul", ["x", "x"], ["t"]), helper.make_node("Conv", ["t", "x"], ["y"], name="n")], "Conv does not accept"),
    ],
)
def test_graphs_that_make_no_sense(nodes: list[Any], match: str) -> None:
    fault(net(nodes), match)


def test_nodes_out_of_order_are_sorted() -> None:
    proto = net([helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])], outputs=[info("y", "N", 4)])
    np.testing.assert_array_equal(run(read(proto), X)["y"], -np.maximum(X, 0))


def test_functions_that_never_end_or_explode() -> None:
    def function(name: str, *calls: str) -> Any:
        nodes = [helper.make_node(c, [f"v{i}"], [f"v{i + 1}"], domain="d") for i, c in enumerate(calls)]
        return helper.make_function(
            "d", name, ["v0"], [f"v{len(calls)}"], nodes, [helper.make_opsetid("", 13), helper.make_opsetid("d", 1)]
        )

    def proto(*functions: Any) -> onnx.ModelProto:
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid("d", 1)]
        return net([helper.make_node("f0", ["x"], ["y"], domain="d")], opset_imports=opsets, functions=list(functions), ir_version=8)

    fault(proto(function("f0", "f1"), function("f1", "f0")), "calls itself")
    bomb = [function(f"f{i}", *[f"f{i + 1}"] * 10) for i in range(8)]
    leaf = helper.make_function("d", "f8", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 13)])
    fault(proto(*bomb, leaf), "more nodes", LimitError)


def block(number: int, body: bytes) -> bytes:
    return wire.varint(number << 3 | 2) + wire.varint(len(body)) + body


def test_deep_nesting_and_floods_of_nodes() -> None:
    graph = b""
    for _ in range(200):  # node: input, output, op_type, attribute {name, g}
        node = block(1, b"x") + block(2, b"y") + block(4, b"If") + block(5, block(1, b"then_branch") + block(6, graph))
        graph = block(1, node)
    fault(b"\x08\x07" + block(7, graph), "nests deeper", LimitError)
    fault(b"\x08\x07" + block(7, block(1, b"") * 200_001), "more nodes", LimitError)


def test_sparse_weights_are_made_dense_within_bounds() -> None:
    def sparse(dims: list[int]) -> Any:
        values = numpy_helper.from_array(np.array([1, 2], F), "w")
        return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([[0, 1], [3, 2]])), dims)

    proto = net(MATMUL)
    proto.graph.sparse_initializer.append(sparse([4, 3]))
    dense = np.zeros((4, 3), F)
    dense[0, 1], dense[3, 2] = 1, 2
    np.testing.assert_allclose(run(read(proto), X)["y"], X @ dense, rtol=1e-6)
    proto.graph.sparse_initializer[0].CopyFrom(sparse([4, 1 << 40]))
    fault(proto, "memory budget", LimitError)
    proto.graph.sparse_initializer[0].CopyFrom(sparse([2, 3]))
    fault(proto, "leave its shape")


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html></html>", b"\x08\x07", b"\0" * 100, os.urandom(7) + b"\xff" * 100, b"\x08\x07\x3a\xff\xff\xff\x7f"],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    error = fault(path, None)
    assert error.where.file == str(path)


def test_every_cut_and_many_flips_give_one_error(tmp_path: Path) -> None:
    proto = net(
        [*MATMUL[:1], helper.make_node("Softmax", ["y"], ["z"], axis=1)],
        [numpy_helper.from_array(W[:, :3], "w")],
        outputs=[info("z", "N", 3)],
    )
    data = proto.SerializeToString()
    rnd = random.Random(0)
    broken = [data[:i] for i in range(0, len(data), 3)]
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rnd.randrange(len(data))] ^= 1 << rnd.randrange(8)
        broken.append(bytes(flipped))
    path = tmp_path / "net.onnx"
    for content in broken:
        path.write_bytes(content)
        try:
            read(path)
        except NiudaoError as e:
            assert e.where.file == str(path)


def test_opsets_beyond_what_is_known() -> None:
    fault(net(MATMUL, [numpy_helper.from_array(W, "w")], opset_imports=[helper.make_opsetid("", 29)]), "opset")


def test_weights_that_are_inputs_are_weights() -> None:
    for version in (3, 7):
        proto = net(MATMUL, [numpy_helper.from_array(W, "w")], [info("x", "N", 4), info("w", 4, 5000)], ir_version=version)
        proto.opset_import[0].version = 8
        model = read(proto)
        assert [v.name for v in model.graph.inputs] == ["x"]
        assert ("notes" in card.get_source(model)) == (version == 7)


def test_shapes_close_what_is_open() -> None:
    proto = net([helper.make_node("Flatten", ["x"], ["y"])], inputs=[info("x", "N", 3, None, None)])
    assert [str(d) for d in read(proto).graph.inputs[0].shape or ()] == ["N", "3", "x_2", "x_3"]
    model = read(proto, shapes={"x": (2, 3, 4, 5)})
    assert list(model.graph.outputs[0].shape or ()) == [2, 60]
    fault(proto, "cannot have the shape", UsageError, shapes={"x": (2, 4, 4, 5)})
    fault(proto, "no input", UsageError, shapes={"data": (1,)})


def test_what_we_know_of_a_network_comes_back() -> None:
    proto = net(MATMUL, [numpy_helper.from_array(W, "w")], producer_name="pytorch", producer_version="1.0")
    proto.metadata_props.add(key=card.CLASSES, value=json.dumps(["cat", "dog"]))
    proto.metadata_props.add(key=card.SOURCE, value=json.dumps({"format": "keras", "version": "2.2.4"}))
    proto.metadata_props.add(key="author", value="someone")
    model = read(proto)
    assert card.get_classes(model) == ["cat", "dog"]
    source = card.get_source(model)
    assert source["format"] == "onnx"
    assert source["from"]["format"] == "keras"
    assert source["producer"] == "pytorch 1.0"
    assert model.metadata_props["author"] == "someone"


def test_every_value_is_typed_and_shaped_and_every_node_named() -> None:
    model = read(net([helper.make_node("Relu", ["x"], ["a/b:0"]), helper.make_node("Neg", ["a/b:0"], ["y"])], outputs=[info("y", "N", 4)]))
    assert [n.name for n in model.graph] == ["a/b:0", "y"]
    for node in model.graph:
        assert [str(d) for d in node.outputs[0].shape or ()] == ["N", "4"]


def test_bits_of_small_types_are_counted() -> None:
    checks.check_tensor(TensorProto(name="w", data_type=TensorProto.INT4, dims=[3], raw_data=b"\0\0"), checks.Where(), checks.Place())
    with pytest.raises(ReadError):
        checks.check_tensor(TensorProto(name="w", data_type=TensorProto.INT4, dims=[3], raw_data=b"\0"), checks.Where(), checks.Place())


OLD = sorted(DATA.glob("onnx-old/*/model.onnx"))


@pytest.mark.skipif(not OLD, reason="the old exporters' files are not here (NIUDAO_TEST_DATA)")
@pytest.mark.parametrize("path", OLD, ids=lambda p: p.parent.name)
def test_files_of_old_exporters_run_without_optimisation(path: Path) -> None:
    model = read(path)
    feeds = {}
    for value in model.graph.inputs:
        shape = [d if isinstance(d, int) else 1 for d in value.shape or ()]
        feeds[value.name or ""] = np.zeros(shape, value.dtype.numpy() if value.dtype else F)
    with Session(model, optimize=False) as session:
        assert all(np.isfinite(v).all() for v in session(feeds).values())


REPAIRED = [
    "pytorch-1.0.1/alexnet",
    "pytorch-1.0.1/googlenet_lrn",
    "pytorch-1.0.1/lstm",
    "mxnet-1.4.1/gluon_resnet50_v1_narrow",
    "mxnet-1.4.1/vgg",
]


@pytest.mark.parametrize("name", REPAIRED)
def test_files_that_no_runtime_takes_give_what_their_framework_gave(name: str) -> None:
    folder = DATA / name
    if not (folder / "model.onnx").exists():
        pytest.skip("the exporters' files are not here (NIUDAO_TEST_DATA)")
    given, want = (dict(np.load(folder / f"{kind}.npz")) for kind in ("input", "output"))
    model = read(folder / "model.onnx")
    feeds = dict(zip((v.name or "" for v in model.graph.inputs), given.values(), strict=True))
    with Session(model, optimize=False) as session:
        got = next(iter(session(feeds).values()))
    np.testing.assert_allclose(got, next(iter(want.values())), atol=1e-4)


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_model_file_may_have_a_second_name(tmp_path: Path, link: str) -> None:
    path = saved(tmp_path, net(MATMUL, [numpy_helper.from_array(W, "w")]))
    (tmp_path / "hub").mkdir()
    other = tmp_path / "hub" / "model.onnx"
    getattr(other, link)(path)
    np.testing.assert_allclose(run(read(other), X)["y"], X @ W, rtol=1e-5, atol=1e-5)


def test_attributes_of_the_first_files_have_no_type() -> None:
    proto = net([helper.make_node("Flatten", ["x"], ["y"], axis=2)], inputs=[info("x", 1, 2, 3, 4)], ir_version=1)
    proto.graph.node[0].attribute[0].ClearField("type")
    del proto.opset_import[:]
    assert list(read(proto).graph.outputs[0].shape or ()) == [2, 12]
