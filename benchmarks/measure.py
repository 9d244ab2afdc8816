"""What the benchmarks measure with: CPU seconds and peak memory of a process tree, and the CSV that says where a figure comes from."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Usage:
    """One run of a command.

    Attributes:
        cpu: User plus system seconds of the process and of all descendants that were waited for.
        peak: Largest sum of anonymous resident memory over the process tree, in bytes, sampled every 50 ms.
        wall: Seconds from start to end.
        code: Exit code; 124 where it ran out of time.
        output: The last 4,000 characters of what it printed.
    """

    cpu: float
    peak: int
    wall: float
    code: int
    output: str


def _tree(root: int) -> list[int]:
    """Process ids of a process and its living descendants."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                todo += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def anonymous(root: int) -> int:
    """Bytes of anonymous resident memory of a process tree now."""
    total = 0
    for pid in _tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Anonymous:"))
    return total


def measure(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, seconds: float = 900) -> Usage:
    """Run a command and measure its process tree. Memory is sampled from another thread; pass `seconds` to bound it."""
    with tempfile.TemporaryFile() as out:
        start = time.monotonic()
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=dict(env or os.environ), cwd=cwd, start_new_session=True
        )
        peak, done = [0], threading.Event()

        def sample() -> None:
            while not done.is_set():
                peak[0] = max(peak[0], anonymous(process.pid))
                if time.monotonic() - start > seconds:
                    os.killpg(process.pid, 9)
                    return
                done.wait(0.05)

        thread = threading.Thread(target=sample)
        thread.start()
        _, status, usage = os.wait4(process.pid, 0)
        done.set()
        thread.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        size = out.seek(0, 2)
        out.seek(max(0, size - 4000))
        code = 124 if wall > seconds else process.returncode
        return Usage(usage.ru_utime + usage.ru_stime, peak[0], wall, code, out.read().decode(errors="replace"))


def machine() -> str:
    """Processor, cores and memory."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB"


def versions(*packages: str) -> str:
    """Python and the packages that matter here, in one line."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def write_csv(
    path: Path, rows: Sequence[Mapping[str, Any]], *, more: str = "", packages: Sequence[str] = ("onnx", "onnxruntime", "numpy")
) -> None:
    """Write rows, each with machine, date and versions, so that a line can be quoted alone."""
    if not rows:
        raise SystemExit("nothing was measured, nothing is written")
    where = {"machine": machine(), "date": date.today().isoformat(), "versions": versions(*packages) + (f", {more}" if more else "")}
    columns = list(dict.fromkeys(k for row in rows for k in row))
    with open(path, "w", newline="") as out:
        writer = csv.DictWriter(out, [*columns, *where], lineterminator="\n")
        writer.writeheader()
        writer.writerows([{**row, **where} for row in rows])
    sys.stderr.write(f"wrote {path}\n")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as aligned columns."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [columns] + [["" if row.get(c) is None else str(row.get(c, "")) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def data_folder(given: Path | None) -> Path:
    """The folder of real network files: `--data`, else NIUDAO_TEST_DATA, else `shared/data` beside the checkout."""
    folder = given or Path(os.environ.get("NIUDAO_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "frameworks").is_dir():
        raise SystemExit(f"{folder} holds no folder `frameworks`: give --data PATH or set NIUDAO_TEST_DATA")
    return folder
