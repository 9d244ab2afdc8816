"""Bad caffemodel files: binary networks that hold their topology, and what their blobs and their encoding can get wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from math import prod

from badfile import BadFile, Verdict, from_bytes, other_kinds
from onnx_traps import field_bytes, varint, wire

ENDING = ".caffemodel"


def number(field: int, value: int) -> bytes:
    return wire(field, 0, varint(value & (1 << 64) - 1))


def blob(shape: Sequence[int], data: bytes | None = None, *, legacy: bool = False, more: bytes = b"") -> bytes:
    """A BlobProto."""
    count = prod(shape)
    held = struct.pack(f"<{count}f", *(0.01 * (i % 17) for i in range(count))) if data is None else data
    dims = b"".join(varint(d & (1 << 64) - 1) for d in shape)
    said = b"".join(number(i + 1, d) for i, d in enumerate(shape)) if legacy else field_bytes(7, field_bytes(1, dims))
    return said + field_bytes(5, held) + more


def layer(
    name: str, type: str, bottoms: Sequence[str] = (), tops: Sequence[str] = (), blobs: Sequence[bytes] = (), more: bytes = b""
) -> bytes:
    """A LayerParameter."""
    text = field_bytes(1, name.encode()) + field_bytes(2, type.encode())
    text += b"".join(field_bytes(3, b.encode()) for b in bottoms) + b"".join(field_bytes(4, t.encode()) for t in tops)
    return text + b"".join(field_bytes(7, b) for b in blobs) + more


def net(*layers: bytes, more: bytes = b"") -> bytes:
    """A NetParameter."""
    return field_bytes(1, b"net") + b"".join(field_bytes(100, x) for x in layers) + more


SHAPE = field_bytes(1, b"".join(varint(d) for d in (1, 3, 6, 6)))
INPUT = layer("data", "Input", tops=["data"], more=field_bytes(143, field_bytes(1, SHAPE)))
CONV = field_bytes(106, number(1, 2) + number(4, 3))
RELU = layer("relu", "ReLU", ["conv"], ["conv"])


def conv(*blobs: bytes, more: bytes = CONV) -> bytes:
    return layer("conv", "Convolution", ["data"], ["conv"], blobs, more)


def good() -> bytes:
    """Input, convolution, ReLU."""
    return net(INPUT, conv(blob((2, 3, 3, 3)), blob((2,))), RELU)


def weights_of(shapes: Mapping[str, Sequence[Sequence[int]]]) -> bytes:
    """Weights alone, for a prototxt."""
    return net(*(layer(name, "Convolution", blobs=[blob(s) for s in many]) for name, many in shapes.items()))


def blobs() -> Iterator[tuple[str, bytes, str, Verdict]]:
    """(name, file, what the answer says, verdict): the numbers."""
    bias = blob((2,))
    yield "control", good(), "", "open"
    yield "control-legacy-shape", net(INPUT, conv(blob((2, 3, 3, 3), legacy=True), blob((1, 1, 1, 2), legacy=True))), "", "open"
    unpacked = b"".join(wire(5, 5, struct.pack("<f", 0.5)) for _ in range(54))
    said = field_bytes(7, field_bytes(1, b"".join(varint(d) for d in (2, 3, 3, 3))))
    yield "control-unpacked", net(INPUT, conv(said + unpacked, bias)), "", "open"
    halves = field_bytes(5, struct.pack("<27f", *[0.5] * 27)) * 2
    yield "control-two-pieces", net(INPUT, conv(said + halves, bias)), "", "open"
    yield "control-double", net(INPUT, conv(said + field_bytes(8, struct.pack("<54d", *[0.5] * 54)), bias)), "", "open"
    yield "control-half", net(INPUT, conv(said + number(10, 2) + field_bytes(12, bytes(108)), bias)), "", "open"
    for name, shape in {"huge": (2**20, 2**20, 3, 3), "overflow": (2**32,) * 4, "negative": (-2, 3, 3, 3), "zero": (0, 3, 3, 3),
                        "many": (1,) * 5000, "other": (3, 3, 3, 3), "2-63": (2**63 - 1,)}.items():  # fmt: skip
        yield f"shape-{name}", net(INPUT, conv(blob(shape, bytes(216)), bias)), "", "refuse"
    yield "shape-legacy-huge", net(INPUT, conv(blob((2**31 - 1,) * 4, bytes(216), legacy=True), bias)), "", "refuse"
    for name, data in {"short": bytes(200), "long": bytes(232), "odd": bytes(215), "none": b""}.items():
        yield f"data-{name}", net(INPUT, conv(blob((2, 3, 3, 3), data), bias)), "", "refuse"
    yield "data-raw-short", net(INPUT, conv(said + number(10, 2) + field_bytes(12, bytes(100)), bias)), "", "refuse"
    yield "data-raw-kind", net(INPUT, conv(said + number(10, 9) + field_bytes(12, bytes(108)), bias)), "", "refuse"
    yield "blobs-none", net(INPUT, conv()), "conv", "refuse"
    yield "blobs-one", net(INPUT, conv(blob((2, 3, 3, 3)))), "conv", "refuse"
    yield "blobs-three", net(INPUT, conv(blob((2, 3, 3, 3)), bias, bias)), "conv", "refuse"
    yield "blobs-million", net(INPUT, conv(blob((2, 3, 3, 3)), bias), *[layer("x", "Split", blobs=[b""] * 1000)] * 200), "", "either"
    yield "blob-nan", net(INPUT, conv(blob((2, 3, 3, 3), struct.pack("<54f", *[float("nan")] * 54)), bias)), "", "open"


def networks() -> Iterator[tuple[str, bytes, str, Verdict]]:
    """The topology and the encoding."""
    yield "no-layers", net(), "", "refuse"
    yield "empty-layers", net(*[b""] * 200_000), "", "refuse"
    yield "no-types", net(layer("a", ""), layer("b", "")), "", "refuse"
    yield "no-input", net(conv(blob((2, 3, 3, 3)), blob((2,)))), "data", "refuse"
    yield (
        "python",
        net(INPUT, layer("p", "Python", ["data"], ["y"], more=field_bytes(130, field_bytes(1, b"os") + field_bytes(2, b"system")))),
        "never",
        "refuse",
    )
    yield "name-control", net(INPUT, layer("a\x1b[31m\x00\u202e", "ReLU", ["data"], ["y"])), "", "either"
    yield "name-not-utf8", net(INPUT, layer("q", "ReLU", ["data"], ["y"]).replace(b"q", b"\xff")), "", "either"
    yield "type-control", net(INPUT, layer("a", "Re\x1b[2JLU", ["data"], ["y"])), "", "refuse"
    yield "name-long", net(INPUT, layer("x" * 2_000_000, "ReLU", ["data"], ["y"])), "", "either"
    yield "chain", net(INPUT, *[layer(f"r{i}", "ReLU", ["data"], ["data"]) for i in range(3000)]), "", "either"
    yield "v1-type", field_bytes(1, b"net") + field_bytes(2, field_bytes(4, b"a") + number(5, 99) + field_bytes(2, b"data")), "", "refuse"
    base = good()
    yield "wire-garbage-after", base + b"\x07\xff\xff garbage", "", "refuse"
    yield "wire-unknown-field", base + field_bytes(999, b"hello"), "", "either"
    yield "wire-varint-endless", base + b"\x18" + b"\xff" * 30, "", "refuse"
    yield "wire-length-past-end", base + wire(100, 2, varint(2**31)), "", "refuse"
    yield "wire-length-2-64", base + wire(100, 2, varint(2**64 - 1)), "", "refuse"
    yield "wire-group-open", base + wire(100, 3) * 3000, "", "refuse"
    yield "wire-groups-deep", base + wire(50, 3) * 20_000 + wire(50, 4) * 20_000, "", "refuse"
    yield "wire-type-7", base + wire(100, 7, b"1234"), "", "refuse"
    yield "wire-layer-as-number", base + wire(100, 0, b"\x05"), "", "either"
    yield "wire-field-zero", base + wire(0, 2, b"\x01a"), "", "refuse"
    deep = b""
    for _ in range(3000):
        deep = field_bytes(1, deep)
    yield "wire-deep-unknown", base + field_bytes(777, deep), "", "either"


def cases() -> Iterator[BadFile]:
    """Every case of this format."""
    for name, data, says, verdict in (*blobs(), *networks()):
        yield from_bytes(name, data, ENDING, says, verdict)
    for case in other_kinds(ENDING, good()):
        plain = case.name.startswith(("cut", "crlf", "head", "middle"))
        yield BadFile(case.name, case.make, case.says, "either" if plain else case.verdict)
    yield from import_module("caffe_wire").cases()  # it builds upon this module
