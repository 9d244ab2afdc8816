"""Long lines broken at the commas of their brackets, and comments beside or above lines."""

from __future__ import annotations

import ast
import textwrap

WIDTH = 118


def wrap(line: str) -> list[str]:
    """A line, or the lines it is broken into so that none is longer than `WIDTH`."""
    if len(line) <= WIDTH:
        return [line]
    indent = len(line) - len(line.lstrip())
    start, end, commas = _bracket(line)
    if start < 0 or end <= start + 1:
        return [line]
    parts, at = [], start + 1
    for comma in [*commas, end]:
        part = line[at:comma].strip()
        if part:
            parts.append(part)
        at = comma + 1
    together = " " * (indent + 4) + ", ".join(parts)
    if len(together) <= WIDTH:
        return [line[: start + 1], together, " " * indent + line[end:]]
    lines = [line[: start + 1]]
    single = len(parts) == 1 and not commas
    for part in parts:
        lines += wrap(" " * (indent + 4) + part + ("" if single else ","))
    return [*lines, " " * indent + line[end:]]


def _bracket(line: str) -> tuple[int, int, list[int]]:
    """The longest outermost bracket of a line: where it opens, where it closes, its commas."""
    best: tuple[int, int, list[int]] = (-1, -1, [])
    opened: list[int] = []
    commas: list[int] = []
    quote, escaped = "", False
    for i, c in enumerate(line):
        if quote:
            if c == quote and not escaped:
                quote = ""
            escaped = c == "\\" and not escaped
        elif c in "\"'":
            quote = c
        elif c in "([{":
            if not opened:
                commas = []
            opened.append(i)
        elif c in ")]}" and opened:
            start = opened.pop()
            if not opened and i - start > best[1] - best[0]:
                best = (start, i, commas)
        elif c == "," and len(opened) == 1:
            commas.append(i)
    return best


def commented(lines: list[str], comment: str) -> list[str]:
    """Lines with a comment behind the first one, or above it where there is no room."""
    if not comment:
        return lines
    if len(lines) == 1 and len(lines[0]) + len(comment) + 4 <= WIDTH:
        return [f"{lines[0]}  # {comment}"]
    indent = len(lines[0]) - len(lines[0].lstrip())
    return [f"{' ' * indent}# {comment}", *lines]


def narrow(text: str) -> str:
    """Code whose lines are no longer than `WIDTH` where they can be broken; it means the same."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        quotes = line.count('"""')
        if len(line) > WIDTH and line.lstrip().startswith("#"):
            indent = " " * (len(line) - len(line.lstrip())) + "# "
            lines += textwrap.wrap(line.strip()[1:].strip(), WIDTH, initial_indent=indent, subsequent_indent=indent)
        elif len(line) > WIDTH and (inside or line.lstrip().startswith('"""')):
            indent = " " * (len(line) - len(line.lstrip()))
            lines += textwrap.wrap(line.strip(), WIDTH, initial_indent=indent, subsequent_indent=indent)
        else:
            lines += wrap(line)
        inside ^= quotes % 2 == 1
    broken = "\n".join(lines)
    return broken if _meaning(broken) == _meaning(text) else text


def _meaning(text: str) -> str:
    """The syntax of a text, spaces in its docstrings aside."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = " ".join(node.value.value.split())
    return ast.dump(tree)
