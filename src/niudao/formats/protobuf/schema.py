"""A schema as a value: which fields a message has, their numbers, types and defaults; read from .proto text of our own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from niudao.formats.protobuf.scalars import DTYPES, RANGES, ZERO, single


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        name: Its name.
        number: Its number in binary files; 0 for a field that exists in texts only.
        type: A scalar type ("int32", "float", "string", ...), or the full name of a message or enum.
        repeated: Whether it holds any number of values.
        default: The value where it is absent; None for protobuf's zero (of an enum: its first name).
        packed: Whether several numbers are written behind one tag. Both forms are read.
    """

    name: str
    number: int
    type: str
    repeated: bool = False
    default: Any = None
    packed: bool = False


@dataclass(frozen=True, eq=False)
class Schema:
    """Messages and enums by full name; a type nested in message `A` is called `A.Name`.

    Attributes:
        messages: Message -> field name -> field.
        enums: Enum -> name -> number.
        numbered: Message -> field number -> field, of those that binary files can hold.
        names: Enum -> number -> its first name.
    """

    messages: dict[str, dict[str, Field]]
    enums: dict[str, dict[str, int]]
    numbered: dict[str, dict[int, Field]] = field(init=False, repr=False)
    names: dict[str, dict[int, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        numbered = {kind: {f.number: f for f in fields.values() if f.number} for kind, fields in self.messages.items()}
        names: dict[str, dict[int, str]] = {enum: {} for enum in self.enums}
        for enum, values in self.enums.items():
            for name, number in values.items():
                names[enum].setdefault(number, name)
        object.__setattr__(self, "numbered", numbered)
        object.__setattr__(self, "names", names)

    def kind(self, type: str) -> str:
        """Whether a type is a "scalar", a "message" or an "enum".

        Raises:
            KeyError: The schema has no such type.
        """
        if type in ZERO:
            return "scalar"
        if type in self.messages:
            return "message"
        if type in self.enums:
            return "enum"
        raise KeyError(f"the schema has no type {type!r}")

    def zero(self, field: Field) -> Any:
        """The value of a field that is absent; None for a message."""
        if field.default is not None:
            return field.default
        if field.type in ZERO:
            return ZERO[field.type]
        values = self.enums.get(field.type)
        return next(iter(values), 0) if values is not None else None


def parse(text: str) -> Schema:
    """Read the definitions of a .proto text: messages, enums, maps, oneofs (treated as their fields), proto2 and proto3.

    Services, extensions and options of messages mean nothing for reading files and are passed over.

    Raises:
        ValueError: The text is no such definition.
    """
    return _Parser(text).schema()


_TOKEN = re.compile(r'(?:\s++|//[^\n]*+|/\*.*?\*/)*+([A-Za-z_.][\w.]*+|[-+]?[0-9.][\w.+-]*+|"[^"\n]*+"|[-+]?\w++|[^\s])', re.S)


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        self.at = 0
        self.packed = False
        self.package = ""
        self.messages: dict[str, dict[str, Field]] = {}
        self.enums: dict[str, dict[str, int]] = {}

    def take(self, expected: str | None = None) -> str:
        if self.at == len(self.tokens):
            raise ValueError("the .proto text ends too early")
        token: str = self.tokens[self.at]
        self.at += 1
        if expected is not None and token != expected:
            near = " ".join(self.tokens[max(0, self.at - 6) : self.at])
            raise ValueError(f"the .proto text has {token!r} instead of {expected!r} near {near!r}")
        return token

    def skip(self) -> None:
        """Pass over one statement: up to its `;`, or its block."""
        depth = 0
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0 and token in (";", "}"):
                return

    def schema(self) -> Schema:
        while self.at < len(self.tokens):
            match self.take():
                case "syntax":
                    self.take("=")
                    self.packed = self.take() == '"proto3"'
                    self.take(";")
                case "package":
                    self.package = self.take() + "."
                    self.take(";")
                case "message":
                    self.message("")
                case "enum":
                    self.enum("")
                case ";":
                    pass
                case _:
                    self.skip()
        schema = Schema({}, {})
        for scope, fields in self.messages.items():
            schema.messages[scope] = {f.name: self.resolved(f, scope) for f in fields.values()}
        return Schema(schema.messages, self.enums)

    def message(self, scope: str) -> None:
        full = scope + self.take()
        self.take("{")
        fields = self.messages.setdefault(full, {})
        while (token := self.take()) != "}":
            match token:
                case "message":
                    self.message(full + ".")
                case "enum":
                    self.enum(full + ".")
                case "oneof":
                    self.take()
                    self.take("{")
                    while (inner := self.take()) != "}":
                        if inner == "option":
                            self.skip()
                        else:
                            self.field(fields, inner, "")
                case "map":
                    self.map(full, fields)
                case "optional" | "required" | "repeated":
                    self.field(fields, self.take(), token)
                case "extensions" | "reserved" | "option" | "extend":
                    self.skip()
                case ";":
                    pass
                case _:
                    self.field(fields, token, "")

    def field(self, fields: dict[str, Field], type: str, label: str) -> None:
        name = self.take()
        self.take("=")
        number = int(self.take(), 0)
        options = self.options()
        repeated = label == "repeated"
        if name in fields or (number and any(f.number == number for f in fields.values())):
            raise ValueError(f"the .proto text has field {name} or its number {number} twice")
        packed = repeated and options.get("packed", str(self.packed).lower()) == "true"
        fields[name] = Field(name, number, type, repeated, options.get("default"), packed)

    def map(self, scope: str, fields: dict[str, Field]) -> None:
        """A map is a repeated message of a key and a value."""
        self.take("<")
        key = self.take()
        self.take(",")
        value = self.take()
        self.take(">")
        entry = "".join(part.capitalize() for part in self.tokens[self.at].split("_")) + "Entry"
        self.messages[f"{scope}.{entry}"] = {"key": Field("key", 1, key), "value": Field("value", 2, value)}
        self.field(fields, entry, "repeated")

    def options(self) -> dict[str, str]:
        options = {}
        if (token := self.take()) == "[":
            while token != "]":
                name = self.take()
                self.take("=")
                options[name] = self.take()
                token = self.take()
            token = self.take()
        if token != ";":
            raise ValueError(f"the .proto text has {token!r} instead of ';'")
        return options

    def enum(self, scope: str) -> None:
        values = self.enums.setdefault(scope + self.take(), {})
        self.take("{")
        while (token := self.take()) != "}":
            if token in ("option", "reserved"):
                self.skip()
            elif token != ";":
                self.take("=")
                values[token] = int(self.take(), 0)
                self.options()

    def resolved(self, field: Field, scope: str) -> Field:
        """The field with the full name of its type, the innermost first, and its default as a value."""
        type = field.type.lstrip(".").removeprefix(self.package)
        if type not in ZERO:
            parts = scope.split(".")
            places = [".".join([*parts[:n], type]) for n in range(len(parts), -1, -1)]
            found = next((p for p in places if p in self.messages or p in self.enums), None)
            if found is None:
                raise ValueError(f"the .proto text names a type {type!r} that it lacks")
            type = found
        default = None if field.default is None else _default(type, field.default)
        if type in self.enums and default is not None and default not in self.enums[type]:
            raise ValueError(f"{type} has no value {default}, the default of {field.name}")
        numeric = type in DTYPES or type in self.enums
        return Field(field.name, field.number, type, field.repeated, default, field.packed and numeric)


def _default(type: str, text: str) -> Any:
    readers: dict[str, Callable[[str], Any]] = {
        "bool": lambda t: t == "true",
        "float": lambda t: single(float(t)),
        "double": float,
        "string": lambda t: t[1:-1],
        "bytes": lambda t: t[1:-1].encode(),
    }
    if type in RANGES:
        return int(text, 0)
    return readers.get(type, str)(text)
