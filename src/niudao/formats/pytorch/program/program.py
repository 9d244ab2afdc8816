"""A Program: the operators that a network of PyTorch calls, in order, with plain arguments; what torch.export and TorchScript share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from niudao.formats.pytorch.checkpoint.tensors import StoredTensor


@dataclass(frozen=True)
class Ref:
    """What an earlier call, an input or a weight gave, by its name."""

    name: str


Arg = Ref | int | float | bool | str | None | list["Arg"]
"""An argument of a call. Types of elements are numpy names ("float32", "bfloat16"); memory formats, devices and layouts are None."""


@dataclass(frozen=True)
class Input:
    """An input of the network.

    Attributes:
        name: As `forward` calls it.
        shape: Sizes; free ones are symbols, one symbol for one size; None where the file does not say how many axes there are.
        dtype: numpy name.
    """

    name: str
    shape: tuple[int | str, ...] | None
    dtype: str = "float32"


@dataclass(frozen=True)
class Weight:
    """A parameter, buffer or constant.

    Attributes:
        fqn: Its name in the state dict ("layer1.0.conv1.weight").
        tensor: Its content, not loaded before somebody asks.
        trainable: Whether it is a parameter.
    """

    fqn: str
    tensor: ir.TensorProtocol | StoredTensor
    trainable: bool = False


@dataclass(frozen=True)
class Call:
    """One call of one operator.

    Attributes:
        target: "aten.conv2d.default", "aten.sym_size.int", "operator.mul", "getitem".
        args: Arguments by position, in the order of the operator's schema.
        kwargs: Arguments by the schema's names.
        outputs: One name per result. A result that is a list (split, chunk, unbind) is one name that getitem takes apart.
        layer: Path of the module that made the call ("layer1.0.conv1"), "" if unknown or the network itself.
        layer_type: That module's class ("Conv2d").
    """

    target: str
    args: tuple[Arg, ...] = ()
    kwargs: dict[str, Arg] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    layer: str = ""
    layer_type: str = ""


@dataclass(frozen=True)
class Program:
    """A network as calls.

    Attributes:
        inputs: In the order of `forward`.
        weights: Value name -> weight.
        calls: In the order in which they are made.
        outputs: (name, value) pairs: a dict's keys, else "output", "output_1", ...
        version: Of the torch that wrote it ("2.13.0"), "" if unknown.
        kind: "export" or "torchscript".
        notes: What a person should know.
    """

    inputs: tuple[Input, ...]
    weights: dict[str, Weight]
    calls: tuple[Call, ...]
    outputs: tuple[tuple[str, Arg], ...]
    version: str = ""
    kind: str = "export"
    notes: tuple[str, ...] = ()


def refs(arg: Arg | tuple[Arg, ...] | dict[str, Arg]) -> list[str]:
    """Names of the values in an argument, lists looked through."""
    if isinstance(arg, Ref):
        return [arg.name]
    if isinstance(arg, dict):
        return [name for item in arg.values() for name in refs(item)]
    return [name for item in arg for name in refs(item)] if isinstance(arg, (list, tuple)) else []
