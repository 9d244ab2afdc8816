"""Files of `torch.save` before 1.6: five pickles in a row, then the storages.

Reference: `torch.serialization._legacy_save` and `_legacy_load` of PyTorch 1.0 to 2.13.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niudao.errors import LimitError, ReadError, Where
from niudao.formats import files
from niudao.formats.pytorch.checkpoint import pickle
from niudao.formats.pytorch.checkpoint.described import Array
from niudao.formats.pytorch.checkpoint.described import Storage as Named
from niudao.formats.pytorch.checkpoint.described import Tensor as Described
from niudao.formats.pytorch.checkpoint.tensors import WIDTHS, Storage, StoredTensor, bind, held

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_HEAD = 1 << 20
_MAX_PICKLES = 64 << 20


class Legacy:
    """An opened file: `value` is what was saved, tensors not bound yet; calling it binds one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = Where(file=str(path))
        with files.open_model(path) as f:
            self.size = f.seek(0, 2)
            f.seek(0)
            data = f.read(min(self.size, _HEAD))
            while True:
                try:
                    at = self._pickles(data)
                    break
                except ReadError as e:  # the pickles may be longer than what was read of the file
                    if len(data) == self.size or isinstance(e, LimitError) or "cut short" not in e.message:
                        raise
                    if len(data) >= _MAX_PICKLES:
                        raise LimitError(
                            "the pickles of the file are too long.", where=path, expected=f"at most {_MAX_PICKLES:,} bytes"
                        ) from e
                    f.seek(0)
                    data = f.read(min(self.size, len(data) * 8))
            self._spans = self._measure(f, at)

    def _pickles(self, data: bytes) -> int:
        magic, at = pickle.read(data, self.where)
        if magic != MAGIC:
            raise ReadError(
                f"{self.path.name} is a pickle that torch.save did not write.", where=self.where, next="save it with torch.save"
            )
        protocol, at = pickle.read(data, self.where, start=at)
        if protocol != PROTOCOL:
            raise ReadError("the file is of a protocol that torch does not have.", where=self.where, expected=str(PROTOCOL))
        system, at = pickle.read(data, self.where, start=at)
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise ReadError("the file was written on a big-endian machine, whose order of bytes these files do not keep.", where=self.where)
        self._named: dict[str, Named] = {}
        self.value, at = pickle.read(data, self.where, start=at, storages=self._named)
        self.keys, at = pickle.read(data, self.where, start=at)
        if not isinstance(self.keys, list) or not all(isinstance(k, (str, int)) for k in self.keys):
            raise ReadError("the file has no list of its storages.", where=self.where)
        return at

    def _measure(self, f: Any, at: int) -> dict[str, tuple[int, int]]:
        """Key -> where the storage's bytes begin and how many elements it says it has; sizes stand before each one."""
        spans: dict[str, tuple[int, int]] = {}
        for raw in self.keys:
            key = str(raw)
            f.seek(at)
            length = f.read(8)
            count = int.from_bytes(length, "little", signed=True)
            named = self._named.get(key)
            if named is None or key in spans:
                raise ReadError("the file holds a storage that no tensor speaks of.", where=self.where, got=repr(key)[:60])
            size = count * WIDTHS.get(named.dtype, 1)
            if len(length) < 8 or count < 0 or at + 8 + size > self.size:
                raise ReadError(
                    "the file is cut short: a storage reaches beyond its end.",
                    where=self.where,
                    expected=f"{size:,} bytes",
                    got=f"{self.size - at:,}",
                )
            spans[key] = (at + 8, count)
            at += 8 + size
        if at != self.size:
            raise ReadError("the storages are followed by something else.", where=self.where, got=f"{self.size - at:,} bytes")
        return spans

    def __call__(self, tensor: Described | Array, name: str) -> StoredTensor:
        """One tensor, its bytes found; `name` for messages."""
        where = Where(file=str(self.path), node=name)
        if isinstance(tensor, Array):
            return held(tensor, self.path, where)
        named = tensor.storage
        if named.key not in self._spans:
            raise ReadError("a tensor speaks of a storage that the file does not hold.", where=where, got=repr(named.key)[:60])
        begin, count = self._spans[named.key]
        width = WIDTHS.get(named.dtype, 1)
        if count != named.count:
            raise ReadError("a storage has another size than the pickle says.", where=where, expected=f"{named.count:,}", got=f"{count:,}")
        if named.view is not None:
            _, start, part = named.view
            if start + part > count:
                raise ReadError("a tensor speaks of a part of a storage beyond its end.", where=where)
            begin, count = begin + start * width, part
        return bind(tensor, named, Storage(self.path, begin, count * width), where)
