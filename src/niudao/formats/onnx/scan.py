"""A walk over the wire format of an ONNX file, within bounds, before protobuf sees a byte of it.

Protobuf would hold the whole file in memory, twice. The walk finds the big weights of the main graph, so that `skeleton`
can hand protobuf a message without their bytes, in which they are external data that lies in the very same file. It also
counts messages, so that a small file cannot unfold into gigabytes of empty nodes.

Field numbers: onnx/onnx.proto (ModelProto 7 graph; GraphProto 1 node, 5 initializer; TensorProto 1 dims, 2 data_type,
4 float_data, 9 raw_data, 10 double_data, 13 external_data, 14 data_location).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap

from niudao.errors import LimitError, ReadError, Where
from niudao.formats.files import MAX_MEMORY
from niudao.ir.wire import BIG
from niudao.ir.wire import varint as write_varint

MAX_MESSAGES = 4_000_000
MAX_DEPTH = 100
MAX_NODES, MAX_GRAPHS = 200_000, 5_000
MAX_ENDS, MAX_ATTRIBUTES = 1 << 16, 1000
"""Inputs and outputs, and attributes, of one node."""
MAX_NUMBERS = 2_000_000
"""Numbers and texts in the lists of attributes and string tensors, all of them together: each becomes a Python object."""
MAX_NAME, MAX_TEXT = 8192, 16 << 20
"""Bytes of one name, which is copied with every node it appears in, and of one description or entry of the metadata."""

Buffer = bytes | memoryview | mmap

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function", 20: "training", 8: "opset", 14: "entry"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "annotation", 15: "sparse", 16: "entry"},
    "node": {5: "attribute", 9: "entry"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute", 12: "value", 14: "entry"},
    "training": {1: "graph", 2: "graph", 3: "entry", 4: "entry"},
    "tensor": {13: "entry", 16: "entry"},
    "sparse": {1: "tensor", 2: "tensor"},
    "value": {2: "type", 4: "entry"},
    "type": {1: "tensor_type", 4: "nest", 5: "nest", 8: "tensor_type", 9: "nest"},
    "nest": {1: "type", 2: "type"},
    "tensor_type": {2: "shape"},
    "shape": {1: "dim"},
    "annotation": {2: "entry"},
    "entry": {},
    "opset": {},
    "dim": {},
}
_TEXTS: dict[str, frozenset[int]] = {
    "model": frozenset({2, 3, 4, 6}),
    "graph": frozenset({2, 10}),
    "node": frozenset({1, 2, 3, 4, 6, 7, 8}),
    "attribute": frozenset({1, 13, 21}),
    "function": frozenset({1, 4, 5, 6, 8, 10, 13}),
    "tensor": frozenset({8, 12}),
    "value": frozenset({1, 3}),
    "type": frozenset({6}),
    "annotation": frozenset({1}),
    "entry": frozenset({1, 2}),
    "opset": frozenset({1}),
    "dim": frozenset({2, 3}),
}
"""Fields that hold text. protobuf hands text that is not UTF-8 over as bytes, which no later step expects."""

_LONG = frozenset(
    {("model", 6), ("graph", 10), ("node", 6), ("function", 8), ("attribute", 13), ("tensor", 12), ("value", 3), ("entry", 2)}
)
"""Texts that are no names: descriptions and metadata may be long."""

_LISTS = {"attribute": {7: 4, 8: 1, 9: 0}, "tensor": {6: 0}}
"""Fields that hold a list, with the least bytes of one element where the list may be packed."""

_PACKED = {4: 1, 10: 11}
"""Typed fields whose packed form is the array's little-endian bytes: float_data of FLOAT, double_data of DOUBLE."""


@dataclass(frozen=True)
class Cut:
    """A big weight: its message lies at `start:end`, its bytes at `data:data + length`."""

    start: int
    end: int
    field_start: int
    field_end: int
    data: int
    length: int


@dataclass
class _Budget:
    messages: int = 0
    nodes: int = 0
    graphs: int = 0
    numbers: int = 0
    cuts: list[Cut] = field(default_factory=list)


def varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """Value and next position.

    Raises:
        ReadError: It does not end where it should.
    """
    value = shift = 0
    while at < end:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            break
    raise ReadError("a number in the file does not end.", got=f"byte {at}")


