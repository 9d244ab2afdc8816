"""A Caffe network under construction: its layers, and the blob that holds each value of the intermediate representation.

Both are channels-first, so a value and its blob have the same shape; only the batch may be free (None). A blob holds float32
and nothing else: integers and truth values are numbers there, true is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from niudao.errors import Refusal
from niudao.ir import card
from niudao.ir.constants import Constants

Array = np.ndarray[Any, Any]
Dim = int | None


@dataclass(frozen=True)
class Weight:
    """One blob of a layer.

    Attributes:
        shape: Its shape in Caffe.
        load: Makes the array, float32, each time anew: weights stay on disk until they are written.
    """

    shape: tuple[int, ...]
    load: Callable[[], Array]


@dataclass(eq=False)
class Layer:
    """One layer.

    Attributes:
        type: Caffe's name of its type.
        wish: The name it would like; the final one is unique.
        params: Sub-messages of the LayerParameter ({"convolution_param": {"num_output": 8, "kernel_size": [3]}}), defaults left out.
        bottoms: The blobs it takes.
        weights: Its own blobs.
        node: The source layer's name.
        shapes: Shapes of its tops.
        share: Name under which its weights are stored once for several layers, or "".
        name: The final name.
    """

    type: str
    wish: str
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    bottoms: list[Top] = field(default_factory=list)
    weights: tuple[Weight, ...] = ()
    node: str = ""
    shapes: list[tuple[Dim, ...]] = field(default_factory=list)
    share: str = ""
    name: str = ""


@dataclass(frozen=True)
class Top:
    """A blob.

    Attributes:
        layer: Who makes it.
        index: Which top of that layer.
        shape: Its shape; None stands for a free batch, on axis 0 only.
        pads: Zeros still to be put around it, (before, after) for every axis: a convolution or pooling takes them into its own padding,
            `Net.get` puts them there. `shape` is without them.
        nonnegative: No element can be below zero.
    """

    layer: Layer
    index: int
    shape: tuple[Dim, ...]
    pads: tuple[tuple[int, int], ...] | None = None
    nonnegative: bool = False

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


class Refused(Exception):
    """Ends the emission of one node; becomes a `Refusal`."""

    def __init__(self, reason: str, attribute: str | None = None, rewrite: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.attribute, self.rewrite = reason, attribute, rewrite


def refuse(reason: str, attribute: str | None = None, rewrite: str | None = None) -> NoReturn:
    """Give up on the node at hand."""
    raise Refused(reason, attribute, rewrite)


class Net(Constants):
    """The network so far.

    Args:
        model: The model being written.
        fork: Layer types beyond BVLC Caffe 1.0 that the target is known to have.
    """

    def __init__(self, model: ir.Model, fork: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.model = model
        self.fork = fork
        self.layers: list[Layer] = []
        self.inputs: list[Top] = []
        self.outputs: list[Top] = []
        self.refusals: list[Refusal] = []
        self.rewrites: list[str] = []
        self.node: ir.Node | None = None
        self._tops: dict[ir.Value, Top] = {}

    # values

    def dims(self, value: ir.Value | None) -> tuple[Dim, ...]:
        """Shape of a value of ours; None for the free batch.

        Raises:
            Refused: Another size than the batch is free.
        """
        if value is None or value.shape is None:
            refuse("its shape is unknown", rewrite="give the input sizes")
        dims = tuple(d if isinstance(d, int) else None for d in value.shape)
        if None in dims[1:]:
            refuse("a size of it is free, and a prototxt holds numbers", rewrite="give the input sizes (--shape)")
        return dims

    def has(self, value: ir.Value | None) -> bool:
        """Whether the value is a blob."""
        return value is not None and value in self._tops

    def raw(self, value: ir.Value | None) -> Top:
        """The blob of a value, zeros perhaps still to be put around it."""
        if value is None:
            refuse("an input is missing")
        if value not in self._tops:
            refuse(
                f"its input {value.name!r} is a constant"
                if self.is_constant(value)
                else f"its input {value.name!r} cannot be made in Caffe"
            )
        return self._tops[value]

    def get(self, value: ir.Value | None) -> Top:
        """The blob of a value."""
        top = self.raw(value)
        if top.pads is None:
            return top
        from niudao.formats.caffe.emit.cut import padded

        return padded(self, Top(top.layer, top.index, top.shape), top.pads, 0.0)

    def put(self, value: ir.Value, top: Top) -> None:
        """File the blob of a value.

        Raises:
            Refused: Its shape is not the value's: an emitter is wrong about this case, and a wrong file would be worse.
        """
        if value.shape is not None and top.pads is None:
            want = [d if isinstance(d, int) else None for d in value.shape]
            if len(want) != top.rank or any(a is not None and b is not None and a != b for a, b in zip(want, top.shape, strict=True)):
                refuse(f"its layers give the shape {list(top.shape)} where it has {want}")
        self._tops[value] = top

    # layers

    def title(self) -> str:
        """Name of the node at hand."""
        return card.layer_of(self.node) if self.node is not None else "layer"

    def note(self, text: str) -> None:
        """Record an exact rewrite."""
        line = f"{self.title()}: {text}"
        if line not in self.rewrites:
            self.rewrites.append(line)

    def knows(self, type: str) -> bool:
        """Whether the target has this layer of a fork."""
        return type in self.fork

    def layers_for(
        self,
        type: str,
        bottoms: Top | Sequence[Top],
        params: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        shapes: Sequence[Sequence[Dim]],
        weights: Sequence[Weight] = (),
        suffix: str = "",
        share: str = "",
    ) -> tuple[Top, ...]:
        """Append a layer with a top for each of `shapes`; `suffix` goes behind the node's name where the layer does part of its work."""
        given = [bottoms] if isinstance(bottoms, Top) else list(bottoms)
        if any(t.pads is not None for t in given):
            raise ValueError("a blob with pending zeros must go through Net.get")
        name = self.title()
        wish = name if f"_{name}".endswith(suffix) and suffix else name + suffix
        layer = Layer(
            type,
            wish,
            {k: dict(v) for k, v in (params or {}).items() if v},
            given,
            tuple(weights),
            self.title() if self.node is not None else "",
            [tuple(s) for s in shapes],
            share,
        )
        self.layers.append(layer)
        return tuple(Top(layer, i, s) for i, s in enumerate(layer.shapes))

    def layer(
        self,
        type: str,
        bottoms: Top | Sequence[Top],
        params: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        shape: Sequence[Dim],
        weights: Sequence[Weight] = (),
        suffix: str = "",
        nonnegative: bool = False,
        share: str = "",
    ) -> Top:
        """Append a layer with one top."""
        (top,) = self.layers_for(type, bottoms, params, shapes=[shape], weights=weights, suffix=suffix, share=share)
        return Top(top.layer, 0, top.shape, nonnegative=nonnegative)

    def weight(self, value: ir.Value, shape: Sequence[int] | None = None, change: Callable[[Array], Array] | None = None) -> Weight:
        """A constant of ours as a blob.

        Args:
            value: The constant.
            shape: The shape it gets in Caffe, its own if left out.
            change: What is done to the array first; the result is reshaped to `shape`.
        """
        wanted = tuple(int(d) for d in (self.shape_of(value) if shape is None else shape))
        load = self.loader(value, change or (lambda a: a))
        return Weight(wanted, lambda: load().reshape(wanted))

    # the steps that most rewrites are made of

    def unary(
        self, type: str, x: Top, params: Mapping[str, Mapping[str, Any]] | None = None, *, suffix: str = "", nonnegative: bool = False
    ) -> Top:
        """A layer that works element by element."""
        return self.layer(type, x, params, shape=x.shape, suffix=suffix, nonnegative=nonnegative)

    def relu(self, x: Top, slope: float = 0.0, suffix: str = "") -> Top:
        """max(x, 0), or slope * x below zero."""
        return self.unary("ReLU", x, {"relu_param": {"negative_slope": slope} if slope else {}}, suffix=suffix, nonnegative=not slope)

    def power(
        self, x: Top, *, scale: float = 1.0, shift: float = 0.0, power: float = 1.0, suffix: str = "", nonnegative: bool = False
    ) -> Top:
        """(shift + scale * x) ** power."""
        given = {"power": (power, 1.0), "scale": (scale, 1.0), "shift": (shift, 0.0)}
        return self.unary(
            "Power", x, {"power_param": {k: float(v) for k, (v, d) in given.items() if v != d}}, suffix=suffix, nonnegative=nonnegative
        )

    def eltwise(self, operation: str, tops: Sequence[Top], coeff: Sequence[float] | None = None, suffix: str = "") -> Top:
        """PROD, SUM (with one factor each) or MAX of blobs of one shape."""
        shape = _merged([t.shape for t in tops])
        params: dict[str, Any] = {} if operation == "SUM" else {"operation": operation}
        if coeff is not None and any(c != 1 for c in coeff):
            params["coeff"] = [float(c) for c in coeff]
        return self.layer("Eltwise", tops, {"eltwise_param": params}, shape=shape, suffix=suffix)

    def reshape(self, x: Top, target: Sequence[Dim], suffix: str = "_reshape") -> Top:
        """The same numbers in another shape; None in `target` is the free batch.

        Raises:
            Refused: The free batch would join another axis, or leave its place.
        """
        target = tuple(target)
        if target == x.shape:
            return x
        if (None in target) != (None in x.shape) or None in target[1:]:
            refuse("it reshapes the batch", rewrite="fix the batch (--batch)")
        rest, whole = prod(d for d in target if d is not None), prod(d for d in x.shape if d is not None)
        if rest != whole:
            if None in target:
                refuse("it reshapes the batch", rewrite="fix the batch (--batch)")
            refuse(f"it reshapes {list(x.shape)} to {list(target)}")
        if len(target) == 2 and len(x.shape) > 2 and target[0] == x.shape[0]:
            return self.layer("Flatten", x, shape=target, suffix=suffix.replace("reshape", "flatten"))
        dims = [0 if i == 0 and x.shape and d == x.shape[0] else int(d or 0) for i, d in enumerate(target)]
        return self.layer("Reshape", x, {"reshape_param": {"shape": {"dim": dims}}}, shape=target, suffix=suffix)

    def concat(self, tops: Sequence[Top], axis: int, suffix: str = "") -> Top:
        """Blobs one behind the other along an axis."""
        if len(tops) == 1:
            return tops[0]
        free = axis == 0 and any(t.shape[0] is None for t in tops)
        if free and (self.node is None or self.node.op_type != "Concat" or any(v.uses() for v in self.node.outputs)):
            refuse("it joins batches of free size", rewrite="fix the batch (--batch)")  # what follows would take it for one batch
        shape = list(_merged([(*t.shape[:axis], 0, *t.shape[axis + 1 :]) for t in tops]))
        shape[axis] = None if free else sum(t.shape[axis] or 0 for t in tops)
        return self.layer("Concat", tops, {"concat_param": {"axis": axis} if axis != 1 else {}}, shape=shape, suffix=suffix)

    def slices(self, x: Top, axis: int, points: Sequence[int], suffix: str = "") -> tuple[Top, ...]:
        """Pieces of a blob along an axis, cut at `points` (increasing, inside the axis)."""
        size = x.shape[axis]
        if size is None:
            refuse("it cuts the free batch", rewrite="fix the batch (--batch)")
        ends = [0, *points, size]
        if any(a >= b for a, b in pairwise(ends)):
            refuse(f"it cuts an axis of {size} at {list(points)}")
        if len(ends) == 2:
            return (x,)
        shapes = [(*x.shape[:axis], b - a, *x.shape[axis + 1 :]) for a, b in pairwise(ends)]
        params: dict[str, Any] = {"axis": axis} if axis != 1 else {}
        params["slice_point"] = [int(p) for p in points]
        return self.layers_for("Slice", x, {"slice_param": params}, shapes=shapes, suffix=suffix)

    def piece(self, x: Top, axis: int, start: int, end: int, suffix: str = "_slice") -> Top:
        """x[start:end] along an axis; what is cut off ends in a Silence layer, so that it is no output of the network."""
        size = x.shape[axis]
        if size is None:
            refuse("it cuts the free batch", rewrite="fix the batch (--batch)")
        if (start, end) == (0, size):
            return x
        points = [p for p in (start, end) if 0 < p < size]
        parts = self.slices(x, axis, points, suffix)
        kept = parts[1 if start > 0 else 0]
        self.silence([p for p in parts if p is not kept])
        return kept

    def silence(self, tops: Sequence[Top]) -> None:
        """Take blobs that nothing else takes, so that they do not become outputs."""
        if tops:
            self.layers_for("Silence", list(tops), shapes=[], suffix="_silence")

    def scale(self, x: Top, factor: Weight, bias: Weight | None = None, axis: int = 1, suffix: str = "_scale") -> Top:
        """x * factor (+ bias), factor broadcast from `axis` on; its shape is a run of the axes of x."""
        params: dict[str, Any] = {} if axis == 1 else {"axis": axis}
        if len(factor.shape) != 1:
            params["num_axes"] = len(factor.shape)
        if bias is not None:
            params["bias_term"] = True
        weights = [factor] if bias is None else [factor, bias]
        return self.layer("Scale", x, {"scale_param": params}, shape=x.shape, weights=weights, suffix=suffix)

    def bias(self, x: Top, bias: Weight, axis: int = 1, suffix: str = "_bias") -> Top:
        """x + bias, broadcast from `axis` on; its shape is a run of the axes of x."""
        params: dict[str, Any] = {} if axis == 1 else {"axis": axis}
        if len(bias.shape) != 1:
            params["num_axes"] = len(bias.shape)
        return self.layer("Bias", x, {"bias_param": params}, shape=x.shape, weights=[bias], suffix=suffix)

    def broadcast(self, type: str, x: Top, y: Top, axis: int, suffix: str = "") -> Top:
        """x * y (type "Scale") or x + y ("Bias"): y's shape is the run of x's axes that begins at `axis`."""
        part = "scale_param" if type == "Scale" else "bias_param"
        return self.layer(type, [x, y], {part: {} if axis == 1 else {"axis": axis}}, shape=x.shape, suffix=suffix)


def constant(array: Array | float, shape: Sequence[int] | None = None) -> Weight:
    """A small array as a blob."""
    held = np.asarray(array, np.float32)
    held = held if shape is None else np.broadcast_to(held, tuple(shape)).copy()
    return Weight(held.shape, lambda: held)


def _merged(shapes: Sequence[tuple[Dim, ...]]) -> tuple[Dim, ...]:
    """The one shape of blobs that must agree; a free batch agrees only with a free batch."""
    first = shapes[0]
    if any(s != first for s in shapes):
        refuse(f"its inputs have the shapes {', '.join(str(list(s)) for s in dict.fromkeys(shapes))}", rewrite="give them one shape")
    return first
