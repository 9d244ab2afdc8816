"""Models of single operators, written to Caffe and judged: ONNX Runtime on what our reader makes of the files, and real Caffe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import niudao as nd
from niudao.errors import Unsupported
from niudao.formats import oracles
from niudao.formats.caffe.read import read
from niudao.formats.caffe.write import write
from niudao.ir.session import run


class Graph:
    """An ONNX model under construction; inputs have a free batch, which is 3 when it runs, or a fixed one."""

    def __init__(self, seed: int, free: bool | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.free = bool(self.rng.random() < 0.7) if free is None else free
        self.batch = 3 if self.free else int(self.rng.integers(1, 4))
        self.nodes: list[onnx.NodeProto] = []
        self.feeds: dict[str, np.ndarray] = {}
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[str] = []

    def sizes(self, rank: int | None = None) -> list[int]:
        """Sizes of every axis but the batch."""
        return [int(d) for d in self.rng.integers(1, 6, size=(rank or int(self.rng.integers(2, 6))) - 1)]

    def draw(self, shape: list[int], positive: bool = False) -> np.ndarray:
        a = self.rng.standard_normal(shape).astype("f4")
        return np.abs(a) + np.float32(0.1) if positive else a

    def x(self, sizes: list[int], positive: bool = False, whole: bool = False) -> str:
        name, a = f"x{len(self.feeds)}", self.draw([self.batch, *sizes], positive)
        self.feeds[name] = np.round(a * 1.5) if whole else a
        return name

    def c(self, value: Any, dtype: str = "f4") -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def ints(self, *value: int) -> str:
        return self.c(list(value), "i8")

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        made = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, made, name=f"{kind.lower()}{len(self.nodes)}", **attributes))
        return made if outputs > 1 else made[0]

    def number(self, truth: str) -> str:
        return str(self.op("Cast", truth, to=TensorProto.FLOAT))

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def proto(self) -> onnx.ModelProto:
        first: Any = "batch" if self.free else self.batch
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [first, *a.shape[1:]]) for n, a in self.feeds.items()]
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in self.outputs]
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def judged(graph: Graph, folder: Path, fork: str = "") -> str:
    """Write, read back, compare with ONNX Runtime on the original; the prototxt's text."""
    proto = graph.proto()
    onnx.save(proto, folder / "model.onnx")
    want = _by_runtime(proto, graph.feeds)
    write(nd.read(folder / "model.onnx"), folder / "net.prototxt", fork=fork)
    got = run(read(folder / "net.prototxt"), graph.feeds)
    assert len(got) == len(want)
    for a, b in zip(got.values(), want.values(), strict=True):
        _equal(a, b)
    return (folder / "net.prototxt").read_text()


def by_caffe(graph: Graph, folder: Path) -> None:
    """Write, run in real Caffe at a batch of three, compare with ONNX Runtime on the original."""
    oracle = oracles.find("caffe")
    if oracle is None:
        pytest.skip("real Caffe is not set up: niudao oracle setup caffe")
    proto = graph.proto()
    onnx.save(proto, folder / "model.onnx")
    write(nd.read(folder / "model.onnx"), folder / "net.prototxt")
    got = oracles.run(oracle, "caffe", folder / "net.prototxt", graph.feeds, weights=folder / "net.caffemodel")
    for name, b in _by_runtime(proto, graph.feeds).items():
        _equal(got[name], b)


def refused(graph: Graph, folder: Path) -> str:
    """Why Caffe cannot have it."""
    onnx.save(graph.proto(), folder / "model.onnx")
    with pytest.raises(Unsupported) as e:
        write(nd.read(folder / "model.onnx"), folder / "net.prototxt")
    assert not os.path.exists(folder / "net.prototxt")
    return "; ".join(r.reason for r in e.value.refusals)


def layers(text: str) -> list[str]:
    """Types of the layers of a prototxt, the inputs left out."""
    found = [line.split('"')[1] for line in text.splitlines() if line.strip().startswith("type:")]
    return [t for t in found if t != "Input"]


def _by_runtime(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in proto.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


def _equal(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0))))
