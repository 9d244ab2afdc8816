"""What it costs to look into a 100 MB checkpoint: `niudao inspect` against `torch.load(weights_only=True)`, each in a fresh process.

    python benchmarks/checkpoint.py [--runs 3]

The file holds 1,000 tensors, written by torch in both of its containers. The bar is 2 CPU seconds, start included. Exit code 3 above it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from measure import measure, table, write_csv

THEIRS = "import sys, torch; print(len(torch.load(sys.argv[1], weights_only=True)))"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    state = {f"layer{i // 5}.{i % 5}.weight": torch.randn(26, 1000, generator=generator) for i in range(1000)}
    rows = []
    env = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as name:
        for kind in ("zip", "legacy"):
            path = Path(name) / f"{kind}.pth"
            torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
            inspect = [sys.executable, "-m", "niudao", "inspect", str(path), "--json"]
            pairs = [(measure(inspect, env=env), measure([sys.executable, "-c", THEIRS, str(path)], env=env)) for _ in range(options.runs)]
            bad = next((u for pair in pairs for u in pair if u.code), None)
            if bad is not None:
                sys.exit(f"exit code {bad.code}:\n{bad.output}")
            ours, theirs = (statistics.median(p[i].cpu for p in pairs) for i in (0, 1))
            row = {"container": kind, "bytes": path.stat().st_size, "niudao cpu s": f"{ours:.2f}", "torch.load cpu s": f"{theirs:.2f}"}
            peaks = [max(p[i].peak for p in pairs) >> 20 for i in (0, 1)]
            rows.append(row | {"niudao MB": peaks[0], "torch.load MB": peaks[1], "ratio": f"{ours / theirs:.2f}"})
    print(table(rows))
    write_csv(options.csv, rows, packages=("torch", "numpy", "onnx"))
    return 0 if all(float(r["niudao cpu s"]) <= 2 for r in rows) else 3


if __name__ == "__main__":
    sys.exit(main())
