"""Read a message from protobuf's text format, as people write it by hand.

Reference: protobuf.dev, "Text Format Language Specification"; where it is silent, the reader that Caffe 1.0 uses.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from niudao.errors import LimitError, Where
from niudao.formats.protobuf.message import Limits, Message, Unknown
from niudao.formats.protobuf.print import write
from niudao.formats.protobuf.scalars import RANGES, single
from niudao.formats.protobuf.schema import Field, Schema
from niudao.formats.protobuf.tokens import Tokens, shown

__all__ = ["read", "write"]

# What read things cost in memory, about.
_MESSAGE, _UNKNOWN, _VALUE, _TEXT = 500, 150, 40, 60

GUESSES = 200
"""How many misspelt names of one file are compared with the names that exist."""

LONGEST = 1000
"""Characters of the longest number that is read: no double has more digits."""

_CLOSING = {"{": "}", "<": ">", "[": "]"}
_WHOLE = re.compile(r"0[xX][0-9a-fA-F]++|[0-9]++")
_DECIMAL = re.compile(r"(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?[fF]?")
_WORDS = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}
_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}


def read(data: bytes, schema: Schema, kind: str, *, file: str, limits: Limits | None = None, lenient_text: Collection[str] = ()) -> Message:
    """Read one message.

    A field that the message lacks is an error if its name is nearly that of one it has; otherwise it is passed over whole and
    listed in `Message.unknown`. Numbers of `float` fields are rounded to float32, so that they equal those of a binary file.

    Args:
        data: The text, UTF-8 (its comments may be anything).
        schema: The schema.
        kind: The message's name in it.
        file: The file's name, for errors.
        limits: What reading may spend; the usual limits if None.
        lenient_text: Messages whose strings may be no UTF-8; what is wrong in them is written as \\xNN.

    Raises:
        ReadError: The text is no such message; says line and column.
        LimitError: It is deeper or larger than the limits.
    """
    return _Reader(data, schema, file, limits or Limits(), lenient_text).message(kind)


class _Reader:
    def __init__(self, data: bytes, schema: Schema, file: str, limits: Limits, lenient: Collection[str]) -> None:
        self.schema = schema
        self.file = file
        self.limits = limits
        self.lenient = lenient
        self.left = limits.bytes
        self.messages = 0
        self.guesses: dict[tuple[str, str], str | None] = {}
        if len(data) * 4 > limits.bytes:  # one emoji makes Python keep four bytes for every character
            most = f"at most {limits.bytes // 4} bytes"
            raise LimitError("the text is longer than allowed.", where=file, expected=most, got=f"{len(data)} bytes")
        self.tokens = Tokens(data, file)

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise self.limit(f"the text takes more memory than {self.limits.bytes} bytes when it is read")

    def limit(self, what: str) -> LimitError:
        line, column = self.tokens.place(self.tokens.at)
        return LimitError(f"line {line}, column {column}: {what}.", where=Where(file=self.file, line=line))

    def message(self, kind: str) -> Message:
        """The whole text as one message."""
        message = self.begun(kind)
        self.body(message, "", "", 0)
        if self.tokens.kind != "end":
            raise self.tokens.error(self.tokens.at, f"{self.tokens.found()} closes nothing")
        return message

    def begun(self, kind: str) -> Message:
        self.messages += 1
        if self.messages > self.limits.messages:
            raise self.limit(f"the text holds more than {self.limits.messages} messages")
        self.spend(_MESSAGE)
        return Message(kind, self.schema, {}, *self.tokens.place(self.tokens.at))

    def body(self, message: Message, closing: str, name: str, depth: int) -> None:
        """Read fields up to the sign that closes the block, which stays at hand."""
        if depth > self.limits.depth:
            raise self.limit(f"messages are nested deeper than {self.limits.depth}")
        tokens, fields = self.tokens, self.schema.messages[message.kind]
        while True:
            if tokens.kind == "name":
                field = fields.get(tokens.value)
                if field is None:
                    self.unknown(message, depth)
                else:
                    self.field(message, field, depth)
            elif tokens.kind == "sign" and tokens.value in ",;":
                tokens.advance()
            elif tokens.kind == "sign" and tokens.value in "}>":
                if closing and tokens.value != closing:
                    raise tokens.error(tokens.at, f"{shown(closing)} is missing: {name} was opened at line {message.line}")
                return
            elif tokens.kind == "end":
                if closing:
                    raise tokens.error(tokens.at, f"{name}, opened at line {message.line}, is not closed", expected=shown(closing))
                return
            elif tokens.kind == "number" or (tokens.kind == "sign" and tokens.value == "["):
                self.unknown(message, depth)
            else:
                raise tokens.error(tokens.at, f"expected the name of a field, found {tokens.found()}")

    def field(self, message: Message, field: Field, depth: int) -> None:
        tokens, at = self.tokens, self.tokens.at
        group = self.schema.kind(field.type)
        if not field.repeated and field.name in message.fields:
            raise tokens.error(at, f"{message.kind} has one {field.name}, and here is a second")
        tokens.advance()
        if tokens.kind == "sign" and tokens.value == ":":
            tokens.advance()
        elif group != "message":
            raise tokens.error(tokens.at, f"expected ':' after {field.name}, found {tokens.found()}")
        held = message.fields.setdefault(field.name, [])
        if not (tokens.kind == "sign" and tokens.value == "["):
            held.append(self.value(message, field, group, depth))
            return
        if not field.repeated:
            raise tokens.error(tokens.at, f"{message.kind}.{field.name} holds one value, no list")
        tokens.advance()
        while not (tokens.kind == "sign" and tokens.value == "]"):
            held.append(self.value(message, field, group, depth))
            if tokens.kind == "sign" and tokens.value == ",":
                tokens.advance()
                if not (tokens.kind == "sign" and tokens.value == "]"):
                    continue
            elif tokens.kind == "sign" and tokens.value == "]":
                break
            raise tokens.error(tokens.at, f"expected ',' or ']' in the list of {field.name}, found {tokens.found()}")
        tokens.advance()

    def value(self, message: Message, field: Field, group: str, depth: int) -> Any:
        """One value, of a list or alone."""
        tokens = self.tokens
        if group == "message":
            if tokens.kind != "sign" or tokens.value not in "{<":
                raise tokens.error(tokens.at, f"{message.kind}.{field.name} expects a block in braces, found {tokens.found()}")
            closing = _CLOSING[tokens.value]
            inner = self.begun(field.type)
            tokens.advance()
            self.body(inner, closing, field.name, depth + 1)
            tokens.advance()
            return inner
        self.spend(_VALUE)
        if field.type in ("string", "bytes"):
            return self.quoted(message, field)
        at = tokens.at
        minus = tokens.kind == "sign" and tokens.value == "-"
        if minus:
            tokens.advance()
        if tokens.kind not in ("number", "name"):
            raise self.unfit(message, field, at)
        value: Any
        if group == "enum":
            value = self.enum(field, minus)
        elif field.type == "bool":
            value = self.truth(minus)
        elif field.type in RANGES:
            value = self.whole(message, field, minus, at)
        else:
            value = self.decimal(minus)
            value = single(value) if value is not None and field.type == "float" else value
        if value is None:
            raise self.unfit(message, field, at)
        tokens.advance()
        return value

    def quoted(self, message: Message, field: Field) -> str | bytes:
        tokens, at = self.tokens, self.tokens.at
        if tokens.kind != "text":
            raise tokens.error(at, f"{message.kind}.{field.name} expects a text in quotes, found {tokens.found()}")
        data = tokens.take_text()
        self.spend(_TEXT + 2 * len(data))
        if field.type == "bytes":
            return data
        try:
            return data.decode("utf-8", "backslashreplace" if message.kind in self.lenient else "strict")
        except UnicodeDecodeError as e:
            raise tokens.error(at, f"{message.kind}.{field.name} is no UTF-8 text", next="save the file as UTF-8") from e

    def enum(self, field: Field, minus: bool) -> str | None:
        word = self.tokens.value
        if self.tokens.kind == "number":
            number = _integer(word)
            return None if number is None else self.schema.names[field.type].get(-number if minus else number)
        return word if word in self.schema.enums[field.type] and not minus else None

    def truth(self, minus: bool) -> bool | None:
        if minus:
            return None
        if self.tokens.kind == "name":
            return _BOOLS.get(self.tokens.value)
        number = _integer(self.tokens.value)
        return bool(number) if number in (0, 1) else None

    def whole(self, message: Message, field: Field, minus: bool, at: int) -> int | None:
        number = _integer(self.tokens.value) if self.tokens.kind == "number" else None
        if number is None:
            return None
        number = -number if minus else number
        low, high = RANGES[field.type]
        if not low <= number <= high:
            what = f"{message.kind}.{field.name} ({field.type}) cannot hold {self.shown(at)}"
            raise self.tokens.error(at, what, expected=f"{low} to {high}")
        return number

    def decimal(self, minus: bool) -> float | None:
        word = self.tokens.value
        if self.tokens.kind == "name":
            number = _WORDS.get(word.lower())
        elif len(word) > LONGEST or not _DECIMAL.fullmatch(word) or (word.isdigit() and word[0] == "0" != word):
            # 010 is octal, and no octal number is a decimal one
            return None
        else:
            number = float(word.rstrip("fF"))
        return -number if minus and number is not None else number

    def shown(self, at: int) -> str:
        """What stands from `at` to the end of the word at hand."""
        tokens = self.tokens
        return tokens.found() if tokens.kind == "end" else shown(tokens.text[at : min(tokens.stop, at + 100)])

    def unfit(self, message: Message, field: Field, at: int) -> Exception:
        """The error for a value of the wrong kind."""
        place, found = f"{message.kind}.{field.name}", self.shown(at)
        enum = self.schema.enums.get(field.type)
        if enum is None:
            kind = "true or false" if field.type == "bool" else "a whole number" if field.type in RANGES else "a number"
            return self.tokens.error(at, f"{place} expects {kind}, found {found}")
        near = get_close_matches(self.tokens.value[:60].strip("\"'").upper(), enum, n=1, cutoff=0.6)
        known = ", ".join(list(enum)[:20])
        if self.tokens.kind == "text" and near:
            return self.tokens.error(at, f"{place} expects a name without quotes, found {found}", expected=known)
        hint = f"; did you mean {near[0]}?" if near else f"; it is one of {known}"
        return self.tokens.error(at, f"{place} has no value {found}{hint}", expected=known)

    def unknown(self, message: Message, depth: int) -> None:
        """Pass over a field that the message lacks, or refuse it if it is a misspelt one."""
        tokens, at = self.tokens, self.tokens.at
        name = self.extension() if tokens.value == "[" else tokens.value
        near = self.guess(message.kind, name)
        if near:
            raise tokens.error(at, f"{message.kind} has no field {shown(name)}; did you mean {near}?", expected=near)
        self.spend(_UNKNOWN + len(name) * 4)
        message.unknown.append(Unknown(name, *tokens.place(at)))
        tokens.advance()
        colon = tokens.kind == "sign" and tokens.value == ":"
        if colon:
            tokens.advance()
        if tokens.kind == "sign" and tokens.value in "{<[" and (colon or tokens.value != "["):
            self.skip_block(name, depth)
        elif not colon:
            raise tokens.error(tokens.at, f"expected ':' or a block after {shown(name)}, found {tokens.found()}")
        elif tokens.kind == "text":
            while tokens.kind == "text":
                tokens.advance()
        else:
            if tokens.kind == "sign" and tokens.value == "-":
                tokens.advance()
            if tokens.kind not in ("name", "number"):
                raise tokens.error(tokens.at, f"expected a value of {shown(name)}, found {tokens.found()}")
            tokens.advance()

    def extension(self) -> str:
        """The name in brackets at hand; leaves its last bracket at hand."""
        tokens, parts = self.tokens, ["["]
        tokens.advance()
        while tokens.kind == "name" or (tokens.kind == "sign" and tokens.value in "./-"):
            parts.append(tokens.value)
            tokens.advance()
        if tokens.value != "]" or len(parts) == 1:
            raise tokens.error(tokens.at, f"expected the name of an extension in brackets, found {tokens.found()}")
        return "".join([*parts, "]"])

    def guess(self, kind: str, name: str) -> str | None:
        """The field that a name is nearly the name of."""
        key = (kind, name)
        if len(name) > 60 or (key not in self.guesses and len(self.guesses) >= GUESSES):  # comparing takes time
            return None
        if key not in self.guesses:
            lowered = {known.lower(): known for known in self.schema.messages[kind]}
            near = get_close_matches(name.lower(), lowered, n=1, cutoff=0.8)
            self.guesses[key] = lowered[near[0]] if near else None
        return self.guesses[key]

    def skip_block(self, name: str, depth: int) -> None:
        """Pass over a block or list and what it holds, which must be balanced."""
        tokens, (line, _) = self.tokens, self.tokens.place(self.tokens.at)
        opened: list[str] = []
        while True:
            if tokens.kind == "end":
                raise tokens.error(tokens.at, f"{shown(name)}, opened at line {line}, is not closed", expected=shown(opened[-1]))
            if tokens.kind == "sign" and tokens.value in "{<[":
                opened.append(_CLOSING[tokens.value])
                if depth + len(opened) > self.limits.depth:
                    raise self.limit(f"messages are nested deeper than {self.limits.depth}")
            elif tokens.kind == "sign" and tokens.value in "}>]" and tokens.value != opened.pop():
                raise tokens.error(tokens.at, f"{tokens.found()} closes nothing inside {shown(name)}, opened at line {line}")
            tokens.advance()
            if not opened:
                return


def _integer(word: str) -> int | None:
    """A number as C writes it: decimal, 0x and hexadecimal, 0 and octal; None if it is none, or longer than any type holds."""
    if not _WHOLE.fullmatch(word) or len(word) > 40:
        return None
    try:
        return int(word, 16 if word[1:2] in ("x", "X") else 8 if len(word) > 1 and word[0] == "0" else 10)
    except ValueError:
        return None
