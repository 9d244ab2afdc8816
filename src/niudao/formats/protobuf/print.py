"""Write a message in protobuf's text format, as a person would have written it."""

from __future__ import annotations

from typing import Any

import numpy as np

from niudao.formats.protobuf.message import Message
from niudao.formats.protobuf.schema import Field

WIDTH = 100
"""Columns that a message on one line may take."""


def write(message: Message, indent: int = 2) -> str:
    """The text of a message: one field a line in the order of `fields`, short messages on one line.

    Args:
        message: The message. What was unknown when it was read is not written.
        indent: Spaces a level.

    Raises:
        LimitError: An array is too long for a text.
    """
    lines: list[str] = []
    _body(message, lines, 0, indent)
    return "".join(line + "\n" for line in lines)


def _body(message: Message, lines: list[str], level: int, indent: int) -> None:
    space = " " * (level * indent)
    for field, value in _each(message):
        if not isinstance(value, Message):
            lines.append(f"{space}{field.name}: {_scalar(field, value)}")
            continue
        short = _line(field, value, WIDTH - len(space)) if level or len(value.fields) < 2 else None
        if short is not None:
            lines.append(space + short)
        else:
            lines.append(f"{space}{field.name} {{")
            _body(value, lines, level + 1, indent)
            lines.append(space + "}")


def _each(message: Message) -> list[tuple[Field, Any]]:
    """Every field and value, of a field that holds one value the last."""
    found = []
    for name, values in message.fields.items():
        field = message.declared(name)
        if field.repeated:
            found += [(field, value) for value in message.all(name)]
        elif values:
            found.append((field, message.sub(name) if message.schema.kind(field.type) == "message" else values[-1]))
    return found


def _line(field: Field, message: Message, width: int) -> str | None:
    """A message on one line, if it holds only scalars (or only one such message) and is not too long."""
    if sum(map(len, message.fields.values())) > width:
        return None
    parts, held = [], _each(message)
    for inner, value in held:
        if not isinstance(value, Message):
            parts.append(f"{inner.name}: {_scalar(inner, value)}")
            continue
        short = _line(inner, value, width) if len(held) == 1 else None
        if short is None:
            return None
        parts.append(short)
    line = " ".join([field.name, "{", *parts, "}"])
    return line if len(line) <= width else None


def _scalar(field: Field, value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return _float(value, field.type)
        case str() if field.type == "string":
            return _quoted(value)
        case bytes():
            return _quoted(value.decode("ascii", "surrogateescape"))
        case _:
            return str(value)


def _float(value: float, type: str) -> str:
    """The shortest text that reads back as the same number of this type."""
    if type == "float":
        with np.errstate(over="ignore"):
            text = str(np.float32(value))
    else:
        text = repr(float(value))
    return text.removesuffix(".0")


_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "'": "\\'", "\\": "\\\\"}


def _quoted(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _character(c: str) -> str:
    if c in _ESCAPES:
        return _ESCAPES[c]
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no ASCII
        code -= 0xDC00
    elif code >= 0x80 or 0x20 <= code < 0x7F:
        return c
    return f"\\{code:03o}"
