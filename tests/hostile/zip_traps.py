"""Archives whose directory lies: overlaps, ZIP64, members inside members, odd names; and what the weights' member may be."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import bad_zip
from bad_zip import archive, config, deflated, good, parts, raw_zip, weights
from badfile import BadFile, Verdict, from_bytes


def case(name: str, data: bytes | Callable[[], bytes], verdict: Verdict = "refuse", says: str = "") -> BadFile:
    return from_bytes(f"trap-{name}", data, ".keras", says, verdict)


def _central(name: bytes, size: int, packed: int, at: int, crc: int, extra: bytes = b"", method: int = 0) -> bytes:
    common = struct.pack("<HHHHHIIIHH", 45, 0, method, 0, 33, crc, packed, size, len(name), len(extra))
    return b"PK\x01\x02" + struct.pack("<H", 45) + common + struct.pack("<HHHII", 0, 0, 0, 0, at) + name + extra


def _local(name: bytes, data: bytes, method: int = 0, crc: int | None = None) -> bytes:
    crc = zlib.crc32(data) if crc is None else crc
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 45, 0, method, 0, 33, crc, len(data), len(data), len(name), 0) + name + data


def _end(count: int, size: int, at: int) -> bytes:
    return b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, size, at, 0)


def _overlapping(copies: int) -> bytes:
    """Every entry of the directory points at one compressed megabyte, as in a bomb that needs no nesting."""
    packed = deflated(b" ", 64)
    out = b"".join(_local(n.encode(), d) for n, d in parts())
    at, ats = 0, []
    for n, d in parts():
        ats.append(at)
        at += len(_local(n.encode(), d))
    shared = len(out)
    out += b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 33, 0, len(packed), 64 << 20, 1, 0) + b"x" + packed
    directory = b"".join(_central(n.encode(), len(d), len(d), a, zlib.crc32(d)) for (n, d), a in zip(parts(), ats, strict=True))
    directory += b"".join(_central(b"a/%d" % i, 64 << 20, len(packed), shared, 0, method=8) for i in range(copies))
    return out + directory + _end(3 + copies, len(directory), len(out))


def _zip64(size: int, packed: int, at: int) -> bytes:
    """The weights' entry says its numbers in a ZIP64 field."""
    out, directory = b"", b""
    for name, data in parts():
        here = len(out)
        out += _local(name.encode(), data)
        if name == "model.weights.h5":
            extra = struct.pack("<HHQQQ", 1, 24, size, packed, at)
            directory += _central(name.encode(), 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, zlib.crc32(data), extra)
        else:
            directory += _central(name.encode(), len(data), len(data), here, zlib.crc32(data))
    return out + directory + _end(3, len(directory), len(out))