def fields(buffer: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Every field of a message as (number, wire type, where the field starts, where its payload starts, where it ends).

    Raises:
        ReadError: A field is longer than the message around it, or of a kind that protobuf does not have.
    """
    at = start
    while at < end:
        tag, payload = varint(buffer, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, stop = varint(buffer, payload, end)
        elif kind == 1:
            stop = payload + 8
        elif kind == 2:
            length, payload = varint(buffer, payload, end)
            stop = payload + length
        elif kind == 5:
            stop = payload + 4
        else:
            raise ReadError("this is no ONNX model: a field is of a kind that ONNX does not use.", got=f"wire type {kind} at byte {at}")
        if number == 0 or stop > end:
            raise ReadError(
                "the file is cut short or damaged: a field reaches beyond the message that holds it.",
                expected=f"at most {end - payload} bytes",
                got=f"{stop - payload} bytes at byte {at}",
            )
        yield number, kind, at, payload, stop
        at = stop


def _big_payload(buffer: Buffer, start: int, end: int) -> tuple[int, int, int, int] | None:
    """Of a tensor message: field start and end, payload start and length of the one field that holds its bytes."""
    found: list[tuple[int, int, int, int, int]] = []
    dtype, external = 0, False
    for number, kind, at, payload, stop in fields(buffer, start, end):
        if number == 2 and kind == 0:
            dtype, _ = varint(buffer, payload, stop)
        elif number in (13, 14):
            external = True
        elif number in (4, 5, 6, 7, 9, 10, 11):
            found.append((number, kind, at, payload, stop))
    if external or len(found) != 1:
        return None
    number, kind, at, payload, stop = found[0]
    if kind != 2 or stop - payload < BIG or dtype == 8 or not (number == 9 or _PACKED.get(number) == dtype):
        return None
    return at, stop, payload, stop - payload


def _check_text(raw: bytes, at: int, *, name: bool) -> None:
    most = MAX_NAME if name else MAX_TEXT
    if len(raw) > most:
        raise LimitError("a name or text in the file is too long.", expected=f"at most {most} bytes", got=f"{len(raw)} at byte {at}")
    try:
        raw.decode()
    except UnicodeDecodeError as e:
        raise ReadError("a name or text in the file is not UTF-8.", got=f"{raw[:40]!r} at byte {at}") from e


def _walk(buffer: Buffer, kind: str, start: int, end: int, depth: int, budget: _Budget, top: bool) -> None:
    if depth > MAX_DEPTH:
        raise LimitError("the file nests deeper than any network does.", expected=f"at most {MAX_DEPTH} levels")
    children, texts, lists = _CHILDREN[kind], _TEXTS.get(kind, frozenset()), _LISTS.get(kind, {})
    ends = attributes = 0
    for number, wire, at, payload, stop in fields(buffer, start, end):
        child = children.get(number)
        if kind == "node":
            ends += number in (1, 2)
            attributes += number == 5
            if ends > MAX_ENDS or attributes > MAX_ATTRIBUTES:
                limits = f"at most {MAX_ENDS} inputs and outputs and {MAX_ATTRIBUTES} attributes"
                raise LimitError("a node has more inputs, outputs or attributes than any node does.", expected=limits)
        if number in lists:
            least = lists[number]
            budget.numbers += (stop - payload) // least if wire == 2 and least else 1
            if budget.numbers > MAX_NUMBERS:
                raise LimitError("the lists of the file's attributes are too long.", expected=f"at most {MAX_NUMBERS} numbers and texts")
        if child is None:
            if number in texts and wire == 2:
                _check_text(bytes(buffer[payload:stop]), at, name=(kind, number) not in _LONG)
            continue
        if wire != 2:
            raise ReadError("this is no ONNX model: a message is stored as a number.", got=f"field {number} of a {kind} at byte {at}")
        budget.messages += 1
        if budget.messages > MAX_MESSAGES:
            raise LimitError("the file holds more parts than any network does.", expected=f"at most {MAX_MESSAGES} messages")
        if child == "node":
            budget.nodes += 1
            if budget.nodes > MAX_NODES:
                raise LimitError("the file holds more nodes than any network does.", expected=f"at most {MAX_NODES} nodes")
        budget.graphs += child == "graph"
        if budget.graphs > MAX_GRAPHS:
            raise LimitError("the file holds more inner graphs than any network does.", expected=f"at most {MAX_GRAPHS}")
        if child == "tensor" and top and kind == "graph" and stop - payload >= BIG:
            big = _big_payload(buffer, payload, stop)
            if big is not None:
                budget.cuts.append(Cut(at, stop, *big))
            _walk(buffer, child, payload, stop, depth + 1, budget, top=False)
        else:
            _walk(buffer, child, payload, stop, depth + 1, budget, top=kind == "model" and child == "graph")


def find_cuts(buffer: Buffer, where: Where) -> list[Cut]:
    """Walk the file; the big weights of its main graph, in file order.

    Raises:
        ReadError: It is cut short, damaged, or no protobuf message.
        LimitError: It holds more parts, or nests deeper, than any network does.
    """
    budget = _Budget()
    try:
        _walk(buffer, "model", 0, len(buffer), 0, budget, top=False)
    except ReadError as e:
        e.where = where
        raise
    rest = len(buffer) - sum(c.length for c in budget.cuts)
    if rest > MAX_MEMORY // 4:
        raise LimitError(
            "the part of the file that is not weights is too large.",
            where=where,
            expected=f"at most {MAX_MEMORY // 4} bytes",
            got=f"{rest} bytes",
            next="set NIUDAO_MAX_MEMORY",
        )
    return budget.cuts


def _block(number: int, body: bytes) -> bytes:
    return write_varint(number << 3 | 2) + write_varint(len(body)) + body


def _external(location: str, cut: Cut) -> bytes:
    """The fields that say "my bytes are at this place of that file" (TensorProto 13 and 14)."""
    pairs = (("location", location), ("offset", str(cut.data)), ("length", str(cut.length)))
    entries = b"".join(_block(13, _block(1, k.encode()) + _block(2, v.encode())) for k, v in pairs)
    return entries + write_varint(14 << 3) + write_varint(1)


def skeleton(buffer: Buffer, cuts: list[Cut], location: str) -> bytes:
    """The model's message with every cut weight pointing into the file called `location` instead of holding its bytes."""
    if not cuts:
        return bytes(buffer)
    out = bytearray()
    remaining = list(reversed(cuts))
    for number, _, at, payload, stop in fields(buffer, 0, len(buffer)):
        if number != 7 or not remaining or remaining[-1].start >= stop:
            out += buffer[at:stop]
            continue
        graph, here = bytearray(), payload
        while remaining and remaining[-1].start < stop:
            cut = remaining.pop()
            graph += buffer[here : cut.start]
            inner = next(fields(buffer, cut.start, cut.end))[3]
            tensor = bytes(buffer[inner : cut.field_start]) + bytes(buffer[cut.field_end : cut.end]) + _external(location, cut)
            graph += _block(5, tensor)
            here = cut.end
        graph += buffer[here:stop]
        out += _block(7, bytes(graph))
    return bytes(out)
