"""Whole numbers that are known only when the network runs: polynomials of free sizes, so that equal ones are found equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import onnx_ir as ir


class OpenSize(Exception):
    """A decision that cannot be made before the network runs."""


@dataclass(frozen=True, eq=False)
class Atom:
    """A number that is not made of others.

    Attributes:
        name: Equal names are equal numbers.
        value: The value whose size along `axis` it is; or, where `axis` is None, an int64 scalar that holds it.
        axis: See above.
        parts: ("floordiv" | "mod", dividend, divisor) where it is computed from numbers.
    """

    name: str
    value: ir.Value | None = None
    axis: int | None = None
    parts: tuple[str, Sym, Number] | None = None


Monomial = tuple[str, ...]


class Sym:
    """A polynomial of atoms with whole coefficients. Results that are plain numbers come as `int`.

    Args:
        terms: Sorted names of the atoms of a product -> coefficient; none is 0.
        atoms: Name -> atom.
    """

    __slots__ = ("atoms", "terms")

    def __init__(self, terms: Mapping[Monomial, int], atoms: Mapping[str, Atom]) -> None:
        self.terms = dict(terms)
        self.atoms = dict(atoms)

    @staticmethod
    def of(atom: Atom) -> Sym:
        return Sym({(atom.name,): 1}, {atom.name: atom})

    @property
    def atom(self) -> Atom | None:
        """The atom that it is, if it is one."""
        if len(self.terms) == 1:
            (monomial, factor), *_ = self.terms.items()
            if factor == 1 and len(monomial) == 1:
                return self.atoms[monomial[0]]
        return None

    def __str__(self) -> str:
        parts = []
        for monomial, factor in sorted(self.terms.items(), key=lambda t: (-len(t[0]), t[0])):
            names = "*".join(monomial)
            parts.append(str(factor) if not names else names if factor == 1 else f"{factor}*{names}")
        return " + ".join(parts)

    __repr__ = __str__

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __eq__(self, other: object) -> bool:
        """Whether both are the same polynomial; what may be equal by chance is not."""
        return isinstance(other, Sym) and self.terms == other.terms

    def _decide(self, *_: object) -> NoReturn:
        raise OpenSize(f"it depends on the free size {self}")

    __bool__ = __int__ = __index__ = __float__ = __lt__ = __le__ = __gt__ = __ge__ = _decide

    def __add__(self, other: Any) -> Number:
        terms = dict(self.terms)
        for monomial, factor in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0) + factor
        return _number(terms, self.atoms | _atoms(other))

    def __mul__(self, other: Any) -> Number:
        terms: dict[Monomial, int] = {}
        for a, x in self.terms.items():
            for b, y in _terms(other).items():
                monomial = tuple(sorted(a + b))
                terms[monomial] = terms.get(monomial, 0) + x * y
        return _number(terms, self.atoms | _atoms(other))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Number:
        return self * -1

    def __sub__(self, other: Any) -> Number:
        return self.__add__(_number({m: -f for m, f in _terms(other).items()}, _atoms(other)))

    def __rsub__(self, other: Any) -> Number:
        negative: Number = self.__mul__(-1)
        return negative + _number(_terms(other), _atoms(other))

    def __floordiv__(self, other: Any) -> Number:
        exact = self.divided(other)
        return exact if exact is not None else _divided("floordiv", "//", self, other)

    def __mod__(self, other: Any) -> Number:
        return 0 if self.divided(other) is not None else _divided("mod", "%", self, other)

    def __truediv__(self, other: Any) -> Number:
        exact = self.divided(other)
        return exact if exact is not None else self._decide()

    def __rfloordiv__(self, other: Any) -> Number:
        return 0 if other == 0 else self._decide()

    __rmod__ = __rtruediv__ = __rfloordiv__

    def __round__(self, *_: object) -> Sym:
        return self

    __floor__ = __ceil__ = __trunc__ = __round__

    def divided(self, other: Any) -> Number | None:
        """The quotient, where every term is divisible."""
        divisor = _terms(other)
        if len(divisor) != 1:
            return 1 if isinstance(other, Sym) and self == other else None
        (monomial, factor), *_ = divisor.items()
        terms: dict[Monomial, int] = {}
        for own, x in self.terms.items():
            rest = list(own)
            for name in monomial:
                if name not in rest:
                    return None
                rest.remove(name)
            if factor == 0 or x % factor:
                return None
            terms[tuple(rest)] = x // factor
        return _number(terms, self.atoms)


Number = int | Sym


def _terms(other: Any) -> dict[Monomial, int]:
    if isinstance(other, Sym):
        return other.terms
    if isinstance(other, float) and other.is_integer():
        other = int(other)
    if not isinstance(other, int):
        raise OpenSize(f"it computes with a free size and {other!r}")
    return {(): int(other)} if other else {}


def _atoms(other: Any) -> dict[str, Atom]:
    return other.atoms if isinstance(other, Sym) else {}


def _number(terms: Mapping[Monomial, int], atoms: Mapping[str, Atom]) -> Number:
    kept = {m: f for m, f in terms.items() if f}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    names = {name for m in kept for name in m}
    return Sym(kept, {n: atoms[n] for n in names})


def _divided(kind: str, sign: str, a: Sym, b: Any) -> Number:
    if isinstance(b, float) and b.is_integer():
        b = int(b)
    if not isinstance(b, (int, Sym)) or b == 0:
        raise OpenSize(f"it divides the free size {a} by {b!r}")
    return Sym.of(Atom(f"({a}){sign}({b})", parts=(kind, a, b)))


def product(numbers: Any) -> Number:
    """The product of numbers, 1 of none."""
    total: Number = 1
    for n in numbers:
        total = n * total
    return total
