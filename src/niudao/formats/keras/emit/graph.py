"""A Keras network under construction: its layers, and where every value of the intermediate representation lies in them.

Inside, images are channels-first; Keras wants them channels-last. Nothing is transposed for that: a value is known as a
Keras tensor plus the place of each of its own axes in it, so that Transpose, Squeeze and Unsqueeze only change the note,
and a Permute or Reshape layer appears where an operator truly needs another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
    """One array of a layer.

    Attributes:
        name: Keras's name for it ("kernel").
        slot: Where the layer keeps it inside a .keras archive ("vars/0").
        shape: Its shape in Keras.
        load: Makes the array, each time anew: weights stay on disk until they are written.
    """

    name: str
    slot: str
    shape: tuple[int, ...]
    load: Callable[[], Array]


@dataclass(eq=False)
class Layer:
    """One layer, called once.

    Attributes:
        kind: Keras class ("Conv2D").
        wish: The name it would like; the final one is unique.
        config: Constructor arguments without the name.
        inputs: What it is called on, (layer, output number).
        weights: Its arrays in Keras's order.
        op: Name of the function in `keras.ops` where this is an operation and no layer.
        args: Arguments of an operation; an `int` wrapped in `Arg` stands for the input of that number.
        node: The source node's layer name.
        shapes: Shapes of its outputs.
        as_list: The inputs are handed over as one list.
        dtype: Type of its outputs.
        name: The final name.
        steps: Where it runs step by step (TimeDistributed), the number of steps, else 0; `shapes` hold them at axis 1.
    """

    kind: str
    wish: str
    config: dict[str, Any] = field(default_factory=dict)
    inputs: list[tuple[Layer, int]] = field(default_factory=list)
    weights: tuple[Weight, ...] = ()
    op: str = ""
    args: tuple[Any, ...] = ()
    node: str = ""
    shapes: list[tuple[Dim, ...]] = field(default_factory=list)
    as_list: bool = False
    dtype: str = "float32"
    name: str = ""
    steps: int = 0


@dataclass(frozen=True)
class Arg:
    """Place of an input among the arguments of an operation."""

    index: int


@dataclass(frozen=True)
class Tensor:
    """A value of ours as Keras has it.

    Attributes:
        layer: Who makes it.
        index: Which output of that layer.
        shape: Shape in Keras; the batch is axis 0 and None.
        axes: For each axis of ours the Keras axis, or None for an axis of size 1 that Keras does not have.
        scramble: `(dims, perm)` where the last axis was flattened in Keras's order:
            ours = keras.reshape(dims).transpose(perm).reshape(-1), sample by sample.
        nonnegative: No element can be below zero.
        steps: Where the batch of ours holds the steps of every sample, how many; Keras has them at its axis 1, which `shape` and
            `axes` leave out: they speak of one step.
    """

    layer: Layer
    index: int
    shape: tuple[Dim, ...]
    axes: tuple[int | None, ...]
    scramble: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    nonnegative: bool = False
    steps: int = 0


_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "Bidirectional")


class Refused(Exception):
    """Ends the emission of one node; becomes a `Refusal`."""

    def __init__(self, reason: str, attribute: str | None = None, rewrite: str | None = None, keras3: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.attribute, self.rewrite, self.keras3 = reason, attribute, rewrite, keras3


def refuse(reason: str, attribute: str | None = None, rewrite: str | None = None) -> NoReturn:
    """Give up on the node at hand."""
    raise Refused(reason, attribute, rewrite)


def last(rank: int) -> tuple[int, ...]:
    """Axes of ours in channels-last order."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


