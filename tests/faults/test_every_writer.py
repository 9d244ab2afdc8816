"""Every format that is written is written whole or not at all: killed, failed and cut off at every point in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from niudao.formats import FORMATS

WRITTEN = dict.fromkeys(e for _, f in FORMATS.items() if f.can_write for e in f.targets or f.extensions if e != ".hdf5")
ENDINGS = [*WRITTEN, ".onnx+data"]
SOURCE = Path(__file__).resolve().parents[2] / "src"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed here, which this system cannot")


def disturbed(ending: str, fault: str) -> dict[str, object]:
    script = Path(__file__).with_name("interrupted.py")
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script), ending, fault], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("ending", ENDINGS)
def test_killed_before_each_file_operation_leaves_the_old_files_or_the_new_ones(ending: str) -> None:
    found = disturbed(ending, "kill")
    assert found["faults"] == []
    assert found["old"] and found["new"], "both sides of the rename were reached"


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_file_operation_that_fails_is_one_error_and_no_change(ending: str) -> None:
    found = disturbed(ending, "fail")
    assert found["faults"] == []
    assert found["old"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_disk_that_fills_up_is_one_error_and_no_change(ending: str) -> None:
    found = disturbed(ending, "limit")
    assert found["faults"] == []
    assert found["old"] == found["points"]
