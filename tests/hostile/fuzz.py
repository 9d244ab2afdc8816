"""Mutations without end: python tests/hostile/fuzz.py --runs 10000 [--format onnx] [--seed 0] [--structure] [--cuts]

Prints each fault with the seed that repeats it, and the counts; exit 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from badfile import BadFile
from judge import Judge
from mutate import mutate
from test_hostile import DAMAGE, ENDINGS, FORMATS, SHORTER, VERB, fault


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="mutations per format")
    parser.add_argument("--format", choices=(*FORMATS, "all"), default="all")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--cuts", action="store_true", help="every cut length instead of mutations")
    parser.add_argument("--structure", action="store_true", help="damage that keeps lengths and containers right")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    options = parser.parse_args()
    bad = 0
    for name, module in FORMATS.items():
        if options.format not in (name, "all"):
            continue
        data, counts = module.good(), Counter[str]()
        damage = DAMAGE[name] if options.structure else mutate
        with Judge() as judge, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"net{ENDINGS[name]}"
            for i in range(len(data)) if options.cuts else range(options.seed, options.seed + options.runs):
                damaged = data[:i] if options.cuts else damage(data, i)
                path.write_bytes(damaged)
                ending = judge.read(path, Path(folder), VERB.get(name, "read"))
                counts[ending.kind] += 1
                what = fault(
                    BadFile("", Path, verdict="refuse" if options.cuts and name not in SHORTER else "either"), ending, Path(folder)
                )
                if what is not None:
                    bad += 1
                    print(f"{name} {'cut' if options.cuts else 'seed'} {i}: {what}")
                    if options.keep:
                        options.keep.mkdir(parents=True, exist_ok=True)
                        (options.keep / f"{i}{ENDINGS[name]}").write_bytes(damaged)
        print(name, ", ".join(f"{k} {v}" for k, v in counts.most_common()))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
