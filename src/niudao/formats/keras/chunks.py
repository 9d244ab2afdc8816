"""Compressed chunks measured before HDF5 unpacks them: the library unpacks whatever a chunk holds, not what it declares.

Reference: HDF5 File Format Specification, section IV.A.2.l "Data Storage - Filter Pipeline"; RFC 1951 for deflate.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import prod

import h5py

from niudao.errors import LimitError, ReadError, Where

FILTERS = frozenset((h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF))
_PACKERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF)
_CHUNK = 256 << 20
_DEFLATE_RATIO, _LZF_RATIO = 1100, 100  # more than either can reach: 1032 and 88
_HARMLESS = 32 << 20
_SLACK = 4096
_PIECE = 1 << 20


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
        if not mask & 1 << packers[0]:
            _measure(item, where, filters[packers[0]], offset, held, chunk + _SLACK)


def _measure(item: h5py.Dataset, where: Where, packer: int, offset: Sequence[int], held: int, limit: int) -> None:
    """Unpack one chunk piece by piece, keep nothing, and stop where it grows beyond the limit."""
    ratio = _DEFLATE_RATIO if packer == h5py.h5z.FILTER_DEFLATE else _LZF_RATIO
    if held * ratio <= max(_HARMLESS, limit):
        return
    if packer == h5py.h5z.FILTER_DEFLATE:
        _, raw = item.id.read_direct_chunk(tuple(offset))
        unpacker, unpacked = zlib.decompressobj(), 0
        try:
            while raw and not unpacker.eof and unpacked <= limit:
                piece = unpacker.decompress(raw, _PIECE)
                if not piece and not unpacker.unconsumed_tail:
                    break
                unpacked, raw = unpacked + len(piece), unpacker.unconsumed_tail
        except zlib.error as e:
            raise ReadError("a compressed chunk of the HDF5 file is damaged.", where=where, got=str(e)[:80]) from e
        if unpacked <= limit:
            return
    raise LimitError(
        "a compressed chunk of the HDF5 file unpacks to more than it declares.", where=where, expected=f"at most {limit:,} bytes"
    )
