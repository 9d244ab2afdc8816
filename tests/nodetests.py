"""ONNX's own node tests that say something about float networks, as cases with inputs and published outputs.

"plain": every input and output a tensor of float32, int32, int64 or bool, at least one of them float32; the default domain; no
training, random numbers, control flow or sequences; without the twins that unfold a function. "vision": plain ones whose
operators all are among those that vision networks use. Any opset: each test carries the newest of its operator.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

Array = np.ndarray[Any, Any]

PLAIN = {TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
OUT = {"Bernoulli", "RandomNormalLike", "RandomUniformLike", "Loop", "Scan", "If"}
VISION = frozenset(
    """Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool MaxUnpool BatchNormalization InstanceNormalization
    GroupNormalization LayerNormalization LRN LpNormalization MeanVarianceNormalization Relu LeakyRelu PRelu Elu Selu Celu Sigmoid Tanh
    HardSigmoid HardSwish Softplus Softsign Mish Gelu ThresholdedRelu Clip Erf Softmax LogSoftmax Gemm MatMul Einsum Add Sub Mul Div Pow
    Sqrt Exp Log Abs Neg Floor Ceil Round Min Max Mean Sum Where Concat Split Slice Pad Resize Upsample GridSample RoiAlign
    NonMaxSuppression Transpose Reshape Flatten Squeeze Unsqueeze Expand Tile Shape Cast Constant ConstantOfShape Identity Dropout
    DepthToSpace SpaceToDepth Gather GatherND GatherElements ScatterND ScatterElements TopK CumSum ReduceMean ReduceSum ReduceMax
    ReduceMin ReduceL1 ReduceL2 ArgMax ArgMin""".split()
)
COUNTS = {"plain": 870, "vision": 514}
"""How many there are in onnx 1.23."""


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        name: As onnx calls it.
        model: The network, of one operator as a rule.
        inputs: Arrays, in the order of the graph's inputs.
        outputs: What is published; fewer than the network gives, where the rest is optional.
        rtol: The test's own tolerance; `atol` likewise.
        vision: Whether its operators are those of vision networks.
    """

    name: str
    model: onnx.ModelProto
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    rtol: float
    atol: float
    vision: bool

    @property
    def operators(self) -> str:
        return "+".join(sorted({n.op_type for n in self.model.graph.node}))

    def right(self, got: Sequence[Array]) -> bool:
        """Whether outputs agree: in number, shape and, within the test's tolerance, value."""
        return len(got) >= len(self.outputs) and self.agree(got)

    def agree(self, got: Sequence[Array]) -> bool:
        """Whether as many outputs as there are agree in shape and value."""
        for a, b in zip(got, self.outputs, strict=False):
            a = np.asarray(a)
            if a.shape != b.shape:
                return False
            if not np.allclose(a.astype("f8"), b.astype("f8"), rtol=max(self.rtol, 1e-3), atol=max(self.atol, 1e-6), equal_nan=True):
                return False
        return True


def cases() -> Iterator[Case]:
    """Every plain test, in onnx's order."""
    os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind="node"):
        model = case.model
        if model is None or not case.data_sets or "_expanded" in case.name or "training" in case.name:
            continue
        nodes, values = model.graph.node, [*model.graph.input, *model.graph.output]
        if any(n.domain not in ("", "ai.onnx") or n.op_type in OUT for n in nodes):
            continue
        if any(v.type.WhichOneof("value") != "tensor_type" for v in values):
            continue
        types = {v.type.tensor_type.elem_type for v in values}
        if types <= PLAIN and TensorProto.FLOAT in types:
            inputs, outputs = case.data_sets[0]
            vision = {n.op_type for n in nodes} <= VISION
            yield Case(case.name, model, _arrays(inputs), _arrays(outputs), case.rtol, case.atol, vision)


def _arrays(values: Sequence[Any]) -> tuple[Array, ...]:
    return tuple(numpy_helper.to_array(v) if isinstance(v, TensorProto) else np.asarray(v) for v in values)
