"""The first layer in which two networks part, found by bisection over cuts of the graph.

Of the matched values that an output needs, put in topological order, the cut at place i is those up to i that something
behind i needs. Where a whole cut agrees, everything before it is cleared, for nothing else flows on, whatever a Relu or a
maximum may have hidden on the way. Where a cut differs, the fault lies at or before it. So a search that always keeps one
cut that agrees (at first none: the inputs) and a later one that differs (at first the output) ends, after ceil(log2 n) runs
in any graph, with two neighbours: one value differs although all that flows into it was seen to agree.

Single values would not do: a fault can vanish in one branch and come back in another, and "differs" is then no matter of
before and behind. Reference: `git bisect` does the same to commits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir import card
from niudao.ir.difference import Difference, aligned
from niudao.ir.match import Pair, match, side_by_side, used
from niudao.ir.session import Session, prepare

Array = np.ndarray[Any, Any]
EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Attribute:
    """One property of the two layers, as text."""

    name: str
    source: str
    target: str
    same: bool


@dataclass(frozen=True)
class Divergence:
    """The first layer that diverges.

    Attributes:
        source_layer: Its name in the source, `source_op` its operator; the target's likewise.
        attributes: Attributes and weights side by side.
        source_shape: Shape of what it computes.
        difference: Largest difference of what it computes, relative to the largest magnitude.
        limit: What counted as a difference here; smaller than for outputs, as noise grows with depth.
        agreed_before: Largest relative difference of what feeds it.
        runs: Executions of both networks that were needed.
        runs_allowed: ceil(log2 candidates) + 2.
        candidates: Matched values that could have been the one.
        verified: Everything matched that feeds it was seen to agree.
        sudden: The difference arises here; False where it has been growing from layer to layer.
    """

    source_layer: str
    target_layer: str
    source_op: str
    target_op: str
    attributes: tuple[Attribute, ...]
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    difference: float
    limit: float
    agreed_before: float
    runs: int
    runs_allowed: int
    candidates: int
    verified: bool
    sudden: bool


@dataclass(frozen=True)
class LayerError:
    """One matched value: depth (its place among the matched ones), layer, operator, relative difference, where noise would lie."""

    depth: int
    layer: str
    op: str
    error: float
    noise: float


def noise_band(depth: int) -> float:
    """Relative difference that rounding of `depth` layers explains: eps * sqrt(depth)."""
    return EPS * sqrt(max(depth, 1))


class Probe:
    """Looks at chosen values of two models that are given the same inputs, one model after the other."""

    def __init__(self, source: ir.Model, target: ir.Model, feeds: Mapping[str, Array], names: Mapping[str, str]) -> None:
        self._models = (source, target)
        self._feeds = (prepare(source, feeds), prepare(target, {names[k]: v for k, v in feeds.items()}))
        self.runs = 0

    def __call__(self, pairs: Sequence[Pair]) -> list[tuple[Array, Array]]:
        self.runs += 1
        found = []
        for model, feeds, values in zip(self._models, self._feeds, ([p.source for p in pairs], [p.target for p in pairs]), strict=True):
            names = [v.name or "" for v in values]
            with Session(model, fetch=names, optimize=False) as session:
                out = session(feeds)
            found.append([np.asarray(out[n]) for n in names])
        return list(zip(*found, strict=True))


class Graph:
    """Who comes before whom among matched values; sets of them are bits of a number."""

    def __init__(self, model: ir.Model, pairs: Sequence[Pair]) -> None:
        index = {id(p.source): i for i, p in enumerate(pairs)}
        self.ancestors = [0] * len(pairs)  # with the value itself
        self.parents = [0] * len(pairs)  # the nearest matched values
        before: dict[int, int] = {}
        near: dict[int, int] = {}
        for node in model.graph:
            all_before = just_near = 0
            for value in used(node):
                all_before |= before.get(id(value), 0)
                just_near |= near.get(id(value), 0)
            for value in node.outputs:
                i = index.get(id(value))
                before[id(value)] = all_before
                near[id(value)] = just_near
                if i is not None:
                    self.ancestors[i], self.parents[i] = all_before | 1 << i, just_near
                    before[id(value)], near[id(value)] = self.ancestors[i], 1 << i

    def cut(self, values: Sequence[int], place: int) -> list[int]:
        """Of `values` those up to `place` that a later one needs directly, and the one at `place`."""
        needed = 0
        for i in values[place + 1 :]:
            needed |= self.parents[i]
        return [i for i in values[: place + 1] if needed >> i & 1 or i == values[place]]


def bits(number: int) -> list[int]:
    """Positions of the ones."""
    found = []
    while number:
        low = number & -number
        found.append(low.bit_length() - 1)
        number ^= low
    return found


def diverge(
    source: ir.Model,
    target: ir.Model,
    feeds: Mapping[str, Array],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    differs: Mapping[str, float],
    rtol: float,
) -> tuple[Divergence | None, tuple[LayerError, ...]]:
    """The first layer that diverges, and everything that was measured on the way.

    Args:
        source: One network.
        target: The other.
        feeds: Inputs in our layout, by the source's names.
        inputs: Name of each input of the source -> name in the target; `outputs` likewise.
        differs: Source's name of each output that differs -> its relative difference.
        rtol: Limit of the comparison.

    Returns:
        None where no matched value differs, for instance because no output that differs comes from one.
    """
    pairs = match(source, target, inputs, outputs)
    graph = Graph(source, pairs)
    ends = {p.source.name: i for i, p in enumerate(pairs)}
    starts = [ends[name] for name in differs if name in ends]
    if not starts:
        return None, ()
    last = min(starts, key=lambda i: graph.ancestors[i].bit_count())
    limit = inner_limit(max(differs.values(), key=lambda x: x if x == x else np.inf), graph.ancestors[last].bit_count(), rtol)
    probe = Probe(source, target, feeds, inputs)
    measured: dict[int, Difference] = {}
    shapes: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def agree(numbers: Sequence[int]) -> bool:
        wanted = list(numbers) if last in measured else list(dict.fromkeys((*numbers, last)))  # the output comes with any run
        for i, (x, y) in zip(wanted, probe([pairs[i] for i in wanted]), strict=True):
            measured[i], shapes[i] = aligned(x, y, limit), (x.shape, y.shape)
        return all(measured[i].within(limit) for i in numbers)

    found = _search(graph, last, agree)
    if found not in measured:
        agree([found])
    series = tuple(
        LayerError(i + 1, pairs[i].layer, _op(pairs[i].source), measured[i].max_rel, noise_band(i + 1)) for i in sorted(measured)
    )
    if measured[found].within(limit):
        return None, series
    behind = [measured[i].max_rel for i in bits(graph.parents[found]) if i in measured]
    agreed = max(behind, default=0.0)
    node, other = pairs[found].source.producer(), pairs[found].target.producer()
    error = measured[found].max_rel
    n = graph.ancestors[last].bit_count()
    return (
        Divergence(
            source_layer=pairs[found].layer,
            target_layer=card.layer_of(other) if other is not None else pairs[found].target.name or "",
            source_op=_op(pairs[found].source),
            target_op=_op(pairs[found].target),
            attributes=tuple(Attribute(k, x, y, x == y) for k, x, y in side_by_side(node, other)),
            source_shape=shapes[found][0],
            target_shape=shapes[found][1],
            difference=error,
            limit=limit,
            agreed_before=agreed,
            runs=probe.runs,
            runs_allowed=allowed(n),
            candidates=n,
            verified=all(i in measured and measured[i].within(limit) for i in bits(graph.parents[found])),
            sudden=not error <= 4 * max(agreed, noise_band(1)),
        ),
        series,
    )


def allowed(n: int) -> int:
    """Runs that a search among `n` values may need: ceil(log2 n) + 2."""
    return ceil(log2(max(n, 1))) + 2


def inner_limit(error: float, depth: int, rtol: float) -> float:
    """What counts as a difference inside: half way, in decades, from rounding to the error of the output."""
    floor = max(4 * noise_band(depth), 1e-7)
    if not error < 1:
        return max(floor, rtol)
    return min(max(sqrt(error * 1e-7), floor), max(rtol, floor))


def _search(graph: Graph, last: int, agree: Callable[[Sequence[int]], bool]) -> int:
    """The value that differs although everything that flows into it agrees; `last` is known to differ."""
    values = bits(graph.ancestors[last])
    low, high = -1, len(values) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if agree(graph.cut(values, middle)):
            low = middle
        else:
            high = middle
    return values[high]


def every_layer(
    source: ir.Model,
    target: ir.Model,
    feeds: Mapping[str, Array],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    rtol: float,
    at_once: int = 64 << 20,
) -> tuple[LayerError, ...]:
    """The difference of every matched value, a few at a time: those of one run hold at most `at_once` bytes, by their shapes."""
    # a layer that makes more than it should, of which the next one cuts off the surplus, has no counterpart to compare with
    pairs = [p for p in match(source, target, inputs, outputs) if _alike(p.source, p.target)]
    probe = Probe(source, target, feeds, inputs)
    batch = max((len(v) for v in feeds.values() if v.ndim), default=1)
    series: list[LayerError] = []
    group: list[tuple[int, Pair]] = []

    def flush() -> None:
        for (i, p), (x, y) in zip(group, probe([p for _, p in group]), strict=True):
            series.append(LayerError(i + 1, p.layer, _op(p.source), aligned(x, y, rtol).max_rel, noise_band(i + 1)))
        group.clear()

    room = at_once
    for i, p in enumerate(pairs):
        size = 4 * int(np.prod([d if isinstance(d, int) else batch for d in p.source.shape or ()], dtype=np.int64))
        if group and size > room:
            flush()
            room = at_once
        group.append((i, p))
        room -= size
    if group:
        flush()
    return tuple(series)


def _alike(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values have one shape, as far as it is known."""
    if a.shape is None or b.shape is None:
        return True
    sizes = zip(a.shape, b.shape, strict=False)
    return len(a.shape) == len(b.shape) and all(x == y or not (isinstance(x, int) and isinstance(y, int)) for x, y in sizes)


def _op(value: ir.Value) -> str:
    node = value.producer()
    return "" if node is None else f"{node.domain}.{node.op_type}" if node.domain else node.op_type
