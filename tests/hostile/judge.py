"""The judge: reads a file in a child process with limits on memory and time, and says how it ended.

`python judge.py` answers one JSON line per JSON line {"path": ..., "verb": "read" | "checkpoint" | "inspect" | "convert"}. It
imports everything once and forks for each file, so that a case costs milliseconds, and a case that hangs, crashes or fills the
memory takes only its own child with it. `Judge` starts and drives it.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

SECONDS = 5
"""Of computing: a busy machine does not make a reader slow."""
WAIT = 30.0
"""Seconds on the clock: for a child that computes nothing and never ends."""
MEGABYTES = 500


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Attributes:
        kind: "opened", "refused" (one NiudaoError), "exception" (any other), "hung", "killed" (by a signal) or "memory".
        text: The message with its facts, or the last lines of the trace.
        error: Name of the exception's class.
        seconds: Wall-clock time.
        megabytes: Peak resident memory in all, the libraries that the judge has loaded counted.
        faults: What is wrong with the answer itself: several sentences, control characters, a file left behind.
    """

    kind: str
    text: str = ""
    error: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    faults: tuple[str, ...] = ()


def answer_faults(message: str) -> list[str]:
    """What is wrong with a message as one sentence for a person."""
    found = []
    if not message.strip():
        found.append("an empty message")
    if "\n" in message or "\r" in message:
        found.append("several lines")
    if "Traceback" in message:
        found.append("a traceback")
    if len(message) > 2000:
        found.append(f"{len(message)} characters")
    return found


