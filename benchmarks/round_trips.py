"""Every Keras, ONNX, Caffe and PyTorch network we have, into each format and back: the largest relative difference.

    python benchmarks/round_trips.py [--data FOLDER] [--keras3 PYTHON] [--tfkeras PYTHON] [--match REGEX] [--targets .onnx,.prototxt]

The source's outputs come from ONNX Runtime on the network as we read it (its agreement with the saved outputs of the
real framework is another test). A written file is read back (at most 1e-5) and, where a Python is given, run in Keras 3
and in tf.keras (at most 1e-4 in the generation it names; the other one's figure is shown). Caffe files are run in real
Caffe (at most 1e-4) and in OpenCV 4.10 (shown) where `niudao oracle setup caffe` was done. A .safetensors with its source and a .pt2
are run in torch (at most 1e-4), in a process of its own.
Exit 3 if a file is over its limit or cannot be written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from judged import RealKeras, by_name, read_back, relative
from measure import data_folder, table, write_csv

import niudao as nd
from niudao.formats import oracles
from niudao.formats.caffe.opening import open_net
from niudao.formats.pytorch import native
from niudao.ir.session import prepare

READ_BACK, REAL = 1e-5, 1e-4
TARGETS = (".onnx", ".keras", ".h5", ".prototxt", ".safetensors", ".pt2")


def networks(root: Path) -> Iterator[tuple[str, Path, Path | None]]:
    """Name, file and weights of every network of these formats below the folder whose export was right."""
    for meta in sorted((root / "frameworks").glob("*/*/meta.json")):
        folder, name = meta.parent, f"{meta.parent.parent.name}/{meta.parent.name}"
        for file in ("model.h5", "model.keras"):
            if (folder / file).exists() and folder.parent.name.startswith(("keras", "tf")):
                yield f"{name} {file[6:]}", folder / file, None
        if (folder / "model.json").exists() and (folder / "weights.h5").exists():
            yield f"{name} json", folder / "model.json", folder / "weights.h5"
        if (folder / "deploy.prototxt").exists():
            yield f"{name} caffe", folder / "deploy.prototxt", folder / "model.caffemodel"
        for file in ("exported.pt2", "scripted.pt", "traced.pt"):
            if (folder / file).exists() and not folder.parent.name.startswith("pytorch-1"):
                yield f"{name} {file.partition('.')[0]}", folder / file, None
        if (folder / "model.onnx").exists() and _right(json.loads(meta.read_text()).get("onnx_check", {})):
            yield f"{name} onnx", folder / "model.onnx", None


def _right(check: Any) -> bool:
    check = check.get("model.onnx", check) if isinstance(check, dict) else {}
    diff = check.get("onnxruntime_max_abs_diff_to_output") if isinstance(check, dict) else None
    diff = max(diff.values()) if isinstance(diff, dict) and diff else diff
    return isinstance(diff, (int, float)) and diff < 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--keras3", type=Path, help="a Python with Keras 3")
    parser.add_argument("--tfkeras", type=Path, help="a Python with TensorFlow and its Keras 2")
    parser.add_argument("--match", default=".", help="only networks whose name matches")
    parser.add_argument("--targets", default=",".join(TARGETS), help="endings, with commas")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    targets = tuple(options.targets.split(","))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        judges: dict[str, RealKeras] = {}
        if options.keras3:
            judges["keras3"] = stack.enter_context(RealKeras(options.keras3, "keras"))
        if options.tfkeras:
            judges["tfkeras"] = stack.enter_context(RealKeras(options.tfkeras, "tf.keras"))
        for name, path, weights in networks(data_folder(options.data)):
            if re.search(options.match, name):
                rows += round_trips(name, path, weights, judges, folder, targets)
                for row in rows[-len(targets) :]:
                    if row["verdict"] != "same":
                        print({k: v for k, v in row.items() if v != ""}, flush=True)
    for target in targets:
        mine = [r for r in rows if r["target"] == target]
        good = [r for r in mine if r["verdict"] == "same"]
        worst = max((float(r["read_back"]) for r in good), default=0.0)
        print(f"{target}: {len(good)} of {len(mine)} the same, read back within {worst:.1e}")
    print(table([{"verdict": v, "files": sum(r["verdict"] == v for r in rows)} for v in ("same", "DIFFERENT", "refused", "error")]))
    write_csv(options.csv, rows, packages=("onnx", "onnxruntime", "torch", "numpy"), more=", ".join(j.version for j in judges.values()))
    return 0 if all(r["verdict"] == "same" for r in rows) else 3


def own_judges(path: Path) -> tuple[str, ...]:
    """The generation of Keras that a written file is for; the other one may mean something else by the same words (hard_sigmoid)."""
    if path.suffix == ".keras":
        return ("keras3",)
    import h5py

    with h5py.File(path) as file:
        version = file.attrs.get("keras_version", "2")
    return ("keras3",) if str(version).startswith("3") else ("tfkeras",)


def in_caffe(target: Path, feeds: dict[str, Any], want: list[Any], names: list[str]) -> tuple[dict[str, str], bool]:
    """The differences of a written pair in real Caffe and in OpenCV, and whether Caffe's is small enough."""
    oracle = oracles.find("caffe")
    found, good = {}, True
    for reader in ("caffe", "opencv") if oracle is not None else ():
        try:
            weights = str(target.with_suffix(".caffemodel"))
            asked = names if reader == "caffe" else _makers(target, names)
            got = oracles.run(oracle, "caffe", target, feeds, weights=weights, outputs=asked, reader=reader)
            found[reader] = f"{relative(list(got.values()), want):.1e}"
        except nd.NiudaoError as e:
            found[reader] = "fails"
            found["note"] = found.get("note", "") + f" {reader}: {e.message[:160]}"
        if reader == "caffe":
            good = found[reader] != "fails" and float(found[reader]) <= REAL
    return found, good


