"""The one place that opens strangers' files, and the one way to write ours: whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import IO

from niudao.drafts import TEMPORARY, settle
from niudao.errors import ReadError, WriteError
from niudao.whole import whole

__all__ = ["MAX_MEMORY", "TEMPORARY", "beside", "open_model", "whole"]

MAX_MEMORY = int(os.environ.get("NIUDAO_MAX_MEMORY", 2 << 30))
"""Bytes that reading one model may turn into arrays, unless its file really holds more."""


def open_model(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a model file that the user named; a write of it that was broken off is finished first.

    Raises:
        ReadError: It is missing, a folder, a device or a pipe, or may not be read.
    """
    path = Path(path)
    _settled(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise ReadError(f"{path.name} is {kind}.", where=path, expected="a model file")
        return open(path, "rb")
    except FileNotFoundError as e:
        near = _near(path)
        raise ReadError(f"{path.name} does not exist.", where=path, next=f"did you mean {near}?" if near else None) from e
    except OSError as e:
        raise ReadError(f"{path.name} cannot be read: {e.strerror or e}.", where=path) from e
    except ValueError as e:
        raise ReadError("this is no path a file can have.", got=repr(str(path))[:80]) from e


def _settled(path: Path) -> None:
    """No half write where a file is about to be read."""
    try:
        settle(path.parent, path.name)
        if path.is_symlink():
            real = path.resolve()
            settle(real.parent, real.name)
    except WriteError as e:
        raise ReadError(e.message, where=e.where, next=e.next) from e
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that is too long: opening it will say so
        return


def _near(path: Path) -> str | None:
    from difflib import get_close_matches

    try:
        names = os.listdir(path.parent or ".")
    except OSError:
        return None
    found = get_close_matches(path.name, names, n=1, cutoff=0.6)
    return str(path.parent / found[0]) if found else None


def beside(base: str | os.PathLike[str], relative: str) -> Path:
    """The file called `relative` inside the folder `base`, for names that come from a model file.

    Raises:
        ReadError: The name leaves the folder, or passes through a link, or names no plain file with a single name.
    """
    folder = Path(base).resolve()
    pure = PurePosixPath(relative)
    if not relative or "\0" in relative or "\\" in relative or pure.is_absolute() or ".." in pure.parts:
        raise ReadError(
            "the model names a data file outside its folder.", where=folder, expected="a name inside the folder", got=repr(relative)[:120]
        )
    _settled(folder / pure)
    path = folder
    for part in pure.parts:
        path = path / part
        try:
            info = os.lstat(path)
        except (OSError, ValueError) as e:
            raise ReadError(f"the data file {relative!r} is missing.", where=folder, next="put it back beside the model") from e
        if stat.S_ISLNK(info.st_mode):
            raise ReadError("the model's data file is a link.", where=path, expected="a plain file inside the folder")
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        raise ReadError("the model's data file is no plain file with one name.", where=path)
    return path
