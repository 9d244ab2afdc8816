"""What TorchScript asks of tensors, and makes of numbers: sizes, types, content that is known. `NotImplemented` leaves it to others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 - imported by the worker alone

from niudao.formats.pytorch.program.script_values import Free, Scalar, Tensor, Unfit, at, is_free

if TYPE_CHECKING:
    from niudao.formats.pytorch.program.script_graph import Walk


def size(walk: Walk, node: Any, args: list[Any]) -> Any:
    if len(args) == 1:
        return walk.tape.sizes(args[0])
    return walk.tape.size(args[0], args[1])


def dim(walk: Walk, node: Any, args: list[Any]) -> Any:
    return walk.tape.rank(args[0])


def of_len(walk: Walk, node: Any, args: list[Any]) -> Any:
    return walk.tape.size(args[0], 0) if isinstance(args[0], Tensor) else NotImplemented


def numel(walk: Walk, node: Any, args: list[Any]) -> Any:
    x = args[0]
    return 1 if isinstance(x, Scalar) else walk.tape.number("aten.sym_numel.default", [x], tuple(p.numel() for p in x.probes))


def index(walk: Walk, node: Any, args: list[Any]) -> Any:
    """A mask whose content is known is the places that it picks."""
    if not isinstance(args[0], Tensor) or not isinstance(args[1], list):
        return NotImplemented
    places: list[Any] = []
    for index in args[1]:
        if isinstance(index, Tensor) and index.probes[0].dtype in (torch.bool, torch.uint8) and index.real is not None:
            places += [walk.tape.constant(p) for p in index.real.nonzero(as_tuple=True)]
        else:
            places.append(index)
    return walk.tape.call(node.schema(), [args[0], places])


def repeat_interleave(walk: Walk, node: Any, args: list[Any]) -> Any:
    """Without content, torch must be told how long the result is."""
    if len(args) == 4 and isinstance(args[1], Tensor) and args[1].real is not None and args[3] is None:
        return walk.tape.call(node.schema(), [*args[:3], int(args[1].real.sum())])
    return NotImplemented


def is_floating_point(walk: Walk, node: Any, args: list[Any]) -> Any:
    x = args[0]
    return (x.dtype if isinstance(x, Scalar) else x.probes[0].dtype).is_floating_point


def no(walk: Walk, node: Any, args: list[Any]) -> Any:
    """Networks are read at rest: without autocast, gradients or tracing."""
    return False


def is_complex(walk: Walk, node: Any, args: list[Any]) -> Any:
    return False


def of_is(walk: Walk, node: Any, args: list[Any]) -> Any:
    return args[0] is args[1]


def isnot(walk: Walk, node: Any, args: list[Any]) -> Any:
    return args[0] is not args[1]


def of_int(walk: Walk, node: Any, args: list[Any]) -> Any:
    return _number(walk, args[0], int)


def of_float(walk: Walk, node: Any, args: list[Any]) -> Any:
    return _number(walk, args[0], float)


def of_bool(walk: Walk, node: Any, args: list[Any]) -> Any:
    return walk.truth(args[0]) if isinstance(args[0], (Tensor, Scalar)) else NotImplemented


def item(walk: Walk, node: Any, args: list[Any]) -> Any:
    return _number(walk, args[0], None)


def _number(walk: Walk, x: Any, kind: Any) -> Any:
    if not isinstance(x, (Tensor, Scalar)):
        return NotImplemented
    value = walk.content(x) if isinstance(x, Tensor) else x.number
    if isinstance(value, Free):
        if kind is None or isinstance(value.values[0], kind):
            return value
        return walk.arithmetic("aten::Int" if kind is int else "aten::Float", [value])
    return value if kind is None else kind(value)


def tensor(walk: Walk, node: Any, args: list[Any]) -> Any:
    data, dtype = args[0], args[1] if len(args) > 1 else None
    if isinstance(data, (Tensor, Scalar)):
        return data
    values = at(data, 0)
    made = torch.tensor(values, dtype=walk.tape.type_of(dtype))
    if not is_free(data):
        return walk.tape.constant(made)
    if made.dim() == 0:
        return Scalar(data, made.dtype)
    if made.dim() == 1:
        parts = [Scalar(v, made.dtype) for v in data]
        return walk.tape.call("aten::stack(Tensor[] tensors, int dim=0) -> Tensor", [parts, 0])
    raise Unfit("a tensor of free sizes")


QUESTIONS: dict[str, Callable[[Walk, Any, list[Any]], Any]] = {
    "aten::size": size,
    "aten::dim": dim,
    "aten::len": of_len,
    "aten::numel": numel,
    "aten::index": index,
    "aten::repeat_interleave": repeat_interleave,
    "aten::is_floating_point": is_floating_point,
    "aten::is_complex": is_complex,
    "aten::is_autocast_enabled": no,
    "aten::is_autocast_cpu_enabled": no,
    "aten::is_grad_enabled": no,
    "aten::__is__": of_is,
    "aten::__isnot__": isnot,
    "aten::Int": of_int,
    "aten::Float": of_float,
    "aten::Bool": of_bool,
    "aten::item": item,
    "aten::tensor": tensor,
    "aten::ScalarImplicit": item,
    "aten::IntImplicit": of_int,
    "aten::FloatImplicit": of_float,
    "aten::as_tensor": tensor,
}
"""Operator -> its answer, given the walk, the node and its arguments."""
