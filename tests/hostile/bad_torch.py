"""Bad files of torch: old files, zips of `torch.save`, TorchScript, .pt2, safetensors; nothing of theirs is made with torch.

A checkpoint is no network, so most of these are judged by the verb "checkpoint", which opens what is stored and reads every tensor.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bad_zip import archive
from badfile import BadFile, Verdict, from_bytes, other_kinds
from mutate import mutate
from structure import document
from torch_archives import good_pt2, good_script, good_zip, pt2_cases, script_cases, zip_cases
from torch_pickles import SHAPES, blob, glob, ops, pickled, pickles, state, tensor

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def old(
    value: bytes | None = None,
    *,
    magic: bytes = MAGIC,
    protocol: Any = 1001,
    system: Any = SYSTEM,
    keys: Any = None,
    tail: bytes | None = None,
) -> bytes:
    """A file of `torch.save` before 1.6: five pickles, then each storage behind its number of elements."""
    keys = [str(i) for i in range(len(SHAPES))] if keys is None else keys
    if tail is None:
        tail = b"".join(struct.pack("<q", len(blob(i)) // 4) + blob(i) for i in range(len(SHAPES)))
    value = pickled(state()) if value is None else value
    return magic + pickled(protocol) + pickled(system) + value + pickled(keys) + tail


def good_old() -> bytes:
    """A file of `torch.save` before 1.6."""
    return old()


def old_cases() -> Iterator[BadFile]:
    def case(name: str, data: bytes | Callable[[], bytes], says: str = "", verdict: Verdict = "refuse") -> BadFile:
        return from_bytes(f"old-{name}", data, ".pth", says, verdict)

    for i, (name, data, says, verdict) in enumerate(pickles()):
        if name.startswith(("control", "tensor", "broken", "value")) or i % 3 == 2:
            kept = "either" if name in ("control-cuda", "control-empty", "tensor-view-in-a-zip") else verdict
            yield case(name, lambda d=data: old(d), says if not name.startswith("value") else "storage", kept)  # type: ignore[misc, arg-type]
    yield case("magic-other", old(magic=b"\x80\x02\x8a\x0a" + b"\x01" * 10 + b"."), "torch.save")
    yield case("magic-protocol-4", old(magic=b"\x80\x04\x95\x0d\0\0\0\0\0\0\0" + MAGIC[2:]), verdict="open")
    yield case("magic-text", old(magic=b"L119547037146038801333356L\n."), verdict="open")
    yield case("magic-alone", MAGIC, "cut short")
    yield case("protocol-1000", old(protocol=1000), "protocol")
    yield case("protocol-text", old(protocol="1001"), "protocol")
    yield case("big-endian", old(system=SYSTEM | {"little_endian": False}), "endian")
    yield case("system-list", old(system=[]), verdict="either")
    for name, keys in {
        "number": 7,
        "none": None,
        "floats": [0.5],
        "twice": ["0", "0"],
        "unknown": ["0", "1", "2", "3", "77"],
        "lists": [[]],
        "odd": ["\x1b[31m"],
    }.items():
        yield case(f"keys-{name}", MAGIC + pickled(1001) + pickled(SYSTEM) + pickled(state()) + pickled(keys) + b"\0" * 900)
    yield case(
        "keys-short",
        old(keys=["0", "1", "2", "3"], tail=b"".join(struct.pack("<q", len(blob(i)) // 4) + blob(i) for i in range(4))),
        "storage",
    )
    whole = b"".join(struct.pack("<q", len(blob(i)) // 4) + blob(i) for i in range(len(SHAPES)))
    for name, count in {"negative": -1, "more": 109, "less": 107, "huge": 2**62, "minimum": -(2**63)}.items():
        yield case(f"count-{name}", old(tail=struct.pack("<q", count) + whole[8:]))
    yield case("tail-none", old(tail=b""), "cut short")
    yield case("tail-cut", old(tail=whole[:-1]), "cut short")
    yield case("tail-more", old(tail=whole + b"x"), "followed")
    yield case("view", old(pickled(state(conv_bias=tensor("0", (4,), count=108, view=(("5", 100, 8),))))), verdict="either")
    yield case("view-beyond", old(pickled({"a": tensor("0", (4,), count=108, view=(("5", 106, 4),)), **state()})), "beyond")
    yield case("view-negative", old(pickled({"a": tensor("0", (4,), count=108, view=(("5", -1, 4),)), **state()})), "part")
    yield case("view-text", old(pickled({"a": tensor("0", (4,), count=108, view=("x",)), **state()})), "part")
    net = (
        glob("torch.nn.modules.linear", "Linear")
        + b")\x81"
        + ops({"_parameters": {"weight": tensor("3", (5, 4))}, "_buffers": {}, "_modules": {}})
        + b"b"
    )
    alone = struct.pack("<q", 20) + blob(3)
    yield case("control-module", old(b"\x80\x02" + net + b".", keys=["3"], tail=alone), verdict="open")
    token = ops(("module", _glob("torch.nn.modules.linear", "Linear"), "linear.py", "import os")) + b"Q"
    named = net.replace(glob("torch.nn.modules.linear", "Linear"), token)
    yield case("control-module-with-source", old(b"\x80\x02" + named + b".", keys=["3"], tail=alone), verdict="open")
    yield case("pickles-huge", lambda: old(pickled({"a": b"\0" * (70 << 20)})), "long|many|tensors")
    yield case("pickles-a-megabyte", lambda: old(pickled(state() | {"log": "x" * (3 << 20)})), verdict="open")


def _glob(module: str, name: str) -> Any:
    from torch_pickles import Raw

    return Raw(glob(module, name))


# safetensors


def safetensors(header: Any = None, data: bytes | None = None, *, text: bytes | None = None, length: int | None = None) -> bytes:
    header = good_header() if header is None else header
    body = json.dumps(header).encode() if text is None else text
    data = blob(0) + blob(1) if data is None else data
    return (len(body) if length is None else length).to_bytes(8, "little") + body + data


def good_header() -> dict[str, Any]:
    return {
        "__metadata__": {"format": "pt"},
        "conv.weight": {"dtype": "F32", "shape": [4, 3, 3, 3], "data_offsets": [0, 432]},
        "conv.bias": {"dtype": "F32", "shape": [4], "data_offsets": [432, 448]},
    }


def good_safetensors() -> bytes:
    """Two tensors and a word about them."""
    return safetensors()


def safetensors_cases() -> Iterator[BadFile]:
    def case(name: str, data: bytes | Callable[[], bytes], says: str = "", verdict: Verdict = "refuse") -> BadFile:
        return from_bytes(f"st-{name}", data, ".safetensors", says, verdict)

    good = good_header()

    def bias(**changed: Any) -> bytes:
        return safetensors(good | {"conv.bias": good["conv.bias"] | changed})

    yield case("control", safetensors(), verdict="open")
    yield case("control-padded", safetensors(text=json.dumps(good).encode() + b" " * 5), verdict="open")
    yield case("control-no-metadata", safetensors({k: v for k, v in good.items() if k != "__metadata__"}), verdict="open")
    yield case("control-empty", safetensors({}, b""), verdict="open")
    yield case("control-brain", bias(dtype="BF16", shape=[8]), verdict="open")
    yield case("control-other-order", safetensors(dict(reversed(good.items()))), verdict="open")
    spoils: dict[str, dict[str, Any]] = {
        "type-unknown": {"dtype": "F33"},
        "type-number": {"dtype": 7},
        "type-list": {"dtype": ["F32"]},
        "type-wider": {"dtype": "F64"},
        "shape-more": {"shape": [5]},
        "shape-less": {"shape": [3]},
        "shape-negative": {"shape": [-4]},
        "shape-negative-twice": {"shape": [-2, -2]},
        "shape-float": {"shape": [4.0]},
        "shape-bool": {"shape": [True, 4]},
        "shape-text": {"shape": "4"},
        "shape-huge": {"shape": [2**40, 2**40]},
        "shape-overflow": {"shape": [2**62, 4]},
        "shape-wraps": {"shape": [2**32, 2**32, 4]},
        "shape-of-100-axes": {"shape": [1] * 100 + [4]},
        "offsets-hole": {"data_offsets": [436, 452]},
        "offsets-overlap": {"data_offsets": [428, 444]},
        "offsets-same": {"data_offsets": [0, 16]},
        "offsets-back": {"data_offsets": [448, 432]},
        "offsets-negative": {"data_offsets": [-16, 0]},
        "offsets-beyond": {"data_offsets": [2**40, 2**40 + 16]},
        "offsets-huge": {"data_offsets": [2**64, 2**64 + 16]},
        "offsets-float": {"data_offsets": [432.0, 448.0]},
        "offsets-three": {"data_offsets": [432, 448, 464]},
        "offsets-text": {"data_offsets": "432"},
        "field-more": {"extra": 1},
    }
    for name, changed in spoils.items():
        yield case(name, bias(**changed))
    for name, entry in {"none": None, "list": [], "text": "F32", "empty": {}}.items():
        yield case(f"entry-{name}", safetensors(good | {"conv.bias": entry}))
    for name, metadata in {"number": 7, "list": [], "values": {"a": 1}, "nested": {"a": {"b": "c"}}}.items():
        yield case(f"metadata-{name}", safetensors(good | {"__metadata__": metadata}), "metadata")
    text = json.dumps(good).encode()
    texts = {
        "list": b"[]",
        "spaces-first": b"  " + text,
        "broken": text[:-1],
        "twice": text.replace(b'"conv.bias"', b'"conv.weight"'),
        "nan": text.replace(b"432, 448", b"NaN, 448"),
        "exponent": text.replace(b"432, 448", b"432, 4.48e2"),
        "digits": text.replace(b"448", b"9" * 5000),
        "not-utf8": text.replace(b"bias", b"\xff\xfea"),
        "deep": b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}",
        "trailing": text + b"{}",
        "bom": b"\xef\xbb\xbf" + text,
        "comment": text + b"/* */",
    }
    for name, body in texts.items():
        yield case(f"header-{name}", safetensors(text=body))
    for name, length in {
        "zero": 0,
        "one": 1,
        "short": len(text) - 1,
        "long": len(text) + 500,
        "huge": 2**63,
        "max": 2**64 - 1,
        "101-mb": 101 << 20,
    }.items():
        yield case(f"length-{name}", safetensors(length=length))
    yield case("length-101-mb-there", lambda: (101 << 20).to_bytes(8, "little") + b"{" + b" " * ((101 << 20) - 1), "long")
    yield case("keys-many", lambda: safetensors(text=b"{" + b",".join(b'"%d":{}' % i for i in range(900_000)) + b"}", data=b""))
    yield case("data-short", safetensors(data=blob(0)))
    yield case("data-long", safetensors(data=blob(0) + blob(1) + b"x"))
    yield case("names-odd", safetensors({"\x1b[31m\u202e": good["conv.weight"], "a\nb": good["conv.bias"]}), verdict="open")
    yield case("complex", safetensors({"a": {"dtype": "C64", "shape": [56], "data_offsets": [0, 448]}}), "complex")
    for name, mapped, says in (
        ("up", {"a": "../secret.safetensors"}, "beside|outside"),
        ("absolute", {"a": "/etc/passwd"}, "beside|outside"),
        ("folder", {"a": "sub/x.safetensors"}, "beside"),
        ("lost", {"a": "part.safetensors"}, "missing"),
        ("empty", {}, "weight_map"),
        ("number", {"a": 7}, "weight_map"),
        ("list", [], "weight_map"),
        ("many", {str(i): f"{i}.safetensors" for i in range(5000)}, "too many"),
    ):
        yield BadFile(f"st-index-{name}", _index(mapped), says)
    yield BadFile("st-index-link", _linked, "link")
    yield BadFile("st-index-control", _index({"conv.weight": "part.safetensors", "conv.bias": "part.safetensors"}, True), verdict="open")
    yield BadFile(
        "st-index-more",
        _index({"conv.weight": "part.safetensors", "conv.bias": "part.safetensors", "x": "part.safetensors"}, True),
        "not hold",
    )
    yield BadFile("st-index-less", _index({"conv.weight": "part.safetensors"}, True), "another file")


def _index(mapped: Any, part: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        if part:
            (folder / "part.safetensors").write_bytes(safetensors())
        path = folder / "net.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": mapped}))
        return path

    return make


def _linked(folder: Path) -> Path:
    (folder / "real.bin").write_bytes(safetensors())
    (folder / "part.safetensors").symlink_to(folder / "real.bin")
    return _index({"conv.weight": "part.safetensors", "conv.bias": "part.safetensors"})(folder)


# damage that keeps the container right


def _archive_damage(data: bytes, seed: int) -> bytes:
    """One member of an archive changed: JSON by its values, pickles and texts by their bytes."""
    rng = random.Random(seed)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        members = [(i.filename, z.read(i)) for i in z.infolist()]
    spoilt = [i for i, (n, _) in enumerate(members) if n.endswith((".pkl", ".json", "byteorder", "version"))]
    at = rng.choice(spoilt)
    name, held = members[at]
    members[at] = (name, document(held.decode(), seed).encode() if name.endswith(".json") else mutate(held, seed))
    return archive(members)


def _old_damage(data: bytes, seed: int) -> bytes:
    """The pickles of an old file changed, the storages behind them as they were."""
    at = data.rindex(blob(0)) - 8
    return mutate(data[len(MAGIC) : at], seed).join((MAGIC, data[at:]))


def _safetensors_damage(data: bytes, seed: int) -> bytes:
    """The header's values exchanged, its length right."""
    length = int.from_bytes(data[:8], "little")
    text = document(data[8 : 8 + length].decode(), seed).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@dataclass(frozen=True)
class Kind:
    """One container: its good file, its cases, its ending, and damage that keeps it a container."""

    good: Callable[[], bytes]
    own: Callable[[], Iterator[BadFile]]
    ending: str
    damage: Callable[[bytes, int], bytes] = _archive_damage

    def cases(self) -> Iterator[BadFile]:
        """Every case, the kinds of wrong bytes that each format meets among them."""
        yield from self.own()
        yield from other_kinds(self.ending, self.good())


KINDS = {
    "torch-zip": Kind(good_zip, zip_cases, ".pth"),
    "torch-old": Kind(good_old, old_cases, ".pth", _old_damage),
    "torchscript": Kind(good_script, script_cases, ".pt"),
    "pt2": Kind(good_pt2, pt2_cases, ".pt2"),
    "safetensors": Kind(good_safetensors, safetensors_cases, ".safetensors", _safetensors_damage),
}
"""Name -> container, for whoever judges them."""
