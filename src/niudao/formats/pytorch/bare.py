"""What a checkpoint without a network says of itself: its tensors, and which architectures of the zoo they fit. torch is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from niudao.formats.pytorch.checkpoint import Checkpoint, open_checkpoint
from niudao.formats.pytorch.checkpoint.part import prefixes
from niudao.zoo.signatures import Fit, fitting

_PARTS, _LEAST = 64, 8
"""Prefixes that are tried, and the tensors that a network has at least."""


@dataclass(frozen=True)
class Bare:
    """A checkpoint, told.

    Attributes:
        version: Its container ("zip", "legacy", "safetensors").
        tensors: Name, shape and type of each tensor.
        fits: Names of the zoo that it can be read as.
        notes: One sentence each: what fits, what was unwrapped, what is shared.
    """

    version: str
    tensors: tuple[tuple[str, tuple[int, ...], str], ...]
    fits: tuple[str, ...]
    notes: tuple[str, ...]


def bare(path: Path) -> Bare:
    """Open and describe a checkpoint.

    Raises:
        ReadError: It is broken or hostile.
    """
    return describe(path, open_checkpoint(path))


def describe(path: Path, checkpoint: Checkpoint) -> Bare:
    """Describe an opened checkpoint."""
    tensors = tuple((name, t.shape, t.dtype) for name, t in checkpoint.tensors.items())
    under, found = _fitting({name: shape for name, shape, _ in tensors})
    fits = tuple(f.name for f in found if f.how != "shapes")
    notes = [_fit(f) + (f", under {under!r}" if under else "") for f in found] or ["fits no architecture of the zoo"]
    if checkpoint.wrapper:
        notes.append(f"the tensors lie under {checkpoint.wrapper!r}")
    if checkpoint.prefix:
        notes.append(f"{checkpoint.prefix!r} was taken off their names")
    if checkpoint.aliases:
        pairs = ", ".join(f"{a} = {b}" for a, b in list(checkpoint.aliases.items())[:4])
        notes.append(f"{len(checkpoint.aliases)} tensors are shared: {pairs}")
    if checkpoint.classes:
        shown = ", ".join(checkpoint.classes[:4])
        notes.append(f"a whole module was pickled; its classes ({shown}) are code that the file does not hold")
    notes += [f"also holds {other}" for other in checkpoint.others[:8]]
    return Bare(checkpoint.kind, tensors, fits, tuple(notes))


def _fitting(shapes: dict[str, tuple[int, ...]]) -> tuple[str, list[Fit]]:
    """What the tensors fit, and what stands before their names: a training program may keep the network beside other things."""
    whole = fitting(shapes)
    if any(f.how != "shapes" for f in whole):
        return "", whole
    for prefix in prefixes(shapes, _LEAST)[:_PARTS]:
        part = {n.removeprefix(prefix): shape for n, shape in shapes.items() if n.startswith(prefix)}
        found = [f for f in fitting(part) if f.how != "shapes"]
        if found:
            return prefix, found
    return "", whole


def _fit(fit: Fit) -> str:
    if fit.how == "shapes":
        return f"has the shapes of {fit.name}, under other names"
    return f"fits {fit.name}" + (f", with {fit.classes} classes" if fit.how == "classes" else "")


def suggestion(path: Path, fits: tuple[str, ...]) -> str:
    """The command that would read it."""
    beside = path.with_suffix(".py")
    if beside.is_file():
        return f"--arch {beside.name} --trust runs the network beside it"
    if fits:
        return " or ".join(f"--arch {name}" for name in fits[:4])
    return "niudao zoo list names those we know; --arch FILE.py:FACTORY --trust takes one of yours"
