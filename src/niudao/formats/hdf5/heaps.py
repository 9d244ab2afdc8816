"""A look at an HDF5 file's string heaps before the library reads them: a damaged heap makes it run in circles without end.

Reference: HDF5 File Format Specification, section III.E "Global Heap".
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from niudao.errors import ReadError
from niudao.formats import files
from niudao.formats.hdf5.survey import Region

_SIGNATURE, _VERSION = b"GCOL", b"\x01\0\0\0"
_HEADER = 16


def check(region: Region, occupied: Iterable[tuple[int, int]]) -> None:
    """Walk every string heap of a file.

    Args:
        region: Where the file lies.
        occupied: Begin and end of arrays in it, which are not searched.

    Raises:
        ReadError: A heap does not add up, or the file counts in other units than 8 bytes.
    """
    if region.data is not None:
        _check(region, region.data, 0, len(region.data), occupied)
        return
    with files.open_model(region.path) as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _check(region, data, region.start, region.start + region.bytes(), occupied)


def _check(region: Region, data: bytes | mmap.mmap, start: int, end: int, occupied: Iterable[tuple[int, int]]) -> None:
    head = data[start : start + 16]
    sizes = head[13:15] if head[8:9] in (b"\0", b"\x01") else head[9:11]
    if sizes != b"\x08\x08":
        raise ReadError("the HDF5 file counts in units that Keras does not use.", where=region.where(), expected="8 bytes")
    searched = start
    for begin, stop in [*sorted((a + start, b + start) for a, b in occupied), (end, end)]:
        at = data.find(_SIGNATURE, searched, begin) if searched < begin else -1
        while at >= 0:
            if data[at + 4 : at + 8] == _VERSION:
                _walk(region, data, at, end)
            at = data.find(_SIGNATURE, at + 1, begin)
        searched = max(searched, stop)


def _walk(region: Region, data: bytes | mmap.mmap, at: int, end: int) -> None:
    size = int.from_bytes(data[at + 8 : at + 16], "little")
    stop, here = at + size, at + _HEADER
    sound = size >= _HEADER and stop <= end
    while sound and here + _HEADER <= stop:
        index, length = int.from_bytes(data[here : here + 2], "little"), int.from_bytes(data[here + 8 : here + 16], "little")
        step = _HEADER + (length + 7) // 8 * 8 if index else length  # object 0 is the free rest, its header counted
        sound = step >= _HEADER and here + step <= stop
        here += step
    if not sound:
        raise ReadError("a string heap of the HDF5 file does not add up; the file is damaged.", where=region.where())
