"""Write a message as bytes, by field number, with at most one array in memory."""

from __future__ import annotations

import struct
from typing import IO, Any

import numpy as np

from niudao.errors import WriteError
from niudao.formats.protobuf import varints
from niudao.formats.protobuf.message import Array, Lazy, Message, Span
from niudao.formats.protobuf.scalars import BYTES, FIXED, RANGES, to_varint, wire_type
from niudao.formats.protobuf.schema import Field

LARGEST = (1 << 31) - 1
"""Bytes that a protobuf message may have; its readers refuse more."""

CHUNK = 1 << 20
"""Numbers that are put between tags at once."""


def size(message: Message) -> int:
    """How many bytes `write` makes. Loads no array.

    Raises:
        WriteError: A field exists in texts only, or a value does not fit it.
    """
    return _Writer().measure(message)


def write(message: Message, stream: IO[bytes]) -> None:
    """Write a message. Fields that were unknown when it was read are not written.

    Raises:
        WriteError: A field exists in texts only, a value does not fit it, or the whole has more than 2 GiB.
    """
    writer = _Writer()
    total = writer.measure(message)
    if total > LARGEST:
        raise WriteError(f"{message.kind} would have {total} bytes.", expected=f"at most {LARGEST}, the most that protobuf can hold")
    writer.stream = stream
    writer.body(message)
    writer.flush()


class _Writer:
    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.pending = bytearray()
        self.stream: IO[bytes] | None = None

    def measure(self, message: Message) -> int:
        """Bytes of the message's body; those of every message below are remembered."""
        known = self.sizes.get(id(message))
        if known is not None:
            return known
        total = 0
        for field, values in _ordered(message):
            type, tag = _type(message, field), len(_tag(field, BYTES))
            if type in ("string", "bytes", "message"):
                for value in values:
                    held = self.measure(value) if type == "message" else _text_length(field, value)
                    total += tag + varints.length(held) + held
                continue
            count = sum(_count(field, v) for v in values)
            held = self.numbers(message, field, type, values, count)
            total += tag + varints.length(held) + held if field.packed and count else tag * count + held
        self.sizes[id(message)] = total
        return total

    def numbers(self, message: Message, field: Field, type: str, values: list[Any], count: int) -> int:
        """Bytes of the numbers alone."""
        if type in FIXED:
            return count * int(FIXED[type][-1])
        return sum(varints.length(_bits(message, field, type, v)) for v in _each(field, values))

    def body(self, message: Message) -> None:
        for field, values in _ordered(message):
            type = _type(message, field)
            tag = _tag(field, wire_type(type))
            if type == "message":
                for value in values:
                    self.put(tag + varints.encode(self.sizes[id(value)]))
                    self.body(value)
            elif type in ("string", "bytes"):
                for value in values:
                    self.put(tag + varints.encode(_text_length(field, value)))
                    if isinstance(value, Span):
                        self.array(value.array())
                    else:
                        self.put(_text(field, value))
            elif field.packed:
                count = sum(_count(field, v) for v in values)
                if count:
                    self.put(_tag(field, BYTES) + varints.encode(self.numbers(message, field, type, values, count)))
                    self.values(message, field, type, values, b"")
            else:
                self.values(message, field, type, values, tag)

    def values(self, message: Message, field: Field, type: str, values: list[Any], tag: bytes) -> None:
        """The numbers, each behind `tag`."""
        if type not in FIXED:
            for value in _each(field, values):
                self.put(tag + varints.encode(_bits(message, field, type, value)))
            return
        dtype = np.dtype(FIXED[type])
        for value in values:
            if not isinstance(value, Span | Lazy | np.ndarray):
                self.put(tag + _packed(field, type, value))
                continue
            array = _loaded(field, value)
            if not tag:
                self.array(array.astype(dtype, copy=False))
                continue
            flat = array.reshape(-1)
            for at in range(0, len(flat), CHUNK):
                part = flat[at : at + CHUNK]
                rows = np.empty((len(part), len(tag) + dtype.itemsize), np.uint8)
                rows[:, : len(tag)] = np.frombuffer(tag, np.uint8)
                rows[:, len(tag) :] = np.ascontiguousarray(part, dtype).view(np.uint8).reshape(len(part), dtype.itemsize)
                self.array(rows)

    def array(self, array: Array) -> None:
        self.flush()
        assert self.stream is not None
        if array.size:
            self.stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def put(self, data: bytes) -> None:
        self.pending += data
        if len(self.pending) > 1 << 16:
            self.flush()

    def flush(self) -> None:
        assert self.stream is not None
        self.stream.write(bytes(self.pending))
        self.pending.clear()


