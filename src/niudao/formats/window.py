"""A piece of an open file as a file of its own: an archive or an HDF5 image inside another file."""

from __future__ import annotations

import io
from typing import IO, Any


class Window(io.RawIOBase):
    """Reads and seeks within `size` bytes from `start` on.

    Args:
        raw: The open file.
        start: Where the piece begins.
        size: How long it is.
    """

    def __init__(self, raw: IO[bytes], start: int, size: int) -> None:
        self._raw, self._start, self._size, self._at = raw, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._raw.seek(self._start + self._at)
        data = self._raw.read(max(0, min(len(view), self._size - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