def traps() -> Iterator[BadFile]:
    """Every case of this module."""
    real = len(weights())
    place = sum(len(_local(n.encode(), d)) for n, d in parts() if n != "model.weights.h5")
    yield case("control-zip64", _zip64(real, real, place), "open")
    yield case("zip64-size-2-63", _zip64(2**63, 2**63, place))
    yield case("zip64-size-max", _zip64(2**64 - 1, 2**64 - 1, place))
    yield case("zip64-offset-far", _zip64(real, real, 2**62))
    yield case("zip64-offset-directory", _zip64(real, real, 0))
    yield case("zip64-size-more", _zip64(real + 400, real + 400, place), "either")
    yield case("overlapping", lambda: _overlapping(2000), "either")
    yield case("comment-64k", good()[:-2] + struct.pack("<H", 65535) + b"c" * 65535, "open")
    yield case("comment-fake-end", good()[:-2] + struct.pack("<H", 22) + b"PK\x05\x06" + bytes(18), "either")
    yield case("prefix-64k", b"\x7fELF" + bytes(65536) + good(), "either")
    yield case("directory-inside-weights", archive([*parts(weights=weights() + good())]), "either")
    plain = [(n.encode(), d, 0, len(d), 0) for n, d in parts()]
    yield case("case-twins", archive([*parts(), ("Config.json", b"{}"), ("CONFIG.JSON", b"{}")]), "either")
    yield case("unicode-twins", archive([*parts(), ("config\u200b.json", b"{}")]), "either")
    yield case("name-empty", raw_zip([*plain, (b"", b"x", 0, 1, 0)]), "either")
    yield case("name-64k", raw_zip([*plain, (b"n" * 65000, b"x", 0, 1, 0)]), "either")
    yield case("name-dots", archive([*parts(), ("a/./../../x", b"")]))
    yield case("name-utf8-flag-lies", raw_zip([(n, d, m, s, 0x800) for n, d, m, s, _ in plain]), "open")
    yield case("flags-strong-encryption", raw_zip([(n, d, m, s, 0x41) for n, d, m, s, _ in plain]), says="encrypt")
    yield case("flags-data-descriptor", raw_zip([(n, d, m, s, 8) for n, d, m, s, _ in plain]), "either")
    yield case("flags-patch", raw_zip([(n, d, m, s, 0x20) for n, d, m, s, _ in plain]))
    yield case("size-zero", raw_zip([(n, d, m, 0, f) for n, d, m, s, f in plain]))
    text = config().decode()
    long: dict[str, Callable[[], bytes]] = {
        "config-brackets": lambda: b"[" * 100_000_000,
        "config-quotes": lambda: b'{"a": "' + b"x" * 100_000_000 + b'"}',
        "config-numbers": lambda: b'{"a": [' + b"1," * 20_000_000 + b"1]}",
        "config-objects": lambda: b'{"a": [' + b"{}," * 15_000_000 + b"{}]}",
        "config-digits": lambda: b'{"a": ' + b"9" * 50_000_000 + b"}",
        "config-escapes": lambda: b'{"a": "' + b"\\u0041" * 15_000_000 + b'"}',
        "config-keys": lambda: b"{" + b",".join(b'"%d":0' % i for i in range(2_000_000)) + b"}",
        "config-spaces": lambda: text.encode() + b" " * 150_000_000,
    }
    for name, body in long.items():
        yield case(name, lambda b=body: archive(parts(config=b()), zipfile.ZIP_DEFLATED), "either")  # type: ignore[misc]
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        yield case(f"config-{encoding}", archive(parts(config=text.encode(encoding))), "either")
    for name, value in {
        "classes": {"classes": ["x"] * 3_000_000},
        "notes": {"notes": 7},
        "card-junk": {"card": {"image": {"layout": {"a": []}, "order": 7, "resize": [1], "scale": "x", "guessed": {"a": 1}}}},
        "card-text": {"card": "x"},
        "source-list": {"source": ["x", {"from": []}]},
        "class-types": {"classes": [None, {}, [], 1e308, "\u001b[2J\u202e"]},
    }.items():
        extra = ("niudao.json", json.dumps(value).encode())
        yield case(f"meta-{name}", archive([*parts(), extra], zipfile.ZIP_DEFLATED), "either")
    for name, meta in {
        "version-long": {"keras_version": "9" * 10_000},
        "version-list": {"keras_version": [3]},
        "date": {"date_saved": {"a": "\u001b[2J"}},
    }.items():
        yield case(f"metadata-{name}", archive(parts(metadata=json.dumps(meta).encode())), "either")
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w") as z:
        z.writestr("model.weights.h5", weights())
        z.writestr("config.json", config())
    yield case("weights-first", tail.getvalue(), "open")
    yield case("weights-user-block", archive(parts(weights=bytes(512) + weights())), "either")
    yield case("weights-bomb-hdf5", lambda: archive(parts(weights=weights()[:2048] + bytes(400 << 20)), zipfile.ZIP_DEFLATED), "either")
    yield case("bzip2-inside", archive([("config.json", bad_zip.config()), ("model.weights.h5", good())]))
