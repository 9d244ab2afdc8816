"""Bad weights of Caffe that are no protobuf: HDF5 (`.caffemodel.h5`), and the file of "Deep Compression" (`.net`)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from bad_prototxt import CONV, HEAD, REST
from badfile import BadFile, Verdict

ARRAYS = {"conv": [(4, 3, 3, 3), (4,)], "fc": [(2, 36), (2,)]}
KERNEL, BIAS = "data/conv/0", "data/conv/1"
Change = Callable[[h5py.File], Any]


def h5(
    name: str,
    change: Change | None = None,
    verdict: Verdict = "refuse",
    says: str = "",
    *,
    file: str = "net.caffemodel.h5",
    text: str = HEAD + CONV + REST,
) -> BadFile:
    """A prototxt with HDF5 weights beside it, which are changed; without a text the weights alone."""

    def make(folder: Path) -> Path:
        if text:
            (folder / "net.prototxt").write_text(text)
        (folder.parent / "secret.h5").write_bytes(b"nothing here is yours")
        with h5py.File(folder / file, "w", libver="earliest") as f:
            for layer, shapes in ARRAYS.items():
                for i, shape in enumerate(shapes):
                    f.create_dataset(f"data/{layer}/{i}", data=np.full(shape, 0.1, np.float32))
            if change is not None:
                change(f)
        return folder / ("net.prototxt" if text else file)

    return BadFile(f"h5-{name}", make, says, verdict)


def put(path: str, **options: Any) -> Change:
    """Another array in the place of one."""

    def change(f: h5py.File) -> None:
        if path in f:
            del f[path]
        f.create_dataset(path, **options)

    return change


def instead(path: str, make: Callable[[h5py.File], Any]) -> Change:
    def change(f: h5py.File) -> None:
        del f[path]
        f[path] = make(f)

    return change


def hdf5() -> Iterator[BadFile]:
    """Weights in HDF5."""
    kernel = np.full((4, 3, 3, 3), 0.1, np.float32)
    yield h5("control", verdict="open")
    yield h5("control-double", put(KERNEL, data=kernel.astype("f8")), "open")
    yield h5("control-big-endian", put(KERNEL, data=kernel.astype(">f4")), "open")
    yield h5("control-half", put(KERNEL, data=kernel.astype("f2")), "open")
    yield h5("control-chunked", put(KERNEL, data=kernel, chunks=(2, 3, 3, 3), compression="gzip"), "open")
    yield h5("control-diff", lambda f: f.create_dataset("diff/conv/0", data=kernel), "open")
    yield h5("control-more-layers", put("data/other/0", data=kernel), "open")
    yield h5("control-group-in-a-name", put("data/inception/3x3/0", data=kernel), "open")
    yield h5("integers", put(KERNEL, data=np.ones((4, 3, 3, 3), "i8")), "either")
    yield h5("alone", text="", says="weights and no network|network")
    yield h5("alone-called-caffemodel", text="", file="net.caffemodel", says="weights and no network|network")
    yield h5("alone-called-h5", text="", file="net.h5")
    yield h5("called-caffemodel", file="net.caffemodel", verdict="open")
    yield h5("no-data", lambda f: f.move("data", "weights"), says="no blobs")
    yield h5("data-empty", lambda f: (f.__delitem__("data"), f.create_group("data")), says="no blobs")
    yield h5("data-is-an-array", put("data", data=kernel), says="no blobs")
    yield h5("layer-is-an-array", put("data/conv", data=kernel), says="conv")
    yield h5("layer-missing", lambda f: f.__delitem__("data/conv"), says="conv")
    yield h5("blob-missing", lambda f: f.__delitem__(KERNEL), says="conv")
    yield h5("blob-is-a-group", lambda f: (f.__delitem__(KERNEL), f.create_group(KERNEL)), says="conv")
    yield h5("blob-too-many", put("data/conv/2", data=kernel), says="conv")
    yield h5("blob-number-leap", lambda f: f.move(BIAS, "data/conv/7"), says="conv")
    yield h5("blob-number-superscript", lambda f: f.move(BIAS, "data/conv/²"), says="conv")
    yield h5("blob-number-arabic", lambda f: f.move(BIAS, "data/conv/١"), says="conv")
    yield h5("blob-number-leading-zero", lambda f: f.copy(BIAS, "data/conv/01"), "either")
    yield h5("blob-number-negative", lambda f: f.move(BIAS, "data/conv/-1"), says="conv")
    yield h5("blob-name-control", lambda f: f.copy(BIAS, "data/\x1b[31mconv\u202e/0"), "open")
    yield h5("shape-other", put(KERNEL, data=kernel.reshape(3, 4, 3, 3)), says="conv")
    yield h5("shape-flat", put(KERNEL, data=kernel.ravel()), says="conv")
    yield h5("shape-scalar", put(BIAS, data=np.float32(1)), says="conv")
    yield h5("shape-empty", put(BIAS, data=h5py.Empty("f4")))
    yield h5("shape-zero", put(BIAS, data=np.zeros((0,), "f4")), says="conv")
    yield h5("shape-32-axes", put(BIAS, data=np.ones([1] * 31 + [4], "f4")), "either")
    yield h5("shape-huge", put(KERNEL, shape=(2**30, 2**30), dtype="f4", chunks=(1, 1024)))
    yield h5("shape-huge-not-written", put(KERNEL, shape=(2**20, 2**10), dtype="f4"))
    yield h5("type-text", put(KERNEL, data=np.array([b"a"] * 108).reshape(4, 3, 3, 3)), says="conv")
    yield h5("type-compound", put(KERNEL, data=np.zeros((4, 3, 3, 3), [("a", "f4"), ("b", "i8")])), says="conv")
    yield h5("type-complex", put(KERNEL, data=kernel.astype("c8")), says="conv")
    yield h5("type-object", put(KERNEL, shape=(4, 3, 3, 3), dtype=h5py.vlen_dtype(np.float32)), says="conv")
    yield h5("type-reference", put(KERNEL, shape=(4, 3, 3, 3), dtype=h5py.ref_dtype), says="conv")
    yield h5("type-long-double", put(KERNEL, data=kernel.astype("g")), "either")
    yield h5("link-external", instead(KERNEL, lambda f: h5py.ExternalLink("../secret.h5", "/x")), says="link")
    yield h5("link-external-absolute", instead(KERNEL, lambda f: h5py.ExternalLink("/etc/passwd", "/x")), says="link")
    yield h5("link-external-layer", instead("data/conv", lambda f: h5py.ExternalLink("../secret.h5", "/x")), says="link")
    yield h5("link-external-data", instead("data", lambda f: h5py.ExternalLink("../secret.h5", "/x")))
    yield h5("link-external-data-alone", instead("data", lambda f: h5py.ExternalLink("/dev/zero", "/x")), text="", file="net.h5")
    yield h5("link-external-data-fifo", instead("data", lambda f: _pipe(f)), text="", file="net.h5")
    yield h5("link-soft", instead(KERNEL, lambda f: h5py.SoftLink("/data/fc/0")), says="link")
    yield h5("link-soft-loop", instead(KERNEL, lambda f: h5py.SoftLink("/data/conv/0")), says="link")
    yield h5("link-hard-twice", instead(KERNEL, lambda f: f["data/fc/0"]), says="conv")
    yield h5("link-group-loop", lambda f: f["data/conv"].__setitem__("again", f["data"]))
    yield h5("link-layers-share-a-group", instead("data/fc", lambda f: f["data/conv"]))
    yield h5("storage-external", put(KERNEL, shape=(4, 3, 3, 3), dtype="f4", external=[("/etc/passwd", 0, 432)]), says="another file")
    yield h5("storage-virtual", _virtual, says="another file")
    yield h5("groups-deep", lambda f: f.create_group("/".join("a" * 500)))
    yield h5("groups-many", lambda f: [f.create_group(f"data/g{i}") for i in range(20_000)], "either")
    yield h5("attributes-odd", lambda f: f.attrs.__setitem__("layer_names", [b"conv"]), "either")
    for name, change in {"cut": lambda d: d[: len(d) // 2], "cut-end": lambda d: d[:-40], "middle-lost": lambda d: d[:1000] + d[1400:],
        "ones": lambda d: d[:600] + b"\xff" * 400 + d[1000:],
                         "signature": lambda d: d[:8], "twice": lambda d: d + d, "front": lambda d: bytes(512) + d}.items():  # fmt: skip
        yield _damaged(name, change)


def _pipe(f: h5py.File) -> h5py.ExternalLink:
    import os

    os.mkfifo(Path(f.filename).with_name("pipe"))
    return h5py.ExternalLink("pipe", "/x")


def _virtual(f: h5py.File) -> None:
    del f[KERNEL]
    layout = h5py.VirtualLayout((4, 3, 3, 3), "f4")
    layout[...] = h5py.VirtualSource("../secret.h5", "x", (4, 3, 3, 3))
    f.create_virtual_dataset(KERNEL, layout)


def _damaged(name: str, change: Callable[[bytes], bytes]) -> BadFile:
    good = h5("")

    def make(folder: Path) -> Path:
        path = good.make(folder)
        weights = folder / "net.caffemodel.h5"
        weights.write_bytes(change(weights.read_bytes()))
        return path

    return BadFile(f"h5-damaged-{name}", make, "", "either" if name in ("twice", "front", "cut-end", "middle-lost", "ones") else "refuse")


NET = (
    HEAD + CONV + 'layer { name: "last" type: "Convolution" bottom: "conv" top: "y" convolution_param { num_output: 2 kernel_size: 1 } }\n'
)


def compressed() -> Iterator[tuple[str, str, bytes, Verdict]]:
    """(name, prototxt, `.net` file, verdict): counts, a codebook, biases, codes, gaps; it is named as the second file."""

    def stored(n: int, outputs: int, gap: int = 0, code: int = 1) -> bytes:
        return struct.pack("<256f", *range(256)) + bytes(4 * outputs) + bytes([code]) * n + bytes([gap * 17]) * ((n + 1) // 2)

    good = struct.pack("<2I", 100, 8) + stored(100, 4) + stored(8, 2)
    yield "control", NET, good, "open"
    yield "control-none-stored", NET, struct.pack("<2I", 0, 0) + stored(0, 4) + stored(0, 2), "open"
    yield "control-all", NET, struct.pack("<2I", 108, 8) + stored(108, 4) + stored(8, 2), "open"
    yield "gaps-overflow", NET, struct.pack("<2I", 100, 8) + stored(100, 4, gap=15) + stored(8, 2), "refuse"
    yield "one-too-many", NET, struct.pack("<2I", 109, 8) + stored(109, 4) + stored(8, 2), "refuse"
    yield "empty", NET, b"", "refuse"
    yield "counts-only", NET, struct.pack("<2I", 0, 0), "refuse"
    yield "counts-huge", NET, struct.pack("<2I", 2**32 - 1, 2**32 - 1) + bytes(9000), "refuse"
    yield "counts-swapped", NET, struct.pack("<2I", 8, 100) + good[8:], "refuse"
    yield "cut", NET, good[:-1], "refuse"
    yield "behind", NET, good + b"\0", "refuse"
    yield "nan", NET, good[:8] + b"\xff" * 1024 + good[1032:], "open"
    yield "text", NET, b"hello, this is no model\n" * 200, "refuse"
    yield "no-layers", HEAD + 'layer { name: "r" type: "ReLU" bottom: "data" top: "y" }\n', b"", "either"
    yield "outputs-huge", NET.replace("num_output: 4", "num_output: 2147483647"), good, "refuse"
    yield "outputs-none", NET.replace("num_output: 4", ""), good, "refuse"
    yield "kernel-huge", NET.replace("kernel_size: 3", "kernel_size: 2000000000"), good, "refuse"
    yield "kernel-zero", NET.replace("kernel_size: 3", "kernel_size: 0"), good, "refuse"
    yield "kernel-three-axes", NET.replace("kernel_size: 3", "kernel_size: 3 kernel_size: 3 kernel_size: 3"), good, "refuse"
    yield "group-zero", NET.replace("num_output: 4", "num_output: 4 group: 0"), good, "either"
    yield "group-huge", NET.replace("num_output: 4", "num_output: 4 group: 4294967295"), good, "refuse"
    yield "input-negative", NET.replace("dim: 3", "dim: -3"), good, "refuse"
    yield "input-unknown", NET.replace('bottom: "data"', 'bottom: "nobody"'), good, "refuse"
    yield (
        "inner-product",
        NET.replace('"Convolution" bottom: "conv"', '"InnerProduct" bottom: "conv"').replace(
            "convolution_param { num_output: 2 kernel_size: 1 }", "inner_product_param { num_output: 2 }"
        ),
        good,
        "refuse",
    )


def cases() -> Iterator[BadFile]:
    """Every case that lies beside its prototxt by itself."""
    yield from hdf5()
