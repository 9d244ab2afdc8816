"""`convert`: read, write, read back, run source and target, compare. Nothing is left behind that was not proven."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from niudao.errors import Unsupported, UsageError
from niudao.formats import files, read, target_for, write
from niudao.formats.conversion import ConvertReport, cards_of
from niudao.formats.extract import extract, set_batch
from niudao.formats.prove import Progress, prove, source_runner
from niudao.ir import card
from niudao.ir.compare import CompareReport, ModelRunner
from niudao.ir.compare import compare as compare_runners
from niudao.ir.cost import cost
from niudao.ir.passes.raising import raise_all

PathLike = str | os.PathLike[str]


def convert(
    source: PathLike | ir.Model | Any,
    target: PathLike,
    *,
    weights: PathLike | None = None,
    format: str | None = None,
    to: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    arch: str | None = None,
    example_inputs: Sequence[Any] = (),
    batch: int | str | None = None,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    dtype: str | None = None,
    proof: bool = True,
    force: bool = False,
    dry_run: bool = False,
    trust: bool = False,
    feeds: Mapping[str, Any] | None = None,
    layers: bool = False,
    samples: int = 4,
    seed: int = 0,
    rtol: float | None = None,
    progress: Progress = lambda stage: None,
    **options: Any,
) -> ConvertReport:
    """Convert a network file and prove that the result is the same network.

    Args:
        source: Path of the source, a model in memory, or a live `torch.nn.Module`.
        target: Path of the target; the ending decides the format unless `to` does.
        weights: Second file of the source.
        format: The source's format, where the content does not say.
        to: The target's format.
        shapes: Input name -> shape, for what the source leaves open.
        arch: What a state dict belongs to, as in `read`.
        example_inputs: What a live module is called with.
        batch: New first dimension of every input: a number, or "dynamic".
        inputs: Names of values or layers to start from; empty for the network's inputs.
        outputs: Names of values or layers to end with; empty for the network's outputs.
        dtype: "float16" to halve the weights.
        proof: Compare source and target before the target gets its name.
        force: Keep the target although the numbers differ.
        dry_run: Say what the target cannot express, and write nothing.
        trust: Run the source in its own framework too, and the file that `arch` names. Only for files from known hands.
        feeds: Inputs for the proof, in our layout; seeded ones from the input card otherwise.
        layers: Measure and list every layer, for a report that people look at.
        samples: Batch of the proof.
        seed: Seed of the proof's inputs.
        rtol: Largest difference allowed, relative to the largest magnitude of the output; 1e-4, for float16 5e-3.
        progress: Called with a word at each stage.
        **options: Passed to the format's writer.

    Returns:
        A report; `ok` is False where the numbers differ or a dry run found refusals.

    Raises:
        ReadError, Unsupported, WriteError, UsageError: As `read` and `write`. The target is then untouched.
    """
    entry = target_for(target, to)
    progress("reading")
    if isinstance(source, ir.Model):
        original = source
    else:
        original = read(source, weights=weights, format=format, shapes=shapes, arch=arch, trust=trust, example_inputs=example_inputs)
    model = original
    if inputs or outputs:
        model = extract(model, inputs, outputs)
    if batch is not None:
        model = set_batch(model, batch)
    if dtype not in (None, "float16", "float32"):
        raise UsageError(f"unknown --dtype {dtype!r}.", expected="float16 or float32")
    reference = model
    raised: tuple[str, ...] = ()
    if card.get_source(original).get("format") == "onnx" and entry.name != "onnx":  # exporters spell out what targets have layers for
        model = model.clone()
        raised = tuple(c for c in raise_all(model).changes if c.startswith("raised "))
    if dtype == "float16":
        from niudao.ir.passes.convert_float16 import convert_float16

        model = model.clone()
        convert_float16(model)
    origin = card.get_source(original)
    expense = cost(model)
    facts: dict[str, Any] = {
        "source": called(source),
        "target": str(target),
        "source_format": str(origin.get("format", "model")),
        "source_version": str(origin.get("version", "")),
        "target_format": entry.name,
        "layers": len({card.layer_of(n) for n in model.graph}),
        "parameters": expense.params,
        "cost": expense if layers else None,
        "card": cards_of(model),
        "classes": len(card.get_classes(model)),
        "raised": (*card.get_raised(original), *raised),
        "notes": card.get_notes(original),
    }
    progress("checking")
    refused = entry.checker()(model)
    if dry_run:
        return ConvertReport(ok=not refused, refused=tuple(refused), dry_run=True, **facts)
    if refused:
        raise Unsupported(
            entry.title, refused, where=facts["source"], next=f"niudao convert {facts['source']} {target} --dry-run lists every one"
        )
    with _Keep(Path(target)) as keep:
        progress("writing")
        written = write(model, keep.draft, format=entry.name, **options)
        comparison: CompareReport | None = None
        if proof:
            runner = source_runner(source, reference, trust=trust and not (arch or inputs or outputs or batch))
            tolerance = rtol if rtol is not None else (5e-3 if dtype == "float16" else 1e-4)
            comparison = prove(runner, model, keep.draft, entry, feeds, samples, seed, tolerance, progress, layers)
        keep.ok = comparison is None or comparison.same or force
    kept = tuple(str(Path(target).parent / Path(f).name) for f in written.files) if keep.ok else ()
    size = sum(Path(f).stat().st_size for f in kept if Path(f).is_file())
    ok = comparison is None or comparison.same
    return ConvertReport(ok=ok, files=kept, size=size, proof=comparison, rewrites=written.rewrites, **facts)


def called(source: Any) -> str:
    """What a report calls a source."""
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    return "a model in memory" if isinstance(source, ir.Model) else type(source).__name__


class _Keep:
    """A draft beside the target that gets the target's name only if `ok` was set."""

    class _Drop(Exception):
        pass

    def __init__(self, target: Path) -> None:
        self.ok = False
        self._whole = files.whole(target)

    def __enter__(self) -> _Keep:
        self.draft = self._whole.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: Any) -> bool:
        if kind is not None or self.ok:
            return bool(self._whole.__exit__(kind, value, trace))
        drop = self._Drop()
        try:
            self._whole.__exit__(self._Drop, drop, drop.__traceback__)
        except self._Drop:
            return False
        return False


def compare(
    a: PathLike | ir.Model,
    b: PathLike | ir.Model,
    feeds: Mapping[str, Any] | None = None,
    *,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    samples: int = 4,
    seed: int = 0,
    rtol: float = 1e-4,
    names: tuple[str, str] | None = None,
) -> CompareReport:
    """Are two files, or models, the same network?

    Args:
        a: Path or model; b likewise.
        feeds: Inputs in our layout (channels first); seeded ones from the input card otherwise.
        weights: Second files of `a` and `b`.
        samples: Batch of the first run; the second run takes one sample.
        seed: Seed of the inputs.
        rtol: Largest difference allowed, relative to the largest magnitude of the output.
        names: What to call the two in the report; their paths if left out.

    Returns:
        Per output the differences, and the first layer that diverges.
    """
    models = [m if isinstance(m, ir.Model) else read(m, weights=w) for m, w in zip((a, b), weights, strict=True)]
    names = names or (called(a), called(b))
    runners = [ModelRunner(m, name=f"{n} in ONNX Runtime") for m, n in zip(models, names, strict=True)]
    return compare_runners(runners[0], runners[1], feeds=feeds, samples=samples, seed=seed, rtol=rtol)
