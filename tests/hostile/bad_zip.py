"""Bad .keras archives: the description spoilt, the weights spoilt, and zip's own traps."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import h5py
import numpy as np
from badfile import BadFile, Verdict, from_bytes, other_kinds
from keras_bombs import bombs
from keras_config import arrays, faults, network

GROUPS = {"conv": "conv2d", "bn": "batch_normalization", "fc": "dense"}
METADATA = json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}).encode()


def config() -> bytes:
    return json.dumps(network("keras-3")).encode()


def weights(change: Callable[[h5py.File], Any] | None = None) -> bytes:
    """The archive's model.weights.h5."""
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for layer, group in GROUPS.items():
            inner = file.create_group(f"layers/{group}/vars")
            inner.attrs["name"] = layer
            for i, array in enumerate(arrays(layer)):
                inner.create_dataset(str(i), data=array)
        for group in ("input_layer", "activation", "flatten"):
            file.create_group(f"layers/{group}/vars")
        file.create_group("vars")
        if change is not None:
            change(file)
    return out.getvalue()


def parts(**replaced: bytes | None) -> list[tuple[str, bytes]]:
    """Members of the good archive; an argument replaces one, None leaves it out."""
    all_ = {"metadata": METADATA, "config": config(), "weights": weights()} | replaced
    names = {"metadata": "metadata.json", "config": "config.json", "weights": "model.weights.h5"}
    return [(names[k], v) for k, v in all_.items() if v is not None]


def archive(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            z.writestr(info, data)
    return out.getvalue()


def good() -> bytes:
    """The unbroken archive."""
    return archive(parts())


def raw_zip(members: list[tuple[bytes, bytes, int, int, int]]) -> bytes:
    """An archive of (name, stored bytes, method, declared size, flags): nothing is checked, so that it can lie."""
    out, central = b"", b""
    for name, data, method, size, flags in members:
        crc = zlib.crc32(data) if method == 0 else 0
        common = struct.pack("<HHHHHIIIHH", 20, flags, method, 0, 33, crc, len(data), size & 0xFFFFFFFF, len(name), 0)
        central += b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(out)) + name
        out += b"PK\x03\x04" + common + name + data
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(central), len(out), 0)
    return out + central + b"PK\x05\x06" + end


