"""Bad HDF5 files of Keras: the description spoilt, the weights spoilt, and HDF5's own ways to reach outside or to blow up."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from badfile import BadFile, Verdict, other_kinds
from keras_bombs import bombs
from keras_config import PARTS, arrays, faults, network

Build = Callable[[h5py.File, Path], Any]


def build(file: h5py.File, config: str | None, *, skip: str = "") -> None:
    """A whole Keras 2 file."""
    file.attrs["keras_version"] = "2.2.4"
    file.attrs["backend"] = "tensorflow"
    if config is not None:
        file.attrs["model_config"] = config
    group = file.create_group("model_weights")
    names = ["image", "conv", "bn", "relu", "flat", "fc"]
    group.attrs["layer_names"] = [n.encode() for n in names]
    group.attrs["backend"] = "tensorflow"
    group.attrs["keras_version"] = "2.2.4"
    for name in names:
        inner = group.create_group(name)
        inner.attrs["weight_names"] = [f"{name}/{p}:0".encode() for p in PARTS.get(name, [])]
        for part, array in zip(PARTS.get(name, []), arrays(name) if name in PARTS else [], strict=True):
            path = f"{name}/{part}:0"
            if path != skip:
                inner.create_dataset(path, data=array)


KERNEL = "model_weights/conv/conv/kernel:0"
MATRIX = "model_weights/fc/fc/kernel:0"


def h5(
    name: str, change: Build | None = None, says: str = "", verdict: Verdict = "refuse", *, config: str | None = "", skip: str = ""
) -> BadFile:
    """A case: the good file, its config replaced, then changed."""

    def make(folder: Path) -> Path:
        path = folder / "net.h5"
        with h5py.File(path, "w", libver="earliest") as file:
            build(file, json.dumps(network("keras-2")) if config == "" else config, skip=skip)
            if change is not None:
                change(file, folder)
        return path

    return BadFile(name, make, says, verdict)


def replaced(path: str, make: Callable[[h5py.Group, str, Path], Any]) -> Build:
    """Delete an object and put another one in its place."""

    def change(file: h5py.File, folder: Path) -> None:
        parent, _, leaf = path.rpartition("/")
        del file[path]
        make(file[parent or "/"], leaf, folder)

    return change


def attribute(path: str, key: str, new: Any) -> Build:
    def change(file: h5py.File, folder: Path) -> None:
        del file[path].attrs[key]
        if new is not None:
            file[path].attrs[key] = new

    return change


def secret(folder: Path) -> Path:
    """A file that the model must not reach."""
    path = folder / "secret.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = arrays("conv")[0]
    (folder / "secret.bin").write_bytes(arrays("conv")[0].tobytes())
    return path


def bomb(group: h5py.Group, name: str, folder: Path) -> None:
    """One deflated chunk of 1 GiB of zeros in about 1 MiB."""
    side = 1 << 28
    data = group.create_dataset(name, shape=(side,), dtype="<f4", chunks=(side,), compression="gzip")
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    start = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    total = side * 4
    adler = (total % 65521) << 16 | 1
    data.id.write_direct_chunk((0,), start + again * (total // len(block) - 1) + b"\x03\x00" + adler.to_bytes(4, "big"))


def overfull(floats: int) -> Callable[[h5py.Group, str, Path], None]:
    """One deflated chunk that declares few bytes and holds 600 MiB of zeros."""

    def make(group: h5py.Group, name: str, folder: Path) -> None:
        data = group.create_dataset(name, shape=(floats,), dtype="<f4", chunks=(floats,), compression="gzip")
        packer = zlib.compressobj(9)
        data.id.write_direct_chunk((0,), b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush())

    return make


def virtual(group: h5py.Group, name: str, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(3, 3, 3, 4), dtype="<f4")
    layout[:] = h5py.VirtualSource(secret(folder), "kernel", shape=(3, 3, 3, 4))
    group.create_virtual_dataset(name, layout)


def loops(file: h5py.File, folder: Path) -> None:
    group = file["model_weights/conv"]
    del group["conv/kernel:0"]
    group["conv/kernel:0"] = h5py.SoftLink("/model_weights/conv/conv/other")
    group["conv/other"] = h5py.SoftLink("/model_weights/conv/conv/kernel:0")


def links() -> Iterator[BadFile]:
    yield h5(
        "link-external", replaced(KERNEL, lambda g, n, d: g.__setitem__(n, h5py.ExternalLink(str(secret(d)), "/kernel"))), "extern|link"
    )
    yield h5(
        "link-external-relative",
        replaced(KERNEL, lambda g, n, d: g.__setitem__(n, h5py.ExternalLink(secret(d).name, "/kernel"))),
        "extern|link",
    )
    yield h5(
        "link-external-group",
        replaced("model_weights", lambda g, n, d: g.__setitem__(n, h5py.ExternalLink(secret(d).name, "/"))),
        "extern|link",
    )
    yield h5(
        "link-external-device", replaced(KERNEL, lambda g, n, d: g.__setitem__(n, h5py.ExternalLink("/dev/zero", "/kernel"))), "extern|link"
    )
    yield h5(
        "link-external-itself", replaced(KERNEL, lambda g, n, d: g.__setitem__(n, h5py.ExternalLink("net.h5", "/" + KERNEL))), "extern|link"
    )
    yield h5("link-soft-loop", loops)
    yield h5("link-soft-nowhere", replaced(KERNEL, lambda g, n, d: g.__setitem__(n, h5py.SoftLink("/nowhere"))))
    yield h5("link-soft-bias", replaced(KERNEL, lambda g, n, d: g.__setitem__(n, h5py.SoftLink("/model_weights/conv/conv/bias:0"))))
    yield h5("link-hard-cycle", lambda f, d: f["model_weights/conv"].__setitem__("again", f["model_weights"]), verdict="either")

    def store(path: str, size: int = 432) -> Build:
        return replaced(KERNEL, lambda g, n, d: (secret(d), g.create_dataset(n, (3, 3, 3, 4), "<f4", external=[(path, 0, size)])))

    yield h5("storage-external", store("secret.bin"), "extern|another file")
    yield h5("storage-external-passwd", store("/etc/passwd"), "extern|another file")
    yield h5("storage-external-device", store("/dev/zero"), "extern|another file")
    yield h5("storage-virtual", replaced(KERNEL, virtual), "virtual|extern|another file")


def weights() -> Iterator[BadFile]:
    def kernel(case: str, data: Any = None, says: str = "", verdict: Verdict = "refuse", **options: Any) -> BadFile:
        return h5(f"kernel-{case}", replaced(KERNEL, lambda g, n, d: g.create_dataset(n, data=data, **options)), says, verdict)

    good = arrays("conv")[0]
    yield kernel("control-gzip", good, verdict="open", compression="gzip")
    yield kernel("control-shuffled", good, verdict="open", compression="gzip", shuffle=True, fletcher32=True)
    yield kernel("control-lzf", good, verdict="open", compression="lzf")
    yield kernel("control-chunked", good, verdict="open", chunks=(1, 1, 3, 4))
    yield kernel("control-resizable", good, verdict="open", maxshape=(None,) * 4)
    yield kernel("big-endian", good.astype(">f4"), verdict="either")
    yield kernel("half", good.astype("f2"), verdict="either")
    yield kernel("double", good.astype("f8"), verdict="either")
    yield kernel("ints", (good * 9).astype("i4"), verdict="either")
    yield kernel("text", "hello")
    yield kernel("texts", [b"a", b"b"])
    yield kernel("vlen", shape=(3, 3, 3, 4), dtype=h5py.vlen_dtype("f4"))
    yield kernel("compound", shape=(3, 3, 3, 4), dtype=[("a", "f4"), ("b", "i8")])
    yield kernel("complex", good.astype("c8"))
    yield kernel("references", shape=(3, 3, 3, 4), dtype=h5py.ref_dtype)
    yield kernel("empty", h5py.Empty("f4"))
    yield kernel("scalar", np.float32(3))
    yield kernel("transposed", good.transpose(3, 2, 0, 1), "conv")
    yield kernel("flat", good.reshape(-1), "conv")
    yield kernel("channels", np.zeros((3, 3, 5, 4), "f4"), "conv")
    yield kernel("zero-size", np.zeros((3, 3, 0, 4), "f4"), "conv")
    yield kernel("huge-unwritten", shape=(2**20, 2**20, 3, 4), dtype="f4", chunks=(1, 1, 3, 4))
    yield kernel("right-but-unwritten", shape=(3, 3, 3, 4), dtype="f4", chunks=(3, 3, 3, 4), verdict="either")
    yield h5("matrix-bomb", replaced(MATRIX, bomb))
    yield h5("matrix-overfull-small", replaced(MATRIX, overfull(1024)), "chunk")
    yield h5("matrix-overfull-large", replaced(MATRIX, overfull(1 << 18)), "chunk")
    yield h5("kernel-is-group", replaced(KERNEL, lambda g, n, d: g.create_group(n)), "conv")
    yield h5("kernel-absent", skip="conv/kernel:0", says="conv")
    yield h5("bias-absent", skip="conv/bias:0", says="conv")
    yield h5("variance-nan", lambda f, d: f["model_weights/bn/bn/moving_variance:0"].__setitem__(0, np.nan), verdict="either")
    yield h5("dense-too-long", replaced(MATRIX, lambda g, n, d: g.create_dataset(n, data=np.zeros((300, 5), "f4"))), "fc")

    def claimed(file: h5py.File, folder: Path) -> None:
        """Filters and storage claim 2^40 of everything; nothing is there."""
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][5]["config"]["units"] = 2**40
        file.attrs["model_config"] = json.dumps(config)
        del file[MATRIX]
        file.create_dataset(MATRIX, shape=(256, 2**40), dtype="f4", chunks=(1, 1024))

    yield h5("everything-claims-huge", claimed)


def structure() -> Iterator[BadFile]:
    yield h5("control-plain", verdict="open")
    yield h5("control-optimizer", lambda f, d: f.create_group("optimizer_weights").create_dataset("m", data=np.zeros(9)), verdict="open")
    yield h5("control-training-config", lambda f, d: f.attrs.__setitem__("training_config", "{nonsense"), verdict="open")
    yield h5(
        "control-bytes-config", lambda f, d: f.attrs.__setitem__("model_config", np.bytes_(json.dumps(network("keras-2")))), verdict="open"
    )
    yield h5("no-config", config=None, says="weights|topology|architecture|config")
    yield h5("no-weights", lambda f, d: f.__delitem__("model_weights"), "weight")
    yield h5("weights-is-dataset", replaced("model_weights", lambda g, n, d: g.create_dataset(n, data=[1.0])))
    yield h5("layer-is-dataset", replaced("model_weights/conv", lambda g, n, d: g.create_dataset(n, data=[1.0])), "conv")
    yield h5("layer-absent", lambda f, d: f.__delitem__("model_weights/conv"), "conv")
    yield h5("config-number", lambda f, d: f.attrs.__setitem__("model_config", 7))
    yield h5("config-array", lambda f, d: f.attrs.__setitem__("model_config", np.zeros(5)))
    yield h5("config-empty", lambda f, d: f.attrs.__setitem__("model_config", h5py.Empty("f4")))
    yield h5("config-not-utf8", lambda f, d: f.attrs.__setitem__("model_config", np.bytes_(b'{"class_name": "\xff\xfe"}')))
    yield h5("version-number", lambda f, d: f.attrs.__setitem__("keras_version", 2), verdict="either")
    yield h5("version-text", lambda f, d: f.attrs.__setitem__("keras_version", "two\x1b[31m"), verdict="either")
    yield h5("version-future", lambda f, d: f.attrs.__setitem__("keras_version", "99.0"), verdict="either")
    yield h5("version-absent", lambda f, d: f.attrs.__delitem__("keras_version"), verdict="either")
    for key, path in (("layer_names", "model_weights"), ("weight_names", "model_weights/conv")):
        for name, new in {
            "absent": None,
            "number": 7,
            "floats": np.zeros(3),
            "text": "conv",
            "lost": [b"nowhere"],
            "path": [b"../../secret"],
            "nul": [b"a\0b"],
            "empty-names": [b"", b""],
            "not-utf8": [b"\xff\xfe", b"x"],
            "twice": [b"conv/kernel:0", b"conv/kernel:0"],
            "absolute": [b"/model_weights/fc/fc/kernel:0", b"conv/bias:0"],
        }.items():
            verdict: Verdict = "either" if key == "layer_names" and name in ("absent", "text") else "refuse"
            held = np.array(new, "S" if any(new) else "S1") if isinstance(new, list) else new
            yield h5(f"{key}-{name}", attribute(path, key, held), verdict=verdict)
    yield h5("groups-many", lambda f, d: [f["model_weights"].create_group(f"g{i}") for i in range(3000)], verdict="either")
    yield h5("groups-deep", lambda f, d: f.create_group("/".join(["g"] * 400)), verdict="either")
    yield h5("meta-text", lambda f, d: f.attrs.__setitem__("niudao", "{nonsense"), verdict="either")
    yield h5("meta-list", lambda f, d: f.attrs.__setitem__("niudao", "[1]"), verdict="either")
    yield h5("meta-number", lambda f, d: f.attrs.__setitem__("niudao", 7), verdict="either")
    for text in (
        '{"card": 7, "classes": {}, "source": []}',
        '{"card": {"image": {"mean": "x"}}}',
        '{"card": {"image": {"frob": 1}}, "classes": [1, null]}',
        '{"card": {"image": 3}}',
        '{"card": {"image": {"mean": [NaN]}}}',
    ):
        yield h5(f"meta-{len(text)}", lambda f, d, t=text: f.attrs.__setitem__("niudao", t), verdict="either")


def good() -> bytes:
    """The unbroken file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return h5("", verdict="open").make(Path(folder)).read_bytes()


def cases() -> Iterator[BadFile]:
    """Every bad HDF5 file, with the unbroken ones among them."""
    yield from other_kinds(".h5", good())
    yield from structure()
    yield from links()
    yield from weights()
    texts = [*faults("keras-2"), *((n, t, s, v) for n, t, s, v in bombs("keras-2") if "\0" not in t)]
    for name, text, says, verdict in texts:
        if len(text) < 60_000:  # an attribute of an old file holds no more; longer texts are .keras cases
            yield h5(f"config-{name}", None, says, verdict, config=text or " ")
