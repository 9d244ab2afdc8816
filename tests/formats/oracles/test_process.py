"""Limits, and what comes back, tried on workers that misbehave."""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from niudao.errors import RunError
from niudao.formats.oracles import Oracle, OverBudget, process, run

Worker = Callable[[str], str]
X = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_order_names_and_types_survive(fake: Oracle, worker: Worker, tmp_path: Path) -> None:
    feeds = {"a/b:0": np.float32([[1, 2]]), "file": np.int64([3]), "../x": np.float16(4)}
    path = worker("return [(name, feeds[name] * 2) for name in settings['order']]")
    got = run(fake, path, tmp_path, feeds, order=["file", "../x", "a/b:0"])
    assert list(got) == ["file", "../x", "a/b:0"]
    for name, array in feeds.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        np.testing.assert_array_equal(got[name], array * 2)


def test_paths_are_absolute_and_weights_are_found(fake: Oracle, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_text("1234")
    path = worker("return [('found', np.array([os.path.isabs(path), os.path.getsize(settings['weights'])]))]")
    assert run(fake, path, "net", X, weights="w")["found"].tolist() == [1, 4]


def test_nothing_of_our_environment_leaks(fake: Oracle, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "KERAS_BACKEND", "PYTHONSTARTUP", "SECRET_TOKEN"):
        monkeypatch.setenv(name, "leaked")
    body = f"""
leaked = [k for k, v in os.environ.items() if v == 'leaked']
home = os.path.expanduser('~') == {str(Path.home())!r}
return [('bad', np.array([len(leaked), home, os.environ['OMP_NUM_THREADS'] != '1', os.getpgid(0) == {os.getpgid(0)}]))]
"""
    assert not run(fake, worker(body), tmp_path, X)["bad"].any()


def test_time_is_limited_and_the_whole_group_dies(fake: Oracle, worker: Worker, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    body = f"""
import subprocess
child = subprocess.Popen(['sleep', '60'])
with open({str(note)!r}, 'w') as file:
    file.write(str(child.pid))
time.sleep(60)
"""
    with pytest.raises(OverBudget, match=r"Fake 1\.0 took more than 3 s\.") as e:
        run(fake, worker(body), tmp_path / "net", X, seconds=3)
    assert e.value.next
    assert isinstance(e.value, RunError)
    assert not _alive(int(note.read_text()))


def _alive(pid: int) -> bool:
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("body", ["return [('y', np.ones(3 << 30, np.uint8))]", "raise MemoryError", "os.kill(os.getpid(), 9)"])
def test_memory_is_limited(fake: Oracle, worker: Worker, tmp_path: Path, body: str) -> None:
    with pytest.raises(OverBudget, match="needs more memory than the 2048 MB"):
        run(fake, worker(body), tmp_path, X, memory=2 << 30)


def test_no_room_to_be_loaded_is_not_the_files_fault(fake: Oracle, worker: Worker, tmp_path: Path) -> None:
    path = worker("return []")
    text = Path(path).read_text().replace("return 'fake 1.0'", "os.kill(os.getpid(), 11)")
    Path(path).write_text(text)
    with pytest.raises(OverBudget, match="died while it was loaded"):
        run(fake, path, tmp_path, X)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os._exit(3)", "exit code 3"),
        ("os._exit(0)", "without an answer"),
        ("raise ValueError('the layer\\n  is unknown')", "refuses the file: the layer is unknown"),
        ("sys.exit(2)", "exit code 2"),
        ("return [('y', object())]", "without an answer"),
        ("return [('y', np.zeros(1)), ('y', np.ones(1))]", "without an answer"),
        ("os.kill(os.getpid(), 11)", "died on the file"),
        ("import no_such_framework", "is broken: No module named 'no_such_framework'"),
        ("sys.stderr.write('F1125 15:20:01.1 12 net.cpp:81] Check failed: no such layer\\n*** Trace ***\\n @ 0x7f\\n'); os.abort()",
         "refuses the file: Check failed: no such layer"),
        ("return 7", "refuses the file"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_sentence(fake: Oracle, worker: Worker, tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(RunError) as e:
        run(fake, worker(body), tmp_path, X)
    assert said in e.value.message and "\n" not in e.value.message


def test_floods_of_words_are_not_kept(fake: Oracle, worker: Worker, tmp_path: Path) -> None:
    body = """
for _ in range(1 << 10):
    os.write(1, b'x' * (1 << 20))
for _ in range(1 << 6):
    os.write(2, b'y' * (1 << 20))
os.write(2, b'\\nwhy\\n')
os._exit(1)
"""
    with pytest.raises(RunError, match="refuses the file: why"):
        run(fake, worker(body), tmp_path, X)


@pytest.mark.parametrize(
    "spoil",
    [
        "file.write(b'no zip')",
        "z = zipfile.ZipFile(file, 'w'); z.writestr('0.npy', head + b'1234'); z.close()",
        "z = zipfile.ZipFile(file, 'w', 8); z.writestr('0.npy', head + bytes(1 << 20)); z.close()",
        "np.savez(file, **{'0': np.array([{}], object)})",
    ],
)
def test_answers_are_not_trusted(fake: Oracle, worker: Worker, tmp_path: Path, spoil: str) -> None:
    body = f"""
import io, json, zipfile
made = io.BytesIO()
np.lib.format.write_array_header_1_0(made, {{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 40,)}})
head = made.getvalue()
folder = sys.argv[1]
with open(os.path.join(folder, 'results.npz'), 'wb') as file:
    {spoil}
with open(os.path.join(folder, 'results.json'), 'w') as file:
    json.dump({{'names': ['y'], 'version': 'x'}}, file)
os._exit(0)
"""
    with pytest.raises(RunError, match="without an answer"):
        run(fake, worker(body), tmp_path, X)


def test_a_python_that_is_gone(worker: Worker, tmp_path: Path) -> None:
    gone = Oracle("caffe", "Caffe 1.0", "", tmp_path / "python", tmp_path)
    with pytest.raises(RunError, match="cannot be started") as e:
        run(gone, worker("return []"), tmp_path, X)
    assert e.value.next == "niudao oracle setup caffe --force"


@pytest.mark.parametrize("path", sorted(process.WORKERS.glob("*.py")), ids=lambda p: p.name)
def test_workers_are_written_for_python_3_6(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 6))
    assert not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in ast.walk(tree))


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", ""),
        ("Warning: old\nImportError: no numpy\n", "ImportError: no numpy"),
        (
            "F1125 15:20:01.123456 99 a.cpp:7] Check failed: x\n*** Check failure stack trace: ***\n    @     0x7f a\nAborted",
            "Check failed: x",
        ),
        ("bad\n*** Aborted at 1 ***\n    @ 0x1 main\n", "bad"),
    ],
)
def test_the_telling_line(said: str, line: str) -> None:
    assert process.telling_line(said) == line
