"""Which numbers of a repeated block are its parameters, what they are called, and which follow from others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from niudao.formats.pytorch.source.names import free, identifier

CHANNELS = frozenset(
    "in_channels out_channels num_features in_features out_features num_parameters num_channels groups num_groups normalized_shape "
    "input_size hidden_size embed_dim num_embeddings embedding_dim dim channels".split()
)
MISSING = object()
"""Stands for the numbers of a layer that one repeat does not have."""


@dataclass(frozen=True)
class Slot:
    """A place in a block's text that holds a number.

    Attributes:
        kind: What numbers may be one: "channels", "number" (in calls), "flag", else the argument's name.
        member: Attribute of the layer, empty in calls.
        argument: Name of the argument.
        entry: Whether the layer takes the block's first input.
    """

    kind: str
    member: str
    argument: str
    entry: bool = False


@dataclass(frozen=True)
class Parameter:
    """An argument of a block's constructor; `default` is `MISSING` where it must be given."""

    name: str
    kind: str
    default: Any
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Solution:
    """Parameters in the order of the constructor, and for each slot the text that stands there."""

    parameters: tuple[Parameter, ...]
    texts: tuple[str, ...]


def kind_of(argument: str) -> str:
    """The kind of an argument of a layer."""
    return "channels" if argument in CHANNELS or argument.endswith("_channels") else argument


def solve(slots: Sequence[Slot], rows: Sequence[Sequence[Any]], taken: set[str], last: str) -> Solution:
    """Find the parameters of a block.

    Args:
        slots: The places of numbers.
        rows: For each repeat of the block, the number in each place.
        taken: Names that no parameter may have.
        last: Attribute of the layer whose channels are the block's result, empty if there is none.
    """
    columns = [tuple(row[i] for row in rows) for i in range(len(slots))]
    texts: list[str] = [""] * len(slots)
    groups: list[tuple[str, list[Any], list[int]]] = []
    for i in sorted(range(len(slots)), key=lambda i: any(v is MISSING for v in columns[i])):
        given = [v for v in columns[i] if v is not MISSING]
        constant = all(_same(v, given[0]) for v in given)
        if constant and len(given) == len(rows):
            texts[i] = number(given[0])
            continue
        for kind, column, members in groups:
            if _joins(slots[i].kind, kind) and all(
                _same(a, b) or a is MISSING or b is MISSING for a, b in zip(columns[i], column, strict=True)
            ):
                members.append(i)
                column[:] = [a if b is MISSING else b for a, b in zip(columns[i], column, strict=True)]
                break
        else:
            if constant:
                texts[i] = number(given[0])
            else:
                groups.append((slots[i].kind, list(columns[i]), [i]))
    names = set(taken)
    found: list[Parameter] = []
    groups.sort(key=lambda g: min(g[2]))
    for kind, column, members in groups:
        text = _derived(kind, column, found)
        if text is None:
            name = free(
                _wish(
                    [slots[i] for i in members],
                    any(slots[i].member == last and slots[i].argument.startswith("out_") for i in members),
                    names,
                ),
                names,
            )
            groups_only = all(slots[i].argument == "groups" for i in members)
            found.append(Parameter(name, kind, _default("groups" if groups_only else kind, column), tuple(column)))
            text = name
        for i in members:
            texts[i] = text
    found.sort(key=lambda p: (p.default is not MISSING, p.kind not in ("channels", "number")))
    return Solution(tuple(found), tuple(texts))


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _joins(a: str, b: str) -> bool:
    return a == b or {a, b} <= {"channels", "number"}


def _derived(kind: str, column: Sequence[Any], found: Sequence[Parameter]) -> str | None:
    """A text that gives these numbers from parameters found before."""
    if any(type(v) is not int for v in column):
        return None
    for p in found:
        if any(type(v) is not int for v in p.values):
            continue
        if kind in ("channels", "number") and p.kind in ("channels", "number") and all(p.values) and all(column):
            first, other = column[0], p.values[0]
            if (
                first % other == 0
                and 1 < first // other <= 16
                and all(v == first // other * w for v, w in zip(column, p.values, strict=True))
            ):
                return f"{first // other} * {p.name}"
            if (
                other % first == 0
                and 1 < other // first <= 16
                and all(v * (other // first) == w for v, w in zip(column, p.values, strict=True))
            ):
                return f"{p.name} // {other // first}"
        if kind == "padding" and p.kind == "kernel_size" and all(v == w // 2 for v, w in zip(column, p.values, strict=True)):
            return f"{p.name} // 2"
        if kind == "padding" and p.kind == "dilation" and list(column) == list(p.values):
            return p.name
    return None


def _default(kind: str, column: Sequence[Any]) -> Any:
    if kind == "flag":
        return False
    if kind in ("channels", "number"):
        return MISSING
    value, count = Counter(column).most_common(1)[0]
    return value if 2 * count > len(column) and value is not MISSING else MISSING


def _wish(slots: Sequence[Slot], out: bool, taken: set[str]) -> str:
    first = slots[0]
    if first.kind not in ("channels", "number"):
        return first.argument if first.argument not in taken else f"{first.member}_{first.argument}".strip("_")
    if all(s.argument == "groups" for s in slots):
        return "groups" if "groups" not in taken else identifier(f"{first.member}_groups")
    entry = any(s.entry and s.argument.startswith(("in_", "num_features", "normalized_shape")) for s in slots)
    if entry and out:
        wishes = ["channels"]
    elif entry:
        wishes = ["in_channels"]
    elif out:
        wishes = ["out_channels"]
    else:
        wishes = ["channels"] if first.kind == "channels" else ["size"]
        named = next((s for s in slots if s.argument.startswith("out_")), first)
        if named.member:
            wishes.append(named.member if named.argument.startswith("out_") else f"{named.member}_{named.argument}")
    wishes.append(f"{first.member}_channels" if first.member else "size")
    return identifier(next((w for w in wishes if w not in taken), wishes[0]))


def number(value: Any) -> str:
    """A number, a flag or a tuple of them, as Python reads it."""
    if isinstance(value, tuple):
        return "(" + ", ".join(number(v) for v in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return f'float("{value}")'
    return repr(value if isinstance(value, bool) else float(value) if isinstance(value, float) else value)
