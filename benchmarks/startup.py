"""What starting costs: CPU seconds of the bare interpreter, of `import niudao` and of `niudao --help`.

    python benchmarks/startup.py [--runs 15] [--csv benchmarks/startup.csv]

Also checks that neither of the two loads a heavy package; exit 3 if one does.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from measure import measure, table, write_csv

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "h5py", "PIL", "rich", "torch", "keras", "tensorflow", "google.protobuf")
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import niudao": ["-c", "import niudao"],
    "niudao --help": ["-m", "niudao", "--help"],
    "import onnx": ["-c", "import onnx"],
}
HELP = """
import io
from niudao.cli.main import main
out, sys.stdout = sys.stdout, io.StringIO()
main(["--help"])
sys.stdout = out
"""
LOADED = {"import niudao": "import niudao", "niudao --help": HELP}


def loaded(code: str) -> tuple[int, list[str]]:
    """How many modules a line of Python loads, and which heavy ones are among them."""
    asked = f"import sys\nbefore = len(sys.modules)\n{code}\nprint(len(sys.modules) - before, *(m for m in {HEAVY!r} if m in sys.modules))"
    words = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    return int(words[0]), words[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.runs):
        for name, arguments in COMMANDS.items():
            usage = measure([sys.executable, *arguments])
            if usage.code:
                sys.exit(f"`{name}` failed:\n{usage.output}")
            times[name].append(usage.cpu)
    rows, heavy = [], False
    base = statistics.median(times["python -c pass"])
    for name, values in times.items():
        modules, found = loaded(LOADED[name]) if name in LOADED else ("", [])
        heavy |= bool(found)
        median = statistics.median(values)
        rows.append(
            {
                "command": name,
                "cpu_ms": f"{1000 * median:.1f}",
                "over_python_ms": f"{1000 * (median - base):.1f}",
                "modules": modules,
                "heavy": " ".join(found),
                "runs": options.runs,
            }
        )
    print(table(rows))
    write_csv(options.csv, rows)
    return 3 if heavy else 0


if __name__ == "__main__":
    sys.exit(main())
