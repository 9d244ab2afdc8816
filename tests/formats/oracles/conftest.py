"""A stand-in for a framework: this very Python, with workers written for the test. No network and no oracle is needed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from niudao.formats.oracles import ORACLES, Oracle, place


@pytest.fixture
def fake() -> Oracle:
    return Oracle("fake", "Fake 1.0", "fake 1.0", Path(sys.executable), paths=tuple(p for p in sys.path if p))


@pytest.fixture
def worker(tmp_path: Path) -> Callable[[str], str]:
    """Writes a worker whose `run` has this body; returns its path."""

    def write(body: str) -> str:
        path = tmp_path / "worker.py"
        lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
        head = "import os, sys, time\nimport numpy as np\n\n\ndef version():\n    return 'fake 1.0'\n\n\n"
        path.write_text(f"{head}def run(path, feeds, settings):\n{lines}\n")
        return str(path)

    return write


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of oracles with nothing in it."""
    folder = tmp_path / "oracles"
    monkeypatch.setenv("NIUDAO_ORACLES", str(folder))
    return folder


@pytest.fixture
def pretend(home: Path) -> Callable[..., Path]:
    """Makes an oracle of the table look ready, with a Python that answers as told."""

    def make(name: str, script: str = "exit 1", **noted: object) -> Path:
        folder = home / name
        python = place.interpreter(folder)
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{script}\n")
        os.chmod(python, 0o755)
        facts = {"pins": list(ORACLES[name].pins), "python": "3.7.16", "version": f"{name} 1.0", "packages": ["a==1"], "bytes": 5 << 20}
        (folder / place.PARTIAL).touch()
        (folder / place.READY).write_text(json.dumps(facts | noted))
        return folder

    return make
