"""Run a network in an oracle: a process of its own, killed whole when its time is over, with nothing of our environment in it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from niudao.errors import RunError
from niudao.formats.oracles.place import Oracle

Array = np.ndarray[Any, Any]

WORKERS = Path(__file__).with_name("workers")
TAIL = 64 << 10
"""How much of what a framework says is kept: the end, where the reason is."""

_PATHS = ("weights", "save")
"""Settings that are paths: the worker runs in another folder."""
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
_QUIET = {
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "GLOG_minloglevel": "2",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
_MEMORY = re.compile(
    r"MemoryError|std::bad_alloc|Cannot allocate memory|ResourceExhausted|Insufficient memory|[Uu]nable to allocate"
    r"|host allocation of size|[Ff]ailed to allocate|OOM when|failed to map segment|can't start new thread|not enough memory"
)


class OverBudget(RunError):
    """A framework needed more time or memory than it may have: that says nothing about the file."""

    code = "run-budget"


@dataclass(frozen=True)
class Answer:
    """What came back: the outputs in the network's order, and what the framework says of itself."""

    outputs: dict[str, Array]
    version: str


def run(
    oracle: Oracle,
    worker: str,
    path: str | os.PathLike[str],
    feeds: Mapping[str, Any],
    *,
    seconds: float = 300,
    memory: int = 8 << 30,
    **settings: Any,
) -> dict[str, Array]:
    """Run a file in its own framework.

    Args:
        oracle: Which one.
        worker: Name of a file in `workers/`, or the path of one.
        path: The network; handed to the worker as an absolute path.
        feeds: Input name -> array, as the framework takes it.
        seconds: Wall-clock limit.
        memory: Limit on address space, in bytes; a framework's libraries alone may take two gigabytes of it.
        **settings: For the worker, what JSON can hold; `weights` and `save` may be paths.

    Returns:
        Output name -> array, in the network's order.

    Raises:
        OverBudget: It took too long, or the memory did not suffice.
        RunError: The framework refuses the file or the arrays, or died.
    """
    return answer(oracle, worker, path, feeds, seconds=seconds, memory=memory, settings=settings).outputs


