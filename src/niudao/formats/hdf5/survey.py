"""Arrays in a stranger's HDF5 file: found without following a link, measured before they are read, mapped where possible.

HDF5 can point at other files (external links, external storage, virtual datasets), at itself (loops), and can declare arrays
of any size in a few bytes. Nothing of that is followed; whatever h5py raises on garbage becomes one `ReadError`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx_ir as ir

from niudao.errors import LimitError, ReadError, Where
from niudao.formats import files
from niudao.formats.hdf5 import chunks
from niudao.formats.window import Window
from niudao.ir.wire import BIG

MAX_DEPTH, MAX_OBJECTS = 64, 500_000


@dataclass(frozen=True)
class Region:
    """Where an HDF5 image lies: a whole file, a piece of one (a stored zip member), or bytes in memory."""

    path: Path
    start: int = 0
    size: int | None = None
    data: bytes | None = None
    member: str = ""

    def where(self, inside: str | None = None) -> Where:
        file = f"{self.path}:{self.member}" if self.member else str(self.path)
        return Where(file=file, node=inside)

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """The file, read-only; every failure of h5py is a `ReadError`."""
        with guard(self):
            if self.data is not None:
                with h5py.File(io.BytesIO(self.data), "r") as file:
                    yield file
            elif self.size is not None:
                with files.open_model(self.path) as raw, h5py.File(Window(raw, self.start, self.size), "r") as file:
                    yield file
            else:
                files.open_model(self.path).close()
                with h5py.File(self.path, "r") as file:
                    yield file

    def bytes(self) -> int:
        """How long the image is."""
        if self.data is not None:
            return len(self.data)
        return self.size if self.size is not None else self.path.stat().st_size


@contextmanager
def guard(region: Region) -> Iterator[None]:
    """Turn what h5py raises on garbage into one error."""
    try:
        yield
    except MemoryError as e:
        raise LimitError("the HDF5 file asks for more memory than there is.", where=region.where()) from e
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, OverflowError, UnicodeError) as e:
        reason = (str(e) or type(e).__name__).strip("'\"")[:160]
        raise ReadError(f"{region.member or region.path.name} is a damaged HDF5 file: {reason}.", where=region.where()) from e


@dataclass(frozen=True)
class Dataset:
    """One array in the file, not loaded.

    Attributes:
        path: Its path inside the HDF5 file, without a leading slash.
        shape: Its shape; `dtype` its type.
        offset: Where its bytes lie in the image if they lie there in one piece, else None.
    """

    region: Region
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None

    def load(self) -> np.ndarray[Any, Any]:
        """The array as float32, in its own shape."""
        if self.offset is not None and self.region.data is None:
            with files.open_model(self.region.path) as f:
                f.seek(self.region.start + self.offset)
                raw = np.frombuffer(f.read(prod(self.shape) * self.dtype.itemsize), self.dtype)
            if raw.size != prod(self.shape):
                raise ReadError(f"the array {self.path} is cut short.", where=self.region.where(self.path))
            return raw.reshape(self.shape).astype(np.float32)
        with self.region.open() as file:
            return np.asarray(file[self.path][()], dtype=np.float32).reshape(self.shape)

    def mapped(self) -> ir.ExternalTensor | None:
        """The array where it lies, if it is big and lies there as little-endian float32 at an even address."""
        if self.offset is None or self.region.data is not None or self.dtype != np.dtype("<f4") or prod(self.shape) * 4 < BIG:
            return None
        start = self.region.start + self.offset
        if start % 4:
            return None
        path = self.region.path.resolve()
        return ir.ExternalTensor(
            path.name, start, prod(self.shape) * 4, ir.DataType.FLOAT, shape=ir.Shape(self.shape), name=self.path, base_dir=path.parent
        )


@dataclass(frozen=True)
class Contents:
    """What an HDF5 file holds: arrays by path in the file's order, and the attributes of groups that a reader asked for."""

    datasets: dict[str, Dataset]
    groups: dict[str, dict[str, Any]]


