"""Writes a network over an older one, in a child process that is killed, or whose file operations fail, at every moment in turn.

`python interrupted.py ENDING kill|fail|limit` prints one JSON object. Python announces each file operation to audit hooks before it
is done, so that the n-th one can be made the last, or be made to fail, without touching the code under test.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from niudao import drafts
from niudao.errors import NiudaoError, WriteError
from niudao.formats import files, read, write

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.truncate", "os.scandir", "os.listdir"}
WRITTEN, FAILED, WRONG = 0, 1, 2
POINTS = 24


def network(seed: int) -> bytes:
    """A small network that every format can express, with 300 KB of weights; its layers' names tell the seed, so that pairs can mix."""
    rng = np.random.default_rng(seed)
    shapes = {"conv.w": (8, 3, 3, 3), "conv.b": (8,), "fc.w": (512, 150), "fc.b": (150,)}
    held = [numpy_helper.from_array(rng.normal(size=s).astype("float32"), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["image", "conv.w", "conv.b"], ["a"], name=f"conv{seed}", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Flatten", ["b"], ["c"], name="flatten"),
        helper.make_node("Gemm", ["c", "fc.w", "fc.b"], ["scores"], name=f"fc{seed}"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("image", ["batch", 3, 8, 8]), ("scores", ["batch", 150]))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


class Scene:
    """A folder whose target holds the old network, and a fork that writes the new one over it."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder = folder
        self.target = folder / f"net{ending.split('+')[0]}"
        self.options: dict[str, Any] = {"external_data": True} if ending.endswith("+data") else {}
        self.models = [read(onnx.load_from_string(network(seed))) for seed in (0, 1)]
        self.old, self.new = (self._undisturbed(i) for i in (0, 1))

    def _undisturbed(self, i: int) -> dict[str, bytes]:
        self.clear()
        write(self.models[i], self.target, **self.options)
        return self.holds()

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def holds(self) -> dict[str, bytes]:
        """Name -> content of all that is no temporary."""
        return {p.name: p.read_bytes() for p in self.folder.iterdir() if not p.name.startswith(drafts.TEMPORARY)}

    def litter(self) -> list[str]:
        return [p.name for p in self.folder.iterdir() if p.name.startswith(drafts.TEMPORARY)]

    def disturbed(self, prepare: Callable[[], None]) -> int:
        """Write in a fork after `prepare`; the wait status."""
        self.clear()
        for name, data in self.old.items():
            (self.folder / name).write_bytes(data)
        pid = os.fork()
        if pid == 0:
            code = WRONG
            try:
                prepare()
                write(self.models[1], self.target, **self.options)
                code = WRITTEN
            except WriteError as e:
                code = FAILED if self.target.name in f"{e} {e.where}" and "\n" not in str(e) else WRONG
            except BaseException as e:
                sys.stderr.write(f"{type(e).__name__}: {e}\n")
            finally:
                os._exit(code)
        return os.waitpid(pid, 0)[1]

    def hook(self, n: int, act: Callable[[], None]) -> Callable[[], None]:
        """Do `act` before the n-th file operation in the folder."""
        count = 0

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in EVENTS or not any(isinstance(a, (str, os.PathLike)) and str(self.folder) in str(a) for a in arguments):
                return
            count += 1
            if count == n:
                act()

        return lambda: sys.addaudithook(audit)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill(scene: Scene) -> dict[str, Any]:
    """Killed before each file operation in turn: the next one to look finds the old files or the new ones."""
    result: dict[str, Any] = {"points": 0, "torn": 0, "old": 0, "new": 0, "faults": []}
    for n in range(1, 1000):
        status = scene.disturbed(scene.hook(n, _die))
        if not os.WIFSIGNALED(status):
            break
        result["points"] += 1
        result["torn"] += scene.holds() not in (scene.old, scene.new)
        try:
            files.open_model(scene.target).close()
        except NiudaoError as e:
            result["faults"].append(f"{n}: {e}")
        state = "old" if scene.holds() == scene.old else "new" if scene.holds() == scene.new else "mixed"
        result[state] = result.get(state, 0) + 1
        if state == "mixed" or scene.litter():
            result["faults"].append(f"{n}: {state}, {sorted(scene.holds())}, left {scene.litter()}")
    return result


def fail(scene: Scene) -> dict[str, Any]:
    """Each file operation in turn fails: an error of ours and the old files, or success and the new ones."""
    result: dict[str, Any] = {"points": 0, "old": 0, "new": 0, "faults": []}
    for n in range(1, 1000):
        reached = mmap.mmap(-1, 1)  # shared with the fork

        def act(reached: mmap.mmap = reached) -> None:
            reached[0] = 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        code = os.waitstatus_to_exitcode(scene.disturbed(scene.hook(n, act)))
        if not reached[0]:
            break
        result["points"] += 1
        expected = {WRITTEN: scene.new, FAILED: scene.old}.get(code)
        if expected is None or scene.holds() != expected:
            result["faults"].append(f"{n}: exit {code}, holds {sorted(scene.holds())}")
        result["new" if code == WRITTEN else "old"] += 1
        drafts.settle(scene.folder)  # where the clean-up itself failed
        if scene.litter():
            result["faults"].append(f"{n}: left {scene.litter()}")
    return result


def limit(scene: Scene) -> dict[str, Any]:
    """The disk is full after so many bytes: an error of ours, the old files, and nothing left."""
    result: dict[str, Any] = {"points": 0, "old": 0, "faults": []}
    largest = max(len(d) for d in scene.new.values())
    for k in range(POINTS):
        size = largest * k // POINTS
        code = os.waitstatus_to_exitcode(
            scene.disturbed(lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))  # type: ignore[misc]
        )
        result["points"] += 1
        result["old"] += scene.holds() == scene.old
        if code != FAILED or scene.holds() != scene.old or scene.litter():
            result["faults"].append(f"{size} bytes: exit {code}, holds {sorted(scene.holds())}, left {scene.litter()}")
    return result


def main(ending: str, fault: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder).resolve() / "net", ending)
        sys.stdout.write(json.dumps({"kill": kill, "fail": fail, "limit": limit}[fault](scene)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
