"""BatchNormalization, GroupNormalization, Dropout and the softmax family."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.onnx.lift import Lift, dims, known, rank, set_inputs, until, used

_NEVER = 1000


@until(9, "BatchNormalization")
def spatial(lift: Lift, node: ir.Node) -> None:
    """`spatial` = 0 meant statistics per element; exporters wrote it beside statistics per channel, where it can only mean 1."""
    flag = node.attributes.pop("spatial", None)
    node.attributes.pop("is_test", None)
    if flag is None or flag.as_int() or (rank(node.inputs[3]) or 1) <= 1:
        return
    x, gamma, beta, mean, var = node.inputs[:5]
    epsilon = lift.const(node, node.attributes.get_float("epsilon", 1e-5), np.float32)
    deviation = lift.before(node, "Sqrt", lift.before(node, "Add", var, epsilon))
    unit = lift.before(node, "Div", lift.before(node, "Sub", x, mean), deviation)
    _running_statistics(lift, node)
    lift.become(node, lift.before(node, "Add", lift.before(node, "Mul", unit, gamma), beta))


@until(_NEVER, "BatchNormalization")
def inference_only(lift: Lift, node: ir.Node) -> None:
    """A node in training mode is read as what the trained network does."""
    mode = node.attributes.pop("training_mode", None)
    if mode is not None and mode.as_int():
        lift.note("BatchNormalization was in training mode: read in inference mode.")
    _running_statistics(lift, node)


def _running_statistics(lift: Lift, node: ir.Node) -> None:
    """Outputs behind the first are running statistics, which stand still in inference mode."""
    for i in range(1, len(node.outputs)):
        if used(node.outputs[i]):
            source = node.inputs[3 if i % 2 else 4]
            lift.take_over(node.outputs[i], lift.before(node, "Identity", source))
    lift.shorten(node, 1)


@until(12, "Dropout")
def ratio_as_input(lift: Lift, node: ir.Node) -> None:
    """`ratio` was an attribute, and before 7 so was the mode."""
    node.attributes.pop("is_test", None)
    ratio = node.attributes.pop("ratio", None)
    value = lift.const(node, 0.5 if ratio is None else ratio.as_float(), np.float32)
    old = node.version is not None and node.version < 10
    if len(node.outputs) > 1 and not used(node.outputs[1]):
        lift.shorten(node, 1)
    set_inputs(node, [node.inputs[0], value])
    if len(node.outputs) > 1 and old:
        dtype = node.inputs[0].dtype if node.inputs[0] is not None and node.inputs[0].dtype is not None else ir.DataType.FLOAT
        lift.after(node, "Cast", output=1, to=int(dtype))


@until(_NEVER, "Dropout")
def dropout_at_rest(lift: Lift, node: ir.Node) -> None:
    """Training mode is read as inference mode."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        mode = known(node.inputs[2])
        if mode is None or bool(np.any(mode)):
            lift.note("Dropout was in training mode: read in inference mode.")
        set_inputs(node, node.inputs[:2])


@until(13, "Softmax", "LogSoftmax", "Hardmax")
def flattened(lift: Lift, node: ir.Node) -> None:
    """The tensor was seen as a matrix, with the axes from `axis` on as its columns."""
    axis = node.attributes.get_int("axis", 1)
    x = node.inputs[0]
    n, size = rank(x), dims(x)
    if n is not None:
        axis = min(axis + n if axis < 0 else axis, max(n - 1, 0))
        columns = [i for i in range(axis, n) if size is None or size[i] != 1]
        if len(columns) <= 1:  # one axis is more than 1 wide: the columns are that axis
            node.attributes["axis"] = ir.AttrInt64("axis", columns[0] if columns else n - 1)
            return
    node.attributes["axis"] = ir.AttrInt64("axis", -1)
    node.replace_input_with(0, lift.before(node, "Flatten", x, axis=axis))
    if size is not None and sum(d is None for d in size) <= 1 and 0 not in size:
        shape: ir.Value | None = lift.const(node, [-1 if d is None else d for d in size])
    else:
        shape = lift.before(node, "Shape", x)
    lift.after(node, "Reshape", shape)


@until(21, "GroupNormalization")
def scale_per_group(lift: Lift, node: ir.Node) -> None:
    """scale and bias had one number per group."""
    groups, size = node.attributes.get_int("num_groups", 0), dims(node.inputs[0])
    channels = size[1] if size is not None and len(size) > 1 else None
    for i in (1, 2):
        length = dims(node.inputs[i])
        if length is not None and length[0] == channels and channels is not None:
            continue
        if channels is None or groups <= 0 or channels % groups:
            lift.refuse(node, "the number of channels is unknown, and scale has one number per group", "num_groups")
            return
        array = known(node.inputs[i])
        if array is not None and array.size == groups:
            dtype = node.inputs[i].dtype or ir.DataType.FLOAT  # type: ignore[union-attr]
            node.replace_input_with(i, lift.const(node, np.repeat(array.reshape(-1), channels // groups), dtype))
        else:
            column = lift.before(node, "Unsqueeze", node.inputs[i], lift.const(node, [1]))
            wide = lift.before(node, "Expand", column, lift.const(node, [groups, channels // groups]))
            node.replace_input_with(i, lift.before(node, "Reshape", wide, lift.const(node, [channels])))
