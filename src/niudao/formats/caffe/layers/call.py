"""One layer being read: its settings, its blobs, the graph under construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any
from zlib import crc32

import numpy as np
import onnx_ir as ir

from niudao.errors import InvalidModel, Refusal, Unsupported, Where
from niudao.formats.caffe.net import Array, Blob, Layer
from niudao.formats.protobuf.message import Message
from niudao.ir.build import Builder
from niudao.ir.wire import BIG
from niudao.report.escape import visible

HIGHEST = 1 << 31

SCALE_NAME = "niudao.scale_layer"
"""Metadata of a BatchNormalization: the name of the Scale layer that it holds."""
LARGEST = 1 << 28
"""Numbers that one value may hold."""


class FixedBatch(Exception):
    """The layer means something only for the batch that the file states; the network is then read with that batch."""


@dataclass
class Call:
    """What a layer's function is given.

    Attributes:
        b: The graph under construction; `b.layer` is already set.
        layer: The layer.
        blobs: Its stored parameters; empty where there is no weights file.
        weightless: There is no weights file: `weight` then makes random numbers of a fixed seed.
        scale: The call of the Scale layer behind this BatchNorm that nothing else takes: both become one BatchNormalization.
        file: For messages.
    """

    b: Builder
    layer: Layer
    blobs: tuple[Blob, ...] = ()
    weightless: bool = False
    scale: Call | None = None
    file: str = ""
    used: set[int] = field(default_factory=set)

    # settings

    def param(self, name: str) -> Message:
        """A sub-message of the layer ("convolution_param"); empty, with its defaults, where the file has none."""
        return self.layer.message.sub(name)

    def where(self, attribute: str | None = None) -> Where:
        """The place to name in an error."""
        return Where(file=self.file, line=self.layer.line or None, node=self.layer.name, attribute=attribute)

    def bad(self, key: str, expected: str, got: Any) -> InvalidModel:
        """The error for a setting that Caffe would refuse too."""
        return InvalidModel(
            f"layer {self.layer.name!r} ({self.layer.type}) has an unusable {key}.",
            where=self.where(key),
            expected=expected,
            got=str(got)[:80],
        )

    def refuse(self, reason: str, *, attribute: str | None = None, rewrite: str | None = None) -> Unsupported:
        """The error for what Caffe can and we cannot."""
        return Unsupported(
            "niudao's Caffe reader",
            [Refusal(visible(self.layer.name[:120]), self.layer.type, reason, attribute, rewrite=rewrite)],
            where=self.where(),
        )

    def integer(self, part: Message, key: str, low: int = 1, high: int = HIGHEST, default: int | None = None) -> int:
        """A whole number of a sub-message, within bounds.

        Raises:
            InvalidModel: It is missing without a default, or outside.
        """
        if not part.has(key) and default is not None:
            return default
        value = part.get(key)
        if not part.has(key) and not low <= int(value or 0) < high:
            raise self.bad(key, f"a number from {low} on", "nothing")
        if not low <= value < high:
            raise self.bad(key, f"a number from {low} on" if value < low else f"a number below {high}", value)
        return int(value)

    def pair(self, part: Message, name: str, short: str, default: int | None, low: int = 1) -> tuple[int, int]:
        """(height, width) of a spatial setting: `kernel_h` and `kernel_w`, or `kernel_size` with one value for both or one for each.

        Args:
            part: The sub-message.
            name: The long name ("kernel_size", "stride", "pad", "dilation").
            short: What `_h` and `_w` hang on ("kernel"), or "".
            default: Value where nothing is said, None if something must be.
            low: Smallest value.
        """
        found = [int(v) for v in part.all(name)]
        if short and (part.has(f"{short}_h") or part.has(f"{short}_w")):
            if found:
                raise self.bad(name, f"{name} or {short}_h and {short}_w, not both", found)
            found = [self.integer(part, f"{short}_{a}", low, default=default) for a in "hw"]
        if not found:
            if default is None:
                raise self.bad(name, "a size", "nothing")
            found = [default]
        if len(found) > 2 or any(not low <= v < HIGHEST for v in found):
            raise self.bad(name, f"one or two numbers from {low} on", found)
        return found[0], found[-1]

    def axis(self, value: int, rank: int, key: str = "axis", extra: int = 0) -> int:
        """A canonical axis; negative ones count from the end (`extra` = 1: from behind the end).

        Raises:
            InvalidModel: There is no such axis.
        """
        if not -rank - extra <= value < rank + extra:
            raise self.bad(key, f"-{rank + extra} to {rank + extra - 1}", value)
        return value + rank + extra if value < 0 else value

    def bounded(self, shape: Sequence[int | None], key: str) -> None:
        """Refuse a setting that would make an output of more than `LARGEST` numbers per item of a free batch.

        Raises:
            InvalidModel: It would.
        """
        count = prod(max(d, 1) for d in shape if d is not None)
        if count > LARGEST:
            raise self.bad(key, f"an output of at most {LARGEST} numbers", f"{count} numbers")

    # inputs

    def dims(self, x: ir.Value) -> list[int | None]:
        """Shape of an input, None for a free batch.

        Raises:
            InvalidModel: The value has no shape.
        """
        if x.shape is None:
            raise InvalidModel(f"the shape of {x.name!r} is unknown.", where=self.where())
        return [d if isinstance(d, int) else None for d in x.shape]

    def sizes(self, x: ir.Value, first: int = 1) -> list[int]:
        """Sizes of an input from axis `first` on.

        Raises:
            FixedBatch: One of them is the free batch.
            InvalidModel: One of them is unknown.
        """
        dims = self.dims(x)
        if first == 0 and dims and dims[0] is None:
            raise FixedBatch
        if any(d is None for d in dims[first:]):
            raise InvalidModel(
                f"layer {self.layer.name!r} ({self.layer.type}) needs the size of its input.",
                where=self.where(),
                got=str(x.shape),
                next="name it with --shape, batch first",
            )
        return [d for d in dims[first:] if d is not None]

    def rank(self, x: ir.Value, *allowed: int) -> int:
        """Number of axes of an input.

        Raises:
            InvalidModel: The layer does not take so many.
        """
        n = len(self.dims(x))
        if allowed and n not in allowed:
            raise self.bad("input", f"{' or '.join(map(str, allowed))} axes", f"{n} axes")
        return n

    # parameters

    def expect(self, *counts: int) -> int:
        """How many blobs the layer has; without a weights file, the first of `counts`.

        Raises:
            InvalidModel: Another number of blobs is stored.
        """
        if self.weightless:
            return counts[0]
        if len(self.blobs) not in counts:
            raise InvalidModel(
                f"layer {self.layer.name!r} ({self.layer.type}) has {len(self.blobs)} stored blobs.",
                where=self.where(),
                expected=" or ".join(map(str, counts)),
                got=str(len(self.blobs)),
                next=None if self.blobs else "is this the weights file of this network? layers are matched by name",
            )
        return len(self.blobs)

    def weight(self, index: int, shape: Sequence[int], role: str, *, fill: float | None = None) -> ir.Value:
        """An initializer called `<layer>/<role>` from blob `index`, in `shape`, mapped from the file where it is big.

        Args:
            index: Number of the blob.
            shape: The shape that the settings ask for; the stored numbers must be as many. Files before 2014 fill shapes up with
                leading ones, so that only the count can be compared there.
            role: "weight", "bias", "mean", "variance", "scale", ...
            fill: Where there is no weights file: this number; None for random numbers (He's scale).

        Raises:
            InvalidModel: There is no such blob, or it has another shape.
        """
        shape = tuple(int(d) for d in shape)
        name = f"{self.layer.name}/{role}"
        if self.weightless:
            return self.b.lazy(lambda: random_weights(shape, name, fill), shape, name)
        blob = self.stored(index, shape, role)
        tensor = blob.tensor(shape, name)
        if tensor is None and blob.count * 4 >= BIG:  # of another precision, or packed: made when somebody asks for it
            return self.b.lazy(lambda: blob.load().reshape(shape), shape, name)
        return self.b.weight(tensor if tensor is not None else blob.load().reshape(shape), name)

    def derived(
        self, indices: Sequence[int], shape: Sequence[int], role: str, make: Callable[..., Array], *, fill: float | None = None
    ) -> ir.Value:
        """An initializer that is computed from blobs: `make(*flat arrays)` gives an array of `shape`, anew each time it is asked for."""
        shape, name = tuple(int(d) for d in shape), f"{self.layer.name}/{role}"
        if self.weightless:
            return self.b.lazy(lambda: random_weights(shape, name, fill), shape, name)
        blobs = [self.blob(i, role) for i in indices]

        def load() -> Array:
            return np.asarray(make(*(b.load() for b in blobs)), np.float32).reshape(shape)

        return self.b.lazy(load, shape, name) if prod(shape) > 16384 else self.b.weight(load(), name)

    def blob(self, index: int, role: str) -> Blob:
        """A stored blob.

        Raises:
            InvalidModel: There is none of this number.
        """
        if index >= len(self.blobs):
            self.expect(index + 1)
        self.used.add(index)
        return self.blobs[index]

    def stored(self, index: int, shape: Sequence[int], role: str) -> Blob:
        """A stored blob that has this shape, or at least this count where an old file filled its shape up with ones."""
        blob = self.blob(index, role)
        trimmed = tuple(d for d in blob.shape if d != 1)
        if blob.count != prod(shape) or (not blob.legacy and trimmed != tuple(d for d in shape if d != 1)):
            raise InvalidModel(
                f"the {role} of layer {self.layer.name!r} ({self.layer.type}) has another shape than the layer.",
                where=self.where(role),
                expected=str(list(shape)),
                got=str(list(blob.shape)),
                next="is this the weights file of this network?",
            )
        return blob

    def array(self, index: int, shape: Sequence[int], role: str) -> Array:
        """The numbers of a small blob at once; zeros where there is no weights file."""
        if self.weightless:
            return np.zeros(tuple(shape), np.float32)
        return self.stored(index, shape, role).load().reshape(tuple(shape))


def random_weights(shape: Sequence[int], name: str, fill: float | None) -> Array:
    """Stand-ins for weights that no file gave: the same for the same name, of He's scale."""
    if fill is not None:
        return np.full(tuple(shape), fill, np.float32)
    fan_in = prod(shape[1:]) if len(shape) > 1 else max(prod(shape), 1)
    rng = np.random.default_rng(crc32(name.encode()))
    return (rng.standard_normal(tuple(shape), np.float32) * np.float32((2 / max(fan_in, 1)) ** 0.5)).astype(np.float32)
