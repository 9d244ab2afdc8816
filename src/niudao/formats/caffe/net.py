"""A network as Caffe has it: layers in order, each with its blobs not yet loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import ReadError, Where
from niudao.formats.protobuf.message import Message, Span
from niudao.ir.wire import BIG

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Blob:
    """The stored numbers of one parameter.

    Attributes:
        shape: Its shape in the file; files before 2014 always say four sizes, leading ones filled up with 1.
        legacy: Whether the shape is of that old kind.
        load: Makes the array, float32, flat, each time anew.
        mapped: (file, offset) where its float32 bytes lie in one piece, else None.
    """

    shape: tuple[int, ...]
    legacy: bool
    load: Callable[[], Array]
    mapped: tuple[str, int] | None = None

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    def tensor(self, shape: Sequence[int], name: str) -> ir.TensorProtocol | None:
        """The numbers as a tensor that lies in the file, where they lie there as they are and are many."""
        if self.mapped is None or self.count * 4 < BIG:
            return None
        file, offset = self.mapped
        return ir.ExternalTensor(file, offset, self.count * 4, ir.DataType.FLOAT, shape=ir.Shape(tuple(shape)), name=name, base_dir="")


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer.

    Attributes:
        name: Its name.
        type: Its type as Caffe 1.0 spells it ("InnerProduct").
        bottoms: Names of its inputs.
        tops: Names of its outputs.
        message: The LayerParameter.
        line: Where it stands in the prototxt; 0 if unknown.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Message
    line: int = 0


@dataclass(frozen=True)
class Input:
    """One input of the network.

    Attributes:
        name: The blob's name.
        shape: Its shape, batch included, with None for what the file leaves open; None if nothing is known.
        transform: The TransformationParameter of a data layer, which says how pictures became this input.
        source: Type of the layer that gave it ("Input", "ImageData", ...).
    """

    name: str
    shape: tuple[int | None, ...] | None
    transform: Message | None = None
    source: str = "Input"


@dataclass
class Net:
    """A network for inference.

    Attributes:
        name: Its name.
        inputs: Its inputs.
        layers: Its layers in the order of the file.
        blobs: Layer name -> its parameters, from the weights file; empty where there is none.
        generation: "V0", "V1" or "V2".
        notes: Sentences about what was left out.
        ended: Blobs that stood before a loss or an accuracy: outputs, unless something else takes them.
    """

    name: str
    inputs: list[Input] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    blobs: dict[str, tuple[Blob, ...]] = field(default_factory=dict)
    generation: str = "V2"
    notes: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def outputs(self) -> list[str]:
        """Blobs that no layer takes, and those that losses took, in the order in which they are made."""
        made: dict[str, int] = {}  # blob -> number of the layer that made it last; a layer in place makes it anew
        taken: set[tuple[str, int]] = set()
        ended = set(self.ended)
        for i, layer in enumerate(self.layers):
            taken.update((b, made[b]) for b in layer.bottoms if b in made)
            for top in layer.tops:
                made.pop(top, None)
                made[top] = i
        return [name for name, i in made.items() if (name, i) not in taken or name in ended]


def blob_of(message: Message, file: str, place: str, base: int | None = 0) -> Blob:
    """A BlobProto; `base` is where the parsed bytes begin in the file, None if they are not the file's own.

    Raises:
        ReadError: Its shape and its numbers disagree, or it holds numbers of an unknown kind.
    """
    where = Where(file=file, node=place)
    if message.has("shape"):
        dims, legacy = tuple(int(d) for d in message.sub("shape").all("dim")), False
    else:
        dims, legacy = tuple(int(message.get(k)) for k in ("num", "channels", "height", "width")), True
    if len(dims) > 32 or any(not 0 <= d < 1 << 40 for d in dims):
        raise ReadError(f"a blob of {place!r} has no usable shape.", where=where, got=str(dims)[:80])
    name = next((n for n in ("data", "double_data") if message.has(n)), None)
    if name is None and message.has("raw_data"):
        return _raw(message, dims, legacy, where)
    spans = [s for s in message.fields.get(name, [])] if name else []
    count = sum(s.count if isinstance(s, Span) else 1 for s in spans)
    if legacy and not any(message.has(k) for k in ("num", "channels", "height", "width")):
        dims, legacy = (count,), True
    if prod(dims) != count:
        raise ReadError(
            f"a blob of {place!r} says {prod(dims)} numbers and holds {count}.",
            where=where,
            expected=f"shape {list(dims)}",
            got=f"{count} numbers",
        )

    def load() -> Array:
        pieces = [s.array(np.float32) if isinstance(s, Span) else np.array([s], np.float32) for s in spans]
        return np.concatenate(pieces) if len(pieces) != 1 else pieces[0]

    mapped = None
    if base is not None and name == "data" and len(spans) == 1 and isinstance(spans[0], Span) and spans[0].contiguous is not None:
        mapped = (file, base + spans[0].contiguous[0])
    return Blob(dims, legacy, load, mapped)


_RAW: dict[int, np.dtype[Any]] = {0: np.dtype("<f8"), 1: np.dtype("<f4"), 2: np.dtype("<f2")}


def _raw(message: Message, dims: tuple[int, ...], legacy: bool, where: Where) -> Blob:
    """NVCaffe's own way to store numbers, half precision among them."""
    held = message.get("raw_data")  # bytes of a text, a Span of a binary file
    size = held.count if isinstance(held, Span) else len(held)
    dtype = _RAW.get(int(message.get("raw_data_type", 1)))
    if dtype is None or prod(dims) * dtype.itemsize != size:
        raise ReadError(f"a blob of {where.node!r} has raw data of an unknown kind or length.", where=where, got=f"{size} bytes")
    return Blob(dims, legacy, lambda: np.frombuffer(held.array() if isinstance(held, Span) else held, dtype).astype(np.float32))
