"""Whose is this state dict? Digests of every architecture's parameter names and shapes, kept in `signatures.tsv`.

    python -m niudao.zoo.signatures          rewrite signatures.tsv from the architectures, which needs torch

To answer, no torch is needed and no network is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from niudao.zoo.table import ARCHITECTURES, Architecture

FILE = Path(__file__).with_name("signatures.tsv")
COUNTER = "num_batches_tracked"
"""A number of BatchNormalization that old checkpoints lack and nothing needs."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fit:
    """One architecture that a state dict may belong to.

    Attributes:
        name: The architecture.
        how: "exact" (all names and shapes), "classes" (the same but for the number of classes), "shapes" (the same shapes, as often,
            under other names).
        classes: Classes of the state dict; None for "shapes".
    """

    name: str
    how: Literal["exact", "classes", "shapes"]
    classes: int | None = None


@dataclass(frozen=True)
class Mismatch:
    """How a state dict differs from an architecture.

    Attributes:
        name: The architecture.
        missing: Names it has and the state dict lacks.
        extra: Names the state dict has besides; those for training only are left out.
        other: Name -> (shape the architecture has, shape in the state dict).
        nearest: Architectures that share most names and shapes with the state dict, best first, with the share in 0..1.
    """

    name: str
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    other: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    nearest: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        parts = [_some("lacks", self.missing), _some("has besides", self.extra)]
        shapes = [f"{name} {_text(got)} instead of {_text(expected)}" for name, (expected, got) in self.other.items()]
        return "; ".join(p for p in (*parts, _some("has", shapes)) if p) or "nothing differs"


@dataclass(frozen=True)
class Signature:
    """One row of the file: tensors, and digests of names with shapes, of the same with the classes left open, of shapes alone."""

    name: str
    tensors: int
    exact: str
    open: str
    shapes: str


def fitting(shapes: Shapes) -> list[Fit]:
    """The architectures that a state dict may belong to. Builds nothing and needs no torch.

    Args:
        shapes: Name -> shape of its tensors, wrappers' prefixes such as `module.` taken off.

    Returns:
        The best kind of fit only: exact ones if there are any, else those with another number of classes, else those with the same
        shapes under other names. Several, where variants have equal parameters (ResNet v1 and v1.5); empty where nothing fits.
    """
    found: dict[str, list[Fit]] = {"exact": [], "classes": [], "shapes": []}
    for row in _rows():
        entry = ARCHITECTURES[row.name]
        kept = _kept(shapes, entry)
        if len(kept) != row.tensors:
            continue
        classes = next(iter(kept.get(f"{entry.head}.weight", ())), None)
        if _names(kept) == row.exact:
            found["exact"].append(Fit(row.name, "exact", classes))
        elif _open(kept, entry) == row.open:
            found["classes"].append(Fit(row.name, "classes", classes))
        elif _shapes(kept) == row.shapes:
            found["shapes"].append(Fit(row.name, "shapes"))
    return found["exact"] or found["classes"] or found["shapes"]


def equal(name: str) -> tuple[str, ...]:
    """The other architectures whose state dicts have the same names and shapes: nothing in a file tells them apart."""
    own = [row.exact for row in _rows() if row.name == name]
    return tuple(row.name for row in _rows() if row.exact in own and row.name != name)


def mismatch(name: str, shapes: Shapes, *, nearest: int = 3) -> Mismatch:
    """How a state dict differs from an architecture, for people. Builds networks without memory: needs torch.

    Args:
        name: The architecture it was said to be.
        shapes: Name -> shape of its tensors.
        nearest: How many close architectures to name at most.

    Raises:
        UnknownName: No such architecture.
    """
    entry = ARCHITECTURES[name]
    kept, own = _kept(shapes, entry), state_shapes(entry, shapes)
    candidates = sorted(_rows(), key=lambda row: abs(row.tensors - len(kept)))[:8]
    shares = {row.name: _share(kept, state_shapes(ARCHITECTURES[row.name], shapes)) for row in candidates}
    best = sorted((n for n in shares if shares[n] > 0), key=lambda n: (-shares[n], n))[:nearest]
    return Mismatch(
        name=name,
        missing=tuple(k for k in own if k not in kept),
        extra=tuple(k for k in kept if k not in own),
        other={k: (own[k], kept[k]) for k in own if k in kept and own[k] != kept[k]},
        nearest=tuple((n, shares[n]) for n in best),
    )


def state_shapes(entry: Architecture, shapes: Shapes | None = None) -> dict[str, tuple[int, ...]]:
    """Name -> shape of an architecture's state dict, counters left out; with the number of classes that `shapes` has. Needs torch."""
    import torch

    shape = (shapes or {}).get(f"{entry.head}.weight") or ()
    with torch.device("meta"):
        network = entry.build(classes=shape[0] if shape else entry.classes)
    return _kept({k: tuple(v.shape) for k, v in network.state_dict().items()}, entry)


def signature(entry: Architecture) -> Signature:
    """The row of one architecture. Needs torch."""
    own = state_shapes(entry)
    return Signature(entry.name, len(own), _names(own), _open(own, entry), _shapes(own))


def text() -> str:
    """What the file should hold. Needs torch."""
    rows = [signature(entry) for _, entry in ARCHITECTURES.items()]
    return "".join(f"{r.name}\t{r.tensors}\t{r.exact}\t{r.open}\t{r.shapes}\n" for r in rows)


@cache
def _rows() -> tuple[Signature, ...]:
    rows = (line.split("\t") for line in FILE.read_text(encoding="utf-8").splitlines())
    return tuple(Signature(name, int(tensors), exact, opened, shapes) for name, tensors, exact, opened, shapes in rows)


def _kept(shapes: Shapes, entry: Architecture) -> dict[str, tuple[int, ...]]:
    """Without counters and what is for training only."""
    return {k: tuple(v) for k, v in shapes.items() if k.rpartition(".")[2] != COUNTER and not k.startswith(entry.ignored)}


def _names(shapes: Shapes) -> str:
    return _digest(f"{name} {_text(shape)}" for name, shape in shapes.items())


def _open(shapes: Shapes, entry: Architecture) -> str:
    """The same with the first dimension of the last layer left out."""
    head = (f"{entry.head}.weight", f"{entry.head}.bias")
    return _digest(f"{k} {'*' + _text(v[1:]) if k in head else _text(v)}" for k, v in shapes.items())


def _shapes(shapes: Shapes) -> str:
    return _digest(_text(shape) for shape in shapes.values())


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _share(mine: Shapes, theirs: Shapes) -> float:
    """Names with equal shapes, as a share of all names of both."""
    return len(set(mine.items()) & set(theirs.items())) / max(len(set(mine) | set(theirs)), 1)


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _some(verb: str, words: Iterable[str]) -> str:
    words = list(words)
    if not words:
        return ""
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return f"{verb} {', '.join(words[:3])}{more}"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