class Net(Constants):
    """The network so far.

    Args:
        model: The model being written.
        operations: Whether the target holds `keras.ops` calls besides layers (only .keras archives of Keras 3 do).
        hard_slope: Slope of what the target calls hard_sigmoid; 0 where its versions disagree.
    """

    def __init__(self, model: ir.Model, operations: bool, hard_slope: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.operations = operations
        self.hard_slope = hard_slope
        self.portable = card.get_source(model).get("format") not in ("keras", "tensorflow", "tflite")
        self.layers: list[Layer] = []
        self.inputs: list[Layer] = []
        self.outputs: list[tuple[Layer, int]] = []
        self.refusals: list[Refusal] = []
        self.rewrites: list[str] = []
        self.node: ir.Node | None = None
        self._tensors: dict[ir.Value, Tensor] = {}

    # values

    def dims(self, value: ir.Value) -> tuple[Dim, ...]:
        """Shape of a value of ours; None for a free size."""
        if value.shape is None:
            refuse("its shape is unknown", rewrite="give the input sizes")
        return tuple(d if isinstance(d, int) else None for d in value.shape)

    def has(self, value: ir.Value | None) -> bool:
        """Whether the value is a Keras tensor."""
        return value is not None and value in self._tensors

    def raw(self, value: ir.Value | None) -> Tensor:
        """The tensor, its flattened axis perhaps in Keras's order."""
        if value is None:
            refuse("an input is missing")
        if value not in self._tensors:
            refuse(
                f"its input {value.name!r} is a constant"
                if self.is_constant(value)
                else f"its input {value.name!r} cannot be made in Keras"
            )
        return self._tensors[value]

    def get(self, value: ir.Value | None) -> Tensor:
        """The tensor, its elements in our order."""
        t = self.raw(value)
        if t.scramble is None:
            return t
        dims, perm = t.scramble
        t = self.reshaped(t, dims, tuple(range(len(dims) + 1)))
        t = self.permuted(t, (0, *(p + 1 for p in perm)))
        return self.reshaped(t, (int(np.prod(dims)),), (0, 1))

    def put(self, value: ir.Value, tensor: Tensor) -> None:
        """File the tensor of a value."""
        self._tensors[value] = tensor

    # layers

    def title(self) -> str:
        """Name of the node at hand."""
        return card.layer_of(self.node) if self.node is not None else "layer"

    def note(self, text: str) -> None:
        """Record an exact rewrite."""
        line = f"{self.title()}: {text}"
        if line not in self.rewrites:
            self.rewrites.append(line)

    def _wish(self, suffix: str) -> str:
        """The name of a layer that does part of a node's work; a layer called flatten needs no second flatten in its name."""
        name = self.title()
        return name if f"_{name}".endswith(suffix) else name + suffix

    def layer(
        self,
        kind: str,
        inputs: Tensor | Sequence[Tensor],
        config: dict[str, Any] | None = None,
        *,
        shape: Sequence[Dim],
        axes: Sequence[int | None],
        weights: Sequence[Weight] = (),
        suffix: str = "",
        nonnegative: bool = False,
    ) -> Tensor:
        """Append a layer; it runs step by step on a tensor with steps. `shape` is that of its output in Keras, `axes` as in `Tensor`."""
        as_list = not isinstance(inputs, Tensor)
        many = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        shape = (None, *tuple(shape)[1:])
        steps = many[0].steps
        if any(t.steps != steps for t in many) or (steps and (len(many) > 1 or kind in _RECURRENT)):
            refuse("it works on the steps of a sequence, which joined the batch", rewrite="keep the steps on an axis of their own")
        made = Layer(
            kind,
            self._wish(suffix),
            config or {},
            [(t.layer, t.index) for t in many],
            tuple(weights),
            node=self.title(),
            shapes=[(None, steps, *shape[1:]) if steps else shape],
            as_list=as_list,
            steps=steps,
        )
        self.layers.append(made)
        return Tensor(made, 0, shape, tuple(axes), nonnegative=nonnegative, steps=steps)

    def operation(
        self,
        module: str,
        kind: str,
        function: str,
        inputs: Sequence[Tensor],
        args: Sequence[Any],
        *,
        shape: Sequence[Dim],
        axes: Sequence[int | None],
        config: dict[str, Any] | None = None,
        suffix: str = "",
        dtype: str = "float32",
    ) -> Tensor:
        """Append a call of a function of `keras.ops`, which only .keras archives can hold."""
        if not self.operations:
            raise Refused("no Keras layer computes it", rewrite="write a .keras archive, which holds keras.ops calls", keras3=True)
        if any(t.steps for t in inputs):
            refuse("it works on the steps of a sequence, which joined the batch", rewrite="keep the steps on an axis of their own")
        made = Layer(
            kind,
            self._wish(suffix),
            config or {},
            [(t.layer, t.index) for t in inputs],
            op=f"{module}:{function}",
            args=tuple(args),
            node=self.title(),
            shapes=[tuple(shape)],
            dtype=dtype,
        )
        self.layers.append(made)
        return Tensor(made, 0, tuple(shape), tuple(axes))

    def like(self, x: Tensor, kind: str, config: dict[str, Any] | None = None, *, suffix: str = "", nonnegative: bool = False) -> Tensor:
        """Append a layer that works element by element."""
        y = self.layer(kind, x, config, shape=x.shape, axes=x.axes, suffix=suffix, nonnegative=nonnegative)
        if "axis" not in y.layer.config:
            y.layer.steps = 0  # the same with and without
        return replace(y, scramble=x.scramble)

    # order of axes

    def reshaped(self, t: Tensor, target: Sequence[Dim], axes: Sequence[int | None]) -> Tensor:
        """A Reshape layer (Flatten where that is what it is); `target` without the batch, at most one size free."""
        if sum(d is None for d in target) > 1:
            refuse("it reshapes a tensor with more than one free size", rewrite="give the input sizes")
        shape = (None, *target)
        if len(target) == 1 and len(t.shape) > 2:
            return self.layer("Flatten", t, {}, shape=shape, axes=axes, suffix="_flatten")
        plain = [-1 if d is None else d for d in target]
        return self.layer("Reshape", t, {"target_shape": plain}, shape=shape, axes=axes, suffix="_reshape")

    def permuted(self, t: Tensor, order: Sequence[int]) -> Tensor:
        """A Permute layer: Keras axis `order[i]` becomes axis i."""
        if list(order) == list(range(len(order))):
            return t
        where = {old: new for new, old in enumerate(order)}
        shape = [t.shape[o] for o in order]
        axes = [None if a is None else where[a] for a in t.axes]
        if order[0] != 0:
            if not self.operations:
                refuse("it moves the batch axis", rewrite="keep the batch on axis 0, or write a .keras archive")
            return self.operation(
                "keras.src.ops.numpy", "Transpose", "transpose", [t], (Arg(0),), shape=shape, axes=axes, config={"axes": list(order)}
            )
        return self.layer("Permute", t, {"dims": list(order[1:])}, shape=shape, axes=axes, suffix="_permute", nonnegative=t.nonnegative)

    def arrange(self, t: Tensor, order: Sequence[int]) -> Tensor:
        """The tensor whose Keras axes are exactly our axes in `order`, sizes of 1 put in or taken out as needed."""
        physical = {a: i for i, a in enumerate(t.axes) if a is not None}
        current = [physical.get(k, -1) for k in range(len(t.shape))]
        if current == list(order):
            return t
        size = {i: (t.shape[a] if a is not None else 1) for i, a in enumerate(t.axes)}
        if any(i not in order and size[i] != 1 for i in size):
            refuse("an axis of it would be lost")
        core = [i for i in order if size[i] != 1 or t.axes[i] == 0]
        if [i for i in current if i in core] != core:
            full = [a for a in (t.axes[i] for i in order) if a is not None]
            t = self.permuted(t, [*full, *(k for k in range(len(t.shape)) if k not in full)])
            physical = {a: i for i, a in enumerate(t.axes) if a is not None}
            current = [physical.get(k, -1) for k in range(len(t.shape))]
        axes: list[int | None] = [None] * len(t.axes)
        for k, i in enumerate(order):
            axes[i] = k
        if current == list(order):
            return t
        if axes[order[0]] != 0 or t.axes[order[0]] != 0:
            refuse("it moves the batch axis", rewrite="keep the batch on axis 0")
        return replace(self.reshaped(t, [size[i] for i in order[1:]], axes), nonnegative=t.nonnegative)

    def natural(self, t: Tensor) -> Tensor:
        """Keras axes in our own order."""
        return self.arrange(t, range(len(t.axes)))

    def channels_last(self, t: Tensor) -> Tensor:
        """Keras axes in channels-last order."""
        return self.arrange(t, last(len(t.axes)))

    def last_axis(self, t: Tensor, axis: int) -> Tensor:
        """The tensor with our axis `axis` as the last of Keras, as little else moved as can be."""
        if t.axes[axis] is not None and t.axes[axis] == len(t.shape) - 1:
            return t
        held = sorted((a, i) for i, a in enumerate(t.axes) if a is not None and i != axis)
        return self.arrange(t, [*(i for _, i in held), axis])

    def common(self, tensors: Sequence[Tensor], needed: Sequence[int] = ()) -> list[Tensor]:
        """Tensors of one rank brought to one order of axes; `needed` axes of ours exist in it."""
        rank = len(tensors[0].axes)
        if any(len(t.axes) != rank for t in tensors):
            refuse("its inputs have different ranks", rewrite="reshape them to one rank first")
        real = {i for t in tensors for i, a in enumerate(t.axes) if a is not None} | set(needed)
        lead = max(tensors, key=lambda t: (sum(a is not None for a in t.axes), _channels_last(t)))
        order = [i for _, i in sorted((a, i) for i, a in enumerate(lead.axes) if a is not None)]
        if len(order) != len(real):
            image = [i for i in last(rank) if i in real]
            order = image if [i for i in image if i in order] == order else [*order, *sorted(real - set(order))]
        return [self.arrange(t, order) for t in tensors]


def _channels_last(t: Tensor) -> bool:
    return len(t.axes) > 2 and t.axes[1] == len(t.shape) - 1
