"""Numbers: sizes of tensors, and what networks compute with them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.sizes import Number, Sym, product
from niudao.formats.pytorch.aten.table import aten


@aten("aten.sym_size.int", "aten.size.int")
def size_int(c: Lowering, self: ir.Value, dim: int) -> Number:
    return c.size(self, dim)


@aten("aten.sym_size", "aten.size")
def size(c: Lowering, self: ir.Value) -> list[Number]:
    return c.shape(self)


@aten("aten.sym_numel", "aten.numel")
def numel(c: Lowering, self: ir.Value) -> Number:
    return product(c.shape(self))


@aten("aten.dim")
def dim(c: Lowering, self: ir.Value) -> int:
    return c.rank(self)


@aten("aten.item", "aten._local_scalar_dense", "aten.Int", "aten.IntImplicit", "aten.ScalarImplicit")
def item(c: Lowering, self: Any) -> Number | float:
    if not isinstance(self, ir.Value):
        return self  # type: ignore[no-any-return]
    known = c.known(self)
    if known is not None and known.size == 1:
        return known.reshape(()).item()  # type: ignore[no-any-return]
    if c.is_float(self):
        c.refuse("it makes a Python number of a float that the network computes")
    return c.held(self)


@aten("aten.scalar_tensor", "aten.tensor", "prim.NumToTensor")
def scalar_tensor(
    c: Lowering, s: Any, dtype: str | None = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> ir.Value:
    from niudao.formats.pytorch.aten import promotion

    if isinstance(s, Sym):
        return c.scalar(s, promotion.named(dtype or "int64"))
    return c.const(s, promotion.named(dtype) if dtype else ir.DataType.BOOL if isinstance(s, bool) else None)


def _register(names: tuple[str, ...], function: Callable[..., Any]) -> None:
    """An operation of Python on plain numbers; a free size does what it can, and says what it cannot."""

    @aten(*names)
    def compute(c: Lowering, *args: Any) -> Any:
        plain = [c.held(a) if isinstance(a, ir.Value) else a for a in args]
        return function(*plain)


def _larger(a: Any, b: Any, sign: int) -> Any:
    """Two equal numbers have a larger one even where they are free."""
    return a if a == b else (max(a, b) if sign > 0 else min(a, b))


for _name in "add sub mul floordiv truediv mod neg pow eq ne lt le gt ge and_ or_ not_ pos lshift rshift".split():
    _register((f"operator.{_name}",), getattr(operator, _name))
_register(("operator.abs", "builtins.abs"), abs)
for _name in "floor ceil trunc sqrt".split():
    _register((f"math.{_name}",), getattr(math, _name))
_register(("builtins.int", "operator.int", "torch.sym_int", "sym_int"), lambda a: math.trunc(a))
_register(("builtins.float", "operator.float", "torch.sym_float", "sym_float"), lambda a: a if isinstance(a, Sym) else float(a))
_register(("builtins.round", "operator.round"), lambda a, *n: round(a, *n))
_register(("builtins.bool", "operator.bool"), bool)
_register(("builtins.max", "torch.sym_max", "sym_max", "operator.max"), lambda a, b: _larger(a, b, 1))
_register(("builtins.min", "torch.sym_min", "sym_min", "operator.min"), lambda a, b: _larger(a, b, -1))
_register(("torch.sym_not", "sym_not"), operator.not_)
