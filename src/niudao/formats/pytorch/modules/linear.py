"""Matrix products."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.layers.linear import Gemm, MatMul
from niudao.formats.pytorch.modules.table import converts
from niudao.ir.operators import dims, is_weight


@converts("Gemm")
def gemm(c: Call) -> Any:
    """`alpha A' B' + beta C`: nn.Linear where that is what it computes."""
    alpha, beta, a_turned, b_turned = (c.attr(n) for n in ("alpha", "beta", "transA", "transB"))
    weight, bias = c.dims(1), c.dims(2)
    if alpha == 1 and (beta == 1 or bias is None) and not a_turned and weight is not None and None not in weight:
        outputs, inputs = weight if b_turned else reversed(weight)
        if bias is None or bias == [outputs]:
            own: Any = 1 if b_turned else (1, torch.t)
            layer = c.weighted(lambda: nn.Linear(inputs, outputs, bias=bias is not None), {"weight": own, "bias": 2}, c.x(0))
            if layer is not None:
                return layer
    layer = Gemm(alpha, beta, bool(a_turned), bool(b_turned))
    return c.module(layer, c.x(0), c.x(1), *([c.x(2)] if c.has(2) else []))


@converts("MatMul")
def matmul(c: Call) -> Any:
    """nn.Linear where the second matrix is a weight and may lie as torch lays it, with the bias that is added to it."""
    weight = c.dims(1)
    if c.is_weight(1) and weight is not None and len(weight) == 2 and c.rank(0) not in (None, 1) and c.building.names == "torch":
        inputs, outputs = weight
        bias, add = _bias(c, outputs)
        own: Any = {"weight": (1, torch.t)} | ({"bias": bias} if bias is not None else {})
        layer = c.weighted(lambda: nn.Linear(inputs, outputs, bias=bias is not None), own, c.x(0))
        if layer is not None:
            if add is not None:
                c.building.absorb(add, layer)
            return layer
    if c.is_weight(0) or c.is_weight(1):
        return c.module(MatMul(), c.x(0), c.x(1))
    return c.call(torch.matmul, c.x(0), c.x(1))


def _bias(c: Call, outputs: int | None) -> tuple[ir.Value | None, ir.Node | None]:
    """The weight that the only user of a product adds to it, and that user."""
    product = c.node.outputs[0]
    uses = list(product.uses())
    if len(uses) != 1 or product.is_graph_output() or uses[0].node.op_type != "Add" or uses[0].node.domain not in ("", "ai.onnx"):
        return None, None
    add = uses[0].node
    other = add.inputs[1 - uses[0].idx]
    if other is None or not is_weight(other) or dims(other) != [outputs] or c.building.weights.owned(other) or len(list(other.uses())) != 1:
        return None, None
    return other, add


@converts("Einsum")
def einsum(c: Call) -> Any:
    return c.call(torch.einsum, c.attr("equation").replace(" ", ""), *c.xs())


@converts("Det")
def determinant(c: Call) -> Any:
    return c.call(torch.linalg.det, c.x(0))
