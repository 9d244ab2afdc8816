"""Read a message from bytes, never trusting a length and never touching numbers that nobody asked for yet.

Reference: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from niudao.errors import LimitError, ReadError, Where
from niudao.formats.protobuf import varints
from niudao.formats.protobuf.encode import size, write
from niudao.formats.protobuf.message import Limits, Message, Span, Unknown
from niudao.formats.protobuf.scalars import BYTES, END_GROUP, FIXED, FIXED32, FIXED64, GROUP, VARINT, from_varint, wire_type
from niudao.formats.protobuf.schema import Field, Schema

__all__ = ["read", "size", "write"]

# What decoded things cost in memory, about.
_MESSAGE, _UNKNOWN, _RUN, _VALUE, _TEXT = 500, 150, 200, 40, 60


def read(
    buffer: bytes | memoryview | mmap.mmap,
    schema: Schema,
    kind: str,
    *,
    file: str,
    spans: Mapping[str, Collection[str]] | None = None,
    limits: Limits | None = None,
    lenient_text: Collection[str] = (),
) -> Message:
    """Read one message that fills a buffer.

    Fields that the schema lacks, or whose wire type does not fit it, are listed in `Message.unknown`, each number once a message.

    Args:
        buffer: The bytes. Spans keep a view of them, so a memory map cannot be closed while they live.
        schema: The schema.
        kind: The message's name in it.
        file: The file's name, for errors.
        spans: Message -> names of its repeated numeric fields, or bytes fields, that are to become a `Span`.
        limits: What reading may spend; the usual limits if None.
        lenient_text: Messages whose strings may be no UTF-8; what is wrong in them is written as \\xNN.

    Raises:
        ReadError: The bytes are no such message.
        LimitError: It is deeper or larger than the limits.
    """
    view = memoryview(buffer).cast("B") if not isinstance(buffer, memoryview) or buffer.format != "B" else buffer
    reader = _Reader(view, schema, file, spans or {}, limits or Limits(), lenient_text)
    message = Message(kind, schema)
    reader.body(message, 0, len(view), 0)
    return message


class _Reader:
    def __init__(
        self, view: memoryview, schema: Schema, file: str, spans: Mapping[str, Collection[str]], limits: Limits, lenient: Collection[str]
    ) -> None:
        self.view = view
        self.schema = schema
        self.file = file
        self.spans = spans
        self.lenient = lenient
        self.limits = limits
        self.left = limits.bytes
        self.messages = 0
        self.path: list[tuple[str, int]] = []

    def place(self, at: int) -> str:
        path = ".".join(name + (f"[{i}]" if i >= 0 else "") for name, i in self.path)
        return f"at byte {at}" + (f", in {path}" if path else "")

    def broken(self, at: int, what: str) -> ReadError:
        return ReadError(f"the file is broken {self.place(at)}: {what}.", where=Where(file=self.file))

    def spend(self, cost: int, at: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise LimitError(
                f"the file takes more memory than allowed {self.place(at)}.",
                where=Where(file=self.file),
                expected=f"at most {self.limits.bytes} bytes of decoded values",
            )

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The 64 bits that begin at `at`, and where they end."""
        view, value, shift, start = self.view, 0, 0, at
        while at < end:
            byte = view[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift == 70:
                raise self.broken(start, "a number is longer than ten bytes")
        raise self.broken(start, "it ends inside a number")

    def body(self, message: Message, at: int, end: int, depth: int) -> None:
        """Read the fields between `at` and `end` into `message`."""
        if depth > self.limits.depth:
            raise LimitError(
                f"messages are nested deeper than {self.limits.depth} {self.place(at)}.",
                where=Where(file=self.file),
                expected=f"at most {self.limits.depth} messages inside each other",
            )
        self.messages += 1
        if self.messages > self.limits.messages:
            raise LimitError(
                f"the file holds more than {self.limits.messages} messages.",
                where=Where(file=self.file),
                expected=f"at most {self.limits.messages}",
            )
        self.spend(_MESSAGE, at)
        view, fields = self.view, self.schema.numbered[message.kind]
        spanned = self.spans.get(message.kind, ())
        strange: set[int] = set()
        while at < end:
            start = at
            tag = view[at]
            at += 1
            if tag >= 0x80:
                tag, at = self.varint(start, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise self.broken(start, f"no field has the number {number}")
            field = fields.get(number)
            next = None if field is None else self.field(message, field, wire, start, at, end, depth, field.name in spanned)
            if next is None:
                next = self.skip(number, wire, start, at, end, depth)
                if number not in strange:
                    strange.add(number)
                    self.spend(_UNKNOWN, start)
                    message.unknown.append(Unknown(f"field {number}"))
            at = next

    def field(self, message: Message, field: Field, wire: int, start: int, at: int, end: int, depth: int, spanned: bool) -> int | None:
        """Read the value of a field whose tag began at `start` and ended at `at`; None if its wire type does not fit."""
        type = field.type
        group = self.schema.kind(type)
        if group != "scalar":
            type = group
        natural = wire_type(type)
        if wire != natural:
            if wire == BYTES and field.repeated and natural != BYTES:
                return self.packed(message, field, type, at, end, spanned)
            return None
        if wire == BYTES:
            length, at = self.varint(at, end)
            if length > end - at:
                raise self.broken(start, f"{message.kind}.{field.name} says {length} bytes and {end - at} are left")
            if type == "message":
                self.submessage(message, field, at, at + length, depth)
            elif spanned and type == "bytes":
                self.spend(_RUN, start)
                _put(message, field, Span(self.view, "bytes", [(at, at + length, 1)], length))
            else:
                self.spend(length * (2 if type == "string" else 1) + _TEXT, start)
                data = bytes(self.view[at : at + length])
                _put(message, field, self.text(message, field, data, at) if type == "string" else data)
            return at + length
        if spanned and field.repeated:
            return self.unpacked(message, field, type, start, at, end)
        if wire == VARINT:
            value, at = self.varint(at, end)
            number = from_varint[type](value)
            if type == "enum":
                number = self.schema.names[field.type].get(number, number)
        else:
            dtype = FIXED[type]
            at += int(dtype[-1])
            if at > end:
                raise self.broken(start, "it ends inside a number")
            (number,) = struct.unpack_from("<" + _FORMATS[dtype], self.view, at - int(dtype[-1]))
        if field.repeated:
            self.spend(_VALUE, start)
        _put(message, field, number)
        return at

    def submessage(self, owner: Message, field: Field, at: int, end: int, depth: int) -> None:
        held = owner.fields.setdefault(field.name, [])
        if field.repeated or not held:
            held.append(Message(field.type, self.schema))
        self.path.append((field.name, len(held) - 1 if field.repeated else -1))
        self.body(held[-1], at, end, depth + 1)
        self.path.pop()

    def text(self, message: Message, field: Field, data: bytes, at: int) -> str:
        try:
            return data.decode("utf-8", "backslashreplace" if message.kind in self.lenient else "strict")
        except UnicodeDecodeError as e:
            raise self.broken(at + e.start, f"{message.kind}.{field.name} is no UTF-8 text") from e

    def packed(self, message: Message, field: Field, type: str, at: int, end: int, spanned: bool) -> int:
        """Many numbers behind one tag."""
        start = at
        length, at = self.varint(at, end)
        stop = at + length
        if stop > end:
            raise self.broken(start, f"{message.kind}.{field.name} says {length} bytes and {end - at} are left")
        width = int(FIXED[type][-1]) if type in FIXED else 0
        data = np.frombuffer(self.view[at:stop], np.uint8)
        count = varints.count(data) if not width else length // width if length % width == 0 else None
        if count is None:
            raise self.broken(start, f"{message.kind}.{field.name} holds {length} bytes, which are no whole {field.type} numbers")
        if not count:
            return stop
        if spanned:
            self.run(message, field, type, at, stop, width, count)
            return stop
        self.spend(count * (_VALUE if width else _VALUE + 48), start)
        numbers = (data.view(FIXED[type]) if width else varints.decode(data, type)).tolist()
        if type == "enum":
            names = self.schema.names[field.type]
            numbers = [names.get(n, n) for n in numbers]
        message.fields.setdefault(field.name, []).extend(numbers)
        return stop

    def unpacked(self, message: Message, field: Field, type: str, start: int, at: int, end: int) -> int:
        """Numbers of one field that each have their own tag: as many as follow on each other."""
        if type not in FIXED:
            _, stop = self.varint(at, end)
            self.run(message, field, type, at, stop, 0, 1)
            return stop
        tag = np.frombuffer(self.view[start:at], np.uint8)
        width = int(FIXED[type][-1])
        stride = len(tag) + width
        most = (end - start) // stride
        if not most:
            raise self.broken(start, "it ends inside a number")
        count, step = 1, 64
        while count < most:
            part = min(step, most - count)
            first = start + count * stride
            rows = np.frombuffer(self.view[first : first + part * stride], np.uint8).reshape(part, stride)
            same = (rows[:, : len(tag)] == tag).all(axis=1)
            alike = part if same.all() else int(same.argmin())
            count += alike
            if alike < part:
                break
            step = min(step * 2, 1 << 18)
        stop = start + count * stride
        self.run(message, field, type, at, stop, stride, count)
        return stop

    def run(self, message: Message, field: Field, type: str, start: int, stop: int, stride: int, count: int) -> None:
        self.spend(_RUN, start)
        held = message.fields.get(field.name)
        if held is None:
            held = message.fields[field.name] = [Span(self.view, type)]
        held[0].runs.append((start, stop, stride))
        held[0].count += count

    def skip(self, number: int, wire: int, start: int, at: int, end: int, depth: int) -> int:
        """Where the value of a strange field ends."""
        groups: list[int] = []
        while True:
            if wire == VARINT:
                _, at = self.varint(at, end)
            elif wire == BYTES:
                length, at = self.varint(at, end)
                at += length
            elif wire in (FIXED32, FIXED64):
                at += 4 if wire == FIXED32 else 8
            elif wire == GROUP:
                groups.append(number)
                if depth + len(groups) > self.limits.depth:
                    raise LimitError(
                        f"groups are nested deeper than {self.limits.depth} {self.place(start)}.",
                        where=Where(file=self.file),
                        expected=f"at most {self.limits.depth} messages inside each other",
                    )
            elif wire == END_GROUP:
                if not groups or groups.pop() != number:
                    raise self.broken(start, "a group ends that has not begun")
            else:
                raise self.broken(start, f"no field has the wire type {wire}")
            if at > end:
                raise self.broken(start, "it ends inside a field")
            if not groups:
                return at
            start = at
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise self.broken(start, f"no field has the number {number}")


_FORMATS = {"<f4": "f", "<f8": "d", "<u4": "I", "<u8": "Q", "<i4": "i", "<i8": "q"}


def _put(message: Message, field: Field, value: Any) -> None:
    """Append to a repeated field; of a field that holds one value the last one wins."""
    if field.repeated:
        message.fields.setdefault(field.name, []).append(value)
    else:
        message.fields[field.name] = [value]
