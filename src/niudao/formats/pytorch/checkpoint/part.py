"""Which part of a checkpoint a network is: training programs keep it under a name of theirs, beside losses, heads and copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_DEPTH = 4


@dataclass(frozen=True)
class Part(Generic[T]):
    """The part of a checkpoint that has a network's names.

    Attributes:
        prefix: What stands before the network's names in the file, "" if nothing.
        tensors: What lies under it, by the network's names.
        rest: Names of what lies elsewhere.
        twins: Other prefixes that have as many of the network's names: a copy of it.
    """

    prefix: str
    tensors: dict[str, T]
    rest: tuple[str, ...]
    twins: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """What a person should know of what was taken and left."""
        told = []
        if self.twins:
            others = ", ".join(repr(p) for p in self.twins[:4])
            told.append(f"of several parts with the network's names the one under {self.prefix!r} was taken, not {others}")
        left = [n for n in self.rest if not n.startswith(self.twins)] if self.twins else list(self.rest)
        if left:
            told.append(f"left out as no part of the network, which lies under {self.prefix!r}: {_few(left)}")
        return told


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def part_of(held: Mapping[str, T], own: Collection[str]) -> Part[T]:
    """The part of a checkpoint that a network is.

    Args:
        held: Name -> tensor of the checkpoint.
        own: Names of the network's state dict.

    Returns:
        The whole under its own names, unless more of the network's names are found under a prefix; of equal ones the first.
    """
    names = set(own)
    found = Counter(prefix for name in held for prefix, rest in _cuts(name) if rest in names)
    best = max(found.values(), default=0)
    if found[""] == best:
        return Part("", dict(held), (), ())
    prefix, *twins = [p for p in found if found[p] == best]
    tensors = {n.removeprefix(prefix): t for n, t in held.items() if n.startswith(prefix)}
    return Part(prefix, tensors, tuple(n for n in held if not n.startswith(prefix)), tuple(twins))


def prefixes(held: Collection[str], least: int) -> list[str]:
    """Every prefix under which at least so many tensors lie, four dots deep, in the order of the file."""
    return [p for p, count in Counter(prefix for name in held for prefix, _ in _cuts(name)).items() if p and count >= least]


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """A name cut at its first dots: nothing and the whole first."""
    yield "", name
    at = -1
    for _ in range(_DEPTH):
        at = name.find(".", at + 1)
        if at < 0:
            return
        yield name[: at + 1], name[at + 1 :]
