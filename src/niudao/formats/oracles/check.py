"""Does an oracle still give the numbers that are known?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from niudao.errors import RunError
from niudao.formats.oracles.place import Oracle
from niudao.formats.oracles.process import Answer, answer
from niudao.formats.oracles.table import Probe, Recipe

SECONDS = 180.0


def check(oracle: Oracle, recipe: Recipe) -> str:
    """Run the tiny network of the table.

    Returns:
        What the framework says of itself.

    Raises:
        RunError: It cannot run, or gives other numbers.
    """
    probe = recipe.probe
    count = int(np.prod(probe.shape))
    x = (np.arange(count, dtype=np.float32) / 8).reshape(probe.shape)
    with tempfile.TemporaryDirectory(prefix="niudao-check-") as name:
        path = Path(name) / probe.file
        path.write_text(probe.text, encoding="utf-8")
        settings: dict[str, Any] = dict(probe.settings)
        second = recipe.worker == "caffe"
        if second:
            settings["save"] = str(path.with_suffix(".caffemodel"))
        found = answer(oracle, recipe.worker, path, {probe.input: x}, seconds=SECONDS, settings=settings)
        _compare(oracle.title, found, probe)
        if second:
            again = {"weights": settings["save"], "reader": "opencv"} | probe.settings
            _compare("OpenCV", answer(oracle, recipe.worker, path, {probe.input: x}, seconds=SECONDS, settings=again), probe)
    return found.version


def _compare(title: str, found: Answer, probe: Probe) -> None:
    if list(found.outputs) != list(probe.answers):
        raise RunError(f"{title} gives other outputs.", expected=", ".join(probe.answers), got=", ".join(found.outputs))
    for name, known in probe.answers.items():
        got = found.outputs[name].ravel()
        if got.size != len(known) or not np.allclose(got, known, rtol=1e-6, atol=1e-6):
            raise RunError(f"{title} gives other numbers for {name!r}.", expected=_few(known), got=_few(got))


def _few(values: Any) -> str:
    return " ".join(f"{float(v):g}" for v in list(values)[:6])
