"""Whole or not at all: `niudao convert` killed, interrupted, and run out of disk or memory, again and again, over an older file.

    python benchmarks/faults.py [--to .onnx,.json,...] [--kills 200] [--points 64] [--csv benchmarks/faults.csv]

Each time the target already holds one network and another is converted over it. Afterwards the target must hold exactly the old
files or exactly the new ones, byte for byte as an undisturbed run writes them, once `niudao.formats.files` has looked at it; no
temporary may be left; and the command must have said one sentence. Exit 3 where anything else was seen.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measure import table, write_csv
from onnx import TensorProto, helper, numpy_helper

from niudao import drafts
from niudao.cli.main import main as run_command  # noqa: TID251  it is what is measured
from niudao.errors import NiudaoError
from niudao.formats import FORMATS, files

STEP = 64 << 10
COMMAND = [sys.executable, "-m", "niudao", "convert"]


def make(path: Path, seed: int) -> None:
    """A network of five megabytes, made and saved without niudao."""
    rng = np.random.default_rng(seed)
    shapes = {"conv.w": (16, 3, 3, 3), "conv.b": (16,), "fc1.w": (256, 2560), "fc1.b": (2560,), "fc2.w": (2560, 256), "fc2.b": (256,)}
    held = [numpy_helper.from_array((rng.normal(size=s) / np.sqrt(s[0])).astype("float32"), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["image", "conv.w", "conv.b"], ["a"], name=f"conv{seed}", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MaxPool", ["b"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fc1.w", "fc1.b"], ["g"], name="fc1"),
        helper.make_node("Gemm", ["g", "fc2.w", "fc2.b"], ["scores"], name=f"fc2_{seed}"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("image", ["batch", 3, 8, 8]), ("scores", ["batch", 256]))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@dataclass
class Case:
    """One kind of target: what undisturbed runs write, and a folder to disturb others in."""

    name: str
    folder: Path
    options: list[str]
    old: dict[str, bytes] = field(default_factory=dict)
    new: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def target(self) -> Path:
        return self.folder / "out" / f"net{self.name.split('+')[0]}"

    def command(self, which: str = "new") -> list[str]:
        return [*COMMAND, str(self.folder / f"{which}.onnx"), str(self.target), *self.options]

    def reset(self) -> None:
        shutil.rmtree(self.target.parent, ignore_errors=True)
        self.target.parent.mkdir()
        for name, data in self.old.items():
            (self.target.parent / name).write_bytes(data)

    def holds(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() if p.is_file() else b"" for p in self.target.parent.iterdir()}

    def measure(self) -> None:
        for which, seed in (("old", 0), ("new", 1)):
            make(self.folder / f"{which}.onnx", seed)
            self.reset()
            start = time.monotonic()
            done = subprocess.run(self.command(which), capture_output=True, text=True)
            self.seconds = time.monotonic() - start
            if done.returncode:
                sys.exit(f"{self.name} cannot be written at all: {done.stderr}")
            getattr(self, which).update(self.holds())


@dataclass
class Tally:
    """How the runs of one fault ended."""

    case: Case
    fault: str
    count: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def judge(self, code: int, said: str, *, codes: tuple[int, ...], looked: bool = False, either: bool = False) -> None:
        """Sort one run in: its exit code, what it said on stderr, and what lies at the target now."""
        faults = []
        left = [n for n in self.case.holds() if n.startswith(drafts.TEMPORARY)]
        if looked:
            now = {n: d for n, d in self.case.holds().items() if n not in left}
            self.count["torn"] += now not in (self.case.old, self.case.new)
            _settle(self.case.target)
            left = [n for n in self.case.holds() if n.startswith(drafts.TEMPORARY)]
        held = {n: d for n, d in self.case.holds().items() if n not in left}
        state = "old" if held == self.case.old else "new" if held == self.case.new else "MIXED"
        if left:
            faults.append("temporary left")
        if state == "MIXED":
            faults.append(f"neither old nor new: {sorted(held)}")
        if code == 0 and state != "new" and not either:
            faults.append("exit 0 without the new file")
        if code not in (0, *codes):
            faults.append(f"exit {code}")
        if code > 0 and code == codes[0]:
            lines = [x for x in said.splitlines() if not x.startswith("  ") and "%" not in x]
            if len(lines) != 1 or "Traceback" in said or "bug" in said:
                faults.append(f"said {said[-300:]!r}")
        self.count["runs"] += 1
        self.count[state] += 1
        self.count[f"exit {code}"] += 1
        self.bad += faults

    def row(self) -> dict[str, Any]:
        exits = ", ".join(f"{k.removeprefix('exit ')}: {v}" for k, v in sorted(self.count.items()) if k.startswith("exit"))
        return {
            "target": self.case.name,
            "fault": self.fault,
            "runs": self.count["runs"],
            "old": self.count["old"],
            "new": self.count["new"],
            "torn_before_the_next_command": self.count["torn"],
            "mixed": self.count["MIXED"],
            "faults": len(self.bad),
            "exits": exits,
        }


def _settle(target: Path) -> None:
    """What the next command does first; the killed one's worker may need a moment to die."""
    for _ in range(100):
        with suppress(NiudaoError):
            files.open_model(target).close()
        if not any(drafts.alive(p) for p in target.parent.glob(f"{drafts.TEMPORARY}*")):
            files.open_model(target).close()
            return
        time.sleep(0.01)


