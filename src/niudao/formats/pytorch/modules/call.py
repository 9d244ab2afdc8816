"""One node on its way into torch: what a converter asks and what it makes.

Arguments of `call`, `method` and `module` may be FX nodes, Python numbers, and lists or slices of these. Shape arithmetic (Shape, Size,
Gather, Concat, Slice, Add, ... on vectors that come from shapes) is done before a converter is asked, in `sizes.py`; a converter that
needs sizes takes them with `ints`, whatever made them, and never looks at a tensor for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn

from niudao.errors import Refusal
from niudao.formats.pytorch.modules.weights import DTYPES, Own
from niudao.ir import card
from niudao.ir.operators import attribute, dims, is_weight

if TYPE_CHECKING:
    from niudao.formats.pytorch.modules.build import Building


class Refused(Exception):
    """A converter cannot say its node; collected by the building."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Call:
    """One node and the network it goes into.

    Attributes:
        node: The node.
        op: Its operator, `niudao::Name` outside ONNX's own domain.
        layer: Name of the source's layer.
    """

    def __init__(self, building: Building, node: ir.Node) -> None:
        self.building = building
        self.node = node
        self.op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        self.layer = card.layer_of(node)

    # what the node says

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's plain value, else ONNX's default, else `default`; lists as lists, texts as str, floats as people write them."""
        return short(attribute(self.node, name, default))

    def value(self, i: int) -> ir.Value | None:
        """The i-th input, None if absent."""
        return self.node.inputs[i] if i < len(self.node.inputs) else None

    def has(self, i: int) -> bool:
        """Whether the i-th input is there."""
        return self.value(i) is not None

    def wants(self, i: int) -> bool:
        """Whether anybody uses the i-th output."""
        if i >= len(self.node.outputs):
            return False
        value = self.node.outputs[i]
        return bool(value.name) and (value.is_graph_output() or bool(value.uses()))

    def known(self, i: int) -> np.ndarray[Any, Any] | None:
        """The i-th input's content where it is constant, of whatever size; None if absent or computed."""
        value = self.value(i)
        return None if value is None else self.building.known(value)

    def number(self, i: int, default: Any = None) -> Any:
        """The one element of a constant input as a Python number; `default` if absent. Refuses a computed one."""
        if not self.has(i):
            return default
        array = self.known(i)
        if array is None or array.size != 1:
            self.refuse(f"input {i} must be one constant number")
        return short(array.reshape(-1)[0].item())

    def ints(self, i: int) -> list[Any] | None:
        """A shape-like input as Python ints and FX nodes of ints; None if absent. A tensor computed otherwise is asked for its elements."""
        value = self.value(i)
        return None if value is None else list(self.building.numbers(value, self).values)

    def dims(self, i: int) -> list[int | None] | None:
        """Sizes of the i-th input's axes, None for open ones; None where even the rank is not known."""
        return dims(self.value(i))

    def rank(self, i: int) -> int | None:
        """Number of axes of the i-th input, where it is known."""
        sizes = self.dims(i)
        return None if sizes is None else len(sizes)

    def needs_rank(self, i: int = 0) -> int:
        """Number of axes of the i-th input; refuses where it is not known."""
        rank = self.rank(i)
        return rank if rank is not None else self.refuse(f"the rank of input {i} is not known")

    def dtype(self, i: int) -> torch.dtype:
        """Type of the i-th input in torch."""
        value = self.value(i)
        held = value.dtype if value is not None else None
        if held is None or held not in DTYPES:
            self.refuse(f"torch has no type for {held.name if held is not None else f'input {i}, which has none'}")
        return DTYPES[held]

    def is_weight(self, i: int) -> bool:
        """Whether the i-th input is an initializer itself."""
        return is_weight(self.value(i))

    # what it becomes

    def x(self, i: int) -> fx.Node | None:
        """The i-th input as a tensor in the graph; None if absent."""
        value = self.value(i)
        return None if value is None else self.building.tensor(value)

    def xs(self) -> list[fx.Node]:
        """All inputs that are there, as tensors."""
        return [self.building.tensor(v) for v in self.node.inputs if v is not None]

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A call of a function of torch, operator, math or builtins, or of one under `functions/`."""
        return self.building.graph.call_function(function, args, kwargs)

    def method(self, name: str, x: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """`x.name(...)`."""
        return self.building.graph.call_method(name, (x, *args), kwargs)

    def module(self, module: nn.Module, *args: Any) -> fx.Node:
        """A call of a layer, which is put at this node's path."""
        return self.building.place(module, self.path(type(module).__name__.lower()), args)

    def path(self, kind: str) -> str:
        """A path for a new layer of this node."""
        return self.building.layer_path(self.node, kind)

    def weighted(
        self,
        make: Callable[[], nn.Module],
        owns: Mapping[str, Own],
        *xs: Any,
    ) -> fx.Node | None:
        """A call of a torch layer that owns these inputs as its parameters or buffers; None where it cannot.

        Args:
            make: Makes the layer; called with the meta device, so that nothing is initialised.
            owns: Parameter's name -> input, or (input, how the parameter lies in it). An absent input is left out. A parameter
                that lies otherwise than the initializer is owned only with names="torch".
            *xs: Arguments of the call.
        """
        return self.building.weighted(self, make, owns, xs)

    def operand(self, i: int) -> Any:
        """As `x`, but a Python number where the input is one number that no initializer holds and that broadcasts to the output."""
        value = self.value(i)
        if value is None or is_weight(value):
            return self.x(i)
        out = self.node.outputs[0].shape
        if out is None or value.shape is None or len(value.shape) > max(len(out) - 1, 0):
            return self.x(i)
        numbers = self.building.single(value)
        return self.x(i) if numbers is None else numbers

    def statistic(self, i: int) -> fx.Node | None:
        """As `x`, for running statistics: registered as a buffer."""
        value = self.value(i)
        return None if value is None else self.building.tensor(value, statistic=True)

    def size(self, x: fx.Node, axis: int) -> fx.Node:
        """The size of one axis while the network runs."""
        return self.method("size", x, axis)

    def sizes(self, i: int) -> list[Any]:
        """Sizes of all axes of the i-th input: numbers where they are known, else FX nodes. Refuses an unknown rank."""
        self.needs_rank(i)
        x = self.x(i)
        return [d if d is not None else self.size(x, k) for k, d in enumerate(self.dims(i) or [])]

    def floating(self, x: Any) -> fx.Node:
        """The tensor in the network's own float type: float32 as read, float64 after `network.double()`."""
        return self.building.floating(x)

    def subgraph(self, graph: ir.Graph, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs of a graph built in place on these inputs (FX nodes or Numbers)."""
        return self.building.inline(graph, inputs)

    def refuse(self, reason: str, attribute: str | None = None) -> NoReturn:
        """Give up on this node; `to_module` names every such node in one error."""
        raise Refused(Refusal(self.layer, self.op, reason, attribute))


def short(value: Any) -> Any:
    """A float32's shortest decimal: 1e-05, not 9.999999747378752e-06; the same float32."""
    if isinstance(value, float) and math.isfinite(value) and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    return [short(v) for v in value] if isinstance(value, list) else value
