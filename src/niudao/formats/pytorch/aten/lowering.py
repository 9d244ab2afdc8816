"""What an operator's function is given: the graph under construction, and questions to values and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten import promotion
from niudao.formats.pytorch.aten.sizes import Atom, Number, OpenSize, Sym, product
from niudao.formats.pytorch.program.program import Call
from niudao.ir.build import Builder
from niudao.ir.values import known, rank

Array = np.ndarray[Any, Any]
Tensor = ir.Value | int | float | bool | Sym
"""What an operator of two tensors may be given: a tensor or a number."""

MOST = 1 << 26
"""Elements that a constant may have that no file holds."""


class Refused(Exception):
    """This call cannot be expressed; the builder collects the reasons."""

    def __init__(self, reason: str, attribute: str | None = None, rewrite: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.attribute, self.rewrite = reason, attribute, rewrite


@dataclass(frozen=True)
class Absent:
    """Stands for a result that is not computed; whoever uses it is refused.

    Attributes:
        reason: Why, in a few words; "" where another refusal says it already.
    """

    reason: str = ""


@dataclass
class Scope:
    """What the calls of one network share: names of free sizes and the numbers made of them.

    Attributes:
        symbols: Name of an axis -> the number that it is.
        vectors: Number -> the int64 tensor of shape (1,) that holds it.
        single: Names of weights that one call uses, once.
        notes: What a person should know.
        used: (name of a result, its place) of the parts of results that somebody uses.
    """

    symbols: dict[str, Number] = field(default_factory=dict)
    vectors: dict[str, ir.Value] = field(default_factory=dict)
    single: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    used: set[tuple[str, int]] = field(default_factory=set)


@dataclass
class Lowering:
    """One call of one operator.

    Attributes:
        b: The graph under construction; the layer's name is already set.
        call: The call.
        scope: What calls share.
    """

    b: Builder
    call: Call
    scope: Scope

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Append a node with one output and return that output."""
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: ir.Value | None, outputs: int, **attributes: Any) -> tuple[ir.Value, ...]:
        """Append a node with several outputs and return them."""
        while inputs and inputs[-1] is None:  # ONNX Runtime 1.32 dies of a LayerNormalization whose third input is named ""
            inputs = inputs[:-1]
        return self.b.ops(op_type, *inputs, outputs=outputs, **attributes)

    def refuse(self, reason: str, attribute: str | None = None, rewrite: str | None = None) -> NoReturn:
        """Say that this call cannot be expressed, and why, in a few words."""
        raise Refused(reason, attribute, rewrite)

    def wants(self, place: int) -> bool:
        """Whether anybody uses the result at this place; those that nobody does may be given as None."""
        names = self.call.outputs
        if len(names) == 1:
            return (names[0], place) in self.scope.used
        return place < len(names) and (names[place], -1) in self.scope.used

    # what is known of a tensor

    def rank(self, x: ir.Value) -> int:
        """Number of axes."""
        found = rank(x)
        if found is None:
            self.refuse("the number of axes of its input is not known", rewrite="give the input's shape")
        return found

    def axis(self, x: ir.Value | int, dim: Any) -> int:
        """An axis of a tensor (or of so many axes), counted from the front."""
        n = x if isinstance(x, int) else self.rank(x)
        number = self.whole(dim, "dim")
        if not -max(n, 1) <= number < max(n, 1):
            self.refuse(f"dim {number} of an input of {n} axes", "dim")
        return number % max(n, 1)

    def axes(self, x: ir.Value, dims: Any) -> list[int]:
        """Several axes; all of them where `dims` is None or empty."""
        given = [dims] if isinstance(dims, int) else list(dims or ())
        return [self.axis(x, d) for d in given] if given else list(range(self.rank(x)))

    def size(self, x: ir.Value, dim: int) -> Number:
        """The size along an axis: a number, or a `Sym` where it is free."""
        i = self.axis(x, dim)
        held = x.shape[i] if x.shape is not None else None
        if isinstance(held, int):
            return held
        name = held.value if held is not None else None
        if name is None:
            name = f"{x.name}_{i}"
            dims = list(x.shape) if x.shape is not None else []
            dims[i] = ir.SymbolicDim(name)
            x.shape = ir.Shape(dims)
        if name not in self.scope.symbols:
            self.scope.symbols[name] = Sym.of(Atom(name, x, i))
        return self.scope.symbols[name]

    def shape(self, x: ir.Value) -> list[Number]:
        """All sizes."""
        return [self.size(x, i) for i in range(self.rank(x))]

    def fixed(self, x: ir.Value, dim: int, what: str = "size") -> int:
        """The size along an axis, which must be a number."""
        found = self.size(x, dim)
        if isinstance(found, Sym):
            self.refuse(f"its {what} along axis {dim} is free ({found})", rewrite="give the input's shape")
        return found

    def dtype(self, x: ir.Value) -> ir.DataType:
        """Type of the elements."""
        if x.dtype is None:
            self.refuse("the type of its input is not known")
        return x.dtype

    def is_float(self, x: ir.Value) -> bool:
        return promotion.category(self.dtype(x)) == 2

    def known(self, x: Any, limit: int = 1 << 16) -> Array | None:
        """The content of a small constant, else None."""
        return known(x, limit) if isinstance(x, ir.Value) else None

    # arguments

    def whole(self, value: Any, name: str) -> int:
        """An argument as a whole number that is known."""
        if isinstance(value, Sym):
            raise OpenSize(f"its {name} depends on the free size {value}")
        if isinstance(value, ir.Value):
            held = self.known(value)
            if held is None or held.size != 1:
                self.refuse(f"its {name} is computed by the network", name)
            value = held.reshape(()).item()
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int):
            self.refuse(f"its {name} is {value!r}", name)
        return int(value)

    def wholes(self, value: Any, name: str, n: int) -> list[int]:
        """An argument as n whole numbers; one stands for all."""
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if len(items) == 1:
            items *= n
        if len(items) != n:
            self.refuse(f"its {name} has {len(items)} numbers, not {n}", name)
        return [self.whole(i, name) for i in items]

    def number(self, value: Any, name: str) -> float | int:
        """An argument as a number that is known; a constant tensor of one element is one."""
        if isinstance(value, ir.Value):
            held = self.known(value)
            if held is None or held.size != 1:
                self.refuse(f"its {name} is computed by the network", name)
            value = held.reshape(()).item()
        if isinstance(value, Sym):
            raise OpenSize(f"its {name} depends on the free size {value}")
        if not isinstance(value, (int, float)):
            self.refuse(f"its {name} is {value!r}", name)
        return value

    # constants and numbers as tensors

    def const(self, value: Any, dtype: ir.DataType | ir.Value | None = None) -> ir.Value:
        """A constant; of that type, or of the type of that tensor. Else floats are float32 and whole numbers int64."""
        if isinstance(dtype, ir.Value):
            dtype = self.dtype(dtype)
        array = np.asarray(value)
        if array.size > MOST:
            self.refuse(f"a constant of {array.size:,} elements")
        return self.b.const(array, dtype.numpy() if dtype is not None else None)

    def vector(self, numbers: Sequence[Number]) -> ir.Value:
        """Numbers as an int64 tensor of one axis."""
        if all(isinstance(n, int) for n in numbers):
            return self.const(np.asarray(numbers, np.int64))
        parts = [self._single(n) for n in numbers]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def scalar(self, number: Number, dtype: ir.DataType = ir.DataType.INT64) -> ir.Value:
        """A number as a tensor without axes."""
        if isinstance(number, int):
            return self.const(number, dtype)
        return self.cast(self.op("Squeeze", self._single(number), self.const([0])), dtype)

    def _single(self, number: Number) -> ir.Value:
        """A number as an int64 tensor of shape (1,)."""
        if isinstance(number, int):
            return self.const([number])
        key = str(number)
        if key not in self.scope.vectors:
            self.scope.vectors[key] = self._made(number)
        return self.scope.vectors[key]

    def _made(self, number: Sym) -> ir.Value:
        atom = number.atom
        if atom is not None:
            return self._atom(atom)
        total: ir.Value | None = None
        for monomial, factor in number.terms.items():
            term: ir.Value | None = self.const([factor]) if factor != 1 or not monomial else None
            for name in monomial:
                one = self._single(Sym.of(number.atoms[name]))
                term = one if term is None else self.op("Mul", term, one)
            total = term if total is None else self.op("Add", total, term)
        return total if total is not None else self.const([0])

    def _atom(self, atom: Atom) -> ir.Value:
        if atom.parts is not None:
            kind, a, b = atom.parts
            return self.op("Div" if kind == "floordiv" else "Mod", self._single(a), self._single(b))
        if atom.axis is not None:
            return self.op("Shape", atom.value, start=atom.axis, end=atom.axis + 1)
        return self.op("Reshape", atom.value, self.const([1]))

    def held(self, value: ir.Value) -> Number:
        """A whole-number tensor of one element as a number: what `item()` gives."""
        array = self.known(value)
        if array is not None and array.size == 1:
            return int(array.reshape(()).item())
        value = self.cast(value, ir.DataType.INT64)
        return Sym.of(Atom(f"item({value.name})", value))

    def tensor(self, value: Tensor, dtype: ir.DataType | ir.Value) -> ir.Value:
        """A tensor or number as a tensor of that type."""
        wanted = self.dtype(dtype) if isinstance(dtype, ir.Value) else dtype
        if isinstance(value, ir.Value):
            return self.cast(value, wanted)
        return self.scalar(value, wanted) if isinstance(value, Sym) else self.const(value, wanted)

    def cast(self, x: ir.Value, dtype: ir.DataType | str) -> ir.Value:
        """A tensor of another type; itself where it is of that type."""
        wanted = promotion.named(dtype) if isinstance(dtype, str) else dtype
        if x.dtype == wanted:
            return x
        array = self.known(x, 1)
        if array is not None and x.producer() is None:
            return self.const(array, wanted)
        return self.op("Cast", x, to=int(wanted))

    def promoted(self, *values: Tensor, least: ir.DataType | None = None) -> list[ir.Value]:
        """Tensors and numbers as tensors of the type that torch computes in.

        Args:
            values: Tensors and numbers.
            least: Take this type where all are whole numbers (torch divides and takes roots in float32).
        """
        dtype = promotion.result_type(values, self.rank)
        if least is not None and promotion.category(dtype) < promotion.category(least):
            dtype = least
        return [self.tensor(v, dtype) for v in values]

    # shapes

    def rearranged(self, weight: ir.Value, dims: Sequence[Number]) -> ir.Value:
        """A weight in another shape: the weight itself where nobody else uses it, else through a Reshape."""
        tensor = weight.const_value
        if weight.name not in self.scope.single or tensor is None or weight.name not in self.b.initializers:
            return self.reshape(weight, dims)
        shape = tuple(dims)
        made = ir.LazyTensor(
            lambda: ir.Tensor(tensor.numpy().reshape(shape), dtype=tensor.dtype),
            dtype=tensor.dtype,
            shape=ir.Shape(shape),
            name=weight.name,
            cache=False,
        )
        weight.const_value, weight.shape = made, ir.Shape(shape)
        return weight

    def reshape(self, x: ir.Value, dims: Sequence[Number], layer: str | None = None) -> ir.Value:
        """A tensor in another shape; one of the numbers may be -1. Free sizes become 0 and -1 of Reshape where that says the same."""
        dims = self._filled(x, list(dims))
        if all(isinstance(d, int) and d >= 0 for d in dims) and x.shape is not None and list(x.shape) == dims:
            return x
        target: list[Number] = list(dims)
        own = self.shape(x)
        if 0 in dims:
            y = self.op("Reshape", x, self.vector(target), allowzero=1, layer=layer)
        else:
            for i, d in enumerate(dims):
                if isinstance(d, Sym) and i < len(own) and own[i] == d:
                    target[i] = 0
            free = [i for i, d in enumerate(target) if isinstance(d, Sym)]
            if len(free) == 1 and -1 not in target:
                target[free[0]] = -1
            y = self.op("Reshape", x, self.vector(target), layer=layer)
        self.shaped(y, dims)
        return y

    def _filled(self, x: ir.Value, dims: list[Number]) -> list[Number]:
        """The -1 among the sizes as the number that it is, where that can be told."""
        holes = [i for i, d in enumerate(dims) if isinstance(d, int) and d == -1]
        if len(holes) > 1:
            self.refuse("two sizes of its result are -1")
        if holes:
            rest = product(d for i, d in enumerate(dims) if i != holes[0])
            total = product(self.shape(x))
            if isinstance(total, int) and isinstance(rest, int):
                quotient: Number | None = total // rest if rest and total % rest == 0 else None
            elif isinstance(total, int):
                quotient = None
            else:
                quotient = total.divided(rest)
            if quotient is not None:
                dims[holes[0]] = quotient
        return dims

    def shaped(self, x: ir.Value, dims: Sequence[Number | None]) -> ir.Value:
        """Note the sizes of a tensor that are known to us and not to ONNX's rule; -1 and None are unknown."""
        held: list[Any] = list(x.shape) if x.shape is not None and len(x.shape) == len(dims) else [None] * len(dims)
        for i, d in enumerate(dims):
            if isinstance(d, Sym):
                name = str(d)
                self.scope.symbols.setdefault(name, d)
                held[i] = ir.SymbolicDim(name)
            elif d is not None and d >= 0:
                held[i] = d
        x.shape = ir.Shape(held)
        return x
