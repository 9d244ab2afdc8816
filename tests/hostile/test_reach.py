"""What readers may reach: no file but the model's own, no call that runs what a file holds."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import bad_h5
import onnx_traps
import onnx_words
import pytest

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ROOT / "src" / "niudao" / "formats"

OPENERS = {"open", "read_bytes", "read_text", "fdopen", "ZipFile", "File", "memmap", "fromfile", "loadtxt"}
"""Calls that open a file."""
OWNERS = {
    "detection.py": "tells formats apart by the names in an archive, from a stream of files.open_model",
    "files.py": "opens strangers' files, and writes ours",
    "hdf5/survey.py": "HDF5 images, after files.open_model has looked at them",
    "keras/opening.py": "zip archives, from a stream of files.open_model",
    "keras/archive_out.py": "writes",
    "keras/write.py": "writes",
    "onnx/write.py": "writes",
    "keras/emit": "writes",
    "oracles": "runs real frameworks on files that the user trusts",
    "keras/native.py": "runs Keras on files that the user trusts",
    "caffe/write.py": "writes",
    "caffe/schema.py": "reads its own schema",
    "caffe/sniff.py": "looks at the groups of an HDF5 file, nothing else",
    "pytorch/checkpoint/archive.py": "zip archives, from a stream of files.open_model",
    "pytorch/checkpoint/tensors.py": "maps weights, after files.open_model has looked at the file",
    "pytorch/architecture.py": "looks for a name in the user's own source, before it is run with consent",
}
NEVER = {"eval", "exec", "compile", "__import__", "extractall", "system", "popen", "execv"}
TORCH = {
    "pytorch/modules": "makes networks of models that were read",
    "pytorch/source": "writes",
    "pytorch/write.py": "writes",
    "pytorch/export.py": "writes",
    "pytorch/stored.py": "writes",
    "pytorch/native.py": "runs what we wrote",
    "pytorch/architecture.py": "builds the network of the zoo, or of a file that the user trusts",
    "pytorch/program/live.py": "follows a live module",
    "pytorch/program/fx.py": "follows a live module",
    "pytorch/program/script_worker.py": "reads TorchScript in a process of its own, after the archive was vetted",
    "pytorch/program/script_graph.py": "likewise",
    "pytorch/program/script_plain.py": "likewise",
    "pytorch/program/script_memory.py": "likewise",
    "pytorch/program/script_tensors.py": "likewise",
    "pytorch/program/script_arguments.py": "likewise",
    "pytorch/program/script_questions.py": "likewise",
    "pytorch/program/script_values.py": "likewise",
}
"""Who may import torch: none of them opens a stranger's file with it."""
NEVER_IMPORTED = {"pickle", "marshal", "shelve", "tarfile", "dill", "joblib", "torch", "tensorflow", "keras"}


def _sources() -> list[tuple[str, ast.Module]]:
    return [(p.relative_to(FORMATS).as_posix(), ast.parse(p.read_text())) for p in sorted(FORMATS.rglob("*.py"))]


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""


def test_only_a_few_files_open_files() -> None:
    found = []
    for name, tree in _sources():
        owned = any(name == o or name.startswith(f"{o}/") for o in OWNERS)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) in OPENERS and not owned:
                if _called(node) == "open" and isinstance(node.func, ast.Attribute):
                    continue  # a method of ours: Region.open
                found.append(f"{name}:{node.lineno} {_called(node)}")
    assert not found


def test_nothing_runs_what_a_file_holds() -> None:
    found = []
    for name, tree in _sources():
        if name.startswith("oracles/") or name == "keras/native.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                bare = isinstance(node.func, ast.Name) or _called(node) in ("extractall", "system", "popen", "execv")
                if bare and _called(node) in NEVER:
                    found.append(f"{name}:{node.lineno} {_called(node)}")
                if any(
                    k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in node.keywords
                ):
                    found.append(f"{name}:{node.lineno} allow_pickle")
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            owned = any(name == o or name.startswith(f"{o}/") for o in TORCH)
            never = NEVER_IMPORTED - ({"torch"} if owned else set())
            found += [f"{name}:{node.lineno} import {n}" for n in names if n.split(".")[0] in never]  # type: ignore[attr-defined]
    assert not found


WATCH = """
import os, sys
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        opened.append(os.path.realpath(os.fsdecode(args[0])))
sys.addaudithook(hook)
from niudao.formats import read
from niudao.errors import NiudaoError
from niudao.formats.onnx import read as _
opened.clear()
try:
    read(sys.argv[1])
except NiudaoError:
    pass
print("\\n".join(opened))
"""

TRAPS = [*onnx_traps.externals(), *onnx_words.outside(), *bad_h5.links()]


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in TRAPS if "control" not in c.name][::3])
def test_no_other_file_is_opened(case: onnx_traps.BadFile, tmp_path: Path) -> None:
    """Python's own audit hook hears of every open; the secrets beside and above the model are not among them."""
    folder = tmp_path / "case"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(432))
    path = case.make(folder)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", WATCH, str(path)], capture_output=True, text=True, env=env, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    library = (sys.prefix, sys.base_prefix, str(ROOT), str(Path(sys.executable).resolve().parents[1]))
    own = {str(path.resolve()), str((path.parent / "data.bin").resolve())}
    strange = [
        n
        for n in done.stdout.splitlines()
        if n not in own and not n.startswith(library) and not n.startswith(("/sys/", "/etc/localtime", "/dev/null"))
    ]
    assert not strange