def _makers(path: Path, blobs: list[str]) -> list[str]:
    """The layers that make these blobs last: OpenCV knows outputs by layer."""
    made = {top: layer.name for layer in open_net(path).net.layers for top in layer.tops}
    return [made[b] for b in blobs]


def round_trips(
    name: str, path: Path, weights: Path | None, judges: dict[str, RealKeras], folder: Path, targets: tuple[str, ...] = TARGETS
) -> list[dict[str, Any]]:
    """One network into every target."""
    blank = dict.fromkeys(("read_back", "keras3", "tfkeras", "caffe", "opencv", "torch", "note"), "")
    rows: list[dict[str, Any]] = [{"network": name, "target": t, "verdict": "error", **blank} for t in targets]
    try:
        model = nd.read(path, weights=weights)
        with np.load(path.parent / "input.npz") as saved:
            free = all(v.shape is None or not isinstance(v.shape[0], int) for v in model.graph.inputs)
            source = by_name(model, {k: saved[k][: 2 if free else None] for k in saved.files})
        feeds = prepare(model, source, source=True)
        want = list(nd.run(model, feeds, optimize=False).values())
    except Exception as e:
        for row in rows:
            row["note"] = f"reading the source: {type(e).__name__}: {str(e)[:160]}"
        return rows
    for row in rows:
        target = folder / f"net{row['target']}"
        try:
            nd.write(model, target)
            diff, again = read_back(target, feeds, want)
            row["read_back"] = f"{diff:.1e}"
            same = diff <= READ_BACK
            for judge, real in judges.items():
                if row["target"] == ".h5" or (row["target"] == ".keras" and judge == "keras3"):
                    figure, error = real.difference(target, again, feeds, want, folder)
                    row[judge] = f"{figure:.1e}"
                    row["note"] += error
                    same = same and (figure <= REAL or judge not in own_judges(target))
            if row["target"] == ".prototxt":
                figures, good = in_caffe(target, by_name(again, feeds), want, [v.name or "" for v in again.graph.outputs])
                row.update(figures)
                same = same and good
            if row["target"] in (".safetensors", ".pt2"):
                figure = relative(list(native.run(target, by_name(again, feeds)).values()), want)
                row["torch"] = f"{figure:.1e}"
                same = same and figure <= REAL
            row["verdict"] = "same" if same else "DIFFERENT"
        except nd.NiudaoError as e:
            row["verdict"], row["note"] = ("refused" if e.code == "unsupported" else "error"), f"{type(e).__name__}: {e}"[:300]
        except Exception as e:
            row["note"] = f"{type(e).__name__}: {str(e)[:300]}"
        finally:
            for left in folder.glob("net.*"):
                left.unlink()
    return rows


if __name__ == "__main__":
    sys.exit(main())
