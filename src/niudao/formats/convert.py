"""`convert`: read, write, read back, run source and target, compare. Nothing is left behind that was not proven."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from niudao.errors import Refusal, Unsupported, UsageError
from niudao.formats import FORMATS, Format, files, format_for, read, write
from niudao.formats.extract import extract, set_batch
from niudao.ir import card
from niudao.ir.compare import CompareReport, ModelRunner, Runner
from niudao.ir.compare import compare as compare_runners
from niudao.ir.cost import Cost, cost
from niudao.report import Block, Column, Facts, Report, Table, Text, Verdict, figures

Progress = Callable[[str], None]
PathLike = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class ConvertReport(Report):
    """What a conversion did, and the proof.

    Attributes:
        source: Path that was read, `source_format` and `source_version` what it was.
        target: Path that was asked for; `files` what now exists, empty where nothing was kept.
        parameters: Number of trained numbers in the network.
        size: Bytes of the files written.
        proof: The comparison, or None where it was not asked for.
        rewrites: Exact rewrites that the target needed.
        refused: Nodes that the target cannot express (a dry run lists them; otherwise they are an error).
        card: Input name -> input card; classes: how many class names travel.
        cost: Layer by layer, where it was asked for.
    """

    schema: ClassVar[str] = "niudao.convert/1"
    source: str
    target: str
    source_format: str
    source_version: str
    target_format: str
    layers: int
    parameters: int
    files: tuple[str, ...] = ()
    size: int = 0
    proof: CompareReport | None = None
    rewrites: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    card: dict[str, dict[str, Any]]
    classes: int = 0
    cost: Cost | None = None
    dry_run: bool = False

    def title(self) -> str:
        return f"{Path(self.source).name} -> {Path(self.target).name}"

    def blocks(self) -> list[Block]:
        blocks: list[Block] = [self._verdict()]
        facts = [
            ("source", f"{self.source}   {self.source_format} {self.source_version}, {self.layers} layers, {self.parameters:,} parameters"),
            ("target", f"{self.target}   {self.target_format}" + (f", {self.size:,} bytes" if self.size else "")),
            *((f"input {name}", describe_card(fields)) for name, fields in self.card.items()),
        ]
        if self.classes:
            facts.append(("classes", f"{self.classes} names travel with the network"))
        blocks.append(Facts(tuple(facts)))
        if self.refused:
            columns = (
                Column("layer"),
                Column("operator"),
                Column("attribute"),
                Column("why"),
                Column("who can"),
                Column("what would help"),
            )
            rows = tuple((r.node, r.op, r.attribute, r.reason, ", ".join(r.targets) or None, r.rewrite) for r in self.refused)
            blocks.append(Table(columns, rows, title=f"What {self.target_format} cannot express"))
        if self.rewrites:
            blocks.append(Table((Column("exact rewrite"),), tuple((r,) for r in self.rewrites), title="What was rewritten", top=5))
        if self.proof is not None:
            blocks += self.proof.blocks()[1 if self.ok else 0 :]
        elif not self.dry_run and self.files:
            blocks.append(Text("No proof was asked for: nobody has compared these two files.", level="warning"))
        if self.cost is not None:
            blocks.append(cost_table(self.cost, top=0))
        blocks += [Text(n, level="note") for n in self.notes]
        if self.files:
            blocks.append(Text(f"wrote {', '.join(self.files)} ({figures.size(self.size)})"))
        return blocks

    def _verdict(self) -> Verdict:
        if self.dry_run:
            text = (
                "everything can be expressed; nothing was written (--dry-run)"
                if self.ok
                else f"{len(self.refused)} nodes cannot be expressed; nothing was written"
            )
            return Verdict(self.ok, text)
        if self.proof is None:
            return Verdict(None, f"converted to {self.target_format}, not proven")
        if self.ok:
            return Verdict(True, f"the same network, in {self.target_format}", self.proof.oracle)
        kept = "the file was kept because of --force" if self.files else "nothing written (--force keeps the file anyway)"
        return Verdict(False, f"the networks differ; {kept}", self.proof.oracle)


def describe_card(fields: Mapping[str, Any]) -> str:
    """An input card on one line."""
    words = [str(fields[k]) for k in ("shape", "layout", "order") if fields.get(k)]
    if fields.get("range"):
        low, high = fields["range"]
        words.append(f"{low:g}..{high:g}")
    words += [f"{k} {_short(fields[k])}" for k in ("scale", "mean", "std", "resize") if fields.get(k) is not None]
    missing = [k for k in ("order", "range", "scale") if fields.get(k) is None]
    if missing and fields.get("layout"):
        words.append("(not in the file: " + ", ".join(missing) + ")")
    return "  ".join(words) or "no card"


def _short(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def cost_table(expense: Cost, top: int | None) -> Table:
    """Layers with what they cost, as bars; a terminal shows `top` of them."""
    columns = (
        Column("layer"),
        Column("operator"),
        Column("output"),
        Column("parameters", "right", bar=True, share=True),
        Column("MACs", "right", bar=True, share=True),
        Column("bytes moved", "right", bar=True),
        Column("receptive field", "right"),
    )
    rows = tuple(
        (
            r.name,
            r.op,
            "x".join("?" if d is None else str(d) for d in r.output_shape),
            r.params,
            r.macs,
            r.bytes_moved,
            "x".join(str(f.size) for f in r.receptive_field) or None,
        )
        for r in expense.layers
    )
    return Table(columns, rows, title="Layers", top=top)


def cards_of(model: ir.Model) -> dict[str, dict[str, Any]]:
    """Input name -> shape and card, as plain data."""
    cards = card.get_cards(model)
    result: dict[str, dict[str, Any]] = {}
    for value in model.graph.inputs:
        name = value.name or ""
        shape = "x".join(str(d) if isinstance(d, int) else (d.value or "?") for d in value.shape) if value.shape is not None else "?"
        fields = asdict(cards[name]) if name in cards else {}
        result[name] = {"shape": shape, "dtype": str(value.dtype)} | {k: v for k, v in fields.items() if v not in (None, ())}
    return result


def convert(
    source: PathLike | ir.Model,
    target: PathLike,
    *,
    weights: PathLike | None = None,
    format: str | None = None,
    to: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
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
        source: Path of the source, or a model in memory.
        target: Path of the target; the ending decides the format unless `to` does.
        weights: Second file of the source.
        format: The source's format, where the content does not say.
        to: The target's format.
        shapes: Input name -> shape, for what the source leaves open.
        batch: New first dimension of every input: a number, or "dynamic".
        inputs: Names of values or layers to start from; empty for the network's inputs.
        outputs: Names of values or layers to end with; empty for the network's outputs.
        dtype: "float16" to halve the weights.
        proof: Compare source and target before the target gets its name.
        force: Keep the target although the numbers differ.
        dry_run: Say what the target cannot express, and write nothing.
        trust: Run the source in its own framework too. That framework reads the file itself, so only for files from known hands.
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
    entry = format_for(target, to)
    if not entry.can_write:
        raise UsageError(f"{entry.title} files are read, not written.")
    progress("reading")
    original = source if isinstance(source, ir.Model) else read(source, weights=weights, format=format, shapes=shapes)
    model = original
    if inputs or outputs:
        model = extract(model, inputs, outputs)
    if batch is not None:
        model = set_batch(model, batch)
    if dtype not in (None, "float16", "float32"):
        raise UsageError(f"unknown --dtype {dtype!r}.", expected="float16 or float32")
    reference = model
    if dtype == "float16":
        from niudao.ir.passes.convert_float16 import convert_float16

        model = model.clone()
        convert_float16(model)
    origin = card.get_source(original)
    expense = cost(model)
    facts: dict[str, Any] = {
        "source": "a model in memory" if isinstance(source, ir.Model) else str(source),
        "target": str(target),
        "source_format": str(origin.get("format", "model")),
        "source_version": str(origin.get("version", "")),
        "target_format": entry.name,
        "layers": len({card.layer_of(n) for n in model.graph}),
        "parameters": expense.params,
        "cost": expense if layers else None,
        "card": cards_of(model),
        "classes": len(card.get_classes(model)),
        "notes": tuple(card.get_json(original.metadata_props, "niudao.notes") or ()),
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
            runner = _source_runner(source, reference, trust=trust and not (inputs or outputs or batch))
            tolerance = rtol if rtol is not None else (5e-3 if dtype == "float16" else 1e-4)
            comparison = _prove(runner, model, keep.draft, entry, feeds, samples, seed, tolerance, progress, layers)
        keep.ok = comparison is None or comparison.same or force
    kept = tuple(str(Path(target).parent / Path(f).name) for f in written.files) if keep.ok else ()
    size = sum(Path(f).stat().st_size for f in kept if Path(f).is_file())
    ok = comparison is None or comparison.same
    return ConvertReport(ok=ok, files=kept, size=size, proof=comparison, rewrites=written.rewrites, **facts)


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


def _source_runner(source: PathLike | ir.Model, model: ir.Model, *, trust: bool) -> Runner:
    native = None if isinstance(source, ir.Model) or not trust else native_runner(Path(source), model)
    return native or ModelRunner(model, name="ONNX Runtime, as niudao reads the source")


def native_runner(path: Path, model: ir.Model) -> Runner | None:
    """The file in its own framework, or None where that is not installed or would misread this generation of the format."""
    from importlib import import_module

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
        result = {}
        for value, array in zip(self._model.graph.outputs, got.values(), strict=True):
            perm = card.get_layout(value)
            result[value.name or ""] = array.transpose(perm) if perm is not None and array.ndim == len(perm) else array
        return result


def _prove(
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
    progress("reading back")
    if draft.suffix == ".py":
        back = _twin(model, entry)
        target: Runner = ModelRunner(back, name=f"ONNX Runtime, on a {entry.title} archive of the same layers; the source text was not run")
    else:
        back = read(draft, format=entry.name)
        target = ModelRunner(back, name=f"ONNX Runtime, as niudao reads the {entry.title} file back")
    native = _target_native(draft, entry, back)
    progress("comparing")
    result = compare_runners(source, target, feeds=feeds, samples=samples, seed=seed, rtol=rtol, layers=layers)
    if native is None or not result.same:
        return result
    progress(f"comparing in {native.name}")
    real = compare_runners(source, native, feeds=feeds, samples=samples, seed=seed, rtol=rtol)
    return replace(real, layers=result.layers)


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
    from importlib import import_module

    native = import_module(f"{entry.package}.native")
    return _NativeRunner(native, draft, back) if native.available(draft) else None


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
    names = names or (
        "a model in memory" if isinstance(a, ir.Model) else str(a),
        "a model in memory" if isinstance(b, ir.Model) else str(b),
    )
    runners = [ModelRunner(m, name=f"{n} in ONNX Runtime") for m, n in zip(models, names, strict=True)]
    return compare_runners(runners[0], runners[1], feeds=feeds, samples=samples, seed=seed, rtol=rtol)
