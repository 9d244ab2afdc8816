"""Are two networks the same? Run both on the same inputs; if not, find the first layer that diverges.

    runner.py       what can be compared
    comparison.py   the answer, and how it is told
    difference.py   how far two arrays are apart
    probe.py        inputs from a seed and the input card
    match.py        which value of one network is which of the other
    diverge.py      bisection over the graph
    noise.py        the same in float64
    repro.py        a failing comparison in a file

Nothing here knows a framework: a network is a `Runner`, be it a model in ONNX Runtime or a file in its own framework.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import RunError, UsageError
from niudao.ir import card, diverge, noise, probe, repro
from niudao.ir.comparison import RTOL, CompareReport, OutputDifference
from niudao.ir.difference import Difference, difference, log_probabilities, top1_agreement
from niudao.ir.diverge import Divergence
from niudao.ir.probe import Dim
from niudao.ir.repro import Repro, load_repro
from niudao.ir.runner import ModelRunner, Runner

__all__ = ["CompareReport", "Divergence", "ModelRunner", "OutputDifference", "Repro", "Runner", "compare", "load_repro", "save_repro"]

Array = np.ndarray[Any, Any]


def compare(
    a: Runner,
    b: Runner,
    feeds: Mapping[str, Any] | Any | None = None,
    *,
    samples: int = 4,
    seed: int = 0,
    rtol: float = RTOL,
    layers: bool = False,
) -> CompareReport:
    """Run two networks on the same inputs and compare every output.

    Args:
        a: The source; the one that is asked what inputs are like.
        b: The target.
        feeds: Inputs in our layout by the source's names (or one bare array); drawn from the input card if left out.
        samples: Batch of the first run; a second run takes one sample. Where a file fixes the batch, that one is run.
        seed: Seed of drawn inputs.
        rtol: Largest difference allowed, relative to the largest magnitude of the output.
        layers: Measure every matched layer, not only those that the search for a fault looks at.

    Returns:
        The report. Different inputs, outputs, shapes or types are a "no", not an error.

    Raises:
        RunError: One of the networks cannot be run on inputs of the shape it declares, or given inputs do not fit.
        UsageError: `samples` or `rtol` make no sense.
    """
    if samples < 1 or not 0 <= rtol < float("inf"):
        raise UsageError("a comparison needs at least one sample and a limit that is a number.", got=f"samples {samples}, rtol {rtol}")
    oracle = f"{a.name} against {b.name}." if a.name != b.name else f"Both ran in {a.name}."
    facts: dict[str, Any] = {"source": a.name, "target": b.name, "oracle": oracle, "rtol": rtol}
    inputs = paired(list(a.inputs), list(b.inputs))
    fault = _inputs_differ(a, b, inputs)
    if fault:
        return CompareReport(ok=False, same=False, reason=fault, seed=seed if feeds is None else None, **facts)
    notes: list[str] = []
    batches = _given(a, b, feeds) if feeds is not None else _drawn(a, b, inputs, samples, seed, notes)
    ours = _run(a, batches)
    theirs = _run(b, [{inputs[k]: v for k, v in feed.items()} for feed in batches])
    outputs = paired(list(ours[0]), list(theirs[0]))
    softmax = _softmaxes(a.model) | {k for k, v in outputs.items() if v in _softmaxes(b.model)}
    found = _judge(ours, theirs, outputs, softmax, batches, rtol)
    order = _classes_differ(a.model, b.model)
    notes += [order] if order else []
    same = bool(found) and all(o.same for o in found) and not order
    report = CompareReport(
        ok=same,
        same=same,
        outputs=tuple(found),
        batches=tuple(_batch(f) for f in batches),
        seed=seed if feeds is None else None,
        notes=tuple(notes),
        **facts,
    )
    if not same:
        at = next(
            (
                k
                for k in range(len(batches))
                if any(not o.same for o in _judge(ours[k : k + 1], theirs[k : k + 1], outputs, softmax, batches[k : k + 1], rtol))
            ),
            0,
        )
        kept = repro.pack(batches[at], ours[at], theirs[at], seed, rtol, report.oracle)
        report = _explain(replace(report, evidence=kept), a, b, batches[at], inputs, outputs)
    if layers and a.model is not None and b.model is not None:
        feed = _fit(batches[0], a, b)
        report = replace(report, layers=diverge.every_layer(a.model, b.model, feed, inputs, outputs, rtol))
    return report


def paired(ours: list[str], theirs: list[str]) -> dict[str, str]:
    """Each of our names -> its partner: of the same name, else of the same place among those without one."""
    result = {n: n for n in ours if n in theirs}
    left_ours, left_theirs = [n for n in ours if n not in result], [n for n in theirs if n not in result]
    result |= dict(zip(left_ours, left_theirs, strict=False))
    return {n: result[n] for n in ours if n in result}


def _inputs_differ(a: Runner, b: Runner, inputs: Mapping[str, str]) -> str:
    if len(a.inputs) != len(b.inputs):
        return (
            f"the networks take different inputs: {len(a.inputs)} ({', '.join(a.inputs)}) against {len(b.inputs)} ({', '.join(b.inputs)})."
        )
    for name, other in inputs.items():
        (kind_a, shape_a), (kind_b, shape_b) = a.inputs[name], b.inputs[other]
        fixed = any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(shape_a[1:], shape_b[1:], strict=False))
        if fixed or (len(shape_a) != len(shape_b) and shape_a != (None,) != shape_b):
            return f"the networks take different inputs: {name!r} is {_say(shape_a)} against {_say(shape_b)}."
        if (kind_a.kind in "OSU") != (kind_b.kind in "OSU"):
            return f"the networks take different inputs: {name!r} holds {kind_a} against {kind_b}."
    return ""


def _say(shape: tuple[Dim, ...]) -> str:
    return "x".join("?" if d is None else str(d) for d in shape) or "scalar"


def _fixed(a: Runner, b: Runner) -> int | None:
    """The batch that one of the two insists on, None where both are free."""
    found = [shape[0] for runner in (a, b) for _, shape in runner.inputs.values() if shape and isinstance(shape[0], int)]
    return min(found) if found else None


def _drawn(a: Runner, b: Runner, inputs: Mapping[str, str], samples: int, seed: int, notes: list[str]) -> list[dict[str, Array]]:
    shapes: dict[str, tuple[np.dtype[Any], tuple[Dim, ...]]] = {}
    for name, other in inputs.items():
        kind, shape = a.inputs[name]
        theirs = b.inputs[other][1]
        if len(shape) == len(theirs):
            shape = tuple(x if isinstance(x, int) or not isinstance(y, int) else y for x, y in zip(shape, theirs, strict=True))
        shapes[name] = (kind, shape)
    back = {v: k for k, v in inputs.items()}
    cards: dict[str, card.InputCard] = {}
    bounds: dict[str, int] = {}
    for model, names in ((b.model, back), (a.model, dict(zip(inputs, inputs, strict=True)))):
        if model is not None:
            cards |= {names[k]: v for k, v in card.get_cards(model).items() if k in names}
            for k, v in probe.vocabulary(model).items():
                if k in names:
                    bounds[names[k]] = min(v, bounds.get(names[k], v))
    fixed = _fixed(a, b)
    if fixed is not None:
        who = {r.name for r in (a, b) for _, s in r.inputs.values() if s and isinstance(s[0], int)}
        if len(who) == 1 and a.name != b.name:
            notes.append(f"Only {next(iter(who))} fixes the batch, to {fixed}.")
    generator = np.random.default_rng(seed)
    result = []
    for batch in dict.fromkeys((samples, 1) if fixed is None else (fixed,)):
        drawn, said = probe.draw(shapes, cards, bounds, batch, generator)
        result.append(drawn)
        notes += [n for n in said if n not in notes]
    return result


def _given(a: Runner, b: Runner, feeds: Mapping[str, Any] | Any) -> list[dict[str, Array]]:
    if not isinstance(feeds, Mapping):
        if len(a.inputs) != 1:
            raise RunError(f"the network has {len(a.inputs)} inputs: give a mapping.", expected=", ".join(a.inputs))
        feeds = {next(iter(a.inputs)): feeds}
    if set(feeds) != set(a.inputs):
        raise RunError("the inputs given are not those of the network.", expected=", ".join(a.inputs), got=", ".join(map(str, feeds)))
    first = {k: np.asarray(feeds[k]).astype(a.inputs[k][0], copy=False) for k in a.inputs}
    if _fixed(a, b) is None and _batch(first) > 1:
        return [first, {k: v[:1] for k, v in first.items()}]
    return [first]


def _batch(feed: Mapping[str, Array]) -> int:
    sizes = {v.shape[0] for v in feed.values() if v.ndim}
    return sizes.pop() if len(sizes) == 1 else 1


def _run(runner: Runner, batches: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """All batches, then the memory is given back: the two networks are never in it together."""
    try:
        return [{k: np.asarray(v) for k, v in runner.run(feed).items()} for feed in batches]
    finally:
        close = getattr(runner, "close", None)
        if close is not None:
            close()


def _softmaxes(model: ir.Model | None) -> set[str]:
    """Outputs that a softmax makes, also through nodes that only reshape."""
    found = set()
    for value in model.graph.outputs if model is not None else ():
        node = value.producer()
        while node is not None and node.op_type in ("Identity", "Reshape", "Flatten", "Squeeze", "Transpose", "Cast") and node.inputs:
            node = node.inputs[0].producer() if node.inputs[0] is not None else None
        if node is not None and node.op_type == "Softmax":
            found.add(value.name or "")
    return found


def _judge(
    ours: list[dict[str, Array]],
    theirs: list[dict[str, Array]],
    outputs: Mapping[str, str],
    softmax: set[str],
    batches: list[dict[str, Array]],
    rtol: float,
) -> list[OutputDifference]:
    """Every output by its worst batch, then the logarithms of every softmax, then outputs without a partner."""
    found = []
    for name, other in outputs.items():
        rows = [_row(name, other, x[name], y[other], rtol, _batch(f)) for x, y, f in zip(ours, theirs, batches, strict=True)]
        found.append(_worst(rows))
        if name in softmax and all(
            x[name].shape == y[other].shape and x[name].dtype.kind == "f" for x, y in zip(ours, theirs, strict=True)
        ):
            rows = [
                _row(f"log {name}", other, log_probabilities(x[name]), log_probabilities(y[other]), rtol, _batch(f))
                for x, y, f in zip(ours, theirs, batches, strict=True)
            ]
            found.append(replace(_worst(rows), top1_agreement=None))
    nowhere = float("inf")
    for side, names in (
        ("source", [n for n in ours[0] if n not in outputs]),
        ("target", [n for n in theirs[0] if n not in outputs.values()]),
    ):
        for name in names:
            shape = (ours if side == "source" else theirs)[0][name].shape
            reason = f"only the {side} has it"
            found.append(
                OutputDifference(name, name if side == "target" else "", shape, nowhere, nowhere, float("nan"), None, 0.0, False, reason)
            )
    return found


def _row(name: str, other: str, x: Array, y: Array, rtol: float, batch: int) -> OutputDifference:
    d: Difference = difference(x, y)
    return OutputDifference(
        name, other, x.shape, d.max_abs, d.max_rel, d.cosine, top1_agreement(x, y), rtol * d.scale, d.within(rtol), d.reason, batch
    )


def _worst(rows: list[OutputDifference]) -> OutputDifference:
    def badness(row: OutputDifference) -> tuple[bool, float]:
        return not row.same, row.max_rel if row.max_rel == row.max_rel else float("inf")

    return max(rows, key=badness)


def _classes_differ(a: ir.Model | None, b: ir.Model | None) -> str:
    """A sentence where the same names come in another order: the same index would then mean something else."""
    if a is None or b is None:
        return ""
    ours, theirs = card.get_classes(a), card.get_classes(b)
    if not ours or not theirs or ours == theirs or sorted(ours) != sorted(theirs):
        return ""
    i = next(i for i, (x, y) in enumerate(zip(ours, theirs, strict=True)) if x != y)
    return f"The class names come in another order: number {i} is {ours[i]!r} in the source and {theirs[i]!r} in the target."


def _fit(feed: Mapping[str, Array], a: Runner, b: Runner) -> dict[str, Array]:
    """One piece of a batch, where a file fixes the batch."""
    fixed = _fixed(a, b)
    if fixed is None or _batch(feed) <= fixed:
        return dict(feed)
    return {k: v[:fixed] for k, v in feed.items()}


def _explain(
    report: CompareReport, a: Runner, b: Runner, feed: Mapping[str, Array], inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> CompareReport:
    """Add where a difference comes from: rounding, or a layer."""
    differs = {o.name: o.max_rel for o in report.outputs if not o.same and o.target_name and not o.name.startswith("log ")}
    for o in report.outputs:
        if not o.same and o.name.startswith("log ") and o.name[4:] in outputs:
            differs.setdefault(o.name[4:], o.max_rel)
    if a.model is None or b.model is None or not differs:
        return report
    feed = _fit(feed, a, b)
    shaky = all(not o.reason and o.max_rel <= max(1e-2, 10 * report.rtol) for o in report.outputs if not o.same)
    if shaky and isinstance(a, ModelRunner) and isinstance(b, ModelRunner):
        plain = {o.name: o.max_rel for o in report.outputs if o.name in differs}
        sentence = noise.explain(a.model, b.model, feed, inputs, outputs, plain)
        if sentence is not None:
            return replace(report, noise=sentence)
    try:
        found, layers = diverge.diverge(a.model, b.model, feed, inputs, outputs, differs, report.rtol)
    except RunError as e:
        return replace(report, notes=(*report.notes, f"The first layer that diverges was not looked for: {e.message}"))
    if found is None and layers:
        sentence = "As niudao reads the two files they agree: what differs is how " + " and ".join(
            r.name for r in (a, b) if not isinstance(r, ModelRunner)
        )
        return replace(
            report,
            layers=layers,
            notes=(
                *report.notes,
                sentence + " runs them."
                if not isinstance(a, ModelRunner) or not isinstance(b, ModelRunner)
                else "No layer inside differs by more than rounding.",
            ),
        )
    return replace(report, first_divergence=found, layers=layers)


def save_repro(
    path: str | os.PathLike[str],
    report: CompareReport,
    feeds: Mapping[str, Array] | None = None,
    outputs: tuple[Mapping[str, Array], Mapping[str, Array]] | None = None,
) -> Path:
    """Keep a comparison, so that somebody else can run it: inputs, both answers, seed, limit and versions, without pickles.

    Args:
        path: An .npz file.
        report: The comparison; one that failed holds its own inputs and outputs.
        feeds: Inputs instead of those in the report.
        outputs: The source's and the target's outputs instead of those in the report.

    Raises:
        UsageError: The report holds no inputs, as the networks were the same, and none are given.
        WriteError: The file cannot be written.
    """
    if feeds is not None and outputs is not None:
        data = repro.pack(feeds, outputs[0], outputs[1], report.seed or 0, report.rtol, report.oracle)
    elif report.evidence:
        data = report.evidence
    else:
        raise UsageError("this comparison keeps no inputs: the networks were the same.", next="give feeds and outputs")
    return repro.write(path, data)
