"""Are two networks the same? Run both on the same inputs and say how far apart they are; if too far, from which layer on.

Nothing here knows a framework. A `Runner` is anything that takes arrays in our layout and gives arrays back.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import onnx_ir as ir

from niudao.errors import ReadError, UsageError, WriteError
from niudao.ir import diverge, noise, probe, session
from niudao.ir.difference import OutputDifference, measure
from niudao.ir.diverge import Divergence
from niudao.report import Block, Column, Facts, Plot, Report, Series, Table, Text, Verdict

Array = np.ndarray[Any, Any]


class Runner(Protocol):
    """Something that runs a network.

    Attributes:
        name: Who runs, in words that fit a sentence ("ONNX Runtime", "Keras 2.2.4").
        inputs: Input name -> type and shape in our layout; an axis of any length is None.
        model: The network as we read it, for the search of the first diverging layer; None where there is none.
    """

    name: str
    inputs: probe.Signature
    model: ir.Model | None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, in our layout."""
        ...


class ModelRunner:
    """A model in ONNX Runtime, node by node as the file has them and on one thread, so that figures repeat.

    Args:
        model: The model.
        name: Who runs, for the report.
    """

    def __init__(self, model: ir.Model, name: str = "ONNX Runtime") -> None:
        self.name = name
        self.model: ir.Model | None = model
        self.inputs: probe.Signature = probe.signature(model)
        self._model = model

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return session.run(self._model, feeds, optimize=False, threads=1)


@dataclass(frozen=True, kw_only=True)
class CompareReport(Report):
    """How far two networks are apart.

    Attributes:
        same: Every output agrees within its limit; equals `ok`.
        outputs: One entry per output, with the worst of all batches.
        batches: Batch sizes that were run.
        oracle: One sentence that names who ran.
        names: The two runners.
        seed: Seed of the inputs, None where the caller gave them.
        rtol: Largest difference allowed, relative to the largest magnitude of the output.
        first_divergence: The first layer that diverges although everything that flows into it agrees.
        noise: One sentence if the difference is rounding that grows with depth and nothing else.
        layers: Layer by layer in the source's order: how far apart the two are, as far as it was measured.
    """

    schema: ClassVar[str] = "niudao.compare/1"
    same: bool
    outputs: tuple[OutputDifference, ...]
    batches: tuple[int, ...]
    oracle: str
    names: tuple[str, str]
    seed: int | None
    rtol: float
    first_divergence: Divergence | None = None
    noise: str | None = None
    layers: tuple[diverge.LayerDifference, ...] = ()

    def title(self) -> str:
        return "the same network" if self.same else "the networks differ"

    def blocks(self) -> list[Block]:
        blocks: list[Block] = [Verdict(self.ok, self._sentence(), self.oracle)]
        columns = (
            Column("output"), Column("shape"), Column("max abs", "right"), Column("max relative", "right"), Column("limit", "right"),
            Column("cosine", "right"), Column("same top class", "right"), Column("verdict"),
        )  # fmt: skip
        rows = tuple(
            (
                o.name, "x".join(map(str, o.shape)), o.max_abs, o.max_rel, self.rtol, o.cosine,
                None if o.top1_agreement is None else f"{o.top1_agreement:.0%}", "same" if o.same else (o.reason or "DIFFERENT"),
            )
            for o in self.outputs
        )  # fmt: skip
        bad = tuple(i for i, o in enumerate(self.outputs) if not o.same)
        blocks.append(Table(columns, rows, title="Outputs", marks=bad))
        if self.first_divergence is not None:
            blocks += self.first_divergence.blocks()
        if self.noise:
            blocks.append(Text(self.noise, title="Rounding"))
        if len(self.layers) > 1:
            blocks.append(self._plot())
        runs = [("batches", ", ".join(map(str, self.batches)) or "none")]
        runs.append(("inputs", f"drawn with seed {self.seed}" if self.seed is not None else "given"))
        blocks.append(Facts((*runs, ("limit", f"{self.rtol:g} of the output's largest magnitude"))))
        return blocks + [Text(n, level="note") for n in self.notes]

    def _sentence(self) -> str:
        if self.same:
            worst = max((o.max_rel for o in self.outputs), default=0.0)
            return f"the same network: no output differs by more than {worst:.2g} of its largest value"
        if self.noise:
            return "the outputs differ by more than the limit, but only by rounding"
        first = self.first_divergence
        return f"the networks differ, first in layer {first.source_layer!r}" if first else "the networks differ"

    def _plot(self) -> Plot:
        depth = [float(x.depth) for x in self.layers]
        error = [max(x.max_rel, 1e-12) if np.isfinite(x.max_rel) else 1.0 for x in self.layers]
        band = [noise.band(x.depth) for x in self.layers]
        series = Series("difference", depth, error, tuple(x.layer for x in self.layers))
        return Plot(
            "Difference, layer by layer", (series,), "depth", "relative difference", log_y=True,
            limit=(self.rtol, "limit"), band=(depth, band, "float32 rounding"),
        )  # fmt: skip


