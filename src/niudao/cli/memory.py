"""How much memory there is, how much somebody allows, and whether that was too little."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from niudao.errors import NiudaoError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_SHORT = re.compile(
    r"bad_alloc|bad allocation|[Cc]annot allocate memory|failed to map segment|can't start new thread|[Uu]nable to allocate|"
    r"Failed to allocate memory|[Mm]emory allocation failed|std::system_error|Resource temporarily unavailable|errno = 12\b"
)


def restrict() -> None:
    """No more private memory than the machine or the container has, so that a hostile file fails here and not somebody else.

    RLIMIT_DATA and not RLIMIT_AS: weights that are mapped from a file, however big, cost nothing.
    """
    if resource is None:
        return
    try:
        total = present()
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if total and (soft == resource.RLIM_INFINITY or soft > total):
            resource.setrlimit(resource.RLIMIT_DATA, (total, hard))
    except (OSError, ValueError):
        return


def present() -> int:
    """Bytes of memory and swap that this machine or container has; 0 where it does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
    with suppress(OSError, ValueError):
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        if match := re.search(r"SwapTotal:\s+(\d+) kB", text):
            total += int(match[1]) << 10
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            total = min(total, int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")))
    return total


def ran_out(e: BaseException | None) -> bool:
    """Whether an exception, or one behind it, says that memory ran out; libraries say so in many ways."""
    unexpected = not isinstance(e, NiudaoError)
    seen: set[int] = set()
    while e is not None and id(e) not in seen:
        seen.add(id(e))
        if isinstance(e, MemoryError) or _SHORT.search(str(e)):
            return True
        e = e.__cause__ or e.__context__
    return unexpected and _at_the_limit()


def limit() -> int:
    """Bytes of address space that somebody limited this process to; 0 for no limit."""
    if resource is None:
        return 0
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if soft == resource.RLIM_INFINITY else soft


def _at_the_limit() -> bool:
    """Whether no more than one library still fits below a limit of this process: then what fails for no reason fails for that one."""
    allowed = limit()
    if not allowed:
        return False
    try:
        text = Path("/proc/self/status").read_text(encoding="latin-1")
        match = re.search(r"VmPeak:\s+(\d+) kB", text)
    except Exception:  # nothing left even for this; imports without memory say anything ("error return without exception set")
        return True
    return match is not None and allowed < (int(match[1]) << 10) + LIBRARY


LIBRARY = 128 << 20
"""Bytes of address space that the largest library takes."""


def needed(paths: Iterable[Path]) -> int:
    """About how many megabytes of memory a verb needs for these files: the libraries, and the network a few times over."""
    size = 0
    for path in paths:
        partners = [path.with_name(f"{path.name}.data"), *(path.with_name(path.stem + e) for e in (".h5", ".caffemodel"))]
        for near in {path, *partners} if path.suffix else {path}:
            with suppress(OSError, ValueError):
                size += near.stat().st_size if near.is_file() else 0
    return LIBRARIES + TIMES * (size >> 20)


LIBRARIES, TIMES = 300, 4
"""Megabytes of address space that the libraries take, and how often a network lies in it; measured by `benchmarks/faults.py`."""
