"""Sliding windows whose attributes contradict each other or the weights: ONNX's shape rule lets them pass, runtimes do not."""

from __future__ import annotations

import onnx_ir as ir

from niudao.errors import ReadError, Where
from niudao.ir import card

_KERNEL = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "DeformConv": 1, "QLinearConv": 3}
"""Operator -> which input is the kernel, (out, in, spatial...) or (in, out, spatial...)."""
_AUTO_PAD = ("", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def check_windows(model: ir.Model, where: Where) -> None:
    """Kernels are of the size that the node says, and padding modes exist.

    Raises:
        ReadError: They are not.
    """
    for node in model.graph.all_nodes():
        if node.domain != "":
            continue
        auto_pad = node.attributes.get("auto_pad")
        if auto_pad is not None and not auto_pad.is_ref() and auto_pad.value not in _AUTO_PAD:
            got, expected = repr(auto_pad.value)[:60], ", ".join(_AUTO_PAD[1:])
            raise ReadError(f"a {node.op_type} node has no auto_pad that ONNX knows.", where=_at(node, where), expected=expected, got=got)
        size, i = node.attributes.get("kernel_shape"), _KERNEL.get(node.op_type, 0)
        kernel = node.inputs[i] if 0 < i < len(node.inputs) else None
        if size is None or size.is_ref() or kernel is None or kernel.shape is None:
            continue
        held, said = list(kernel.shape)[2:], list(size.as_ints())
        if len(held) != len(said) or any(isinstance(h, int) and h != s for h, s in zip(held, said, strict=True)):
            raise ReadError(
                f"the kernel of a {node.op_type} node is not of the size that its kernel_shape says.",
                where=_at(node, where),
                expected=str(said)[:60],
                got=str(held)[:60],
            )


def _at(node: ir.Node, where: Where) -> Where:
    return Where(file=where.file, node=card.layer_of(node))