def answer(
    oracle: Oracle,
    worker: str,
    path: str | os.PathLike[str],
    feeds: Mapping[str, Any],
    *,
    seconds: float = 300,
    memory: int = 8 << 30,
    settings: Mapping[str, Any] | None = None,
) -> Answer:
    """As `run`, with the framework's version beside the outputs."""
    file = Path(worker) if worker.endswith(".py") else WORKERS / f"{worker}.py"
    with tempfile.TemporaryDirectory(prefix="niudao-oracle-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        np.savez(folder / "feeds.npz", **{str(i): np.asarray(v) for i, v in enumerate(feeds.values())})  # type: ignore[arg-type]
        task = {
            "worker": str(file.resolve()),
            "path": str(Path(path).resolve()),
            "settings": {k: str(Path(v).resolve()) if k in _PATHS and v else v for k, v in (settings or {}).items()},
            "names": list(feeds),
            "seconds": seconds,
            "memory": memory,
            "paths": list(oracle.paths),
        }
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        end = _call(oracle, folder, seconds)
        return _result(oracle, folder, Path(path), end, seconds, memory)


@dataclass(frozen=True)
class _End:
    code: int | None
    """Exit code, minus the signal where one killed it; None where its time was over."""
    said: str


def _call(oracle: Oracle, folder: Path, seconds: float) -> _End:
    command = [str(oracle.python), "-I", str(WORKERS / "launch.py"), str(folder)]
    try:
        process = subprocess.Popen(
            command,
            env=_environment(oracle, folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as e:
        raise RunError(f"{oracle.title} cannot be started: {e.strerror or e}.", where=oracle.python, next=_repair(oracle)) from e
    assert process.stderr is not None  # it was asked for above
    tail = bytearray()
    listener = threading.Thread(target=_listen, args=(process.stderr, tail), daemon=True)
    listener.start()
    try:
        code: int | None = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        kill_group(process)
        listener.join(timeout=5)
        if not listener.is_alive():
            process.stderr.close()
    return _End(code, bytes(tail).decode("utf-8", "replace"))


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and whatever it started that is still there."""
    if os.name == "nt":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _listen(stream: IO[bytes], tail: bytearray) -> None:
    while chunk := os.read(stream.fileno(), TAIL):
        tail += chunk
        del tail[:-TAIL]


def _environment(oracle: Oracle, folder: Path) -> dict[str, str]:
    """A home of its own as well: Keras 2 takes its backend and its layout from ~/.keras/keras.json."""
    kept = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    places = dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP", "USERPROFILE"), str(folder))
    return kept | places | dict.fromkeys(_THREADS, "1") | _QUIET | dict(oracle.environment)


def _result(oracle: Oracle, folder: Path, path: Path, end: _End, seconds: float, memory: int) -> Answer:
    cpu_over = os.name != "nt" and end.code == -signal.SIGXCPU
    if end.code is None or cpu_over:
        raise OverBudget(f"{oracle.title} took more than {seconds:g} s.", where=path, next="a higher time limit")
    done = _document(folder)
    failure = str(done.get("failure", ""))
    reason = " ".join(str(done.get("message", "")).split()) if failure else telling_line(end.said)
    killed = os.name != "nt" and end.code == -signal.SIGKILL
    if killed or failure == "MemoryError" or (end.code and _MEMORY.search(f"{failure} {reason} {end.said[-4000:]}")):
        raise OverBudget(f"{oracle.title} needs more memory than the {memory >> 20} MB it may have.", where=path, got=reason[-300:] or None)
    if failure in ("ImportError", "ModuleNotFoundError"):
        raise RunError(f"{oracle.title} is broken: {reason[:300]}", where=oracle.python, next=_repair(oracle))
    if end.code < 0 and not (folder / "loaded").exists():
        raise OverBudget(
            f"{oracle.title} died while it was loaded, before it saw the file.", expected=f"at most {memory >> 20} MB of memory"
        )
    if end.code < 0 and not (reason and end.code == -signal.SIGABRT):  # a check that fails aborts, and says which
        raise RunError(f"{oracle.title} died on the file (signal {-end.code}).", where=path, got=reason[:300] or None)
    if end.code or failure:
        raise RunError(f"{oracle.title} refuses the file: {reason[:300] or failure or f'exit code {end.code}'}", where=path)
    outputs = _outputs(folder, done)
    if outputs is None:
        raise RunError(f"{oracle.title} ended without an answer.", where=path, got=telling_line(end.said)[:300] or None)
    return Answer(outputs, str(done.get("version", oracle.version)))


def _repair(oracle: Oracle) -> str | None:
    return None if oracle.folder is None else f"niudao oracle setup {oracle.name} --force"


def _document(folder: Path) -> dict[str, Any]:
    try:
        with open(folder / "results.json", encoding="utf-8") as file:
            done = json.loads(file.read(8 << 20))
    except (OSError, ValueError, RecursionError):
        return {}
    return done if isinstance(done, dict) else {}


def _outputs(folder: Path, done: Mapping[str, Any]) -> dict[str, Array] | None:
    """The arrays, each as large as its entry and no larger than the file: what a worker wrote is not trusted."""
    names = done.get("names")
    if not isinstance(names, list) or len(set(map(str, names))) != len(names):
        return None
    try:
        with zipfile.ZipFile(folder / "results.npz") as archive:
            return {str(name): _array(archive, f"{number}.npy") for number, name in enumerate(names)}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError, NotImplementedError):
        return None


def _array(archive: zipfile.ZipFile, name: str) -> Array:
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError("a packed array")
    data = archive.read(entry)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(stream)
    if dtype.hasobject or int(np.prod(shape, dtype=object)) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError("an array of another size")
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def telling_line(said: str) -> str:
    """The line that says why: a failed check of glog, else the last one that is no stack trace."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for line in lines:
        if re.match(r"F\d{4,8} \d\d:", line):
            return line.partition("] ")[2] or line
    kept = [line for line in lines if not line.startswith(("@ 0x", "*** ", "@ "))]
    return kept[-1] if kept else ""
