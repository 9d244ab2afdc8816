"""A folder of files, or the generated cases, through the command line as anybody runs it: a fresh process for each.

    python tests/hostile/corpus.py FOLDER...                   every model below these folders must open
    python tests/hostile/corpus.py --generated [--only REGEX]  every case must end as its generator says
    python tests/hostile/corpus.py --any FOLDER...             opened or refused, both are right

Prints a line per fault, the counts, the slowest and the largest; exit 1 if there was a fault. The clock includes the start of
Python, and the memory is the most that the process or its child held resident, by the kernel's own mark.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).parent))

from badfile import Verdict
from judge import MEGABYTES, SECONDS, control_characters

Kind = Literal["refused", "opened", "crashed", "hung", "traceback", "memory", "unclean"]
MODEL_NAMES = ("*.onnx", "*.keras", "*.h5", "*.hdf5", "*.json", "*.prototxt", "*.caffemodel")
MODEL_NAMES += ("*.pt2", "*.pt", "*.pth", "*.th", "*.safetensors")
_BESIDE = frozenset(("meta.json", "weights.h5"))
"""Files of a case's folder that are no model of their own."""


@dataclass(frozen=True)
class Run:
    """How one process ended: `kind`, what it said, wall-clock seconds, and megabytes resident at most."""

    kind: Kind
    text: str
    seconds: float
    megabytes: float


def run(words: list[str], folder: Path, *, seconds: float = SECONDS, megabytes: int = MEGABYTES) -> Run:
    """Run `niudao` in a folder until it ends, or takes too long or too much."""
    source = Path(__file__).resolve().parents[2] / "src"
    env = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    start, peak, stopped = time.monotonic(), 0.0, ""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "niudao", *words],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            if time.monotonic() - start > seconds:
                stopped = "hung"
            elif peak > megabytes:
                stopped = "memory"
            if stopped:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                break
            time.sleep(0.01)
        taken = time.monotonic() - start
        said.seek(0)
        text = said.read(1 << 20).decode("utf-8", "replace")
    return Run(_kind(process.returncode, text, stopped), text, taken, peak)


def _peak(pid: int) -> float:
    """Megabytes of the largest of a process and its children, the kernel's own high-water mark."""
    peak, stack = 0, [pid]
    while stack:
        each = stack.pop()
        try:
            found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{each}/status").read_text(), re.M)
            stack += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
        except OSError:
            continue
        peak = max(peak, int(found[1]) if found else 0)
    return peak / 1024


def _kind(code: int, text: str, stopped: str) -> Kind:
    if stopped == "hung":
        return "hung"
    if stopped == "memory":
        return "memory"
    if code < 0:
        return "crashed"
    if "Traceback" in text or "has a bug" in text:
        return "traceback"
    if code not in (0, 1) or control_characters(text):
        return "unclean"
    return "refused" if code == 1 else "opened"


def _models(folders: list[Path]) -> Iterator[tuple[str, Path]]:
    """Name and file of every model."""
    for folder in folders:
        found = sorted(p for pattern in MODEL_NAMES for p in folder.rglob(pattern))
        for path in found:
            if path.name in _BESIDE or (path.suffix == ".caffemodel" and any(path.parent.glob("*.prototxt"))):
                continue
            yield str(path), path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--generated", action="store_true", help="the cases of this folder's generators")
    parser.add_argument("--any", action="store_true", help="files may open or be refused")
    parser.add_argument("--only", default="", help="regular expression on the cases' names")
    parser.add_argument("--convert", action="store_true", help="convert to ONNX as well")
    parser.add_argument("--all", action="store_true", help="print every case, not the faults alone")
    options = parser.parse_args()
    counts, worst = Counter[str](), list[tuple[float, float, str]]()
    bad = 0

    def judge(name: str, path: Path, folder: Path, verdict: Verdict) -> None:
        nonlocal bad
        verbs = [["inspect", str(path)]] + ([["convert", str(path), "converted.onnx"]] if options.convert else [])
        for words in verbs:
            ending = run(words, folder)
            counts[ending.kind] += 1
            worst.append((ending.seconds, ending.megabytes, f"{words[0]} {name}"))
            right = {"refuse": ("refused",), "open": ("opened",), "either": ("opened", "refused")}[verdict]
            wrong = ending.kind not in right
            bad += wrong
            if wrong or options.all:
                line = (
                    f"{'FAULT' if wrong else 'right'} {words[0]} {name}: {ending.kind}, {ending.seconds:.1f} s, {ending.megabytes:.0f} MB"
                )
                print(line, ending.text[-300:].strip() if wrong else "", flush=True)

    for name, path in _models([f.absolute() for f in options.folders]):
        if re.search(options.only, name):
            with tempfile.TemporaryDirectory() as scratch:
                judge(name, path, Path(scratch), "either" if options.any else "open")
    if options.generated:
        from test_hostile import CASES

        for format_, case in CASES:
            if re.search(options.only, f"{format_}-{case.name}") and "\0" not in case.name:
                with tempfile.TemporaryDirectory() as scratch:
                    path = case.make(Path(scratch))
                    if "\0" not in str(path) and len(str(path)) < 4000:  # no command line can name those
                        judge(f"{format_}-{case.name}", path, Path(scratch), case.verdict)
    print(", ".join(f"{k} {v}" for k, v in counts.most_common()))
    for at, unit in ((0, "s"), (1, "MB")):
        for entry in sorted(worst, key=lambda w: -float(w[at]))[:3]:
            print(f"worst {float(entry[at]):.1f} {unit}: {entry[2]}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
