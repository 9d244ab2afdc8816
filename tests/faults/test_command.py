"""The command line under faults: it ends with its exit code, one sentence and nothing left over."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interrupted import network

from niudao import drafts

SOURCE = Path(__file__).resolve().parents[2] / "src"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="this is measured by what Linux's /proc and limits say")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes can be forked does the command line watch a worker")


class Place:
    """A folder with a source, an older target, and temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.scratch = folder / "scratch"
        for path in (self.folder, self.scratch):
            path.mkdir()
        (self.folder / "a.onnx").write_bytes(network(1))
        (self.folder / "b.onnx").write_bytes(b"the older file")

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(self.scratch)}
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.folder, "env": env} | more
        return subprocess.Popen([sys.executable, "-m", "niudao", *words], text=True, **more)

    def run(self, *words: str, **more: Any) -> tuple[int, str]:
        process = self.start(*words, **more)
        said = process.communicate(timeout=60)[1]
        return process.returncode, said or ""

    def untouched(self) -> bool:
        return (self.folder / "b.onnx").read_bytes() == b"the older file"

    def left(self) -> list[str]:
        return [p.name for f in (self.folder, self.scratch) for p in f.iterdir() if p.name not in ("a.onnx", "b.onnx")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def sentence(said: str) -> bool:
    """One line that says what happened, and aligned facts below it."""
    lines = [line for line in said.splitlines() if not line.startswith("  ")]
    return len(lines) == 1 and "Traceback" not in said and "bug" not in said


def worker(process: subprocess.Popen[str]) -> int:
    """The process id of the one that does the work."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(2000):
        if text := path.read_text():
            return int(text.split()[0])
        time.sleep(0.002)
    raise AssertionError("no worker was started")


def drafting(place: Place) -> None:
    """Wait until the worker writes its draft."""
    for _ in range(5000):
        if any(p.name.startswith(drafts.TEMPORARY) for p in place.folder.iterdir()):
            return
        time.sleep(0.002)
    raise AssertionError("no draft was begun")


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("group", [False, True])
def test_a_stopped_command_says_so_and_leaves_nothing(place: Place, number: int, group: bool) -> None:
    process = place.start("convert", "a.onnx", "b.onnx", start_new_session=True)
    drafting(place)
    (os.killpg if group else os.kill)(process.pid, number)
    said = process.communicate(timeout=20)[1]
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == 128 + number
    assert said in ("stopped, nothing written\n", "stopped, but b.onnx had been written\n")
    assert ("nothing" in said) == place.untouched()
    assert place.left() == []


@LINUX
@pytest.mark.parametrize("moment", [0.06, 0.12, 0.2, 0.3])
def test_ctrl_c_at_any_moment_shows_no_traceback(place: Place, moment: float) -> None:
    process = place.start("convert", "a.onnx", "b.onnx")
    worker(process)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode in (0, 130)
    assert process.returncode == 0 or sentence(said), said
    assert place.left() == []


@LINUX
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_that_dies_is_one_sentence_and_its_draft_is_swept(place: Place, number: int) -> None:
    process = place.start("convert", "a.onnx", "b.onnx")
    pid = worker(process)
    drafting(place)
    os.kill(pid, number)
    said = process.communicate(timeout=20)[1]
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == 1
    assert sentence(said)
    assert signal.Signals(number).name in said
    assert place.left() == []


@LINUX
def test_a_killed_command_takes_its_worker_along_and_the_next_one_sweeps(place: Place) -> None:
    process = place.start("convert", "a.onnx", "b.onnx")
    pid = worker(process)
    drafting(place)
    process.kill()
    process.communicate()
    for _ in range(1000):
        if not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text():
            break
        time.sleep(0.005)
    assert place.run("convert", "a.onnx", "b.onnx", "-q") == (0, "")
    assert place.left() == []


@LINUX
@pytest.mark.parametrize("megabytes", [16, 24, 48, 80, 110, 140, 170, 200])
def test_too_little_memory_is_a_sentence(place: Place, megabytes: int) -> None:
    size = megabytes << 20
    limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))  # noqa: E731
    code, said = place.run("convert", "a.onnx", "b.onnx", preexec_fn=limit)
    assert code == 1, said
    assert sentence(said), said
    assert "memory" in said
    assert place.untouched()
    assert place.left() == []


@LINUX
def test_the_worker_may_not_use_more_memory_than_there_is(place: Place) -> None:
    process = place.start("convert", "a.onnx", "b.onnx")
    pid = worker(process)
    drafting(place)
    text = Path(f"/proc/{pid}/limits").read_text()
    process.communicate()
    line = next(x for x in text.splitlines() if x.startswith("Max data size"))
    assert line.split()[3].isdigit(), line


@LINUX
@pytest.mark.parametrize("words", [("inspect", "a.onnx"), ("formats",), ("--help",)])
def test_a_full_disk_behind_stdout_is_a_sentence(place: Place, words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        code, said = place.run(*words, stdout=full)
    assert (code, sentence(said)) == (1, True), said


@pytest.mark.parametrize("words", [("inspect", "a.onnx"), ("formats",), ("--help",)])
def test_nobody_listening_is_no_error(place: Place, words: tuple[str, ...]) -> None:
    ear, mouth = os.pipe()
    os.close(ear)
    with open(mouth, "w") as closed:
        code, said = place.run(*words, stdout=closed)
    assert (code, said) == (0, "")


@pytest.mark.parametrize(
    "change",
    [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"HOME": ""}, {"TMPDIR": "/nonexistent"}, {"TERM": "dumb"}],
    ids=["ascii", "no home", "no folder for temporaries", "dumb terminal"],
)
def test_an_odd_environment_is_no_error(place: Place, change: dict[str, str]) -> None:
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(place.scratch)} | change
    code, said = place.run("inspect", "a.onnx", env=env, stdin=subprocess.DEVNULL)
    assert (code, said) == (0, "")


@LINUX
def test_a_folder_that_is_gone_is_a_sentence(place: Place) -> None:
    gone = place.folder / "gone"
    gone.mkdir()
    code, said = place.run("convert", str(place.folder / "a.onnx"), "b.onnx", preexec_fn=gone.rmdir, cwd=gone)
    assert (code, sentence(said)) == (1, True), said


def test_both_streams_closed_still_gives_the_exit_code(place: Place) -> None:
    def close() -> None:
        os.close(1)
        os.close(2)

    assert place.run("inspect", "missing.onnx", stdout=None, stderr=None, preexec_fn=close)[0] == 1
    assert place.run("inspect", "a.onnx", stdout=None, stderr=None, preexec_fn=close)[0] == 0
