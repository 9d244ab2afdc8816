"""Nine classic networks at full size: torch -> ONNX, Keras, Caffe, torch source and .pt2, and back to torch.

    python benchmarks/nine_nets.py [--nets resnet50_v1,vgg19] [--keras3 PYTHON]

Each network of the zoo is built in torch (seeded weights, randomised BatchNormalization statistics), counted (parameters and
multiply-adds against the published integers of `niudao zoo show`), written in each target, read back, and turned into a torch
module again. Differences are relative to the largest logit, at batch 2: "back" is the file read by us against the network as we
read it from torch, both in ONNX Runtime; "torch" the file as a torch module again against the original module, both in float64;
"real" the target's own framework against the original module in torch: Caffe 1.0 (`niudao oracle setup caffe`), Keras 3 in another
Python, torch in a process of its own, ONNX Runtime. "rounding" is the original in float32 against itself in float64: other orders
of the same sums cannot agree better. Exit code 3 above 1e-5 (back, torch), above 1e-4 (real), or where a count differs.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judged import RealKeras, relative
from measure import table, write_csv

import niudao as nd
from niudao import zoo
from niudao.formats import oracles
from niudao.formats.pytorch import native, to_module
from niudao.ir import card
from niudao.ir.cost import cost

NETS = (
    "googlenet_v1_lrn",
    "inception_v3",
    "inception_v4",
    "resnet50_v1",
    "resnet152_v2",
    "vgg19",
    "mobilenet_v1_1.0_224",
    "xception",
    "squeezenet1_0",
)
TARGETS = (".onnx", ".keras", ".prototxt", ".safetensors", ".pt2")
BATCH = 2


def back(path: Path) -> Any:
    """A written file as a model."""
    if path.suffix == ".safetensors":
        return nd.read(path, arch=str(path.with_suffix(".py")), trust=True)
    return nd.read(path)


def in_framework(path: Path, model: Any, x: np.ndarray, want: list[Any], keras: RealKeras | None, folder: Path) -> tuple[str, float | None]:
    """The target's own framework and its difference."""
    feeds = {model.graph.inputs[0].name: x}
    if path.suffix == ".prototxt":
        oracle = oracles.find("caffe")
        if oracle is None:
            return "", None
        outputs = [v.name for v in model.graph.outputs]
        got = oracles.run(oracle, "caffe", path, feeds, weights=str(path.with_suffix(".caffemodel")), outputs=outputs, seconds=900)
        return "caffe", relative(list(got.values()), want)
    if path.suffix == ".keras":
        if keras is None:
            return "", None
        difference, error = keras.difference(path, model, feeds, want, folder)
        return keras.version if not error else error[:80], difference
    if path.suffix in (".safetensors", ".pt2"):
        return "torch", relative(list(native.run(path, feeds, seconds=900).values()), want)
    return "onnxruntime", relative(list(nd.run(model, feeds, optimize=True).values()), want)


def through(name: str, keras: RealKeras | None) -> list[dict[str, object]]:
    """One network in every target."""
    entry = zoo.ARCHITECTURES[name]
    module = zoo.build(name, seed=0)
    x = np.random.default_rng(0).standard_normal((BATCH, *entry.input)).astype(np.float32)
    with torch.no_grad():
        want = [module(torch.from_numpy(x)).numpy()]
        exact = module.double()(torch.from_numpy(x).double()).numpy()
        module.float()
    start = time.perf_counter()
    model = nd.read(module, example_inputs=(torch.from_numpy(x),))
    seconds = time.perf_counter() - start
    read = list(nd.run(model, {model.graph.inputs[0].name: x}, optimize=False).values())
    rounding = f"{relative(want, [exact]):.1e}"
    counted = cost(model)
    assert counted.macs is not None
    rows = []
    for target in TARGETS:
        row: dict[str, object] = {
            "net": name,
            "target": target,
            "parameters": counted.params - entry.parameters,
            "macs": counted.macs - entry.macs,
            "rounding": rounding,
        }
        with tempfile.TemporaryDirectory() as held:
            folder = Path(held)
            path = folder / f"net{target}"
            try:
                start = time.perf_counter()
                nd.write(model, path)
                written = back(path)
                row["seconds"] = f"{seconds + time.perf_counter() - start:.1f}"
                got = nd.run(written, {written.graph.inputs[0].name: x}, optimize=False)
                row["back"] = f"{relative(list(got.values()), read):.1e}"
                again = to_module(written).double()
                with torch.no_grad():
                    row["torch"] = f"{relative([again(torch.from_numpy(x).double()).numpy()], [exact]):.1e}"
                del again, got
                row["framework"], real = in_framework(path, written, x, want, keras, folder)
                row["real"] = "" if real is None else f"{real:.1e}"
                row["lines"] = len(path.with_suffix(".py").read_text().splitlines()) if target == ".safetensors" else ""
                row["layers"] = len({card.layer_of(n) for n in written.graph})
            except nd.NiudaoError as e:
                row["error"] = e.message[:200]
        rows.append(row)
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        gc.collect()
    return rows


def bad(row: dict[str, object]) -> bool:
    """Whether a row misses a bar."""
    if row.get("error") or row["parameters"] or row["macs"]:
        return True
    limits = {"back": 1e-5, "torch": 1e-5, "real": 1e-4}
    return any(row.get(k) and not float(str(row[k])) <= limit for k, limit in limits.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--keras3", type=Path, help="a Python with Keras 3 on TensorFlow")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    torch.manual_seed(0)
    keras = RealKeras(options.keras3, "keras") if options.keras3 else None
    rows = [row for name in options.nets.split(",") for row in through(name, keras)]
    print(table(rows))
    write_csv(options.csv, rows, packages=("torch", "onnx", "onnxruntime", "numpy"))
    return 3 if any(map(bad, rows)) else 0


if __name__ == "__main__":
    sys.exit(main())
