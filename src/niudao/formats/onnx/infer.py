"""Types and shapes on the way: an adapter may look at the rank of what came before it."""

from __future__ import annotations

import onnx_ir as ir

from niudao.errors import InvalidModel, LimitError, Where
from niudao.formats.onnx.checks import MAX_RANK
from niudao.ir import card
from niudao.ir.build import infer


def infer_node(node: ir.Node) -> bool:
    """Type and shape of a lifted node's outputs, as far as ONNX's rule for the operator tells; what was declared fills the rest.

    Returns:
        False if the rule rejects the node as it stands. A real fault shows again, and is reported, when the finished
        network is inferred as a whole.
    """
    if node.domain != "" or any(v is not None and v.type is None for v in node.inputs):
        return True
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) or a.is_ref() for a in node.attributes.values()):
        return True
    declared = [(v.type, v.shape) for v in node.outputs]
    try:
        infer(node)
    except (InvalidModel, ir.serde.SerdeError):
        return False
    for value, (type_, shape) in zip(node.outputs, declared, strict=True):
        if value.shape is not None and len(value.shape) > MAX_RANK:
            expected, where = f"at most {MAX_RANK}", Where(node=card.layer_of(node))
            raise LimitError("a value has more axes than any array can.", where=where, expected=expected, got=str(len(value.shape)))
        value.type = value.type or type_
        if value.shape is None:
            value.shape = shape
        elif shape is not None and len(shape) == len(value.shape):
            value.shape = ir.Shape(
                [old if not isinstance(new, int) and isinstance(old, int) else new for new, old in zip(value.shape, shape, strict=True)]
            )
    return True
