"""How the target of a call is written, and the text of our own functions and layers that goes into the file."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import operator
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from niudao.formats.pytorch.source.layers import OURS, CannotWrite

INFIX: dict[Any, str] = {
    operator.add: "+",
    torch.add: "+",
    operator.iadd: "+",
    operator.sub: "-",
    torch.sub: "-",
    operator.mul: "*",
    torch.mul: "*",
    operator.truediv: "/",
    torch.div: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
    torch.pow: "**",
    operator.matmul: "@",
    torch.matmul: "@",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
    operator.and_: "&",
    operator.or_: "|",
    operator.xor: "^",
    operator.lshift: "<<",
    operator.rshift: ">>",
}
"""Functions of two arguments that Python writes between them."""

PREFIX: dict[Any, str] = {operator.neg: "-", operator.invert: "~", operator.pos: "+"}

_PLACES: tuple[tuple[str, Any], ...] = (
    ("", builtins),
    ("torch", torch),
    ("F", functional),
    ("math", math),
    ("torch.special", torch.special),
    ("torch.linalg", torch.linalg),
    ("torch.fft", torch.fft),
    ("torch.Tensor", torch.Tensor),
    ("operator", operator),
)
_ALLOWED_IMPORTS = ("torch", "math", "collections", "typing", "dataclasses", "functools", "itertools", "__future__")


def spelling(target: Callable[..., Any], own: Own) -> str:
    """How a function is called in the text.

    Raises:
        CannotWrite: It is none of torch's, Python's or ours.
    """
    name = getattr(target, "__name__", "")
    for place, holder in _PLACES:
        if name and getattr(holder, name, None) is target:
            return f"{place}.{name}" if place else name
    for place, holder in _PLACES:
        for key, held in vars(holder).items():
            if held is target and not key.startswith("_"):
                return f"{place}.{key}" if place else key
    if getattr(target, "__module__", "").startswith(OURS):
        return own.add(target)
    raise CannotWrite(f"it calls {getattr(target, '__module__', '?')}.{name or target!r}, which is neither torch's nor niudao's")


def class_spelling(cls: type[nn.Module], own: Own) -> str:
    """How a layer's class is called in the text."""
    if getattr(nn, cls.__name__, None) is cls:
        return f"nn.{cls.__name__}"
    if cls.__module__.startswith(OURS):
        return own.add(cls)
    raise CannotWrite(f"its class {cls.__qualname__} is not one that torch.nn exports")


class Own:
    """Our own functions and classes that a text needs, each with what it needs itself, in the order they must stand."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.imports: set[str] = set()
        self._held: dict[str, Any] = {}

    def add(self, thing: Any) -> str:
        """The name under which `thing` stands in the text.

        Raises:
            CannotWrite: Two different things have one name, or it needs something that the text may not import.
        """
        name = str(thing.__name__)
        if name in self._held:
            if self._held[name] is not thing:
                raise CannotWrite(f"two different functions are called {name}")
            return name
        self._held[name] = thing
        module = sys.modules[thing.__module__]
        text = _without_repr(textwrap.dedent(inspect.getsource(thing)).rstrip())
        found = _imports(module)
        for needed in _names(ast.parse(text)):
            if needed == name or needed not in vars(module):
                continue
            self._need(needed, vars(module)[needed], module, found)
        self.texts[name] = text
        return name

    def _need(self, name: str, held: Any, module: ModuleType, found: dict[str, str]) -> None:
        if getattr(held, "__module__", "").startswith(OURS) and (inspect.isfunction(held) or inspect.isclass(held)):
            if self.add(held) != name:
                raise CannotWrite(f"{module.__name__} imports a function under another name, {name}")
        elif name in found:
            self.imports.add(found[name])
        else:
            line = _assignment(module, name)
            self._held[name] = held
            for needed in _names(ast.parse(line)):
                if needed != name and needed in vars(module) and needed not in self._held:
                    self._need(needed, vars(module)[needed], module, found)
            self.texts[name] = line


def _without_repr(text: str) -> str:
    """A class's text without what only serves its printing."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name == "extra_repr" and node.end_lineno == len(lines):
            return "\n".join(lines[: node.lineno - 1]).rstrip()
    return text


def _names(tree: ast.AST) -> Iterator[str]:
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in seen:
            seen.add(node.id)
            yield node.id


def _imports(module: ModuleType) -> dict[str, str]:
    """Name -> the line that imports it, for the imports that a text may have."""
    lines = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.Import):
            for a in node.names:
                if a.name.split(".")[0] in _ALLOWED_IMPORTS:
                    lines[a.asname or a.name.split(".")[0]] = ast.unparse(ast.Import([a]))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _ALLOWED_IMPORTS:
            for a in node.names:
                lines[a.asname or a.name] = ast.unparse(ast.ImportFrom(node.module, [a], 0))
    return lines


def _assignment(module: ModuleType, name: str) -> str:
    text = inspect.getsource(module)
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            return ast.get_source_segment(text, node) or ""
    raise CannotWrite(f"{module.__name__} needs {name}, which the text cannot hold")
