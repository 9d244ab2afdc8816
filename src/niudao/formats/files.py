"""The one place that opens strangers' files, and the one way to write ours: whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from niudao.errors import ReadError, WriteError

MAX_MEMORY = int(os.environ.get("NIUDAO_MAX_MEMORY", 2 << 30))
"""Bytes that reading one model may turn into arrays, unless its file really holds more."""

TEMPORARY = ".niudao-tmp-"


def open_model(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a model file that the user named.

    Raises:
        ReadError: It is missing, a folder, a device or a pipe, or may not be read.
    """
    path = Path(path)
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


@contextmanager
def whole(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file or a folder whole or not at all: yields a temporary path in the target's folder, renamed on success.

    Files that the writer puts beside the temporary path (the second of a pair) move with it.

    Raises:
        WriteError: The target cannot be written; what was there before is untouched.
    """
    target = Path(target)
    parent = target.parent
    temporary: Path | None = None
    try:
        if not parent.is_dir():
            raise WriteError(f"the folder {parent} does not exist.", where=target, next=f"mkdir -p {parent}")
        sweep(parent)
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{os.getpid()}-", dir=parent))
        draft = temporary / target.name
        yield draft
        for path in temporary.rglob("*"):
            _sync(path)
        for partner in sorted(temporary.iterdir()):  # the second file of a pair first, so that the named one is the sign of success
            if partner != draft:
                _replace(partner, parent / partner.name, temporary)
        _replace(draft, target, temporary)
        _sync(parent)
    except OSError as e:
        raise WriteError(f"{target.name} could not be written: {e.strerror or e}.", where=target) from e
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace(draft: Path, target: Path, temporary: Path) -> None:
    if draft.is_dir() and target.is_dir():  # a folder cannot be renamed over a full one
        old = temporary / f"{TEMPORARY}old"
        os.rename(target, old)
        try:
            os.rename(draft, target)
        except OSError:
            os.rename(old, target)
            raise
    elif target.is_dir():
        raise WriteError(f"{target.name} is a folder.", where=target, expected="a file name")
    else:
        os.replace(draft, target)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(folder: Path) -> None:
    """Remove temporaries in `folder` whose writer no longer lives."""
    for stale in folder.glob(f"{TEMPORARY}*"):
        pid = stale.name.removeprefix(TEMPORARY).split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(stale, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
