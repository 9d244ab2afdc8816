"""Set-up is whole or not at all; nothing that we did not make is touched. The packages come from files, never from a network."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from niudao.errors import UsageError, WriteError
from niudao.formats.oracles import ORACLES, find, place, reports, setup
from niudao.formats.oracles.interpreters import find_python
from niudao.formats.oracles.table import CAFFE, Probe, Recipe

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
WORKER = """
import numpy as np


def version():
    try:
        import framework_of_the_test
    except ImportError:
        return "tiny, not installed"
    return "tiny " + framework_of_the_test.__version__


def run(path, feeds, settings):
    with open(path) as file:
        return [("y", feeds["x"] * float(file.read()))]
"""


@pytest.fixture
def recipe(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A framework of one line, in a wheel that lets it see the numpy that is here."""
    wheel = tmp_path / "tinyframework-1.5-py3-none-any.whl"
    info = "tinyframework-1.5.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("framework_of_the_test.py", "__version__ = '1.5'\n")
        archive.writestr("framework_of_the_test.pth", str(Path(np.__file__).parent.parent) + "\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinyframework\nVersion: 1.5\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    worker = tmp_path / "tiny.py"
    worker.write_text(WORKER)
    probe = Probe("tiny.txt", "8", "x", (3,), {"y": (0.0, 1.0, 2.0)}, {})
    made = Recipe("tiny", "Tiny 1.5", HERE, (str(wheel),), ("onnx",), "nothing", str(worker), 1, probe)
    monkeypatch.setitem(ORACLES._entries, "tiny", made)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return made


def swap(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    monkeypatch.setitem(ORACLES._entries, recipe.name, recipe)


def test_made_checked_found_rebuilt_and_removed(recipe: Recipe, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PIP_USER", "1")
    report = setup.setup("tiny", python=sys.executable, say=said.append)
    assert report.ok and report.action == "set up" and report.oracle.version == "tiny 1.5"
    assert any(p.startswith("tinyframework") for p in report.packages)
    assert "about 1 MB in" in said[0], "the size is said before anything is installed"
    oracle = find("tiny")
    assert oracle is not None and oracle.version == "tiny 1.5" and oracle.folder == home / "tiny"
    assert reports.checked("tiny").ok

    again = setup.setup("tiny")
    assert again.ok and again.action == "ready"

    # another answer than is known: the check says so, and a rebuild that fails leaves what was there
    swap(monkeypatch, replace(recipe, probe=replace(recipe.probe, answers={"y": (0.0, 1.0, 3.0)})))
    assert not setup.setup("tiny").ok and not reports.checked().ok
    monkeypatch.setattr(setup, "_call", without_packages)
    with pytest.raises(WriteError, match=r"installed and does not work: Tiny 1\.5 gives other numbers"):
        setup.setup("tiny", python=sys.executable, force=True)
    assert find("tiny") is not None and sorted(p.name for p in home.iterdir()) == [".tiny.lock", "tiny"]

    swap(monkeypatch, recipe)
    assert reports.checked("tiny").ok and setup.remove("tiny").action == "removed"
    assert find("tiny") is None and [p.name for p in home.iterdir()] == [".tiny.lock"]
    with pytest.raises(UsageError, match="not set up"):
        setup.remove("tiny")


def without_packages(command: list[str], name: str, fault: str, say: setup.Say) -> list[str]:
    """A set-up's step that takes no time: the environment is a link to this one."""
    if "venv" in command:
        python = place.interpreter(Path(command[-1]))
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
    return []


def test_a_package_that_is_gone_leaves_nothing(recipe: Recipe, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = setup._call

    def call(command: list[str], name: str, fault: str, say: setup.Say) -> list[str]:
        made = without_packages(command, name, fault, say)
        return made if "venv" in command else real([sys.executable, *command[1:]], name, fault, say)

    monkeypatch.setattr(setup, "_call", call)
    swap(monkeypatch, replace(recipe, pins=("niudao-no-such-package==1",)))
    with pytest.raises(WriteError, match=r"pip could not install Tiny 1\.5") as e:
        setup.setup("tiny", python=sys.executable)
    assert e.value.got and "niudao-no-such-package==1" in e.value.got
    assert [p.name for p in home.iterdir()] == [".tiny.lock"]


def test_a_full_disk_is_said_before(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    swap(monkeypatch, replace(recipe, megabytes=1 << 40))
    with pytest.raises(WriteError, match="disk is too full"):
        setup.setup("tiny", python=sys.executable)


def test_what_a_killed_set_up_left_is_put_right(home: Path, pretend) -> None:  # type: ignore[no-untyped-def]
    folder = pretend("caffe")
    (folder / place.READY).unlink()
    assert find("caffe") is None and reports.row(CAFFE).state == "unfinished"
    # a rebuild that was killed: the old one waits aside
    old = home / ".caffe.old"
    folder.rename(old)
    (old / place.READY).write_text(json.dumps({"pins": list(CAFFE.pins), "version": "caffe 1.0.0"}))
    folder.mkdir()
    (folder / place.PARTIAL).touch()
    assert not setup.setup("caffe").ok, "it is back, and does not work"
    assert find("caffe") is not None and not old.exists()


def test_other_pins_are_outdated(pretend) -> None:  # type: ignore[no-untyped-def]
    pretend("caffe", pins=["kendryte-caffe==0"])
    assert find("caffe") is None and reports.row(CAFFE).state == "outdated"


@pytest.mark.parametrize("spoil", ["", "{", "[]", "[" * 100_000, '{"pins": 3}', "null"])
def test_a_spoilt_note_is_no_oracle(pretend, spoil: str) -> None:  # type: ignore[no-untyped-def]
    folder = pretend("caffe")
    (folder / place.READY).write_text(spoil)
    assert find("caffe") is None


def test_folders_of_others_are_left_alone(home: Path) -> None:
    mine = home / "caffe" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    for act in (setup.setup, setup.remove):
        with pytest.raises(UsageError, match="was not made by niudao"):
            act("caffe")
    assert mine.read_text() == "years of work"


def test_two_at_a_time(home: Path) -> None:
    with setup._locked("caffe"), pytest.raises(UsageError, match="by another process"):
        setup.setup("caffe")


def test_a_place_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NIUDAO_ORACLES", str(tmp_path / "file" / "x"))
    with pytest.raises(WriteError, match="cannot be used"):
        setup.setup("caffe")


def test_where_oracles_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIUDAO_ORACLES", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative is ignored")
    assert place.root() == tmp_path / ".local/share/niudao/oracles"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert place.root() == tmp_path / "data/niudao/oracles"
    monkeypatch.setenv("NIUDAO_ORACLES", "~/mine")
    assert place.root() == tmp_path / "mine"


def python(path: Path, said: str, code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {said}\nexit {code}\n")
    os.chmod(path, 0o755)
    return path


def test_pythons_are_found_on_path_and_with_pyenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    with pytest.raises(UsageError, match=r"Python 3\.7 is needed and was not found; looked for python3\.7 on PATH, in pyenv") as e:
        find_python("3.7")
    assert e.value.next and "pyenv install 3.7" in e.value.next and "--python" in e.value.next
    python(tmp_path / "bin" / "python3.7", "no such command", 127)  # pyenv's shim of a version that is off
    for patch in ("3.7.9", "3.7.16", "3.7-dev", "3.70.1"):
        python(tmp_path / "pyenv/versions" / patch / "bin/python", patch)
    assert find_python("3.7").version == "3.7.16"
    python(tmp_path / "bin" / "python3.7", "3.7.3")
    assert find_python("3.7").version == "3.7.3"


def test_the_python_that_was_named(tmp_path: Path) -> None:
    wrong = python(tmp_path / "python", "3.11.7")
    with pytest.raises(UsageError, match="another Python") as e:
        find_python("3.7", wrong)
    assert (e.value.expected, e.value.got) == ("3.7", "3.11.7")
    for bad in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UsageError, match="no Python that can make environments"):
            find_python("3.7", bad)
    assert find_python(HERE, sys.executable).version.startswith(HERE)


@pytest.mark.parametrize("name", list(ORACLES))
def test_oracles_that_are_here_give_known_numbers(name: str) -> None:
    if find(name) is None:
        pytest.skip(f"the oracle {name} is not set up (niudao oracle setup {name})")
    assert reports.checked(name).ok
