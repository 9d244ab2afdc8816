"""What TorchScript does with numbers, texts, lists and dictionaries, in Python itself. Nothing here can reach a file or a process."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

LONGEST = 1 << 16
"""Elements of a list, characters of a text."""


def _bounded(value: Any) -> Any:
    if isinstance(value, (list, str)) and len(value) > LONGEST:
        raise ValueError("a list or text that is too long")
    if isinstance(value, int) and value.bit_length() > 128:
        raise ValueError("a number that is too large")
    return value


def _multiply(a: Any, b: Any) -> Any:
    if isinstance(a, (list, str)) and len(a) * max(int(b), 0) > LONGEST:
        raise ValueError("a list or text that is too long")
    return a * b


def _power(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and abs(b) > 256:
        raise ValueError("a power that is too large")
    return a**b


def _rounded(x: float) -> float:
    return float(round(x))


def _range_length(low: int, high: int, step: int) -> int:
    return len(range(low, high, step))


ARITHMETIC: dict[str, tuple[Callable[..., Any], str]] = {
    "aten::add": (operator.add, "operator.add"),
    "aten::sub": (operator.sub, "operator.sub"),
    "aten::mul": (_multiply, "operator.mul"),
    "aten::floordiv": (operator.floordiv, "operator.floordiv"),
    "aten::div": (operator.truediv, "operator.truediv"),
    "aten::truediv": (operator.truediv, "operator.truediv"),
    "aten::remainder": (operator.mod, "operator.mod"),
    "aten::fmod": (math.fmod, ""),
    "aten::pow": (_power, "operator.pow"),
    "aten::neg": (operator.neg, "operator.neg"),
    "aten::floor": (math.floor, "math.floor"),
    "aten::ceil": (math.ceil, "math.ceil"),
    "aten::round": (_rounded, "builtins.round"),
    "aten::sqrt": (math.sqrt, ""),
    "aten::exp": (math.exp, ""),
    "aten::log": (math.log, ""),
    "aten::log2": (math.log2, ""),
    "aten::sin": (math.sin, ""),
    "aten::cos": (math.cos, ""),
    "aten::abs": (abs, ""),
    "prim::abs": (abs, ""),
    "aten::Int": (int, "builtins.int"),
    "aten::Float": (float, "builtins.float"),
    "aten::Bool": (bool, ""),
    "aten::ScalarImplicit": (lambda x: x, "builtins.int"),
    "aten::IntImplicit": (int, "builtins.int"),
    "aten::FloatImplicit": (float, "builtins.float"),
    "prim::min": (min, "builtins.min"),
    "prim::max": (max, "builtins.max"),
    "aten::eq": (operator.eq, ""),
    "aten::ne": (operator.ne, ""),
    "aten::lt": (operator.lt, ""),
    "aten::le": (operator.le, ""),
    "aten::gt": (operator.gt, ""),
    "aten::ge": (operator.ge, ""),
    "aten::__and__": (operator.and_, ""),
    "aten::__or__": (operator.or_, ""),
    "aten::__xor__": (operator.xor, ""),
    "aten::__not__": (operator.not_, ""),
    "aten::__lshift__": (lambda a, b: _bounded(a << min(b, 200)), ""),
    "aten::__rshift__": (operator.rshift, ""),
    "aten::sum": (sum, ""),
    "aten::all": (all, ""),
    "aten::any": (any, ""),
    "aten::isnan": (math.isnan, ""),
    "aten::isinf": (math.isinf, ""),
    "aten::isfinite": (math.isfinite, ""),
    "aten::__range_length": (_range_length, ""),
    "aten::__derive_index": (lambda i, start, step: start + i * step, ""),
    "aten::gcd": (math.gcd, ""),
}
"""Operations on numbers -> the function, and what a program calls it where free sizes are among them ("" for nothing it knows)."""


def _sliced(x: Any, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    return x[start:end:step]


def _appended(x: list[Any], value: Any) -> list[Any]:
    x.append(value)
    _bounded(x)
    return x


def _extended(x: list[Any], more: list[Any]) -> list[Any]:
    x.extend(more)
    _bounded(x)
    return x


def _set(x: Any, key: Any, value: Any) -> Any:
    x[key] = value
    return x


def _inserted(x: list[Any], place: int, value: Any) -> None:
    x.insert(place, value)


def _deleted(x: Any, key: Any) -> None:
    del x[key]


def _formatted(text: str, *items: Any) -> str:
    """`format` with nothing but {} in the text: a text of a stranger's may not choose attributes or widths."""
    parts = text.split("{}")
    held = [str(i)[:200] for i in items] + [""] * len(parts)
    return "".join(part + (held[i] if i < len(parts) - 1 else "") for i, part in enumerate(parts))


def _contains(x: Any, item: Any) -> bool:
    return item in x


def _reversed(x: list[Any]) -> None:
    x.reverse()


STRUCTURE: dict[str, Callable[..., Any]] = {
    "aten::len": len,
    "aten::__getitem__": operator.getitem,
    "aten::slice": _sliced,
    "aten::list": list,
    "aten::copy": lambda x: x.copy(),
    "aten::append": _appended,
    "aten::extend": _extended,
    "aten::insert": _inserted,
    "aten::pop": lambda x, *key: x.pop(*key),
    "aten::clear": lambda x: x.clear(),
    "aten::reverse": _reversed,
    "aten::_set_item": _set,
    "aten::Delete": _deleted,
    "aten::__contains__": _contains,
    "aten::keys": lambda x: list(x.keys()),
    "aten::values": lambda x: list(x.values()),
    "aten::items": lambda x: list(x.items()),
    "aten::get": lambda x, key, *default: x.get(key, *default),
    "aten::index": lambda x, item: x.index(item),
    "aten::count": lambda x, item: x.count(item),
    "aten::str": lambda x: _bounded(str(x)),
    "aten::format": _formatted,
    "aten::percentFormat": lambda text, *items: text,  # only messages are made this way
    "aten::startswith": lambda x, *a: x.startswith(*a),
    "aten::endswith": lambda x, *a: x.endswith(*a),
    "aten::lower": lambda x: x.lower(),
    "aten::upper": lambda x: x.upper(),
    "aten::strip": lambda x, *a: x.strip(*a),
    "aten::join": lambda x, parts: _bounded(x.join(parts)),
    "aten::replace": lambda x, a, b, *n: _bounded(x.replace(a, b, *n)),
    "aten::split": lambda x, *a: x.split(*a),
    "prim::rangelist": lambda n: _bounded(list(range(min(n, LONGEST + 1)))),
}
"""Operations on texts, lists and dictionaries, whatever they hold."""
