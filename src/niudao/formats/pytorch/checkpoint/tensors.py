"""A tensor in a file: its shape and type, and where its bytes lie; read when they are asked for, mapped where they lie well."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from niudao.errors import LimitError, ReadError, Where
from niudao.formats import files
from niudao.formats.pytorch.checkpoint.described import Array
from niudao.formats.pytorch.checkpoint.described import Storage as Named
from niudao.formats.pytorch.checkpoint.described import Tensor as Described
from niudao.ir.wire import BIG

_FREE, _GROWTH = 64 << 20, 8
"""Bytes, or times what the file holds, that all its tensors together may take: views may repeat what lies in it."""

_OWN = {
    n: np.dtype(getattr(ml_dtypes, n)) for n in "bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu".split()
}
_PLAIN = "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool".split()
DTYPES: dict[str, np.dtype[Any]] = {n: np.dtype(n) for n in _PLAIN} | _OWN
"""Types whose values can be read."""
WIDTHS: dict[str, int] = {n: d.itemsize for n, d in DTYPES.items()} | {
    "complex32": 4,
    "complex64": 8,
    "complex128": 16,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
}
"""Bytes of an element, of the types that can at least be described."""


@dataclass(frozen=True)
class Storage:
    """Bytes in a file, or in memory where the file holds them packed.

    Attributes:
        path: The file on the disk.
        start: Where they begin in it.
        size: How many there are.
        crc: Their checksum, 0 where there is none.
        data: The bytes themselves, if they lie nowhere in the file as they are.
    """

    path: Path
    start: int
    size: int
    crc: int = 0
    data: bytes | None = field(default=None, repr=False)

    @cached_property
    def bytes(self) -> np.ndarray[Any, Any]:
        """The bytes, mapped read-only, their checksum checked once.

        Raises:
            ReadError: The file has become shorter, or they are not what their checksum says.
        """
        if self.data is not None:
            return np.frombuffer(self.data, np.uint8)
        if self.size == 0:
            return np.zeros(0, np.uint8)
        whole = _mapped(self.path)
        if whole.size < self.start + self.size:
            raise ReadError(f"{self.path.name} was cut short while it was read.", where=self.path)
        found = whole[self.start : self.start + self.size]
        if self.crc and zlib.crc32(found.data) != self.crc:
            raise ReadError(f"the weights in {self.path.name} are damaged: a checksum is wrong.", where=self.path)
        return found


def _mapped(path: Path) -> np.ndarray[Any, Any]:
    """A whole file, mapped once for all its tensors: each mapping of its own would keep a file open."""
    with files.open_model(path) as f:
        info = os.fstat(f.fileno())
    return _map(path, info.st_size, info.st_mtime_ns, info.st_ino)


@lru_cache(maxsize=4)
def _map(path: Path, size: int, *version: int) -> np.ndarray[Any, Any]:
    return np.asarray(np.memmap(path, np.uint8, "r")) if size else np.zeros(0, np.uint8)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        shape: Its shape.
        dtype: A numpy name, or "bfloat16", "float8_e4m3fn", ...; complex and quantised ones are described and not read.
        storage: Where the run of elements lies that it is a view of.
        offset: Its first element in that run; `strides` the steps between elements, in elements.
        big_endian: Whether the bytes of each element stand the other way round.
        trainable: Whether torch held it as a parameter.
        quantized: How its integers stand for numbers, in words; "" where they are the numbers.
    """

    shape: tuple[int, ...]
    dtype: str
    storage: Storage
    offset: int = 0
    strides: tuple[int, ...] = ()
    big_endian: bool = False
    trainable: bool = False
    quantized: str = ""

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements, each counted once for every place it stands at."""
        return self.size * WIDTHS[self.dtype]

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie one after the other, in the order of C."""
        return (
            all(s == want for d, s, want in zip(self.shape, self.strides, contiguous(self.shape), strict=True) if d != 1) or not self.size
        )

    @property
    def place(self) -> tuple[object, ...]:
        """Equal for tensors that are one: the same elements of the same bytes, seen in the same way."""
        at = id(self.storage.data) if self.storage.data is not None else self.storage.start
        return (self.storage.path, at, self.dtype, self.offset, self.shape, self.strides)

    def array(self) -> np.ndarray[Any, Any]:
        """The values, shape `shape`; a read-only view of the file where that is possible.

        Raises:
            ReadError: The type has no values here (complex, quantised), or the file was changed meanwhile.
        """
        self._check()
        dtype = DTYPES[self.dtype]
        stored = dtype.newbyteorder(">") if self.big_endian and dtype.itemsize > 1 and dtype.kind != "V" else dtype
        raw = self.storage.bytes
        if self.size == 0:
            return np.zeros(self.shape, dtype)
        run = raw[self.offset * dtype.itemsize : raw.size // dtype.itemsize * dtype.itemsize]
        if self.dtype == "bool":
            run = (run != 0).view(np.uint8)  # any other byte counts as true in torch, too
        if dtype in _OWN.values() and self.big_endian and dtype.itemsize == 2:
            run, stored = run.view(">u2").astype("<u2").view(np.uint8), dtype
        steps = tuple(s * dtype.itemsize for s in self.strides)
        view: np.ndarray[Any, Any] = np.ndarray(self.shape, stored, run, strides=steps)
        view.flags.writeable = False
        return view if stored == dtype else view.astype(dtype)

    def cast(self, dtype: str) -> StoredTensor:
        """The same numbers as another type, rounded where it is narrower.

        Raises:
            ReadError: The type has no values here, or numbers with a fraction would become whole ones.
        """
        values = self.array()
        wanted = DTYPES[dtype]
        if _whole(wanted) and not _whole(values.dtype):
            raise ReadError(
                f"the weights are of type {self.dtype}, and the network counts in {dtype}.", where=self.storage.path, expected=dtype
            )
        with np.errstate(over="ignore", invalid="ignore"):
            made = np.ascontiguousarray(values.astype(wanted)).reshape(self.shape)
        storage = Storage(self.storage.path, 0, made.nbytes, data=made.tobytes())
        return StoredTensor(self.shape, dtype, storage, 0, contiguous(self.shape), trainable=self.trainable)

    def tensor(self, name: str) -> ir.TensorProtocol:
        """The tensor for a model: mapped from the file if it is large and lies there as ONNX has it, else read when it is needed.

        Raises:
            ReadError: The type has no values here.
        """
        self._check()
        dtype = ir.DataType.from_numpy(DTYPES[self.dtype])
        shape = ir.Shape(self.shape)
        width = DTYPES[self.dtype].itemsize
        begin = self.storage.start + self.offset * width
        if self.nbytes < BIG:
            return ir.Tensor(np.array(self.array(), order="C"), dtype=dtype, shape=shape, name=name)
        if self.storage.data is None and self.contiguous and not self.big_endian and begin % width == 0 and self.dtype != "bool":
            _ = self.storage.bytes  # its checksum
            path = self.storage.path.resolve()
            return ir.ExternalTensor(path.name, begin, self.nbytes, dtype, shape=shape, name=name, base_dir=path.parent)

        def read() -> ir.TensorProtocol:
            return ir.Tensor(np.array(self.array(), order="C"), dtype=dtype, shape=shape, name=name)

        return ir.LazyTensor(read, dtype=dtype, shape=shape, name=name)

    def _check(self) -> None:
        if self.quantized or self.dtype.startswith("q"):
            raise ReadError(
                f"the weights are quantised ({self.quantized or self.dtype}), which is read from no checkpoint.",
                where=self.storage.path,
                next="call dequantize() on them before saving",
            )
        if self.dtype not in DTYPES:
            raise ReadError(f"the weights are of type {self.dtype}, which networks here do not have.", where=self.storage.path)


def _whole(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iub"


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of an array whose elements lie one after the other, in elements."""
    steps, step = [], 1
    for d in reversed(shape):
        steps.append(step)
        step *= max(d, 1)
    return tuple(reversed(steps))


def check_view(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, count: int, where: Where) -> None:
    """A view stays inside the elements that there are.

    Raises:
        ReadError: It does not.
    """
    last = offset + sum((d - 1) * s for d, s in zip(shape, strides, strict=True)) if all(shape) else 0
    if min((*shape, *strides, offset, 0)) < 0 or last >= max(count, 1) or (count == 0 and all(shape)):
        shown = "x".join(map(str, shape[:8]))
        raise ReadError(
            "a tensor reaches beyond the bytes that the file holds for it.",
            where=where,
            expected=f"at most {count:,} elements",
            got=f"{shown[:60]} from element {offset:,}",
        )


def bind(tensor: Described, named: Named, storage: Storage, where: Where, *, big_endian: bool = False) -> StoredTensor:
    """A described tensor with its bytes found.

    Args:
        tensor: As the pickle describes it.
        named: The storage's description, the view of another one resolved.
        storage: Where that storage's bytes lie.
        where: The file and the tensor's name.
        big_endian: The order of the bytes.

    Raises:
        ReadError: It does not fit into the storage, or is of a type nobody knows.
    """
    dtype = tensor.dtype or named.dtype or "uint8"
    if dtype not in WIDTHS:
        raise ReadError(f"a tensor is of type {dtype}, which networks here do not have.", where=where)
    if big_endian and not named.dtype and WIDTHS[dtype] > 1:
        raise ReadError("a tensor of a big-endian file does not say the type of its bytes.", where=where)
    check_view(tensor.shape, tensor.strides, tensor.offset, storage.size // WIDTHS[dtype], where)
    return StoredTensor(tensor.shape, dtype, storage, tensor.offset, tensor.strides, big_endian, tensor.trainable, tensor.quantized)


def held(array: Array, path: Path, where: Where) -> StoredTensor:
    """A numpy array of the pickle itself.

    Raises:
        ReadError: It holds objects, or other bytes than its shape says.
    """
    name = array.dtype.name
    if name not in WIDTHS:
        raise ReadError("a numpy array in the file holds no numbers.", where=where, got=name)
    need = prod(array.shape) * WIDTHS[name]
    if len(array.data) != need:
        got = f"{len(array.data):,}"
        raise ReadError("a numpy array in the file has other bytes than its shape says.", where=where, expected=f"{need:,}", got=got)
    steps = contiguous(array.shape)
    if array.fortran:
        steps = tuple(reversed(contiguous(tuple(reversed(array.shape)))))
    return StoredTensor(array.shape, name, Storage(path, 0, need, data=array.data), 0, steps, array.dtype.big_endian)


def check_total(tensors: Iterable[StoredTensor], size: int, where: Where) -> None:
    """All views of a file together do not take much more memory than it has bytes.

    Raises:
        LimitError: They do: a file of few bytes that says it is a large network.
    """
    most = max(_FREE, _GROWTH * size)
    total = 0
    seen: set[tuple[object, ...]] = set()
    for t in tensors:
        if t.place not in seen:
            seen.add(t.place)
            total += t.nbytes
    if total > most:
        raise LimitError(
            "the tensors of the file take more memory than it has bytes.", where=where, expected=f"at most {most:,} bytes", got=f"{total:,}"
        )
