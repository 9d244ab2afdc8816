"""What ONNX Runtime says of a network, beside what the same network says as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from niudao.formats.pytorch import to_module
from niudao.ir.build import Builder

Array = np.ndarray[Any, Any]
Make = Callable[[Builder, Sequence[ir.Value]], Sequence[ir.Value]]


def values(*shape: int, seed: int = 0) -> Array:
    """Numbers around zero that are all different."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def build(arrays: Sequence[Array], make: Make, free: bool = False) -> ir.Model:
    """A model of what `make` does with inputs like these arrays; `free` leaves their sizes open."""
    b = Builder("judged")
    inputs = []
    for i, a in enumerate(arrays):
        sizes = [f"x{i}_{k}" if free else n for k, n in enumerate(a.shape)]
        inputs.append(b.input(f"x{i}", sizes, ir.DataType.from_numpy(a.dtype)))
    for i, y in enumerate(make(b, inputs)):
        b.output(y, f"y{i}")
    return b.model()


def runtime(model: ir.Model, arrays: Sequence[Array]) -> list[Array]:
    """ONNX Runtime's answer, without its optimiser; operators of regions at opset 21, the last that it runs and the same but for types."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    proto = ir.to_proto(model)
    if any(n.op_type in ("RoiAlign", "MaxRoiPool") for n in proto.graph.node):
        proto.opset_import[0].version = 21
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, {v.name: a for v, a in zip(model.graph.inputs, arrays, strict=True)})]


def torch_answer(model: ir.Model, arrays: Sequence[Array]) -> list[Array]:
    """The same model's answer as a torch module."""
    with torch.no_grad():
        made = to_module(model)(*(torch.from_numpy(np.array(a)) for a in arrays))
    return [t.numpy() for t in (made if isinstance(made, tuple) else (made,))]


def differ(got: Sequence[Array], want: Sequence[Array], tolerance: float = 1e-5) -> str:
    """What is wrong with an answer, in words; empty where nothing is."""
    if len(got) != len(want):
        return f"{len(got)} outputs, not {len(want)}"
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        if g.shape != w.shape or g.dtype != w.dtype:
            return f"output {i} is {g.dtype} {g.shape}, not {w.dtype} {w.shape}"
        scale = max(1.0, float(np.abs(w[np.isfinite(w)]).max(initial=0))) if w.dtype.kind == "f" else 1.0
        if not np.allclose(g.astype("f8"), w.astype("f8"), rtol=0, atol=tolerance * scale, equal_nan=True):
            return f"output {i} differs by {np.abs(g.astype('f8') - w.astype('f8')).max()}"
    return ""


def judge(arrays: Sequence[Array], make: Make, *, free: bool = False, tolerance: float = 1e-5) -> None:
    """Fail where the torch module and ONNX Runtime disagree."""
    model = build(arrays, make, free)
    wrong = differ(torch_answer(model, arrays), runtime(model, arrays), tolerance)
    assert not wrong, wrong


def operator(op: str, *more: Any, outputs: int = 1, shown: Sequence[int] | None = None, **attributes: Any) -> Make:
    """One node on the inputs and some constants (None: left out); `shown` picks outputs."""

    def make(b: Builder, inputs: Sequence[ir.Value]) -> Sequence[ir.Value]:
        held = [None if m is None else b.weight(np.asarray(m), f"c{i}") for i, m in enumerate(more)]
        made = b.ops(op, *inputs, *held, outputs=outputs, **attributes)
        return made if shown is None else [made[i] for i in shown]

    return make