def _ordered(message: Message) -> list[tuple[Field, list[Any]]]:
    """The fields that are present, by number; of a field that holds one value the last."""
    found = []
    for name, values in message.fields.items():
        field = message.declared(name)
        if not values:
            continue
        if not field.number:
            raise WriteError(f"{message.kind}.{name} exists in text files only.", next="drop the field, or write the text file")
        if len(values) > 1 and not field.repeated:
            values = [message.sub(name) if message.schema.kind(field.type) == "message" else values[-1]]
        found.append((field, values))
    return sorted(found, key=lambda pair: pair[0].number)


def _type(message: Message, field: Field) -> str:
    group = message.schema.kind(field.type)
    return field.type if group == "scalar" else group


def _tag(field: Field, wire: int) -> bytes:
    return varints.encode(field.number << 3 | wire)


def _count(field: Field, value: Any) -> int:
    if isinstance(value, Lazy) and (value.type != field.type or field.type not in FIXED):
        raise WriteError(f"the field {field.name} holds {field.type} and was given {value.type} numbers that are made when written.")
    return value.size if isinstance(value, np.ndarray) else value.count if isinstance(value, Span | Lazy) else 1


def _loaded(field: Field, value: Span | Lazy | Array) -> Array:
    array = value if isinstance(value, np.ndarray) else value.array() if isinstance(value, Span) else np.asarray(value.load())
    if isinstance(value, Lazy) and array.size != value.count:
        raise WriteError(f"the field {field.name} was to hold {value.count} numbers and {array.size} came.")
    return array


def _each(field: Field, values: list[Any]) -> list[Any]:
    """The values one by one, arrays taken apart."""
    if not any(isinstance(v, Span | np.ndarray) for v in values):
        return values
    return [n for v in values for n in (_loaded(field, v).ravel().tolist() if isinstance(v, Span | np.ndarray) else [v])]


def _bits(message: Message, field: Field, type: str, value: Any) -> int:
    if type == "enum":
        number = message.schema.enums[field.type].get(value) if isinstance(value, str) else value
        if number is None:
            raise WriteError(f"{field.type} has no value {value!r}.", got=f"{message.kind}.{field.name}")
        return to_varint("int32", number)
    _in_range(field, type, value)
    return to_varint(type, value)


def _packed(field: Field, type: str, value: Any) -> bytes:
    if type in RANGES:
        _in_range(field, type, value)
        return int(value).to_bytes(int(FIXED[type][-1]), "little", signed=RANGES[type][0] < 0)
    if type == "double":
        return struct.pack("<d", value)
    with np.errstate(over="ignore"):
        return bytes(np.float32(value).astype("<f4").tobytes())


def _in_range(field: Field, type: str, value: Any) -> None:
    low, high = RANGES.get(type, (0, 1))
    if not low <= value <= high:
        raise WriteError(f"the field {field.name} ({type}) cannot hold {value}.", expected=f"{low} to {high}", got=str(value))


def _text(field: Field, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return str(value).encode("utf-8")
    except UnicodeEncodeError as e:
        raise WriteError(f"the field {field.name} holds text that no file can hold.", got=repr(value)[:80]) from e


def _text_length(field: Field, value: Any) -> int:
    return value.count if isinstance(value, Span) else len(_text(field, value))