class Fork:
    """The same command in a fork of this process, which has imported its libraries already: ten times as many runs in an hour."""

    def __init__(self, case: Case, prepare: Callable[[], None] | None = None) -> None:
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  read after the child's end
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(self.said.fileno(), 2)
            if prepare:
                prepare()
            os._exit(run_command(case.command()[len(COMMAND) - 1 :]))

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = 120) -> int:
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                self.kill()
                raise subprocess.TimeoutExpired("niudao", seconds)
            time.sleep(0.001)
        return code

    def text(self) -> str:
        self.said.seek(0)
        return self.said.read()


def kills(case: Case, count: int, rng: random.Random) -> Tally:
    """kill -9: at any moment of the whole command and of its work, once a draft exists, once the renames are noted (or it is ready)."""
    tally = Tally(case, "kill -9")
    case.reset()
    start = time.monotonic()
    Fork(case).wait()
    work = time.monotonic() - start
    listed = f"{drafts.TEMPORARY}*/{drafts.LIST if len(case.new) > 1 else '*'}"
    for i in range(3 * count):
        if tally.count["exit -9"] == count:
            break  # those that were done before the blow do not count
        case.reset()
        process: Any = subprocess.Popen(case.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if i % 8 == 0 else Fork(case)
        if i % 4 < 2:
            time.sleep(rng.uniform(0, case.seconds if i % 8 == 0 else work))
        else:
            pattern, longest = (f"{drafts.TEMPORARY}*", work / 4) if i % 4 == 2 else (listed, 0.003)
            while process.poll() is None and not any(case.target.parent.glob(pattern)):
                time.sleep(0.0003)
            time.sleep(rng.uniform(0, longest))
        process.kill()
        tally.judge(process.wait(), "", codes=(-signal.SIGKILL,), looked=True)
    return tally


def signals(case: Case, count: int, rng: random.Random, number: int) -> Tally:
    """Ctrl-C (to the whole group, as a terminal sends it, or to the command alone) or SIGTERM, from 50 ms on."""
    tally = Tally(case, signal.Signals(number).name)
    for i in range(count):
        case.reset()
        process = subprocess.Popen(case.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        time.sleep(rng.uniform(0.05, 0.9 * case.seconds))
        (os.killpg if i % 2 and number == signal.SIGINT else os.kill)(process.pid, number)
        said = process.communicate()[1]
        tally.judge(process.returncode, said, codes=(128 + number, -number))
    return tally


def limited(case: Case, fault: str, what: int, sizes: list[int]) -> Tally:
    """A limit on the size of a file, as of a full disk (in forks), or on the address space (the whole command)."""
    tally = Tally(case, fault)
    for size in sizes:
        case.reset()
        limit: Callable[[], None] = lambda size=size: resource.setrlimit(what, (size, size))  # type: ignore[misc]  # noqa: E731
        try:
            if what == resource.RLIMIT_FSIZE:
                fork = Fork(case, limit)
                tally.judge(fork.wait(), fork.text(), codes=(1,))
            else:
                done = subprocess.run(case.command(), capture_output=True, text=True, preexec_fn=limit, timeout=120)
                tally.judge(done.returncode, done.stderr, codes=(1,))
        except subprocess.TimeoutExpired:
            tally.bad.append(f"hung at {size}")
    return tally


def need(case: Case) -> tuple[int, int]:
    """Address space with which the command first gets as far as a sentence, and with which it first succeeds."""

    def enough(size: int, command: list[str]) -> bool:
        limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))  # noqa: E731
        return subprocess.run(command, capture_output=True, preexec_fn=limit).returncode == 0

    found = []
    for command in ([sys.executable, "-m", "niudao", "--help"], case.command()):
        low, high = 8 << 20, 8 << 30
        while high - low > 4 << 20:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle, command) else (middle, high)
        found.append(high)
    return found[0], found[1]