def compare(
    a: Runner, b: Runner, feeds: Mapping[str, Array] | None = None, *, samples: int = 4, seed: int = 0, rtol: float = 1e-4, locate: bool = True
) -> CompareReport:
    """Run two networks on the same inputs.

    Args:
        a: The reference.
        b: The other.
        feeds: Arrays by the names of a's inputs, in our layout; drawn from `seed` and a's input cards where left out.
        samples: Batch of the first run; where the batch is free a second run takes one sample.
        seed: Seed of the inputs.
        rtol: Largest difference allowed, relative to the largest magnitude of the output.
        locate: Search for the first layer that diverges, where both runners have a model and the outputs differ.

    Raises:
        RunError: One of the networks cannot run on these inputs.
        UsageError: A limit below zero, no sample, or feeds that name no input.
    """
    if not (rtol >= 0 and np.isfinite(rtol)):
        raise UsageError(f"a limit of {rtol} decides nothing.", expected="a finite number, zero or more")
    notes: list[str] = []
    facts: dict[str, Any] = {
        "oracle": f"{a.name} against {b.name}." if a.name != b.name else f"Both ran in {a.name}.",
        "names": (a.name, b.name), "seed": seed if feeds is None else None, "rtol": rtol,
    }  # fmt: skip
    if feeds is None:
        given, guessed = probe.draw(_narrowed(a.inputs, b.inputs), a.model, samples=samples, seed=seed)
        notes += guessed
    else:
        given = _named(feeds, a.inputs)
    pairs, fault = _pair_inputs(a.inputs, b.inputs)
    if fault:
        return CompareReport(ok=False, same=False, outputs=(), batches=(), notes=(fault,), **facts)
    worst: dict[str, OutputDifference] = {}
    tried, kept = [], None
    for batch in _batches(given, a.inputs, b.inputs):
        here = given if batch is None else {k: v[:batch] for k, v in given.items()}
        left = a.run(here)
        right = b.run({pairs[k]: v for k, v in here.items()})
        found = [measure(name, x, y, rtol) for name, x, y in pair_outputs(left, right)]
        if len(left) != len(right):
            notes.append(f"The networks have {len(left)} and {len(right)} outputs.")
        for d in found:
            worst[d.name] = d if d.name not in worst else d.worse(worst[d.name])
        tried.append(_size(here))
        bad = not all(d.same for d in found) or len(left) != len(right)
        if kept is None or (bad and not kept[3]):
            kept = (here, left, right, bad)
    assert kept is not None  # a batch is always run
    same = bool(worst) and all(d.same for d in worst.values()) and not kept[3]
    search: diverge.Search | None = None
    sentence = None
    if not same and locate and a.model is not None and b.model is not None:
        search = diverge.locate(a.model, b.model, kept[0], pairs, rtol)
        notes += search.notes
        sentence = noise.explain(a.model, b.model, kept[0], pairs, max(d.max_rel for d in worst.values()) if worst else np.inf)
    report = CompareReport(
        ok=same, same=same, outputs=tuple(worst.values()), batches=tuple(tried), notes=tuple(dict.fromkeys(notes)),
        first_divergence=search.found if search and not sentence else None, noise=sentence, layers=search.layers if search else (), **facts,
    )  # fmt: skip
    object.__setattr__(report, "_arrays", kept[:3])  # for save_repro; no field, so that no document carries it
    return report


def _narrowed(a: probe.Signature, b: probe.Signature) -> dict[str, tuple[np.dtype[Any], probe.Dims]]:
    """a's inputs, with the inner axes that b fixes: both must be able to run on what is drawn."""
    pairs, fault = _pair_inputs(a, b)
    result = {}
    for name, (dtype, dims) in a.items():
        other = b[pairs[name]][1] if not fault else dims
        if len(other) == len(dims):
            dims = tuple(d if d is not None or i == 0 else o for i, (d, o) in enumerate(zip(dims, other, strict=True)))
        result[name] = (dtype, dims)
    return result