def survey(region: Region, attributes: frozenset[str]) -> Contents:
    """Walk the whole file without reading an array.

    Args:
        region: Where it lies.
        attributes: Names of the attributes to read, where a group has them; numbered continuations ("weight_names0") count as the same.

    Raises:
        ReadError: It is damaged, leaves itself, or declares more than it holds.
        LimitError: Its arrays would take more memory than allowed.
    """
    from niudao.formats.hdf5.heaps import check

    datasets: dict[str, Dataset] = {}
    groups: dict[str, dict[str, Any]] = {}
    unpacked = 0
    with region.open() as file:
        size = region.bytes()
        seen: set[int] = set()
        found_groups: list[tuple[str, h5py.Group]] = []
        stack: list[tuple[str, h5py.Group, int]] = [("", file["/"], 0)]
        while stack:
            path, group, depth = stack.pop()
            address = int(h5py.h5o.get_info(group.id).addr)
            if address in seen:
                raise ReadError("the HDF5 file holds one group twice or in a loop.", where=region.where(path))
            seen.add(address)
            if depth > MAX_DEPTH or len(groups) + len(datasets) > MAX_OBJECTS:
                raise LimitError("the HDF5 file is nested too deeply or holds too many objects.", where=region.where(path))
            found_groups.append((path, group))
            groups[path] = {}
            below = []
            for name in group:
                inner = f"{path}/{name}" if path else name
                kind = group.id.links.get_info(name.encode()).type
                if kind != h5py.h5l.TYPE_HARD:
                    where = region.where(inner)
                    raise ReadError("the HDF5 file holds a link, which is not followed.", where=where, expected="plain groups and arrays")
                item = group[name]
                if isinstance(item, h5py.Group):
                    below.append((inner, item, depth + 1))
                elif isinstance(item, h5py.Dataset):
                    found = _dataset(region, inner, item, size)
                    if found is not None:
                        datasets[inner] = found
                        if found.offset is None:
                            unpacked += prod(found.shape) * max(4, found.dtype.itemsize)
                        if unpacked > files.MAX_MEMORY:
                            raise LimitError(
                                "the compressed arrays of the HDF5 file take more memory than allowed.",
                                where=region.where(inner),
                                expected=f"at most {files.MAX_MEMORY:,} bytes",
                                next="raise NIUDAO_MAX_MEMORY if you trust the file",
                            )
            stack.extend(reversed(below))
        check(region, ((d.offset, d.offset + prod(d.shape) * d.dtype.itemsize) for d in datasets.values() if d.offset is not None))
        for path, group in found_groups:
            groups[path] = _attributes(region, path, group, attributes, size)
    return Contents(datasets, groups)


def _attributes(region: Region, path: str, group: h5py.Group, wanted: frozenset[str], size: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in group.attrs:
        if name.rstrip("0123456789") not in wanted and name not in wanted:
            continue
        attribute = group.attrs.get_id(name)
        if attribute.shape is None or not prod(attribute.shape):
            found[name] = []
            continue
        if attribute.get_type().get_class() != h5py.h5t.STRING:  # other kinds, read from damaged bytes, can crash the library itself
            raise ReadError(f"the attribute {name} is no text.", where=region.where(path))
        if prod(attribute.shape or ()) * attribute.dtype.itemsize > size:
            raise ReadError(f"the attribute {name} declares more than the file holds.", where=region.where(path))
        found[name] = group.attrs[name]
    return found


def _dataset(region: Region, path: str, item: h5py.Dataset, size: int) -> Dataset | None:
    """Measure one dataset; None for text and other things that are no numbers."""
    where = region.where(path)
    plist = item.id.get_create_plist()
    layout = plist.get_layout()
    if plist.get_external_count() or layout == h5py.h5d.VIRTUAL:
        raise ReadError("an array of the HDF5 file lies in another file, which is not opened.", where=where)
    if item.dtype.kind not in "fiub" or item.dtype.itemsize > 8 or item.shape is None:
        return None
    shape, count = tuple(int(d) for d in item.shape), prod(item.shape) * item.dtype.itemsize
    stored = int(item.id.get_storage_size())
    if stored > size:
        raise ReadError("an array of the HDF5 file declares more bytes than the file has.", where=where, got=f"{stored:,} of {size:,}")
    if layout == h5py.h5d.CHUNKED:
        chunks.check(item, where, size)
        return Dataset(region, path, shape, item.dtype, None)
    if count > stored:
        reason = "an array of the HDF5 file declares more than it stores."
        raise ReadError(reason, where=where, expected=f"{count:,} bytes", got=f"{stored:,}")
    offset = item.id.get_offset() if layout == h5py.h5d.CONTIGUOUS and count else None
    if offset is not None and offset + count > size:
        raise ReadError("the HDF5 file is cut short.", where=where, expected=f"at least {offset + count:,} bytes", got=f"{size:,}")
    return Dataset(region, path, shape, item.dtype, offset)


def text(value: Any) -> str:
    """An attribute that h5py gives as bytes (old files) or text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def names(attributes: dict[str, Any], key: str) -> list[str] | None:
    """A list of names, which HDF5's limit on attributes may have cut into `key0`, `key1`, ...; None if there is none."""
    if key in attributes:
        parts = [attributes[key]]
    else:
        parts = []
        while f"{key}{len(parts)}" in attributes:
            parts.append(attributes[f"{key}{len(parts)}"])
        if not parts:
            return None
    return [text(n) for part in parts for n in np.asarray(part).reshape(-1).tolist()]
