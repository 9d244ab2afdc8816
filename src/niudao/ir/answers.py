"""What a network says about pictures and arrays, as a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from niudao.errors import ReadError
from niudao.ir import card, pixels
from niudao.ir.session import Session, in_pieces, prepare
from niudao.report import Block, Column, Report, Table, Text, Verdict

BATCH = 32


@dataclass(frozen=True)
class Guess:
    """One class: its index, its name if the card has names, and the network's score for it."""

    index: int
    name: str
    score: float


@dataclass(frozen=True)
class ImageAnswer:
    """The best classes of one picture, best first."""

    file: str
    best: tuple[Guess, ...]


@dataclass(frozen=True)
class ArrayAnswer:
    """One output, in figures."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    min: float
    mean: float
    max: float

    @classmethod
    def of(cls, name: str, array: np.ndarray[Any, Any]) -> ArrayAnswer:
        """The figures of an array; all zero where it is empty."""
        numbers = array.astype(np.float64) if array.size and array.dtype.kind in "fiub" else np.zeros(1)
        return cls(name, array.shape, str(array.dtype), float(numbers.min()), float(numbers.mean()), float(numbers.max()))


@dataclass(frozen=True, kw_only=True)
class RunReport(Report):
    """Answers on pictures or arrays; `failed` are (place, reason) of pictures that could not be read."""

    schema: ClassVar[str] = "niudao.run/1"
    model: str
    images: tuple[ImageAnswer, ...] = ()
    arrays: tuple[ArrayAnswer, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    milliseconds: float
    written: str = ""

    def title(self) -> str:
        return f"run {Path(self.model).name}"

    def blocks(self) -> list[Block]:
        blocks: list[Block] = []
        if self.images:
            count = max(len(a.best) for a in self.images)
            columns = (Column("image"), *(Column(f"best {k + 1}" if count > 1 else "answer") for k in range(count)))
            rows = tuple((Path(a.file).name, *(_say(a.best[k]) if k < len(a.best) else None for k in range(count))) for a in self.images)
            blocks.append(Table(columns, rows, note=f"{self.milliseconds:.0f} ms, ONNX Runtime on CPU"))
        if self.arrays:
            columns = tuple(Column(c) for c in ("output", "shape", "type", "min", "mean", "max"))
            rows2 = tuple((a.name, "x".join(map(str, a.shape)), a.dtype, a.min, a.mean, a.max) for a in self.arrays)
            blocks.append(Table(columns, rows2, note=f"{self.milliseconds:.0f} ms, ONNX Runtime on CPU"))
        if self.failed:
            blocks.append(Verdict(None, f"{len(self.images)} of {len(self.images) + len(self.failed)} images done"))
            blocks += [Text(f"{where}: {reason}", level="warning") for where, reason in self.failed]
        if self.written:
            blocks.append(Text(f"wrote {self.written}"))
        return blocks


def _say(guess: Guess) -> str:
    return (
        f"{guess.index} {guess.name} {guess.score:.2f}"
        if guess.name and guess.name != str(guess.index)
        else f"{guess.index} {guess.score:.2f}"
    )


def classify(model: ir.Model, paths: Sequence[Path], *, top: int = 5) -> Iterator[ImageAnswer | ReadError]:
    """The best classes of each picture, in order; a picture that cannot be read yields its error instead.

    Args:
        model: A network with one image input; its first output is taken as the scores.
        paths: Pictures of any size; the input card says how they become values.
        top: How many classes.
    """
    value = model.graph.inputs[0]
    name = value.name or ""
    cards, names = card.get_cards(model), card.get_classes(model)
    how = cards.get(name, card.InputCard())
    pixels.image_shape(value)
    with Session(model) as session:
        for start in range(0, len(paths), BATCH):
            loaded: list[np.ndarray[Any, Any] | ReadError] = []
            for path in paths[start : start + BATCH]:
                try:
                    loaded.append(pixels.to_input(path, value, how))
                except ReadError as e:
                    loaded.append(e)
            arrays = [a for a in loaded if not isinstance(a, ReadError)]
            scores: Iterator[np.ndarray[Any, Any]] = iter(())
            if arrays:
                out = in_pieces(session, model, prepare(model, {name: np.concatenate(arrays)}))
                scores = iter(next(iter(out.values())).reshape(len(arrays), -1))
            for path, item in zip(paths[start : start + BATCH], loaded, strict=True):
                yield item if isinstance(item, ReadError) else ImageAnswer(str(path), _best(next(scores), names, top))


def _best(scores: np.ndarray[Any, Any], names: Sequence[str], top: int) -> tuple[Guess, ...]:
    order = np.argsort(-scores, kind="stable")[:top]
    return tuple(Guess(int(i), names[i] if i < len(names) else "", float(scores[i])) for i in order)
