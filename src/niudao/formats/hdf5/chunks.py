"""Compressed chunks measured before HDF5 unpacks them: the library unpacks whatever a chunk holds, not what it declares.

Reference: HDF5 File Format Specification, section IV.A.2.l "Data Storage - Filter Pipeline"; RFC 1951 for deflate.
"""

from __future__ import annotations

import zlib
from math import prod

import h5py

from niudao.errors import LimitError, ReadError, Where

FILTERS = frozenset((h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF))
_PACKERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF)
_CHUNK = 256 << 20
_DEFLATE_RATIO = 1100  # more than it can reach, which is 1032
_HARMLESS = 32 << 10
_LZF_CHUNK = 4 << 20  # h5py's own chunks hold at most 1 MiB; lzf reaches 88 : 1
_SLACK = 4096
_PIECE, _FEED = 1 << 20, 1 << 16


def check(item: h5py.Dataset, where: Where, size: int) -> None:
    """Every chunk of a chunked dataset.

    Args:
        item: The dataset.
        where: For messages.
        size: Bytes of the file that holds it.

    Raises:
        ReadError: It is compressed in a way that is not read, or declares more than its bytes can hold.
        LimitError: A chunk would unpack to more than it declares.
    """
    plist = item.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    packers = [i for i, f in enumerate(filters) if f in _PACKERS]
    if not set(filters) <= FILTERS or len(packers) > 1 or (packers and h5py.h5z.FILTER_SHUFFLE in filters[packers[0] :]):
        reason = "an array of the HDF5 file is compressed in a way that is not read."
        raise ReadError(reason, where=where, expected="gzip or lzf", got=str(filters)[:60])
    declared, stored = prod(item.shape) * item.dtype.itemsize, int(item.id.get_storage_size())
    chunk = prod(plist.get_chunk()) * item.dtype.itemsize
    if declared > _DEFLATE_RATIO * max(1, len(filters)) * stored or chunk > _CHUNK:
        reason = "an array of the HDF5 file declares more than its compressed bytes can hold."
        raise ReadError(reason, where=where, got=f"{declared:,} bytes from {stored:,}")
    if not packers:
        return
    found: list[tuple[tuple[int, ...], int, int]] = []
    item.id.chunk_iter(lambda info: found.append((info.chunk_offset, info.filter_mask, info.size)))
    for offset, mask, held in found:
        if held > min(size, chunk + chunk // 10 + _SLACK):
            raise ReadError("a compressed chunk of the HDF5 file is larger than what it unpacks to.", where=where, got=f"{held:,} bytes")
        if mask & 1 << packers[0]:  # stored as it is
            continue
        if filters[packers[0]] == h5py.h5z.FILTER_DEFLATE:
            _measure(item, where, offset, held, chunk + _SLACK)
        elif held > _LZF_CHUNK:
            raise LimitError("a chunk of the HDF5 file is too large for lzf.", where=where, expected=f"at most {_LZF_CHUNK:,} bytes")


def _measure(item: h5py.Dataset, where: Where, offset: tuple[int, ...], held: int, limit: int) -> None:
    """Unpack one deflated chunk piece by piece, keep nothing, and stop where it grows beyond the limit."""
    if held <= _HARMLESS:
        return
    _, raw = item.id.read_direct_chunk(offset)
    unpacker, unpacked = zlib.decompressobj(), 0
    for start in range(0, len(raw), _FEED):
        part = raw[start : start + _FEED]
        while part and not unpacker.eof:
            try:
                unpacked += len(unpacker.decompress(part, _PIECE))
            except zlib.error as e:
                raise ReadError("a compressed chunk of the HDF5 file is damaged.", where=where, got=str(e)[:80]) from e
            if unpacked > limit:
                reason = "a compressed chunk of the HDF5 file unpacks to more than it declares."
                raise LimitError(reason, where=where, expected=f"at most {limit:,} bytes")
            part = unpacker.unconsumed_tail
