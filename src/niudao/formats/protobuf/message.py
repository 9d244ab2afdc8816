"""A message as a value, and the two ways of holding many numbers without decoding them: a Span of a file, a Lazy of a writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niudao.errors import LimitError
from niudao.formats.files import MAX_MEMORY
from niudao.formats.protobuf.scalars import DTYPES, FIXED
from niudao.formats.protobuf.schema import Field, Schema
from niudao.formats.protobuf.varints import decode

Array = np.ndarray[Any, Any]

SMALL = 65536
"""How many numbers `Message.all` turns into Python numbers."""


@dataclass(frozen=True)
class Limits:
    """What reading one file may spend.

    Attributes:
        depth: Messages inside messages.
        messages: Messages in all.
        bytes: Estimated memory of what is decoded; numbers that stay a `Span` are free.
    """

    depth: int = 100
    messages: int = 2_000_000
    bytes: int = MAX_MEMORY


@dataclass(frozen=True, slots=True)
class Unknown:
    """A field that the schema lacks.

    Attributes:
        name: Its name, or "field 203" where only its number is known.
        line: Where it stands in the text, counted from 1; 0 in binary files.
        column: The same.
    """

    name: str
    line: int = 0
    column: int = 0


@dataclass(slots=True, eq=False)
class Span:
    """The numbers of one repeated field (or the bytes of a bytes field) where they lie in the file, not decoded.

    Attributes:
        buffer: The file.
        type: The field's type.
        runs: (start, stop, stride): where numbers lie, in order. Numbers of fixed width stand `stride` bytes apart, which is
            their width where they are packed and more where each has its own tag; varints stand wall to wall, stride 0.
        count: How many numbers.
    """

    buffer: memoryview
    type: str
    runs: list[tuple[int, int, int]] = field(default_factory=list)
    count: int = 0

    @property
    def pieces(self) -> tuple[tuple[int, int], ...]:
        """(start, stop) of each run."""
        return tuple((start, stop) for start, stop, _ in self.runs)

    @property
    def contiguous(self) -> tuple[int, int] | None:
        """(offset in the file, bytes) where the little-endian numbers lie in one piece, as an array would hold them."""
        if len(self.runs) != 1 or self.type not in ("float", "double", "bytes"):
            return None
        start, stop, stride = self.runs[0]
        return (start, stop - start) if stride == self._width() else None

    def array(self, dtype: Any = None) -> Array:
        """The numbers, flat, as `dtype`; a read-only view of the file (perhaps unaligned) where that is possible.

        Raises:
            LimitError: They are varints or scattered, and take more memory than reading may.
        """
        own = np.dtype(DTYPES.get(self.type, "|u1"))
        if len(self.runs) == 1 and self.runs[0][2] == own.itemsize and self.type not in ("bool", "enum"):
            return self._run(*self.runs[0], own).astype(dtype or own, copy=False)
        need = 48 if self._width() == 0 else own.itemsize  # expanding varints takes a few arrays of eight bytes each
        if self.count * need > max(MAX_MEMORY, len(self.buffer)):
            raise LimitError(f"{self.count} numbers of one field take more memory than allowed.", expected=f"at most {MAX_MEMORY} bytes")
        result = np.empty(self.count, dtype or (np.dtype("<i4") if self.type == "enum" else own))
        at = 0
        for run in self.runs:
            part = self._run(*run, own)
            result[at : at + len(part)] = part
            at += len(part)
        return result

    def _width(self) -> int:
        return 1 if self.type == "bytes" else np.dtype(FIXED[self.type]).itemsize if self.type in FIXED else 0

    def _run(self, start: int, stop: int, stride: int, own: np.dtype[Any]) -> Array:
        if stride == 0:
            return decode(np.frombuffer(self.buffer[start:stop], np.uint8), self.type)
        count = (stop - start - own.itemsize) // stride + 1
        return np.ndarray((count,), own, self.buffer, start, (stride,))


@dataclass(frozen=True, slots=True)
class Lazy:
    """Numbers that are made when they are written.

    Attributes:
        count: How many.
        type: The type of the field they are for, one of fixed width ("float", "double", ...).
        load: Makes the array, of any shape, each time anew.
    """

    count: int
    type: str
    load: Callable[[], Array]


@dataclass(slots=True, eq=False)
class Message:
    """One message. Two are equal only if they are the same object.

    Attributes:
        kind: Its name in the schema.
        schema: The schema.
        fields: The fields that are present, in order, each with its values: int, float, bool, str, bytes, the name of an enum's
            value (an int if it has no name), Message; or whole arrays (Span, Lazy, numpy) in place of numbers.
        line: Where it began in the text, counted from 1; 0 in binary files.
        column: The same.
        unknown: Fields that the schema lacks.
    """

    kind: str
    schema: Schema
    fields: dict[str, list[Any]] = field(default_factory=dict)
    line: int = 0
    column: int = 0
    unknown: list[Unknown] = field(default_factory=list)

    def declared(self, name: str) -> Field:
        """What the schema says about a field.

        Raises:
            KeyError: It has no such field, which is a fault of the program, not of a file.
        """
        try:
            return self.schema.messages[self.kind][name]
        except KeyError:
            raise KeyError(f"{self.kind} has no field {name!r}") from None

    def has(self, name: str) -> bool:
        """Whether a field is present; a repeated one, whether it has values."""
        self.declared(name)
        return bool(self.fields.get(name))

    def get(self, name: str, default: Any = ...) -> Any:
        """The last value of a field, as it is stored; where absent, `default`, or without one what the schema says.

        For a message use `sub`: here an absent one is None.
        """
        known = self.declared(name)
        values = self.fields.get(name)
        if values:
            return values[-1]
        return self.schema.zero(known) if default is ... else default

    def all(self, name: str) -> list[Any]:
        """Every value of a field, in order, arrays turned into Python numbers.

        Raises:
            LimitError: An array holds more numbers than anybody wants as a list; take the array itself from `fields`.
        """
        self.declared(name)
        result: list[Any] = []
        for value in self.fields.get(name, ()):
            if isinstance(value, Span | Lazy | np.ndarray):
                result += self._numbers(name, value)
            else:
                result.append(value)
        return result

    def _numbers(self, name: str, value: Span | Lazy | Array) -> list[Any]:
        count = value.size if isinstance(value, np.ndarray) else value.count
        if count > SMALL:
            raise LimitError(f"{self.kind}.{name} holds {count} numbers.", expected=f"at most {SMALL}", got=str(count))
        array = value if isinstance(value, np.ndarray) else value.load() if isinstance(value, Lazy) else value.array()
        if isinstance(value, Span) and value.type == "bytes":
            return [array.tobytes()]
        numbers: list[Any] = array.ravel().tolist()
        names = self.schema.names.get(self.declared(name).type)
        return numbers if names is None else [names.get(n, n) for n in numbers]

    def sub(self, name: str) -> Message:
        """The message in a field; an empty one, which is not put into the field, where it is absent.

        Several messages that were added to a field that holds one are merged, the later ones winning, as protobuf does.
        """
        known = self.declared(name)
        values = self.fields.get(name)
        if not values:
            return Message(known.type, self.schema)
        if len(values) > 1 and not known.repeated:
            values[:] = [_merged(values)]
        found: Message = values[-1]
        return found

    def set(self, name: str, *values: Any) -> Message:
        """Replace the values of a field; without values, remove it. Returns the message itself."""
        known = self.declared(name)
        if len(values) > 1 and not known.repeated:
            raise ValueError(f"{self.kind}.{name} holds one value, not {len(values)}")
        if values:
            self.fields[name] = [_stored(self, known, v) for v in values]
        else:
            self.fields.pop(name, None)
        return self

    def add(self, name: str, value: Any) -> Message:
        """Append a value to a field. Returns the message itself."""
        self.fields.setdefault(name, []).append(_stored(self, self.declared(name), value))
        return self

    def walk_unknown(self) -> Iterator[tuple[str, Unknown]]:
        """Every field that the schema lacks, here and below, with the path to its message ("layer[4].pooling_param", "" here)."""
        waiting: list[tuple[str, Message]] = [("", self)]
        while waiting:
            path, message = waiting.pop()
            for unknown in message.unknown:
                yield path, unknown
            below = []
            for name, values in message.fields.items():
                repeated = message.declared(name).repeated
                for i, value in enumerate(values):
                    if isinstance(value, Message):
                        below.append((f"{path}{'.' if path else ''}{name}" + (f"[{i}]" if repeated else ""), value))
            waiting += reversed(below)


def message(schema: Schema, kind: str, /, **fields: Any) -> Message:
    """Build a message: lists and tuples are repeated values, dicts are messages, numpy scalars become Python's.

    Raises:
        KeyError: The schema has no such message or field.
        TypeError: A value does not fit its field.
    """
    if kind not in schema.messages:
        raise KeyError(f"the schema has no message {kind!r}")
    result = Message(kind, schema)
    for name, value in fields.items():
        result.set(name, *(value if isinstance(value, list | tuple) else [value]))
    return result


def _stored(owner: Message, field: Field, value: Any) -> Any:
    """The value as `fields` holds it, checked: what is wrong here is a fault of the program."""
    if isinstance(value, np.generic):
        value = value.item()
    schema, type = owner.schema, field.type
    if isinstance(value, dict) and type in schema.messages:
        return message(schema, type, **value)
    if isinstance(value, Span | Lazy | np.ndarray):
        fits = (field.repeated and (type in DTYPES or type in schema.enums)) or (isinstance(value, Span) and value.type == type == "bytes")
    elif type in schema.messages:
        fits = isinstance(value, Message) and value.kind == type
    elif type in schema.enums:
        fits = value in schema.enums[type] if isinstance(value, str) else isinstance(value, int)
    elif type == "string":
        fits = isinstance(value, str)
    elif type == "bytes":
        fits = isinstance(value, bytes)
    elif type in ("float", "double"):
        fits = isinstance(value, float | int)
        value = float(value) if fits else value
    else:
        fits = isinstance(value, int)
        value = bool(value) if type == "bool" and fits else value
    if not fits:
        raise TypeError(f"{owner.kind}.{field.name} ({type}) cannot hold {value!r:.80}")
    return value


def _merged(values: list[Message]) -> Message:
    first = values[0]
    result = Message(first.kind, first.schema, {}, first.line, first.column, [u for v in values for u in v.unknown])
    for message in values:
        for name, held in message.fields.items():
            known = message.declared(name)
            keep = known.repeated or known.type in message.schema.messages
            result.fields[name] = (result.fields.get(name, []) + held) if keep else list(held)
    for name, held in result.fields.items():
        if len(held) > 1 and not result.declared(name).repeated:
            result.fields[name] = [_merged(held)]
    return result
