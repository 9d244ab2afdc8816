"""Recognise what exporters spelt out: chains of small operators that are one operator of ONNX."""

from __future__ import annotations

import onnx_ir as ir

from niudao.ir.operators import attribute, dims, is_weight
from niudao.ir.passes import PASSES, Result, raise_activations, raise_lrn, raise_norms, raise_windows
from niudao.ir.passes.chain import Match, Rule, Rules, made_by, one
from niudao.ir.passes.edit import sole_user
from niudao.ir.passes.proving import Tally, apply


@PASSES.register("raise_idioms")
def raise_idioms(model: ir.Model) -> Result:
    """Raise MatMul + Add to Gemm, and spelt-out activations, normalisations and global pools to the operators they are.

    Requires: types and shapes on every value, constants folded.
    Ensures: results differ by rounding only, which ONNX Runtime proved for each; inner values that somebody else uses keep
        being computed.
    """
    tally = Tally()
    sweep(model, tally)
    return tally.result()


def sweep(model: ir.Model, tally: Tally) -> bool:
    """One sweep of `raise_idioms`, told to a tally; whether anything was raised."""
    first = apply(model, RULES, tally)
    return apply(model, raise_windows.RULES, tally) or first  # after the normalisations, whose means look like pools


def _gemm(node: ir.Node) -> Match | None:
    """MatMul of a matrix by a constant matrix, then Add of a constant row."""
    product = next((m for v in node.inputs if (m := made_by(v, "MatMul")) is not None), None)
    if product is None or sole_user(product.outputs[0]) is not node:
        return None
    bias = next((v for v in node.inputs if v is not product.outputs[0]), None)
    x, w = product.inputs
    columns = dims(w)
    row = dims(bias)
    if not is_weight(bias) or not is_weight(w) or columns is None or len(columns) != 2 or len(dims(x) or ()) != 2 or row is None:
        return None
    if (
        bias is None
        or bias.const_value is None
        or bias.const_value.size != columns[1]
        or len(row) > 2
        or node.outputs[0].dtype != ir.DataType.FLOAT
    ):
        return None
    return one("Gemm", (x, w, bias), node)


def channel_shuffle(node: ir.Node) -> int | None:
    """The number of groups, if Reshape -> Transpose -> Reshape ending in `node` deals channels out like cards; else None."""
    swap = made_by(node.inputs[0], "Transpose") if node.op_type == "Reshape" and node.domain == "" else None
    first = made_by(swap.inputs[0], "Reshape") if swap is not None else None
    if swap is None or first is None:
        return None
    middle, before, after = dims(first.outputs[0]), dims(first.inputs[0]), dims(node.outputs[0])
    if middle is None or before is None or len(middle) != len(before) + 1 or before != after or middle[3:] != before[2:]:
        return None
    return middle[1] if attribute(swap, "perm") == [0, 2, 1, *range(3, len(middle))] else None


def _merged(*tables: Rules) -> Rules:
    """Several tables as one; of rules for one operator those of the first table are tried first."""
    merged: dict[str, list[Rule]] = {}
    for table in tables:
        for op, rules in table.items():
            merged.setdefault(op, []).extend(rules)
    return merged


RULES = _merged({"Add": (_gemm,)}, raise_activations.RULES, raise_lrn.RULES, raise_norms.RULES)
