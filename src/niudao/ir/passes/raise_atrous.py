"""Dilated convolutions that TensorFlow 1 spelt out: the pixels dealt into the batch, a plain convolution, the pixels dealt back.

    SpaceToBatch(block b) -> Conv (stride 1, no padding) -> BatchToSpace(block b)   is   Conv with dilation b

Exporters write SpaceToBatch as SpaceToDepth on an image whose batch and channels are swapped, hence the Transposes.
Reference: L.-C. Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", 2014.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from niudao.ir.operators import attribute, is_weight
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import Edit, graphs, sole_user
from niudao.ir.passes.remove_dead import remove_dead

_SWAP = (1, 0, 2, 3)


@PASSES.register("raise_atrous")
def raise_atrous(model: ir.Model) -> Result:
    """Raise Transpose, SpaceToDepth, Transpose, Conv, Transpose, DepthToSpace, Transpose to one dilated Conv.

    The outer Transposes may have been joined with others; what is left of them stands before and after the Conv.

    Requires: types and shapes, per-channel arithmetic folded into the Conv.
    Ensures: exactly the same sums, so results differ by rounding only.
    """
    count = 0
    for graph in graphs(model):
        edit = Edit(graph, model)
        for node in list(graph):
            if node.graph is graph and node.op_type == "Conv" and node.domain == "" and _raise(edit, node):
                count += 1
    if count:
        remove_dead(model)
    return Result(count > 0, (f"raised {count} dilated Conv",) if count else ())


def _before(node: ir.Node | None, op: str) -> ir.Node | None:
    """The node that makes a node's first input, if it is this operator and makes it for nobody else."""
    value = node.inputs[0] if node is not None else None
    made = value.producer() if value is not None else None
    return made if made is not None and made.op_type == op and made.domain == "" and sole_user(made.outputs[0]) is node else None


def _after(node: ir.Node | None, op: str) -> ir.Node | None:
    """The only node that uses a node's output, if it is this operator."""
    user = sole_user(node.outputs[0]) if node is not None else None
    return user if user is not None and user.op_type == op and user.domain == "" else None


def _plain(conv: ir.Node) -> bool:
    numbers = [*(attribute(conv, "strides") or ()), *(attribute(conv, "dilations") or ())]
    pads = attribute(conv, "pads") or ()
    unpadded = not any(pads) and attribute(conv, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return unpadded and all(n == 1 for n in numbers) and is_weight(conv.inputs[1])


def _raise(edit: Edit, conv: ir.Node) -> bool:
    inner_in, inner_out = _before(conv, "Transpose"), _after(conv, "Transpose")
    deal, gather = _before(inner_in, "SpaceToDepth"), _after(inner_out, "DepthToSpace")
    if inner_in is None or inner_out is None or deal is None or gather is None or not _plain(conv):
        return False
    block = attribute(deal, "blocksize")
    if block != attribute(gather, "blocksize") or attribute(gather, "mode", "DCR") != "DCR":
        return False
    if any(tuple(attribute(t, "perm") or ()) != _SWAP for t in (inner_in, inner_out)) or deal.inputs[0] is None:
        return False
    image = edit.node("Transpose", [deal.inputs[0]], before=conv, like=conv, name=f"{conv.name}_transpose", perm=list(_SWAP))
    keep: dict[str, Any] = {k: v for k, v in conv.attributes.items() if k in ("group", "kernel_shape")}
    result = edit.node("Conv", [image, *conv.inputs[1:]], before=conv, like=conv, dilations=[block, block], **keep)
    swapped = edit.node("Transpose", [result], before=conv, like=conv, name=f"{conv.name}_transpose", perm=list(_SWAP))
    if not edit.replace(gather.outputs[0], swapped):
        edit.drop(swapped.producer())  # type: ignore[arg-type]
        return False
    edit.drop(gather)
    return True