def _pair_inputs(a: probe.Signature, b: probe.Signature) -> tuple[dict[str, str], str]:
    """Input of a -> input of b, by name, else by position; or why there is no such pairing."""
    if len(a) != len(b):
        return {}, f"The networks take {len(a)} and {len(b)} inputs: {', '.join(a) or 'none'} against {', '.join(b) or 'none'}."
    pairs = dict(zip(a, a if set(a) == set(b) else _by_position(list(a), list(b)), strict=True))
    for x, y in pairs.items():
        (_, left), (_, right) = a[x], b[y]
        if len(left) != len(right) or any(p is not None and q is not None and p != q for p, q in zip(left[1:], right[1:], strict=True)):
            return {}, f"Input {x!r} takes {_dims(left)} in the one and {_dims(right)} (input {y!r}) in the other."
    return pairs, ""


def _by_position(a: Sequence[str], b: Sequence[str]) -> list[str]:
    """For each name of a the same name in b, the others in order."""
    rest = [n for n in b if n not in a]
    return [n if n in b else rest.pop(0) for n in a]


def _dims(dims: Sequence[int | None]) -> str:
    return "x".join("?" if d is None else str(d) for d in dims)


def pair_outputs(left: Mapping[str, Array], right: Mapping[str, Array]) -> list[tuple[str, Array, Array]]:
    """Name, a's array, b's array: by name where all names are the same, else the common names and then the order."""
    names = [n for n in left if n in right]
    rest = list(zip([n for n in left if n not in right], [n for n in right if n not in left], strict=False))
    partner = {n: n for n in names} | dict(rest)
    return [(n, left[n], right[partner[n]]) for n in left if n in partner]


def _named(feeds: Mapping[str, Array], inputs: probe.Signature) -> dict[str, Array]:
    missing = [n for n in inputs if n not in feeds]
    unknown = [n for n in feeds if n not in inputs]
    if missing or unknown:
        fault = f"no input is called {unknown[0]!r}" if unknown else f"input {missing[0]!r} is missing"
        raise UsageError(f"{fault}.", expected=", ".join(inputs), got=", ".join(map(str, feeds)) or "nothing")
    return {n: np.asarray(feeds[n]) for n in inputs}


def _batches(feeds: Mapping[str, Array], a: probe.Signature, b: probe.Signature) -> list[int | None]:
    """All of it, then one sample where both leave the batch open."""
    sizes = {v.shape[0] if v.ndim else 0 for v in feeds.values()}
    free = all(dims and dims[0] is None for _, dims in (*a.values(), *b.values()))
    return [None, 1] if free and len(sizes) == 1 and min(sizes) > 1 else [None]


def _size(feeds: Mapping[str, Array]) -> int:
    return max((v.shape[0] for v in feeds.values() if v.ndim), default=0)


def save_repro(path: str | os.PathLike[str], report: CompareReport) -> None:
    """Write what somebody else needs to see the same difference: inputs, both answers, seed, limit, versions. No pickles.

    Raises:
        WriteError: The report carries no arrays, or the file cannot be written.
    """
    arrays = getattr(report, "_arrays", None)
    if arrays is None:
        raise WriteError("this report carries no arrays: nothing was run.", where=str(path))
    feeds, left, right = arrays
    import onnx
    import onnxruntime

    facts = {
        "schema": "niudao.repro/1", "seed": report.seed, "rtol": report.rtol, "names": list(report.names), "oracle": report.oracle,
        "same": report.same, "feeds": list(feeds), "a": list(left), "b": list(right),
        "versions": {"numpy": np.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }  # fmt: skip
    members = {f"{part}_{i}": v for part, group in (("feed", feeds), ("a", left), ("b", right)) for i, v in enumerate(group.values())}
    members["facts"] = np.array(json.dumps(facts))
    draft = Path(f"{os.fspath(path)}.part")
    try:
        with open(draft, "wb") as f:
            np.savez_compressed(f, allow_pickle=False, **members)
        os.replace(draft, path)
    except (OSError, ValueError) as e:
        draft.unlink(missing_ok=True)
        raise WriteError(f"the comparison cannot be saved: {e}", where=str(path)) from e


@dataclass(frozen=True)
class Repro:
    """A saved comparison: `facts` as JSON had them, arrays by name."""

    facts: dict[str, Any]
    feeds: dict[str, Array]
    a: dict[str, Array]
    b: dict[str, Array]


def load_repro(path: str | os.PathLike[str]) -> Repro:
    """Read what `save_repro` wrote.

    Raises:
        ReadError: No such file.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            facts = json.loads(str(data["facts"]))
            groups = [{str(n): data[f"{part}_{i}"] for i, n in enumerate(facts[key])} for part, key in (("feed", "feeds"), ("a", "a"), ("b", "b"))]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
        raise ReadError(f"this is no saved comparison: {e}", where=str(path), expected="a file of `niudao compare --save`") from e
    return Repro(facts, *groups)