def control_characters(text: str) -> list[str]:
    """Characters that could steer a terminal."""
    return sorted({f"U+{ord(c):04X}" for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"})


def _read(path: str) -> dict[str, Any]:
    from niudao.errors import NiudaoError
    from niudao.formats import read

    try:
        model = read(path)
    except NiudaoError as e:
        facts = "; ".join(f"{k} {v}" for k, v in e.facts())
        return {"kind": "refused", "error": type(e).__name__, "text": f"{e.message} | {facts}", "faults": answer_faults(e.message)}
    return {"kind": "opened", "text": f"{len(list(model.graph))} nodes"}


def _command(words: list[str]) -> dict[str, Any]:
    """The command line itself, with what it shows."""
    from niudao.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    text = out.getvalue() + err.getvalue()
    faults = [f"control character {c}" for c in control_characters(text)]
    if "Traceback" in text or "has a bug" in text:
        faults.append("a traceback")
    if code not in (0, 1):
        faults.append(f"exit code {code}")
    return {"kind": "opened" if code == 0 else "refused", "text": text[-3000:], "error": str(code), "faults": faults}


def _convert(path: str) -> dict[str, Any]:
    """Into a folder of its own; a refusal must leave it empty."""
    out = Path("converted")
    out.mkdir()
    answer = _command(["convert", path, str(out / "net.onnx")])
    left = sorted(p.name for p in out.iterdir())
    if answer["error"] == "3" and _gives_no_numbers(path):  # NaN is not even the same as itself: the proof rightly says no
        answer["faults"].remove("exit code 3")
    if answer["kind"] == "refused" and left:
        answer["faults"].append(f"{left} left behind")
    if answer["kind"] == "opened" and left != ["net.onnx"]:
        answer["faults"].append(f"{left} written")
    return answer


def _gives_no_numbers(path: str) -> bool:
    """Whether a network's outputs are not finite on one of three plain inputs; a logarithm has none below zero."""
    import numpy as np

    from niudao.formats import read
    from niudao.ir.session import run

    model = read(path)
    shapes = {v.name: ([d if isinstance(d, int) else 1 for d in v.shape], v.dtype.numpy()) for v in model.graph.inputs}
    for number in (0.5, 0.0, -0.5):
        feeds = {name: np.full(shape, number, dtype) for name, (shape, dtype) in shapes.items()}
        if not all(np.isfinite(y).all() for y in run(model, feeds).values()):
            return True
    return False


def _checkpoint(path: str) -> dict[str, Any]:
    """What torch's files hold, down to the last number: most of them are no network, so `read` would refuse the good ones as well."""
    from niudao.errors import NiudaoError
    from niudao.formats.pytorch.checkpoint import open_checkpoint, vet

    try:
        opened = open_checkpoint(path)
        if opened.kind not in ("legacy", "safetensors"):
            vet(path)
        for name, tensor in opened.tensors.items():
            tensor.tensor(name).numpy()
    except NiudaoError as e:
        facts = "; ".join(f"{k} {v}" for k, v in e.facts())
        return {"kind": "refused", "error": type(e).__name__, "text": f"{e.message} | {facts}", "faults": answer_faults(e.message)}
    return {"kind": "opened", "text": opened.kind}


VERBS = {"read": _read, "checkpoint": _checkpoint, "inspect": lambda path: _command(["inspect", path]), "convert": _convert}


def _child(request: dict[str, Any], pipe: int, floor: int) -> None:
    """Runs in the fork; never returns."""
    os.chdir(request["folder"])
    resource.setrlimit(resource.RLIMIT_AS, (floor + (MEGABYTES << 20), resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200 << 20, resource.RLIM_INFINITY))
    try:
        answer = VERBS[request["verb"]](request["path"])
    except MemoryError:
        answer = {"kind": "memory", "text": traceback.format_exc()[-1500:]}
    except BaseException as e:  # this is the finding
        answer = {"kind": "exception", "error": type(e).__name__, "text": traceback.format_exc()[-1500:]}
    data = json.dumps(answer).encode()
    while data:
        data = data[os.write(pipe, data) :]
    os._exit(0)


def _status(pid: int, field: str) -> int:
    """A field of /proc/PID/status, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    return 0


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    floor = _status(os.getpid(), "VmSize")
    pipe, child_pipe = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(pipe)
        _child(request, child_pipe, floor)
    os.close(child_pipe)
    data, kind = b"", ""
    while True:
        left = start + WAIT - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            kind = "hung"
            os.kill(pid, signal.SIGKILL)
            break
        piece = os.read(pipe, 1 << 16)
        if not piece:
            break
        data += piece
    os.close(pipe)
    _, status, usage = os.wait4(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        kind = "hung"
    answer: dict[str, Any] = json.loads(data) if data and kind == "" else {"kind": kind or "killed", "text": f"wait status {status}"}
    answer["seconds"] = time.monotonic() - start
    answer["megabytes"] = usage.ru_maxrss / 1024
    return answer


def serve() -> None:
    """Import everything once, then answer lines."""
    from niudao.cli import main  # noqa: F401  here, so that children need not
    from niudao.formats import read
    from niudao.formats.pytorch import checkpoint  # noqa: F401  likewise

    with tempfile.TemporaryDirectory() as folder:
        kinds = {"bad_onnx": ".onnx", "bad_h5": ".h5", "bad_zip": ".keras", "bad_prototxt": ".prototxt", "bad_caffemodel": ".caffemodel"}
        for name, ending in kinds.items():
            path = Path(folder) / f"net{ending}"
            path.write_bytes(import_module(name).good())
            with contextlib.suppress(Exception):  # it is a case too, and fails there
                read(path)
    gc.freeze()  # else every child's first collection copies the parent's pages

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints belongs to the talk, not to the answers
    out.write("ready\n")
    out.flush()
    for line in sys.stdin:
        out.write(json.dumps(_ask(json.loads(line))) + "\n")
        out.flush()


class Judge:
    """Drives one judging process."""

    def __init__(self) -> None:
        source = Path(__file__).resolve().parents[2] / "src"
        env = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the judge did not start: run `python tests/hostile/judge.py` to see why")

    def read(self, path: Path, folder: Path, verb: str = "read") -> Ending:
        """Read one file in a child whose current folder is `folder`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"path": str(path), "folder": str(folder), "verb": verb}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ending(**(answer | {"faults": tuple(answer.get("faults", ()))}))

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=20)


if __name__ == "__main__":
    serve()
