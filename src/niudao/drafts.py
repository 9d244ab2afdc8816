"""Drafts: the temporary folders that files are written in, who still writes in them, and how a broken-off move is finished.

A draft folder lies in the folder of its target, `.niudao-tmp-<process>.<its start>-<random>`, and its writer holds a lock on it.
Two renames are not one step, so whoever moves several files first writes down, in the draft folder, which. From then on the new
files are the truth: the next reader or writer in that folder who finds the list of a dead writer moves the rest. A draft folder of
a dead writer without such a list is litter and is swept.

Reference: the rollback journal of SQLite (sqlite.org/atomiccommit.html), turned around: what is listed is finished, not undone.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from niudao.errors import WriteError

try:
    import fcntl
except ImportError:  # Windows: no locks on folders, process ids alone
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".niudao-tmp-"
LIST = f"{TEMPORARY}moves"
"""Inside a draft folder: the names that are being moved out of it, as JSON."""

PATIENCE, LOCK_PATIENCE = 2.0, 10.0
"""Seconds that a reader waits for a move, and a writer for another one's."""

_NAME = re.compile(re.escape(TEMPORARY) + r"(\d{1,10})(?:\.(\d+))?-")
_LONGEST_LIST = 1 << 16


@dataclass(frozen=True)
class Draft:
    """A draft folder of this process; the descriptor holds its lock."""

    path: Path
    lock: int

    def remove(self) -> None:
        """Delete it with all that is still in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.lock >= 0:
            with suppress(OSError):
                os.close(self.lock)


def create(folder: Path) -> Draft:
    """A new draft folder in `folder`; raises OSError where none can be made."""
    pid = os.getpid()
    path = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{pid}.{_process(pid)[1]}-", dir=folder))
    try:
        return Draft(path, _locked(path))
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _locked(path: Path) -> int:
    """A descriptor that holds the lock of a folder; -1 where the file system has none."""
    if fcntl is None:
        return -1
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return -1
    return fd


def _process(pid: int) -> tuple[str, str]:
    """State and start of a process, in ticks since the machine's; ("", "0") where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
        return fields[0], fields[19]  # fields 3 and 22 of proc(5)
    except (OSError, IndexError):
        return "", "0"


def alive(path: Path) -> bool:
    """Whether the writer of a draft folder still lives. Process ids come back, so its start is compared too."""
    match = _NAME.match(path.name)
    if match is None:
        return True  # not named by us: whose it is cannot be known
    pid, start = int(match[1]), match[2] or "0"
    if _lives(pid, start):
        return True
    if fcntl is None:
        return False
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:  # a writer in another container has a process id that means nothing here, but its lock does
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        return e.errno in (errno.EWOULDBLOCK, errno.EAGAIN)
    finally:
        os.close(fd)
    return False


def _lives(pid: int, start: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except OSError:
        pass  # somebody else's, but there
    state, now = _process(pid)
    return state not in ("Z", "X") and now in ("0", start)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process at a time moves files in a folder. The lock is the folder's own and leaves no file behind.

    Raises:
        WriteError: Another process holds it for longer than anybody moves files.
    """
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        yield  # no lock, then: the renames will say what is wrong
        return
    try:
        end = time.monotonic() + LOCK_PATIENCE
        while fcntl is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as e:
                if e.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                    break  # a file system without locks
            if time.monotonic() > end:
                raise WriteError("another process has been moving files in this folder for too long.", where=folder, next="try again")
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def note(draft: Draft, names: Sequence[str]) -> None:
    """Write down which entries are about to be moved; once this returns, they will be."""
    path = draft.path / LIST
    fresh = path.with_name(f"{LIST}.new")
    with open(fresh, "w", encoding="utf-8") as f:
        json.dump(list(names), f)
        f.flush()
        os.fsync(f.fileno())
    fresh.replace(path)
    sync(draft.path)
    sync(draft.path.parent)


def sync(path: Path) -> None:
    """Have a file or folder on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # a folder cannot be opened there
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as e:
        if not (e.errno in (errno.EINVAL, errno.ENOTSUP) and path.is_dir()):  # some file systems sync no folders
            raise
    finally:
        os.close(fd)


def noted(path: Path) -> list[str]:
    """The names that a draft folder's list holds; empty without one.

    A draft folder may come from a stranger's archive. So only names without a folder are moved, into the folder that the draft
    folder lies in, where the archive could have put them itself; and never for another user.
    """
    try:
        info = os.lstat(path / LIST)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _LONGEST_LIST:
            return []
        if hasattr(os, "geteuid") and not info.st_uid == os.lstat(path).st_uid == os.geteuid():
            return []
        found = json.loads((path / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(found, list) or not all(isinstance(n, str) and _plain(n) for n in found):
        return []
    return found


def _plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not name.startswith(TEMPORARY) and not set("/\\\0") & set(name)


def move(draft: Path, target: Path) -> None:
    """Give a draft its name; nothing where that is done already."""
    try:
        mode = os.lstat(draft).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode) and target.is_dir():  # a folder cannot be renamed over a full one
        old = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}old-", dir=draft.parent)) / target.name
        target.rename(old)
        try:
            draft.rename(target)
        except OSError:
            old.rename(target)
            raise
    elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        draft.replace(target)


def settle(folder: Path, name: str | None = None) -> None:
    """Leave no half move in a folder: finish those of dead writers, sweep their litter, wait for living ones that move `name`.

    Args:
        folder: Where to look; costs one listing where there are no drafts.
        name: The file that is about to be read.

    Raises:
        WriteError: A move can neither be finished nor waited for.
    """
    for path in _found(folder):
        end = time.monotonic() + PATIENCE
        while alive(path) and name is not None and name in noted(path):
            if time.monotonic() > end:
                raise WriteError(f"{name} is being written by another process.", where=folder / name, next="try again")
            time.sleep(0.01)
        if not alive(path):
            with locked(folder):
                finish(path)


def _found(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(folder, e.name) for e in entries if e.name.startswith(TEMPORARY) and e.is_dir(follow_symlinks=False)]
    except (OSError, ValueError):
        return []


def settle_locked(folder: Path) -> None:
    """As `settle`, by one who holds the folder's lock and is about to move files himself."""
    for path in _found(folder):
        finish(path)


def finish(path: Path) -> None:
    """Move what a dead writer meant to move, and sweep the rest. The folder's lock is held."""
    if not path.exists() or alive(path):
        return
    names = noted(path)
    try:
        for one in names:
            move(path / one, path.parent / one)
        if names:
            sync(path.parent)
    except OSError as e:
        text = f"an interrupted write of {', '.join(names)} cannot be finished: {e.strerror or e}."
        raise WriteError(text, where=path.parent, next="make the folder writable and try again") from e
    shutil.rmtree(path, ignore_errors=True)
