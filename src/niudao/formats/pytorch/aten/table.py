"""The table of ATen operators: one function a group of operators, whose own parameters are the operator's schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from niudao.registry import Registry

Lower = Callable[..., Any]
"""`(c, *args, **kwargs) -> value | tuple of values | list of values | number`, parameters named as ATen's schema names them."""

TABLE: Registry[Lower] = Registry("ATen operator", entry_points="niudao.pytorch.aten")


F = TypeVar("F", bound=Lower)


def aten(*names: str) -> Callable[[F], F]:
    """Decorator: this function lowers these operators.

    Args:
        names: "aten.relu" for all its overloads, "aten.mean.dim" for one. Overloads of different parameters need entries of their
            own. "aten.relu_" need not be named: it is "aten.relu", and what it writes into is taken care of.
    """

    def decorate(lower: F) -> F:
        TABLE.register(*names)(lower)
        return lower

    return decorate


def split(target: str) -> tuple[str, str]:
    """("aten.conv2d", "padding") of "aten.conv2d.padding"; the overload is "" where none is named."""
    parts = target.split(".")
    return (".".join(parts[:2]), ".".join(parts[2:])) if len(parts) > 2 else (target, "")


def in_place(target: str) -> bool:
    """Whether an operator writes into its first argument ("aten.relu_.default"), by ATen's rule for names."""
    name = split(target)[0]
    return name.endswith("_") and not name.endswith("__")


def find(target: str) -> Lower | None:
    """The entry of an operator: of its overload, else of its name, else of its twin that writes elsewhere."""
    load_all()
    name, overload = split(target)
    for base in (name, name[:-1]) if in_place(target) else (name,):
        found = (TABLE.get(f"{base}.{overload}") if overload else None) or TABLE.get(base)
        if found is not None:
            return found
    return None


_LOADED: list[bool] = []


def load_all() -> None:
    """Import every family, so that the table is full."""
    if _LOADED:
        return
    from importlib import import_module
    from pkgutil import iter_modules

    from niudao.formats.pytorch import aten as room

    for module in iter_modules(room.__path__):
        import_module(f"{room.__name__}.{module.name}")
    _LOADED.append(True)