def deflated(byte: bytes, mebibytes: int) -> bytes:
    """Raw deflate of many equal bytes, made without making the bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = byte * (1 << 20)
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (mebibytes - 1) + b"\x03\x00"


def zips() -> Iterator[BadFile]:
    def bad(name: str, data: bytes, says: str = "", verdict: Verdict = "refuse") -> BadFile:
        return from_bytes(name, data, ".keras", says, verdict)

    def edited(name: str, says: str = "", verdict: Verdict = "refuse", **replaced: bytes | None) -> BadFile:
        return bad(name, archive(parts(**replaced)), says, verdict)

    yield bad("control-plain", good(), verdict="open")
    yield bad("control-deflated", archive(parts(), zipfile.ZIP_DEFLATED), verdict="open")
    yield bad("control-order", archive(parts()[::-1]), verdict="open")
    yield bad("control-extra-member", archive([*parts(), ("notes.txt", b"hello")]), verdict="either")
    yield bad("control-comment", good()[:-2] + struct.pack("<H", 5) + b"hello", verdict="open")
    yield edited("no-config", "config", config=None)
    yield edited("no-weights", "weight", weights=None)
    yield edited("no-metadata", verdict="either", metadata=None)
    yield edited("metadata-list", verdict="either", metadata=b"[1, 2]")
    yield edited("metadata-cut", verdict="either", metadata=b'{"keras_ver')
    yield edited("metadata-version-number", verdict="either", metadata=b'{"keras_version": 3}')
    yield edited("metadata-version-odd", verdict="either", metadata=b'{"keras_version": "3.x\\u001b[31m"}')
    yield edited("metadata-deep", verdict="either", metadata=b"[" * 100_000)
    yield edited("config-not-utf8", config=b'{"class_name": "\xff"}')
    yield edited("config-utf16", verdict="either", config=config().decode().encode("utf-16"))
    yield edited("config-bom", verdict="either", config=b"\xef\xbb\xbf" + config())
    yield edited("config-pickle", config=b"\x80\x04K\x01.")
    yield edited("weights-empty", weights=b"")
    yield edited("weights-text", weights=b"hello")
    yield edited("weights-npz", weights=b"PK\x03\x04" + bytes(60))
    yield edited("weights-cut", weights=weights()[:-500])
    yield edited("weights-signature-only", weights=b"\x89HDF\r\n\x1a\n")
    yield edited("weights-garbage", weights=b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 20)
    for name, mib in (("config.json", 3000), ("model.weights.h5", 3000), ("metadata.json", 2000)):
        members = [(n.encode(), d, 0, len(d), 0) for n, d in parts() if n != name]
        yield bad(f"bomb-{name}", raw_zip([*members, (name.encode(), deflated(b" ", mib), 8, mib << 20, 0)]))
        yield bad(f"bomb-{name}-lying", raw_zip([*members, (name.encode(), deflated(b" ", mib), 8, 100, 0)]))
    plain = [(n.encode(), d, 0, len(d), 0) for n, d in parts()]
    yield bad("control-raw", raw_zip(plain), verdict="open")
    yield bad("size-claims-more", raw_zip([(n, d, m, s + 1000, f) for n, d, m, s, f in plain]))
    yield bad("size-claims-4-gib", raw_zip([(n, d, m, 0xFFFFFFF0, f) for n, d, m, s, f in plain]))
    yield bad("encrypted", raw_zip([(n, d, m, s, 1) for n, d, m, s, f in plain]), "encrypt")
    for method in (1, 6, 9, 12, 14, 93, 99, 500):
        yield bad(f"method-{method}", raw_zip([(n, d, method, s, f) for n, d, m, s, f in plain]))
    yield bad("method-bzip2", archive(parts(), zipfile.ZIP_BZIP2), verdict="either")
    yield bad("method-lzma", archive(parts(), zipfile.ZIP_LZMA), verdict="either")
    yield bad("member-twice", archive([*parts(), ("config.json", b"{}")]), "twice|duplicate|config")
    yield bad("member-weights-twice", archive([*parts(), ("model.weights.h5", b"")]))
    yield bad("member-parent", archive([*parts(), ("../evil.txt", b"x")]), "evil|name|outside|member")
    yield bad("member-absolute", archive([*parts(), ("/etc/evil.txt", b"x")]), "evil|name|outside|member")
    yield bad("member-backslash", archive([*parts(), ("..\\evil.txt", b"x")]), verdict="either")
    yield bad("member-drive", archive([*parts(), ("C:/evil.txt", b"x")]), verdict="either")
    yield bad("member-nul", raw_zip([*plain, (b"a\0b", b"x", 0, 1, 0)]), verdict="either")
    yield bad("member-bidi", archive([*parts(), ("\u202eevil\x1b[31m", b"x")]), verdict="either")
    yield bad("member-not-utf8", raw_zip([*plain, (b"\xff\xfe", b"x", 0, 1, 0x800)]), verdict="either")
    yield bad("members-many", archive([*parts(), *((f"assets/{i}", b"") for i in range(70_000))]), verdict="either")
    yield bad("members-are-folders", archive([("config.json/", b""), ("model.weights.h5/", b"")]))
    yield bad("crc-wrong", _patched(good(), b'"filters": 4', b'"filters": 5'))
    yield bad("crc-wrong-weights", _flip(good()), verdict="either")
    yield bad("directory-only", b"PK\x05\x06" + bytes(18))
    yield bad("directory-count-lies", good()[:-14] + struct.pack("<HH", 999, 999) + good()[-10:], verdict="either")
    yield bad("directory-offset-lies", good()[:-6] + struct.pack("<I", 2**31) + good()[-2:])
    yield bad("local-name-differs", good().replace(b"config.json", b"konfig.json", 1), verdict="refuse")
    yield bad("zip-in-zip", archive([("net.keras", good())]), "config")
    yield bad("polyglot-html", b"<html>" + good(), verdict="either")
    yield bad("link-member", _link(), verdict="refuse")


def _patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def _flip(data: bytes) -> bytes:
    at = data.index(arrays("fc")[0].tobytes()) + 100
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def _link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in parts(config=None):
            z.writestr(zipfile.ZipInfo(name), data)
        info = zipfile.ZipInfo("config.json")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        z.writestr(info, "/etc/passwd")
    return out.getvalue()


def inside() -> Iterator[BadFile]:
    """Faults in the weights' HDF5 file."""

    def bad(name: str, change: Callable[[h5py.File], Any], says: str = "", verdict: Verdict = "refuse") -> BadFile:
        return from_bytes(f"weights-{name}", archive(parts(weights=weights(change))), ".keras", says, verdict)

    kernel, matrix = "layers/conv2d/vars/0", "layers/dense/vars/0"

    def instead(path: str, make: Callable[[h5py.File], Any]) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            del file[path]
            make(file)

        return change

    def put(path: str, **options: Any) -> Callable[[h5py.File], None]:
        return instead(path, lambda f: f.create_dataset(path, **options))

    yield bad("external-link", instead(kernel, lambda f: f.__setitem__(kernel, h5py.ExternalLink("/etc/passwd", "/x"))), "extern|link")
    yield bad("external-storage", put(kernel, shape=(3, 3, 3, 4), dtype="f4", external=[("/etc/passwd", 0, 432)]), "extern|another file")
    yield bad("soft-loop", instead(kernel, lambda f: f.__setitem__(kernel, h5py.SoftLink("/" + kernel))))
    yield bad("missing", lambda f: f.__delitem__(kernel), "conv")
    yield bad("missing-layer", lambda f: f.__delitem__("layers/conv2d"), "conv")
    yield bad("missing-all", lambda f: f.__delitem__("layers"))
    yield bad("wrong-shape", put(kernel, data=np.zeros((3, 3, 4, 4), "f4")), "conv")
    yield bad("wrong-rank", put(matrix, data=np.zeros(1280, "f4")), "fc")
    yield bad("wrong-type", put(matrix, data=np.array([b"a"])))
    yield bad("huge", put(matrix, shape=(2**30, 2**30), dtype="f4", chunks=(1, 1024)))
    yield bad(
        "swapped", lambda f: (f.move(kernel, "x"), f.move("layers/conv2d/vars/1", kernel), f.move("x", "layers/conv2d/vars/1")), "conv"
    )
    yield bad("extra", lambda f: f.create_dataset("layers/conv2d/vars/2", data=np.zeros(4)), verdict="either")
    yield bad("extra-layer", lambda f: f.create_dataset("layers/conv2d_1/vars/0", data=np.zeros(4)), verdict="either")
    yield bad("vars-dataset", instead("layers/dense/vars", lambda f: f.create_dataset("layers/dense/vars", data=[1.0])))
    yield bad("cycle", lambda f: f["layers/dense"].__setitem__("again", f["layers"]), verdict="either")

    def gzip_bomb(file: h5py.File) -> None:
        import bad_h5

        del file[matrix]
        bad_h5.bomb(file["layers/dense/vars"], "0", None)  # type: ignore[arg-type]

    yield bad("bomb", gzip_bomb)
    member = json.dumps({"card": {"image": {"mean": "lots"}}, "classes": 3, "source": []}).encode()
    yield from_bytes("meta-odd", archive([*parts(), ("niudao.json", member)]), ".keras", verdict="either")
    yield from_bytes("meta-cut", archive([*parts(), ("niudao.json", b'{"card"')]), ".keras", verdict="either")
    yield from_bytes("meta-deep", archive([*parts(), ("niudao.json", b"[" * 100_000)]), ".keras", verdict="either")


def cases() -> Iterator[BadFile]:
    """Every bad .keras archive, with the unbroken ones among them."""
    yield from zips()
    yield from other_kinds(".keras", good())
    yield from inside()
    yield from import_module("zip_traps").traps()  # it builds upon this module
    for name, text, says, verdict in (*faults("keras-3"), *bombs("keras-3")):
        yield from_bytes(f"config-{name}", archive(parts(config=text.encode("utf-8", "surrogatepass"))), ".keras", says, verdict)
