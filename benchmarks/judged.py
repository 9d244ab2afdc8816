"""Compares what niudao wrote with what it read: by reading back, and in real Keras out of process."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx_ir as ir

import niudao as nd
from niudao.ir import card

Arrays = dict[str, np.ndarray[Any, Any]]
WORKER = Path(__file__).with_name("keras_worker.py")


def relative(got: list[Any], want: list[Any]) -> float:
    """Largest absolute difference in units of each output's largest value; infinite where anything has another shape."""
    if len(got) != len(want):
        return math.inf
    worst = 0.0
    for g, w in zip(got, want, strict=True):
        a, b = np.asarray(g, "f8"), np.asarray(w, "f8")
        if a.shape != b.shape:
            return math.inf
        diff = float(np.abs(a - b).max() / (np.abs(b).max() + 1e-12)) if b.size else 0.0
        if not diff <= 1e30:
            return math.inf
        worst = max(worst, diff)
    return worst


def by_name(model: ir.Model, feeds: Mapping[str, Any]) -> Arrays:
    """Feeds under the model's own input names: equal names, else by position."""
    names = [v.name or "" for v in model.graph.inputs]
    if set(names) == set(feeds):
        return {n: feeds[n] for n in names}
    if len(names) != len(feeds):
        raise ValueError(f"{len(names)} inputs, {len(feeds)} arrays")
    return dict(zip(names, feeds.values(), strict=True))


def read_back(path: Path, feeds: Arrays, want: list[Any]) -> tuple[float, ir.Model]:
    """The difference of a written file, read by us again, and the model; feeds and wanted outputs are channels first."""
    model = nd.read(path, trust=path.suffix == ".safetensors")  # its source is ours, just written
    got = nd.run(model, by_name(model, feeds), optimize=False)
    return relative(list(got.values()), want), model


class RealKeras:
    """Keras in another Python, loaded once.

    Args:
        python: Its interpreter.
        kind: "keras" or "tf.keras".
    """

    def __init__(self, python: Path, kind: str) -> None:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [str(python), str(WORKER), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        )
        self.version = self._ask(None).get("version", "")

    def _ask(self, request: dict[str, str] | None) -> dict[str, str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        if request is not None:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("real Keras ended; is the interpreter right?")
        return dict(json.loads(line))

    def difference(self, path: Path, model: ir.Model, feeds: Arrays, want: list[Any], folder: Path) -> tuple[float, str]:
        """The difference of a written file in Keras, and its error if it has one; `model` is the same file read by us."""
        source: Arrays = {}
        for value, array in zip(model.graph.inputs, by_name(model, feeds).values(), strict=True):
            perm = card.get_layout(value)
            source[value.name or ""] = array if perm is None else array.transpose(card.invert(perm))
        np.savez(folder / "feeds.npz", **source)  # type: ignore[arg-type]
        error = self._ask({"model": str(path), "feeds": str(folder / "feeds.npz"), "out": str(folder / "out.npz")})["error"]
        if error:
            return math.inf, error
        with np.load(folder / "out.npz") as out:
            got = [out[k] for k in out.files]
        perms = [card.get_layout(v) for v in model.graph.outputs]
        if len(got) == len(perms):
            got = [g if p is None or g.ndim != len(p) else g.transpose(p) for g, p in zip(got, perms, strict=True)]
        return relative(got, want), ""

    def __enter__(self) -> RealKeras:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
