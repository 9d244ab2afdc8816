"""One call as Python writes it: operators between their operands, indices in brackets, parentheses only where they are needed."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from torch import fx

from niudao.formats.pytorch.source.functions import INFIX, PREFIX

Value = Callable[[fx.Node, int], str]
"""Text of a value, in parentheses if it binds less tightly than the level says."""

LEVELS = {"|": 2, "^": 3, "&": 4, "<<": 5, ">>": 5, "+": 6, "-": 6, "*": 7, "/": 7, "//": 7, "%": 7, "@": 7, "**": 9}
COMPARISON, UNARY, TIGHT = 1, 8, 10


def call_text(call: Any, layer: str, value: Value, level: int = 0) -> str:
    """The text of a call.

    Args:
        call: As `Describer.called` gives it, with texts for its numbers.
        layer: Attribute of the layer that is called, if one is.
        value: Gives the text of a value.
        level: How tightly what stands around it binds.
    """
    if call[0] == "layer":
        return f"self.{layer}({_arguments(call[1], call[2], value)})"
    if call[0] == "method":
        return f"{argument_text(call[2][0], value, TIGHT)}.{call[1]}({_arguments(call[2][1:], call[3], value)})"
    _, target, spelled, args, kwargs = call
    if target in INFIX and len(args) == 2 and not kwargs:
        sign = INFIX[target]
        own = LEVELS.get(sign, COMPARISON)
        left, right = (own + 1, own) if sign == "**" else (own + (own == COMPARISON), own + 1)
        text = f"{argument_text(args[0], value, left)} {sign} {argument_text(args[1], value, right)}"
        return text if own >= level else f"({text})"
    if target in PREFIX and len(args) == 1:
        text = f"{PREFIX[target]}{argument_text(args[0], value, UNARY)}"
        return text if level <= UNARY else f"({text})"
    if target is operator.getitem:
        return f"{argument_text(args[0], value, TIGHT)}[{_index(args[1], value)}]"
    if target is getattr and len(args) == 2 and args[1][0] == "text" and args[1][1][1:-1].isidentifier():
        return f"{argument_text(args[0], value, TIGHT)}.{args[1][1][1:-1]}"
    return f"{spelled}({_arguments(args, kwargs, value)})"


def argument_text(given: Any, value: Value, level: int = 0) -> str:
    """The text of one argument: a value, a number, a setting, or several of these."""
    kind, content = given
    if kind == "value":
        return value(content, level)
    if kind == "number":
        bound = TIGHT if re.fullmatch(r"[\w.]+", content) else UNARY if re.fullmatch(r"-[\w.]+", content) else LEVELS["*"]
        return str(content) if bound >= level else f"({content})"
    if kind in ("list", "tuple", "slice"):
        inner = ", ".join(argument_text(v, value) for v in content)
        if kind == "list":
            return f"[{inner}]"
        return f"slice({inner})" if kind == "slice" else f"({inner}{',' if len(content) == 1 else ''})"
    if kind == "dict":
        return "{" + ", ".join(f"{k!a}: {argument_text(v, value)}" for k, v in content) + "}"
    return str(content)


def _arguments(args: Any, kwargs: Any, value: Value) -> str:
    return ", ".join([argument_text(a, value) for a in args] + [f"{k}={argument_text(v, value)}" for k, v in kwargs])


def _index(index: Any, value: Value) -> str:
    kind, content = index
    if kind == "slice":
        start, stop, step = ("" if v == ("text", "None") else argument_text(v, value) for v in content)
        return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"
    if kind == "tuple" and content:
        return ", ".join(_index(v, value) if v[0] == "slice" else argument_text(v, value) for v in content)
    return argument_text(index, value)