def full_disk(case: Case, count: int) -> Tally | None:
    """A real full disk: a tmpfs with room for the old files and k x 64 KiB; needs the right to mount one."""
    tally = Tally(case, "disk full (tmpfs)")
    room = sum(len(d) + 4096 for d in case.old.values()) + 16384
    out = case.target.parent
    script = 'mount -t tmpfs -o size=$1 none "$2" && cp "$3"/* "$2"/ && shift 3 && "$@"; code=$?; cp -a "$OUT"/. "$KEPT"/; exit $code'
    for k in range(1, count + 1):
        case.reset()
        source, kept = case.folder / "source", case.folder / "kept"
        for folder in (source, kept):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        for name, data in case.old.items():
            (source / name).write_bytes(data)
        command = ["unshare", "-rm", "sh", "-c", script, "sh", str(room + k * STEP), str(out), str(source), *case.command()]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OUT": str(out), "KEPT": str(kept)})
        if "unshare" in done.stderr or "mount" in done.stderr:
            return None
        shutil.rmtree(out)
        kept.rename(out)
        tally.judge(done.returncode, done.stderr, codes=(1,))
    return tally


def two_writers(case: Case, count: int) -> Tally:
    """Two commands at one target at once."""
    tally = Tally(case, "two writers")
    for _ in range(count):
        case.reset()
        both = [subprocess.Popen(case.command(w), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for w in ("old", "new")]
        said = [p.communicate()[1] for p in both]
        code = max(p.returncode for p in both)
        tally.judge(code, "".join(said), codes=(1,), either=True)
    return tally


def targets(case: Case) -> Tally:
    """Targets that cannot be: the old file must stay, with one sentence."""
    tally = Tally(case, "impossible targets")
    out, ending = case.target.parent, case.name.split("+")[0]
    (case.folder / "folder").mkdir(exist_ok=True)
    device = case.folder / f"device{ending}"
    if not device.is_symlink():
        device.symlink_to("/dev/null")
    for target in (
        out / "missing" / f"net{ending}",
        case.folder / "folder",
        device,
        out / f"{'x' * 260}{ending}",
        Path(f"/proc/net{ending}"),
    ):
        case.reset()
        command = [*COMMAND, str(case.folder / "new.onnx"), str(target), "--to", _format(ending), *case.options]
        done = subprocess.run(command, capture_output=True, text=True)
        tally.judge(done.returncode, done.stderr, codes=(1,))
    return tally


def _format(ending: str) -> str:
    return next(f.name for _, f in FORMATS.items() if ending in f.extensions)


def cases(wanted: list[str]) -> list[tuple[str, list[str]]]:
    """Every ending that is written, and ONNX with its weights in a file of their own. Frameworks that prove it are left out: slow."""
    endings = [e for _, f in FORMATS.items() if f.can_write for e in f.extensions if e != ".hdf5"]
    every = [(e, [] if e == ".onnx" else ["--no-proof"]) for e in endings]
    every.insert(1, (".onnx+data", ["--external-data"]))
    return [c for w in wanted for c in every if c[0] == w] if wanted else every


def disturbed(case: Case, options: argparse.Namespace, rng: random.Random) -> Iterator[Tally]:
    """Every fault in turn."""
    yield kills(case, options.kills, rng)
    yield signals(case, options.stops, rng, signal.SIGINT)
    yield signals(case, options.stops // 5, rng, signal.SIGTERM)
    yield limited(case, "disk full (file size)", resource.RLIMIT_FSIZE, [k * STEP for k in range(1, options.points + 1)])
    full = full_disk(case, options.points // 4)
    if full is not None:
        yield full
    low, high = need(case)
    steps = [low + (high - low) * k // options.limits for k in range(options.limits)]
    yield limited(case, f"memory ({low >> 20} to {high >> 20} MB)", resource.RLIMIT_AS, steps)
    yield two_writers(case, options.limits // 2)
    yield targets(case)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", default="", help="endings, separated by commas (default: all)")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--limits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it, and so would the commands
    rows, bad = [], []
    rng = random.Random(options.seed)
    for name, flags in cases([w for w in options.to.split(",") if w]):
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            case = Case(name, Path(folder), flags)
            case.measure()
            for tally in disturbed(case, options, rng):
                rows.append(tally.row())
                bad += [f"{name}, {tally.fault}: {b}" for b in tally.bad]
                sys.stderr.write(f"{tally.row()} {tally.bad}\n")
        write_csv(options.csv, rows)
    sys.stdout.write(table(rows) + "\n" + "".join(f"{b}\n" for b in bad))
    return 3 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
