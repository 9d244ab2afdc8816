"""The one way to write a file: whole or not at all.

    with whole("net.onnx") as draft:
        draft.write_bytes(...)

Drafts lie in a temporary folder beside the target and are synced before they get their names. A pair of files (a network and its
weights) changes as one: see `drafts`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from niudao import drafts
from niudao.drafts import TEMPORARY
from niudao.errors import WriteError

_ADVICE = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some of your quota, or write to another disk",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EACCES: "write to a folder that is yours",
    errno.EPERM: "write to a folder that is yours",
    errno.EROFS: "write to another disk",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "the disk may be failing; write to another one",
}
_ERRNO = re.compile(r"errno = (\d+)")


@contextmanager
def whole(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file or a folder whole or not at all: yields a path in a temporary folder beside the target, renamed on success.

    Files that the writer puts beside that path (the second of a pair) move with it, all of them or none. A link is written
    through; the mode of a file that is replaced is kept. Inside another `whole` the outer one does the work.

    Raises:
        WriteError: The target cannot be written; what was there before is untouched.
    """
    asked = Path(target)
    if asked.parent.name.startswith(TEMPORARY):  # a draft already: nobody but its writer sees it
        with _one_sentence(asked.parent.parent / asked.name):
            yield asked
        return
    with _one_sentence(asked):
        final = _final(asked)
        _replaceable(final)  # before the work; again before the renames
        drafts.settle(final.parent)
        draft: drafts.Draft | None = None
        try:
            draft = drafts.create(final.parent)
            yield draft.path / asked.name
            _commit(draft, asked, final)
        finally:
            if draft is not None:
                draft.remove()


def _final(asked: Path) -> Path:
    """Where the file really goes, which is elsewhere if a link bears the name."""
    if "\0" in str(asked):
        raise WriteError("this is no path a file can have.", got=repr(str(asked))[:80])
    if not asked.name or asked.name == "..":
        raise WriteError(f"{asked} is a folder.", where=asked, expected="a file name")
    if not asked.parent.is_dir():
        raise WriteError(f"the folder {asked.parent} does not exist.", where=asked, next=f"mkdir -p {asked.parent}")
    if not asked.is_symlink():
        return asked
    if str(asked.readlink()).startswith(("/proc/", "/dev/")):  # /dev/stdout: whatever it leads to is open elsewhere
        raise WriteError(f"{asked.name} is no regular file.", where=asked, expected="a file name")
    try:
        final = asked.resolve()
    except RuntimeError as e:  # Python before 3.13 says a loop of links so
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from e
    if final.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not final.parent.is_dir():
        raise WriteError(f"{asked.name} is a link into a folder that does not exist.", where=asked, got=str(final))
    return final


def _commit(draft: drafts.Draft, asked: Path, final: Path) -> None:
    """Everything on the disk, then everything renamed."""
    main = draft.path / asked.name
    if not main.exists():
        raise FileNotFoundError(errno.ENOENT, "no draft was written")
    partners = sorted(p.name for p in draft.path.iterdir() if p != main)
    moves = {draft.path / name: final.parent / name for name in partners} | {main: final}
    for source, target in moves.items():
        if partners and (asked.parent / source.name).is_symlink():
            link = asked.parent / source.name
            raise WriteError(f"{link.name} is a link, and belongs to a pair of files.", where=link, next=f"write to {link.resolve()}")
        _prepare(source, target)
    with drafts.locked(final.parent):
        drafts.settle_locked(final.parent)
        if partners:
            _move_all(draft, moves)
        else:
            drafts.move(main, final)
        with suppress(OSError):  # the names are given; there is nothing to take back any more
            drafts.sync(final.parent)


def _move_all(draft: drafts.Draft, moves: dict[Path, Path]) -> None:
    """Several renames as one: finished by whoever comes next if this process dies, undone if the system refuses one of them."""
    drafts.note(draft, [s.name for s in moves])
    kept: dict[Path, Path] = {}
    for source, target in moves.items():
        if target.is_file():
            kept[target] = source.with_name(f"{TEMPORARY}kept-{source.name}")
            with suppress(OSError):  # a file system without hard links: the checks before have to do
                os.link(target, kept[target])
    done: list[Path] = []
    try:
        for source, target in moves.items():
            drafts.move(source, target)
            done.append(target)
    except OSError:
        (draft.path / drafts.LIST).unlink()
        for target in done:
            if target in kept and kept[target].exists():
                kept[target].replace(target)
            elif target not in kept and target.is_file():
                target.unlink()
        raise
    except KeyboardInterrupt:  # once begun it is finished, within microseconds
        for source, target in moves.items():
            drafts.move(source, target)
        raise


def _prepare(draft: Path, target: Path) -> None:
    """Look whether a draft may replace what is there, before anything is moved, and sync it."""
    info = _replaceable(target)
    if info is not None:
        folders = stat.S_ISDIR(info.st_mode), draft.is_dir()
        if folders == (True, False):
            raise WriteError(f"{target.name} is a folder.", where=target, expected="a file name")
        if folders == (False, True):
            raise WriteError(f"{target.name} is a file.", where=target, expected="a folder, or a new name")
        draft.chmod(stat.S_IMODE(info.st_mode))
    for path in [draft, *draft.rglob("*")] if draft.is_dir() else [draft]:
        drafts.sync(path)


def _replaceable(target: Path) -> os.stat_result | None:
    """What lies at a target, where it is something that may be replaced."""
    try:
        info = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(info.st_mode) and not stat.S_ISREG(info.st_mode):
        raise WriteError(f"{target.name} is no regular file.", where=target, expected="a file name")
    if not os.access(target, os.W_OK):
        raise WriteError(f"{target.name} is write-protected.", where=target, next=f"chmod u+w {target}")
    return info


@contextmanager
def _one_sentence(target: Path) -> Iterator[None]:
    """Whatever a library says about a full disk, as one sentence of ours."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as e:
        number = _number(e)
        if number == errno.ENOMEM:
            raise MemoryError from e
        if number is None and not isinstance(e, OSError):
            raise
        reason = os.strerror(number) if number is not None else " ".join(str(e).split())[:200]
        raise WriteError(f"{target.name} could not be written: {reason}.", where=target, next=_ADVICE.get(number or 0)) from e


def _number(e: BaseException | None) -> int | None:
    """The system's error number behind an exception. HDF5 has it in its text only, and a zip archive that cannot be closed hides it."""
    seen: set[int] = set()
    while e is not None and id(e) not in seen:
        seen.add(id(e))
        if isinstance(e, OSError) and e.errno:
            return e.errno
        if match := _ERRNO.search(str(e)):
            return int(match[1])
        e = e.__cause__ or e.__context__
    return None
