"""Read back what was written, run source and target, compare."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import RunError
from niudao.formats import FORMATS, Format, is_module, read, write
from niudao.formats.oracles import OverBudget
from niudao.ir import card
from niudao.ir.compare import CompareReport, ModelRunner, Runner
from niudao.ir.compare import compare as compare_runners

Progress = Callable[[str], None]
PathLike = str | os.PathLike[str]


def source_runner(source: PathLike | ir.Model | Any, model: ir.Model, *, trust: bool) -> Runner:
    """What runs the source: a live module in torch, a trusted file in its own framework, else our reading of it."""
    if is_module(source):
        runner: Runner = import_module("niudao.formats.pytorch.native").ModuleRunner(source, model)
        return runner
    native = None if isinstance(source, ir.Model) or not trust else native_runner(Path(source), model)
    return native or ModelRunner(model, name="ONNX Runtime, as niudao reads the source")


def native_runner(path: Path, model: ir.Model) -> Runner | None:
    """The file in its own framework, or None where that is not installed or would misread this generation of the format."""
    entry = FORMATS[str(card.get_source(model).get("format", "onnx"))] if card.get_source(model).get("format") in FORMATS else None
    if entry is None or not entry.oracle or entry.name == "onnx":
        return None
    native = import_module(f"{entry.package}.native")
    return _NativeRunner(native, path, model) if native.available(path) else None


class _NativeRunner:
    """Runs a file in its real framework, out of process, and gives the answers in our layout."""

    def __init__(self, native: Any, path: Path, model: ir.Model) -> None:
        self.name = str(native.available(path))
        self.model: ir.Model | None = model
        self.inputs = ModelRunner(model).inputs
        self._native, self._path, self._model = native, path, model

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        given = {}
        for value in self._model.graph.inputs:
            array, perm = feeds[value.name or ""], card.get_layout(value)
            given[value.name or ""] = array.transpose(card.invert(perm)) if perm is not None and array.ndim == len(perm) else array
        got = self._native.run(self._path, given)
        outputs = self._model.graph.outputs
        if len(got) != len(outputs):
            names = ", ".join(v.name or "" for v in outputs)
            raise RunError(f"{self.name} gives another number of outputs.", where=self._path, expected=names, got=", ".join(got))
        result = {}
        for value, array in zip(outputs, got.values(), strict=True):
            perm = card.get_layout(value)
            result[value.name or ""] = array.transpose(perm) if perm is not None and array.ndim == len(perm) else array
        return result


def prove(
    source: Runner,
    model: ir.Model,
    draft: Path,
    entry: Format,
    feeds: Mapping[str, Any] | None,
    samples: int,
    seed: int,
    rtol: float,
    progress: Progress,
    layers: bool,
) -> CompareReport:
    """Compare a source with what was written of it.

    The file is read back and run by us; where that agrees, and the target's own framework is here (installed, or as an oracle), the
    framework runs the file too and its word is the report's.

    Args:
        source: Runs the source.
        model: What was written.
        draft: The file that was written.
        entry: Its format.
        feeds: Inputs, in our layout; seeded ones if None.
        samples: Batch of the proof.
        seed: Seed of the inputs.
        rtol: Largest difference allowed.
        progress: Called with a word at each stage.
        layers: Measure every layer.

    Returns:
        The framework's comparison, else that of the file read back. A framework that lacked time or memory has said nothing about the
        file: then the read-back remains the proof, and a note says so.

    Raises:
        RunError: The framework refuses the file, or dies on it: then the conversion is no good, whatever we read in it.
    """
    progress("reading back")
    back, what = _read_back(model, draft, entry)
    target: Runner = ModelRunner(back, name=f"ONNX Runtime, {what}")
    native = _target_native(draft, entry, back)
    progress("comparing")
    result = compare_runners(source, target, feeds=feeds, samples=samples, seed=seed, rtol=rtol, layers=layers)
    if native is None or not result.same:
        return result
    progress(f"comparing in {native.name}")
    try:
        real = compare_runners(source, native, feeds=feeds, samples=samples, seed=seed, rtol=rtol)
    except OverBudget as e:
        said = f"{native.name} could not judge the file: {e.message} The file read back is the proof."
        return replace(result, notes=(*result.notes, said))
    return replace(real, layers=result.layers)


def _read_back(model: ir.Model, draft: Path, entry: Format) -> tuple[ir.Model, str]:
    """What we read in a file of ours, and how."""
    if entry.name == "pytorch" and draft.suffix.lower() != ".pt2":  # source that this process wrote is no stranger's
        source = draft if draft.suffix.lower() == ".py" else draft.with_suffix(".py")
        return read(draft, format=entry.name, arch=str(source), trust=True), "as niudao reads what the source builds"
    if draft.suffix.lower() == ".py":
        return _twin(model, entry), f"on a {entry.title} archive of the same layers; the source text was not run"
    return read(draft, format=entry.name), f"as niudao reads the {entry.title} file back"


def _twin(model: ir.Model, entry: Format) -> ir.Model:
    """Source text cannot be read back: the same layers in the format's own container, with every weight loaded."""
    with tempfile.TemporaryDirectory(prefix="niudao-") as folder:
        path = Path(folder) / f"twin{entry.extensions[0]}"
        write(model, path, format=entry.name)
        back = read(path)
        for value in back.graph.initializers.values():
            if value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)
    return back


def _target_native(draft: Path, entry: Format, back: ir.Model) -> Runner | None:
    if not entry.oracle or entry.name == "onnx":
        return None
    native = import_module(f"{entry.package}.native")
    return _NativeRunner(native, draft, back) if native.available(draft) else None
