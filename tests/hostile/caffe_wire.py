"""Bad caffemodel files: older generations in binary, blobs stored in every way, and the wire format's own traps."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator

import bad_caffemodel as base
from bad_caffemodel import CONV, INPUT, RELU, blob, conv, layer, net, number
from badfile import BadFile, Verdict, from_bytes
from onnx_traps import field_bytes, varint, wire

Row = tuple[str, bytes, str, Verdict]
DIMS = b"".join(number(4, d) for d in (1, 3, 6, 6))
DECLARED = field_bytes(3, b"data") + DIMS
SAID = field_bytes(7, field_bytes(1, b"".join(varint(d) for d in (2, 3, 3, 3))))
BIAS = blob((2,))


def old(*layers: bytes, head: bytes = DECLARED) -> bytes:
    """A network of 2013 or 2014."""
    return field_bytes(1, b"net") + head + b"".join(field_bytes(2, x) for x in layers)


def v1(name: str = "conv", type: int = 4, bottom: str = "data", more: bytes = CONV.replace(b"\xd2\x06", b"\x52", 1)) -> bytes:
    """A V1LayerParameter: 2 bottom, 3 top, 4 name, 5 type, 6 blobs, 10 convolution_param."""
    return (
        field_bytes(2, bottom.encode()) + field_bytes(3, b"conv") + field_bytes(4, name.encode()) + number(5, type)
        + field_bytes(6, blob((2, 3, 3, 3), legacy=True)) + field_bytes(6, blob((1, 1, 1, 2), legacy=True)) + more
    )  # fmt: skip


def v0(type: str = "conv", more: bytes = number(3, 2) + number(8, 3)) -> bytes:
    """A V1LayerParameter around a V0LayerParameter: 1 name, 2 type, 3 num_output, 8 kernelsize, 50 blobs."""
    inner = field_bytes(1, b"conv") + field_bytes(2, type.encode()) + more
    inner += field_bytes(50, blob((2, 3, 3, 3), legacy=True)) + field_bytes(50, blob((1, 1, 1, 2), legacy=True))
    return field_bytes(1, inner) + field_bytes(2, b"data") + field_bytes(3, b"conv")


def generations() -> Iterator[Row]:
    yield "control-v1", old(v1()), "", "open"
    yield "control-v0", old(v0()), "", "open"
    packed = field_bytes(3, b"data") + field_bytes(4, b"".join(varint(d) for d in (1, 3, 6, 6)))
    yield "control-v1-packed-dims", old(v1(), head=packed), "", "open"
    yield "control-v1-shape", old(v1(), head=field_bytes(3, b"data") + field_bytes(8, field_bytes(1, b"\1\3\6\6"))), "", "open"
    yield (
        "control-fields-backwards",
        field_bytes(100, INPUT) + field_bytes(100, conv(blob((2, 3, 3, 3)), BIAS)) + field_bytes(1, b"net"),
        "",
        "open",
    )
    yield "v1-type-none", old(v1(type=0)), "", "refuse"
    yield "v1-type-negative", old(v1(type=-1)), "V1", "refuse"
    yield "v1-type-huge", old(v1(type=2**63)), "V1|", "refuse"
    yield "v1-type-twice", old(v1() + number(5, 18)), "", "either"
    yield "v1-inputs-none", old(v1(), head=b""), "data", "refuse"
    yield "v1-dims-three", old(v1(), head=field_bytes(3, b"data") + DIMS[:6]), "input_dim", "refuse"
    yield "v1-dims-negative", old(v1(), head=field_bytes(3, b"data") + b"".join(number(4, d) for d in (1, -3, 6, 6))), "", "refuse"
    yield "v1-dims-million", old(v1(), head=field_bytes(3, b"data") + field_bytes(4, bytes(1_000_000))), "", "refuse"
    yield "v1-and-v2", net(INPUT, conv(blob((2, 3, 3, 3)), BIAS), more=field_bytes(2, v1())), "", "either"
    yield "v0-type-unknown", old(v0("frob")), "V0", "refuse"
    yield "v0-type-control", old(v0("\x1b[2J\n")), "V0", "refuse"
    yield "v0-padding-chain", old(v0("padding"), v0("padding"), v0()), "", "either"
    yield "v0-pool-unknown-kind", old(v0("pool", number(11, 99) + number(8, 2))), "", "refuse"
    yield "v0-kernel-huge", old(v0(more=number(3, 2) + number(8, 2**32 - 1))), "conv", "refuse"
    yield "v0-inside-v0", old(field_bytes(1, field_bytes(1, b"a") + field_bytes(1, v0()))), "", "refuse"


def blobs() -> Iterator[Row]:
    floats = struct.pack("<54f", *[0.5] * 54)
    pieces = b"".join(field_bytes(5, floats[i * 8 : i * 8 + 8]) for i in range(27))
    mixed = field_bytes(5, floats[:108]) + b"".join(wire(5, 5, floats[108 + 4 * i : 112 + 4 * i]) for i in range(27))
    strided = b"".join(wire(5, 5, floats[4 * i : 4 * i + 4]) + field_bytes(6, b"\0\0\0\0") for i in range(54))
    whole = blob((2, 3, 3, 3))
    for name, data, verdict in (
        ("control-pieces-many", SAID + pieces, "open"), ("control-packed-and-not", SAID + mixed, "open"),
        ("control-between-others", SAID + strided, "open"),
        ("control-shape-behind", field_bytes(5, floats) + SAID, "open"),
        ("control-diff", SAID + field_bytes(5, floats) + field_bytes(6, floats), "open"),
        ("control-raw-float", SAID + number(10, 1) + field_bytes(12, floats), "open"),
        ("control-raw-double", SAID + number(10, 0) + field_bytes(12, struct.pack("<54d", *[0.5] * 54)), "open"),
        ("data-and-double", SAID + field_bytes(5, floats) + field_bytes(8, bytes(432)), "either"),
        ("data-and-raw", SAID + field_bytes(5, floats) + field_bytes(12, bytes(9)), "either"),
        ("diff-alone", SAID + field_bytes(6, floats), "refuse"), ("raw-none", SAID + field_bytes(12, b""), "refuse"),
        ("raw-type-negative", SAID + number(10, -1) + field_bytes(12, bytes(108)), "refuse"),
        ("raw-type-int8", SAID + number(10, 3) + field_bytes(12, bytes(54)), "refuse"),
        ("shape-twice", SAID + SAID + field_bytes(5, floats), "refuse"),
        ("shape-and-legacy", SAID + b"".join(number(i, 9) for i in (1, 2, 3, 4)) + field_bytes(5, floats), "either"),
        ("shape-none", field_bytes(5, floats), "either"),
        ("shape-empty", field_bytes(7, b"") + field_bytes(5, floats), "refuse"),
        ("shape-legacy-negative", b"".join(number(i, -1) for i in (1, 2, 3, 4)) + field_bytes(5, floats), "refuse"),
        ("shape-in-fixed64", field_bytes(7, wire(1, 1, struct.pack("<q", 54))) + field_bytes(5, floats), "either"),
        ("shape-as-text", field_bytes(7, b"2x3x3x3") + field_bytes(5, floats), "refuse"),
        ("shape-million-of-ones", field_bytes(7, field_bytes(1, b"\1" * 1_000_000)) + field_bytes(5, floats), "refuse"),
        ("shape-zeros-product", field_bytes(7, field_bytes(1, b"\0" + varint(2**39) * 3)), "refuse"),
        ("shape-two-blobs-in-one", SAID + field_bytes(5, floats * 2), "refuse"),
        ("data-as-varint", SAID + wire(5, 0, b"\1") * 54, "refuse"), ("data-as-fixed64", SAID + b"".join(wire(5, 1,
        bytes(8)) for _ in range(27)), "refuse"),
        ("data-length-past-blob", SAID + wire(5, 2, varint(10_000)) + floats, "refuse"),
        ("data-infinite", SAID + field_bytes(5, struct.pack("<54f", *[float("inf")] * 54)), "open"),
        ("blob-as-text", b"this is no blob at all", "refuse"), ("blob-empty", b"", "refuse"),
    ):  # fmt: skip
        yield f"blob-{name}" if not name.startswith("control") else name, net(INPUT, conv(data, BIAS)), "", verdict  # type: ignore[misc]
    yield "blob-bias-as-matrix", net(INPUT, conv(whole, blob((1, 2)))), "", "either"
    yield "blob-swapped", net(INPUT, conv(BIAS, whole)), "conv", "refuse"
    yield "blob-transposed", net(INPUT, conv(blob((3, 2, 3, 3)), BIAS)), "conv", "refuse"
    yield "blob-million", net(INPUT, conv(*[b""] * 1_000_000)), "", "refuse"
    yield "blob-on-relu", net(INPUT, conv(whole, BIAS), layer("relu", "ReLU", ["conv"], ["conv"], [whole] * 50)), "", "open"
    yield "blob-huge-on-nobody", net(INPUT, conv(whole, BIAS), layer("other", "Split", blobs=[blob((2**39,), bytes(8))])), "", "either"
    yield "layers-alike", net(INPUT, *[conv(whole, BIAS)] * 200), "", "either"
    scale = layer("s", "Scale", ["conv"], ["conv"], [BIAS])
    yield (
        "batchnorm-count-zero",
        net(INPUT, conv(whole, BIAS), layer("bn", "BatchNorm", ["conv"], ["conv"], [BIAS, BIAS, blob((1,), bytes(4))]), scale),
        "",
        "either",
    )
    yield "batchnorm-two-blobs", net(INPUT, conv(whole, BIAS), layer("bn", "BatchNorm", ["conv"], ["conv"], [BIAS, BIAS])), "bn", "refuse"
    yield (
        "batchnorm-count-nan",
        net(INPUT, conv(whole, BIAS), layer("bn", "BatchNorm", ["conv"], ["conv"], [BIAS, BIAS, blob((1,), b"\xff" * 4)]), scale),
        "",
        "either",
    )
    yield (
        "batchnorm-variance-negative",
        net(
            INPUT,
            conv(whole, BIAS),
            layer("bn", "BatchNorm", ["conv"], ["conv"], [BIAS, blob((2,), struct.pack("<2f", -5, -5)), blob((1,), struct.pack("<f", 1))]),
        ),
        "",
        "either",
    )


def wires() -> Iterator[BadFile]:
    def bad(name: str, data: object, says: str = "", verdict: Verdict = "refuse") -> BadFile:
        assert isinstance(data, bytes) or callable(data)
        return from_bytes(f"wire-{name}", data, base.ENDING, says, verdict)

    good = base.good()
    yield bad(
        "control-unknown-everywhere",
        net(INPUT + wire(5000, 0, b"\1"), conv(blob((2, 3, 3, 3)), BIAS) + field_bytes(5001, b"x"), RELU),
        verdict="open",
    )
    yield bad("control-group-unknown", good + wire(5000, 3) + wire(1, 0, b"\1") + wire(5000, 4), verdict="open")
    yield bad("control-long-varints", good + b"\x28" + b"\x81" + b"\x80" * 8 + b"\x00", verdict="open")
    yield bad("varint-11-bytes", good + b"\x28" + b"\x80" * 10 + b"\x01", "number")
    yield bad("tag-varint-10-bytes", good + b"\xff" * 9 + b"\x01", "number|field")
    yield bad("group-wrong-end", good + wire(50, 3) + wire(51, 4), "group")
    yield bad("group-ends-alone", good + wire(50, 4), "group")
    yield bad("layer-as-group", good + wire(100, 3) + wire(1, 2, b"\1a") + wire(100, 4), verdict="either")
    yield bad("layer-as-fixed", good + wire(100, 5, b"1234"), verdict="either")
    yield bad("name-as-number", wire(1, 0, b"\x05") + good, verdict="either")
    yield bad("name-twice", good + field_bytes(1, b"other"), verdict="open")
    yield bad("zeros-behind", good + bytes(100), "number 0|broken")
    yield bad("text-behind", good + b"\n# the end\n")
    yield bad("twice", good + good, verdict="either")
    yield bad("length-of-a-layer-one-more", good.replace(field_bytes(100, RELU), wire(100, 2, varint(len(RELU) + 1)) + RELU), "broken")
    yield bad(
        "length-of-a-layer-one-less", good.replace(field_bytes(100, RELU), wire(100, 2, varint(len(RELU) - 1)) + RELU), verdict="either"
    )
    yield bad("length-varint-huge", good + wire(100, 2, b"\xff" * 9 + b"\x01"))
    yield bad("deep-layers", lambda: _nested(10_000) + good, verdict="either")
    yield bad("messages-million", lambda: good + field_bytes(100, b"") * 1_000_000, "memory")
    yield bad("messages-3-million", lambda: good + field_bytes(100, field_bytes(6, b"") * 30) * 100_000, "memory")
    yield bad("unknown-million", lambda: good + b"".join(wire(1000 + i % 50_000, 0, b"\0") for i in range(500_000)), verdict="either")
    yield bad("stages-million", lambda: good + field_bytes(6, field_bytes(3, b"a") * 1_000_000), verdict="either")
    yield bad("dims-packed-50-mb", lambda: good + field_bytes(8, field_bytes(1, bytes(50_000_000))))
    yield bad(
        "slice-points-packed",
        lambda: net(INPUT, layer("s", "Slice", ["data"], ["y"], more=field_bytes(126, field_bytes(2, bytes(200_000))))),
        "",
    )
    yield bad("name-of-30-mb", lambda: net(INPUT, layer("x" * 30_000_000, "ReLU", ["data"], ["y"])), verdict="either")
    yield bad(
        "weights-100-mb",
        lambda: net(
            INPUT,
            layer(
                "f",
                "InnerProduct",
                ["data"],
                ["y"],
                [blob((240_000, 108), bytes(240_000 * 432))],
                field_bytes(117, number(1, 240_000) + number(2, 0)),
            ),
        ),
        verdict="open",
    )
    yield bad(
        "weights-100-mb-scattered",
        lambda: net(
            INPUT,
            layer(
                "f",
                "InnerProduct",
                ["data"],
                ["y"],
                [field_bytes(7, field_bytes(1, varint(50_000) + varint(108))) + b"\x2d\0\0\0\0" * 5_400_000],
                field_bytes(117, number(1, 50_000) + number(2, 0)),
            ),
        ),
        verdict="open",
    )
    for name, data in {"gzip": gzip.compress(good, mtime=0), "onnx": b"\x08\x07\x12\x07pytorch:\x05graph",
        "tflite": b"\x1c\0\0\0TFL3" + bytes(200), "hdf5-cut": b"\x89HDF\r\n\x1a\n" + bytes(40),
                       "torch": b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + bytes(99),
                       "mean": field_bytes(5, bytes(48)) + number(1, 1) + number(2, 3),
                       "solver-state": number(1, 5000) + field_bytes(2, b"net_iter_5000.caffemodel"),
                       "darknet": struct.pack("<iiii", 0, 2, 0, 32000) + bytes(400), "elf": b"\x7fELF\2\1\1" + bytes(300),
                       "json": b'{"layer": []}', "npz": b"PK\5\6" + bytes(18)}.items():  # fmt: skip
        yield from_bytes(f"kind-{name}", data, base.ENDING)
    yield from_bytes(
        "kind-prototxt",
        b'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 } } }\nlayer { type: "ReLU" bottom: "d" top: "y" }',
        base.ENDING,
        "",
        "either",
    )


def _nested(depth: int) -> bytes:
    """Unknown messages inside each other, each a layer by its number."""
    data = b""
    for _ in range(depth):
        data = field_bytes(100, data) if len(data) < 100 else wire(100, 2, varint(len(data))) + data
    return data


def cases() -> Iterator[BadFile]:
    """Every case of this module."""
    for name, data, says, verdict in (*generations(), *blobs()):
        yield from_bytes(f"more-{name}", data, base.ENDING, says, verdict)
    yield from wires()
