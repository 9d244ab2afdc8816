"""Types of elements: torch's names for them, and which type torch computes in when several meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.sizes import Sym

T = ir.DataType
_NAMES = {
    "bool": T.BOOL,
    "uint8": T.UINT8,
    "int8": T.INT8,
    "int16": T.INT16,
    "int32": T.INT32,
    "int64": T.INT64,
    "uint16": T.UINT16,
    "uint32": T.UINT32,
    "uint64": T.UINT64,
    "float16": T.FLOAT16,
    "bfloat16": T.BFLOAT16,
    "float32": T.FLOAT,
    "float64": T.DOUBLE,
    "float8_e4m3fn": T.FLOAT8E4M3FN,
    "float8_e5m2": T.FLOAT8E5M2,
}
_FLOATS = (T.FLOAT8E5M2, T.FLOAT8E4M3FN, T.BFLOAT16, T.FLOAT16, T.FLOAT, T.DOUBLE)


def named(name: str) -> ir.DataType:
    """The type of a numpy name.

    Raises:
        ValueError: No network here can hold it (complex numbers).
    """
    if name not in _NAMES:
        raise ValueError(f"elements of type {name!r} have no place here")
    return _NAMES[name]


def category(dtype: ir.DataType) -> int:
    """0 for truth values, 1 for whole numbers, 2 for floats."""
    return 0 if dtype == T.BOOL else 2 if dtype in _FLOATS else 1


def _both(a: ir.DataType, b: ir.DataType) -> ir.DataType:
    if a == b:
        return a
    if category(a) != category(b):
        return a if category(a) > category(b) else b
    if category(a) == 2:
        return T.FLOAT if {a, b} == {T.FLOAT16, T.BFLOAT16} else max(a, b, key=_FLOATS.index)
    return ir.DataType.from_numpy(np.result_type(a.numpy(), b.numpy()))


def result_type(values: Sequence[Any], rank: Callable[[ir.Value], int]) -> ir.DataType:
    """The type in which torch computes with tensors and numbers.

    Tensors with axes decide; one without axes, or a number, counts only where it is of a higher category.

    Args:
        values: Tensors (`ir.Value`) and numbers.
        rank: Gives the number of axes of a tensor.

    Reference: torch.result_type.
    """
    groups: list[ir.DataType | None] = [None, None, None]
    for value in values:
        if isinstance(value, ir.Value):
            place, dtype = (0 if rank(value) else 1), value.dtype or T.FLOAT
        else:
            place = 2
            dtype = T.BOOL if isinstance(value, bool) else T.INT64 if isinstance(value, (int, Sym)) else T.FLOAT
        held = groups[place]
        groups[place] = dtype if held is None else _both(held, dtype)
    result: ir.DataType | None = None
    for dtype_of_group in groups:
        if dtype_of_group is not None and (result is None or category(dtype_of_group) > category(result)):
            result = dtype_of_group
    return result or T.FLOAT
