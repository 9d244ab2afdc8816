"""The process that does a verb's work, and the one that watches over it.

Whatever stops the work, Ctrl-C, a crash in native code, too little memory, the watching process ends it, finishes or sweeps what
it was writing (`niudao.drafts` makes that safe at any moment), and says one sentence. The worker itself never hears of Ctrl-C, so
that no traceback can come out of a library that was being imported or of a clean-up.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from niudao import drafts
from niudao.cli import memory
from niudao.errors import NiudaoError

MEMORY = 75
"""How a worker ends whose memory did not suffice: it has none left for a sentence."""

_SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]

real_temporary: str | None = None
"""The system's folder for temporary files, in a worker, whose own one is removed when it ends."""


@dataclass(frozen=True)
class Ending:
    """How the worker ended.

    Attributes:
        code: Its exit code, or -1 where it came to no end of its own.
        cause: What it died of, in a word.
        stopped: The signal by which the user ended it, or 0.
        written: Paths of the command line that now hold something else than before.
    """

    code: int
    cause: str = ""
    stopped: int = 0
    written: tuple[Path, ...] = ()


def supervise(work: Callable[[], int], options: argparse.Namespace) -> Ending:
    """Run `work` in a child process and wait for its end."""
    before = {path: _stamp(path) for path in paths_of(options)}
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    caught: list[int] = []
    child = 0

    def stop(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if child:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    scratch = _scratch()
    ear, mouth = os.pipe()
    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {s: signal.signal(s, stop) for s in _SIGNALS if signal.getsignal(s) != signal.SIG_IGN}
    try:
        parent = os.getpid()
        child = os.fork()  # before numpy, h5py or any thread
        if child == 0:
            _work(work, options, scratch, parent, list(previous), caught, mouth)
        os.close(mouth)
        if caught:  # between the fork and the line above
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        ended = os.read(ear, 1) == b"."  # else native code called exit(), as OpenBLAS does without memory
        cause = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "" if ended else "exit"
        code = -1 if cause else os.WEXITSTATUS(status)
        stopped = caught[0] if caught and cause else 0
        if cause or code == MEMORY:
            _clean(before)
    finally:
        os.close(ear)
        if scratch is not None:
            scratch.remove()
        for number, handler in previous.items():
            signal.signal(number, handler)
    return Ending(code, cause, stopped, tuple(p for p, stamp in before.items() if _stamp(p) != stamp))


def _work(
    work: Callable[[], int],
    options: argparse.Namespace,
    scratch: drafts.Draft | None,
    parent: int,
    signals: list[int],
    caught: list[int],
    mouth: int,
) -> None:
    """The worker's whole life; never returns."""
    code = 1
    try:
        for number in signals:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        if caught:
            os._exit(128 + caught[0])
        if scratch is not None:
            _own_temporary(scratch)
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads need memory that a limit may not leave, and it says so at length
        _die_with(parent)
        memory.restrict()
        if not options.verbose:
            _silence_libraries()
        code = work()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 0
    except BaseException as e:  # nothing may reach the interpreter's own clean-up
        code = MEMORY if memory.ran_out(e) else 1
        if isinstance(e, OSError) and code == 1:
            with suppress(OSError):
                os.write(2, f"niudao: the answer could not be written: {e.strerror or e}\n".encode())
    finally:
        os.write(mouth, b".")
        os._exit(code)


def _own_temporary(scratch: drafts.Draft) -> None:
    """A folder for the worker's temporary files, which the watching process removes."""
    global real_temporary
    real_temporary = tempfile.gettempdir()
    tempfile.tempdir = str(scratch.path)
    os.environ["TMPDIR"] = str(scratch.path)  # native libraries leave files too: ONNX Runtime one called .ses
    if scratch.lock >= 0:
        os.close(scratch.lock)


def _scratch() -> drafts.Draft | None:
    try:
        folder = Path(tempfile.gettempdir())
        drafts.settle(folder)
        return drafts.create(folder)
    except (OSError, NiudaoError):
        return None


def _die_with(parent: int) -> None:
    """A worker whose watcher was killed has nobody left to tell. (Linux; elsewhere it ends its work.)"""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)
    except Exception:  # a libc without it, or no memory for ctypes: then as elsewhere
        return
    if os.getppid() != parent:
        os._exit(1)


def _silence_libraries() -> None:
    """What native code says on its way down ("terminate called after ...") is not for people; our own sentences still arrive."""
    try:
        if sys.stderr.fileno() != 2:
            return
        stream: IO[str] = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # no stderr, or one that is no file
        return
    sys.stderr = stream
    sys.unraisablehook = lambda info: None
    threading.excepthook = lambda info: None


def paths_of(options: argparse.Namespace) -> list[Path]:
    """Every path that a command line may name, those that are none among them."""
    words = [w for v in vars(options).values() for w in (v if isinstance(v, list) else [v]) if isinstance(w, str)]
    return [Path(w) for w in dict.fromkeys(words) if w and "\0" not in w]


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        info = path.stat()
    except (OSError, ValueError):
        return ()
    return info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size


def _clean(paths: Any) -> None:
    """Finish or sweep what the worker left in the folders it may have written to."""
    for folder in _folders(paths):
        with suppress(NiudaoError, OSError):
            drafts.settle(folder)


def _folders(paths: Any) -> Iterator[Path]:
    seen = set()
    for path in paths:
        places = [path.parent]
        with suppress(OSError, RuntimeError):
            if path.is_symlink():
                places.append(path.resolve().parent)
        for place in places:
            if place not in seen:
                seen.add(place)
                yield place
