"""Files of `torch.save` since 1.6: a zip archive of one pickle and a member for each storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from niudao.errors import ReadError
from niudao.formats.pytorch.checkpoint import pickle
from niudao.formats.pytorch.checkpoint.archive import Archive
from niudao.formats.pytorch.checkpoint.described import Array
from niudao.formats.pytorch.checkpoint.described import Storage as Named
from niudao.formats.pytorch.checkpoint.described import Tensor as Described
from niudao.formats.pytorch.checkpoint.tensors import WIDTHS, Storage, StoredTensor, bind, held

MAX_PICKLE = 64 << 20
"""Bytes of one pickle; storages lie outside it."""


@dataclass
class Binder:
    """Finds the bytes of the tensors that one pickle of an archive speaks of.

    Attributes:
        archive: The archive.
        folder: Where its storages lie in it.
    """

    archive: Archive
    folder: str = "data"
    _known: dict[str, tuple[Named, Storage]] = field(default_factory=dict)
    _big: bool | None = None

    @property
    def big_endian(self) -> bool:
        """What the archive says about the order of its bytes."""
        if self._big is None:
            order = self.archive.read("byteorder", 64).strip() if "byteorder" in self.archive else b"little"
            if order not in (b"little", b"big"):
                raise ReadError("the archive has an order of bytes that nobody knows.", where=self.archive.where(), got=repr(order))
            self._big = order == b"big"
        return self._big

    def __call__(self, tensor: Described | Array, name: str) -> StoredTensor:
        """One tensor, its bytes found; `name` for messages."""
        where = self.archive.where(name)
        if isinstance(tensor, Array):
            return held(tensor, self.archive.path, where)
        named, storage = self._storage(tensor.storage)
        return bind(tensor, named, storage, where, big_endian=self.big_endian)

    def _storage(self, named: Named) -> tuple[Named, Storage]:
        if named.view is not None:
            raise ReadError("the archive speaks of a part of a storage, as only older files do.", where=self.archive.where())
        if named.key in self._known:
            return self._known[named.key]
        member = f"{self.folder}/{named.key}"
        offset, size = self.archive.offset(member), self.archive.size(member)
        width = WIDTHS.get(named.dtype, 1)
        if size != named.count * width:
            expected, got = f"{named.count * width:,} bytes", f"{size:,}"
            raise ReadError(
                "a storage in the archive has another size than the pickle says.",
                where=self.archive.where(member),
                expected=expected,
                got=got,
            )
        storage = Storage(self.archive.path, offset, size, self.archive.member(member).crc)
        self._known[named.key] = (named, storage)
        return named, storage


def load(archive: Archive, member: str = "data.pkl") -> Any:
    """The value of one pickle of an archive, tensors not bound yet.

    Raises:
        ReadError: It is damaged, hostile, or followed by something.
    """
    data = archive.read(member, MAX_PICKLE)
    value, end = pickle.read(data, archive.where(member), storages={})
    if end != len(data):
        raise ReadError("the pickle is followed by something else.", where=archive.where(member), got=f"{len(data) - end:,} bytes")
    return value
