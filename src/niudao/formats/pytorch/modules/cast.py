"""Changes of type."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.table import converts
from niudao.formats.pytorch.modules.weights import DTYPES


@converts("Cast", "CastLike")
def cast(c: Call) -> Any:
    """`x.to(...)`; float32 is the network's own float type."""
    to = c.node.outputs[0].dtype or (ir.DataType(c.attr("to")) if c.op == "Cast" else None)
    held = c.value(0)
    if to is None or to not in DTYPES or "float8" in str(DTYPES[to]):
        c.refuse(f"casts to {to.name if to is not None else 'a type that is not known'}, which torch rounds otherwise or has not", "to")
    if held is not None and held.dtype == to:
        return c.x(0)
    c.dtype(0)
    if to == ir.DataType.FLOAT:
        return c.floating(c.x(0))
    return c.method("to", c.x(0), DTYPES[to])


@converts("BitCast")
def bit_cast(c: Call) -> Any:
    to = ir.DataType(c.attr("to"))
    if to not in DTYPES or DTYPES[to].itemsize != c.dtype(0).itemsize:
        c.refuse(f"reads bits as {to.name}", "to")
    return c.method("view", c.x(0), DTYPES[to])
