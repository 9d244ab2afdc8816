"""`niudao oracle`: what it says, and how it ends."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from niudao.cli.main import main
from niudao.formats.oracles import ORACLES, place


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "oracles"
    monkeypatch.setenv("NIUDAO_ORACLES", str(folder))
    return folder


def broken(home: Path) -> None:
    """A Caffe that says it is ready and cannot start."""
    folder = home / "caffe"
    python = place.interpreter(folder)
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    noted = {"pins": list(ORACLES["caffe"].pins), "python": "3.7.16", "version": "caffe 1.0.0", "packages": [], "bytes": 5 << 20}
    (folder / place.READY).write_text(json.dumps(noted))


def follows(text: str, schema: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text)
    Draft202012Validator(json.loads(files("niudao.report").joinpath("schemas", schema).read_text("utf-8"))).validate(found)
    return found


def test_the_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["list"]):
        assert main(["oracle", *words]) == 0
        said = capsys.readouterr().out
        assert str(home) in said and all(name in said for name in ORACLES)
    assert not home.exists(), "looking makes nothing"
    assert main(["oracle", "list", "caffe", "--json"]) == 0
    assert [o["name"] for o in follows(capsys.readouterr().out, "niudao.oracles-1.json")["oracles"]] == ["caffe"]  # type: ignore[attr-defined]


def test_check(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["oracle", "check"]) == 0
    assert main(["oracle", "check", "caffe"]) == 1
    assert "niudao oracle setup caffe" in capsys.readouterr().err
    broken(home)
    assert main(["oracle", "check", "--json"]) == 3
    found = follows(capsys.readouterr().out, "niudao.oracles-1.json")
    assert not found["ok"] and found["oracles"][0]["fault"]  # type: ignore[index]
    assert main(["oracle", "setup", "caffe"]) == 3, "it is ready, is checked, and is broken"


def test_remove(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken(home)
    assert main(["oracle", "remove", "caffe", "--json"]) == 0
    assert follows(capsys.readouterr().out, "niudao.oracle-1.json")["action"] == "removed"
    assert not (home / "caffe").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["setup"], "setup which oracle?"),
        (["remove"], "remove which oracle?"),
        (["setup", "cafe"], "did you mean 'caffe'"),
        (["instal", "caffe"], "instal"),
        (["remove", "caffe"], "not set up"),
        (["check", "caffe", "--python", "x"], "--python goes with setup"),
        (["setup", "caffe", "--python", "/no/python"], "no Python that can make environments"),
    ],
)
def test_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["oracle", *words]) == 2
    assert said in capsys.readouterr().err


def test_doctor_lists_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken(home)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "caffe 1.0.0" in said and "niudao oracle setup tf2" in said
